"""EASE for many items: each item is predicted from its closest ones only."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.models.linear.item_weights import ItemWeights, LinearSpec
from unblur.models.linear.regressions import item_regressions
from unblur.progress import Progress
from unblur.space import Dimension, choices
from unblur.spec import spec


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
