"""PureSVD: projection of a history on the leading singular vectors of the train matrix."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.errors import SpecError
from unblur.models.linear.factors import Factors
from unblur.models.linear.item_weights import LinearSpec
from unblur.models.linear.neighbours import column_norms, inverse
from unblur.progress import Progress, ProgressEvent
from unblur.space import Dimension, choices
from unblur.spec import spec

DENSE_BELOW = 400
"""Matrices with a side this short are decomposed densely."""
NOTHING = 1e-5
"""Singular values below this share of the largest are rounding errors."""


@spec
class PureSVD(LinearSpec[Factors]):
    """PureSVD (Cremonesi, Koren and Turrin, RecSys 2010, equation 5): a score is ``x·V·Vᵀ``, where V are the leading
    right singular vectors of the 0/1 train matrix.

    With `scaling` it is EigenRec (Nikolakopoulos et al., KAIS 58, 2019): the columns are first divided by
    ``‖column‖^(1 − scaling)``.
    """

    kind: ClassVar[str] = "pure-svd"
    fitted: ClassVar[str] = "unblur.models.linear.factors:Factors"
    rank: PositiveInt = 64
    """How many singular vectors: f. With fewer users or items than that, all there are."""
    scaling: float = 1.0
    """How much of its norm a column keeps: d. 1 leaves the matrix as it is, 0 makes all columns unit vectors."""

    def __post_init__(self) -> None:
        if not -2 <= self.scaling <= 2:
            raise SpecError(
                f"`scaling` must lie from -2 to 2; saw {self.scaling}. Use 1 for PureSVD itself, 0 for the cosine."
            )

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return choices(rank=(16, 32, 64, 128, 256, 512), scaling=(0.0, 0.2, 0.4, 0.6, 0.8, 1.0))

    def fit_rows(self, rows: sparse.csr_array, train: Interactions, progress: Progress) -> Factors:
        """Decompose by ARPACK from a start vector that is always the same."""
        progress(ProgressEvent("find singular vectors", 0, 1))
        scale = inverse(column_norms(rows), 1 - self.scaling)
        scaled = sparse.csr_array(
            (rows.data * scale[rows.indices], rows.indices, rows.indptr), shape=rows.shape
        )
        vectors = leading_right_vectors(scaled, min(self.rank, *rows.shape))
        progress(ProgressEvent("find singular vectors", 1, 1))
        return Factors(self, train.items, train.item_degrees, inward=vectors)


def leading_right_vectors(matrix: sparse.csr_array, rank: int) -> NDArray[np.float32]:
    """The right singular vectors (n_columns, at most `rank`), largest value first, without those of value 0."""
    from scipy.sparse.linalg import svds

    wide = matrix.astype(np.float64)
    if min(wide.shape) <= max(DENSE_BELOW, rank + 1):
        _, values, right = np.linalg.svd(wide.toarray(), full_matrices=False)
    else:
        start = np.random.default_rng(0).random(min(wide.shape))
        _, values, right = svds(wide, k=rank, v0=start, solver="arpack")
    order = np.argsort(-values, kind="stable")[:rank]
    order = order[values[order] > NOTHING * max(1e-30, float(values.max(initial=0.0)))]
    largest = np.abs(right[order]).argmax(axis=1)
    signs = np.sign(right[order, largest])
    return np.ascontiguousarray((right[order] * signs[:, None]).T, dtype=np.float32)
