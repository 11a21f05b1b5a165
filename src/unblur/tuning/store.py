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

from unblur.errors import ArtifactError, SpecError, UnblurError, some
from unblur.spec import Choice, Dimension, Point, Range, Spec, migrated, spec_from_dict, spec_to_dict
from unblur.tuning.points import Points
from unblur.tuning.results import Trial
from unblur.tuning.settings import DATABASE_NEEDS, Database, PrunerName

NUMBER = "unblur number"
"""The attribute of a trial that has a number of its own: one that is made again for a lost trial has that one's."""


def distributions_of(points: Points) -> dict[str, CategoricalDistribution | FloatDistribution]:
    """The dimensions of a search by name, widened by the values that the given spec has.

    Optuna refuses a trial outside the space that its study began with, so these are in it from the beginning.
    """
    distributions: dict[str, CategoricalDistribution | FloatDistribution] = {}
    for dimension in points.space:
        values, name = dimension.values, dimension.name
        given = [] if points.first is None else [points.first[name]]
        if isinstance(values, Choice):
            # Optuna takes no lists; as JSON everything is told apart, and can be read by its other tools.
            texts = dict.fromkeys(json.dumps(value) for value in (*values.values, *given))
            distributions[name] = CategoricalDistribution(tuple(texts))
        else:
            ends = sorted([values.at(0), values.at(1), *(float(value) for value in given)])
            logarithmic = values.logarithmic and ends[0] > 0
            distributions[name] = FloatDistribution(ends[0], ends[-1], log=logarithmic)
    return distributions


def to_parameter(value: Any, distribution: BaseDistribution) -> Any:
    """A value of a point as a parameter."""
    if isinstance(distribution, FloatDistribution):
        # Computed from its logarithm, the end of a range may lie a rounding error outside of it.
        return min(max(float(value), distribution.low), distribution.high)
    return json.dumps(value)


def from_parameter(parameter: Any, dimension: Dimension) -> Any:
    """A parameter as a value of a point."""
    values = dimension.values
    return values.snapped(parameter) if isinstance(values, Range) else json.loads(parameter)


def numbered(study: optuna.Study) -> list[tuple[int, FrozenTrial]]:
    """The trials of a study, each with its number in the search: its place among those that have none of their own."""
    fresh, pairs = 0, []
    for trial in study.get_trials(deepcopy=False):
        pairs.append((trial.user_attrs.get(NUMBER, fresh), trial))
        fresh += NUMBER not in trial.user_attrs
    return pairs


class NumberedSampler(BaseSampler):
    """Gives each trial the point of its number, or what a fresh Parzen estimator, seeded by its number, proposes."""

    number: int
    """That of the trial under way."""
    point: dict[str, Any] | None
    """Its point; `None` where the estimator proposes it."""
    _estimator: TPESampler

    def __init__(self, points: Points) -> None:
        self._points = points

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Look up the point of the trial that begins."""
        self.number = next(number for number, other in numbered(study) if other.number == trial.number)
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
        """Draw them."""
        return {} if self.point is not None else self._estimator.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw one that is not among them."""
        if self.point is not None:
            return to_parameter(self.point[param_name], param_distribution)
        return self._estimator.sample_independent(study, trial, param_name, param_distribution)


ReportValue: TypeAlias = Callable[[int, float], bool]
"""Takes the number of an evaluation and what a trial is worth by then, and says whether to end it."""
Attempt: TypeAlias = Callable[[int, Point, ReportValue], Trial]
"""Fits and judges one point: its number, the point, what may end it early."""

JOURNAL = "trials.log"
"""The file of a folder."""
HEARTBEAT_SECONDS = 10
"""How often a process writes that it is alive."""
GRACE_SECONDS = 60
"""After so long without a heartbeat its trial counts as lost: six of them, since a busy database delays some."""
OPENINGS = 5
"""How often a database is opened where another process makes its tables at the same moment."""

IDENTITY, BLOCK, RESULT = "unblur search", "unblur block", "unblur trial result"
"""Names of attributes. Of a study: its identity, and the last trials that were judged together. Of a trial: its
result."""
OLD_IDENTITY = "unblur study"
"""The attribute of a study of an earlier version, whose trials have other attributes."""

