"""Storage of the trials of a search: in memory, in a folder, or in a database that several processes share.

All three are optuna's. With a folder or in memory a search is one process: it works on a study in memory, and the folder
keeps each trial as it ends, so that an interruption leaves nothing half done. In a database each process enters its
trials as they begin. A killed process is noticed by its missing heartbeat, and another one repeats its trial.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import OptunaError, UpdateFinishedTrialError
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from unblur.data.output import GrowingFolder
from unblur.errors import ArtifactError, SpecError, UnblurError, some
from unblur.registry import kind_today
from unblur.spec import (
    Choice,
    Dimension,
    Point,
    Range,
    Spec,
    migrated,
    path_today,
    spec_from_dict,
    spec_to_dict,
)
from unblur.tuning.points import Points
from unblur.tuning.results import Trial
from unblur.tuning.settings import DATABASE_REQUIREMENT, Database, PrunerName

NUMBER = "unblur number"
"""The attribute with the number of a trial in the search, for trials that repeat a lost one and have its number."""
SHA256 = "unblur sha256"
"""The entry of each line of a journal with the checksum of the others."""


def distributions_of(points: Points) -> dict[str, CategoricalDistribution | FloatDistribution]:
    """The dimensions of a search by name, widened by the values of the first point.

    Optuna refuses a trial outside the space that its study began with, so these values are in it from the start.
    """
    distributions: dict[str, CategoricalDistribution | FloatDistribution] = {}
    for dimension in points.space:
        values, name = dimension.values, dimension.name
        base_values = [] if points.first is None else [points.first[name]]
        if isinstance(values, Choice):
            # Optuna takes no lists. As JSON text all values differ, and optuna's other tools can read them.
            choices = dict.fromkeys(json.dumps(value) for value in (*values.values, *base_values))
            distributions[name] = CategoricalDistribution(tuple(choices))
        else:
            ends = sorted([values.at(0), values.at(1), *(float(value) for value in base_values)])
            logarithmic = values.logarithmic and ends[0] > 0
            distributions[name] = FloatDistribution(ends[0], ends[-1], log=logarithmic)
    return distributions


def to_parameter(value: Any, distribution: BaseDistribution) -> Any:
    """A value of a point as a parameter of optuna's."""
    if isinstance(distribution, FloatDistribution):
        # The end of a range, computed from its logarithm, may lie outside the range by a rounding error.
        return min(max(float(value), distribution.low), distribution.high)
    return json.dumps(value)


def from_parameter(parameter: Any, dimension: Dimension) -> Any:
    """A parameter of optuna's as a value of a point."""
    values = dimension.values
    return values.snapped(parameter) if isinstance(values, Range) else json.loads(parameter)


def numbered(study: optuna.Study) -> list[tuple[int, FrozenTrial]]:
    """The trials of a study, each with its number in the search: its `NUMBER`, else its position among those without."""
    fresh, pairs = 0, []
    for trial in study.get_trials(deepcopy=False):
        pairs.append((trial.user_attrs.get(NUMBER, fresh), trial))
        fresh += NUMBER not in trial.user_attrs
    return pairs


class NumberedSampler(BaseSampler):
    """Give each trial the point of its number, or the proposal of a new Parzen estimator seeded by that number."""

    number: int
    """The number of the running trial."""
    point: dict[str, Any] | None
    """Its point; `None` if the estimator proposes it."""
    _estimator: TPESampler

    def __init__(self, points: Points) -> None:
        self._points = points

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Look up the point of a trial before it begins."""
        self.number = next(
            number for number, candidate in numbered(study) if candidate.number == trial.number
        )
        self.point = self._points.at(self.number)
        if self.point is None:
            self._estimator = TPESampler(seed=self._points.seed_at(self.number))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The parameters that the estimator draws together."""
        return {} if self.point is not None else self._estimator.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the parameters that are drawn together."""
        return {} if self.point is not None else self._estimator.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a parameter that is not among those."""
        if self.point is not None:
            return to_parameter(self.point[param_name], param_distribution)
        return self._estimator.sample_independent(study, trial, param_name, param_distribution)


