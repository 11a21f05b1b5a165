"""Where the trials of a search are kept: in memory, in a folder, or in a database that several processes share.

All three are optuna's. In a folder and in memory a search is one process: it works on a study in memory, and a folder
keeps each trial as it ends, so that an interruption leaves nothing half done. In a database the trials of every process
stand from their beginning. What a killed process was working on is noticed by its heartbeat, and tried again by another.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import OptunaError, UpdateFinishedTrialError
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from unblur.errors import ArtifactError, UnblurError, some
from unblur.tuning.results import Trial
from unblur.tuning.sampler import Points, snapped
from unblur.tuning.settings import Database, PrunerName
from unblur.tuning.space import Choice, Dimension, Point

Report: TypeAlias = Callable[[float], bool]
"""Takes what a trial is worth so far, and says whether to end it."""
Attempt: TypeAlias = Callable[[int, Point, Report], Trial]
"""Fits and judges one point: its number, the point, what may end it early."""

JOURNAL = "trials.log"
"""The file of a folder."""
HEARTBEAT_SECONDS = 10
"""How often a process writes that it is alive."""
GRACE_SECONDS = 60
"""After so long without a heartbeat its trial counts as lost: six of them, since a busy database delays some."""
OPENINGS = 5
"""How often a database is opened where another process makes its tables at the same moment."""

IDENTITY, BLOCK, NUMBER, RESULT = "unblur search", "unblur block", "unblur number", "unblur trial result"
"""Names of attributes. Of a study: its identity, and the last trials that were judged together. Of a trial: its number,
where it is not that in the order of drawn ones, and its result."""
OLD_IDENTITY = "unblur study"

MEDIAN_TRIALS = 4
"""The median counts once so many trials have ended: of fewer it says little."""
MEDIAN_EVALUATIONS = 3
"""The median ends no trial before it has had so many evaluations, since the first ones are noise."""
KEPT_SHARE = 3
"""One of so many trials passes each rung of halving (Li et al. 2020 use 3 or 4)."""


@dataclass(frozen=True)
class Axis:
    """A dimension in optuna's terms, widened by the value that the given spec has.

    Optuna refuses a trial outside the space that its study began with, so the space has that value from the beginning.
    """

    dimension: Dimension
    distribution: CategoricalDistribution | FloatDistribution
    options: tuple[Any, ...] = ()
    """The values of a choice, in the order of the distribution's, which are their JSON texts: optuna takes no lists."""

    @classmethod
    def of(cls, dimension: Dimension, first: Point | None) -> Axis:
        """The axis of a dimension; `first` is the point of the given spec."""
        values = dimension.values
        given = () if first is None else (first[dimension.name],)
        if isinstance(values, Choice):
            options = (*values.values, *(value for value in given if value not in values.values))
            return cls(dimension, CategoricalDistribution([json.dumps(value) for value in options]), options)
        ends = [values.at(0), values.at(1), *(float(value) for value in given)]
        logarithmic = values.logarithmic and min(ends) > 0
        return cls(dimension, FloatDistribution(min(ends), max(ends), log=logarithmic))

    def to_optuna(self, value: Any) -> Any:
        """A value of a point as a parameter."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.distribution.choices[self.options.index(value)]
        # Computed from its logarithm, the end of a range may lie a rounding error outside of it.
        return min(max(float(value), self.distribution.low), self.distribution.high)

    def from_optuna(self, value: Any) -> Any:
        """A parameter as a value of a point."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.options[self.distribution.choices.index(value)]
        return snapped(self.dimension, value)

    def suggested(self, trial: optuna.Trial) -> Any:
        """The parameter that the sampler has for a trial."""
        name, distribution = self.dimension.name, self.distribution
        if isinstance(distribution, CategoricalDistribution):
            return trial.suggest_categorical(name, distribution.choices)
        return trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)


