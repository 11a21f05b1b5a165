"""What sets of users are compared by, as functions of how often each user counts.

A resample of users is a vector of counts, so that a bootstrap is a matrix product: `Summary.of` takes many such
vectors at once and gives what every statistic reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

TAIL_SHARE = 0.8
"""The long tail is this share of the catalogue: the items of fewest training users."""


@dataclass(frozen=True, eq=False)
class Summary:
    """What a set of users, or many resamples of it, amounts to."""

    items: NDArray[np.float64]
    """How often each item occurs, (n_resamples, n_items)."""
    activity: NDArray[np.float64]
    """How many users have 0, 1, 2, … items, (n_resamples, most + 1)."""

    @classmethod
    def of(cls, matrix: sparse.csr_array, weights: NDArray[Any] | None = None, *, most: int) -> Summary:
        """Of the rows of a binary matrix, each counting `weights` times, (n_resamples, n_users); once if `None`.

        most: the largest number of items of a user that has a place.
        """
        degrees = np.diff(matrix.indptr)
        if weights is None:
            items = np.bincount(matrix.indices, minlength=matrix.shape[1]).astype(np.float64)[None, :]
            return cls(items, np.bincount(degrees, minlength=most + 1).astype(np.float64)[None, :])
        counted = sparse.csr_array(
            (np.ones(len(degrees)), (np.arange(len(degrees)), degrees)), shape=(len(degrees), most + 1)
        )
        # Sparse from the left is the quick side: rows of Xᵀ times columns of weights.
        turned = weights.T.astype(np.float64)
        return cls(np.asarray(matrix.T @ turned).T, np.asarray(counted.T @ turned).T)


Distance: TypeAlias = Callable[[Summary, Summary], NDArray[np.float64]]
"""(resamples, train) → a value for each resample, (n_resamples,)."""


def popularity_total_variation(one: Summary, train: Summary) -> NDArray[np.float64]:
    """½ Σ |p − q| over the shares of all interactions that each item has: 0 alike, 1 nothing in common."""
    made: NDArray[np.float64] = np.abs(_shares(one.items) - _shares(train.items)).sum(axis=1) / 2
    return made


def popularity_divergence(one: Summary, train: Summary) -> NDArray[np.float64]:
    """The Jensen-Shannon divergence of the item shares in bits (Lin, 1991): 0 alike, 1 nothing in common."""
    p, q = np.broadcast_arrays(_shares(one.items), _shares(train.items))
    middle = (p + q) / 2
    halves = _entropy_gap(p, middle) + _entropy_gap(q, middle)
    return np.maximum(0.0, halves / 2)


def popularity_rank_correlation(one: Summary, train: Summary) -> NDArray[np.float64]:
    """Spearman's rank correlation of the number of users of each item, ties by mid-ranks; 0 where all are equal."""
    reference = stats.rankdata(train.items[0])
    reference -= reference.mean()
    made = np.zeros(len(one.items))
    for row, counts in enumerate(one.items):
        ranks = stats.rankdata(counts)
        ranks -= ranks.mean()
        scale = np.sqrt((ranks @ ranks) * (reference @ reference))
        made[row] = ranks @ reference / scale if scale else 0.0
    return made


def activity_wasserstein(one: Summary, train: Summary) -> NDArray[np.float64]:
    """The Wasserstein-1 distance of the numbers of items a user has, in items."""
    made: NDArray[np.float64] = np.abs(_cumulated(one.activity) - _cumulated(train.activity)).sum(axis=1)
    return made


def activity_ks(one: Summary, train: Summary) -> NDArray[np.float64]:
    """The Kolmogorov-Smirnov distance of the numbers of items a user has: the widest gap of the two shares."""
    made: NDArray[np.float64] = np.abs(_cumulated(one.activity) - _cumulated(train.activity)).max(axis=1)
    return made


def coverage(one: Summary, train: Summary) -> NDArray[np.float64]:
    """The share of the catalogue that some user has."""
    made: NDArray[np.float64] = (one.items > 0).mean(axis=1)
    return made


def long_tail(one: Summary, train: Summary) -> NDArray[np.float64]:
    """The share of all interactions that fall on the `TAIL_SHARE` of the items that fewest training users have."""
    order = np.argsort(train.items[0], kind="stable")
    tail = order[: int(TAIL_SHARE * len(order))]
    made: NDArray[np.float64] = _shares(one.items)[:, tail].sum(axis=1)
    return made


def sparsity(one: Summary, train: Summary) -> NDArray[np.float64]:
    """The share of user-item pairs that are absent."""
    users = one.activity.sum(axis=1)
    made: NDArray[np.float64] = 1 - one.items.sum(axis=1) / np.maximum(1, users * one.items.shape[1])
    return made


@dataclass(frozen=True, slots=True)
class Statistic:
    """One thing that sets of users are compared by."""

    name: str
    meaning: str
    of: Distance
    distance: bool
    """Whether it is a distance from train (0 for train itself), or a property that train has a value of as well."""
    unit: str = ""


STATISTICS: Mapping[str, Statistic] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Statistic(
                "item popularity, total variation",
                "share of interactions that would have to move to other items",
                popularity_total_variation,
                True,
            ),
            Statistic(
                "item popularity, Jensen-Shannon",
                "divergence of the items' shares of interactions",
                popularity_divergence,
                True,
                "bits",
            ),
            Statistic(
                "item popularity, rank correlation",
                "Spearman's correlation of the items' numbers of users with train",
                popularity_rank_correlation,
                False,
            ),
            Statistic(
                "user activity, Wasserstein",
                "mean distance of the numbers of items a user has",
                activity_wasserstein,
                True,
                "items",
            ),
            Statistic(
                "user activity, Kolmogorov-Smirnov",
                "widest gap between the distributions of the numbers of items",
                activity_ks,
                True,
            ),
            Statistic("coverage", "share of the catalogue that some user has", coverage, False),
            Statistic(
                "long tail",
                f"share of interactions on the {TAIL_SHARE:.0%} of items with fewest users",
                long_tail,
                False,
            ),
            Statistic("sparsity", "share of user-item pairs that are absent", sparsity, False),
        )
    }
)


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    made: NDArray[np.float64] = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    return made


def _cumulated(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.cumsum(_shares(counts), axis=1)


def _entropy_gap(p: NDArray[np.float64], middle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Σ p log2(p / middle), with 0 log 0 = 0."""
    ratio = np.divide(p, middle, out=np.ones_like(p), where=p > 0)
    made: NDArray[np.float64] = (p * np.log2(ratio)).sum(axis=1)
    return made
