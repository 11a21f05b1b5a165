"""The comparison itself: every model tuned with the same budget on validation data, then fitted and tested once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unblur.errors import CapabilityError, RecipeError, UnblurError
from unblur.experiment.comparison.cache import Cache
from unblur.experiment.comparison.entries import Entry, Lineup
from unblur.experiment.comparison.results import Result, costs_of, result_of, with_beside
from unblur.experiment.comparison.summary import Comparison, summarise
from unblur.experiment.judging import metric_of
from unblur.experiment.measuring import measure
from unblur.experiment.provenance import forget_peak_rss, machine, rss_mb, versions
from unblur.experiment.ranking import PreparedSplit, prepare
from unblur.experiment.recipe.tables import described
from unblur.experiment.searching import searched, space_for
from unblur.experiment.training_log import TrainingLog
from unblur.progress import Progress, ProgressEvent, silent
from unblur.run import Run
from unblur.spec import spec_to_dict
from unblur.tuning.results import Study
from unblur.tuning.settings import Search

Spaces = Mapping[str, Mapping[str, Sequence[Any]]]


def compare(
    lineup: Lineup,
    *,
    data: str | Path | None = None,
    search: Search | None = None,
    spaces: Mapping[str, Mapping[str, Sequence[Any]]] | None = None,
    seeds: int = 1,
    device: str = "cpu",
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Tune, fit and measure every model of the line-up on the same data under the same protocol.

    - `search`: how settings are chosen, the same for each model, whose first setting is the one it comes with; by its
      metric models are ordered as well. Left out, the protocol decides: under the strict one the ground's section
      ``search``, under the paper's nothing is searched. One trial is the setting as given.
    - `spaces`: values to try, by kind and path, in place of those that come with the specs.
    - `seeds`: how many seeds a stochastic model is fitted with.
    - `out`: keeps each trial and each model as it ends. The same call, or one with more models, computes only what is
      missing, after a kill at any moment as well. With another budget the trials that are there count, more are added
      where it is larger, and a model is fitted and tested anew where its choice has changed.

    A model that fails is reported in `Comparison.failures`, the others go on. Raises `RecipeError` where all fail or where
    the metric is not computed, and `ArtifactError` where `out` is the folder of another comparison.
    """
    start = time.perf_counter()
    if seeds < 1:
        raise RecipeError(f"There must be at least 1 seed; saw {seeds}. Leave it out to run once.")
    ground = lineup.ground
    if search is None:
        asks = ground.protocol.kind == "strict"
        search = ground.search if asks else replace(ground.search, trials=1)
    metric = metric_of(ground.protocol, search.metric, measured=True)
    prepared = prepare(ground, data=data, progress=progress)
    cache = None if out is None else Cache(Path(out))
    if cache is not None:
        cache.open(_identity(prepared, metric, search, spaces or {}, seeds))
    comparing = _Comparing(prepared, metric, search, spaces or {}, seeds, device, cache)
    results: list[Result] = []
    failures: dict[str, str] = {}
    own_seconds, kept = 0.0, 0
    for place, entry in enumerate(lineup.entries):
        progress(ProgressEvent("models", place, len(lineup.entries)))
        found = None if cache is None else cache.read(entry)
        if found is not None and dict(found.budget) == comparing.budget:
            results.append(found)
            kept += 1
            continue
        watch = _Watch(progress)
        try:
            result = comparing.result(entry, found, watch)
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
    said = comparing.how if comparing.searches else "nothing was searched"
    notes = [*lineup.notes, *prepared.notes, *([said] if said else [])]
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
        budget=in_words(search),
        notes=tuple(dict.fromkeys((*notes, *made.notes))),
        versions=versions(),
        machine=machine(device),
    )


