"""Trials in a database that several processes work on together, through optuna.

Each process claims the next number that nobody has, so that no point is tried twice, and waits in the end for what
others still have in hand. A process that dies is noticed by its heartbeat, and its number is given out again. The study
is optuna's own: its tools read it (`optuna.load_study(study_name=…, storage=…)`). With successive halving a trial that
failed or was lost after a rung stays a competitor there, which it does not in a folder.
"""

from __future__ import annotations

import json
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from unblur.errors import ArtifactError
from unblur.progress import Progress, ProgressEvent
from unblur.tuning.journal import Trial, differing_from
from unblur.tuning.pruning import Pruner, Verdict, needed_optuna, optuna_pruner, verdict_on
from unblur.tuning.space import Choice, Dimension, Point

if TYPE_CHECKING:
    from collections.abc import Iterator

    import optuna
    from optuna.distributions import BaseDistribution

HEARTBEAT_SECONDS = 10
"""How often a process says that it is still there."""
GRACE_SECONDS = 60
"""After so long without a word its trial counts as lost."""
POLL_SECONDS = 1.0
"""How often one that waits for others looks again."""
_OPENINGS = 5
PLACE, TRIAL, IDENTITY = "unblur trial", "unblur result", "unblur study"
"""Names of attributes in the database: the number of a trial here, what it came to, and whose trials these are."""


class SharedTrials:
    """The trials of a study in a database."""

    def __init__(
        self,
        storage: str,
        name: str,
        identity: Mapping[str, Any],
        space: Sequence[Dimension],
        pruner: Pruner,
        progress: Progress,
    ) -> None:
        """Open the study `name` of the database at a URL such as ``sqlite:///trials.db``, or begin it.

        Raises `ArtifactError` where the database cannot be used or the study is another one, `CapabilityError` without
        optuna.
        """
        needed_optuna("A storage")
        shown = shown_url(storage)
        self.storage, self.name, self.space, self.progress = shown, name, tuple(space), progress
        with self._in_words():
            self.study = _opened(storage, name, pruner)
            wanted = json.loads(json.dumps(dict(identity)))
            if IDENTITY not in self.study.user_attrs:
                self.study.set_user_attr(IDENTITY, wanted)
            differing = differing_from(self.study.user_attrs[IDENTITY], wanted)
        if differing:
            raise ArtifactError(
                f"A study goes on only where it was begun; in {name!r} of {shown} these differ: {differing}. Give the "
                "same recipe, settings, search space, seed and data, or another storage."
            )
        self._open: optuna.trial.Trial | None = None
        self._beats: threading.Event | None = None

    def finished(self, most: int) -> list[Trial]:
        """The finished trials with numbers below `most`, each number once, in order."""
        with self._in_words():
            records = [entry.user_attrs for entry in self.study.get_trials(deepcopy=False)]
        found: dict[int, Trial] = {}
        for record in records:
            if TRIAL in record and record[PLACE] < most:
                found.setdefault(record[PLACE], Trial(**record[TRIAL]))
        return [found[number] for number in sorted(found)]

    def claim(self, total: int, propose: Callable[[int], Point]) -> tuple[int, Point] | None:
        """The number and point of the next trial below `total`, now this process's; `None` where all are finished.

        Waits while others have all that is left in hand.
        """
        while True:
            with self._in_words():
                number = self._free(total)
            if number is not None:
                point = propose(number)
                with self._in_words():
                    taken = self._taken(number, point)
                if taken:
                    return number, point
                continue
            done = len(self.finished(total))
            if done >= total:
                return None
            self.progress(ProgressEvent("trials, waiting for other processes", done, total))
            time.sleep(POLL_SECONDS)

    def verdict(self) -> Verdict:
        """The verdict on the claimed trial."""
        import optuna

        assert self._open is not None  # it was claimed
        told = verdict_on(self._open)

        def says_stop(value: float) -> bool:
            with self._in_words(), suppress(optuna.exceptions.UpdateFinishedTrialError):
                return told(value)
            return False  # it counted as lost meanwhile, and another process has its number

        return says_stop

    def add(self, trial: Trial) -> None:
        """Write what the claimed trial came to. Nothing is written where it counted as lost meanwhile."""
        import optuna

        assert self._open is not None  # it was claimed
        state = optuna.trial.TrialState
        with self._in_words(), suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._open.set_user_attr(TRIAL, json.loads(json.dumps(asdict(trial))))
            if trial.value is not None:
                self.study.tell(self._open, trial.value)
            else:
                pruned = trial.pruned and trial.validations
                self.study.tell(self._open, state=state.PRUNED if pruned else state.FAIL)
            self._open = None
        self.release()

    def release(self) -> None:
        """Give the claimed trial back where it is not finished: its number is free again, for anybody."""
        import optuna

        trial, self._open = self._open, None
        if self._beats is not None:
            self._beats.set()
            self._beats = None
        if trial is not None:
            with suppress(Exception):  # what is wrong with the database is said elsewhere
                self.study.tell(trial, state=optuna.trial.TrialState.FAIL)

    def wait(self, total: int) -> None:
        """Wait until no process has a number below `total` in hand."""
        while True:
            with self._in_words():
                in_hand = [entry for entry in self._running() if entry.user_attrs[PLACE] < total]
            if not in_hand:
                return
            done = len(self.finished(total))
            self.progress(ProgressEvent("trials, waiting for other processes", done, total))
            time.sleep(POLL_SECONDS)

    def _running(self) -> list[optuna.trial.FrozenTrial]:
        """The trials that some process has in hand; those of processes that died are declared lost before."""
        import optuna

        with _quiet():
            optuna.storages.fail_stale_trials(self.study)
        running = optuna.trial.TrialState.RUNNING
        return [
            entry
            for entry in self.study.get_trials(deepcopy=False, states=(running,))
            if PLACE in entry.user_attrs
        ]

    def _free(self, total: int) -> int | None:
        """The lowest number below `total` that nobody has; trials of processes that died count as nobody's."""
        held = {entry.user_attrs[PLACE] for entry in self._running()}
        held |= {trial.number for trial in self.finished(total)}
        return next((number for number in range(total) if number not in held), None)

    def _taken(self, number: int, point: Point) -> bool:
        """Take a number, unless another process did so first: the earlier trial of optuna's with that number has it."""
        import optuna

        # The number is written together with the trial, so that no later one can miss it.
        asked = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING,
            params=_params(self.space, point),
            distributions=_distributions(self.space, point),
            user_attrs={PLACE: number},
        )
        place = self.study._storage.create_new_trial(self.study._study_id, template_trial=asked)
        self._open = optuna.trial.Trial(self.study, place)
        self._beat(place)
        finished = [
            entry
            for entry in self.study.get_trials(deepcopy=False)
            if TRIAL in entry.user_attrs and entry.user_attrs[PLACE] == number
        ]
        rivals = [entry for entry in self._running() if entry.user_attrs[PLACE] == number]
        if min(entry.number for entry in (*finished, *rivals)) == self._open.number:
            return True
        self.release()
        return False

    def _beat(self, trial: int) -> None:
        """Say now, and from now on, that the process is there, until the trial is finished."""
        storage: Any = self.study._storage
        storage.record_heartbeat(trial)
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(HEARTBEAT_SECONDS):
                with suppress(Exception):  # a database that is busy: the next time will do
                    storage.record_heartbeat(trial)

        self._beats = ended
        threading.Thread(target=beat, daemon=True).start()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        with _in_words(self.storage):
            yield


