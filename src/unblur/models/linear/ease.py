"""EASE, a linear item-to-item model with a closed form of a Gram matrix, and its sparse relatives.

SLIM and sparse EASE solve one small regression an item, on the items closest to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self, TypeAlias, cast

import numpy as np
from numpy.polynomial.chebyshev import chebpts1, chebvander
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat
from scipy import sparse
from scipy.linalg.lapack import spotrf, spotri

from unblur.data.changes import Change
from unblur.data.interactions import Interactions
from unblur.errors import CapabilityError, DataError
from unblur.models.linear.item_weights import ItemWeights, ItemWeightsSpec
from unblur.models.linear.neighbours import column_norms, cosine, strongest, transposed
from unblur.models.shared_features import SharedPasses, rank_batches, rank_settings
from unblur.parallel.memory import available_bytes
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.randomness import RNG
from unblur.recommender import Recommender, WeightUse
from unblur.spec import Count, Dimension, Rounds, SharedSearch, choices, replace_field, spec

COLUMNS_TOGETHER = 1024
"""The number of columns of XᵀX that are multiplied at a time: a sparse block of them is small next to the dense whole."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Degrees and Gram matrix of rows X (n_users, n_items), weighted or not.

    `Statistics.of` of two sets of users add up to that of both; subtracting some users forgets them. Sums of whole
    numbers are exact in float32 up to 2²⁴ users of a pair of items.
    """

    n_users: int
    degrees: NDArray[np.int64]
    """(n_items,) the number of users of each item."""
    gram: NDArray[np.float32]
    """(n_items, n_items) XᵀX, in Fortran order."""

    @classmethod
    def of(cls, rows: sparse.csr_array) -> Self:
        """Sum over the rows: 4·n_items² bytes and Σ_u degree_u² operations.

        Raises `CapabilityError`, before anything is computed, if there is less memory than that.
        """
        n_users, n_items = rows.shape
        needed, available = 4 * n_items**2, available_bytes()
        # Allocating succeeds all the same (the system gives pages when they are written), and the process is killed later.
        CapabilityError.unless(
            available is None or needed <= available,
            f"The Gram matrix of all {n_items:,} items must fit in memory, {needed / 1e9:,.1f} GB; "
            f"{(available or 0) / 1e9:,.1f} GB are available. Fit sansa or sparse-ease, which hold a few weights an item, or keep "
            "fewer items (`data.k_core.items`).",
        )
        gram = np.empty((n_items, n_items), dtype=np.float32, order="F")
        by_item = rows.T.tocsr()
        for start in range(0, n_items, COLUMNS_TOGETHER):
            columns = slice(start, min(start + COLUMNS_TOGETHER, n_items))
            # XᵀX is symmetric: rows of the product are written as columns, which lie together in Fortran order.
            gram[:, columns] = (by_item[columns] @ rows).toarray().T
        return cls(n_users, np.diff(by_item.indptr).astype(np.int64), gram)

    def __add__(self, other: Statistics) -> Statistics:
        """The statistics of the users of both. Raises `DataError` for other items."""
        return self._with(other, 1)

    def __sub__(self, other: Statistics) -> Statistics:
        """The statistics without the users of `other`. Raises `DataError` for other items."""
        return self._with(other, -1)

    def _with(self, other: Statistics, sign: int) -> Statistics:
        DataError.unless(
            self.gram.shape == other.gram.shape,
            f"Statistics must be over the same items; these are over {len(self.degrees):,} and "
            f"{len(other.degrees):,}. Bring the interactions onto one vocabulary.",
        )
        return Statistics(
            self.n_users + sign * other.n_users,
            self.degrees + sign * other.degrees,
            self.gram + np.float32(sign) * other.gram,
        )


@spec(added={"dropout": 0.0, "weights": "binary"})
class EASE(ItemWeightsSpec):
    """Embarrassingly shallow autoencoder (Steck, WWW 2019, arXiv 1905.03375).

    Item weights ``B = I − P·diag(1/diag P)`` with ``P = (XᵀX + λI)⁻¹`` (equation 8), where X is the 0/1 train
    matrix. One dense n_items × n_items float32 matrix, inverted in place.

    With `dropout` it is EDLAE, the linear autoencoder that learns to restore items dropped from its input (Steck,
    *Autoencoders that don't overfit towards the Identity*, NeurIPS 2020): ``P = (XᵀX + Λ)⁻¹`` with
    ``Λ_jj = λ + p/(1 − p)·(XᵀX)_jj``. Scores take whole histories.
    """

    kind: ClassVar[str] = "ease"
    refit_reason: ClassVar[str | None] = None
    ridge: PositiveFloat = 500.0
    """The ridge λ on the item-item weights."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """The probability with which an item of the input is dropped: p. 0 is EASE."""
    weights: WeightUse = "binary"
    """The entries of X: 0/1, or the weights of the interactions, so that ``XᵀX`` sums products of weights."""

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(
            ridge=(50.0, 100.0, 200.0, 350.0, 500.0, 700.0, 1000.0, 1500.0, 2000.0, 3000.0, 5000.0, 10000.0),
            dropout=(0.0, 0.1, 0.2, 0.3, 0.5),
        )

    def shared(self) -> SharedSearch:
        """Score all settings from one Gram matrix and the weights of a few ridges."""
        return cast("SharedSearch", share_ridges)

    def item_weights(
        self, rows: sparse.csr_array, ties: NDArray[np.int64], progress: Progress
    ) -> NDArray[np.float32]:
        """Sum up the rows and solve: 4·n_items² bytes and about n_items³ operations."""
        progress(ProgressEvent("multiply items by items", 0, 3))
        return self.solve(Statistics.of(rows), progress)

    def with_statistics(self, model: Recommender, log: Interactions) -> ItemWeights:
        """Keep the Gram matrix: 4·n_items² bytes."""
        assert isinstance(model, ItemWeights)  # what this spec fits
        return replace(model, gram=Statistics.of(self.with_weights(log).matrix).gram)

    def update(self, model: Recommender, change: Change, run: Run) -> ItemWeights:
        """Change the sums of `model` and solve again; without kept sums, sum over all rows first.

        A changed row adds to the products of its own items alone: only these are summed. Without weights they are whole numbers, and
        the changed rows are added and subtracted. A float minus a float leaves a rounding error that tells of the user who was taken
        out, so weighted products are summed again over all rows.
        """
        assert isinstance(model, ItemWeights)  # what this spec fits
        if model.gram is None:
            return self.fit_in(run, change.after)
        size, remaining = change.after.n_items, np.flatnonzero(change.moved >= 0)
        gram = np.zeros((size, size), dtype=np.float32, order="F")
        gram[np.ix_(change.moved[remaining], change.moved[remaining])] = model.gram[
            np.ix_(remaining, remaining)
        ]
        touched = np.ix_(change.items, change.items)

        def statistics(log: Interactions) -> Statistics:
            of_touched = log.onto(items=change.after.items.take(change.items), unknown="ignore")
            return Statistics.of(self.with_weights(of_touched).matrix)

        if self.uses_weights:
            gram[touched] = statistics(change.after).gram
        else:
            gram[touched] += (statistics(change.added) - statistics(change.removed)).gram
        run.progress(ProgressEvent("multiply items by items", 1, 3))
        weights = self.solve(
            Statistics(change.after.n_users, change.after.item_degrees, gram.copy("F")), run.progress
        )
        return ItemWeights(self, change.after.items, change.after.item_degrees, weights=weights, gram=gram)

    def solve(self, statistics: Statistics, progress: Progress = silent) -> NDArray[np.float32]:
        """Return the weights (n_items, n_items) by equation 8, or EDLAE's; `statistics.gram` is overwritten.

        Raises `DataError` if XᵀX + Λ is not positive definite.
        """
        gram = statistics.gram
        diagonal = np.diag_indices_from(gram)
        gram[diagonal] += self.ridge + self.dropout / (1 - self.dropout) * gram[diagonal]
        progress(ProgressEvent("factorize", 1, 3))
        # The Cholesky factor and then the inverse overwrite the Gram matrix: a large catalogue has no memory for a second.
        # LAPACK reads and writes its lower half alone.
        factor, failed_minor = spotrf(gram, lower=True, clean=False, overwrite_a=True)
        DataError.unless(
            failed_minor == 0,
            f"XᵀX + ridge·I must be positive definite; it is not for ridge = {self.ridge}. Raise `ridge`.",
        )
        progress(ProgressEvent("invert", 2, 3))
        inverse: NDArray[np.float32]
        inverse, _ = spotri(factor, lower=True, overwrite_c=True)
        mirror_lower(inverse)
        weights = inverse.T  # symmetric: the same matrix, but in C order, as scoring needs it
        # B = I − P·diag(1/diag P): off the diagonal each column is divided by minus its diagonal entry.
        weights /= -np.diag(weights)[:, None].copy().T
        np.fill_diagonal(weights, 0.0)
        progress(ProgressEvent("invert", 3, 3))
        return weights


RIDGES = 8
"""Ridges from whose weights those of all others are interpolated. From 50 to 10,000 weights then err by 2e-4 of the largest, and 1 item of
5,000 in a list is another one (400,000 interactions with 2,810 items); with six ridges weights err by up to 4e-3."""


@dataclass(frozen=True, eq=False)
class SharedRidges:
    """The weights of EASE at a few ridges; those of all settings, of one dropout, are combinations of them."""

    train: Interactions
    solved: tuple[EASE, ...]
    weights: tuple[NDArray[np.float32], ...]
    """(n_items, n_items) of each of `solved`."""
    coefficients: NDArray[np.float32]
    """(settings, solved)"""

    def rankings(
        self,
        histories: Interactions,
        *,
        k: int,
        settings: Sequence[int] | None = None,
        progress: Progress = silent,
    ) -> Iterator[tuple[slice, NDArray[np.int32]]]:
        """Yield the best items under each setting, as `SharedRankings` says; see `rank_settings`."""
        table = self.coefficients if settings is None else self.coefficients[list(settings)]

        def rank(batch: Interactions) -> NDArray[np.int32]:
            rows = self.solved[0].with_weights(batch).matrix
            features = np.stack([np.asarray(rows @ weights, dtype=np.float32).T for weights in self.weights])
            return rank_settings(table, features, rows, k, self.train.item_ranks)

        return rank_batches(rank, histories, progress)


def share_ridges(
    specs: Sequence[EASE], train: Interactions, *, rng: RNG | None = None, run: Run = Run()
) -> SharedPasses:
    """Solve for at most eight ridges of each dropout, and interpolate between them; `rng` is not used.

    The weights are an analytic function of log λ, with its poles π off the real line: polynomials through Chebyshev points converge
    fast. Raises `DataError` if the weights do not fit in memory together.
    """
    groups: dict[tuple[float, bool], list[int]] = {}
    for index, setting in enumerate(specs):
        groups.setdefault((setting.dropout, setting.uses_weights), []).append(index)
    needed = 4 * train.n_items**2 * (2 + sum(min(len(own), RIDGES) for own in groups.values()))
    available = available_bytes()
    DataError.unless(
        available is None or needed <= available,
        f"The weights of a few ridges must fit in memory together, {needed / 1e9:,.1f} GB; {(available or 0) / 1e9:,.1f} GB are available. "
        "Judge settings one by one.",
    )
    by_use = {setting.uses_weights: setting for setting in specs}
    statistics = {uses: Statistics.of(setting.with_weights(train).matrix) for uses, setting in by_use.items()}
    return SharedPasses(
        [
            (own, _shared([specs[index] for index in own], statistics[uses], train, run.progress))
            for (_, uses), own in groups.items()
        ]
    )


def _shared(
    specs: Sequence[EASE], statistics: Statistics, train: Interactions, progress: Progress
) -> SharedRidges:
    """Solve for the ridges of some settings of one dropout if they are few, for Chebyshev points among them if not."""
    ridges = np.array([spec.ridge for spec in specs])
    points = np.unique(ridges)
    coefficients = (ridges[:, None] == points).astype(np.float32)
    if len(points) > RIDGES:
        low, high = np.log(points[[0, -1]])
        positions = chebpts1(RIDGES)
        points = np.exp(low + (high - low) * (positions + 1) / 2)
        at_settings = chebvander(2 * (np.log(ridges) - low) / (high - low) - 1, RIDGES - 1)
        coefficients = (at_settings @ np.linalg.inv(chebvander(positions, RIDGES - 1))).astype(np.float32)
    solved = tuple(replace_field(specs[0], "ridge", ridge) for ridge in points.tolist())
    weights = tuple(
        spec.solve(replace(statistics, gram=statistics.gram.copy("F")), progress) for spec in solved
    )
    return SharedRidges(train, solved, weights, coefficients)


def mirror_lower(matrix: NDArray[np.float32]) -> None:
    """Copy the half of a matrix (n, n) below its diagonal to the half above, in place."""
    n = len(matrix)
    for start in range(0, n, COLUMNS_TOGETHER):
        stop = min(start + COLUMNS_TOGETHER, n)
        square = np.tril(matrix[start:stop, start:stop], -1)
        matrix[start:stop, start:stop] = np.tril(matrix[start:stop, start:stop]) + square.T
        matrix[start:stop, stop:] = matrix[stop:, start:stop].T


BLOCK_NUMBERS = 1 << 23
"""The most numbers in the Gram matrices of a block of items together: bounds the memory."""
WHOLE_UP_TO = 4096
"""The most items for which one dense Gram matrix of all is computed: 128 MiB at most, and much faster."""

Solve: TypeAlias = Callable[
    [NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]], NDArray[np.float64]
]
"""From Gram matrices (n, k, k), products with the targets (n, k), and a mask of the neighbours (n, k), to weights (n, k)."""


def closest_items(
    rows: sparse.csr_array, neighbours: int, ties: NDArray[np.int64], progress: Progress
) -> sparse.csr_array:
    """Return the cosines (n_items, n_items) of each item with those closest to it; `ties` are as in `strongest`.

    The entries of a row are in the order of tie ranks: a descent along them that ends before its limit rests on no label.
    """
    norms = column_norms(rows)
    nearest = strongest(
        transposed(rows), rows, neighbours, weigh=cosine(norms, norms), ties=ties, progress=progress
    )
    order = np.lexsort((ties[nearest.indices], np.repeat(np.arange(rows.shape[1]), np.diff(nearest.indptr))))
    return sparse.csr_array((nearest.data[order], nearest.indices[order], nearest.indptr), nearest.shape)


def item_regressions(
    rows: sparse.csr_array, nearest: sparse.csr_array, solve: Solve, progress: Progress
) -> sparse.csr_array:
    """Return weights (n_items, n_items): column j is the solution of `solve` for item j on its `closest_items`.

    All items of a block are solved together; with many items no dense items × items matrix is in memory.
    """
    columns = transposed(rows)
    whole_gram = (columns @ rows).toarray().astype(np.float64) if rows.shape[1] <= WHOLE_UP_TO else None
    counts = np.diff(nearest.indptr)
    data = np.zeros(nearest.nnz)
    n_items = rows.shape[1]
    # Memory for each item: its Gram matrix or, if that is computed from its sparse columns, one of these if longer.
    numbers_each = (int(counts.max(initial=1)) + 1) ** 2
    step = max(
        1, BLOCK_NUMBERS // (numbers_each if whole_gram is not None else max(numbers_each, rows.shape[0]))
    )
    for start in range(0, n_items, step):
        progress(ProgressEvent("regress items", start, n_items))
        stop = min(start + step, n_items)
        # Each item's neighbours, padded with −1, and the item itself last: one Gram matrix then holds both sides.
        entries = slice(nearest.indptr[start], nearest.indptr[stop])
        members = np.full((stop - start, int(counts[start:stop].max(initial=0)) + 1), -1, dtype=np.int64)
        is_neighbour = np.arange(members.shape[1] - 1) < counts[start:stop, None]
        members[:, :-1][is_neighbour] = nearest.indices[entries]
        members[:, -1] = np.arange(start, stop)
        grams = local_grams(columns, members) if whole_gram is None else gather_grams(whole_gram, members)
        data[entries] = solve(grams[:, :-1, :-1], grams[:, :-1, -1], is_neighbour)[is_neighbour]
    progress(ProgressEvent("regress items", n_items, n_items))
    weights = transposed(
        sparse.csr_array((data.astype(np.float32), nearest.indices, nearest.indptr), nearest.shape)
    )
    weights.eliminate_zeros()
    return weights


def local_grams(columns: sparse.csr_array, members: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the products of all pairs of columns within each group, (n_groups, size, size); −1 in `members` gives zeros.

    `columns` is the transposed matrix, with the columns as rows. Groups become blocks of one sparse matrix, each with
    column indices of its own, so that its product with its transpose is block diagonal: one sparse product for all.
    """
    groups, size = members.shape
    flat = members.ravel()
    lengths = np.where(flat >= 0, np.diff(columns.indptr)[flat], 0).astype(np.int64)
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    entries = np.repeat(columns.indptr[flat].astype(np.int64) - indptr[:-1], lengths) + np.arange(indptr[-1])
    group = np.repeat(np.arange(groups * size) // size, lengths)
    block_columns = group * columns.shape[1] + columns.indices[entries]
    wide = sparse.csr_array(
        (columns.data[entries].astype(np.float64), block_columns, indptr),
        shape=(groups * size, groups * columns.shape[1]),
    )
    product = sparse.coo_array(wide @ wide.T)
    products = np.zeros((groups * size, size))
    products[product.coords[0], product.coords[1] % size] = product.data
    return products.reshape(groups, size, size)


def gather_grams(whole_gram: NDArray[np.float64], members: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the same, from the Gram matrix of all columns."""
    present = members >= 0
    products = whole_gram[members[:, :, None], members[:, None, :]]
    return np.where(present[:, :, None] & present[:, None, :], products, 0.0)


@spec(added={"weights": "binary"})
class SLIM(ItemWeightsSpec):
    """SLIM with feature selection, fsSLIM (Ning and Karypis, ICDM 2011, equation 4 and section 3.4).

    Column j of the weights W minimises ``½‖x_j − Xw‖² + (β/2)‖w‖² + λ‖w‖₁``, with ``w_jj = 0`` (and ``w ≥ 0``), over the
    `neighbours` items closest to j by cosine; all other weights are 0. Solved by cyclic coordinate descent
    (Friedman, Hastie and Tibshirani, JSS 33(1), 2010), many items at a time.
    """

    kind: ClassVar[str] = "slim"
    l1: NonNegativeFloat = 1.0
    """The penalty on the sum of weights: λ."""
    l2: PositiveFloat = 100.0
    """The penalty on their squares: β."""
    neighbours: Count = 100
    """The most items that each item is predicted from."""
    nonnegative: bool = True
    """Constrain weights to be at least 0."""
    sweeps: Rounds = 100
    """The most passes over the coordinates."""
    tolerance: PositiveFloat = 1e-5
    """Passes end when no weight of a block changes by more than this."""
    weights: WeightUse = "binary"
    """The entries of X: 0/1, or the weights of the interactions, which are then what ``Xw`` restores."""

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(
            l1=(0.1, 0.5, 1.0, 2.0, 5.0),
            l2=(10.0, 50.0, 100.0, 200.0, 500.0, 1000.0),
            neighbours=(50, 100, 200),
        )

    def item_weights(
        self, rows: sparse.csr_array, ties: NDArray[np.int64], progress: Progress
    ) -> sparse.csr_array:
        """Solve n_items elastic nets of `neighbours` variables, in blocks."""
        nearest = closest_items(rows, self.neighbours, ties, progress)
        return item_regressions(rows, nearest, self._coordinate_descent, progress)

    def _coordinate_descent(
        self, grams: NDArray[np.float64], targets: NDArray[np.float64], real: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Return the minima (n, k) of n elastic nets, solved at once; coordinates that are not `real` stay 0.

        A coordinate's minimum is ``S(ρ, λ) / (x_iᵀx_i + β)``, with ρ the product of its column and the residual without
        it, and S the soft threshold (Friedman et al., equation 5). Problems that have converged are removed.
        """
        # Gram rows of one coordinate in all problems are read together: contiguous, that is one pass.
        by_coordinate = np.ascontiguousarray(grams.transpose(1, 0, 2))
        # X_Dᵀ(x_j − X_D w), kept up to date instead of the longer residual itself ("covariance updates").
        solution, residual_products = np.zeros_like(targets), targets.copy()
        curvature = np.diagonal(grams, axis1=1, axis2=2) + self.l2
        active, weights = np.arange(len(targets)), solution.copy()
        unsettled = np.ones(len(targets), dtype=bool)
        for _ in range(self.sweeps):
            largest_step = np.zeros(len(active))
            for coordinate in range(targets.shape[1]):
                before = weights[:, coordinate]
                correlation = residual_products[:, coordinate] + (curvature[:, coordinate] - self.l2) * before
                shrunk = np.maximum(np.abs(correlation) - self.l1, 0.0)
                after = (
                    np.where(correlation > 0, shrunk, 0.0 if self.nonnegative else -shrunk)
                    / curvature[:, coordinate]
                )
                step = np.where(real[:, coordinate], after - before, 0.0)
                np.maximum(largest_step, np.abs(step), out=largest_step)
                changed = np.flatnonzero(step)
                if len(changed):
                    residual_products[changed] -= step[changed, None] * by_coordinate[coordinate, changed]
                    weights[changed, coordinate] += step[changed]
            # A problem ends with its own last pass, however long the others of its block take.
            solution[active[unsettled]] = weights[unsettled]
            unsettled &= largest_step > self.tolerance
            if not unsettled.any():
                break
            # Removing problems copies the rest, so it waits until 30 % have converged; this changes the time alone.
            if unsettled.mean() < 0.7:
                active, weights, residual_products = (
                    active[unsettled],
                    weights[unsettled],
                    residual_products[unsettled],
                )
                curvature, real, by_coordinate = (
                    curvature[unsettled],
                    real[unsettled],
                    by_coordinate[:, unsettled],
                )
                unsettled = unsettled[unsettled]
        return solution


@spec(added={"weights": "binary"})
class SparseEASE(ItemWeightsSpec):
    """EASE with a sparse matrix of weights (Steck, *Markov Random Fields for Collaborative Filtering*, NeurIPS 2019,
    arXiv 1910.09645, section 3.2).

    Column j of EASE's B is the ridge regression of item j on all others. Here it is the one on the `neighbours`
    items D closest to j by cosine: ``B_Dj = (X_DᵀX_D + λI)⁻¹ X_DᵀX_j``, solved exactly; all other weights are 0. With
    as many neighbours as there are items it is EASE. It takes 8·neighbours·n_items bytes instead of 4·n_items².
    """

    kind: ClassVar[str] = "sparse-ease"
    ridge: PositiveFloat = 200.0
    """The ridge λ on the item-item weights."""
    neighbours: Count = 100
    """The number of items that each item is predicted from: |D|."""
    weights: WeightUse = "binary"
    """The entries of X: 0/1, or the weights of the interactions, as in `EASE`."""

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(ridge=(10.0, 30.0, 100.0, 200.0, 500.0, 1000.0, 2000.0), neighbours=(50, 100, 200))

    def item_weights(
        self, rows: sparse.csr_array, ties: NDArray[np.int64], progress: Progress
    ) -> sparse.csr_array:
        """Solve n_items systems of `neighbours` equations, in blocks."""

        def ridge(
            grams: NDArray[np.float64], targets: NDArray[np.float64], real: NDArray[np.bool_]
        ) -> NDArray[np.float64]:
            regularized = grams + self.ridge * np.eye(grams.shape[1])
            return np.asarray(np.linalg.solve(regularized, targets[:, :, None])[:, :, 0])

        nearest = closest_items(rows, self.neighbours, ties, progress)
        return item_regressions(rows, nearest, ridge, progress)
