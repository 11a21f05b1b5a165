"""The search: points tried one after the other, judged on validation data, the best chosen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
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
"""Takes an epoch and the metric on validation data after it, and says whether to end the training now."""

FIRST_EPOCHS = 4
"""Evaluations of a training before the first halving; fewer say little of where it ends."""
LARGEST_BLOCK = 1000
"""With a limit of time, up to so many settings are judged together if they share their work: that takes little more than
one of them does."""
POLL_SECONDS = 1.0
"""How often a process that waits for others looks again."""


@dataclass(frozen=True)
class Judgement:
    """The result of one training."""

    value: float | None
    """The metric on validation data; `None` if it was ended because the watch said so."""
    epoch: int | None = None
    """The best one, for a model that is trained by epochs."""


class SettingJudge(Protocol[SpecT_contra]):
    """Fits settings and judges them on validation data."""

    @property
    def metric(self) -> str:
        """The metric that values are of, such as ``recall@20``."""

    @property
    def n_users(self) -> int:
        """On how many users settings are judged."""

    @property
    def how(self) -> str:
        """Which validation data, in words for the report."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Plain values of the data and of how is judged that must match for a search to be resumed."""

    @property
    def shares(self) -> bool:
        """Whether many settings cost little more than one, if they are judged together."""

    def __call__(self, spec: SpecT_contra, training: int, watch: Watch) -> Judgement:
        """Fit a setting, with the seed of the training of that number, and judge it.

        Raises `SpecError`, `DataError`, an `UnblurError` that is an `ArithmeticError` (for a loss that is no longer a
        number), `LinAlgError` or an error about memory for a setting that fails; any other error ends the search.
        """

    def together(self, specs: Sequence[SpecT_contra]) -> Sequence[float]:
        """The values of many settings, one for each. Only called if `shares`."""


def search(
    base: SpecT,
    space: Sequence[Dimension],
    judge: SettingJudge[SpecT],
    settings: Search | None = None,
    *,
    seed: int = 0,
    store: Path | Database | None = None,
    given: bool = True,
    progress: Progress = silent,
) -> Study[SpecT]:
    """Try points of a space and choose the best by its mean on validation data; of equals the earlier trial.

    - `seed`: of the points. The same one gives the same points in the same order.
    - `store`: where trials are kept as they end: a folder, or a database that several processes share. The same call
      again, after an interruption at any moment, continues there; one with more trials adds to them.
    - `given`: trial 0 is `base` as it stands, whether or not its values are in the space.

    In one process a search that was interrupted ends like one that was not. In several processes that holds for samplers
    that look at no result, without a pruner, `patience` and `seconds`; otherwise the result says that it does not.

    A setting that is refused, diverges or does not fit into memory is kept as failed. Raises `SpecError` for an empty
    space and for a sampler that cannot end, and `ArtifactError` for a store that cannot be used or is another search's.
    """
    from unblur.tuning.store import opened, pruner_of  # optuna is imported when a search runs

    settings = settings or Search()
    if not base.stochastic:
        settings = replace(settings, trainings=1)
    SpecError.unless(
        space, "A search needs at least one dimension; the space has none. Run the spec as it is."
    )
    points = Points(tuple(space), settings.sampler, seed, point_of(base, space) if given else None)
    pruner = pruner_of(settings.pruner, FIRST_EPOCHS if settings.trainings == 1 else 1)
    with opened(store, _identity(base, points, judge, settings), points, pruner, type(base)) as kept:
        engine = _Engine(base, points, judge, settings, kept, progress)
        alone = not isinstance(store, Database)
        trials, ended = engine.run(together=alone)
    remarks = [ended] if ended else []
    looks_at_results = settings.sampler == "bayes" or settings.pruner != "none" or settings.patience
    if not alone and (looks_at_results or settings.seconds):
        remarks.append("with several processes its points depend on which trial ended first")
    return Study(judge.metric, base, points.space, tuple(trials), judge.n_users, judge.how, tuple(remarks))