ReportValue: TypeAlias = Callable[[int, float], bool]
"""Takes the number of an evaluation and the trial's value at it; returns whether to end the trial."""
Attempt: TypeAlias = Callable[[int, Point, ReportValue], Trial]
"""Fits and judges one point: (number, point, function that may end it early) -> trial."""

JOURNAL = "trials.log"
"""The file with the trials in a folder."""
HEARTBEAT_SECONDS = 10
"""Time between two signs of life of a process."""
GRACE_SECONDS = 60
"""Time without a heartbeat after which a trial counts as lost: six heartbeats, since a busy database delays some."""
OPENINGS = 5
"""Number of attempts to open a database while another process creates its tables; a fifth of a second apart, they give
it a second."""

IDENTITY, BLOCK, RESULT = "unblur search", "unblur block", "unblur trial result"
"""Names of attributes. Of a study: its identity, and the last block of trials that were judged together. Of a trial:
its result."""
IN_WORDS = {
    "given": "trial 0 (the model as given)",
    "train": "training data",
    "validation": "validation data",
    "users": "judged users",
}
"""Names in the identity, in the words of messages."""
OLD_IDENTITY = "unblur study"
"""The attribute of a study of an earlier version, whose trials have other attributes."""

MEDIAN_TRIALS = 4
"""Number of ended trials from which on the median prunes: the median of fewer says little."""
MEDIAN_EVALUATIONS = 3
"""Number of evaluations before the median may end a trial, since the first ones are noise."""
REDUCTION_FACTOR = 3
"""One in this many trials passes each rung of halving (Li et al. 2020 use 3 or 4)."""


class _EndedTrial(Exception):
    """Raised to end a trial without a value, which optuna then keeps as failed."""


