"""The comparison itself: every model tuned with the same budget on validation data, then fitted and tested once.

Models are named by recipe or by kind, and meet on the data and under the protocol of one recipe. The folder of a
comparison keeps each model as it ends, and is whole whenever the comparison is killed.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import polars as pl

from unblur.data.formats.opening import is_file, open_regular
from unblur.data.output import replacing, sealed, sha256_of, system_errors, unsealed, write_parquet
from unblur.data.splits import Files
from unblur.data.vocabulary import Vocabulary
from unblur.errors import ArtifactError, RecipeError, UnblurError, nearest, some
from unblur.evaluation.groups import with_extra_metrics
from unblur.experiment.comparison.results import Comparison, Result, result_of, summarise
from unblur.experiment.estimate import Workload
from unblur.experiment.provenance import machine, reset_peak_rss, rss_mb
from unblur.experiment.ranking import PreparedSplit, RankingTask, prepare, ranking_task
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.parts import Protocol
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.recipe.toml import all_values, first_values
from unblur.experiment.running import measure
from unblur.experiment.searching import metric_of, search_of, space_for
from unblur.experiment.task import TrainingLog
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.ranking import BY_SCORE, Selection
from unblur.recommender import RecommenderSpec
from unblur.registry import RECOMMENDERS, recommender_spec
from unblur.saving.container import versions
from unblur.spec import migrated, path_today, spec_from_dict, spec_to_dict
from unblur.tuning.engine import SearchRequest
from unblur.tuning.results import Study
from unblur.tuning.settings import Search

VARIANTS = {"gf-cf": ("bspm", {"sharpen": None, "low_pass": {"rank": 256, "weight": 0.3}})}
"""Models that are another kind without some of its parts, at their own paper's values."""
OWN_PROTOCOL = Protocol(cutoffs=(10, 20), metrics=("recall", "ndcg"))
"""The protocol for the caller's own data if no recipe gives one: recall and NDCG, as in the papers of the shipped recipes."""
IDENTITY = "comparison.json"
"""The file of a folder that identifies the comparison."""
IN_WORDS = {
    "train": "training data",
    "held_out": "held-out items",
    "spaces": "search spaces",
    "search": "search settings",
}
"""Names in that file, in the words of messages."""

Spaces: TypeAlias = Mapping[str, Mapping[str, Sequence[Any]]]
"""Values to try, by kind of model and dotted path."""

# ----------------------------------------------------------------------------------------------- what takes part


@dataclass(frozen=True)
class Entry:
    """A model of a comparison."""

    name: str
    """Its name in tables: that of the recipe, or the kind."""
    model: RecommenderSpec
    """The spec before a search."""
    selection: Selection = BY_SCORE
    """The re-ranking of its lists."""


@dataclass(frozen=True)
class Lineup:
    """The models of a comparison, and what they share: the recipe whose data, split and protocol are used, and the search."""

    ground: Recipe
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()
    selections: tuple[Selection, ...] = ()
    """Re-rankings of the lists of each model, which are rows of the comparison as well."""
    data: str | Path | None = None
    """The caller's own data, in place of the recipe's."""
    search: Search | None = None
    """The search for settings, the same for each model; trial 0 of each is its setting as given. Its metric also orders the
    models. By default the protocol decides: under the strict one the recipe's section ``search`` is used, under the paper's
    nothing is searched. A search of one trial keeps settings as given."""
    spaces: Spaces = field(default_factory=dict)
    """Values to try, by kind and path, in place of the specs' own."""
    seeds: int = 1
    """The number of seeds that a stochastic model is fitted with."""

    def rows(self, entry: Entry) -> tuple[Entry, ...]:
        """A model, and the same model with its lists re-ranked; without similar items there is no diversity."""
        re_ranked = [
            replace(entry, name=f"{entry.name}, {_in_words(selection)}", selection=selection)
            for selection in self.selections
            if selection.diversity == 1 or entry.model.personal
        ]
        return (entry, *re_ranked)


def _in_words(selection: Selection) -> str:
    """What a re-ranking differs in, such as ``diversity 0.9``."""
    values, defaults = spec_to_dict(selection), spec_to_dict(BY_SCORE)
    return ", ".join(f"{name} {value}" for name, value in values.items() if value != defaults[name])


