"""Trainings that are ended early, and trials that several processes share."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.tuning.test_study import BASE, results
from unblur.data.catalogue.demonstration import demo_interactions
from unblur.data.splits import Ratio
from unblur.data.splits.sets import Split
from unblur.errors import ArtifactError, SpecError
from unblur.tuning import study
from unblur.tuning.journal import Trial
from unblur.tuning.pruning import verdict_after
from unblur.tuning.space import Choice, Dimension
from unblur.tuning.study import Study

LONGER = replace(BASE, epochs=12)
RATES = (1e-2, 1e-3, 1e-6, 1e-7)
SPACE = (
    Dimension("rate", Choice(RATES), ("optimizer.learning_rate",)),
    Dimension("schedule.steps", Choice((1, 2)), ("schedule.steps",)),
)


def small_split() -> Split:
    return Ratio(validation=0.2, held_out=0.2).apply(demo_interactions(n_users=60, n_items=60, rng=2), rng=1)


@pytest.fixture(scope="module")
def split() -> Split:
    return small_split()


def run(split: Split, trials: int = 8, **more: Any) -> Study:
    return study(LONGER, split, more.pop("space", SPACE), trials=trials, metric="ndcg@5", **more)


@pytest.fixture(scope="module")
def whole(split: Split) -> Study:
    return run(split)


def trial(number: int, *validations: float, value: float | None = None) -> Trial:
    path = {str(epoch): worth for epoch, worth in enumerate(validations, start=1)}
    return Trial(number, {}, value, None, 0.0, "", path, pruned=value is None)


def ends_after(verdict: Any, *validations: float) -> int | None:
    """After how many evaluations a training is ended; None where it is not."""
    return next((place for place, worth in enumerate(validations, start=1) if verdict(worth)), None)


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_a_pruner_saves_epochs_and_finds_the_same(split: Split, whole: Study, pruner: str) -> None:
    """What is not ended early comes out as without a pruner; what is has no value and cannot be chosen."""
    found = run(split, pruner=pruner)
    assert found.spec == whole.spec
    pruned = [one for one in found.trials if one.pruned]
    assert pruned
    for mine, full in zip(found.trials, whole.trials, strict=True):
        assert list(full.validations.items())[: len(mine.validations)] == list(mine.validations.items())
        assert mine.value == (None if mine.pruned else full.value)
        assert not mine.pruned or (len(mine.validations) < len(full.validations) and not mine.problem)
    table = found.to_frame()
    assert table["pruned"].sum() == len(pruned)
    assert not table.filter(table["chosen"])["pruned"].any()
    assert any("ended early" in note for note in found.notes())


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_a_study_with_a_pruner_goes_on_as_if_it_had_not_stopped(
    split: Split, tmp_path: Path, pruner: str
) -> None:
    expected = results(run(split, pruner=pruner))
    for trials in (2, 5, 8):
        found = run(split, trials, pruner=pruner, folder=tmp_path / "trials")
    assert results(found) == expected


def test_the_median_of_what_others_had_come_to() -> None:
    """Beside the median worked out by hand: ended where the best so far is below it."""
    earlier = [trial(n, 0.1, 0.2, 0.3 + n / 10, value=0.5) for n in range(4)]  # after three: .3 .4 .5 .6
    assert ends_after(verdict_after("median", earlier), 0.1, 0.2, 0.44) == 3
    assert ends_after(verdict_after("median", earlier), 0.1, 0.2, 0.46) is None
    assert ends_after(verdict_after("median", earlier[:3]), 0.0, 0.0, 0.0) is None  # too few to say
    assert ends_after(verdict_after("median", earlier), 0.0, 0.0) is None  # too early to say


def test_halving_lets_a_third_through() -> None:
    """At the fourth evaluation a trial must be among the best third of those that came so far."""
    earlier = [trial(n, 0.1, 0.1, 0.1, worth, value=worth) for n, worth in enumerate((0.5, 0.4, 0.3, 0.2))]
    assert ends_after(verdict_after("halving", earlier), 0.0, 0.0, 0.0, 0.45) == 4
    assert ends_after(verdict_after("halving", earlier), 0.0, 0.0, 0.0, 0.55) is None
    assert ends_after(verdict_after("none", earlier), 0.0, 0.0, 0.0, 0.0) is None


def test_with_a_pruner_the_one_under_way_is_ended_when_time_is_over(split: Split) -> None:
    first = run(split, 2, pruner="median", seconds=1e-9)
    assert len(first.trials) == 1
    assert first.trials[0].value is not None  # there must be one
    assert any("had taken" in note for note in first.notes())
    seconds = first.trials[0].seconds * 1.01
    found = run(split, 8, pruner="median", seconds=seconds)
    assert len(found.trials) < 8
    assert all(one.pruned for one in found.trials[1:])


def test_a_pruner_that_there_is_not(split: Split) -> None:
    with pytest.raises(SpecError, match=r"'halfing'\. Did you mean 'halving'"):
        run(split, pruner="halfing")


def test_trials_of_another_pruner_are_other_trials(split: Split, tmp_path: Path) -> None:
    run(split, 1, folder=tmp_path / "trials")
    with pytest.raises(ArtifactError, match="pruner"):
        run(split, 2, folder=tmp_path / "trials", pruner="median")


# ------------------------------------------------------------------------------------------- a storage


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'trials.db'}"


@pytest.mark.parametrize("pruner", ["none", "halving"])
def test_a_storage_keeps_what_a_folder_keeps(split: Split, tmp_path: Path, pruner: str) -> None:
    """One process comes to the same, in parts too, and optuna's own reader agrees."""
    expected = run(split, pruner=pruner)
    for trials in (3, 8):
        found = run(split, trials, pruner=pruner, storage=url(tmp_path), name="a/b")
    assert results(found) == results(expected)
    assert found.spec == expected.spec
    theirs = optuna.load_study(study_name="a/b", storage=url(tmp_path))
    assert theirs.best_value == found.best.value
    assert theirs.best_params == {name: str(value) for name, value in found.best.point.items()}
    states = [one.state.name for one in theirs.trials]
    assert states == ["PRUNED" if one.pruned else "COMPLETE" for one in found.trials]


