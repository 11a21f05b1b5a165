"""The leaderboard: models side by side, with intervals, tests, groups of users and of items."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.data.splits import Split
from unblur.data.vocabulary import Vocabulary
from unblur.errors import ArtifactError, DataError, VocabularyMismatch
from unblur.evaluation.metrics import parse_metric
from unblur.evaluation.report import Measurement
from unblur.evaluation.significance import Difference, bootstrap_interval, differences
from unblur.experiment.comparison.results import HEAD_RECALL, TAIL_RECALL, Result, items_fingerprint
from unblur.experiment.page import concentration
from unblur.experiment.recipe.parts import Protocol
from unblur.experiment.recipe.schema import Recipe
from unblur.randomness import streams
from unblur.registry import recommender_spec
from unblur.spec import spec_from_dict

RESAMPLES = 1000


@dataclass(frozen=True)
class Comparison:
    """What a comparison found; models are in the order of the metric, the best first."""

    metric: str
    protocol: str
    """``paper`` or ``strict``."""
    names: tuple[str, ...]
    """What the protocol measures for each user."""
    results: tuple[Result, ...]
    figures: Mapping[str, Mapping[str, Measurement]]
    """Model → measure → its mean over users."""
    differences: tuple[Difference, ...]
    """All pairs, as places in `results`."""
    groups: Mapping[str, Mapping[str, Measurement]]
    """Group of users or items → model → the metric there (recall for groups of items)."""
    popularity: tuple[tuple[float, float], ...]
    """(share of the catalogue, share of train interactions), most popular first."""
    size: Mapping[str, int]
    """``users``, ``items``, ``interactions`` of train; ``counted`` users."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Model → why it did not get through."""
    notes: tuple[str, ...] = ()
    ground: str = ""
    """The recipe whose data, split and protocol were used."""
    data: Mapping[str, str] = field(default_factory=dict)
    budget: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Result:
        """The result of a model. Raises `DataError` where there is none."""
        for result in self.results:
            if result.name == name:
                return result
        raise DataError(f"Only models that got through can be read; {name!r} did not. See `failures`.")

    def between(self, one: str, other: str) -> Difference:
        """The difference of two models, in whichever order it was taken."""
        places = [result.name for result in self.results]
        pair = {places.index(one), places.index(other)}
        return next(entry for entry in self.differences if {entry.one, entry.other} == pair)

    def verdict(self) -> str:
        """What wins, in a sentence or two."""
        best = self.results[0]
        first = self.figures[best.name][self.metric]
        low, high = first.interval
        said = f"{best.name} is first with {self.metric} {first.value:.4f} ({low:.4f} to {high:.4f})."
        if len(self.results) == 1:
            return said
        level = [other.name for other in self.results[1:] if not self.between(best.name, other.name).differs]
        if not level:
            return f"{said} It differs from every other model."
        return f"{said} Chance alone could explain its lead over {_listed(level)}."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; values of single users are left out."""
        return {
            "schema": 2,
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
    def from_dict(cls, given: Mapping[str, Any]) -> Comparison:
        """The comparison that `to_dict` gave these values for; those of single users are not in it any more.

        Raises `ArtifactError` for values of another form.
        """
        try:
            if given["schema"] != 2:
                raise ValueError("another schema")
            results = []
            for entry in given["models"]:
                plain = {name: value for name, value in entry.items() if name != "figures"}
                results.append(
                    Result.from_dict(plain, Vocabulary.range(0), np.empty((0, len(plain["measures"]))))
                )
            places = {result.name: place for place, result in enumerate(results)}
            pairs = [
                {name: pair[name] for name in pair if name != "differs"} for pair in given["differences"]
            ]
            return cls(
                results=tuple(results),
                figures={
                    entry["name"]: {
                        measure: Measurement(name=measure, **values)
                        for measure, values in entry["figures"].items()
                    }
                    for entry in given["models"]
                },
                differences=tuple(
                    Difference(**{**pair, "one": places[pair["one"]], "other": places[pair["other"]]})
                    for pair in pairs
                ),
                groups={
                    group: {model: Measurement(name=group, **values) for model, values in models.items()}
                    for group, models in given["groups"].items()
                },
                names=tuple(given["names"]),
                popularity=tuple((float(x), float(y)) for x, y in given["popularity"]),
                notes=tuple(given["notes"]),
                **{name: given[name] for name in _AS_THEY_ARE},
            )
        except (KeyError, TypeError, ValueError, AttributeError, DataError) as problem:
            raise ArtifactError(
                f"The figures of a comparison must be those that this version writes; {problem}. Compute them anew."
            ) from None

    def to_json(self) -> str:
        """`to_dict` as strict JSON."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


_AS_THEY_ARE = (
    "metric",
    "protocol",
    "ground",
    "data",
    "size",
    "budget",
    "failures",
    "versions",
    "machine",
)


