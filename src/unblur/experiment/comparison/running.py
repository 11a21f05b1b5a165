"""The comparison itself: every model tuned with the same budget on validation data, then fitted and tested once.

Its folder keeps each model as it ends, and is whole whenever the comparison is killed.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from unblur.data.files import replacing, write_parquet
from unblur.data.vocabulary import Vocabulary
from unblur.errors import ArtifactError, CapabilityError, DataError, RecipeError, UnblurError, some
from unblur.experiment.comparison.entries import Entry, Lineup
from unblur.experiment.comparison.results import Result, costs_of, result_of, with_beside
from unblur.experiment.comparison.summary import Comparison, summarise
from unblur.experiment.measuring import measure
from unblur.experiment.provenance import forget_peak_rss, machine, rss_mb, versions
from unblur.experiment.ranking import PreparedSplit, prepare
from unblur.experiment.recipe.toml import described
from unblur.experiment.searching import metric_of, searched, space_for
from unblur.experiment.training_log import TrainingLog
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.spec import spec_to_dict
from unblur.tuning.results import Study
from unblur.tuning.settings import Search

IDENTITY = "comparison.json"
"""The file that says whose results these are."""


@dataclass(frozen=True)
class Cache:
    """Results of models in a folder."""

    folder: Path

    def open(self, identity: Mapping[str, Any]) -> None:
        """Make the folder, or check that it is that of the same comparison.

        Raises `ArtifactError` for the folder of another comparison, for one that is something else, and for one that
        cannot be written.
        """
        wanted = json.loads(json.dumps(dict(identity)))
        place = self.folder / IDENTITY
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not place.is_file():
                if any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
                    raise ArtifactError(
                        f"A comparison is kept in a new folder or in its own; {self.folder} holds something else. Give "
                        "another path."
                    )
                self._write(IDENTITY, _text(wanted))
            found = json.loads(place.read_text(encoding="utf-8"))
            for name in ("models", "trials"):
                (self.folder / name).mkdir(exist_ok=True)
        except (OSError, ValueError) as problem:
            if isinstance(problem, ArtifactError):
                raise
            raise ArtifactError(
                f"The folder of a comparison must be whole and one that can be written; {self.folder}: {problem}. "
                "Give another path."
            ) from None
        there = found if isinstance(found, dict) else {}
        differing = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
        if differing:
            raise ArtifactError(
                f"Results are kept with those of the same comparison; in {self.folder} these differ: {some(differing)}. "
                "Give the same data, protocol, budget and seeds, or another folder."
            )

    def trials(self, entry: Entry, pruner: str = "none") -> Path:
        """Where the study of a model keeps its trials; those of another pruner are other trials."""
        return self.folder / "trials" / (slug(entry) + ("" if pruner == "none" else f"-{pruner}"))

    def read(self, entry: Entry) -> Result | None:
        """The result of a model; `None` where there is none, or none that is whole."""
        place = self.folder / "models" / f"{slug(entry)}.json"
        try:
            given = json.loads(place.read_text(encoding="utf-8"))
            table = place.with_suffix(".parquet")
            if given.pop("table") != _checksum(table):
                return None
            frame = pl.read_parquet(table)
            values = frame.drop("user").to_numpy().astype(np.float64)
            return Result.from_dict(given, Vocabulary(frame["user"]), values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError):
            return None

    def add(self, entry: Entry, result: Result) -> None:
        """Keep a result, whole or not at all."""
        place = self.folder / "models" / f"{slug(entry)}.json"
        columns = {name: result.values[name] for name in result.values.names}
        frame = pl.DataFrame({"user": result.users.series, **columns})
        try:
            write_parquet(frame, place.with_suffix(".parquet"))
            self._write(
                f"models/{place.name}",
                _text({**result.to_dict(), "table": _checksum(place.with_suffix(".parquet"))}),
            )
        except (OSError, DataError) as problem:
            raise ArtifactError(
                f"A finished model must be written; {place}: {problem}. Make room: the earlier ones are kept."
            ) from None

    def write(self, texts: Mapping[str, str]) -> None:
        """Write text files at the top of the folder, each whole or not at all."""
        for name, text in texts.items():
            self._write(name, text)

    def _write(self, name: str, text: str) -> None:
        try:
            with replacing(self.folder / name) as stream:
                stream.write(text.encode())
        except (OSError, DataError) as problem:
            raise ArtifactError(
                f"The folder of a comparison must be one that can be written; {self.folder / name}: {problem}. Make "
                "room: what is there already is kept."
            ) from None


def slug(entry: Entry) -> str:
    """A file name for a model: its name, and a checksum of its settings."""
    digest = hashlib.sha256(json.dumps([entry.name, entry.to_dict()], sort_keys=True).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', entry.name).strip('.') or 'model'}-{digest[:10]}"


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, allow_nan=False) + "\n"


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


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