def _identity(base: SpecT, points: Points, judge: SettingJudge[SpecT], settings: Search) -> dict[str, Any]:
    """Plain values that must match for a search to be resumed. How long it may take is not among them."""
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

    def run(self, *, together: bool) -> tuple[list[Trial], str]:
        """All trials, and why there are fewer than asked for; `together` if one process makes them all."""
        total = self.points.count(self.settings.trials)
        if together:
            self._judge_together(total)
        ended = ""
        while True:
            done = self.store.finished(total)
            self._report("trials", done, total)
            if len(done) == total:
                return done, ""
            ended = ended or self._ended(done)
            if ended and not self.store.is_waited_for(total):
                return self.store.finished(total), ended
            if ended or not self.store.try_next(total, self._attempt):
                self._report("trials, waiting for other processes", done, total)
                time.sleep(POLL_SECONDS)

    def _ended(self, done: Sequence[Trial]) -> str:
        """Why the search ends before all trials are made; empty if it does not."""
        seconds, patience = self.settings.seconds, self.settings.patience
        if seconds is not None and sum(trial.seconds for trial in done) >= seconds:
            return f"the search ended when its trials had taken {seconds:g} seconds"
        if patience is not None and _since_best(done) >= patience:
            return f"the search ended early: {patience} trials in a row were no better"
        return ""

    def _report(self, stage: str, done: Sequence[Trial], total: int) -> None:
        values = [trial.value for trial in done if trial.value is not None]
        best = {f"best {self.judge.metric}": max(values)} if values else {}
        self.progress(ProgressEvent(stage, len(done), total, best, "trial"))

    def _attempt(self, number: int, point: Point, report: ReportValue) -> Trial:
        """Fit and judge one point."""
        start = time.perf_counter()
        deadline = self._deadline(start)
        validations: dict[str, float] = {}

        def watch(unit: int, value: float) -> bool:
            validations[str(unit)] = value
            # Evaluations are counted, not epochs, so that a pruner means the same for every model.
            return report(len(validations), value) or time.perf_counter() >= deadline

        judged, problem = _tried(lambda: self._judged(self._setting(point), watch))
        return Trial(
            number,
            point,
            judged.value if judged else None,
            judged.epoch if judged else None,
            time.perf_counter() - start,
            problem,
            validations,
            pruned=judged is not None and judged.value is None,
        )

    def _setting(self, point: Point) -> SpecT:
        return set_point(self.base, self.points.space, point)

    def _deadline(self, start: float) -> float:
        """When a trial that starts now is ended: if there is a pruner, and another one to choose."""
        if self.settings.seconds is None or self.settings.pruner == "none":
            return math.inf
        done = self.store.finished(self.settings.trials)
        left = self.settings.seconds - sum(trial.seconds for trial in done)
        return start + left if any(trial.value is not None for trial in done) else math.inf

    def _judged(self, spec: SpecT, watch: Watch) -> Judgement:
        """A setting's value: that of one training, or the mean of several, which are what is watched then."""
        trainings = self.settings.trainings
        if trainings == 1:
            return self.judge(spec, 0, watch)
        values: list[float] = []
        for training in range(trainings):
            value = self.judge(spec, training, lambda epoch, value: False).value
            assert value is not None  # nothing told it to end
            values.append(value)
            if watch(training + 1, float(np.mean(values))) and training + 1 < trainings:
                return Judgement(None)
        return Judgement(float(np.mean(values)))

    def _judge_together(self, total: int) -> None:
        """Make all trials at once, if settings share their work and nothing has to be known between two of them."""
        settings = self.settings
        number = len(self.store.finished(total))
        one_by_one = settings.sampler == "bayes" or settings.patience is not None
        slow = settings.seconds is not None and total > LARGEST_BLOCK
        if not self.judge.shares or one_by_one or slow or number == total:
            return
        start = time.perf_counter()
        points = [self.points.at(place) or {} for place in range(number, total)]
        settled = [_tried(partial(self._setting, point)) for point in points]
        fitting = [spec for spec, problem in settled if spec is not None]
        values, refusal = _tried(lambda: iter(self.judge.together(fitting) if fitting else ()))
        each = (time.perf_counter() - start) / len(points)
        self.store.add(
            [
                Trial(
                    place,
                    point,
                    next(values) if spec is not None and values is not None else None,
                    seconds=each,
                    problem=problem or refusal,
                )
                for place, (point, (spec, problem)) in enumerate(zip(points, settled, strict=True), number)
            ]
        )


def _tried(work: Callable[[], WorkT]) -> tuple[WorkT | None, str]:
    """What some work returns or, if it fails in a way that speaks of one setting, why."""
    try:
        return work(), ""
    except Exception as error:
        diverged = isinstance(error, UnblurError) and isinstance(error, ArithmeticError)
        full = isinstance(error, MemoryError | RuntimeError) and out_of_memory(error)
        if diverged or full or isinstance(error, SpecError | DataError | np.linalg.LinAlgError):
            return None, str(error) or type(error).__name__
        raise


def _since_best(trials: Sequence[Trial]) -> int:
    """How many trials came after the best one."""
    values = [-math.inf if trial.value is None else trial.value for trial in trials]
    return len(values) - 1 - int(np.argmax(values)) if values else 0
