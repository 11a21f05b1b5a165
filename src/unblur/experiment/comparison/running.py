"""The comparison itself: every model tuned with the same budget on validation data, then fitted and tested once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from unblur.errors import RecipeError, UnblurError
from unblur.evaluation.groups import with_extra_metrics
from unblur.experiment.comparison.folder import Cache
from unblur.experiment.comparison.lineup import Entry, Lineup
from unblur.experiment.comparison.results import Comparison, Result, result_of, summarise
from unblur.experiment.estimate import Workload
from unblur.experiment.provenance import machine, reset_peak_rss, rss_mb
from unblur.experiment.ranking import PreparedSplit, prepare
from unblur.experiment.recipe.toml import all_values, first_values
from unblur.experiment.running import measure
from unblur.experiment.searching import metric_of, search_of, space_for
from unblur.experiment.task import TrainingLog
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.saving.container import versions
from unblur.spec import spec_to_dict
from unblur.tuning.engine import SearchRequest
from unblur.tuning.results import Study
from unblur.tuning.settings import Search


def compare(
    lineup: Lineup,
    *,
    out: str | Path | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Comparison:
    """Tune, fit and measure every model of the line-up on the same data under the same protocol.

    `out` is a folder for each trial and each model as it ends. The same call, or one with more models, computes only what
    is missing, even after a kill. With another budget existing trials count, more are added if it is larger, and a
    model is fitted and tested again if its choice has changed.

    A model that fails is reported in `Comparison.failures`, and the comparison continues. Raises `RecipeError` if all
    models fail or the metric is not computed, and `ArtifactError` if `out` is the folder of another comparison.
    """
    start = time.perf_counter()
    runner = _Runner.of(lineup, Run(device, progress), out)
    prepared, metric, search = runner.prepared, runner.metric, runner.search
    if runner.cache is not None:
        runner.cache.open(runner.identity)
    results: list[Result] = []
    failures: dict[str, str] = {}
    own_seconds, n_reused = 0.0, 0
    for index, entry in enumerate(lineup.entries):
        progress(ProgressEvent("models", index, len(lineup.entries)))
        rows = lineup.rows(entry)
        earlier, is_whole = runner.kept(rows)
        if is_whole:
            results += earlier
            n_reused += len(rows)
            continue
        log = TrainingLog(progress)
        try:
            measured = runner.results(rows, earlier, log)
        except Exception as problem:  # no failure of one model may end the comparison
            if problem is log.raised:  # an observer failed, not the model
                raise
            failures[entry.name] = _reason(problem)
            continue
        if runner.cache is not None:
            for row, result in zip(rows, measured, strict=True):
                runner.cache.add(row, result)
        results += measured
        own_seconds += _own_seconds(measured[0], earlier[0] if earlier else None)
    progress(ProgressEvent("models", len(lineup.entries), len(lineup.entries)))
    if not results:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise RecipeError(f"At least one model must succeed; all failed. {reasons}")
    comparison = summarise(
        results,
        prepared.split,
        metric,
        protocol=prepared.recipe.protocol,
        failures=failures,
        seed=prepared.recipe.seed,
    )
    notes = [*lineup.notes, *prepared.notes]
    alike = [entry.name for entry in lineup.entries if not entry.model.personal]
    if alike and any(selection.diversity < 1 for selection in lineup.selections):
        notes.append(f"{', '.join(alike)}: no similar items, so no lists re-ranked for diversity")
    if search.trials == 1:
        notes.append("nothing was searched")
    notes += [f"settings were judged on {result.search['how']}" for result in results if result.search]
    if n_reused < len(results):
        notes.append(
            f"this call took {time.perf_counter() - start:.1f} s, of which the models took {own_seconds:.1f} s"
            + (f"; {n_reused} models were kept from earlier calls" if n_reused else "")
        )
    return replace(
        comparison,
        ground=prepared.recipe.name,
        data=dict(prepared.fingerprints),
        budget=budget_in_words(search),
        notes=tuple(dict.fromkeys((*notes, *comparison.notes))),
        versions=versions(),
        machine=machine(device),
    )


def workloads(
    lineup: Lineup,
    *,
    out: str | Path | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> tuple[PreparedSplit, list[Workload], dict[str, str]]:
    """Return the data, what `compare` has still to do with each model, and why those that would fail at once do; nothing is written."""
    runner = _Runner.of(lineup, Run(device, progress), out)
    if runner.cache is not None:
        runner.cache.check(runner.identity)
    to_do: list[Workload] = []
    failures = {}
    for entry in lineup.entries:
        try:
            to_do.append(runner.workload(lineup.rows(entry)))
        except UnblurError as problem:
            failures[entry.name] = _reason(problem)
    return runner.prepared, to_do, failures


@dataclass(frozen=True)
class _Runner:
    """Runs one model of a comparison, with the settings that all models share."""

    lineup: Lineup
    prepared: PreparedSplit
    metric: str
    search: Search
    device: str
    cache: Cache | None

    @classmethod
    def of(cls, lineup: Lineup, run: Run, out: str | Path | None) -> Self:
        """Read the data."""
        ground, search = lineup.ground, lineup.search
        if search is None:
            strict = ground.protocol.kind == "strict"
            search = ground.search if strict else replace(ground.search, trials=1)
        metric = metric_of(ground.protocol, search.metric, measured=True)
        prepared = prepare(ground, data=lineup.data, progress=run.progress)
        return cls(lineup, prepared, metric, search, run.device, None if out is None else Cache(Path(out)))

    def kept(self, rows: Sequence[Entry]) -> tuple[list[Result], bool]:
        """The earlier results of a model's rows, and whether they are all of them, with this budget."""
        earlier = [] if self.cache is None else [result for row in rows if (result := self.cache.read(row))]
        budget = budget_of(self.search)
        return earlier, len(earlier) == len(rows) and all(dict(result.budget) == budget for result in earlier)

    def workload(self, rows: Sequence[Entry]) -> Workload:
        """What is to be done with a model."""
        entry = rows[0]
        if self.kept(rows)[1]:
            return Workload(entry.name, entry.model, 0)
        prepared, request = self._prepared(entry, silent)
        n_fits = self.lineup.seeds if prepared.stochastic else 1
        return Workload(entry.name, prepared.task.model, n_fits, request.remaining() if request else None)

    def _prepared(self, entry: Entry, progress: Progress) -> tuple[PreparedSplit, SearchRequest[Any] | None]:
        """The data for a model, and its search, if there is one."""
        prepared = self.prepared.with_model(entry.model)
        space = (
            () if self.search.trials == 1 else space_for(prepared, self.lineup.spaces.get(entry.model.kind))
        )
        if not space:
            return prepared, None
        store = None if self.cache is None else self.cache.trials(entry, self.search.pruner)
        return prepared, search_of(
            prepared, Run(self.device, progress), self.search, space=space, store=store
        )

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values that must match for results to be reused. The search's budget is not among them, so it can be raised."""
        recipe, split = self.prepared.recipe, self.prepared.split
        # `metric` is compared on its own; the others may change: earlier trials count, or a pruner has a folder of its own.
        may_change = ("metric", "trials", "seconds", "pruner")
        settings = spec_to_dict(self.search).items()
        return {
            "schema": 3,
            "data": dict(self.prepared.fingerprints),
            # Without fields that came later, at the value of before: folders that are there stay theirs.
            "split": first_values(self.prepared.task.split),
            "train": split.train.fingerprint(),
            "histories": split.histories.fingerprint(),
            "held_out": split.held_out.fingerprint(),
            "protocol": recipe.task.facts()["protocol"],
            "metric": self.metric,
            "search": {name: value for name, value in settings if name not in may_change},
            "spaces": self.lineup.spaces,
            "seeds": self.lineup.seeds,
            "seed": recipe.seed,
        }

    def results(self, rows: Sequence[Entry], earlier: Sequence[Result], log: TrainingLog) -> list[Result]:
        """Search, fit and measure one model, whose first row has its lists by score, and the others re-ranked ones.

        `earlier` are results of the rows that there are, perhaps with another budget.
        """
        entry = rows[0]
        prepared, request = self._prepared(entry, log)
        search: dict[str, Any] = {}
        notes: tuple[str, ...] = ()
        if request:
            study = request.run()
            prepared = prepared.with_model(study.spec)
            search, notes = search_summary(study), study.notes()
        elif self.search.trials > 1:
            notes = (f"{entry.model.kind} has no hyper-parameters to search",)
        chosen = all_values(prepared.recipe.model)
        tested = [result for result in earlier if result.chosen == chosen]
        if len(tested) < len(rows):
            tested = self._fit_and_test(rows, prepared, log)
        return [
            replace(
                result,
                base=all_values(entry.model),
                search=search,
                budget=budget_of(self.search),
                costs=replace(result.costs, search_seconds=search.get("seconds", 0.0)),
                notes=tuple(dict.fromkeys((*notes, *result.own_notes))),
            )
            for result in tested
        ]

    def _fit_and_test(self, rows: Sequence[Entry], prepared: PreparedSplit, log: TrainingLog) -> list[Result]:
        """Fit the chosen setting of a model once, and measure its lists row by row."""
        ground = prepared.recipe.without_numbers()
        # `summarise` bootstraps the intervals of all models together, so none are computed here.
        protocol = replace(with_extra_metrics(ground.protocol), resamples=0)
        prepared_entry = replace(
            prepared,
            recipe=ground.with_protocol(protocol),
            selections={row.name: row.selection for row in rows[1:]},
        )
        before, is_own_peak = rss_mb(), reset_peak_rss()
        outcome = measure(
            prepared_entry,
            chosen=prepared_entry.recipe.model,
            seeds=self.lineup.seeds,
            device=self.device,
            progress=log,
        )
        return [
            result_of(
                replace(
                    outcome,
                    recipe=replace(outcome.recipe, name=row.name),
                    runs=tuple({arm: arms[arm]} for arms in outcome.runs),
                ),
                prepared.split,
                self.metric,
                before_mb=before,
                peak_is_own=is_own_peak,
            )
            for row, arm in zip(rows, prepared_entry.arms, strict=True)
        ]