def line_up(
    words: Sequence[str],
    *,
    recipe: str | None = None,
    data: str | Path | None = None,
    protocol: Literal["paper", "strict"] | None = None,
    settings: Mapping[str, Any] | None = None,
    search: Search | None = None,
    spaces: Spaces | None = None,
    seeds: int = 1,
) -> Lineup:
    """The line-up of the models that `words` name: recipes (shipped or files) and kinds, each once.

    Data, split and protocol are those of `recipe`, else of the first recipe among the words; `data` may be the
    caller's own. `settings` (dotted paths, see `Recipe.changed`) change these, not the models. The other arguments are
    fields of the line-up. Raises `RecipeError` for a word that is neither recipe nor kind, for a repeated word, for an
    empty line-up, for less than a seed and, without `recipe`, for recipes with different data.
    """
    RecipeError.unless(seeds >= 1, f"There must be at least 1 seed; saw {seeds}. Leave it out to run once.")
    models = [_read(word) for word in words]
    recipes = [entry for entry in models if isinstance(entry, Recipe)]
    if recipe is not None:
        ground = load_recipe(recipe)
    elif recipes:
        ground = recipes[0]
        if data is None:
            # A recipe from a file is given by its path, not by its name.
            word_of_ground = next(word for word, entry in zip(words, models, strict=True) if entry is ground)
            _check_same_data(ground, recipes, word_of_ground)
    elif data is not None:
        placeholder = recommender_spec("popularity")()
        ground = Recipe(name="comparison", task=RankingTask(model=placeholder, protocol=OWN_PROTOCOL))
    else:
        raise RecipeError(
            "A comparison needs data; there are none. Give --data PATH, --recipe RECIPE, or a recipe as a model."
        )
    for path in settings or {}:
        RecipeError.unless(
            path.partition(".")[0] != "model",
            f"Settings of a comparison must be of data, split, protocol or search; saw {path}. Write a recipe file for a model "
            "with other settings.",
        )
    ground = ground.changed(dict(settings or {})).without_numbers()
    if protocol is not None:
        ground = ground.with_protocol(replace(ground.protocol, kind=protocol))
    entries = tuple(
        Entry(entry.name, _task(entry).model) if isinstance(entry, Recipe) else entry for entry in models
    )
    names = [entry.name for entry in entries]
    repeated = sorted({name for name in names if names.count(name) > 1})
    RecipeError.unless(
        entries, "A comparison needs at least one model; none is named. Name recipes or kinds of models."
    )
    RecipeError.unless(
        not repeated,
        f"Each model must be named once; named repeatedly: {', '.join(repeated)}. Leave the repetitions out.",
    )
    ground_data = (ground.data, _task(ground).split)
    others = [entry.name for entry in recipes if (entry.data, _task(entry).split) != ground_data]
    note = f"only the settings of {', '.join(others)} were used; data and split are those of {ground.name}"
    return Lineup(
        ground,
        entries,
        (note,) if others and data is None else (),
        data=data,
        search=search,
        spaces=_spaces_today(spaces or {}),
        seeds=seeds,
    )


def _read(word: str) -> Recipe | Entry:
    if word in RECOMMENDERS or word in VARIANTS:
        kind, values = VARIANTS.get(word, (word, {}))
        return Entry(word, spec_from_dict(recommender_spec(kind), values))
    if word in shipped() or word.endswith(".toml") or is_file(word):
        return load_recipe(word)
    names = (*RECOMMENDERS, *VARIANTS, *shipped())
    raise RecipeError(
        f"A model must be a recipe or one of the kinds {', '.join((*RECOMMENDERS, *VARIANTS))}; saw {word!r}.{nearest(word, names)}"
    )


def _task(recipe: Recipe) -> RankingTask:
    return ranking_task(recipe, "Compare recommenders.")


def _check_same_data(ground: Recipe, recipes: Sequence[Recipe], word_of_ground: str) -> None:
    """Raise `RecipeError` if recipes do not have the same data and split; `ground` was given as `word_of_ground`."""
    for other in recipes:
        alike = (other.data.name, other.data.k_core) == (ground.data.name, ground.data.k_core)
        split_by_files = isinstance(_task(other).split, Files) and isinstance(_task(ground).split, Files)
        RecipeError.unless(
            alike and (split_by_files or _task(other).split == _task(ground).split),
            f"Models must be compared on the same data and split; those of {other.name} differ from those of "
            f"{ground.name}. Give the recipe whose data and split to use for all: --recipe {word_of_ground}.",
        )


# ----------------------------------------------------------------------------------------------- the folder