class NumberedSampler(optuna.samplers.BaseSampler):
    """Gives each trial the point of its number, or what a fresh Parzen estimator seeded by its number proposes."""

    def __init__(self, points: Points, axes: Sequence[Axis]) -> None:
        self.points = points
        self.axes = {axis.dimension.name: axis for axis in axes}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Look up the point of the trial that begins."""
        number = next(number for number, other in numbered(study) if other.number == trial.number)
        self.point = self.points.at(number)
        if self.point is None:
            self.estimator = optuna.samplers.TPESampler(seed=self.points.seed_at(number))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The parameters that the estimator draws together."""
        return {} if self.point is not None else self.estimator.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters that the estimator draws together."""
        return {} if self.point is not None else self.estimator.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """One parameter."""
        if self.point is not None:
            return self.axes[param_name].to_optuna(self.point[param_name])
        return self.estimator.sample_independent(study, trial, param_name, param_distribution)


def numbered(study: optuna.Study) -> list[tuple[int, FrozenTrial]]:
    """The trials of a study, each with its number here.

    That is its place among the drawn ones. One that is tried again for a lost trial has the number of that.
    """
    fresh, pairs = 0, []
    for trial in study.get_trials(deepcopy=False):
        if NUMBER in trial.user_attrs:
            pairs.append((trial.user_attrs[NUMBER], trial))
        else:
            pairs.append((fresh, trial))
            fresh += 1
    return pairs


class _EndedTrial(Exception):
    """A trial without a value, which optuna keeps as failed."""


class Store:
    """The trials of a search, and the making of further ones."""

    def __init__(
        self,
        study: optuna.Study,
        points: Points,
        axes: Sequence[Axis],
        place: Place,
        journal: optuna.Study | None,
    ) -> None:
        """`study` is worked on; `journal` keeps its finished trials where it does not keep them itself."""
        self._study, self._points, self._axes, self._place, self._journal = (
            study,
            points,
            axes,
            place,
            journal,
        )
        self._raised: BaseException | None = None

    def finished(self, total: int) -> list[Trial]:
        """The finished trials with numbers below `total`, in order."""
        found: dict[int, Trial] = {}
        with self._place.in_words():
            for number, trial in numbered(self._study):
                if RESULT in trial.user_attrs and number < total:
                    found.setdefault(number, Trial(**trial.user_attrs[RESULT]))
        return [found[number] for number in sorted(found)]

    def is_waited_for(self, total: int) -> bool:
        """Whether some process is working on a trial with a number below `total`."""
        with self._place.in_words():
            return any(
                trial.state == TrialState.RUNNING and number < total for number, trial in self._still_alive()
            )

    def _still_alive(self) -> list[tuple[int, FrozenTrial]]:
        """The numbered trials, after those whose processes are gone have been failed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that heartbeats are experimental
            optuna.storages.fail_stale_trials(self._study)
        return numbered(self._study)

    def add(self, trials: Sequence[Trial]) -> None:
        """Keep trials that were judged together: all of them or, after a kill, none."""
        with self._place.in_words():
            if self._journal is not None:
                self._journal.set_user_attr(BLOCK, [asdict(trial) for trial in trials])
            self._append(trials)

    def complete(self) -> None:
        """Keep what a kill left out of the last trials that were judged together."""
        if self._journal is not None:
            block = [Trial(**entry) for entry in self._journal.user_attrs.get(BLOCK, [])]
            kept = len(self._journal.get_trials(deepcopy=False))
            self._append([trial for trial in block if trial.number >= kept])

    def _append(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            kept = create_trial(
                state=TrialState.FAIL if trial.value is None else TrialState.COMPLETE,
                value=trial.value,
                params={a.dimension.name: a.to_optuna(trial.point[a.dimension.name]) for a in self._axes},
                distributions={axis.dimension.name: axis.distribution for axis in self._axes},
                user_attrs={RESULT: asdict(trial)},
            )
            for study in (self._study, self._journal):
                if study is not None:
                    study.add_trial(kept)

    def try_next(self, total: int, attempt: Attempt) -> bool:
        """Make one trial with a number below `total`; `False` if all are finished or in others' hands.

        A trial whose `attempt` raises is made again by the next call.
        """
        self._raised = None
        with self._place.in_words(lambda problem: problem is self._raised):
            trials = [(number, trial) for number, trial in self._still_alive() if number < total]
            kept = {number for number, trial in trials if RESULT in trial.user_attrs}
            running = {number for number, trial in trials if trial.state == TrialState.RUNNING}
            if len(kept | running) >= total:
                return False
            begun = {number: trial.params for number, trial in trials}
            waiting = {number for number, trial in trials if trial.state == TrialState.WAITING}
            for number in sorted(begun.keys() - kept - running - waiting):  # lost, and free for everybody
                self._study.enqueue_trial(begun[number], user_attrs={NUMBER: number})
            try:
                self._study.optimize(
                    lambda trial: self._objective(trial, total, attempt), n_trials=1, catch=(_EndedTrial,)
                )
            except (UpdateFinishedTrialError, ValueError):
                # Too long without a heartbeat, the trial counted as lost, and another process has its number by now.
                if not isinstance(self._raised, UpdateFinishedTrialError):
                    raise
            if self._journal is not None:
                self._journal.add_trial(self._study.get_trials(deepcopy=False)[-1])
        return True

    def _objective(self, trial: optuna.Trial, total: int, attempt: Attempt) -> float:
        trials = numbered(self._study)
        number = next(number for number, other in trials if other.number == trial.number)
        # Another process may have finished the number meanwhile, or queued it earlier.
        taken = any(
            RESULT in other.user_attrs or (other.number < trial.number and not other.state.is_finished())
            for theirs, other in trials
            if theirs == number and other.number != trial.number
        )
        if taken or number >= total:
            raise _EndedTrial
        parameters = {axis.dimension.name: axis.suggested(trial) for axis in self._axes}
        point = self._points.at(number)
        if point is None:
            point = {a.dimension.name: a.from_optuna(parameters[a.dimension.name]) for a in self._axes}
        evaluations = 0

        def report(value: float) -> bool:
            nonlocal evaluations
            # Evaluations are counted, not epochs, so that a pruner means the same for every model.
            evaluations += 1
            trial.report(value, evaluations)
            return trial.should_prune()

        try:
            result = attempt(number, point, report)
            trial.set_user_attr(RESULT, asdict(result))
        except BaseException as problem:
            self._raised = problem
            raise
        if result.pruned:
            raise optuna.TrialPruned
        if result.value is None:
            raise _EndedTrial
        return result.value


@dataclass(frozen=True)
class Place:
    """Where trials are kept, for errors."""

    name: str
    needs: str = "A search must be able to keep its trials"

    @contextmanager
    def in_words(self, passes: Callable[[BaseException], bool] = lambda problem: False) -> Iterator[None]:
        """Raise what goes wrong with optuna, a file or a database as an `ArtifactError`, but for what `passes`."""
        try:
            yield
        except (SQLAlchemyError, OptunaError, OSError, ImportError, ValueError) as problem:
            if passes(problem) or isinstance(problem, UnblurError):
                raise
            reason = (str(problem) or type(problem).__name__).splitlines()[0]
            raise ArtifactError(
                f"{self.needs}; {self.name}: {reason}. Trials that were finished are kept."
            ) from problem


@contextmanager
def _unlogged() -> Iterator[None]:
    """Without optuna's log, which has a traceback for every setting that fails."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


@contextmanager
def opened(
    store: Path | Database | None,
    identity: Mapping[str, Any],
    points: Points,
    pruner: optuna.pruners.BasePruner,
) -> Iterator[Store]:
    """The store of a search, whose trials of earlier calls are there.

    Raises `ArtifactError` for the trials of another search, for those of an earlier version, and for a place that cannot
    be used.
    """
    axes = [Axis.of(dimension, points.first) for dimension in points.space]
    sampler = NumberedSampler(points, axes)
    with _unlogged():
        if isinstance(store, Database):
            place = Place(
                f"{store.name!r} of {store.shown()}",
                "A storage must be the URL of a database that can be written, such as sqlite:///trials.db",
            )
            with place.in_words():
                study = _in_database(store, sampler, pruner)
                _check(study, identity, place)
            yield Store(study, points, axes, place, None)
            return
        study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        if store is None:
            yield Store(study, points, axes, Place("memory"), None)
            return
        place = Place(str(store), "The folder of a search must be whole, and one that can be written")
        with _journal_file(store, place) as file:
            with place.in_words():
                journal = _in_journal(file)
                _check(journal, identity, place)
                study.add_trials(journal.get_trials(deepcopy=False))
            kept = Store(study, points, axes, place, journal)
            kept.complete()
            yield kept


def pruner_of(name: PrunerName, first_rung: int) -> optuna.pruners.BasePruner:
    """Optuna's pruner; `first_rung` evaluations come before the first halving."""
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=MEDIAN_TRIALS, n_warmup_steps=MEDIAN_EVALUATIONS)
    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=first_rung, reduction_factor=KEPT_SHARE)
    return optuna.pruners.NopPruner()


