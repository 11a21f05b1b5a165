"""A study: settings fitted one after the other, judged on validation data, kept on disk as they end.

For models whose every setting costs a training; `unblur.tuning.search` is for those that share their work.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unblur.data.splits import Random
from unblur.data.splits.sets import Split
from unblur.errors import DataError, SpecError, out_of_memory
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import streams
from unblur.run import Run
from unblur.spec import spec_to_dict
from unblur.tuning.journal import OwnTrials, Trial
from unblur.tuning.pruning import Pruner, Verdict, check_pruner, verdict_after
from unblur.tuning.sampling import Sampler, check_sampler, propose_beside, trials_beside
from unblur.tuning.search import check_quality
from unblur.tuning.shared_trials import shares_work, tried_together
from unblur.tuning.space import Dimension, Point, point_of, set_point
from unblur.tuning.storage import SharedTrials

if TYPE_CHECKING:
    import polars as pl


_AT_ONCE = 1000
"""Up to so many settings that share their work are fitted together although the time is limited: they take little."""


@dataclass(frozen=True, eq=False)
class Study:
    """What a study tried and chose."""

    metric: str
    base: Any
    """The spec that the settings were put into."""
    space: tuple[Dimension, ...]
    trials: tuple[Trial, ...]
    n_users: int
    """On how many users each setting was measured."""
    how: str
    """Where the validation data come from."""
    stopped: str = ""
    """Why there are fewer trials than asked for; empty where there are not."""

    @property
    def chosen(self) -> int:
        """The number of the best trial."""
        return self.best.number

    @property
    def best(self) -> Trial:
        """The best trial; of equal ones the first. Raises `SpecError` where every trial failed."""
        good = [trial for trial in self.trials if trial.value is not None]
        if not good:
            reasons = "; ".join(dict.fromkeys(trial.problem for trial in self.trials if trial.problem))
            raise SpecError(
                f"Some setting must be one that can be fitted; none was: {reasons}. Change the space."
            )
        return max(good, key=lambda trial: (trial.value, -trial.number))

    @property
    def spec(self) -> Any:
        """The chosen setting."""
        return set_point(self.base, self.space, self.best.point)

    def to_frame(self) -> pl.DataFrame:
        """One row a trial, the best first: its values, the metric, the best epoch, seconds, whether it was ended early, why
        it failed."""
        import polars as pl

        columns: dict[str, Any] = {"trial": [trial.number for trial in self.trials]}
        for dimension in self.space:
            values = [trial.point[dimension.name] for trial in self.trials]
            plain = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
            columns[dimension.name] = values if plain else [str(value) for value in values]
        columns[self.metric] = [trial.value for trial in self.trials]
        columns["best_epoch"] = [trial.epochs for trial in self.trials]
        columns["seconds"] = [trial.seconds for trial in self.trials]
        columns["pruned"] = [trial.pruned for trial in self.trials]
        columns["problem"] = [trial.problem for trial in self.trials]
        columns["chosen"] = [trial.number == self.chosen for trial in self.trials]
        schema = {self.metric: pl.Float64, "best_epoch": pl.Int64, "problem": pl.String}
        table = pl.DataFrame(columns, schema_overrides=schema, strict=False)
        return table.sort(self.metric, descending=True, nulls_last=True, maintain_order=True)

    def notes(self) -> tuple[str, ...]:
        """What a reader of the chosen setting must know."""
        pruned = sum(trial.pruned for trial in self.trials)
        failed = sum(trial.value is None for trial in self.trials) - pruned
        said = [
            f"{len(self.trials)} settings were fitted and judged by {self.metric} on {self.how} ({self.n_users:,} users)",
            f"the setting with the best {self.metric} was chosen; its test came after",
        ]
        if pruned:
            said.append(
                f"{pruned} of the settings were ended early, since others did better by then or time was over"
            )
        if failed:
            said.append(f"{failed} of the settings could not be fitted")
        return (*said, *([self.stopped] if self.stopped else []))


def study(
    base: Any,
    split: Split,
    space: Sequence[Dimension],
    *,
    trials: int,
    metric: str,
    sampler: str = "random",
    seed: int = 0,
    folder: str | Path | None = None,
    patience: int | None = None,
    seconds: float | None = None,
    judged: tuple[Split, str] | None = None,
    as_given: bool = False,
    pruner: str = "none",
    storage: str | None = None,
    name: str = "",
    device: str = "cpu",
    progress: Progress = silent,
) -> Study:
    """Fit up to `trials` settings of `base` and judge each on validation data; held-out data are not looked at.

    - `split`: its validation part is what settings stop by and are judged on. Where it has none, a tenth of each
      user's train interactions is set aside, as `stopping` of the spec says, the same for all settings.
    - `sampler`: ``exhaustive`` (each point in turn), ``random`` (without repeats), or ``bayes`` (optuna's TPE).
    - `folder`: keeps each trial as it ends. The same call on the same folder, after it was killed at any moment,
      goes on after the last finished trial and comes to the same; with more `trials` it goes on further.
    - `storage`: the URL of a database in place of a folder, such as ``sqlite:///trials.db``: the same call, made by
      several processes at a time, shares the trials among them (`unblur.tuning.storage`). `name` is the study's in it.
    - `pruner`: which trainings are ended early (`unblur.tuning.pruning`): ``none``, ``median`` (those worse than half of
      the earlier ones were by then) or ``halving`` (all but the best third after 4, 12, 36 … evaluations).
    - `patience`: end when so many trials in a row were no better.
    - `seconds`: end when the trials, those of earlier calls and other processes included, took so long; the one under way is finished (with
      a pruner it is ended, once there is another), and so are those that are fitted together.
    - `judged`: what settings are fitted to and judged on, as train and held-out part, and where it comes from in
      words; then `split` is not looked at.
    - `as_given`: the first trial is `base` as it stands, whether or not its values are among those that are tried.

    BSPM settings that follow from no result are fitted together, at about the cost of one (`unblur.models.spectral.shared_pass`).
    A setting that is refused, diverges or does not fit into memory is kept as failed. Raises `SpecError` for a space, sampler or metric
    that cannot be, and `ArtifactError` for a folder of another study.
    """
    check_quality(metric)
    if trials < 1 or not space:
        raise SpecError(
            f"A study needs at least 1 trial and something to search; saw {trials} and {len(space)}."
        )
    kind = check_sampler(sampler, space)
    rule = check_pruner(pruner)
    if seconds is not None and not seconds > 0:
        raise SpecError(
            f"A search needs more than 0 seconds; saw {seconds}. Give more, or leave the limit out."
        )
    if storage is not None and folder is not None:
        raise SpecError("Trials are kept in a folder or in a storage; both were given. Leave one out.")
    given, how = validation_of(base, split, seed) if judged is None else judged
    identity = _identity(base, given, space, metric, kind, seed, as_given, rule)
    kept: OwnTrials | SharedTrials
    if storage is None:
        kept = OwnTrials(None if folder is None else Path(folder), identity)
    else:
        kept = SharedTrials(storage, name or base.kind, identity, space, rule, progress)
    first = point_of(base, space) if as_given else None
    total = trials_beside(first, kind, space, trials)
    stopped = ""
    counted = patience is None and (seconds is None or total <= _AT_ONCE) and storage is None
    done = kept.finished(total)
    if counted and kind != "bayes" and shares_work(base) and len(done) < total:
        points = [propose_beside(first, kind, space, number, seed, ()) for number in range(len(done), total)]
        for trial in tried_together(
            points, len(done), base, space, given, metric, seed=seed, device=device, progress=progress
        ):
            kept.add(trial)
    while True:
        done = kept.finished(total)
        spent = sum(trial.seconds for trial in done)
        if len(done) < total and seconds is not None and spent >= seconds:
            stopped = f"the search ended when its trials had taken {seconds:g} seconds"
        if len(done) < total and patience is not None and _idle(done) >= patience:
            stopped = f"the search ended early: {patience} trials in a row were no better"
        if stopped:
            kept.wait(total)
            done = kept.finished(total)
            break
        progress(ProgressEvent("trials", len(done), total, _best(done, metric)))
        earlier = [(trial.point, trial.reached) for trial in done]
        try:
            claimed = kept.claim(
                total, partial(propose_beside, first, kind, space, seed=seed, finished=earlier)
            )
            if claimed is None:
                done = kept.finished(total)
                break
            verdict = kept.verdict() if isinstance(kept, SharedTrials) else verdict_after(rule, done)
            if rule != "none" and seconds is not None and any(trial.value is not None for trial in done):
                verdict = _until(time.perf_counter() + seconds - spent, verdict)
            number, point = claimed
            kept.add(_tried(number, point, base, space, given, metric, seed, verdict, device, progress))
        finally:  # whatever is not finished by then is free again
            kept.release()
    progress(ProgressEvent("trials", len(done), total, _best(done, metric)))
    users = int((given.held_out.user_degrees > 0).sum())
    return Study(metric, base, tuple(space), tuple(done), users, how, stopped)


def validation_of(base: Any, split: Split, seed: int) -> tuple[Split, str]:
    """Train and what to judge on, as the held-out part of a split without test data; and where it comes from."""
    if split.validation is not None:
        made = Split(split.train, split.train, split.validation, "validation part")
        return made, "the validation part of the split"
    random = streams(seed, "validation")["validation"]
    stopping = getattr(base, "stopping", None)
    if stopping is None:
        made = Random(fraction=0.1).apply(split.train, random)
        return made, "a random tenth of each user's train interactions"
    from unblur.training.stopping import carve

    made = carve(split.train, stopping, random)
    which = "the last in time" if stopping.carve == "last" else "random ones"
    return made, f"{stopping.fraction:.0%} of each user's train interactions, {which}"


def _tried(
    number: int,
    point: Point,
    base: Any,
    space: Sequence[Dimension],
    given: Split,
    metric: str,
    seed: int,
    verdict: Verdict,
    device: str,
    progress: Progress,
) -> Trial:
    from unblur.training.loop import DivergedTraining
    from unblur.training.stopping import Judge

    start = time.perf_counter()
    judge = Judge.of(given, metric)
    try:
        spec = set_point(base, space, point)
        fitted = _fitted(spec, given, seed, verdict, device, progress)
        value = None if fitted.pruned else judge(fitted.model)
    except (SpecError, DataError, DivergedTraining, np.linalg.LinAlgError) as problem:
        return Trial(number, dict(point), None, None, time.perf_counter() - start, str(problem))
    except (MemoryError, RuntimeError) as problem:
        if not out_of_memory(problem):
            raise
        reason = str(problem) or type(problem).__name__
        return Trial(number, dict(point), None, None, time.perf_counter() - start, reason)
    seconds = time.perf_counter() - start
    return Trial(
        number, dict(point), value, fitted.epoch, seconds, "", fitted.validations, pruned=fitted.pruned
    )


@dataclass(frozen=True)
class _Fitted:
    model: Any
    epoch: int | None = None
    """The best one, where there are epochs."""
    validations: Mapping[str, float] = field(default_factory=dict)
    pruned: bool = False


def _until(deadline: float, verdict: Verdict) -> Verdict:
    """The verdict, or an end where time is over."""
    return lambda value: verdict(value) or time.perf_counter() >= deadline


def _fitted(spec: Any, given: Split, seed: int, verdict: Verdict, device: str, progress: Progress) -> _Fitted:
    """The recommender of a setting, its training watched where it has epochs."""
    generator, run_ = streams(seed, "fit")["fit"], Run(device, progress)
    validation = given.held_out if spec.stops and spec.plans() else None
    if not spec.plans():
        return _Fitted(spec.fit_in(run_, given.train, rng=generator))
    run = spec.training(given.train, rng=generator, run=run_, validation=validation)
    validations: dict[str, float] = {}
    pruned = False
    with closing(run.epochs()) as epochs:
        for report in epochs:
            if report.validation is not None:
                validations[str(report.epoch)] = report.validation
                pruned = verdict(report.validation) and not run.ended
            if pruned:
                break
    epoch = None if run.best is None else run.best.epoch
    return _Fitted(None if pruned else run.fitted(), epoch, validations, pruned)


def _identity(
    base: Any,
    given: Split,
    space: Sequence[Dimension],
    metric: str,
    sampler: Sampler,
    seed: int,
    as_given: bool,
    pruner: Pruner,
) -> dict[str, Any]:
    """Plain values that a study must agree in to be gone on with."""
    return {
        "schema": 1,
        "model": {"kind": base.kind, **spec_to_dict(base)},
        "space": [dimension.to_dict() for dimension in space],
        "metric": metric,
        "sampler": sampler,
        "seed": seed,
        "train": given.train.fingerprint(),
        "validation": given.held_out.fingerprint(),
        **({"as_given": True} if as_given else {}),
        **({} if pruner == "none" else {"pruner": pruner}),
    }


def _best(done: Sequence[Trial], metric: str) -> dict[str, float]:
    values = [trial.value for trial in done if trial.value is not None]
    return {f"best {metric}": max(values)} if values else {}


def _idle(done: Sequence[Trial]) -> int:
    """How many trials have passed since the best one."""
    if not done:
        return 0
    values = [-1.0 if trial.value is None else trial.value for trial in done]
    return len(values) - 1 - values.index(max(values))