@dataclass
class Store:
    """The trials of a search, and the way to run further ones."""

    points: Points
    model: type[Spec]
    """The kind of spec that is searched."""
    sampler: NumberedSampler
    location: Location
    studies: tuple[optuna.Study, ...]
    """The study that trials run in and, with a folder, the one that keeps its finished trials."""
    raised: BaseException | None = None
    """The exception of the last attempt."""

    @property
    def study(self) -> optuna.Study:
        """The study that trials run in."""
        return self.studies[0]

    def finished(self, total: int) -> list[Trial]:
        """The finished trials with numbers below `total`, in order."""
        trials: dict[int, Trial] = {}
        with self.location.errors_translated():
            for index, trial in numbered(self.study):
                if RESULT in trial.user_attrs and index < total:
                    trials.setdefault(index, Trial(**self._today(trial.user_attrs[RESULT])))
        return [trials[index] for index in sorted(trials)]

    def _today(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """The result of a trial with its point under the names of today."""
        point = {path_today(self.model, name, warn=False): value for name, value in entry["point"].items()}
        return {**entry, "point": point}

    def is_running(self, total: int) -> bool:
        """Return whether any process is running a trial with a number below `total`."""
        with self.location.errors_translated():
            return any(
                trial.state == TrialState.RUNNING and number < total
                for number, trial in self._with_lost_failed()
            )

    def _with_lost_failed(self) -> list[tuple[int, FrozenTrial]]:
        """Mark the trials of processes that are gone as failed; return all numbered trials."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optuna warns that heartbeats are experimental
            optuna.storages.fail_stale_trials(self.study)
        return numbered(self.study)

    def add(self, trials: Sequence[Trial]) -> None:
        """Keep trials that were judged together: all of them or, if the process is killed, none.

        One attribute takes the whole block at once; `add_missing_trials` then adds its trials: after a kill, when the store
        is opened again.
        """
        with self.location.errors_translated():
            self.studies[-1].set_user_attr(BLOCK, [asdict(trial) for trial in trials])
            self.add_missing_trials()

    def add_missing_trials(self) -> None:
        """Add the trials of the last block that are not in the studies yet."""
        distributions: dict[str, BaseDistribution] = {**distributions_of(self.points)}
        for entry in map(self._today, self.studies[-1].user_attrs.get(BLOCK, [])):
            parameters = {
                name: to_parameter(entry["point"][name], distribution)
                for name, distribution in distributions.items()
            }
            trial = create_trial(
                state=TrialState.FAIL if entry["value"] is None else TrialState.COMPLETE,
                value=entry["value"],
                params=parameters,
                distributions=distributions,
                user_attrs={RESULT: entry},
            )
            for study in self.studies:
                if entry["number"] == len(study.get_trials(deepcopy=False)):
                    study.add_trial(trial)

    def try_next(self, total: int, attempt: Attempt) -> bool:
        """Run one trial with a number below `total`; return `False` if all are finished or running elsewhere.

        A trial whose `attempt` raises is repeated by the next call. Two numberings meet here: optuna numbers trials as they
        are entered, and a repeated one gets a new number there; `number` is that in the search, which decides the point
        (see `numbered`).
        """
        self.raised = None
        with self.location.errors_translated(lambda problem: problem is self.raised):
            trials = [(number, trial) for number, trial in self._with_lost_failed() if number < total]
            finished = {number for number, trial in trials if RESULT in trial.user_attrs}
            running = {number for number, trial in trials if trial.state == TrialState.RUNNING}
            if len(finished | running) >= total:
                return False
            # A lost number has been entered, but has no result and no trial that runs or waits in the queue.
            busy = finished | {number for number, trial in trials if not trial.state.is_finished()}
            lost = {number: trial.params for number, trial in trials if number not in busy}
            for number in sorted(lost):  # queue it again, for whichever process is free first
                self.study.enqueue_trial(lost[number], user_attrs={NUMBER: number})
            # If this trial went too long without a heartbeat, it counts as lost, and another process now runs its
            # number: optuna then refuses the result, which is dropped.
            try:
                with suppress(UpdateFinishedTrialError):
                    self.study.optimize(
                        lambda trial: self._objective(trial, total, attempt), n_trials=1, catch=(_EndedTrial,)
                    )
            except ValueError:
                # If saving the result inside the trial was refused, optuna then marks the trial as failed, which its state
                # forbids as well ("Cannot tell a FAIL trial").
                if not isinstance(self.raised, UpdateFinishedTrialError):
                    raise
            for study in self.studies[1:]:
                study.add_trial(self.study.get_trials(deepcopy=False)[-1])
        return True

    def _objective(self, trial: optuna.Trial, total: int, attempt: Attempt) -> float:
        """Run the trial that optuna has entered, keep its result, and return its value.

        Raises `_EndedTrial` for a number that another process has and for a setting without a value, and `TrialPruned`.
        """
        number, point = self.sampler.number, self.sampler.point
        # Meanwhile another process may have finished this number, or may have queued it earlier.
        is_taken = any(
            RESULT in candidate.user_attrs
            or (candidate.number < trial.number and not candidate.state.is_finished())
            for candidate_number, candidate in numbered(self.study)
            if candidate_number == number and candidate.number != trial.number
        )
        if is_taken or number >= total:
            raise _EndedTrial
        parameters = {
            name: trial.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
            if isinstance(distribution, FloatDistribution)
            else trial.suggest_categorical(name, distribution.choices)
            for name, distribution in distributions_of(self.points).items()
        }
        if point is None:
            point = {d.name: from_parameter(parameters[d.name], d) for d in self.points.space}

        def report(evaluation: int, value: float) -> bool:
            trial.report(value, evaluation)
            return trial.should_prune()

        try:
            result = attempt(number, point, report)
            trial.set_user_attr(RESULT, asdict(result))
        except BaseException as problem:
            self.raised = problem
            raise
        if result.pruned:
            raise optuna.TrialPruned
        if result.value is None:
            raise _EndedTrial
        return result.value


@dataclass(frozen=True)
class Location:
    """The place that trials are kept in, for error messages."""

    name: str
    requirement: str = "A search must be able to keep its trials"

    @contextmanager
    def errors_translated(
        self, passes: Callable[[BaseException], bool] = lambda problem: False
    ) -> Iterator[None]:
        """Raise errors of optuna, a file or a database as an `ArtifactError`, except those for which `passes` holds."""
        try:
            yield
        except (SQLAlchemyError, OptunaError, OSError, ImportError, ValueError, RecursionError) as problem:
            if passes(problem) or isinstance(problem, UnblurError):
                raise
            reason = (str(problem) or type(problem).__name__).splitlines()[0]
            raise ArtifactError(
                f"{self.requirement}; {self.name}: {reason}. Finished trials are kept."
            ) from problem


@contextmanager
def opened(
    store: Path | Database | None,
    identity: Mapping[str, Any],
    points: Points,
    pruner: optuna.pruners.BasePruner,
    model: type[Spec],
) -> Iterator[Store]:
    """Open the store of a search for settings of a `model`, with the trials of earlier calls.

    Raises `ArtifactError` for the trials of another search, for those of an earlier version, and for a folder or database
    that cannot be used.
    """
    sampler = NumberedSampler(points)
    study_options: dict[str, Any] = {"direction": "maximize", "sampler": sampler, "pruner": pruner}
    with ExitStack() as stack:
        # Optuna would log a traceback for every setting that fails.
        stack.callback(optuna.logging.set_verbosity, optuna.logging.get_verbosity())
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if isinstance(store, Database):
            location = Location(f"{store.name!r} of {store.shown()}", DATABASE_REQUIREMENT)
        elif store is None:
            location = Location("memory")
        else:
            location = Location(str(store), "The folder of a search must be undamaged and writable")
        with location.errors_translated():
            studies: tuple[optuna.Study, ...]
            if isinstance(store, Database):
                studies = (_in_database(store, study_options),)
            elif store is None:
                studies = (optuna.create_study(**study_options),)
            else:
                journal = _in_journal(stack.enter_context(_locked_file(store)))
                studies = (optuna.create_study(**study_options), journal)
                studies[0].add_trials([_trial_today(trial, model) for trial in journal.get_trials()])
            if store is not None:
                # In a database optuna's estimator reads the trials itself, under the names that they were given.
                estimated = points.sampler == "bayes" and isinstance(store, Database)
                _check(studies[-1], identity, location, model, estimated=estimated)
            trial_store = Store(points, model, sampler, location, studies)
            trial_store.add_missing_trials()
        yield trial_store


def pruner_of(name: PrunerName, first_rung: int) -> optuna.pruners.BasePruner:
    """Optuna's pruner; `first_rung` evaluations come before the first halving."""
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=MEDIAN_TRIALS, n_warmup_steps=MEDIAN_EVALUATIONS)
    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(
            min_resource=first_rung, reduction_factor=REDUCTION_FACTOR
        )
    return optuna.pruners.NopPruner()