def _check(study: optuna.Study, identity: Mapping[str, Any], place: Place) -> None:
    """Raise `ArtifactError` unless a kept study is that of a search; a new one becomes it."""
    wanted, kept = json.loads(json.dumps(dict(identity))), study.user_attrs
    if OLD_IDENTITY in kept:
        raise ArtifactError(_of_earlier_version(place.name))
    if IDENTITY not in kept and study.get_trials(deepcopy=False):
        raise ArtifactError(
            f"Trials are kept in a new study or in that of the same search; {place.name} holds something else. "
            "Give another name."
        )
    if IDENTITY not in kept:
        study.set_user_attr(IDENTITY, wanted)
    differing = differing_from(study.user_attrs[IDENTITY], wanted)
    if differing:
        raise ArtifactError(
            f"A search is resumed with the values it began with; in {place.name} these differ: {differing}. Give the "
            "same recipe, settings, search space, seed and data, or another place."
        )


def differing_from(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The names of entries that differ, as text; empty if none do."""
    differing = [name for name in {**kept, **wanted} if kept.get(name) != wanted.get(name)]
    return some(differing) if differing else ""


def _of_earlier_version(place: str) -> str:
    return (
        f"The trials in {place} were kept by an earlier version of unblur, whose searches cannot be resumed. "
        "Give another place."
    )


class _LockedAlready(JournalFileOpenLock):
    """No lock: the file is locked as long as the search goes."""

    def acquire(self) -> bool:
        """The lock is held."""
        return True

    def release(self) -> None:
        """It stays so."""


@contextmanager
def _journal_file(folder: Path, place: Place) -> Iterator[Path]:
    """The file of a folder, which no other process has meanwhile."""
    with place.in_words():
        folder.mkdir(parents=True, exist_ok=True)
        names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    if "study.json" in names or any(name.startswith("trial-") for name in names):
        raise ArtifactError(_of_earlier_version(place.name))
    if names and JOURNAL not in names:
        raise ArtifactError(
            f"Trials are kept in a new folder or in that of the same search; {folder} holds something else. "
            "Give another path."
        )
    with place.in_words():
        file = (folder / JOURNAL).open("ab")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(
                f"A folder keeps the trials of one process at a time; another one is searching in {folder}. "
                "Wait for it, or share a database."
            ) from None
        yield folder / JOURNAL


def _in_journal(file: Path) -> optuna.Study:
    # A full disk may have cut the last line off, and optuna would append to what is left of it.
    text = file.read_bytes()
    os.truncate(file, text.rfind(b"\n") + 1)
    backend = JournalFileBackend(str(file), lock_obj=_LockedAlready(str(file)))
    try:
        storage = optuna.storages.JournalStorage(backend)
        return optuna.create_study(
            storage=storage, study_name="search", direction="maximize", load_if_exists=True
        )
    except (KeyError, TypeError) as problem:
        raise ValueError(f"the journal is damaged ({problem})") from problem


def _in_database(
    database: Database, sampler: NumberedSampler, pruner: optuna.pruners.BasePruner
) -> optuna.Study:
    # Writers of SQLite wait for each other; by default for 5 seconds at most.
    options = {"connect_args": {"timeout": GRACE_SECONDS}} if database.url.startswith("sqlite") else {}
    for attempt in range(1, OPENINGS + 1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that heartbeats are experimental
                storage = optuna.storages.RDBStorage(
                    database.url,
                    engine_kwargs=options,
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                )
            return optuna.create_study(
                storage=storage,
                study_name=database.name,
                direction="maximize",
                sampler=sampler,
                pruner=pruner,
                load_if_exists=True,
            )
        except (IntegrityError, OperationalError):  # another process makes the tables at this moment
            if attempt == OPENINGS:
                raise
            time.sleep(1 / OPENINGS)
    raise AssertionError("the last attempt returns or raises")
