"""One small regression an item, on the items closest to it: SLIM and sparse EASE."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.models.linear.item_weights import ItemWeights, LinearSpec
from unblur.models.linear.neighbours import column_norms, strongest, transposed
from unblur.progress import Progress, ProgressEvent
from unblur.space import Dimension, choices
from unblur.spec import spec

BLOCK_NUMBERS = 1 << 23
"""How many numbers the Gram matrices of a block of items hold together: bounds the memory."""
WHOLE_UP_TO = 4096
"""With so many items or fewer one dense Gram matrix of all is made: 128 MiB at most, and much faster."""

Solve: TypeAlias = Callable[
    [NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]], NDArray[np.float64]
]
"""From Gram matrices (n, k, k), products with the targets (n, k), and which of k are real, to weights (n, k)."""


def item_regressions(
    rows: sparse.csr_array, neighbours: int, solve: Solve, progress: Progress
) -> sparse.csr_array:
    """Weights (n_items, n_items), column j those that `solve` finds for item j on its closest items by cosine.

    All items of a block are solved together; with many items no items × items matrix exists.
    """
    columns, norms = transposed(rows), column_norms(rows)
    close = strongest(
        columns,
        rows,
        neighbours,
        weigh=lambda left, right, dots: np.asarray(dots / (norms[left] * norms[right]), dtype=np.float32),
        progress=progress,
    )
    whole = (columns @ rows).toarray().astype(np.float64) if rows.shape[1] <= WHOLE_UP_TO else None
    counts = np.diff(close.indptr)
    data = np.zeros(close.nnz)
    width, n_items, start = int(counts.max(initial=1)), rows.shape[1], 0
    step = max(1, BLOCK_NUMBERS // (width + 1) ** 2)
    if whole is None:
        step = max(1, min(step, BLOCK_NUMBERS // max(1, rows.shape[0])))
    while start < n_items:
        progress(ProgressEvent("regress items", start, n_items))
        stop = min(start + step, n_items)
        own = np.arange(start, stop)
        members = np.full((len(own), int(counts[start:stop].max(initial=0)) + 1), -1, dtype=np.int64)
        real = np.arange(members.shape[1] - 1) < counts[start:stop, None]
        members[:, :-1][real] = close.indices[close.indptr[start] : close.indptr[stop]]
        members[:, -1] = own
        grams = local_grams(columns, members) if whole is None else gathered(whole, members)
        solved = solve(grams[:, :-1, :-1], grams[:, :-1, -1], real)
        data[close.indptr[start] : close.indptr[stop]] = solved[real]
        start = stop
    progress(ProgressEvent("regress items", n_items, n_items))
    made = transposed(sparse.csr_array((data.astype(np.float32), close.indices, close.indptr), close.shape))
    made.eliminate_zeros()
    return made


def local_grams(columns: sparse.csr_array, members: NDArray[np.int64]) -> NDArray[np.float64]:
    """The products of all pairs of columns within each group, (n_groups, size, size); `members` of −1 give zeros.

    `columns` is the transposed matrix, one row a column. Groups are laid side by side, as blocks of one sparse
    matrix whose product with its transpose is block diagonal.
    """
    groups, size = members.shape
    flat = members.ravel()
    lengths = np.where(flat >= 0, np.diff(columns.indptr)[flat], 0).astype(np.int64)
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    entries = np.repeat(columns.indptr[flat].astype(np.int64) - indptr[:-1], lengths) + np.arange(indptr[-1])
    group = np.repeat(np.arange(groups * size) // size, lengths)
    places = group * columns.shape[1] + columns.indices[entries]
    wide = sparse.csr_array(
        (columns.data[entries].astype(np.float64), places, indptr),
        shape=(groups * size, groups * columns.shape[1]),
    )
    product = sparse.coo_array(wide @ wide.T)
    made = np.zeros((groups * size, size))
    made[product.coords[0], product.coords[1] % size] = product.data
    return made.reshape(groups, size, size)


def gathered(whole: NDArray[np.float64], members: NDArray[np.int64]) -> NDArray[np.float64]:
    """The same from the products of all pairs."""
    real = members >= 0
    made = whole[members[:, :, None], members[:, None, :]]
    made *= real[:, :, None] & real[:, None, :]
    return np.asarray(made)


@spec
class SLIM(LinearSpec[ItemWeights]):
    """SLIM with feature selection, fsSLIM (Ning and Karypis, ICDM 2011, equation 4 and section 3.4).

    Column j of the weights W minimises ``½‖x_j − Xw‖² + (β/2)‖w‖² + λ‖w‖₁``, with ``w_jj = 0`` (and ``w ≥ 0``), over the
    `neighbours` items closest to j by cosine; all other weights are 0. Solved by cyclic coordinate descent
    (Friedman, Hastie and Tibshirani, JSS 33(1), 2010), many items at a time.
    """

    kind: ClassVar[str] = "slim"
    fitted: ClassVar[str] = "unblur.models.linear.item_weights:ItemWeights"
    l1: NonNegativeFloat = 1.0
    """The penalty on the sum of weights: λ."""
    l2: PositiveFloat = 100.0
    """The penalty on their squares: β."""
    neighbours: PositiveInt = 100
    """How many items each item is predicted from, at most."""
    nonnegative: bool = True
    """Whether weights must not be below 0."""
    sweeps: PositiveInt = 100
    """The most passes over the coordinates."""
    tolerance: PositiveFloat = 1e-5
    """Passes end when no weight of a block changes by more than this."""

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return choices(
            l1=(0.1, 0.5, 1.0, 2.0, 5.0),
            l2=(10.0, 50.0, 100.0, 200.0, 500.0, 1000.0),
            neighbours=(50, 100, 200),
        )

    def fit_rows(self, rows: sparse.csr_array, train: Interactions, progress: Progress) -> ItemWeights:
        """Solve n_items elastic nets of `neighbours` variables, in blocks."""
        weights = item_regressions(rows, self.neighbours, self._descended, progress)
        return ItemWeights(self, train.items, train.item_degrees, weights=weights)

    def _descended(
        self, grams: NDArray[np.float64], targets: NDArray[np.float64], real: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """The minima (n, k) of n elastic nets at once; coordinates that are not `real` stay 0.

        Problems whose weights have settled are put aside, so that the slow ones alone go on.
        """
        by_coordinate = np.ascontiguousarray(grams.transpose(1, 0, 2))
        solved, left = np.zeros_like(targets), targets.copy()  # left: X_Dᵀ(x_j − X_D w)
        curvature = np.diagonal(grams, axis1=1, axis2=2) + self.l2
        going = np.arange(len(targets))
        weights = solved.copy()
        for _ in range(self.sweeps):
            moved = np.zeros(len(going))
            for place in range(targets.shape[1]):
                old = weights[:, place]
                pull = left[:, place] + (curvature[:, place] - self.l2) * old
                size = np.maximum(np.abs(pull) - self.l1, 0.0)
                new = np.where(pull > 0, size, 0.0 if self.nonnegative else -size) / curvature[:, place]
                step = np.where(real[:, place], new - old, 0.0)
                np.maximum(moved, np.abs(step), out=moved)
                changed = np.flatnonzero(step)
                if len(changed):
                    left[changed] -= step[changed, None] * by_coordinate[place, changed]
                    weights[changed, place] += step[changed]
            solved[going] = weights
            still = moved > self.tolerance
            if not still.any():
                break
            if still.mean() < 0.7:
                going, weights, left = going[still], weights[still], left[still]
                curvature, real, by_coordinate = curvature[still], real[still], by_coordinate[:, still]
        return solved


@spec
class SparseEASE(LinearSpec[ItemWeights]):
    """EASE with a sparse matrix of weights (Steck, *Markov Random Fields for Collaborative Filtering*, NeurIPS 2019,
    arXiv 1910.09645, section 3.2).

    Column j of EASE's B is the ridge regression of item j on all others. Here it is the one on the `neighbours`
    items D closest to j by cosine: ``B_Dj = (X_DᵀX_D + λI)⁻¹ X_DᵀX_j``, solved exactly; all other weights are 0. With
    as many neighbours as there are items it is EASE. It takes 8·neighbours·n_items bytes instead of 4·n_items².
    """

    kind: ClassVar[str] = "sparse-ease"
    fitted: ClassVar[str] = "unblur.models.linear.item_weights:ItemWeights"
    ridge: PositiveFloat = 200.0
    """The ridge λ on the item-item weights."""
    neighbours: PositiveInt = 100
    """How many items each item is predicted from: |D|."""

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return choices(ridge=(10.0, 30.0, 100.0, 200.0, 500.0, 1000.0, 2000.0), neighbours=(50, 100, 200))

    def fit_rows(self, rows: sparse.csr_array, train: Interactions, progress: Progress) -> ItemWeights:
        """Solve n_items systems of `neighbours` equations, in blocks."""

        def ridge(
            grams: NDArray[np.float64], targets: NDArray[np.float64], real: NDArray[np.bool_]
        ) -> NDArray[np.float64]:
            regularized = grams + self.ridge * np.eye(grams.shape[1])
            return np.asarray(np.linalg.solve(regularized, targets[:, :, None])[:, :, 0])

        weights = item_regressions(rows, self.neighbours, ridge, progress)
        return ItemWeights(self, train.items, train.item_degrees, weights=weights)