MEDIAN_TRIALS = 4
"""The median counts once so many trials have ended: of fewer it says little."""
MEDIAN_EVALUATIONS = 3
"""The median ends no trial before it has had so many evaluations, since the first ones are noise."""
KEPT_SHARE = 3
"""One of so many trials passes each rung of halving (Li et al. 2020 use 3 or 4)."""


class _EndedTrial(Exception):
    """A trial without a value, which optuna keeps as failed."""


@dataclass
class Store:
    """The trials of a search, and the making of further ones."""

    points: Points
    sampler: NumberedSampler
    place: Place
    studies: tuple[optuna.Study, ...]
    """The one that is worked on, and that of a folder, which keeps the finished trials."""
    raised: BaseException | None = None
    """What the last attempt raised."""

    @property
    def study(self) -> optuna.Study:
        """The one that is worked on."""
        return self.studies[0]

    def finished(self, total: int) -> list[Trial]:
        """The finished trials with numbers below `total`, in order."""
        found: dict[int, Trial] = {}
        with self.place.in_words():
            for number, trial in numbered(self.study):
                if RESULT in trial.user_attrs and number < total:
                    found.setdefault(number, Trial(**trial.user_attrs[RESULT]))
        return [found[number] for number in sorted(found)]

    def is_waited_for(self, total: int) -> bool:
        """Whether some process is working on a trial with a number below `total`."""
        with self.place.in_words():
            return any(
                trial.state == TrialState.RUNNING and number < total for number, trial in self._still_alive()
            )

    def _still_alive(self) -> list[tuple[int, FrozenTrial]]:
        """The numbered trials, after those whose processes are gone have been failed."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that heartbeats are experimental
            optuna.storages.fail_stale_trials(self.study)
        return numbered(self.study)

    def add(self, trials: Sequence[Trial]) -> None:
        """Keep trials that were judged together: all of them or, after a kill, none."""
        with self.place.in_words():
            self.studies[-1].set_user_attr(BLOCK, [asdict(trial) for trial in trials])
            self.complete()

    def complete(self) -> None:
        """Keep what a kill left out of the last trials that were judged together."""
        distributions: dict[str, BaseDistribution] = {**distributions_of(self.points)}
        for entry in self.studies[-1].user_attrs.get(BLOCK, []):
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
        """Make one trial with a number below `total`; `False` if all are finished or in others' hands.

        A trial whose `attempt` raises is made again by the next call.
        """
        self.raised = None
        with self.place.in_words(lambda problem: problem is self.raised):
            trials = [(number, trial) for number, trial in self._still_alive() if number < total]
            kept = {number for number, trial in trials if RESULT in trial.user_attrs}
            running = {number for number, trial in trials if trial.state == TrialState.RUNNING}
            if len(kept | running) >= total:
                return False
            busy = kept | {number for number, trial in trials if not trial.state.is_finished()}
            lost = {number: trial.params for number, trial in trials if number not in busy}
            for number in sorted(lost):  # free for everybody
                self.study.enqueue_trial(lost[number], user_attrs={NUMBER: number})
            # Too long without a heartbeat, a trial counts as lost, and another process has its number by now.
            try:
                with suppress(UpdateFinishedTrialError):
                    self.study.optimize(
                        lambda trial: self._objective(trial, total, attempt), n_trials=1, catch=(_EndedTrial,)
                    )
            except ValueError:
                if not isinstance(self.raised, UpdateFinishedTrialError):
                    raise
            for study in self.studies[1:]:
                study.add_trial(self.study.get_trials(deepcopy=False)[-1])
        return True

    def _objective(self, trial: optuna.Trial, total: int, attempt: Attempt) -> float:
        number, point = self.sampler.number, self.sampler.point
        # Another process may have finished the number meanwhile, or queued it earlier.
        taken = any(
            RESULT in other.user_attrs or (other.number < trial.number and not other.state.is_finished())
            for theirs, other in numbered(self.study)
            if theirs == number and other.number != trial.number
        )
        if taken or number >= total:
            raise _EndedTrial
        parameters = {
            name: trial.suggest_float(name, spread.low, spread.high, log=spread.log)
            if isinstance(spread, FloatDistribution)
            else trial.suggest_categorical(name, spread.choices)
            for name, spread in distributions_of(self.points).items()
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
def opened(
    store: Path | Database | None,
    identity: Mapping[str, Any],
    points: Points,
    pruner: optuna.pruners.BasePruner,
    model: type[Spec],
) -> Iterator[Store]:
    """The store of a search for settings of a `model`, whose trials of earlier calls are there.

    Raises `ArtifactError` for the trials of another search, for those of an earlier version, and for a place that cannot
    be used.
    """
    sampler = NumberedSampler(points)
    kind: dict[str, Any] = {"direction": "maximize", "sampler": sampler, "pruner": pruner}
    with ExitStack() as stack:
        # Optuna logs a traceback for every setting that fails.
        stack.callback(optuna.logging.set_verbosity, optuna.logging.get_verbosity())
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if isinstance(store, Database):
            place = Place(f"{store.name!r} of {store.shown()}", DATABASE_NEEDS)
        else:
            place = Place(str(store), "The folder of a search must be whole, and one that can be written")
        with place.in_words():
            studies: tuple[optuna.Study, ...]
            if isinstance(store, Database):
                studies = (_in_database(store, kind),)
            elif store is None:
                studies = (optuna.create_study(**kind),)
            else:
                journal = _in_journal(stack.enter_context(_locked_file(store)))
                studies = (optuna.create_study(**kind), journal)
                studies[0].add_trials(journal.get_trials(deepcopy=False))
            if store is not None:
                _check(studies[-1], identity, place, model)
            kept = Store(points, sampler, place, studies)
            kept.complete()
        yield kept


def pruner_of(name: PrunerName, first_rung: int) -> optuna.pruners.BasePruner:
    """Optuna's pruner; `first_rung` evaluations come before the first halving."""
    if name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=MEDIAN_TRIALS, n_warmup_steps=MEDIAN_EVALUATIONS)
    if name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=first_rung, reduction_factor=KEPT_SHARE)
    return optuna.pruners.NopPruner()


