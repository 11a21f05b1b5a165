"""SANSA: EASE for large catalogues, by a sparse approximate inverse of the Gram matrix, which is never formed whole."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Annotated, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.errors import DataError
from unblur.models.linear.item_weights import SCORED_TOGETHER, LinearRecommender, LinearSpec
from unblur.models.linear.neighbours import inverse, product_norms, row_blocks, top_per_row, transposed
from unblur.parallel.threads import in_threads
from unblur.progress import Progress, ProgressEvent
from unblur.recommender import WeightUse, learned
from unblur.spec import Dimension, choices, spec

ENTRIES = 50
"""Entries of L an item if no density is given; on LightGCN's sets more gain nothing (docs/results/baselines.md)."""
FIRST_SHIFT = 1e-3
"""What the ridge is raised by at the first restart, and twice as much at each further one: the shifts of Lin and Moré (SIAM
J. Sci. Comput. 21(1), 1999, section 2)."""
NOTHING = 1e-12
"""A pivot below this share of its diagonal entry is the rounding error of a difference that is 0."""
CLOSE = 1e-3
"""The mean residual of a column up to which one Schulz step is enough (the authors' setting)."""

Column: TypeAlias = tuple[NDArray[np.int32], NDArray[np.float64]]
"""Places and values of the entries of a column below the diagonal."""


@spec
class SANSA(LinearSpec["SparseFactors"]):
    """Scalable approximate non-symmetric autoencoder (Spišák, Bartyzal, Hoskovec, Peška and Tůma, RecSys 2023).

    EASE's ``B = I − A⁻¹·diag(1/diag A⁻¹)``, ``A = G + λI``, with a sparse approximate inverse of A. G is the Gram matrix of X with
    each column scaled by ``1/√‖G_j‖``. An incomplete factorization ``P·A·Pᵀ ≈ L·D·Lᵀ``, for an order P in which sparse
    items come first, and a sparse ``K ≈ L⁻¹`` give ``A⁻¹ ≈ WᵀD⁻¹W`` with ``W = K·P`` (section 3).

    Memory grows with the density, not with n_items²; time with Σ_u degree_u², as that of ItemKNN.
    """

    kind: ClassVar[str] = "sansa"
    fitted: ClassVar[str] = "unblur.models.linear.sansa:SparseFactors"
    ridge: NonNegativeFloat = 20.0
    """The ridge λ on the scaled Gram matrix, whose entries are at most 1."""
    density: Annotated[float, Field(gt=0, le=1)] | None = None
    """The number of entries of L below its diagonal, as a share of n_items²: ρ. Without it 50 an item."""
    weights: WeightUse = "binary"
    """The entries of X: 0/1, or the weights of the interactions, as in `EASE`."""

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(ridge=(1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0))

    def fit_rows(self, rows: sparse.csr_array, train: Interactions, progress: Progress) -> SparseFactors:
        """Factorize and invert. Raises `DataError` for a density of less than one entry an item."""
        n_items = rows.shape[1]
        density = min(1.0, ENTRIES / n_items) if self.density is None else self.density
        DataError.unless(
            density * n_items >= 1,
            f"`density` must be at least 1 / n_items, {1 / n_items:.2g} for these {n_items:,} items, so that L has an entry for "
            f"each; saw {density:g}. Raise it, or leave it out, for {ENTRIES} entries an item.",
        )
        gram = ScaledGram.of(rows, train.item_ranks)
        lower, pivots = gram.factorize(self.ridge, int(density * n_items**2), progress)
        vectors = item_vectors(approximate_inverse(lower, int(density * n_items)), pivots, gram.order)
        return SparseFactors(self, train.items, train.item_degrees, vectors=vectors)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SparseFactors(LinearRecommender):
    """Scores ``x·B``, ``B = I − V·Vᵀ·diag(1/diag V·Vᵀ)``, of sparse vectors V of the items."""

    in_threads: ClassVar[bool] = True  # SciPy multiplies in one thread
    batch: ClassVar[int] = SCORED_TOGETHER
    vectors: sparse.csr_array = learned("items", "items", sparse=True)
    """V = WᵀD^-½: row j holds the vector of item j. V·Vᵀ is the approximate inverse, many times as large."""

    def score_rows(self, rows: sparse.csr_array) -> NDArray[np.float32]:
        """Return scores (n_rows, n_items) of rows with any weights."""
        # Not by B itself, which has far more entries than V.
        scores = np.asarray(((rows @ self.vectors) @ self._outward).toarray(), dtype=np.float32)
        # The identity makes the diagonal of B 0: an item adds nothing to its own score, as in EASE.
        scores[np.repeat(np.arange(len(scores)), np.diff(rows.indptr)), rows.indices] += rows.data
        return scores

    @cached_property
    def _outward(self) -> sparse.csr_array:
        """−Vᵀ·diag(1/diag V·Vᵀ)."""
        outward = transposed(self.vectors)
        squares = np.bincount(outward.indices, outward.data.astype(np.float64) ** 2, len(self.items))
        scales = inverse(squares.astype(np.float64))[outward.indices]
        outward.data = np.asarray(-scales * outward.data, dtype=np.float32)
        return outward


