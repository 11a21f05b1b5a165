"""RP3beta: three steps of a random walk between users and items, with popular items held back."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.models.linear.item_knn import by_columns
from unblur.models.linear.item_weights import ItemWeights, LinearSpec
from unblur.models.linear.neighbours import inverse, strongest, transposed
from unblur.progress import Progress
from unblur.space import Dimension, choices
from unblur.spec import spec


@spec
class RP3Beta(LinearSpec[ItemWeights]):
    """RP³β (Paudel, Christoffel, Newell and Bernstein, ACM TiiS 7(1), 2017, section 3; P³α is β = 0).

    A walk goes from a history's item i to a user v who has it, and on to an item j:
    ``w_ij = Σ_v p(v|i)^α p(j|v)^α / d_j^β``, where a transition's probability is its share of the row and d_j is
    how much item j was taken. The walk's first step is the same for all items of a history and is left out.
    """

    kind: ClassVar[str] = "rp3beta"
    fitted: ClassVar[str] = "unblur.models.linear.item_weights:ItemWeights"
    alpha: PositiveFloat = 1.0
    """The power of the transitions' probabilities: α."""
    beta: NonNegativeFloat = 0.6
    """The power of the item's popularity that a score is divided by: β."""
    neighbours: PositiveInt = 100
    """How many weights of each item are kept."""
    neighbours_of: Literal["target", "history"] = "history"
    """Whose weights they are: of the item that is scored, or of the items in the history."""
    normalize: bool = False
    """Divide the weights that lead to an item by their sum."""

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return choices(
            alpha=(0.6, 0.8, 1.0, 1.2), beta=(0.0, 0.2, 0.4, 0.6, 0.8), neighbours=(50, 100, 200, 400)
        )

    def fit_rows(self, rows: sparse.csr_array, train: Interactions, progress: Progress) -> ItemWeights:
        """Multiply the transitions: Σ_u degree_u² operations, in blocks."""
        popular = np.asarray(rows.sum(axis=0), dtype=np.float64).ravel()
        held_back = inverse(popular, self.beta)
        to_users, to_items = _transitions(transposed(rows), self.alpha), _transitions(rows, self.alpha)

        if self.neighbours_of == "history":
            found = strongest(
                to_users,
                to_items,
                self.neighbours,
                weigh=lambda _, to, walks: np.asarray(walks * held_back[to], dtype=np.float32),
                progress=progress,
            )
        else:
            found = transposed(
                strongest(
                    transposed(to_items),
                    transposed(to_users),
                    self.neighbours,
                    weigh=lambda to, _, walks: np.asarray(walks * held_back[to], dtype=np.float32),
                    progress=progress,
                )
            )
        weights = by_columns(found) if self.normalize else found
        return ItemWeights(self, train.items, train.item_degrees, weights=weights)


def _transitions(matrix: sparse.csr_array, power: float) -> sparse.csr_array:
    """Each row divided by its sum, to the given power."""
    sums = np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
    shares = matrix.data * np.repeat(inverse(sums), np.diff(matrix.indptr))
    return sparse.csr_array(
        ((shares**power).astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape
    )
