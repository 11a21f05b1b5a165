"""Item-based nearest neighbours."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.models.linear.item_weights import ItemWeights, LinearSpec
from unblur.models.linear.neighbours import column_norms, strongest, transposed
from unblur.progress import Progress
from unblur.space import Dimension, choices
from unblur.spec import spec


@spec
class ItemKNN(LinearSpec[ItemWeights]):
    """Item-based top-N recommendation (Deshpande and Karypis, ACM TOIS 22(1), 2004, section 4).

    Items are similar by the cosine of their columns, shrunk where it rests on little (Bell and Koren, ICDM
    2007): ``s_ij = x_i·x_j / (‖x_i‖‖x_j‖ + h)``. A score is the sum of the similarities to the history's items,
    over the `neighbours` strongest pairs of each item.
    """

    kind: ClassVar[str] = "item-knn"
    fitted: ClassVar[str] = "unblur.models.linear.item_weights:ItemWeights"
    neighbours: PositiveInt = 100
    """How many neighbours of each item count: k."""
    shrinkage: NonNegativeFloat = 0.0
    """What the denominator of the cosine is raised by: h."""
    neighbours_of: Literal["target", "history"] = "target"
    """Whose neighbours they are: of the item that is scored, or of the items in the history (the paper's)."""
    normalize: bool = False
    """Divide an item's weights by their sum, so that a score is a weighted mean over its neighbours."""

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return choices(
            neighbours=(20, 50, 100, 200, 400), shrinkage=(0.0, 10.0, 100.0), normalize=(False, True)
        )

    def fit_rows(self, rows: sparse.csr_array, train: Interactions, progress: Progress) -> ItemWeights:
        """Find the neighbours: Σ_u degree_u² operations, in blocks."""
        norms = column_norms(rows)

        def cosine(
            left: NDArray[np.integer], right: NDArray[np.integer], dots: NDArray[np.float32]
        ) -> NDArray[np.float32]:
            return np.asarray(dots / (norms[left] * norms[right] + self.shrinkage), dtype=np.float32)

        found = strongest(transposed(rows), rows, self.neighbours, weigh=cosine, progress=progress)
        weights = transposed(found) if self.neighbours_of == "target" else found
        return ItemWeights(
            self, train.items, train.item_degrees, weights=by_columns(weights) if self.normalize else weights
        )


def by_columns(weights: sparse.csr_array) -> sparse.csr_array:
    """The weights with each column divided by its sum."""
    sums = np.bincount(weights.indices, weights=weights.data.astype(np.float64), minlength=weights.shape[1])
    data = (weights.data / sums[weights.indices]).astype(np.float32)
    return sparse.csr_array((data, weights.indices, weights.indptr), shape=weights.shape)
