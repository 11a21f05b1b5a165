"""Linear models of low rank: PureSVD, and the truncated SVD that measures the utility of synthetic users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions, check_train
from unblur.errors import SpecError
from unblur.models.linear.item_weights import SCORED_TOGETHER, LinearRecommender, LinearSpec
from unblur.models.linear.neighbours import column_norms, inverse
from unblur.progress import Progress, ProgressEvent, Run
from unblur.randomness import RNG, streams
from unblur.recommender import Recommender, StoppingData, WeighingSpec, WeightUse, learned
from unblur.spec import Dimension, Width, choices, spec

SMALL = 1 << 20
"""Items' vectors with fewer numbers are multiplied in float64. BLAS libraries have other kernels for products of so few
numbers, and in float64 those are fast enough."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Factors(LinearRecommender):
    """A history's vector is the sum of its items' `inward` vectors; a score is its product with `outward`."""

    batch: ClassVar[int] = SCORED_TOGETHER
    inward: NDArray[np.float32] = learned("items", "width")
    outward: NDArray[np.float32] | None = learned("items", "width", default=None)
    """`None` if it equals `inward`."""

    def score_rows(self, rows: sparse.csr_array) -> NDArray[np.float32]:
        """Return scores (n_rows, n_items) of rows with any weights."""
        inward, outward = self.tables()
        return products(np.asarray(rows.astype(np.float64) @ inward.astype(np.float64)), outward)

    def tables(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The inward and the outward vectors."""
        return self.inward, self.inward if self.outward is None else self.outward


def products(users: NDArray[np.float64], items: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the products of users' vectors (n_users, rank) and items' (n_items, rank), float32.

    A row's bits must not depend on which rows are multiplied together. Where kernels change with the number of rows,
    products are computed in float64, whose rounding float32 does not show. Large ones have one kernel for two rows or
    more, in float32 with a sixth of the time; a single row would be a product of a matrix and a vector, so it is doubled.
    """
    if items.size < SMALL:
        return np.asarray(users @ items.T.astype(np.float64), dtype=np.float32)
    vectors = users.astype(np.float32)
    return vectors @ items.T if len(vectors) != 1 else (np.repeat(vectors, 2, axis=0) @ items.T)[:1]


DENSE_BELOW = 400
"""Matrices with a side this short are decomposed densely."""
NOTHING = 1e-5
"""Singular values below this share of the largest are rounding errors."""


@spec(added={"weights": "binary"})
class PureSVD(LinearSpec[Factors]):
    """PureSVD (Cremonesi, Koren and Turrin, RecSys 2010, equation 5): a score is ``x·V·Vᵀ``, where V are the leading
    right singular vectors of the 0/1 train matrix.

    With `scaling` it is EigenRec (Nikolakopoulos et al., KAIS 58, 2019): the columns are first divided by
    ``‖column‖^(1 − scaling)``.
    """

    kind: ClassVar[str] = "pure-svd"
    fitted: ClassVar[str] = "unblur.models.linear.factors:Factors"
    rank: Width = 64
    """The number of singular vectors: f. With fewer users or items than that, all of them."""
    scaling: float = 1.0
    """The power of its norm that a column keeps: d. 1 leaves the matrix as it is, 0 makes all columns unit vectors."""
    weights: WeightUse = "binary"
    """The entries of the train matrix and of x: 0/1, or the weights of the interactions."""

    def __post_init__(self) -> None:
        SpecError.unless(
            -2 <= self.scaling <= 2,
            f"`scaling` must lie from -2 to 2; saw {self.scaling}. Use 1 for PureSVD itself, 0 for the cosine.",
        )

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(rank=(16, 32, 64, 128, 256, 512), scaling=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0))

    def fit_rows(self, rows: sparse.csr_array, train: Interactions, progress: Progress) -> Factors:
        """Decompose by ARPACK, from the same start vector every time."""
        progress(ProgressEvent("find singular vectors", 0, 1))
        scale = inverse(column_norms(rows), 1 - self.scaling)
        scaled = sparse.csr_array(
            (rows.data * scale[rows.indices], rows.indices, rows.indptr), shape=rows.shape
        )
        vectors = leading_right_vectors(scaled, min(self.rank, *rows.shape))
        progress(ProgressEvent("find singular vectors", 1, 1))
        return Factors(self, train.items, train.item_degrees, inward=vectors)