class _Comparing:
    """What all models of a comparison share."""

    def __init__(
        self,
        prepared: PreparedSplit,
        metric: str,
        search: Search,
        spaces: Spaces,
        seeds: int,
        device: str,
        cache: Cache | None,
    ) -> None:
        self.prepared, self.metric, self.search, self.spaces = prepared, metric, search, spaces
        self.seeds, self.device, self.cache = seeds, device, cache
        self.searches = search.trials > 1
        self.budget = budget_of(search)
        self.how = ""
        """Which validation data settings were judged on, once one was."""

    def result(self, entry: Entry, earlier: Result | None, watch: _Watch) -> Result:
        """One model from search to measurement; `earlier` is its result with another budget."""
        prepared = self.prepared.with_model(entry.model)
        found, notes = self._searched(entry, prepared, watch)
        search: dict[str, Any] = {}
        if found is not None:
            prepared, search = prepared.with_model(found.spec), searched_in_words(found)
        seconds = float(search.get("seconds", 0.0))
        if earlier is not None and earlier.chosen == described(prepared.recipe.model):
            return replace(
                earlier,
                search=search,
                budget=self.budget,
                costs=replace(earlier.costs, search_seconds=seconds),
                notes=tuple(dict.fromkeys((*notes, *earlier.own_notes))),
            )
        ground = prepared.recipe.without_numbers()
        # Intervals are made for all models together later.
        protocol = replace(with_beside(ground.protocol), resamples=0)
        tested = replace(prepared, recipe=replace(ground.with_protocol(protocol), name=entry.name))
        before, own = rss_mb(), forget_peak_rss()
        outcome = measure(
            tested, chosen=tested.recipe.model, seeds=self.seeds, device=self.device, progress=watch
        )
        costs = costs_of(outcome, before_mb=before, peak_is_own=own)
        made = result_of(outcome, prepared.split, self.metric, replace(costs, search_seconds=seconds))
        return replace(
            made,
            base=entry.to_dict(),
            search=search,
            budget=self.budget,
            training=tuple(watch.epochs),
            notes=tuple(dict.fromkeys((*notes, *made.notes))),
        )

    def _searched(
        self, entry: Entry, prepared: PreparedSplit, watch: _Watch
    ) -> tuple[Study[Any] | None, tuple[str, ...]]:
        """The study of a model, if there is anything to choose, and notes on it."""
        if not self.searches:
            return None, ()
        kind = entry.model.kind
        space = space_for(prepared, self.spaces.get(kind))
        if not space:
            return None, (f"{kind} has no hyper-parameters to search",)
        found = searched(
            prepared,
            Run(self.device, watch),
            self.search,
            space=space,
            store=None if self.cache is None else self.cache.trials(entry, self.search.pruner),
        )
        self.how = f"settings were judged on {found.how}"
        return found, found.notes()


def _identity(
    prepared: PreparedSplit, metric: str, search: Search, spaces: Spaces, seeds: int
) -> dict[str, Any]:
    """Plain values that two calls must agree in to share results. What a search may cost is not among them."""
    recipe, split = prepared.recipe, prepared.split
    how = spec_to_dict(search)
    for name in ("metric", "trials", "seconds", "pruner"):
        del how[name]
    return {
        "schema": 3,
        "data": dict(prepared.fingerprints),
        "split": recipe.task.facts()["split"],
        "train": split.train.fingerprint(),
        "histories": split.histories.fingerprint(),
        "held_out": split.held_out.fingerprint(),
        "protocol": described(recipe.protocol),
        "metric": metric,
        "search": how,
        "spaces": {
            kind: {path: list(values) for path, values in space.items()} for kind, space in spaces.items()
        },
        "seeds": seeds,
        "seed": recipe.seed,
    }


def budget_of(search: Search) -> dict[str, float | str]:
    """What the search of each model may cost, as results keep it: 0 where there is no limit, or no search."""
    trials = search.trials if search.trials > 1 else 0
    budget: dict[str, float | str] = {"trials": trials, "seconds": float(search.seconds or 0.0)}
    return budget if search.pruner == "none" else {**budget, "pruner": search.pruner}


def searched_in_words(found: Study[Any]) -> dict[str, Any]:
    """A study as plain values, for a result."""
    return {
        "trials": len(found.trials),
        "failed": len(found.trials) - len(found.ranked),
        "value": found.best.value,
        "seconds": float(sum(trial.seconds for trial in found.trials)),
        "how": found.how,
        "searched": [dimension.name for dimension in found.space],
    }


def in_words(search: Search) -> str:
    """A budget for a person."""
    if search.trials == 1:
        return "settings as given"
    much = f"{search.trials:,} settings"
    if search.seconds is not None:
        much += f" or {search.seconds:g} seconds, whichever ends first,"
    ended = "" if search.pruner == "none" else f", pruner {search.pruner}"
    return f"{much} for each model, the first of them the model as given; sampler {search.sampler}{ended}"


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
