"""Trials in a database, which several processes share."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.tuning.searched import ENDLESS, GRID, Curve, Curves, search
from tests.tuning.test_engine import ROOT, results
from unblur.errors import ArtifactError
from unblur.tuning.engine import Watch
from unblur.tuning.results import Study
from unblur.tuning.settings import Database, Search

SEARCH = Search(trials=5)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(f"sqlite:///{tmp_path / 'trials.db'}", "a/b")


@pytest.fixture(scope="module")
def expected() -> Study[Curve]:
    return search(Curve(), ENDLESS, Curves(), SEARCH)


def shorten_waits(patch: pytest.MonkeyPatch) -> None:
    """Count a process as lost after seconds, not after a minute."""
    for name, seconds in {"HEARTBEAT_SECONDS": 1, "GRACE_SECONDS": 5}.items():
        patch.setattr(f"unblur.tuning.store.{name}", seconds)
    patch.setattr("unblur.tuning.engine.POLL_SECONDS", 0.1)


def stored_results(database: Database) -> list[dict[str, Any]]:
    """The results in a database, read by optuna itself."""
    study = optuna.load_study(study_name=database.name, storage=database.url)
    attributes = [trial.user_attrs for trial in study.trials]
    return [entry["unblur trial result"] for entry in attributes if "unblur trial result" in entry]


@pytest.mark.parametrize("pruner", ["none", "halving"])
def test_a_database_keeps_what_a_folder_keeps(database: Database, pruner: Any) -> None:
    """One process has the same results, in several calls too, and optuna reads the same."""
    options = Search(trials=6, pruner=pruner, sampler="bayes")
    expected = search(Curve(), ENDLESS, Curves(epochs=5), options)
    for trials in (2, 6):
        study = search(
            Curve(),
            ENDLESS,
            Curves(epochs=5),
            Search(trials=trials, pruner=pruner, sampler="bayes"),
            store=database,
        )
    assert results(study) == results(expected)
    assert study.notes()[-1].startswith("with several processes its points, or how far")
    theirs = optuna.load_study(study_name="a/b", storage=database.url)
    assert theirs.best_value == study.best.value
    assert json.loads(theirs.best_params["dims"]) == study.best.point["dims"]
    assert theirs.best_params["rate"] == study.best.point["rate"]
    states = ["PRUNED" if trial.pruned else "COMPLETE" for trial in study.trials]
    assert [trial.state.name for trial in theirs.trials] == states


PROGRAM = """
import sys, time
from tests.tuning.searched import ENDLESS, Curve, Curves, search
from unblur.tuning import engine, store
from unblur.tuning.settings import Database, Search
store.HEARTBEAT_SECONDS, store.GRACE_SECONDS, engine.POLL_SECONDS = 1, 5, 0.1
judge = Curves(before=lambda setting: print("begun", flush=True) or time.sleep(float(sys.argv[2])))
study = engine.SearchRequest(Curve(), ENDLESS, judge, Search(trials=5), store=Database(sys.argv[1], "a/b")).run()
print(len(study.trials), study.best.number)
"""


def searching_process(database: Database, seconds: float) -> "subprocess.Popen[str]":
    """Start a process that searches, each trial taking `seconds`."""
    command = [sys.executable, "-c", PROGRAM, database.url, str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.timeout(240)
def test_two_processes_share_the_trials(
    database: Database, expected: Study[Curve], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trial is run once, by one of them; both end with the same study; a killed one's trial is run again."""
    shorten_waits(monkeypatch)
    judge = Curves()
    with searching_process(database, 60) as killed, searching_process(database, 0.3) as other:
        assert killed.stdout is not None
        killed.stdout.readline()
        killed.kill()
        study = search(Curve(), ENDLESS, judge, SEARCH, store=database)
        output = other.communicate()[0].split()[-2:]
    assert output == ["5", str(expected.best.number)]
    assert results(study) == results(expected)
    assert sorted(entry["number"] for entry in stored_results(database)) == list(range(5))
    assert study.remarks == ()  # random points depend on no result