def leading_right_vectors(matrix: sparse.csr_array, rank: int) -> NDArray[np.float32]:
    """Return the right singular vectors (n_columns, at most `rank`), largest value first, without those of value 0.

    Signs are fixed: the largest component of each is positive.
    """
    from scipy.sparse.linalg import svds

    doubles = matrix.astype(np.float64)
    if min(doubles.shape) <= max(DENSE_BELOW, rank + 1):
        _, values, right = np.linalg.svd(doubles.toarray(), full_matrices=False)
    else:
        start = np.random.default_rng(0).random(min(doubles.shape))
        _, values, right = svds(doubles, k=rank, v0=start, solver="arpack")
    order = np.argsort(-values, kind="stable")[:rank]
    # The bound is above 0 for an empty matrix as well, which has no vectors.
    order = order[values[order] > NOTHING * max(1e-30, float(values.max(initial=0.0)))]
    largest = np.abs(right[order]).argmax(axis=1)
    signs = np.sign(right[order, largest])
    return np.ascontiguousarray((right[order] * signs[:, None]).T, dtype=np.float32)


OVERSAMPLES, POWER_ITERATIONS = 10, 5
"""Directions more than the rank, and products with the matrix and back: scikit-learn's defaults."""


def random_right_vectors(
    matrix: sparse.csr_array, rank: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Return about the leading right singular vectors (n_columns, rank), from the image of random directions.

    Halko, Martinsson and Tropp, SIAM Review 53, 2011, algorithms 4.4 and 5.1.
    """
    doubles = matrix.astype(np.float64)
    block = random.standard_normal((matrix.shape[1], min(rank + OVERSAMPLES, *matrix.shape)))
    for _ in range(POWER_ITERATIONS):
        block = np.linalg.qr(doubles.T @ np.linalg.qr(doubles @ block).Q).Q
    _, _, right = np.linalg.svd(doubles @ block, full_matrices=False)
    return np.ascontiguousarray(block @ right[:rank].T, dtype=np.float32)


@spec(added={"weights": "use"})
class TruncatedSVD(WeighingSpec["Projection"]):
    """Scores are the history's projection onto the leading right singular vectors, x·V·Vᵀ."""

    kind: ClassVar[str] = "truncated-svd"
    zero_without_signal: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.linear.factors:Projection"
    rank: Width = 20
    """The number of singular vectors."""
    algorithm: Literal["arpack", "randomized"] = "arpack"
    """``arpack`` is exact and takes no `rng`; ``randomized``, scikit-learn's default, draws random directions."""
    weights: WeightUse = "use"
    """The entries of the train matrix and of x: the weights of the interactions, or 0/1."""

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(rank=(8, 16, 20, 32, 64, 128, 256))

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> Projection:
        """Decompose the train matrix. Raises `SpecError` for a rank too large for it."""
        check_train(train)
        SpecError.unless(
            self.rank < min(train.matrix.shape),
            f"`rank` must be below the numbers of users and items, {train.n_users:,} and {train.n_items:,}; "
            f"saw {self.rank}. Lower it.",
        )
        matrix = self.with_weights(train).matrix
        if self.algorithm == "arpack":
            leading = leading_right_vectors(matrix, self.rank)
        else:
            random = streams(rng, "start vector")["start vector"]
            leading = random_right_vectors(matrix, self.rank, random)
        # Where a singular value is 0 its vector is 0 too, and adds nothing to a score.
        vectors = np.zeros((train.n_items, self.rank), dtype=np.float32)
        vectors[:, : leading.shape[1]] = leading
        return Projection(self, train.items, train.item_degrees, device=run.device, vectors=vectors)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Projection(Recommender["TruncatedSVD"]):
    """Projects a history onto right singular vectors."""

    linear: ClassVar[bool] = True
    vectors: NDArray[np.float32] = learned("items", "rank")
    """V."""

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        projected = self.spec.with_weights(histories).matrix.astype(np.float64) @ self.vectors
        return np.asarray(projected @ self.vectors.T, dtype=np.float32)
