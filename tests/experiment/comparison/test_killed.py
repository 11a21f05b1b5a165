"""A comparison that is killed at any moment loses the running trial and nothing else."""

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
from unblur.models.als import ALS
from unblur.models.linear.ease import EASE
from unblur.models.linear.neighbours import ItemKNN
from unblur.models.linear.factors import PureSVD
from unblur.models.popularity import Popularity  # every import before the first fork
import unblur.experiment.comparison.running, unblur.experiment.comparison.running, unblur.experiment, unblur.data.files, unblur.data.catalogue
import optuna, unblur.tuning.store, unblur.tuning.engine, unblur.training.loop, unblur.training.stopping, polars, scipy.sparse.linalg

folder, journal, log, kills = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
MODELS = ["popularity", "item-knn", "ease", "rp3beta", "pure-svd", "user-knn"]

def work(tell, folder):
    search = comparison.Search(trials=8)
    lineup = comparison.line_up(MODELS, data=log, settings={"protocol.cutoffs": [5]}, search=search)
    comparison.compare(lineup, out=folder, progress=tell)

def child():
    out = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def tell(event):
        if event.stage in ("trials", "models"):
            os.write(out, (json.dumps([event.stage, event.done]) + "\n").encode())
    work(tell, folder)
    os._exit(0)

def kept():
    # What is written is never changed: the whole lines of each journal, by place.
    trials = {
        f"{f.relative_to(folder)} {n}": line
        for f in folder.rglob("trials.log")
        for n, line in enumerate(f.read_text().splitlines(keepends=True))
        if line.endswith("\n")
    }
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
    if len(seen_models) == len(MODELS):  # all done: begin again
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


def killed(tmp_path: Path, kills: int) -> tuple[int, int, Path]:
    """Run the program, which kills its child repeatedly. Return the kills that hit, the finished trials, the last folder."""
    from unblur.data.catalogue.generation import demo_interactions

    log = tmp_path / "log.parquet"
    demo_interactions(n_users=80, n_items=60, rng=3).to_frame().write_parquet(log)
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
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
    assert process.returncode == 0, process.stderr
    hits, finished, name = json.loads(process.stdout)
    return hits, finished, tmp_path / name


def test_a_comparison_killed_twenty_times_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    from unblur.experiment.comparison.lineup import line_up
    from unblur.experiment.comparison.running import compare
    from unblur.tuning.settings import Search

    hits, finished, folder = killed(tmp_path, 20)
    assert hits == 20, "some children ended before they were killed"
    assert finished > 0
    lineup = line_up(
        MODELS,
        data=tmp_path / "log.parquet",
        settings={"protocol.cutoffs": [5]},
        search=Search(trials=TRIALS),
    )
    undisturbed = compare(lineup, out=tmp_path / "undisturbed")
    resumed = compare(lineup, out=folder)
    assert resumed.figures == undisturbed.figures
    assert [result.chosen for result in resumed.results] == [result.chosen for result in undisturbed.results]