PROGRAM = """
import sys
from unblur.tuning import storage
storage.HEARTBEAT_SECONDS, storage.GRACE_SECONDS, storage.POLL_SECONDS = 1, 3, 0.1
from tests.tuning.test_pruning import run, small_split
found = run(small_split(), storage=sys.argv[1])
print(len(found.trials), found.best.number)
"""


def begun(folder: Path) -> "subprocess.Popen[str]":
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url(folder)], cwd=root, stdout=subprocess.PIPE, text=True
    )


def recorded(folder: Path) -> list[dict[str, Any]]:
    study = optuna.load_study(study_name=LONGER.kind, storage=url(folder))
    return [one.user_attrs for one in study.trials if "unblur result" in one.user_attrs]


def test_two_processes_share_the_trials(whole: Study, tmp_path: Path) -> None:
    """Each trial is made once, by one or the other, and both come to the same end."""
    both = [begun(tmp_path) for _ in range(2)]
    said = [process.communicate(timeout=240)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said == [["8", str(whole.best.number)]] * 2
    assert sorted(record["unblur trial"] for record in recorded(tmp_path)) == list(range(8))
    assert len({json.dumps(record["unblur result"]["point"]) for record in recorded(tmp_path)}) == 8


def test_what_a_killed_process_had_in_hand_is_made_by_another(
    split: Split, whole: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = begun(tmp_path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if len(recorded(tmp_path)) >= 2:
                break
        except (KeyError, optuna.exceptions.OptunaError):
            pass
        time.sleep(0.05)
    process.kill()
    process.communicate()
    kept = len(recorded(tmp_path))
    assert kept >= 2
    for name, seconds in {"HEARTBEAT_SECONDS": 1, "GRACE_SECONDS": 3, "POLL_SECONDS": 0.1}.items():
        monkeypatch.setattr(f"unblur.tuning.storage.{name}", seconds)
    found = run(split, storage=url(tmp_path))
    assert results(found) == results(whole)
    assert sorted(record["unblur trial"] for record in recorded(tmp_path)) == list(range(8))


def test_what_is_interrupted_is_free_again_at_once(
    split: Split, whole: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that is no trial's ends the call; the next one makes the same trials without waiting."""

    def broken(*arguments: Any) -> None:
        raise RuntimeError("the disk is gone")

    run(split, 2, storage=url(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(import_module("unblur.tuning.study"), "_fitted", broken)
        with pytest.raises(RuntimeError, match="the disk is gone"):
            run(split, storage=url(tmp_path))
    start = time.monotonic()
    assert results(run(split, storage=url(tmp_path))) == results(whole)
    assert time.monotonic() - start < 50  # a lost trial is waited for for a minute


def test_a_trial_that_counted_as_lost_does_no_harm(
    split: Split, whole: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that slept for long goes on: what it had in hand is made once more, by whoever comes first."""
    module: Any = import_module("unblur.tuning.study")  # the package has a function of that name
    fitted, lost = module._fitted, []

    def slept(*arguments: Any) -> Any:
        if not lost:
            theirs = optuna.load_study(study_name=LONGER.kind, storage=url(tmp_path))
            lost.append(theirs.trials[-1].number)
            theirs._storage.set_trial_state_values(theirs.trials[-1]._trial_id, optuna.trial.TrialState.FAIL)
        return fitted(*arguments)

    monkeypatch.setattr(module, "_fitted", slept)
    assert results(run(split, storage=url(tmp_path))) == results(whole)
    assert lost == [0]
    assert sorted(record["unblur trial"] for record in recorded(tmp_path)) == list(range(8))


def test_no_time_at_all(split: Split) -> None:
    with pytest.raises(SpecError, match="more than 0 seconds; saw 0"):
        run(split, seconds=0)


def test_storages_that_cannot_be(split: Split, tmp_path: Path) -> None:
    run(split, 1, storage=url(tmp_path), name="mine")
    with pytest.raises(ArtifactError, match=r"'mine' of sqlite.* these differ: 'space'.*another storage"):
        run(split, 1, storage=url(tmp_path), name="mine", space=SPACE[:1])
    assert len(run(split, 1, storage=url(tmp_path), name="yours", space=SPACE[:1]).trials) == 1
    for wrong in ("trials.db", "sqlite:////nowhere/at/all/trials.db"):
        with pytest.raises(ArtifactError, match=r"URL of a database .* sqlite:///trials\.db"):
            run(split, 1, storage=wrong)
    for wrong in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(ArtifactError, match="in memory"):
            run(split, 1, storage=wrong)
    with pytest.raises(SpecError, match="folder or in a storage"):
        run(split, 1, storage=url(tmp_path), folder=tmp_path / "trials")
