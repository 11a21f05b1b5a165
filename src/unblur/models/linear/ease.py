"""EASE: a linear item-to-item model with a closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError
from unblur.models.linear.item_weights import ItemWeightsRecommender, Weights
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG
from unblur.recommender import Tensors
from unblur.spec import spec


@spec
class EASE:
    """Embarrassingly shallow autoencoder (Steck, WWW 2019, arXiv 1905.03375).

    Item weights ``B = I − P·diag(1/diag P)`` with ``P = (XᵀX + λI)⁻¹`` (equation 8), where X is the 0/1 train
    matrix. One dense n_items × n_items float32 matrix, inverted in place.
    """

    kind: ClassVar[str] = "ease"
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "ridge": (50.0, 100.0, 200.0, 350.0, 500.0, 700.0, 1000.0, 1500.0, 2000.0, 3000.0, 5000.0, 10000.0)
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
        import torch

        progress(ProgressEvent("multiply items by items", 0, 3))
        gram = np.empty((train.n_items, train.n_items), dtype=np.float32, order="F")
        transposed = rows.T.tocsr()
        for start in range(0, train.n_items, 1024):
            columns = slice(start, min(start + 1024, train.n_items))
            gram[:, columns] = (transposed[columns] @ rows).toarray().T
        gram[np.diag_indices_from(gram)] += self.ridge
        progress(ProgressEvent("factorize", 1, 3))
        inverse = torch.from_numpy(gram)  # both steps write over it: there is no room for a second one
        info = torch.empty((), dtype=torch.int32)
        torch.linalg.cholesky_ex(inverse, out=(inverse, info))
        if int(info):
            raise DataError(
                f"XᵀX + ridge·I must be positive definite; it is not for ridge = {self.ridge}. Raise `ridge`."
            )
        progress(ProgressEvent("invert", 2, 3))
        torch.cholesky_inverse(inverse, out=inverse)
        weights = gram.T  # symmetric: the same matrix, but in C order, as scoring needs it
        weights /= -np.diag(weights)[:, None].copy().T
        np.fill_diagonal(weights, 0.0)
        progress(ProgressEvent("invert", 3, 3))
        return ItemWeightsRecommender(self, train.items, train.item_degrees, weights)

    def restore(
        self, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
    ) -> ItemWeightsRecommender:
        """The fitted recommender from its saved parts."""
        return ItemWeightsRecommender(self, items, item_counts, cast("Weights", tensors["weights"]), device)
