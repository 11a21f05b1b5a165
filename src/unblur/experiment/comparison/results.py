"""Results of the models of a comparison, and the comparison itself: figures with intervals, tests and groups.

Both are values that can be saved as JSON and read back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any, TypeAlias, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from unblur.data.interactions import Interactions
from unblur.data.splits import Split
from unblur.data.vocabulary import Vocabulary
from unblur.document.text import json_text
from unblur.errors import ArtifactError, DataError, VocabularyMismatch
from unblur.evaluation.groups import (
    HEAD_RECALL,
    TAIL_RECALL,
    list_measures,
    means,
    user_groups,
)
from unblur.evaluation.metrics import LIST_METRICS, PerUser, exposure, parse_metric, per_user
from unblur.evaluation.protocol import Evaluation
from unblur.evaluation.report import Measurement
from unblur.evaluation.significance import Difference, differences
from unblur.experiment.page import concentration, filter_response
from unblur.experiment.recipe.parts import Protocol
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.recipe.toml import all_values
from unblur.experiment.running import Outcome
from unblur.randomness import streams
from unblur.recommender import Recommender
from unblur.registry import recommender_spec
from unblur.spec import spec_from_dict

SCHEMA = 2
"""The version of the JSON forms of both."""
RESAMPLES = 1000
"""Number of bootstrap samples of users for each interval, the default of a protocol: the ends are then known to a few per
cent of the interval's width."""
RankingOutcome: TypeAlias = Outcome[Recommender, Evaluation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Time and memory of one model."""

    fit_seconds: float
    """Time to fit the chosen setting once; the mean over seeds."""
    search_seconds: float
    """Time of all trials together."""
    milliseconds_a_user: float
    """Time to score and rank all users, divided by their number."""
    peak_mb: float
    """The largest resident memory of the process during the final fit and scoring, in 10**6 bytes."""
    before_mb: float
    """The resident memory of the process before: libraries and data."""
    peak_is_own: bool
    """True if `peak_mb` is of this model alone, not of everything that ran earlier in the same process as well."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """The result of one model: its settings, measurements and costs."""

    name: str
    base: Mapping[str, Any]
    """The spec that the model was entered with, as plain values."""
    chosen: Mapping[str, Any]
    """The spec that was measured."""
    search: Mapping[str, Any]
    """``trials``, ``failed``, ``value`` on validation data, ``how``, ``searched``; empty without a search."""
    budget: Mapping[str, int | float | str]
    """The budget of the search: ``trials``, ``seconds``, and ``pruner`` if there was one; 0 for no limit."""
    seeds: tuple[int, ...]
    by_seed: Mapping[str, tuple[float, ...]]
    """Each measurement of the protocol, seed by seed."""
    totals: Mapping[str, float]
    """Metrics of all lists together (coverage, gini), means over seeds."""
    costs: Costs
    items: str
    """The fingerprint of the catalogue."""
    users: Vocabulary
    """The users of the rows of `values`."""
    values: PerUser
    """Metrics of each user, means over seeds; NaN for a user without a value."""
    curve: tuple[tuple[float, float], ...]
    """(k, mean) of the metric at every cut-off up to the longest, of the first seed."""
    exposure: tuple[tuple[float, float], ...]
    """(share of the catalogue, share of recommended places), most popular first, of the first seed."""
    training: tuple[tuple[float, float, float | None], ...] = ()
    """(epoch, loss, metric that training stops by), of the first seed."""
    response: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """The response of a graph filter, (eigenvalue, factor) by the name of the curve; empty for other models."""
    notes: tuple[str, ...] = ()
    own_notes: tuple[str, ...] = ()
    """The notes of the last fit and test, without those of the search."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values of all fields except `users` and `values`, which are kept as a table."""
        omitted = ("users", "values", "costs")
        plain = {name: value for name, value in vars(self).items() if name not in omitted}
        return {"schema": SCHEMA, **plain, "costs": asdict(self.costs), "measures": list(self.values.names)}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], users: Vocabulary, values: NDArray[np.float64]) -> Result:
        """The result from the values of `to_dict`. Raises `KeyError`, `TypeError` or `ValueError` for other values."""
        # Up to version 0.1 the costs included the energy of the processors, which is ignored.
        plain = _fields_of(cls, table, without=("users", "values"))
        names = tuple(table["measures"])
        if values.shape != (len(users), len(names)):
            raise ValueError(f"values of shape {values.shape}")
        return cls(**plain, users=users, values=PerUser(names, values))


