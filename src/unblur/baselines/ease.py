"""EASE: a linear item-to-item model with a closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat
from scipy import sparse
from scipy.linalg import lapack

from unblur.baselines.item_weights import ItemWeightsRecommender, Weights
from unblur.errors import DataError
from unblur.interactions import Interactions
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG
from unblur.recommender import Tensors
from unblur.spec import spec
from unblur.vocabulary import Vocabulary


@spec
class EASE:
    """Embarrassingly shallow autoencoder (Steck, WWW 2019, arXiv 1905.03375).

    Item weights ``B = I − P·diag(1/diag P)`` with ``P = (XᵀX + λI)⁻¹`` (equation 8), where X is the 0/1 train
    matrix. One dense n_items × n_items float32 matrix, inverted in place.
    """

    kind: ClassVar[str] = "ease"
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "ridge": (50.0, 100.0, 200.0, 350.0, 500.0, 700.0, 1000.0, 1500.0, 2000.0, 3000.0)
    }
    """What a search tries unless told otherwise."""
    ridge: PositiveFloat = 500.0
    """The ridge λ on the item-item weights."""

    def fit(
        self, train: Interactions, *, rng: RNG | None = None, device: str = "cpu", progress: Progress = silent
    ) -> ItemWeightsRecommender:
        """Solve for the item weights: 4·n_items² bytes and about n_items³ operations; `rng` is not needed."""
        return self.fit_rows(train.binarized().matrix, train, progress)

    def fit_rows(
        self, rows: sparse.csr_array, train: Interactions, progress: Progress = silent
    ) -> ItemWeightsRecommender:
        """Fit to `rows`, those of `train` with other weights."""
        progress(ProgressEvent("multiply items by items", 0, 3))
        gram = np.empty((train.n_items, train.n_items), dtype=np.float32, order="F")
        transposed = rows.T.tocsr()
        for start in range(0, train.n_items, 1024):
            columns = slice(start, min(start + 1024, train.n_items))
            gram[:, columns] = (transposed[columns] @ rows).toarray().T
        gram[np.diag_indices_from(gram)] += self.ridge
        progress(ProgressEvent("factorize", 1, 3))
        factor, info = lapack.spotrf(gram, lower=False, overwrite_a=True)
        if info == 0:
            progress(ProgressEvent("invert", 2, 3))
            factor, info = lapack.spotri(factor, lower=False, overwrite_c=True)
        if info != 0:
            raise DataError(
                f"XᵀX + ridge·I must be positive definite; it is not for ridge = {self.ridge}. Raise `ridge`."
            )
        weights = _mirrored(factor).T  # symmetric: the same matrix, but in C order, as scoring needs it
        weights /= -np.diag(weights)[:, None].copy().T
        np.fill_diagonal(weights, 0.0)
        progress(ProgressEvent("invert", 3, 3))
        return ItemWeightsRecommender(self, train.items, train.item_degrees, weights)

    def restore(
        self, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
    ) -> ItemWeightsRecommender:
        """The fitted recommender from its saved parts."""
        return ItemWeightsRecommender(self, items, item_counts, cast("Weights", tensors["weights"]), device)


def _mirrored(upper: NDArray[np.float32], block: int = 2048) -> NDArray[np.float32]:
    """The symmetric matrix whose upper triangle is given, filled in place block by block."""
    n = len(upper)
    for start in range(0, n, block):
        stop = min(start + block, n)
        square = upper[start:stop, start:stop]
        square[:] = np.triu(square) + np.triu(square, 1).T
        upper[stop:, start:stop] = upper[start:stop, stop:].T
    return upper
