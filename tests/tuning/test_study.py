"""A study keeps its trials, goes on after it was killed, and never looks at held-out data."""

import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from unblur.data.catalogue.demonstration import demo_interactions
from unblur.data.splits import Random, Ratio
from unblur.data.splits.sets import Split
from unblur.errors import ArtifactError, SpecError
from unblur.models.diffusion.diffrec import DiffRec
from unblur.models.diffusion.latent_diffrec import LatentDiffRec
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import Denoiser, TimeWeights
from unblur.training.settings import Stopping
from unblur.tuning import study
from unblur.tuning.journal import Trial
from unblur.tuning.sampling import propose, propose_beside, trials_beside
from unblur.tuning.space import Choice, Dimension, Range, dimensions_of, point_at, set_point, size_of
from unblur.tuning.study import Study

BASE = DiffRec(
    denoiser=Denoiser(dims=(8,)), epochs=2, batch_size=64, stopping=Stopping(metric="ndcg@5", every=1)
)
SPACE = (
    Dimension("rate", Choice((1e-2, 1e-3)), ("optimizer.learning_rate",)),
    Dimension("schedule.steps", Choice((1, 2, 3)), ("schedule.steps",)),
)


@pytest.fixture(scope="module")
def split() -> Split:
    return Ratio(validation=0.2, held_out=0.2).apply(demo_interactions(n_users=60, n_items=60, rng=2), rng=1)


def run(split: Split, folder: Path | None = None, trials: int = 4, **more: Any) -> Study:
    return study(
        more.pop("base", BASE),
        split,
        more.pop("space", SPACE),
        trials=trials,
        metric="ndcg@5",
        folder=folder,
        **more,
    )


def results(found: Study) -> list[tuple[Any, ...]]:
    return [(trial.number, dict(trial.point), trial.value, trial.epochs) for trial in found.trials]


def test_trials_are_different_settings_and_the_best_is_chosen(split: Split) -> None:
    found = run(split, trials=99)
    assert len({tuple(trial.point.values()) for trial in found.trials}) == len(found.trials) == 6
    best = max(found.trials, key=lambda trial: trial.value or 0)
    assert found.spec == set_point(BASE, SPACE, best.point)
    assert found.spec.optimizer.learning_rate == best.point["rate"]
    table = found.to_frame()
    assert table["ndcg@5"].is_sorted(descending=True)
    assert table.row(0, named=True)["chosen"]
    assert table["chosen"].sum() == 1


def test_held_out_data_change_nothing(split: Split) -> None:
    """The same trials come out where other items, of the same users, are to be recovered."""
    assert split.validation is not None
    fewer = replace(split, held_out=split.held_out.keep(split.held_out.rows() < 30))
    assert results(run(split)) == results(run(fewer))


def test_what_is_judged_is_what_fit_and_a_judge_give(split: Split) -> None:
    """The value of a trial, once more by the public path: fit with the validation part, lists, a mean."""
    from unblur.evaluation.protocol import RankingProtocol
    from unblur.randomness import streams

    found = run(split, trials=1, seed=5)
    model = found.spec.fit(split.train, validation=split.validation, rng=streams(5, "fit")["fit"])
    assert split.validation is not None
    aside = Split(split.train, split.train, split.validation, "validation")
    protocol = RankingProtocol(cutoffs=(5,), metrics=("ndcg",), resamples=0)
    assert protocol.evaluate(model, aside)["ndcg@5"].value == pytest.approx(found.trials[0].value, abs=1e-12)


@pytest.mark.parametrize("sampler", ["random", "exhaustive", "bayes"])
def test_a_study_goes_on_as_if_it_had_not_stopped(split: Split, tmp_path: Path, sampler: str) -> None:
    space = (
        SPACE
        if sampler == "exhaustive"
        else (*SPACE, Dimension("noise", Range(-9, -2, logarithmic=True), ("schedule.scale",)))
    )
    whole = run(split, tmp_path / "whole", trials=5, sampler=sampler, space=space)
    run(split, tmp_path / "parts", trials=2, sampler=sampler, space=space)
    (tmp_path / "parts" / ".trial-00002.json.abc.part").write_text('{"numb')
    later = run(split, tmp_path / "parts", trials=5, sampler=sampler, space=space)
    assert results(later) == results(whole)
    files = sorted((tmp_path / "parts").glob("trial-*.json"))
    before = [file.stat().st_mtime_ns for file in files]
    assert results(run(split, tmp_path / "parts", trials=5, sampler=sampler, space=space)) == results(whole)
    assert [file.stat().st_mtime_ns for file in files] == before
    assert len(run(split, tmp_path / "parts", trials=3, sampler=sampler, space=space).trials) == 3