def item_vectors(
    inverse_factor: sparse.csr_array, pivots: NDArray[np.float64], order: NDArray[np.int64]
) -> sparse.csr_array:
    """Return V = WᵀD^-½ from the transpose of K and the diagonal of D, both in the order of elimination."""
    roots = np.sqrt(pivots)[inverse_factor.indices]
    vectors = sparse.csr_array(
        (
            (inverse_factor.data / roots).astype(np.float32),
            inverse_factor.indices,
            inverse_factor.indptr,
        ),
        shape=inverse_factor.shape,
    )
    return sparse.csr_array(vectors[np.argsort(order)])


@dataclass(frozen=True, eq=False)
class ScaledGram:
    """The Gram matrix G of scaled columns of X, with the items in the order of elimination.

    It is computed in blocks of items, twice: for the scales, and for the columns of the factorization.
    """

    by_item: sparse.csr_array
    """(n_items, n_users) Xᵀ."""
    by_user: sparse.csr_array
    """(n_users, n_items) X."""
    order: NDArray[np.int64]
    """(n_items,) the item at each place."""
    scales: NDArray[np.float64]
    """(n_items,) 1/√‖G_j‖, of the Gram matrix without scales."""

    @classmethod
    def of(cls, rows: sparse.csr_array, ties: NDArray[np.int64]) -> Self:
        """Scale and order the items of `rows` (n_users, n_items); equal ones are ordered as `ties`."""
        by_item = transposed(rows.astype(np.float64))
        by_user = transposed(by_item)

        def measure(block: slice) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
            product = sparse.csr_array(by_item[block] @ by_user)
            sizes = np.diff(product.indptr)
            squares = np.bincount(np.repeat(np.arange(len(sizes)), sizes), product.data**2, len(sizes))
            return np.sqrt(squares), sizes

        with closing(in_threads(measure, list(row_blocks(by_item, by_user)))) as measured:
            norms, sizes = (np.concatenate(parts) for parts in zip(*measured, strict=True))
        # Items that share users with few others fill in little when they are eliminated, so they come first.
        order = np.lexsort((ties, sizes))
        by_item = sparse.csr_array(by_item[order])
        return cls(by_item, transposed(by_item), order, inverse(norms, 0.5)[order])

    def columns(self) -> Generator[Column, None, None]:
        """Yield the entries of each column below the diagonal."""

        def lower(block: slice) -> list[Column]:
            product = sparse.csr_array(self.by_item[block] @ self.by_user)
            owners = np.repeat(np.arange(block.start, block.stop), np.diff(product.indptr))
            # The unscaled entries are sums of whole numbers, exact in any order of users.
            values = product.data * self.scales[owners] * self.scales[product.indices]
            below = product.indices > owners
            bounds = np.searchsorted(np.flatnonzero(below), product.indptr[1:-1])
            places, values = product.indices[below], values[below]
            return list(zip(np.split(places, bounds), np.split(values, bounds), strict=True))

        with closing(in_threads(lower, list(row_blocks(self.by_item, self.by_user)))) as blocks:
            for block in blocks:
                yield from block

    def factorize(
        self, ridge: float, budget: int, progress: Progress
    ) -> tuple[sparse.csr_array, NDArray[np.float64]]:
        """Return L and D of ``G + ridge·I ≈ L·D·Lᵀ``: the transpose of L below its diagonal of ones, and the diagonal of D.

        L has at most `budget` entries. The ridge is raised until all pivots are above 0.
        """
        lengths = np.diff(self.by_item.indptr)
        squares = np.bincount(np.repeat(np.arange(len(lengths)), lengths), self.by_item.data**2, len(lengths))
        diagonal = squares * self.scales**2 + ridge
        for restart in count():
            with closing(self.columns()) as columns:
                factor = incomplete_cholesky(columns, diagonal, budget, progress)
            if factor is not None:
                return factor
            diagonal = squares * self.scales**2 + ridge + FIRST_SHIFT * 2.0**restart
        raise AssertionError("a ridge above the sum of each row ends the restarts")