def _fields_of(cls: type[Any], table: Mapping[str, Any], *, without: Collection[str]) -> dict[str, Any]:
    """The fields of a record, except those in `without`, from the plain JSON values that it was kept as.

    Raises `KeyError` for a missing field and `ValueError` for another type or schema.
    """
    if table["schema"] != SCHEMA:
        raise ValueError("another schema")
    return {
        name: TypeAdapter(kind).validate_python(table[name])
        for name, kind in get_type_hints(cls).items()
        if name not in without
    }


def result_of(
    outcome: RankingOutcome, split: Split, metric: str, *, before_mb: float = 0.0, peak_is_own: bool = False
) -> Result:
    """Measure the lists of an outcome beyond accuracy, and return all figures as a result without a search."""
    tables = [_with_extra_measures(evaluation, split, metric) for evaluation in outcome.evaluations]
    ranking, timings, runs = outcome.evaluations[0].ranking, outcome.report.timings, len(tables)
    held_out = split.held_out.take_users(split.held_out.users.positions_or_missing(ranking.users))
    name, cutoff = parse_metric(metric)
    curve = per_user(ranking.positions, held_out.matrix, [name], range(1, ranking.k + 1)).values.mean(axis=0)
    by_seed = {
        measurement.name: tuple(evaluation[measurement.name].value for evaluation in outcome.evaluations)
        for measurement in outcome.evaluations[0].measurements
    }
    degrees = split.train.item_degrees
    return Result(
        name=outcome.recipe.name,
        base=all_values(outcome.recipe.model),
        chosen=all_values(outcome.recipe.model),
        search={},
        budget={},
        seeds=outcome.report.provenance.seeds,
        by_seed=by_seed,
        totals={
            measurement: float(np.mean(values))
            for measurement, values in by_seed.items()
            if measurement.partition("@")[0] in LIST_METRICS
        },
        costs=Costs(
            fit_seconds=timings.fit_seconds / runs,
            search_seconds=0.0,
            milliseconds_a_user=1000 * timings.score_seconds / runs / len(ranking.users),
            peak_mb=timings.peak_rss_mb,
            before_mb=before_mb,
            peak_is_own=peak_is_own,
        ),
        items=items_fingerprint(split.train),
        users=ranking.users,
        values=PerUser(tables[0].names, np.mean([table.values for table in tables], axis=0)),
        curve=tuple((float(k), float(value)) for k, value in enumerate(curve, start=1)),
        exposure=concentration(exposure(ranking.positions, len(degrees), cutoff), degrees),
        training=outcome.training,
        response=filter_response(outcome.recipe.model),
        notes=tuple(outcome.report.notes),
        own_notes=tuple(outcome.report.notes),
    )


def items_fingerprint(train: Interactions) -> str:
    """The fingerprint of a catalogue of items, ``sha256:…``."""
    digest = sha256()
    train.items.update_digest(digest)
    return f"sha256:{digest.hexdigest()}"


def _with_extra_measures(evaluation: Evaluation, split: Split, metric: str) -> PerUser:
    """The metrics of each user for one seed: those of the protocol, and those of its lists at the metric's cut-off."""
    extra = list_measures(evaluation.ranking, split, parse_metric(metric)[1])
    return PerUser(
        (*evaluation.per_user.names, *extra.names),
        np.concatenate([evaluation.per_user.values, extra.values], axis=1),
    )