def test_an_interrupted_trial_is_free_again_at_once(database: Database, expected: Study[Curve]) -> None:
    """An error that no setting causes ends the call; the next call runs the same trials without waiting."""

    def fail_on_third(setting: Curve) -> None:
        if len(judge.fitted) == 2:
            raise RuntimeError("the disk is gone")

    judge = Curves(before=fail_on_third)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        search(Curve(), ENDLESS, judge, SEARCH, store=database)
    start = time.monotonic()
    assert results(search(Curve(), ENDLESS, Curves(), SEARCH, store=database)) == results(expected)
    assert time.monotonic() - start < 50  # a lost trial would be waited for for a minute
    assert sorted(entry["number"] for entry in stored_results(database)) == list(range(5))


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_trial_that_counted_as_lost_does_no_harm(
    database: Database, expected: Study[Curve], epochs: int
) -> None:
    """A process that slept for long continues: its trial is run once more, by the first that is free."""

    class Sleepy(Curves):
        def __call__(self, setting: Curve, training: int, watch: Watch) -> Any:
            if not self.fitted:
                study = optuna.load_study(study_name=database.name, storage=database.url)
                study.tell(study.trials[-1].number, state=optuna.trial.TrialState.FAIL)
            self.fitted.append(setting)
            return Curves.__call__(self, setting, training, watch if epochs == 2 else lambda *args: False)

    ours = search(Curve(), ENDLESS, Sleepy(), SEARCH, store=database)
    assert [trial.value for trial in ours.trials] == [trial.value for trial in expected.trials]
    assert sorted(entry["number"] for entry in stored_results(database)) == list(range(5))


def test_more_processes_than_trials_leave_no_gap(database: Database) -> None:
    """A number that was drawn beyond the end is run by a later call with more trials."""
    search(Curve(), GRID, Curves(), Search(trials=2), store=database)
    study = optuna.load_study(study_name=database.name, storage=database.url)
    study.tell(study.ask().number, state=optuna.trial.TrialState.FAIL)  # another process came just too late
    ours = search(Curve(), GRID, Curves(), Search(trials=4), store=database)
    assert results(ours) == results(search(Curve(), GRID, Curves(), Search(trials=4)))


def test_a_trial_that_two_processes_took_up_is_run_once(database: Database) -> None:
    """Two queued the same lost number: the first in the queue is run, the other one dropped."""
    search(Curve(), GRID, Curves(), Search(trials=1), store=database)
    study = optuna.load_study(study_name=database.name, storage=database.url)
    for _ in range(2):
        study.enqueue_trial({}, user_attrs={"unblur number": 1})
    judge = Curves()
    ours = search(Curve(), GRID, judge, Search(trials=3), store=database)
    assert results(ours) == results(search(Curve(), GRID, Curves(), Search(trials=3)))
    assert len(judge.fitted) == 2


def test_databases_that_cannot_be_used_are_refused(database: Database, tmp_path: Path) -> None:
    search(Curve(), GRID, Curves(), Search(trials=1), store=database)
    with pytest.raises(ArtifactError, match=r"'a/b' of sqlite.* these differ: 'space'"):
        search(Curve(), GRID[:1], Curves(), Search(trials=1), store=database)
    other = Database(database.url, "c")
    assert len(search(Curve(), GRID[:1], Curves(), Search(trials=1), store=other).trials) == 1
    for url in ("trials.db", f"sqlite:///{tmp_path}/nowhere/trials.db"):
        with pytest.raises(ArtifactError, match=r"URL of a persistent database .* sqlite:///trials\.db"):
            search(Curve(), GRID, Curves(), store=Database(url, "a"))
    for url in ("sqlite://", "sqlite:///:memory:"):
        with pytest.raises(ArtifactError, match="in memory"):
            search(Curve(), GRID, Curves(), store=Database(url, "a"))
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
