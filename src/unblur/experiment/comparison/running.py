"""The comparison itself: every model tuned with the same budget on validation data, then fitted and tested once.

Models are named by recipe or by kind, and meet on the data and under the protocol of one recipe. The folder of a
comparison keeps each model as it ends, and is whole whenever the comparison is killed.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl

from unblur.data.files import replacing, write_parquet
from unblur.data.splits import Files
from unblur.data.vocabulary import Vocabulary
from unblur.errors import ArtifactError, RecipeError, UnblurError, nearest, some
from unblur.experiment.comparison.results import Comparison, Result, result_of, summarise, with_beside
from unblur.experiment.provenance import machine, reset_peak_rss, rss_mb, versions
from unblur.experiment.ranking import PreparedSplit, RankingTask, prepare, ranking_task
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.parts import Protocol
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.recipe.toml import described
from unblur.experiment.running import measure
from unblur.experiment.searching import metric_of, searched, space_for
from unblur.experiment.task import TrainingLog
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.recommender import RecommenderSpec
from unblur.registry import RECOMMENDERS, recommender_spec
from unblur.spec import spec_to_dict
from unblur.tuning.results import Study
from unblur.tuning.settings import Search

VARIANTS = {"gf-cf": ("bspm", {"sharpen": None})}
"""Models that are another kind with some of it left out."""
OWN_PROTOCOL = Protocol(cutoffs=(10, 20), metrics=("recall", "ndcg"))
"""What is measured where no recipe says it."""
IDENTITY = "comparison.json"
"""The file of a folder that says whose results these are."""

# ----------------------------------------------------------------------------------------------- what takes part


@dataclass(frozen=True)
class Entry:
    """A model that takes part."""

    name: str
    """What tables call it: the recipe's name, or the kind."""
    model: RecommenderSpec
    """The spec to begin with."""


@dataclass(frozen=True)
class Lineup:
    """Models, and the recipe whose data, split and protocol serve all of them."""

    ground: Recipe
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()


def line_up(
    words: Sequence[str],
    *,
    recipe: str | None = None,
    own_data: bool = False,
    protocol: Literal["paper", "strict"] | None = None,
    settings: dict[str, Any] | None = None,
) -> Lineup:
    """The models that `words` name: recipes (shipped or files) and kinds, each once.

    Data, split and protocol are those of `recipe`, else of the first recipe among the words; the data may be the
    caller's own. `settings` (dotted paths, see `Recipe.changed`) change that ground, not the models. Raises
    `RecipeError` for a word that is neither, for one given twice, for too few models, and, where no `recipe` is
    named, for recipes of different data.
    """
    found = [_read(word) for word in words]
    named = [entry for entry in found if isinstance(entry, Recipe)]
    if recipe is not None:
        ground = load_recipe(recipe)
    elif named:
        ground = named[0]
        if not own_data:
            _check_alike(ground, named)
    elif own_data:
        unused = recommender_spec("popularity")()
        ground = Recipe(name="comparison", task=RankingTask(model=unused, protocol=OWN_PROTOCOL))
    else:
        raise RecipeError(
            "Models are compared on data; none are named. Give --data PATH, --recipe RECIPE, or a recipe as a model."
        )
    for path in settings or {}:
        RecipeError.unless(
            path.partition(".")[0] != "model",
            f"Settings change data, split and protocol of a comparison; saw {path}. Write a recipe file for a "
            "model with other settings.",
        )
    ground = ground.changed(settings or {}).without_numbers()
    if protocol is not None:
        ground = ground.with_protocol(replace(ground.protocol, kind=protocol))
    entries = tuple(
        Entry(entry.name, _task(entry).model) if isinstance(entry, Recipe) else entry for entry in found
    )
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    RecipeError.unless(
        entries and not twice,
        f"There must be at least one model, and each must be named once; twice: {', '.join(twice) or 'none'}.",
    )
    on = (ground.data, _task(ground).split)
    foreign = [one.name for one in named if (one.data, _task(one).split) != on]
    taken = f"only the settings were taken of {', '.join(foreign)}; data and split are those of {ground.name}"
    return Lineup(ground, entries, (taken,) if foreign and not own_data else ())


