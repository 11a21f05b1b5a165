"""What one model came to in a comparison, as a value that can be kept and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.data.splits import Split
from unblur.data.vocabulary import Vocabulary
from unblur.evaluation.metrics import (
    LIST_METRICS,
    PerUser,
    diversity,
    exposure,
    head_of,
    novelty,
    parse_metric,
    per_user,
    popularity_lift,
    recall_within,
)
from unblur.evaluation.protocol import Evaluation
from unblur.experiment.measuring import Outcome
from unblur.experiment.page import concentration, filter_response
from unblur.experiment.recipe.parts import Protocol
from unblur.experiment.recipe.toml import described
from unblur.recommender import Recommender

Ranked: TypeAlias = Outcome[Recommender, Evaluation]
BESIDE = ("coverage", "gini", "mean_popularity")
"""Measured at every cut-off, whatever the protocol says."""
HEAD_RECALL, TAIL_RECALL = "recall of popular items", "recall of rare items"


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one model took."""

    fit_seconds: float
    """To fit the chosen setting once; the mean over seeds."""
    search_seconds: float
    """All trials together."""
    milliseconds_a_user: float
    """To score and rank one user, when all are."""
    peak_mb: float
    """The largest resident memory of the process during the final fit and scoring, in 10**6 bytes."""
    before_mb: float
    """What the process held before: libraries and data."""
    peak_is_own: bool
    """Whether `peak_mb` was of this model alone; else of all that ran before it in the same process as well."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """One model, tuned, fitted and measured."""

    name: str
    base: Mapping[str, Any]
    """The spec it began with, as plain values."""
    chosen: Mapping[str, Any]
    """The spec that was measured."""
    search: Mapping[str, Any]
    """``trials``, ``failed``, ``value`` on validation data, ``how``, ``searched``; empty where nothing was searched."""
    budget: Mapping[str, float | str]
    """What the search might cost: ``trials``, ``seconds``, and ``pruner`` if there was one; 0 for no limit."""
    seeds: tuple[int, ...]
    by_seed: Mapping[str, tuple[float, ...]]
    """Each measurement of the protocol, seed by seed."""
    totals: Mapping[str, float]
    """Figures of all lists together (coverage, gini), means over seeds."""
    costs: Costs
    items: str
    """The fingerprint of the items that lists are over."""
    users: Vocabulary
    """The row of each value."""
    values: PerUser
    """Means over seeds; NaN where a user has no value."""
    curve: tuple[tuple[float, float], ...]
    """(k, mean) of the metric at every cut-off up to the longest, of the first seed."""
    exposure: tuple[tuple[float, float], ...]
    """(share of the catalogue, share of recommended places), most popular first, of the first seed."""
    training: tuple[tuple[float, float, float | None], ...] = ()
    """(epoch, loss, metric on what training stops by), of the last seed."""
    response: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    """BSPM: (eigenvalue, factor), by what it is a factor of."""
    notes: tuple[str, ...] = ()
    own_notes: tuple[str, ...] = ()
    """Those of `notes` that are of the last fit and test."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: all but `users` and `values`, which are a table."""
        left_out = ("users", "values", "costs")
        plain = {name: value for name, value in vars(self).items() if name not in left_out}
        return {"schema": 2, **plain, "costs": asdict(self.costs), "measures": list(self.values.names)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any], users: Vocabulary, values: NDArray[np.float64]) -> Result:
        """The result that `to_dict` gave these values for. Raises `KeyError`, `TypeError` or `ValueError` for others."""
        parts = dict(given)
        if parts.pop("schema") != 2:
            raise ValueError("another schema")
        names = tuple(parts.pop("measures"))
        if values.shape != (len(users), len(names)):
            raise ValueError(f"values of shape {values.shape}")
        # Up to 0.1 results also told how many joules the processors drew.
        parts["costs"] = Costs(**{name: cost for name, cost in parts["costs"].items() if name != "joules"})
        for name in ("seeds", "notes", "own_notes"):
            parts[name] = tuple(parts[name])
        parts["by_seed"] = {name: tuple(seen) for name, seen in parts["by_seed"].items()}
        for name in ("curve", "exposure", "training"):
            parts[name] = tuple(tuple(point) for point in parts[name])
        parts["response"] = {
            name: tuple((float(x), float(y)) for x, y in points) for name, points in parts["response"].items()
        }
        return cls(**parts, users=users, values=PerUser(names, values))


