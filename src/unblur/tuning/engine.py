"""The search: try points one after the other, judge each on validation data, choose the best."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from unblur.errors import DataError, SpecError, UnblurError, out_of_memory
from unblur.progress import Progress, ProgressEvent, silent
from unblur.spec import Dimension, Point, Spec, spec_to_dict
from unblur.tuning.points import Points, SpecT, point_of, set_point
from unblur.tuning.results import Study, Trial
from unblur.tuning.settings import Database, Search

if TYPE_CHECKING:
    from unblur.tuning.store import ReportValue, Store

WorkT = TypeVar("WorkT")
SpecT_contra = TypeVar("SpecT_contra", bound=Spec, contravariant=True)

Watch: TypeAlias = Callable[[int, float], bool]
"""Takes an epoch and the metric on validation data after it; returns whether to end the training now."""

FIRST_RUNG = 4
"""Number of evaluations of a training before the first halving; fewer say little about where it will end."""
LARGEST_BLOCK = 1000
"""The most settings that are judged together, if they share their work, when there is a time limit: a shared pass takes
little longer than one setting does, and cannot be ended halfway."""
POLL_SECONDS = 1.0
"""Time between two looks of a process that waits for others: short next to a training, rare enough for a database."""


@dataclass(frozen=True)
class Judgement:
    """The result of one training."""

    value: float | None
    """The metric on validation data; `None` if the watch ended the training."""
    epoch: int | None = None
    """The best epoch, for a model that is trained by epochs."""


class SettingJudge(Protocol[SpecT_contra]):
    """Fits settings and judges them on validation data."""

    @property
    def metric(self) -> str:
        """The metric that is maximised, such as ``recall@20``."""

    @property
    def n_users(self) -> int:
        """The number of users that settings are judged on."""

    @property
    def how(self) -> str:
        """The validation data, in words for the report."""

    @property
    def n_fits(self) -> int:
        """The number of fits in one training: one on each hold-out."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Plain values of the data and of the way of judging that must match for a search to be resumed."""

    @property
    def shares(self) -> bool:
        """True if many settings, judged together, cost little more than one."""

    def __call__(self, spec: SpecT_contra, training: int, watch: Watch) -> Judgement:
        """Fit a setting with the seed of training number `training`, and judge it.

        Raises `SpecError`, `DataError`, an `UnblurError` that is an `ArithmeticError` (for a loss that is no longer a
        number), `LinAlgError` or an error about memory for a setting that fails; any other error ends the search.
        """

    def together(self, specs: Sequence[SpecT_contra]) -> Sequence[float]:
        """Judge many settings in one pass and return one value for each. Only called if `shares`."""


@dataclass(frozen=True)
class Remaining(Generic[SpecT]):
    """What `SearchRequest.run` has still to do."""

    settings: tuple[SpecT, ...]
    """The settings to judge; the base stands for one that depends on the results of others."""
    together: bool
    """True if they are judged in one pass."""
    fits: int
    """The number of fits by which a setting is judged, or of passes."""
    n_done: int
    """The number of trials that are kept."""


