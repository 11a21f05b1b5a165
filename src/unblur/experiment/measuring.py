"""Fitting a prepared recipe and measuring it, once or with several seeds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unblur.data.interactions import Interactions
from unblur.data.splits.sets import Split
from unblur.document.html import as_html
from unblur.errors import RecipeError
from unblur.evaluation.metrics import exposure
from unblur.evaluation.protocol import Evaluation
from unblur.evaluation.report import Measurement, Provenance, Report, Timings, with_expected
from unblur.evaluation.significance import bootstrap_interval
from unblur.experiment.curves import concentration, filter_response
from unblur.experiment.page import run_page
from unblur.experiment.preparation import Prepared
from unblur.experiment.provenance import machine, peak_rss_mb, trained_on, versions
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.resuming import kept_in
from unblur.experiment.training_log import Epoch, TrainingLog
from unblur.progress import Progress, silent
from unblur.randomness import streams
from unblur.recommender import Recommender
from unblur.saving import models as artifact
from unblur.spec import spec_to_dict
from unblur.tuning.search import first_metric, search

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a recipe."""

    recipe: Recipe
    """As it ran; under the strict protocol with the hyper-parameters that were chosen."""
    report: Report
    model: Recommender
    """Fitted with the first seed."""
    train: Interactions
    """What it was fitted to."""
    evaluations: tuple[Evaluation, ...]
    """One for each seed: the lists and the values of each user."""
    training: tuple[Epoch, ...] = ()
    """The epochs of the first seed's training, where the model is trained."""

    def page(self, trials: pl.DataFrame | None = None) -> str:
        """The run as a page: the report, where recommendations fall, and what the filter does where the model is one."""
        degrees, ranking = self.train.item_degrees, self.evaluations[0].ranking
        order = np.argsort(-degrees, kind="stable")
        recommended = exposure(ranking.positions, len(order), ranking.k)
        document = run_page(
            self.report,
            concentration={
                "train": concentration(degrees, order),
                f"the first {ranking.k} recommended": concentration(recommended, order),
            },
            response=filter_response(self.recipe.model),
            training=self.training,
            trials=trials,
        )
        return as_html(document)

    def save(self, folder: Path) -> None:
        """The model, in `folder`/model."""
        artifact.save(self.model, folder / "model", provenance=trained_on(self.train, self.recipe))