def incomplete_cholesky(
    columns: Iterable[Column], diagonal: NDArray[np.float64], budget: int, progress: Progress
) -> tuple[sparse.csr_array, NDArray[np.float64]] | None:
    """Return the transpose of L below its diagonal of ones, and the diagonal of D, of a symmetric A ≈ L·D·Lᵀ.

    Left-looking: a column of A, less its products with the columns before it, is a column of L, of which the largest entries are
    kept, as many as the budget allows each of those that remain. `None` for a pivot that is not above 0.
    """
    n = len(diagonal)
    capacity = min(budget, n * (n - 1) // 2)
    places, values = np.empty(capacity, dtype=np.int32), np.empty(capacity)
    ends = np.empty(capacity, dtype=np.int64)  # the end of the column in which an entry is
    indptr = np.zeros(n + 1, dtype=np.int64)
    in_row: list[list[int]] = [[] for _ in range(n)]  # where the entries of a row are, once they are known
    pivots, sums, first = diagonal.copy(), np.zeros(n), np.empty(n, dtype=np.int64)
    for j, (below, entries) in enumerate(columns):
        if pivots[j] <= NOTHING * diagonal[j]:
            return None
        # Σ_k L_jk·L[j+1:, k] over the columns k with an entry in row j: what follows that entry in its column.
        at = np.array(in_row[j], dtype=np.int64)
        in_row[j] = []
        lengths = ends[at] - at - 1
        following = np.repeat(at + 1 - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        touched = np.concatenate((below, places[following]))
        np.add.at(
            sums,
            touched,
            np.concatenate((entries, values[following] * -np.repeat(values[at], lengths))),
        )
        # Each place once, without sorting: the one that was written there last.
        first[touched] = np.arange(len(touched))
        rows = touched[first[touched] == np.arange(len(touched))]
        column = sums[rows] / np.sqrt(pivots[j])
        sums[rows] = 0.0
        # Dropped entries count for the pivots as well, which keeps A ≈ L·D·Lᵀ on the diagonal.
        pivots[rows] -= column**2
        strongest = largest(column, rows, (budget - int(indptr[j])) // (n - j))
        stop = int(indptr[j]) + len(strongest)
        places[indptr[j] : stop], values[indptr[j] : stop] = rows[strongest], column[strongest]
        ends[indptr[j] : stop] = stop
        for entry, row in enumerate(rows[strongest].tolist(), int(indptr[j])):
            in_row[row].append(entry)
        indptr[j + 1] = stop
        if not j % PROGRESS_EVERY or j == n - 1:
            progress(ProgressEvent("factorize", j + 1, n))
    used = int(indptr[-1])
    # L·D·Lᵀ with ones on the diagonal: a column is divided by its pivot's root.
    scaled = values[:used] / np.repeat(np.sqrt(pivots), np.diff(indptr))
    return sparse.csr_array((scaled, places[:used], indptr), shape=(n, n)), pivots


PROGRESS_EVERY = 512
"""Columns between two events of progress: about a tenth of a second."""


def largest(values: NDArray[np.float64], places: NDArray[np.int32], k: int) -> NDArray[np.int64]:
    """Return which `k` values have the largest magnitude, in the order of `places`; equal ones by the lower place.

    Values that are 0 are left out.
    """
    magnitudes = np.abs(values)
    if len(values) > k:
        least = np.partition(magnitudes, len(values) - k)[len(values) - k] if k else np.inf
        above, equal = np.flatnonzero(magnitudes > least), np.flatnonzero(magnitudes == least)
        chosen = np.concatenate((above, equal[np.argsort(places[equal])][: k - len(above)]))
    else:
        chosen = np.arange(len(values))
    chosen = chosen[magnitudes[chosen] > 0]
    return chosen[np.argsort(places[chosen])]


def approximate_inverse(lower: sparse.csr_array, each: int) -> sparse.csr_array:
    """Return the transpose of K ≈ L⁻¹ from T, the transpose of L below its diagonal of ones.

    Schulz's iteration ``K ← K(2I − L·K)`` from the identity: one step is I − T; a second one, of which the `each` largest
    entries of a column of K are kept, is taken if the mean of the norms of the columns of I − L·K is above `CLOSE`.
    """
    identity = sparse.eye_array(lower.shape[0], format="csr")
    # After the first step I − L·K is the square of L − I.
    if lower.nnz == 0 or product_norms(lower, lower).mean() <= CLOSE:
        return sparse.csr_array(identity - lower)

    def second(block: slice) -> sparse.csr_array:
        """Rows of −T + T² − T³, its largest entries."""
        step = lower[block] - lower[block] @ lower
        rows = sparse.csr_array(step @ lower - lower[block])
        strongest = top_per_row(abs(rows), each)
        return sparse.csr_array(strongest.multiply(rows.sign()))

    with closing(in_threads(second, list(row_blocks(lower, lower)))) as blocks:
        return sparse.csr_array(identity + sparse.vstack(list(blocks), format="csr"))