@dataclass(frozen=True)
class SearchRequest(Generic[SpecT]):
    """A search: points of a space, tried one after the other from a base, and judged on validation data.

    A setting that is refused, diverges or does not fit into memory is kept as failed. `run` and `remaining` raise `SpecError`
    for an empty space and for a sampler that cannot end, and `ArtifactError` for a store that cannot be used or belongs to
    another search.
    """

    base: SpecT
    space: Sequence[Dimension]
    judge: SettingJudge[SpecT]
    settings: Search = field(default_factory=Search)
    _: KW_ONLY
    seed: int = 0
    """The seed of the points. The same seed gives the same points in the same order."""
    store: Path | Database | None = None
    """Where trials are kept as they end: a folder, or a database that several processes share. After an interruption at any
    moment the same search resumes there; one with more trials adds to them."""
    include_base: bool = True
    """Whether trial 0 is the base itself, even if its values are not in the space."""
    progress: Progress = silent

    def run(self) -> Study[SpecT]:
        """Choose the point that is best by its mean on validation data; of equal ones the earlier trial.

        In one process an interrupted search ends like one that was not interrupted. In several processes that holds for
        samplers that do not look at results, without a pruner, `patience` and `seconds`; otherwise a remark of the study
        says that it does not hold.
        """
        settings = self.settings
        alone = not isinstance(self.store, Database)
        with self._engine(self.store) as engine:
            trials, ended = engine.run(all_at_once=alone)
        remarks = [ended] if ended else []
        looks_at_results = settings.sampler == "bayes" or settings.pruner != "none" or settings.patience
        if not alone and (looks_at_results or settings.seconds):
            remarks.append(
                "with several processes its points, or how far they were trained, depend on which trial ended first: "
                "another search may choose another setting"
            )
        judge = self.judge
        return Study(
            judge.metric,
            self.base,
            engine.points.space,
            tuple(trials),
            judge.n_users,
            judge.how,
            tuple(remarks),
        )

    def remaining(self) -> Remaining[SpecT]:
        """Return what `run` has still to do, and write nothing.

        Trials in a folder count as done; those in a database do not, since to open one is to write to it.
        """
        with TemporaryDirectory() as folder:
            # A store is opened by marking it as that of this search, and by adding what a kill has left out: so a copy is.
            copy = Path(folder) / "trials"
            if isinstance(self.store, Path) and self.store.is_dir():
                shutil.copytree(self.store, copy)
            with self._engine(copy) as engine:
                total = engine.points.count(self.settings.trials)
                n_done = len(engine.store.finished(total))
                attempts = [_try(partial(engine.setting_at, number)) for number in range(n_done, total)]
                together = engine.judges_together(total) and not isinstance(self.store, Database)
                return Remaining(
                    tuple(setting for setting, _ in attempts if setting is not None),
                    together,
                    self.judge.n_fits * engine.settings.trainings,
                    n_done,
                )

    @contextmanager
    def _engine(self, store: Path | Database | None) -> Iterator[_Engine[SpecT]]:
        """Open the trials in a store."""
        from unblur.tuning.store import opened, pruner_of  # optuna is imported when a search runs

        base, settings = self.base, self.settings
        if not base.stochastic:
            settings = replace(settings, trainings=1)
        SpecError.unless(
            self.space,
            f"A search needs at least one hyper-parameter to vary; the space of {base.kind} has none. Use: unblur run.",
        )
        first = point_of(base, self.space) if self.include_base else None
        points = Points(tuple(self.space), settings.sampler, self.seed, first)
        pruner = pruner_of(settings.pruner, FIRST_RUNG if settings.trainings == 1 else 1)
        identity = _identity(base, points, self.judge, settings)
        with opened(store, identity, points, pruner, type(base)) as trial_store:
            yield _Engine(base, points, self.judge, settings, trial_store, self.progress)


def _identity(base: SpecT, points: Points, judge: SettingJudge[SpecT], settings: Search) -> dict[str, Any]:
    """Plain values that must match for a search to be resumed. Its budget is not among them, so that it can be raised."""
    return {
        "schema": 2,
        "model": {"kind": base.kind, **spec_to_dict(base)},
        "space": [dimension.to_dict() for dimension in points.space],
        "metric": judge.metric,
        "sampler": settings.sampler,
        "pruner": settings.pruner,
        "trainings": settings.trainings,
        "seed": points.seed,
        "given": points.first is not None,
        **judge.identity,
    }