def _check(study: optuna.Study, identity: Mapping[str, Any], place: Place, model: type[Spec]) -> None:
    """Raise `ArtifactError` unless a kept study is that of a search; a new one becomes it."""
    wanted, kept = json.loads(json.dumps(dict(identity))), study.user_attrs
    ArtifactError.unless(OLD_IDENTITY not in kept, _of_earlier_version(place.name))
    ArtifactError.unless(
        IDENTITY in kept or not study.get_trials(deepcopy=False),
        f"Trials are kept in a new study or in that of the same search; {place.name} holds something else. "
        "Give another name.",
    )
    if IDENTITY not in kept:
        study.set_user_attr(IDENTITY, wanted)
    began = {**study.user_attrs[IDENTITY]}
    began["model"] = _as_today(model, began["model"])
    differing = [name for name in {**began, **wanted} if began.get(name) != wanted.get(name)]
    ArtifactError.unless(
        not differing,
        f"A search is resumed with the values it began with; in {place.name} these differ: {some(differing)}. Give the "
        "same recipe, settings, search space, seed and data, or another place.",
    )


def _as_today(model: type[Spec], table: Mapping[str, Any]) -> Mapping[str, Any]:
    """A spec that an earlier version wrote as one of today; one that cannot be read stays as it is."""
    values, changes = migrated(model, {name: value for name, value in table.items() if name != "kind"})
    with suppress(SpecError):
        return table if changes else {"kind": table["kind"], **spec_to_dict(spec_from_dict(model, values))}
    return table


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
def _locked_file(folder: Path) -> Iterator[Path]:
    """The file of a folder, which no other process has meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")]
    ArtifactError.unless(
        "study.json" not in names and not any(name.startswith("trial-") for name in names),
        _of_earlier_version(str(folder)),
    )
    ArtifactError.unless(
        not names or JOURNAL in names,
        f"Trials are kept in a new folder or in that of the same search; {folder} holds something else. "
        "Give another path.",
    )
    with (folder / JOURNAL).open("ab") as file:
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


def _in_database(database: Database, kind: Mapping[str, Any]) -> optuna.Study:
    # Writers of SQLite wait for each other; by default for 5 seconds at most.
    options = {"connect_args": {"timeout": GRACE_SECONDS}} if database.url.startswith("sqlite") else {}
    attempt = 1
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that heartbeats are experimental
                storage = optuna.storages.RDBStorage(
                    database.url,
                    engine_kwargs=options,
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                )
            return optuna.create_study(storage=storage, study_name=database.name, load_if_exists=True, **kind)
        except (IntegrityError, OperationalError):  # another process makes the tables at this moment
            if attempt == OPENINGS:
                raise
            attempt += 1
            time.sleep(1 / OPENINGS)
