"""The comparison itself: every model tuned with the same budget on validation data, then fitted and tested once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from unblur.data.splits.sets import Split
from unblur.errors import CapabilityError, RecipeError, UnblurError
from unblur.experiment.comparison.cache import Cache
from unblur.experiment.comparison.costs import Costs, forget_peak, held_now_mb
from unblur.experiment.comparison.entries import Entry, Lineup, metric_of
from unblur.experiment.comparison.results import Result, result_of
from unblur.experiment.comparison.searching import (
    Budget,
    fits,
    in_words,
    judged_on,
    searched,
    searched_in_words,
    stopping_in_time,
)
from unblur.experiment.comparison.summary import Comparison, summarise
from unblur.experiment.measuring import measure
from unblur.experiment.provenance import machine, peak_rss_mb, versions
from unblur.experiment.ranking import PreparedSplit, prepare
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.recipe.tables import described
from unblur.experiment.training_log import TrainingLog
from unblur.progress import Progress, ProgressEvent, silent
from unblur.tuning import study
from unblur.tuning.sampling import SAMPLERS, check_sampler

BESIDE = ("coverage", "gini", "mean_popularity")
"""Measured at every cut-off, whatever the protocol says."""


def compare(
    lineup: Lineup,
    *,
    data: str | Path | None = None,
    metric: str | None = None,
    budget: Budget | None = None,
    sampler: Literal["random", "bayes", "exhaustive"] = "random",
    spaces: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    seeds: int = 1,
    device: str = "cpu",
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Tune, fit and measure every model of the line-up on the same data under the same protocol.

    - `metric`: what settings are chosen and models ordered by; the protocol's first when `None`.
    - `budget`: the same for each model, whose first setting is the one it comes with. Settings are judged on validation data alone: the validation part of the split, else
      a tenth of each user's train interactions, the last in time under the strict protocol where there are times.
    - `spaces`: values to try, by kind and path, in place of those that come with the specs.
    - `seeds`: how many seeds a stochastic model is fitted with.
    - `out`: keeps each trial and each model as it ends. The same call, or one with more models, computes only what is
      missing, after a kill at any moment as well. With another budget the trials that are there count, more are added
      where it is larger, and a model is fitted and tested anew where its choice has changed.

    A model that fails is reported in `Comparison.failures`, the others go on. Raises `RecipeError` where all fail or where
    the metric is not computed, and `ArtifactError` where `out` is the folder of another comparison.
    """
    start = time.perf_counter()
    budget = budget or Budget()
    if seeds < 1:
        raise RecipeError(f"There must be at least 1 seed; saw {seeds}. Leave it out to run once.")
    if sampler not in SAMPLERS:
        check_sampler(sampler, ())
    metric = metric_of(lineup.ground, metric)
    prepared = prepare(lineup.ground, data=data, progress=progress)
    judged = judged_on(prepared)
    cache = None if out is None else Cache(Path(out))
    if cache is not None:
        cache.open(_identity(prepared, judged[0], metric, sampler, spaces or {}, seeds))
    results: list[Result] = []
    failures: dict[str, str] = {}
    own_seconds, kept = 0.0, 0
    for place, entry in enumerate(lineup.entries):
        progress(ProgressEvent("models", place, len(lineup.entries)))
        found = None if cache is None else cache.read(entry)
        if found is not None and dict(found.budget) == budget.to_dict():
            results.append(found)
            kept += 1
            continue
        watch = _Watch(progress)
        try:
            result = _compute(
                entry,
                prepared,
                judged,
                metric,
                budget,
                sampler,
                spaces or {},
                seeds,
                device,
                cache,
                found,
                watch,
            )
        except Exception as problem:  # whatever a model does, the others go on
            if problem is watch.raised:
                raise
            failures[entry.name] = _reason(problem)
            continue
        if cache is not None:
            cache.add(entry, result)
        results.append(result)
        own_seconds += _own_seconds(result, found)
    progress(ProgressEvent("models", len(lineup.entries), len(lineup.entries)))
    if not results:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise RecipeError(f"Some model must get through; none did. {reasons}")
    notes = [
        *lineup.notes,
        *prepared.notes,
        f"settings were judged on {judged[1]}" if budget else "nothing was searched",
    ]
    made = summarise(
        results,
        prepared.split,
        metric,
        protocol=prepared.recipe.protocol,
        failures=failures,
        seed=prepared.recipe.seed,
    )
    spent = time.perf_counter() - start
    if kept < len(results):
        notes.append(
            f"this call took {spent:.1f} s, of which the models' own work {own_seconds:.1f} s"
            + (f"; {kept} models were there from before" if kept else "")
        )
    return replace(
        made,
        ground=prepared.recipe.name,
        data=dict(prepared.fingerprints),
        budget=in_words(budget, sampler),
        notes=tuple(dict.fromkeys((*notes, *made.notes))),
        versions=versions(),
        machine=machine(device),
    )