@contextmanager
def _in_words(storage: str) -> Iterator[None]:
    """What goes wrong with a database as an `ArtifactError`."""
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, ValueError) as problem:
        reason = str(problem).splitlines()[0]
        raise ArtifactError(
            f"A storage must be the URL of a database that can be written, such as sqlite:///trials.db; {storage}: {reason}. "
            "Trials that were finished are kept."
        ) from problem


@contextmanager
def _quiet() -> Iterator[None]:
    """Without optuna's words on heartbeats: that they are experimental, and meant for its own loop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _opened(storage: str, name: str, pruner: Pruner) -> optuna.Study:
    import optuna
    from sqlalchemy.exc import IntegrityError, OperationalError

    more: dict[str, Any] = {}
    if storage.startswith("sqlite"):
        more["engine_kwargs"] = {"connect_args": {"timeout": 60}}
    for attempt in range(_OPENINGS):
        try:
            with _quiet():
                database = optuna.storages.RDBStorage(
                    storage, heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS, **more
                )
                return optuna.create_study(
                    storage=database,
                    study_name=name,
                    direction="maximize",
                    pruner=optuna_pruner(pruner),
                    load_if_exists=True,
                )
        except (IntegrityError, OperationalError):  # another process makes the tables at this moment
            if attempt == _OPENINGS - 1:
                raise
            time.sleep(POLL_SECONDS / _OPENINGS)
    raise AssertionError("the last attempt returns or raises")


def _distributions(space: Sequence[Dimension], point: Point) -> dict[str, BaseDistribution]:
    """Each dimension as optuna names it: numbers in a range, else one of some words."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    made: dict[str, BaseDistribution] = {}
    for dimension in space:
        values = dimension.values
        value = point[dimension.name]
        if isinstance(values, Choice):
            words = tuple(dict.fromkeys(str(each) for each in values.values))
            if str(value) in words:  # the model as given may lie beside the space
                made[dimension.name] = CategoricalDistribution(words)
        else:
            ends = (values.at(0), values.at(1), float(value))
            made[dimension.name] = FloatDistribution(min(ends), max(ends))
    return made


def _params(space: Sequence[Dimension], point: Point) -> dict[str, Any]:
    """A point in the terms of `_distributions`."""
    distributions = _distributions(space, point)
    return {
        dimension.name: str(point[dimension.name])
        if isinstance(dimension.values, Choice)
        else float(point[dimension.name])
        for dimension in space
        if dimension.name in distributions
    }


def shown_url(storage: str) -> str:
    """The URL without its password. Raises `ArtifactError` for a database that is in memory, which nobody can share."""
    from sqlalchemy.engine import make_url

    with _in_words(storage):
        url = make_url(storage)
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ArtifactError(
            f"A storage must be a database that is kept, such as sqlite:///trials.db; {storage} is in memory. Name a file."
        )
    return url.render_as_string(hide_password=True)