@dataclass(frozen=True)
class _Engine(Generic[SpecT]):
    base: SpecT
    points: Points
    judge: SettingJudge[SpecT]
    settings: Search
    store: Store
    progress: Progress

    def run(self, *, all_at_once: bool) -> tuple[list[Trial], str]:
        """Run all trials; return them and, if there are fewer than requested, the reason.

        `all_at_once` allows a shared pass over all trials, for a search in one process.
        """
        total = self.points.count(self.settings.trials)
        if all_at_once:
            self._judge_together(total)
        reason = ""
        while True:
            finished = self.store.finished(total)
            self._report("trials", finished, total)
            if len(finished) == total:
                return finished, ""
            reason = reason or self._stop_reason(finished)
            if reason and not self.store.is_running(total):
                return self.store.finished(total), reason
            if reason or not self.store.try_next(total, self._attempt):
                self._report("trials, waiting for other processes", finished, total)
                time.sleep(POLL_SECONDS)

    def _stop_reason(self, finished: Sequence[Trial]) -> str:
        """The reason to end the search before all trials are run; empty if there is none."""
        seconds, patience = self.settings.seconds, self.settings.patience
        if seconds is not None and sum(trial.seconds for trial in finished) >= seconds:
            return f"the search ended when its trials had taken {seconds:g} seconds"
        if patience is not None and _since_best(finished) >= patience:
            return f"the search ended early: {patience} trials in a row were no better"
        return ""

    def _report(self, stage: str, finished: Sequence[Trial], total: int) -> None:
        values = [trial.value for trial in finished if trial.value is not None]
        best = {f"best {self.judge.metric}": max(values)} if values else {}
        self.progress(ProgressEvent(stage, len(finished), total, best, "trial"))

    def _attempt(self, number: int, point: Point, report: ReportValue) -> Trial:
        """Fit and judge one point."""
        start = time.perf_counter()
        deadline = self._deadline(start)
        validations: dict[str, float] = {}

        def watch(unit: int, value: float) -> bool:
            validations[str(unit)] = value
            # A pruner gets the number of the evaluation, not of the epoch, so that it means the same for every model.
            return report(len(validations), value) or time.perf_counter() >= deadline

        judgement, problem = _try(lambda: self._judgement(self._setting(point), watch))
        return Trial(
            number,
            point,
            judgement.value if judgement else None,
            judgement.epoch if judgement else None,
            time.perf_counter() - start,
            problem,
            validations,
            pruned=judgement is not None and judgement.value is None,
        )

    def setting_at(self, number: int) -> SpecT:
        """The setting of a trial, or the base if its point depends on the results of others."""
        point = self.points.at(number)
        return self.base if point is None else self._setting(point)

    def judges_together(self, total: int) -> bool:
        """Return whether settings share their work, and no trial depends on another's result."""
        settings = self.settings
        one_by_one = settings.sampler == "bayes" or settings.patience is not None
        slow = settings.seconds is not None and total > LARGEST_BLOCK
        return self.judge.shares and not one_by_one and not slow

    def _setting(self, point: Point) -> SpecT:
        return set_point(self.base, self.points.space, point)

    def _deadline(self, start: float) -> float:
        """The time at which a trial that starts now is ended; never without a pruner or without another trial to choose."""
        if self.settings.seconds is None or self.settings.pruner == "none":
            return math.inf
        finished = self.store.finished(self.settings.trials)
        remaining = self.settings.seconds - sum(trial.seconds for trial in finished)
        return start + remaining if any(trial.value is not None for trial in finished) else math.inf

    def _judgement(self, spec: SpecT, watch: Watch) -> Judgement:
        """Judge a setting by one training, or by the mean of several; `watch` then sees the running mean."""
        trainings = self.settings.trainings
        if trainings == 1:
            return self.judge(spec, 0, watch)
        values: list[float] = []
        for training in range(trainings):
            value = self.judge(spec, training, lambda epoch, value: False).value
            assert value is not None  # its watch never ends it
            values.append(value)
            if watch(training + 1, float(np.mean(values))) and training + 1 < trainings:
                return Judgement(None)
        return Judgement(float(np.mean(values)))

    def _judge_together(self, total: int) -> None:
        """Judge all remaining trials in one pass, if they can be (`judges_together`).

        Settings that the spec refuses are kept as failed and take no part in the pass. If the pass fails, no trial is kept:
        the fault can be that of a single setting, and judged one by one only that one fails.
        """
        n_finished = len(self.store.finished(total))
        if not self.judges_together(total) or n_finished == total:
            return
        start = time.perf_counter()
        points = [self.points.at(number) or {} for number in range(n_finished, total)]
        attempts = [_try(partial(self._setting, point)) for point in points]
        specs = [spec for spec, problem in attempts if spec is not None]
        values, _ = _try(lambda: iter(self.judge.together(specs) if specs else ()))
        if values is None:
            return
        seconds_per_trial = (time.perf_counter() - start) / len(points)
        self.store.add(
            [
                Trial(
                    number,
                    point,
                    None if spec is None else next(values),
                    seconds=seconds_per_trial,
                    problem=problem,
                )
                for number, (point, (spec, problem)) in enumerate(
                    zip(points, attempts, strict=True), n_finished
                )
            ]
        )


def _try(work: Callable[[], WorkT]) -> tuple[WorkT | None, str]:
    """Do some work; return its result or, for an error that concerns this setting alone, `None` and the reason."""
    try:
        return work(), ""
    except Exception as error:
        diverged = isinstance(error, UnblurError) and isinstance(error, ArithmeticError)
        full = isinstance(error, MemoryError | RuntimeError) and out_of_memory(error)
        if diverged or full or isinstance(error, SpecError | DataError | np.linalg.LinAlgError):
            return None, str(error) or type(error).__name__
        raise


def _since_best(trials: Sequence[Trial]) -> int:
    """The number of trials after the best one."""
    values = [-math.inf if trial.value is None else trial.value for trial in trials]
    return len(values) - 1 - int(np.argmax(values)) if values else 0