def _compute(
    entry: Entry,
    prepared: PreparedSplit,
    judged: tuple[Split, str],
    metric: str,
    budget: Budget,
    sampler: str,
    spaces: Mapping[str, Mapping[str, Sequence[Any]]],
    seeds: int,
    device: str,
    cache: Cache | None,
    earlier: Result | None,
    watch: _Watch,
) -> Result:
    """One model from search to measurement; `earlier` is what it came to with another budget."""
    recipe = prepared.recipe
    spec = stopping_in_time(entry.model, prepared)
    search: dict[str, Any] = {}
    notes: list[str] = []
    if budget:
        space = searched(spec, judged[0], spaces.get(spec.kind))
        if space:
            found = study(
                spec,
                judged[0],
                space,
                trials=budget.trials or 10**6,
                metric=metric,
                sampler=sampler,
                seed=recipe.seed,
                seconds=budget.seconds or None,
                pruner=budget.pruner,
                judged=judged,
                as_given=fits(spec, space, judged[0]),
                folder=None if cache is None else cache.trials(entry, budget.pruner),
                device=device,
                progress=watch,
            )
            spec, search = found.spec, searched_in_words(found)
            notes.extend(found.notes())
        else:
            notes.append(f"{spec.kind} has no hyper-parameters to search")
    if earlier is not None and earlier.chosen == described(spec):
        return replace(
            earlier,
            search=search,
            budget=budget.to_dict(),
            costs=replace(earlier.costs, search_seconds=float(search.get("seconds", 0.0))),
            notes=tuple(dict.fromkeys((*notes, *earlier.own_notes))),
        )
    metrics = tuple(dict.fromkeys((*recipe.protocol.metrics, *BESIDE)))
    ground = _tested(recipe, entry.name, spec, metrics)
    before, own = held_now_mb(), forget_peak()
    outcome = measure(
        replace(prepared, recipe=ground), chosen=spec, seeds=seeds, device=device, progress=watch
    )
    runs, n_users = len(outcome.evaluations), len(outcome.evaluations[0].ranking.users)
    timings = outcome.report.timings
    costs = Costs(
        fit_seconds=timings.fit_seconds / runs,
        search_seconds=float(search.get("seconds", 0.0)),
        milliseconds_a_user=1000 * timings.score_seconds / runs / n_users,
        peak_mb=peak_rss_mb(),
        before_mb=before,
        peak_is_own=own,
    )
    return result_of(
        entry,
        outcome,
        prepared.split,
        metric,
        costs=costs,
        search=search,
        budget=budget.to_dict(),
        training=watch.epochs,
        notes=notes,
    )


def _tested(recipe: Recipe, name: str, spec: Any, metrics: tuple[str, ...]) -> Recipe:
    """The ground with a model in it, and what is measured; intervals are made for all models together later."""
    protocol = replace(recipe.protocol, metrics=metrics, resamples=0)
    return replace(recipe.without_numbers().with_model(spec).with_protocol(protocol), name=name)


def _identity(
    prepared: PreparedSplit,
    judged: Split,
    metric: str,
    sampler: str,
    spaces: Mapping[str, Mapping[str, Sequence[Any]]],
    seeds: int,
) -> dict[str, Any]:
    """Plain values that two calls must agree in to share results."""
    recipe, split = prepared.recipe, prepared.split
    return {
        "schema": 2,
        "data": dict(prepared.fingerprints),
        "split": recipe.task.facts()["split"],
        "train": split.train.fingerprint(),
        "histories": split.histories.fingerprint(),
        "held_out": split.held_out.fingerprint(),
        "judged_on": judged.held_out.fingerprint(),
        "protocol": described(recipe.protocol),
        "metric": metric,
        "sampler": sampler,
        "spaces": {
            kind: {path: list(values) for path, values in space.items()} for kind, space in spaces.items()
        },
        "seeds": seeds,
        "seed": recipe.seed,
    }


def _own_seconds(result: Result, earlier: Result | None) -> float:
    """What a model itself took in this call."""
    costs, runs = result.costs, len(result.seeds)
    spent = costs.search_seconds - (0.0 if earlier is None else earlier.costs.search_seconds)
    if earlier is not None and result.values is earlier.values:
        return max(0.0, spent)
    each = costs.fit_seconds + costs.milliseconds_a_user / 1000 * len(result.users)
    return max(0.0, spent) + each * runs


def _reason(problem: Exception) -> str:
    text = " ".join(str(problem).split())
    return (
        text
        if isinstance(problem, UnblurError | CapabilityError) and text
        else f"{type(problem).__name__}: {text}"
    )


class _Watch(TrainingLog):
    """A log that remembers what the observer behind it raised."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self.raised: BaseException | None = None

    def __call__(self, event: ProgressEvent, /) -> None:
        try:
            super().__call__(event)
        except BaseException as problem:
            self.raised = problem
            raise