def _check(
    study: optuna.Study,
    identity: Mapping[str, Any],
    location: Location,
    model: type[Spec],
    *,
    estimated: bool,
) -> None:
    """Raise `ArtifactError` unless a stored study belongs to this search; a new study is marked as such."""
    expected, attributes = json.loads(json.dumps(dict(identity))), study.user_attrs
    ArtifactError.unless(OLD_IDENTITY not in attributes, _earlier_version_problem(location.name))
    ArtifactError.unless(
        IDENTITY in attributes or not study.get_trials(deepcopy=False),
        f"Trials must be kept in a new study or in that of the same search; {location.name} holds something else. "
        "Give another database, or a recipe with another name.",
    )
    if IDENTITY not in attributes:
        study.set_user_attr(IDENTITY, expected)
    stored = {**study.user_attrs[IDENTITY]}
    stored["model"] = _migrated_table(model, stored["model"])
    if not estimated:
        stored["space"] = [_dimension_today(model, dimension) for dimension in stored["space"]]
    differing = [name for name in {**stored, **expected} if stored.get(name) != expected.get(name)]
    ArtifactError.unless(
        not differing,
        f"A search must be resumed with the values it began with; in {location.name} these differ: "
        f"{some([IN_WORDS.get(name, name) for name in differing])}. Give the same recipe, settings, search space, "
        "seed and data, or another folder or database.",
    )


