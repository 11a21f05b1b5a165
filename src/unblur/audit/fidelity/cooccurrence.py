"""How often pairs of popular items go together, set against set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

POPULAR = 500
"""How many of the most popular training items are looked at."""
GROUPS = 20
"""In how many groups of users the interval is found, by leaving each out once."""


def popular_items(train: sparse.csr_array) -> NDArray[np.int64]:
    """The `POPULAR` items that most training users have."""
    counts = np.bincount(train.indices, minlength=train.shape[1])
    return np.argsort(-counts, kind="stable")[:POPULAR]


def grouped_cooccurrence(
    rows: sparse.csr_array, items: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.float32]:
    """In how many users of each of `GROUPS` random groups two of the items go together, (n_groups, n, n).

    The diagonal is 0. A user's pairs count once, however many items the user has.
    """
    chosen = sparse.csr_array(rows[:, items])
    group = random.permutation(rows.shape[0]) % GROUPS
    made = np.zeros((GROUPS, len(items), len(items)), dtype=np.float32)
    for at in range(GROUPS):
        part = chosen[np.flatnonzero(group == at)]
        made[at] = (part.T @ part).toarray()
        np.fill_diagonal(made[at], 0)
    return made


def cooccurrence_distance(
    one: NDArray[np.float32], other: NDArray[np.float32]
) -> tuple[float, float, float] | None:
    """(value, low, high): the total variation of the two distributions over pairs, with a jackknife interval.

    one, other: grouped counts; the groups of `one` are left out in turn (Quenouille 1956, Tukey 1958). `None` where
    a set has no pair at all.
    """
    reference, whole = other.sum(axis=0, dtype=np.float64), one.sum(axis=0, dtype=np.float64)
    if not reference.sum() or not whole.sum():
        return None
    q = reference / reference.sum()
    value = _total_variation(whole, q)
    without = np.array([_total_variation(whole - part, q) for part in one])
    n = len(one)
    error = float(np.sqrt((n - 1) / n * np.square(without - without.mean()).sum()))
    return value, max(0.0, value - 1.96 * error), min(1.0, value + 1.96 * error)


def _total_variation(counts: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    total = counts.sum()
    return float(np.abs(counts / total - q).sum() / 2) if total else 1.0