def _read(word: str) -> Recipe | Entry:
    if word in RECOMMENDERS or word in VARIANTS:
        kind, values = VARIANTS.get(word, (word, {}))
        return Entry(word, recommender_spec(kind)(**values))
    if word in shipped() or word.endswith(".toml") or Path(word).is_file():
        return load_recipe(word)
    known = (*RECOMMENDERS, *VARIANTS, *shipped())
    raise RecipeError(
        f"A model must be a recipe or one of the kinds {', '.join((*RECOMMENDERS, *VARIANTS))}; saw {word!r}.{nearest(word, known)}"
    )


def _task(recipe: Recipe) -> RankingTask:
    return ranking_task(recipe, "Comparisons are of recommenders.")


def _check_alike(ground: Recipe, named: Sequence[Recipe]) -> None:
    """Raise where recipes are not of the same data."""
    for other in named:
        alike = (other.data.name, other.data.k_core) == (ground.data.name, ground.data.k_core)
        given = isinstance(_task(other).split, Files) and isinstance(_task(ground).split, Files)
        RecipeError.unless(
            alike and (given or _task(other).split == _task(ground).split),
            f"Models are compared on the same data and items; {other.name} is of other data or another split than "
            f"{ground.name}. Say whose data all are to use: --recipe {ground.name}.",
        )


# ----------------------------------------------------------------------------------------------- the folder


@dataclass(frozen=True)
class Cache:
    """Results of models in a folder."""

    folder: Path

    def open(self, identity: Mapping[str, Any]) -> None:
        """Make the folder, or check that it is that of the same comparison.

        Raises `ArtifactError` for the folder of another comparison, for one that is something else, and for one that
        cannot be written.
        """
        wanted = json.loads(json.dumps(identity))
        place = self.folder / IDENTITY
        with _kept_at(place):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not place.is_file():
                ArtifactError.unless(
                    all(entry.name.startswith(".") for entry in self.folder.iterdir()),
                    f"A comparison is kept in a new folder or in its own; {self.folder} holds something else. Give "
                    "another path.",
                )
                self.write({IDENTITY: _text(wanted)})
            found = json.loads(place.read_text(encoding="utf-8"))
            for name in ("models", "trials"):
                (self.folder / name).mkdir(exist_ok=True)
        there = found if isinstance(found, dict) else {}
        differing = [name for name in {**there, **wanted} if there.get(name) != wanted.get(name)]
        ArtifactError.unless(
            not differing,
            f"Results are kept with those of the same comparison; in {self.folder} these differ: {some(differing)}. "
            "Give the same data, protocol, budget and seeds, or another folder.",
        )

    def trials(self, entry: Entry, pruner: str = "none") -> Path:
        """Where the study of a model keeps its trials; those of another pruner are other trials."""
        return self.folder / "trials" / (slug(entry) + ("" if pruner == "none" else f"-{pruner}"))

    def read(self, entry: Entry) -> Result | None:
        """The result of a model; `None` where there is none, or none that is whole."""
        place = self.folder / "models" / f"{slug(entry)}.json"
        table = place.with_suffix(".parquet")
        try:
            given = json.loads(place.read_text(encoding="utf-8"))
            if given["table"] != _checksum(table):
                return None
            frame = pl.read_parquet(table)
            return Result.from_dict(
                given, Vocabulary(frame["user"]), frame.drop("user").to_numpy().astype(np.float64)
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, pl.exceptions.PolarsError):
            return None

    def add(self, entry: Entry, result: Result) -> None:
        """Keep a result, whole or not at all."""
        table = self.folder / "models" / f"{slug(entry)}.parquet"
        columns = {name: result.values[name] for name in result.values.names}
        with _kept_at(table):
            write_parquet(pl.DataFrame({"user": result.users.series, **columns}), table)
        self.write({f"models/{slug(entry)}.json": _text({**result.to_dict(), "table": _checksum(table)})})

    def write(self, texts: Mapping[str, str]) -> None:
        """Write text files at the top of the folder, each whole or not at all."""
        for name, text in texts.items():
            with _kept_at(self.folder / name), replacing(self.folder / name) as stream:
                stream.write(text.encode())


