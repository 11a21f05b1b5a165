"""Trials in a database, which several processes share."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.tuning.searched import ENDLESS, GRID, Curve, Curves
from tests.tuning.test_engine import ROOT, results
from unblur.errors import ArtifactError
from unblur.tuning.engine import Watch, search
from unblur.tuning.results import Study
from unblur.tuning.settings import Database, Search

ASKED = Search(trials=5)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path / 'trials.db'}", "a/b")


@pytest.fixture(scope="module")
def whole() -> Study[Curve]:
    return search(Curve(), ENDLESS, Curves(), ASKED)


def quick(patch: pytest.MonkeyPatch) -> None:
    """Processes that are lost after seconds, not a minute."""
    for name, seconds in {"HEARTBEAT_SECONDS": 1, "GRACE_SECONDS": 5}.items():
        patch.setattr(f"unblur.tuning.store.{name}", seconds)
    patch.setattr("unblur.tuning.engine.POLL_SECONDS", 0.1)


def kept(database: Database) -> list[dict[str, Any]]:
    """The results in a database, as optuna's own reader finds them."""
    study = optuna.load_study(study_name=database.name, storage=database.url)
    attributes = [trial.user_attrs for trial in study.trials]
    return [entry["unblur trial result"] for entry in attributes if "unblur trial result" in entry]


@pytest.mark.parametrize("pruner", ["none", "halving"])
def test_a_database_keeps_what_a_folder_keeps(database: Database, pruner: Any) -> None:
    """One process has the same results, in parts too, and optuna's own reader agrees."""
    asked = Search(trials=6, pruner=pruner, sampler="bayes")
    expected = search(Curve(), ENDLESS, Curves(epochs=5), asked)
    for trials in (2, 6):
        found = search(
            Curve(),
            ENDLESS,
            Curves(epochs=5),
            Search(trials=trials, pruner=pruner, sampler="bayes"),
            store=database,
        )
    assert results(found) == results(expected)
    assert found.notes()[-1].startswith("with several processes its points, or how far")
    theirs = optuna.load_study(study_name="a/b", storage=database.url)
    assert theirs.best_value == found.best.value
    assert json.loads(theirs.best_params["dims"]) == found.best.point["dims"]
    assert theirs.best_params["rate"] == found.best.point["rate"]
    states = ["PRUNED" if trial.pruned else "COMPLETE" for trial in found.trials]
    assert [trial.state.name for trial in theirs.trials] == states


PROGRAM = """
import sys, time
from tests.tuning.searched import ENDLESS, Curve, Curves
from unblur.tuning import engine, store
from unblur.tuning.settings import Database, Search
store.HEARTBEAT_SECONDS, store.GRACE_SECONDS, engine.POLL_SECONDS = 1, 5, 0.1
judge = Curves(before=lambda setting: print("begun", flush=True) or time.sleep(float(sys.argv[2])))
found = engine.search(Curve(), ENDLESS, judge, Search(trials=5), store=Database(sys.argv[1], "a/b"))
print(len(found.trials), found.best.number)
"""