def budget_of(search: Search) -> dict[str, int | float | str]:
    """The budget of each model's search, in the form that results keep: 0 for no limit, or no search."""
    pruner = {} if search.pruner == "none" else {"pruner": search.pruner}
    trials = search.trials if search.trials > 1 else 0
    return {"trials": trials, "seconds": float(search.seconds or 0.0), **pruner}


def search_summary(study: Study[Any]) -> dict[str, Any]:
    """A summary of a study as plain values, for a result."""
    return {
        "trials": len(study.trials),
        "failed": len(study.trials) - len(study.ranked),
        "value": study.best.value,
        "seconds": float(sum(trial.seconds for trial in study.trials)),
        "how": study.how,
        "searched": [dimension.name for dimension in study.space],
    }


def budget_in_words(search: Search) -> str:
    """The budget in words, for the report."""
    if search.trials == 1:
        return "settings as given"
    budget = f"{search.trials:,} settings"
    if search.seconds is not None:
        budget += f" or {search.seconds:g} seconds, whichever ends first,"
    pruning = "" if search.pruner == "none" else f", pruner {search.pruner}"
    return f"{budget} for each model, including the one as given; sampler {search.sampler}{pruning}"


def _own_seconds(result: Result, earlier: Result | None) -> float:
    """The time that a model took in this call, without what was kept from earlier calls."""
    costs = result.costs
    seconds = max(0.0, costs.search_seconds - (0.0 if earlier is None else earlier.costs.search_seconds))
    if earlier is None or result.values is not earlier.values:
        seconds_per_seed = costs.fit_seconds + costs.milliseconds_a_user / 1000 * len(result.users)
        seconds += seconds_per_seed * len(result.seeds)
    return seconds


def _reason(problem: Exception) -> str:
    text = " ".join(str(problem).split())
    return text if isinstance(problem, UnblurError) and text else f"{type(problem).__name__}: {text}"