def measure(
    prepared: Prepared,
    *,
    chosen: Any = None,
    seeds: int = 1,
    device: str = "cpu",
    checkpoints: str | Path | None = None,
    notes: Sequence[str] = (),
    spent: Mapping[str, float] | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Fit the recipe's model on the train part and measure it on what is held out, once a seed.

    Under the strict protocol the hyper-parameters are chosen first, unless `chosen` is what a search came to, or
    the model has nothing to search and chooses its epoch by itself. Under the paper's the validation part of the
    split, where it has one, is given to a model that trains until a metric on it stops rising. `spent` are seconds that
    went into `checkpoints` before, by stage.
    """
    if seeds < 1:
        raise RecipeError(f"There must be at least 1 seed; saw {seeds}. Leave it out to run once.")
    recipe, split, notes = prepared.recipe, prepared.split, [*notes, *prepared.notes]
    clock = Clock(prepared.read_seconds, spent)
    if chosen is not None:
        recipe = replace(recipe, model=chosen)
    elif recipe.protocol.kind == "strict" and _only_stops(recipe.model):
        notes.append(
            f"every setting of {recipe.model.kind} costs a training, so its hyper-parameters are the recipe's "
            "(unblur tune searches them), and the epoch alone was chosen, on interactions held out of train"
        )
    elif recipe.protocol.kind == "strict":
        with clock("fit"):
            found = search(
                recipe.model,
                split.train,
                metric=first_metric(recipe),
                rng=streams(recipe.seed, "search")["search"],
                device=device,
                progress=progress,
            )
        recipe = replace(recipe, model=found.spec)
        notes.extend(found.notes())
        notes.append(
            "hyper-parameters were chosen on interactions held out of train; fit_seconds includes the search"
        )
    if seeds > 1 and not getattr(type(recipe.model), "stochastic", False):
        notes.append(f"{recipe.model.kind} is deterministic, so one seed was run in place of {seeds}")
        seeds = 1
    if _guide(recipe, split):
        notes.append("the validation part decided when training stopped, and was left out of the lists")
    used = tuple(range(recipe.seed, recipe.seed + seeds))
    evaluations: list[Evaluation] = []
    models: list[Recommender] = []
    training: tuple[Epoch, ...] = ()
    for seed in used:
        log = TrainingLog(progress)
        with clock("fit"):
            model = fitted(recipe, split, seed, device, checkpoints, log)
        with clock("score"):
            ranking = recipe.protocol.rank(model, split, exclude=split.excluded, progress=progress)
        with clock("evaluate"):
            evaluations.append(recipe.protocol.measure(ranking, split, rng=recipe.seed))
        models, training = models or [model], training or tuple(log.epochs)
    measurements = evaluations[0].measurements
    if seeds > 1:
        measurements = _over_seeds(evaluations, recipe)
        notes.append(
            f"means over {seeds} seeds; intervals are over users; the saved model has seed {used[0]}"
        )
    for evaluation in evaluations:
        notes.extend(evaluation.notes)
    notes.extend(
        f"{name} measured before: {number.value} ({number.source})"
        for name, number in recipe.verified.items()
    )
    report = reported(
        recipe,
        measurements,
        notes=notes,
        fingerprints=prepared.fingerprints,
        seeds=used,
        clock=clock,
        device=device,
    )
    return Outcome(recipe, report, models[0], split.train, tuple(evaluations), training)


def fitted(
    recipe: Recipe,
    split: Split,
    seed: int,
    device: str,
    checkpoints: str | Path | None = None,
    progress: Progress = silent,
) -> Recommender:
    """The recipe's model, fitted with one seed."""
    made: Recommender = recipe.model.fit(
        split.train,
        rng=streams(seed, "fit")["fit"],
        device=device,
        progress=progress,
        **_guide(recipe, split),
        **kept_in(checkpoints, recipe.model, seed),
    )
    return made


def _only_stops(model: Any) -> bool:
    """Whether a spec chooses nothing but when its training ends."""
    return getattr(model, "stopping", None) is not None and not getattr(type(model), "search_space", {})


def _guide(recipe: Recipe, split: Split) -> dict[str, Interactions]:
    """What `fit` is given to stop by: the validation part, where the paper's protocol and the model use it."""
    if recipe.protocol.kind == "strict" or split.validation is None:
        return {}
    stops = getattr(recipe.model, "stopping", None) is not None
    return (
        {"validation": split.validation}
        if stops and "validation" in signature(recipe.model.fit).parameters
        else {}
    )


def reported(
    recipe: Recipe,
    measurements: Sequence[Measurement],
    *,
    notes: Sequence[str],
    fingerprints: Mapping[str, str],
    seeds: tuple[int, ...],
    clock: Clock,
    device: str,
) -> Report:
    """The report of a run: measurements beside the recipe's published numbers, notes once each, timings,
    provenance."""
    return Report(
        recipe=recipe.name,
        protocol=recipe.protocol.kind,
        measurements=with_expected(
            measurements, {name: number.expected() for name, number in recipe.expected.items()}
        ),
        timings=Timings(peak_rss_mb=peak_rss_mb(), **clock.seconds),
        provenance=Provenance(
            spec={"kind": recipe.model.kind, **spec_to_dict(recipe.model)},
            data=fingerprints,
            seeds=seeds,
            versions=versions(),
            machine=machine(device),
        ),
        notes=tuple(dict.fromkeys(notes)),
    )


def _over_seeds(evaluations: Sequence[Evaluation], recipe: Recipe) -> tuple[Measurement, ...]:
    """The mean of each measurement over seeds, and its standard deviation over seeds as one more measurement.

    Intervals are bootstrapped over users, on each user's mean over seeds.
    """
    first = evaluations[0]
    values = np.mean([evaluation.per_user.values for evaluation in evaluations], axis=0)
    ends: Mapping[str, tuple[float, float]] = {}
    if recipe.protocol.resamples and first.per_user.names:
        random = streams(recipe.seed, "bootstrap")["bootstrap"]
        low, high = bootstrap_interval(values, resamples=recipe.protocol.resamples, rng=random)
        ends = dict(zip(first.per_user.names, zip(low.tolist(), high.tolist(), strict=True), strict=True))
    means, deviations = [], []
    for entry in first.measurements:
        seen = [evaluation[entry.name].value for evaluation in evaluations]
        low_end, high_end = ends.get(entry.name, (None, None))
        means.append(replace(entry, value=float(np.mean(seen)), low=low_end, high=high_end))
        deviations.append(
            Measurement(
                name=f"{entry.name} deviation over seeds",
                value=float(np.std(seen, ddof=1)),
                n_users=entry.n_users,
            )
        )
    return (*means, *deviations)


class Clock:
    """Seconds of each stage, added up: ``with clock("fit"): …``."""

    def __init__(self, read_seconds: float = 0.0, spent: Mapping[str, float] | None = None) -> None:
        """`spent` are seconds from before, by stage."""
        self.seconds = {"read_seconds": read_seconds, **(spent or {})}

    def __call__(self, stage: str) -> Clock:
        """The clock itself, set to that stage."""
        self.name = f"{stage}_seconds"
        return self

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *problem: object) -> None:
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + time.perf_counter() - self.start