PROGRAM = """
import sys
from tests.tuning.test_study import BASE, SPACE, run
from unblur.data.catalogue import demo_interactions
from unblur.data.splits import Ratio
split = Ratio(validation=0.2, held_out=0.2).apply(demo_interactions(n_users=60, n_items=60, rng=2), rng=1)
run(split, sys.argv[1], trials=6)
"""


def test_killed_at_any_moment_it_goes_on(split: Split, tmp_path: Path) -> None:
    """A process that is killed without warning leaves whole trials, and the next call makes the rest."""
    folder = tmp_path / "trials"
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder)], cwd=root)
    deadline = time.monotonic() + 120
    while not list(folder.glob("trial-*.json")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.wait()
    kept = sorted(folder.glob("trial-*.json"))
    assert kept
    bytes_before = [file.read_bytes() for file in kept]
    resumed = run(split, folder, trials=6)
    assert [file.read_bytes() for file in kept] == bytes_before
    assert results(resumed) == results(run(split, trials=6))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 1}, "seed"),
        ({"sampler": "exhaustive"}, "sampler"),
        ({"space": SPACE[:1]}, "space"),
        ({"base": replace(BASE, epochs=1)}, "model"),
    ],
)
def test_the_trials_of_another_study_are_refused(
    split: Split, tmp_path: Path, change: dict[str, Any], name: str
) -> None:
    run(split, tmp_path / "trials", trials=1)
    with pytest.raises(ArtifactError, match=f"these differ: '{name}'"):
        run(split, tmp_path / "trials", trials=1, **change)


def test_other_data_are_refused(split: Split, tmp_path: Path) -> None:
    run(split, tmp_path / "trials", trials=1)
    other = Ratio(validation=0.2, held_out=0.2).apply(demo_interactions(n_users=60, n_items=60, rng=3), rng=1)
    with pytest.raises(ArtifactError, match="'train', 'validation'"):
        run(other, tmp_path / "trials", trials=1)