def _migrated_table(model: type[Spec], table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The table of a spec in today's form, for comparison.

    It stays as it is if it cannot be read, or if a setting that today's form cannot express would be lost: such a search
    must not be resumed.
    """
    values, losses = migrated(model, {name: value for name, value in table.items() if name != "kind"})
    with suppress(SpecError):
        today = {"kind": kind_today(table["kind"]), **spec_to_dict(spec_from_dict(model, values))}
        return table if losses else today
    return table


def _dimension_today(model: type[Spec], plain: Mapping[str, Any]) -> dict[str, Any]:
    """A dimension, as plain values, with the names of today."""
    name, *paths = (path_today(model, path, warn=False) for path in (plain["name"], *plain["paths"]))
    return {**plain, "name": name, "paths": paths}


def _trial_today(trial: FrozenTrial, model: type[Spec]) -> FrozenTrial:
    """The trial, changed to have the names of today."""
    names = {name: path_today(model, name, warn=False) for name in trial.params}
    trial.params = {names[name]: value for name, value in trial.params.items()}
    trial.distributions = {names[name]: value for name, value in trial.distributions.items()}
    return trial


def _earlier_version_problem(location: str) -> str:
    return (
        f"The trials in {location} were kept by an earlier version of unblur, whose searches cannot be resumed. "
        "Give another folder or database."
    )


class _NoLock(JournalFileOpenLock):
    """No lock of optuna's: `_locked_file` holds the file's lock for the whole search."""

    def acquire(self) -> bool:
        """Return `True`: the lock is held already."""
        return True

    def release(self) -> None:
        """Do nothing: the lock stays."""


def trials_place(folder: Path) -> GrowingFolder:
    """The place of a folder with the trials of a search."""
    return GrowingFolder(folder, JOURNAL, "Trials must be kept in a new folder or in that of the same search")


@contextmanager
def _locked_file(folder: Path) -> Iterator[Path]:
    """Lock the file with the trials in a folder against other processes, and give its path."""
    ArtifactError.unless(
        not [*folder.glob("study.json"), *folder.glob("trial-*")], _earlier_version_problem(str(folder))
    )
    trials_place(folder).checked()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / JOURNAL).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(
                f"A folder must be used by one process at a time; another one is searching in {folder}. "
                "Wait for it, or share a database (--storage)."
            ) from None
        yield folder / JOURNAL


_FIRST = b'{"op_code":'
"""The beginning of each line of optuna's journals."""


class _SealedJournal(JournalFileBackend):
    """A journal whose entries carry the sha256 of their other values; those of earlier versions have none."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        super().append_logs([{**log, SHA256: _digest(log)} for log in logs])

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        for log in super().read_logs(log_number_from):
            sha256 = log.pop(SHA256, None)
            if sha256 not in (None, _digest(log)):
                raise ValueError("the journal was changed after it was written")
            yield log


def _digest(log: Mapping[str, Any]) -> str:
    # As it will be read: a number that is a key (an epoch) becomes text, which sorts otherwise.
    as_read = json.loads(json.dumps(log))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()


def _in_journal(file: Path) -> optuna.Study:
    # A full disk may have cut off the last line, and optuna would append to the remainder. Another file is not touched.
    text = file.read_bytes()
    if text[: len(_FIRST)] == _FIRST[: len(text)]:
        os.truncate(file, text.rfind(b"\n") + 1)
    backend = _SealedJournal(str(file), lock_obj=_NoLock(str(file)))
    try:
        storage = optuna.storages.JournalStorage(backend)
        return optuna.create_study(
            storage=storage, study_name="search", direction="maximize", load_if_exists=True
        )
    except (KeyError, TypeError) as problem:
        raise ValueError(f"the journal is damaged ({problem})") from problem


def _in_database(database: Database, study_options: Mapping[str, Any]) -> optuna.Study:
    # SQLite's writers wait for each other, by default for at most 5 seconds, which many processes exceed.
    options = {"connect_args": {"timeout": GRACE_SECONDS}} if database.url.startswith("sqlite") else {}
    attempt = 1
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # optuna warns that heartbeats are experimental
                storage = optuna.storages.RDBStorage(
                    database.url,
                    engine_kwargs=options,
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                )
            return optuna.create_study(
                storage=storage, study_name=database.name, load_if_exists=True, **study_options
            )
        except (IntegrityError, OperationalError):  # another process is creating the tables
            if attempt == OPENINGS:
                raise
            attempt += 1
            time.sleep(1 / OPENINGS)