@dataclass(frozen=True)
class Cache:
    """A folder with the results of models, from which a comparison is resumed."""

    folder: Path

    def open(self, identity: Mapping[str, Any]) -> None:
        """Create the folder, or check that it belongs to the same comparison.

        Raises `ArtifactError` for the folder of another comparison, for one with other content, and for one that cannot
        be written to.
        """
        with system_errors(self._requirement):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.check(identity)
            if not (self.folder / IDENTITY).is_file():
                self.write({IDENTITY: sealed(json.loads(json.dumps(identity)))})
            for name in ("models", "trials"):
                (self.folder / name).mkdir(exist_ok=True)

    @property
    def _requirement(self) -> str:
        return f"The folder of a comparison must be undamaged and writable; {self.folder / IDENTITY}"

    def check(self, identity: Mapping[str, Any]) -> None:
        """Raise `ArtifactError` unless the folder, which there is, belongs to the same comparison or is empty."""
        expected = json.loads(json.dumps(identity))
        file = self.folder / IDENTITY
        with system_errors(self._requirement):
            if not file.is_file():
                ArtifactError.unless(
                    all(entry.name.startswith(".") for entry in self.folder.iterdir()),
                    f"A comparison must be kept in a new folder or in its own; {self.folder} holds something else. Give "
                    "another path.",
                )
                return
            try:
                with open_regular(file) as stream:
                    stored_values = unsealed(stream.read())
            except ValueError as problem:
                raise ArtifactError(
                    f"{self._requirement}: {problem}. Give another path: existing results are kept."
                ) from None
        if isinstance(stored_values.get("spaces"), dict):
            stored_values["spaces"] = _spaces_today(stored_values["spaces"])
        differing = [
            name for name in {**stored_values, **expected} if stored_values.get(name) != expected.get(name)
        ]
        ArtifactError.unless(
            not differing,
            f"Results must be kept with those of the same comparison; in {self.folder} these differ: "
            f"{some([IN_WORDS.get(name, name) for name in differing])}. "
            "Give the same data, protocol, metric, search settings, spaces and seeds (trials and seconds may differ), or "
            "another folder.",
        )

    def trials(self, entry: Entry, pruner: str = "none") -> Path:
        """The folder for the trials of a model; each pruner has its own, since it changes the trials."""
        return self.folder / "trials" / (slug(entry) + ("" if pruner == "none" else f"-{pruner}"))

    def read(self, entry: Entry) -> Result | None:
        """The result of a model; `None` if there is none, or a damaged one."""
        file = self.folder / "models" / f"{slug(entry)}.json"
        table = file.with_suffix(".parquet")
        try:
            with open_regular(file) as stream:
                values = unsealed(stream.read())
            if values["table"] != sha256_of(table):
                return None
            values |= {part: _as_today(values[part]) for part in ("base", "chosen")}
            with open_regular(table) as stream:
                frame = pl.read_parquet(stream)
            return Result.from_dict(
                values, Vocabulary(frame["user"]), frame.drop("user").to_numpy().astype(np.float64)
            )
        except (
            *(OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
            pl.exceptions.PolarsError,
        ):
            return None

    def add(self, entry: Entry, result: Result) -> None:
        """Write the result of a model, whole or not at all."""
        table = self.folder / "models" / f"{slug(entry)}.parquet"
        columns = {name: result.values[name] for name in result.values.names}
        write_parquet(pl.DataFrame({"user": result.users.series, **columns}), table)
        self.write({f"models/{slug(entry)}.json": sealed({**result.to_dict(), "table": sha256_of(table)})})

    def write(self, contents: Mapping[str, bytes]) -> None:
        """Write files into the folder, each whole or not at all."""
        for name, content in contents.items():
            with replacing(self.folder / name) as stream:
                stream.write(content)


def slug(entry: Entry) -> str:
    """A file name for a model: its name, and a checksum of its settings, by the names that these had at first."""
    settings = json.dumps([entry.name, first_values(entry.model)], sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', entry.name).strip('.') or 'model'}-{digest[:10]}"


def _as_today(table: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model, as kept, with the names of today."""
    plain = {name: value for name, value in table.items() if name != "kind"}
    return {"kind": table["kind"], **migrated(recommender_spec(table["kind"]), plain)[0]}


def _spaces_today(spaces: Spaces) -> dict[str, dict[str, list[Any]]]:
    """Values to try with the names of today; those of kinds that nobody knows stay."""
    return {
        kind: {
            path_today(recommender_spec(kind), path) if kind in RECOMMENDERS else path: list(values)
            for path, values in space.items()
        }
        for kind, space in spaces.items()
    }


# ---------------------------------------------------------------------------------------------- the comparison


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
    if runner.cache is not None and runner.cache.folder.is_dir():
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