# -------------------------------------------------------------------------------------------- the comparison


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison; models are in the order of the metric, the best first."""

    metric: str
    protocol: str
    """``paper`` or ``strict``."""
    names: tuple[str, ...]
    """The names of metrics, not of models: those of the protocol that have a value for each user."""
    results: tuple[Result, ...]
    figures: Mapping[str, Mapping[str, Measurement]]
    """Model → metric → its mean over users, with its interval."""
    differences: tuple[Difference, ...]
    """The differences of all pairs; models are indices into `results`."""
    groups: Mapping[str, Mapping[str, Measurement]]
    """Group of users or items → model → the metric for the group (recall for groups of items)."""
    popularity: tuple[tuple[float, float], ...]
    """(share of the catalogue, share of train interactions), most popular first."""
    size: Mapping[str, int]
    """``users``, ``items``, ``interactions`` of train; ``counted`` users."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Model → the reason why it failed."""
    notes: tuple[str, ...] = ()
    ground: str = ""
    """The recipe whose data, split and protocol were used."""
    data: Mapping[str, str] = field(default_factory=dict)
    budget: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Result:
        """The result of a model. Raises `DataError` if there is none."""
        results = {result.name: result for result in self.results}
        DataError.unless(
            name in results, f"A model must have a result to be read; {name!r} has none. See `failures`."
        )
        return results[name]

    def between(self, one: str, other: str) -> Difference:
        """The difference between two models, in the order of `results`, whatever the order of the arguments.

        Raises `DataError` for a model without a result, and if both are the same.
        """
        pair = {self.results.index(self[name]) for name in (one, other)}
        DataError.unless(
            len(pair) == 2, f"A difference must be between two models; saw {one!r} twice. Name another."
        )
        return next(entry for entry in self.differences if {entry.one, entry.other} == pair)

    def level_with(self, name: str) -> list[str]:
        """The models below this one whose distance from it chance alone could explain."""
        return [
            self.results[entry.other].name
            for entry in self.differences
            if self.results[entry.one].name == name and not entry.differs
        ]

    def verdict(self) -> str:
        """The winner, in a sentence or two."""
        best = self.results[0].name
        first = self.figures[best][self.metric]
        low, high = first.interval
        sentence = f"{best} is first with {self.metric} {first.value:.4f} ({low:.4f} to {high:.4f})."
        if len(self.results) == 1:
            return sentence
        indistinguishable = self.level_with(best)
        if not indistinguishable:
            return f"{sentence} It differs from every other model."
        names = " and ".join(filter(None, (", ".join(indistinguishable[:-1]), indistinguishable[-1])))
        return f"{sentence} Chance alone could explain its lead over {names}."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, without those of single users."""
        return {
            "schema": SCHEMA,
            "metric": self.metric,
            "names": list(self.names),
            "protocol": self.protocol,
            "ground": self.ground,
            "data": dict(self.data),
            "size": dict(self.size),
            "budget": self.budget,
            "verdict": self.verdict(),
            "models": [
                {
                    **result.to_dict(),
                    "figures": _plain(self.figures[result.name]),
                }
                for result in self.results
            ],
            "differences": [
                {
                    **asdict(entry),
                    "one": self.results[entry.one].name,
                    "other": self.results[entry.other].name,
                    "differs": entry.differs,
                }
                for entry in self.differences
            ],
            "groups": {group: _plain(models) for group, models in self.groups.items()},
            "popularity": [list(point) for point in self.popularity],
            "failures": dict(self.failures),
            "notes": list(self.notes),
            "versions": dict(self.versions),
            "machine": dict(self.machine),
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Comparison:
        """The comparison from the values of `to_dict`; it has no values of single users.

        Raises `ArtifactError` for values of another form.
        """
        try:
            models = table["models"]
            indices = {model["name"]: index for index, model in enumerate(models)}
            return cls(
                **_fields_of(cls, table, without=("results", "figures", "differences", "groups")),
                results=tuple(
                    Result.from_dict(model, Vocabulary.range(0), np.empty((0, len(model["measures"]))))
                    for model in models
                ),
                figures={
                    model["name"]: {
                        measure: Measurement(name=measure, **values)
                        for measure, values in model["figures"].items()
                    }
                    for model in models
                },
                differences=tuple(
                    TypeAdapter(Difference).validate_python(
                        {**pair, "one": indices[pair["one"]], "other": indices[pair["other"]]}
                    )
                    for pair in table["differences"]
                ),
                groups={
                    group: {model: Measurement(name=group, **values) for model, values in members.items()}
                    for group, members in table["groups"].items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError, DataError) as problem:
            raise ArtifactError(
                f"The figures of a comparison must have the form that this version writes; {problem}. Compute them again."
            ) from None

    def to_json(self) -> str:
        """`to_dict` as strict JSON."""
        return json_text(self.to_dict())


def summarise(
    results: Sequence[Result],
    split: Split,
    metric: str,
    *,
    protocol: Protocol,
    failures: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare results. Raises `VocabularyMismatch` for models with other items or users than the split's."""
    DataError.unless(
        results, "A comparison needs at least one result; there is none. Compare at least one model."
    )
    items = items_fingerprint(split.train)
    users = results[0].users
    for result in results:
        VocabularyMismatch.unless(
            result.items == items,
            f"Models must be compared over the same items; those of {result.name} are not the split's. Compute its "
            "result again on this split.",
        )
        VocabularyMismatch.unless(
            result.users == users,
            f"Models must be compared over the same users; {result.name} and {results[0].name} were measured on different "
            "ones. Measure both under one protocol.",
        )
    ordered = sorted(results, key=lambda result: (-float(result.values[metric].mean()), result.name))
    generators = streams(seed, "differences", "intervals")
    by_measure = {
        measure: _measurements(ordered, measure, generators["intervals"])
        for measure in ordered[0].values.names
    }
    _, k = parse_metric(metric)
    groups = {
        label: _measurements(ordered, metric, generators["intervals"], members)
        for label, members in user_groups(split, users).items()
    }
    groups |= {name: by_measure[f"{name}@{k}"] for name in (HEAD_RECALL, TAIL_RECALL)}
    degrees = split.train.item_degrees
    return Comparison(
        metric=metric,
        protocol=protocol.kind,
        names=tuple(name for name in protocol.names if name in by_measure),
        results=tuple(ordered),
        figures={
            result.name: {measure: models[result.name] for measure, models in by_measure.items() if models}
            for result in ordered
        },
        differences=tuple(
            differences(
                np.stack([result.values[metric] for result in ordered], axis=1), rng=generators["differences"]
            )
        ),
        groups={label: models for label, models in groups.items() if len(models) == len(ordered)},
        popularity=concentration(degrees, degrees),
        size={
            "users": split.train.n_users,
            "items": split.train.n_items,
            "interactions": split.train.n_interactions,
            "counted": len(users),
        },
        failures=dict(failures or {}),
        # Notes of single models stay in their results.
        notes=tuple(note for note in ordered[0].notes if all(note in result.notes for result in ordered)),
    )