def begun(database: Database, seconds: float) -> "subprocess.Popen[str]":
    """A process that searches, each trial taking some seconds."""
    command = [sys.executable, "-c", PROGRAM, database.url, str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.timeout(240)
def test_two_processes_share_the_trials(
    database: Database, whole: Study[Curve], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trial is made once, by one or the other, both end alike, and what a killed one began another repeats."""
    quick(monkeypatch)
    judge = Curves()
    with begun(database, 60) as killed, begun(database, 0.3) as other:
        assert killed.stdout is not None
        killed.stdout.readline()
        killed.kill()
        found = search(Curve(), ENDLESS, judge, ASKED, store=database)
        said = other.communicate()[0].split()[-2:]
    assert said == ["5", str(whole.best.number)]
    assert results(found) == results(whole)
    assert sorted(entry["number"] for entry in kept(database)) == list(range(5))
    assert found.remarks == ()  # random points depend on no result


def test_an_interrupted_trial_is_free_again_at_once(database: Database, whole: Study[Curve]) -> None:
    """An error that is no setting's ends the call; the next one makes the same trials without waiting."""

    def breaks(setting: Curve) -> None:
        if len(judge.fitted) == 2:
            raise RuntimeError("the disk is gone")

    judge = Curves(before=breaks)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        search(Curve(), ENDLESS, judge, ASKED, store=database)
    start = time.monotonic()
    assert results(search(Curve(), ENDLESS, Curves(), ASKED, store=database)) == results(whole)
    assert time.monotonic() - start < 50  # a lost trial is waited for for a minute
    assert sorted(entry["number"] for entry in kept(database)) == list(range(5))


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_trial_that_counted_as_lost_does_no_harm(
    database: Database, whole: Study[Curve], epochs: int
) -> None:
    """A process that slept for long continues: its trial is made once more, by whoever comes first."""

    class Sleepy(Curves):
        def __call__(self, setting: Curve, training: int, watch: Watch) -> Any:
            if not self.fitted:
                study = optuna.load_study(study_name=database.name, storage=database.url)
                study.tell(study.trials[-1].number, state=optuna.trial.TrialState.FAIL)
            self.fitted.append(setting)
            return Curves.__call__(self, setting, training, watch if epochs == 2 else lambda *told: False)

    found = search(Curve(), ENDLESS, Sleepy(), ASKED, store=database)
    assert [trial.value for trial in found.trials] == [trial.value for trial in whole.trials]
    assert sorted(entry["number"] for entry in kept(database)) == list(range(5))


def test_more_processes_than_trials_leave_no_gap(database: Database) -> None:
    """A number that was drawn beyond the end is made by a later call with more trials."""
    search(Curve(), GRID, Curves(), Search(trials=2), store=database)
    study = optuna.load_study(study_name=database.name, storage=database.url)
    study.tell(study.ask().number, state=optuna.trial.TrialState.FAIL)  # another process came just too late
    found = search(Curve(), GRID, Curves(), Search(trials=4), store=database)
    assert results(found) == results(search(Curve(), GRID, Curves(), Search(trials=4)))


def test_a_trial_that_two_processes_took_up_is_made_once(database: Database) -> None:
    """Two queued the same lost number: the one that was queued first is made, the other one dropped."""
    search(Curve(), GRID, Curves(), Search(trials=1), store=database)
    study = optuna.load_study(study_name=database.name, storage=database.url)
    for _ in range(2):
        study.enqueue_trial({}, user_attrs={"unblur number": 1})
    judge = Curves()
    found = search(Curve(), GRID, judge, Search(trials=3), store=database)
    assert results(found) == results(search(Curve(), GRID, Curves(), Search(trials=3)))
    assert len(judge.fitted) == 2


def test_databases_that_cannot_be(database: Database, tmp_path: Path) -> None:
    search(Curve(), GRID, Curves(), Search(trials=1), store=database)
    with pytest.raises(ArtifactError, match=r"'a/b' of sqlite.* these differ: 'space'"):
        search(Curve(), GRID[:1], Curves(), Search(trials=1), store=database)
    other = Database(database.url, "c")
    assert len(search(Curve(), GRID[:1], Curves(), Search(trials=1), store=other).trials) == 1
    for wrong in ("trials.db", f"sqlite:///{tmp_path}/nowhere/trials.db"):
        with pytest.raises(ArtifactError, match=r"URL of a persistent database .* sqlite:///trials\.db"):
            search(Curve(), GRID, Curves(), store=Database(wrong, "a"))
    for wrong in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(ArtifactError, match="in memory"):
            search(Curve(), GRID, Curves(), store=Database(wrong, "a"))
    assert Database("postgresql://me:secret@host/db", "a").shown() == "postgresql://me:***@host/db"


def test_the_study_of_an_earlier_version_or_of_something_else_is_refused_by_name(database: Database) -> None:
    old = optuna.create_study(study_name="old", storage=database.url)
    old.set_user_attr("unblur study", {"schema": 1})
    with pytest.raises(ArtifactError, match=r"'old' of sqlite.* earlier version of unblur"):
        search(Curve(), GRID, Curves(), store=Database(database.url, "old"))
    theirs = optuna.create_study(study_name="theirs", storage=database.url, direction="maximize")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ArtifactError, match="something else"):
        search(Curve(), GRID, Curves(), store=Database(database.url, "theirs"))