def test_a_folder_of_something_else_and_a_gap_are_refused(split: Split, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(ArtifactError, match="holds something else"):
        run(split, tmp_path)
    run(split, tmp_path / "trials", trials=3)
    (tmp_path / "trials" / "trial-00001.json").unlink()
    with pytest.raises(ArtifactError, match="without gaps"):
        run(split, tmp_path / "trials", trials=3)
    (tmp_path / "trials" / "trial-00001.json").write_text("{")
    with pytest.raises(ArtifactError, match="must be whole"):
        run(split, tmp_path / "trials", trials=3)


def test_settings_that_cannot_be_are_kept_as_failed(split: Split) -> None:
    space = (Dimension("noise_min", Choice((0.001, 9.0)), ("schedule.lowest",)),)
    found = run(split, space=space)
    failed = [trial for trial in found.trials if trial.value is None]
    assert len(failed) == 1
    assert "must be below" in failed[0].problem
    assert found.spec.schedule.lowest == 0.001
    assert "1 of the settings could not be fitted" in found.notes()
    assert found.to_frame().row(-1, named=True)["problem"] == failed[0].problem
    with pytest.raises(SpecError, match="none was"):
        _ = run(split, space=(Dimension("noise_min", Choice((9.0,)), ("schedule.lowest",)),)).spec


def test_a_diverged_training_is_kept_as_failed(split: Split) -> None:
    space = (Dimension("rate", Choice((1e-3, 1e30)), ("optimizer.learning_rate",)),)
    found = run(split, space=space, base=replace(BASE, epochs=4, stopping=Stopping(metric="ndcg@5", every=1)))
    bad = next(trial for trial in found.trials if trial.point["rate"] == 1e30)
    assert bad.value is None or math.isfinite(bad.value)
    assert found.spec.optimizer.learning_rate == 1e-3 or bad.value is not None


def test_it_ends_where_nothing_gets_better(split: Split) -> None:
    space = (Dimension("precision", Range(0, 1), ("sampling.start_steps",), lambda value: 0),)
    found = run(split, space=space, trials=50, patience=2)
    assert len(found.trials) == 3
    assert "2 trials in a row" in found.notes()[-1]


def test_without_a_validation_part_one_is_carved_out_of_train() -> None:
    halves = Random(fraction=0.2).apply(demo_interactions(n_users=60, n_items=60, rng=2), rng=1)
    found = run(halves, trials=1)
    assert found.how == "10% of each user's train interactions, random ones"
    quiet = run(halves, trials=1, base=replace(BASE, stopping=None))
    assert quiet.how == "a random tenth of each user's train interactions"


def test_search_spaces_of_specs() -> None:
    names = [dimension.name for dimension in dimensions_of(DiffRec())]
    assert "optimizer.learning_rate" in names
    assert "time_weights.oldest" not in names
    timed = dimensions_of(DiffRec(time_weights=TimeWeights()))
    assert "time_weights.oldest" in [dimension.name for dimension in timed]
    for base in (DiffRec(schedule=Schedule(name="linear-var")), LatentDiffRec()):
        space = dimensions_of(base)
        size = size_of(space)
        assert size is not None
        for number in range(0, size, size // 50):
            set_point(base, space, point_at(space, number))
    with pytest.raises(SpecError, match="Did you mean"):
        dimensions_of(DiffRec(), {"schedule.step": (1,)})


def test_ranges() -> None:
    assert Range(1, 9, 2).values() == (0.0, 2.0, 4.0, 6.0, 8.0)  # multiples, as hyperopt rounds
    assert Range(-3, 0, logarithmic=True).at(0) == pytest.approx(math.exp(-3))
    assert Range(2, 4).values() is None
    assert [Choice(("a", "b")).at(place) for place in (0, 0.49, 0.5, 1)] == ["a", "a", "b", "b"]
    for bad in ((2, 1, None), (0, math.inf, None), (0, 1, 0)):
        with pytest.raises(SpecError, match="must run from"):
            Range(*bad)


def test_bayes_goes_where_it_was_good() -> None:
    """Maximising −(x − 0.3)²: proposals after thirty trials lie nearer than chance would have them."""
    space = (Dimension("x", Range(0, 1), ("schedule.scale",)),)
    done: list[tuple[dict[str, Any], float | None]] = []
    for number in range(30):
        point = propose("bayes", space, number, 4, done)
        done.append((point, -((point["x"] - 0.3) ** 2)))
    late = [abs(point["x"] - 0.3) for point, _ in done[15:]]
    assert sum(late) / len(late) < 0.15


@pytest.mark.parametrize("sampler", ["exhaustive", "random"])
@pytest.mark.parametrize("first", [{"rate": 1e-3, "schedule.steps": 2}, {"rate": 0.5, "schedule.steps": 2}])
def test_a_first_point_is_tried_once(sampler: Any, first: dict[str, Any]) -> None:
    """In the space or beside it: every point of the space comes once, and it comes first."""
    total = trials_beside(first, sampler, SPACE, 99)
    points = [propose_beside(first, sampler, SPACE, number, 3, ()) for number in range(total)]
    assert points[0] == first
    others = {(point["rate"], point["schedule.steps"]) for point in points}
    assert len(others) == total == (6 if first["rate"] == 1e-3 else 7)
    assert trials_beside(first, sampler, SPACE, 2) == 2


def test_a_study_may_begin_with_the_model_as_given(split: Split, tmp_path: Path) -> None:
    found = run(split, tmp_path / "trials", trials=3, as_given=True, sampler="bayes")
    assert found.trials[0].point == {
        "rate": BASE.optimizer.learning_rate,
        "schedule.steps": BASE.schedule.steps,
    }
    with pytest.raises(ArtifactError, match="as_given"):
        run(split, tmp_path / "trials", trials=3, sampler="bayes")


def test_samplers_that_cannot_be(split: Split) -> None:
    with pytest.raises(SpecError, match="Did you mean 'random'"):
        run(split, sampler="randm")
    with pytest.raises(SpecError, match="no end of them"):
        run(split, sampler="exhaustive", space=(Dimension("x", Range(0, 1), ("schedule.scale",)),))


def test_a_trial_is_plain_json(split: Split, tmp_path: Path) -> None:
    found = run(split, tmp_path / "trials", trials=1)
    kept = json.loads((tmp_path / "trials" / "trial-00000.json").read_text())
    assert Trial(**kept) == found.trials[0]
    assert found.to_frame().schema["ndcg@5"] == pl.Float64
