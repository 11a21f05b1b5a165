"""Recommended lists judged against what was held out: the table of hits that every metric reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.errors import DataError


@dataclass(frozen=True, eq=False)
class JudgedLists:
    """Recommended lists with each place judged against what was held out (see `judge`).

    The running sums along the places are made once, when the first metric asks, and serve every cut-off.
    """

    positions: NDArray[np.integer[Any]]
    """Item positions, (n_users, n_places), best first; -1 is an empty place."""
    hit: NDArray[np.bool_]
    """Whether the item at a place was held out, (n_users, n_places)."""
    relevant: NDArray[np.int64]
    """How many items were held out, (n_users,)."""
    popularity: NDArray[np.int64] | None = None
    """How many training users each item has, (n_items,); only `mean_popularity` needs it."""

    @cached_property
    def hits(self) -> NDArray[np.int64]:
        """hits@k at column k - 1, (n_users, n_places)."""
        return np.cumsum(self.hit, axis=1, dtype=np.int64)

    @cached_property
    def gain(self) -> NDArray[np.float64]:
        """DCG@k at column k - 1, (n_users, n_places)."""
        return np.cumsum(self.hit * discount(self.hit.shape[1]), axis=1)

    @cached_property
    def precision_at_hits(self) -> NDArray[np.float64]:
        """The sum of precision@r over the ranks r <= k of hits, at column k - 1, (n_users, n_places)."""
        rank = np.arange(1, self.hit.shape[1] + 1)
        return np.cumsum(np.where(self.hit, self.hits / rank, 0.0), axis=1)

    def most(self, k: int) -> NDArray[np.int64]:
        """min(k, |relevant|): the most hits that k places can hold, (n_users,)."""
        return np.minimum(self.relevant, k)


def discount(places: int) -> NDArray[np.float64]:
    """1 / log2(1 + rank) for the ranks 1 ... places."""
    return 1.0 / np.log2(np.arange(2, places + 2))


def judge(
    positions: NDArray[np.integer[Any]],
    held_out: sparse.csr_array,
    *,
    popularity: NDArray[np.integer[Any]] | None = None,
) -> JudgedLists:
    """Look every recommended item up among the user's held-out ones.

    positions: item positions, (n_users, n_places), best first, -1 for an empty place, no item twice in a row.
    held_out: (n_users, n_items); an item is relevant to a user where the entry is not zero.
    popularity: the number of training users of every item, (n_items,).

    One sorted search of all places in all held-out pairs; nothing of the size users x items is made. Raises
    `DataError` where shapes disagree, a position is outside the catalogue, or a list names an item twice.
    """
    n_users, n_items = held_out.shape
    _check_positions(positions, n_users, n_items)
    if popularity is not None and popularity.shape != (n_items,):
        raise DataError(
            f"`popularity` must have one count for each of {n_items:,} items; saw shape {popularity.shape}."
        )
    relevance = _canonical(held_out)
    relevant = np.diff(relevance.indptr).astype(np.int64)
    row = np.arange(n_users, dtype=np.int64) * n_items
    pairs = np.repeat(row, relevant) + relevance.indices
    places = positions + row[:, None]
    found = np.searchsorted(pairs, places)
    hit = np.zeros(positions.shape, dtype=np.bool_)
    if len(pairs):
        hit = (pairs[np.minimum(found, len(pairs) - 1)] == places) & (positions >= 0)
    counts = None if popularity is None else popularity.astype(np.int64)
    return JudgedLists(positions=positions, hit=hit, relevant=relevant, popularity=counts)


def _canonical(matrix: sparse.csr_array) -> sparse.csr_array:
    """The matrix with sorted columns, without duplicates and stored zeros; itself where it is so already."""
    if matrix.has_canonical_format and bool(np.all(matrix.data != 0)):
        return matrix
    clean = matrix.copy()
    clean.sum_duplicates()
    clean.eliminate_zeros()
    return clean


def _check_positions(positions: NDArray[np.integer[Any]], n_users: int, n_items: int) -> None:
    whole = np.issubdtype(positions.dtype, np.signedinteger)
    if positions.ndim != 2 or len(positions) != n_users or not whole:
        raise DataError(
            f"`positions` must be signed whole numbers with one row for each of the {n_users:,} users; "
            f"saw {positions.dtype} of shape {positions.shape}."
        )
    if positions.size == 0:
        return
    if positions.min() < -1 or positions.max() >= n_items:
        raise DataError(
            f"`positions` must lie between 0 and {n_items - 1:,}, with -1 for an empty place; "
            f"saw {positions.min()} to {positions.max()}. Were the lists made with another catalogue?"
        )
    ordered = np.sort(positions, axis=1)
    twice = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if twice.any():
        raise DataError(
            f"A list must not name an item twice; {int(twice.sum()):,} lists do, "
            f"the first in row {int(twice.argmax())}. Drop the repeats before measuring."
        )