def summarise(
    results: Sequence[Result],
    split: Split,
    metric: str,
    *,
    protocol: Protocol,
    failures: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Comparison:
    """Put results side by side. Raises `VocabularyMismatch` for models with other items or other users than the split's."""
    if not results:
        raise DataError("There must be a model to show; there is none. Compare at least one.")
    items = items_fingerprint(split.train)
    users = results[0].users
    for result in results:
        if result.items != items:
            raise VocabularyMismatch(
                f"Models are compared over the same items; those of {result.name} are others than the split's. Compute it "
                "anew on this split."
            )
        if result.users != users:
            raise VocabularyMismatch(
                f"Models are compared over the same users; {result.name} was measured on others than {results[0].name}. "
                "Measure both under one protocol."
            )
    ordered = sorted(results, key=lambda result: (-float(result.values[metric].mean()), result.name))
    random = streams(seed, "differences", "intervals")
    measures = ordered[0].values.names
    figures: dict[str, dict[str, Measurement]] = {result.name: {} for result in ordered}
    for measure in measures:
        for name, entry in _measurements(ordered, measure, random["intervals"]).items():
            figures[name][measure] = entry
    table = np.stack([result.values[metric] for result in ordered], axis=1)
    _, k = parse_metric(metric)
    groups = {
        label: _measurements(ordered, metric, random["intervals"], members)
        for label, members in _user_groups(split, users).items()
    }
    groups |= {
        name: {model: entry[f"{name}@{k}"] for model, entry in figures.items() if f"{name}@{k}" in entry}
        for name in (HEAD_RECALL, TAIL_RECALL)
    }
    degrees = split.train.item_degrees
    return Comparison(
        metric=metric,
        protocol=protocol.kind,
        names=tuple(name for name in protocol.names if name in measures),
        results=tuple(ordered),
        figures=figures,
        differences=tuple(differences(table, rng=random["differences"])),
        groups={label: models for label, models in groups.items() if len(models) == len(ordered)},
        popularity=concentration(degrees, np.argsort(-degrees, kind="stable")),
        size={
            "users": split.train.n_users,
            "items": split.train.n_items,
            "interactions": split.train.n_interactions,
            "counted": len(users),
        },
        failures=dict(failures or {}),
        notes=_common_notes(ordered),
    )


def winner(found: Comparison, ground: Recipe) -> Recipe:
    """The best model with the settings chosen for it, as a recipe on the ground of the comparison.

    Running it does not search again.
    """
    best = found.results[0]
    plain = dict(best.chosen)
    model = spec_from_dict(recommender_spec(str(plain.pop("kind"))), plain)
    title = f"{best.name}, first of {len(found.results)} by {found.metric}"
    search = replace(ground.search, trials=1)
    return replace(ground.without_numbers().with_model(model), name="winner", title=title, search=search)


def _measurements(
    results: Sequence[Result],
    measure: str,
    rng: np.random.Generator,
    members: NDArray[np.bool_] | None = None,
) -> dict[str, Measurement]:
    """Each model's mean of a measure over the users (of a group) that have a value of it for all models."""
    table = np.stack([result.values[measure] for result in results], axis=1)
    kept = np.isfinite(table).all(axis=1) & (True if members is None else members)
    if not kept.any():
        return {}
    table = table[kept]
    low, high = bootstrap_interval(table, resamples=RESAMPLES, rng=rng)
    return {
        result.name: Measurement(name=measure, value=mean, low=bottom, high=top, n_users=len(table))
        for result, mean, bottom, top in zip(results, table.mean(axis=0), low, high, strict=True)
    }


def _plain(entries: Mapping[str, Measurement]) -> dict[str, dict[str, float]]:
    """Measurements by what tells them apart, without their names."""
    fields = ("value", "low", "high", "n_users")
    return {name: {field: getattr(entry, field) for field in fields} for name, entry in entries.items()}


def _user_groups(split: Split, users: Any) -> dict[str, NDArray[np.bool_]]:
    """Thirds of the users by how many items they are shown with; users of one size stay together."""
    degrees = split.histories.user_degrees[split.histories.users.positions_or_missing(users)]
    first, second = np.quantile(degrees, [1 / 3, 2 / 3], method="higher")
    parts = {
        "few": degrees <= first,
        "some": (degrees > first) & (degrees <= second),
        "many": degrees > second,
    }
    return {
        f"users with {word} interactions ({degrees[members].min():,}–{degrees[members].max():,})": members
        for word, members in parts.items()
        if members.any()
    }


def _common_notes(results: Sequence[Result]) -> tuple[str, ...]:
    """The notes that all models have; those of single models stay with them."""
    shared = [note for note in results[0].notes if all(note in result.notes for result in results)]
    return tuple(shared)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
