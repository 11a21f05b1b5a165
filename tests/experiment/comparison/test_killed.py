"""Killed without warning at any moment, a comparison or a study loses what was under way and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

MODELS = ["popularity", "item-knn", "ease", "rp3beta", "pure-svd", "user-knn"]
TRIALS = 8
PROGRAM = r"""
import json, os, random, signal, sys, time
from pathlib import Path
from unblur.experiment import comparison
from unblur import tuning
from unblur.models.als import ALS
from unblur.models.linear.ease import EASE
from unblur.models.linear.neighbours import ItemKNN
from unblur.models.linear.factors import PureSVD
from unblur.models.popularity import Popularity  # every import before the first fork
import unblur.experiment.comparison.cache, unblur.experiment.comparison.running, unblur.experiment, unblur.data.files, unblur.data.catalogue
import unblur.training.loop, unblur.training.stopping, polars, scipy.sparse.linalg

what, folder, journal, log, kills = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
MODELS = ["popularity", "item-knn", "ease", "rp3beta", "pure-svd", "user-knn"]

def work(tell, folder):
    if what == "compare":
        lineup = comparison.line_up(MODELS, own_data=True, settings={"protocol.cutoffs": [5]})
        comparison.compare(lineup, data=log, budget=comparison.Budget(8), out=folder, progress=tell)
    else:
        from unblur.data.interactions import Interactions
        from unblur.data.splits import Random
        split = Random(fraction=0.2).apply(Interactions.read(log), rng=1)
        base = ItemKNN()
        tuning.study(base, split, tuning.dimensions_of(base), trials=28, metric="recall@5", folder=folder, progress=tell)

def child():
    out = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def tell(event):
        if event.stage in ("trials", "models"):
            os.write(out, (json.dumps([event.stage, event.done]) + "\n").encode())
    work(tell, folder)
    os._exit(0)

def kept():
    trials = {str(f.relative_to(folder)): f.stat().st_mtime_ns for f in folder.rglob("trial-*.json")}
    models = {f.name: f.stat().st_mtime_ns for f in folder.glob("models/*.json")}
    return trials, models

start = time.perf_counter()
pid = os.fork()
if pid == 0:
    work(lambda event: None, folder.with_name("undisturbed"))
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
longest = (time.perf_counter() - start) * 0.9
rng = random.Random(4)
seen_trials, seen_models, done, finished_in_all, first = {}, {}, 0, 0, folder
for number in range(5 * kills):
    if done == kills:
        break
    if len(seen_models) == len(MODELS) or (what == "tune" and len(seen_trials) == 28):  # all done: begin again
        folder, seen_trials, seen_models = first.with_name(f"again-{number}"), {}, {}
    start = os.path.getsize(journal) if os.path.exists(journal) else 0
    pid = os.fork()
    if pid == 0:
        child()
    time.sleep(rng.random() * longest)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    _, status = os.waitpid(pid, 0)
    done += os.WIFSIGNALED(status)
    if not os.WIFSIGNALED(status):
        longest *= 0.7  # too late: it was ready
    trials, models = kept() if folder.exists() else ({}, {})
    assert seen_trials.items() <= trials.items(), "a finished trial was lost or written again"
    assert seen_models.items() <= models.items(), "a finished model was lost or written again"
    told = [json.loads(line) for line in Path(journal).read_text()[start:].splitlines()] if os.path.exists(journal) else []
    finished = max((count for stage, count in told if stage == "models"), default=0)
    assert len(models) >= finished, (len(models), told)
    if what == "tune":
        assert len(trials) >= max((count for stage, count in told if stage == "trials"), default=0)
    finished_in_all += len(trials) + len(models) - len(seen_trials) - len(seen_models)
    seen_trials, seen_models = trials, models
    for file in [*folder.rglob("*.json")]:
        json.loads(file.read_text())  # whole, whatever was under way
print(json.dumps([done, finished_in_all, folder.name]))
pid = os.fork()
if pid == 0:
    child()
assert os.waitpid(pid, 0)[1] == 0
trials, models = kept()
assert seen_trials.items() <= trials.items() and seen_models.items() <= models.items()
"""


def killed(what: str, tmp_path: Path, kills: int) -> tuple[int, int, Path]:
    """Run the program, which kills its child so often; the kills that hit, what was finished, the last folder."""
    from unblur.data.catalogue.demonstration import demo_interactions

    log = tmp_path / "log.parquet"
    demo_interactions(n_users=80, n_items=60, rng=3).to_frame().write_parquet(log)
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
            what,
            str(tmp_path / "kept"),
            str(tmp_path / "journal"),
            str(log),
            str(kills),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"},
    )
    assert ran.returncode == 0, ran.stderr
    done, finished, name = json.loads(ran.stdout)
    return done, finished, tmp_path / name


def test_a_comparison_killed_twenty_times_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    from unblur.experiment.comparison.entries import line_up
    from unblur.experiment.comparison.running import compare
    from unblur.experiment.comparison.searching import Budget

    done, finished, folder = killed("compare", tmp_path, 20)
    assert done == 20, "the kills came too late to tell anything"
    assert finished > 0
    lineup = line_up(MODELS, own_data=True, settings={"protocol.cutoffs": [5]})
    undisturbed = compare(
        lineup, data=tmp_path / "log.parquet", budget=Budget(TRIALS), out=tmp_path / "undisturbed"
    )
    again = compare(lineup, data=tmp_path / "log.parquet", budget=Budget(TRIALS), out=folder)
    assert again.figures == undisturbed.figures
    assert [result.chosen for result in again.results] == [result.chosen for result in undisturbed.results]


def test_a_study_killed_twenty_times_loses_no_finished_trial(tmp_path: Path) -> None:
    done, finished, folder = killed("tune", tmp_path, 20)
    assert done == 20, "the kills came too late to tell anything"
    assert finished > 0
    assert len(list(folder.glob("trial-*.json"))) == 28


def test_a_study_killed_before_its_first_file_can_begin(tmp_path: Path) -> None:
    """What a kill may leave of a first write does not make the folder a stranger's."""
    from unblur.tuning.journal import Journal

    (tmp_path / ".study.json.0123.part").write_text("{")
    assert Journal(tmp_path).open({"seed": 1}) == []
    assert Journal(tmp_path).open({"seed": 1}) == []