def winner(comparison: Comparison, ground: Recipe) -> Recipe:
    """A recipe of the best model with its chosen settings, and with the data, split and protocol of `ground`.

    Running it does not search again.
    """
    best = comparison.results[0]
    plain = dict(best.chosen)
    model = spec_from_dict(recommender_spec(str(plain.pop("kind"))), plain)
    return replace(
        ground.without_numbers().with_model(model),
        name="winner",
        title=f"{best.name}, first of {len(comparison.results)} by {comparison.metric}",
        search=replace(ground.search, trials=1),
    )


def _measurements(
    results: Sequence[Result],
    measure: str,
    rng: np.random.Generator,
    members: NDArray[np.bool_] | None = None,
) -> dict[str, Measurement]:
    """Each model's mean of a metric over the users (of a group) that have a value for all models."""
    table = np.stack([result.values[measure] for result in results], axis=1)
    entries = means(measure, table, members, resamples=RESAMPLES, rng=rng)
    return {result.name: entry for result, entry in zip(results, entries, strict=False)}


def _plain(entries: Mapping[str, Measurement]) -> dict[str, dict[str, float | None]]:
    """Measurements as plain JSON values by key, without their names."""
    return {
        name: {"value": entry.value, "low": entry.low, "high": entry.high, "n_users": entry.n_users}
        for name, entry in entries.items()
    }