@contextmanager
def _kept_at(place: Path) -> Iterator[None]:
    """Raise `ArtifactError` where what is inside cannot read or write a file of a comparison."""
    try:
        yield
    except (OSError, ValueError) as problem:
        raise ArtifactError(
            f"The folder of a comparison must be whole and one that can be written; {place}: {problem}. Make room, or "
            "give another path: what is there already is kept."
        ) from None


def slug(entry: Entry) -> str:
    """A file name for a model: its name, and a checksum of its settings."""
    settings = json.dumps([entry.name, described(entry.model)], sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', entry.name).strip('.') or 'model'}-{digest[:10]}"


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, allow_nan=False) + "\n"


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# ---------------------------------------------------------------------------------------------- the comparison

Spaces: TypeAlias = Mapping[str, Mapping[str, Sequence[Any]]]
"""Values to try, by kind and path."""


def compare(
    lineup: Lineup,
    *,
    data: str | Path | None = None,
    search: Search | None = None,
    spaces: Spaces | None = None,
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
    RecipeError.unless(seeds >= 1, f"There must be at least 1 seed; saw {seeds}. Leave it out to run once.")
    ground, spaces = lineup.ground, spaces or {}
    if search is None:
        strict = ground.protocol.kind == "strict"
        search = ground.search if strict else replace(ground.search, trials=1)
    metric = metric_of(ground.protocol, search.metric, measured=True)
    prepared = prepare(ground, data=data, progress=progress)
    cache = None if out is None else Cache(Path(out))
    if cache is not None:
        cache.open(_identity(prepared, metric, search, spaces, seeds))
    comparing = _Comparing(prepared, metric, search, spaces, seeds, device, cache)
    results: list[Result] = []
    failures: dict[str, str] = {}
    own_seconds, kept = 0.0, 0
    for place, entry in enumerate(lineup.entries):
        progress(ProgressEvent("models", place, len(lineup.entries)))
        earlier = None if cache is None else cache.read(entry)
        if earlier is not None and dict(earlier.budget) == budget_of(search):
            results.append(earlier)
            kept += 1
            continue
        log = TrainingLog(progress)
        try:
            result = comparing.result(entry, earlier, log)
        except Exception as problem:  # whatever a model does, the others go on
            if problem is log.raised:
                raise
            failures[entry.name] = _reason(problem)
            continue
        if cache is not None:
            cache.add(entry, result)
        results.append(result)
        own_seconds += _own_seconds(result, earlier)
    progress(ProgressEvent("models", len(lineup.entries), len(lineup.entries)))
    if not results:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        raise RecipeError(f"Some model must get through; none did. {reasons}")
    found = summarise(
        results,
        prepared.split,
        metric,
        protocol=prepared.recipe.protocol,
        failures=failures,
        seed=prepared.recipe.seed,
    )
    notes = [*lineup.notes, *prepared.notes]
    if search.trials == 1:
        notes.append("nothing was searched")
    notes += [f"settings were judged on {result.search['how']}" for result in results if result.search]
    if kept < len(results):
        notes.append(
            f"this call took {time.perf_counter() - start:.1f} s, of which the models' own work {own_seconds:.1f} s"
            + (f"; {kept} models were there from before" if kept else "")
        )
    return replace(
        found,
        ground=prepared.recipe.name,
        data=dict(prepared.fingerprints),
        budget=in_words(search),
        notes=tuple(dict.fromkeys((*notes, *found.notes))),
        versions=versions(),
        machine=machine(device),
    )


@dataclass(frozen=True)
class _Comparing:
    """What all models of a comparison share."""

    prepared: PreparedSplit
    metric: str
    search: Search
    spaces: Spaces
    seeds: int
    device: str
    cache: Cache | None

    def result(self, entry: Entry, earlier: Result | None, log: TrainingLog) -> Result:
        """One model from search to measurement; `earlier` is its result with another budget."""
        prepared, kind = self.prepared.with_model(entry.model), entry.model.kind
        space = () if self.search.trials == 1 else space_for(prepared, self.spaces.get(kind))
        search: dict[str, Any] = {}
        notes: tuple[str, ...] = ()
        if space:
            store = None if self.cache is None else self.cache.trials(entry, self.search.pruner)
            study = searched(prepared, Run(self.device, log), self.search, space=space, store=store)
            prepared = prepared.with_model(study.spec)
            search, notes = searched_in_words(study), study.notes()
        elif self.search.trials > 1:
            notes = (f"{kind} has no hyper-parameters to search",)
        tested = earlier
        if tested is None or tested.chosen != described(prepared.recipe.model):
            tested = self._tested(entry, prepared, log)
        return replace(
            tested,
            base=described(entry.model),
            search=search,
            budget=budget_of(self.search),
            costs=replace(tested.costs, search_seconds=search.get("seconds", 0.0)),
            notes=tuple(dict.fromkeys((*notes, *tested.own_notes))),
        )

    def _tested(self, entry: Entry, prepared: PreparedSplit, log: TrainingLog) -> Result:
        """Fit the chosen setting and measure it."""
        ground = prepared.recipe.without_numbers()
        # Intervals are made for all models together later.
        protocol = replace(with_beside(ground.protocol), resamples=0)
        ready = replace(prepared, recipe=replace(ground.with_protocol(protocol), name=entry.name))
        before, own = rss_mb(), reset_peak_rss()
        outcome = measure(
            ready, chosen=ready.recipe.model, seeds=self.seeds, device=self.device, progress=log
        )
        result = result_of(outcome, prepared.split, self.metric, before_mb=before, peak_is_own=own)
        return replace(result, training=tuple(log.epochs))


def _identity(
    prepared: PreparedSplit, metric: str, search: Search, spaces: Spaces, seeds: int
) -> dict[str, Any]:
    """Plain values that two calls must agree in to share results. What a search may cost is not among them."""
    recipe, split, facts = prepared.recipe, prepared.split, prepared.recipe.task.facts()
    cost = ("metric", "trials", "seconds", "pruner")
    return {
        "schema": 3,
        "data": dict(prepared.fingerprints),
        "split": facts["split"],
        "train": split.train.fingerprint(),
        "histories": split.histories.fingerprint(),
        "held_out": split.held_out.fingerprint(),
        "protocol": facts["protocol"],
        "metric": metric,
        "search": {name: value for name, value in spec_to_dict(search).items() if name not in cost},
        "spaces": {
            kind: {path: list(values) for path, values in space.items()} for kind, space in spaces.items()
        },
        "seeds": seeds,
        "seed": recipe.seed,
    }


def budget_of(search: Search) -> dict[str, int | float | str]:
    """What the search of each model may cost, as results keep it: 0 where there is no limit, or no search."""
    pruner = {} if search.pruner == "none" else {"pruner": search.pruner}
    trials = search.trials if search.trials > 1 else 0
    return {"trials": trials, "seconds": float(search.seconds or 0.0), **pruner}


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
    costs = result.costs
    seconds = max(0.0, costs.search_seconds - (0.0 if earlier is None else earlier.costs.search_seconds))
    if earlier is None or result.values is not earlier.values:
        each = costs.fit_seconds + costs.milliseconds_a_user / 1000 * len(result.users)
        seconds += each * len(result.seeds)
    return seconds


def _reason(problem: Exception) -> str:
    text = " ".join(str(problem).split())
    return text if isinstance(problem, UnblurError) and text else f"{type(problem).__name__}: {text}"