def with_beside(protocol: Protocol) -> Protocol:
    """The protocol with what a page shows next to accuracy, at every cut-off."""
    return replace(protocol, metrics=tuple(dict.fromkeys((*protocol.metrics, *BESIDE))))


def costs_of(outcome: Ranked, *, before_mb: float = 0.0, peak_is_own: bool = False) -> Costs:
    """What an outcome took, measured when it is there; nothing was searched."""
    runs, n_users = len(outcome.evaluations), len(outcome.evaluations[0].ranking.users)
    timings = outcome.report.timings
    return Costs(
        fit_seconds=timings.fit_seconds / runs,
        search_seconds=0.0,
        milliseconds_a_user=1000 * timings.score_seconds / runs / n_users,
        peak_mb=timings.peak_rss_mb,
        before_mb=before_mb,
        peak_is_own=peak_is_own,
    )


def result_of(outcome: Ranked, split: Split, metric: str, costs: Costs) -> Result:
    """Measure what an outcome's lists are next to accurate, and put all of it together; nothing was searched."""
    tables = [_measured(evaluation, split, metric) for evaluation in outcome.evaluations]
    first = outcome.evaluations[0]
    rows = split.held_out.users.positions_or_missing(first.ranking.users)
    held_out = split.held_out.take_users(rows)
    name, cutoff = parse_metric(metric)
    longest = first.ranking.k
    curve = per_user(first.ranking.positions, held_out.matrix, [name], range(1, longest + 1)).values.mean(
        axis=0
    )
    names = [entry.name for entry in first.measurements]
    degrees = split.train.item_degrees
    shown = exposure(first.ranking.positions, len(degrees), cutoff)
    return Result(
        name=outcome.recipe.name,
        base=described(outcome.recipe.model),
        chosen=described(outcome.recipe.model),
        search={},
        budget={},
        seeds=outcome.report.provenance.seeds,
        by_seed={one: tuple(evaluation[one].value for evaluation in outcome.evaluations) for one in names},
        totals={
            one: float(np.mean([evaluation[one].value for evaluation in outcome.evaluations]))
            for one in names
            if one.partition("@")[0] in LIST_METRICS
        },
        costs=costs,
        items=items_fingerprint(split.train),
        users=first.ranking.users,
        values=PerUser(tables[0].names, np.mean([table.values for table in tables], axis=0)),
        curve=tuple((float(k), float(value)) for k, value in enumerate(curve, start=1)),
        exposure=concentration(shown, np.argsort(-degrees, kind="stable")),
        response=filter_response(outcome.recipe.model),
        notes=tuple(outcome.report.notes),
        own_notes=tuple(outcome.report.notes),
    )


def items_fingerprint(train: Interactions) -> str:
    """What tells one catalogue of items from another."""
    digest = sha256()
    train.items.update_digest(digest)
    return f"sha256:{digest.hexdigest()}"


def _measured(evaluation: Evaluation, split: Split, metric: str) -> PerUser:
    """The values of the protocol, and those of this module, for one seed."""
    _, k = parse_metric(metric)
    ranking = evaluation.ranking
    rows = split.held_out.users.positions_or_missing(ranking.users)
    histories, held_out = split.histories.take_users(rows), split.held_out.take_users(rows)
    positions, degrees = ranking.positions[:, :k], split.train.item_degrees
    head = head_of(degrees)
    more = {
        f"popularity_lift@{k}": popularity_lift(positions, histories, degrees),
        f"novelty@{k}": novelty(positions, degrees, split.train.n_users),
        f"diversity@{k}": diversity(positions, split.train),
        f"{HEAD_RECALL}@{k}": recall_within(positions, held_out, head, k),
        f"{TAIL_RECALL}@{k}": recall_within(positions, held_out, ~head, k),
    }
    known = evaluation.per_user
    return PerUser(
        (*known.names, *more), np.concatenate([known.values, np.stack(list(more.values()), axis=1)], axis=1)
    )
