"""Linear item models: specs that can be fitted to weighted rows, and the item-item weights that most of them learn."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, TypeAlias, TypeVar, final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.progress import Progress, Run
from unblur.recommender import RNG, Recommender, RecommenderSpec, StoppingData, WeighingSpec, learned

WeightMatrix: TypeAlias = "NDArray[np.float32] | sparse.csr_array"
"""(n_items, n_items): row i holds what item i of a history adds to the score of each item."""

SCORED_TOGETHER = 256
"""Rows whose scores are computed together: so few that they are written to memory that the process has already."""


@dataclass(frozen=True, eq=False, repr=False)
class LinearRecommender(Recommender[RecommenderSpec[Recommender]]):
    """Scores are linear in the row, so that the row may carry any weights."""

    linear: ClassVar[bool] = True

    @abstractmethod
    def score_rows(self, rows: sparse.csr_array) -> NDArray[np.float32]:
        """Return scores (n_rows, n_items) of weighted rows, in a fresh array."""

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        return self.score_rows(self.spec.with_weights(histories).matrix)


L_co = TypeVar("L_co", bound=LinearRecommender, covariant=True)


class LinearSpec(WeighingSpec[L_co]):
    """The spec of a model that is fitted to the 0/1 rows of train, or to the same rows with other weights.

    With ``weights = "use"`` both X and the history that is scored are weighted in the equations of the model.
    """

    zero_without_signal: ClassVar[bool] = True

    @final
    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> L_co:
        """Fit to the rows; `rng` is not used."""
        return self.fit_rows(self.with_weights(train).matrix, train, run.progress)

    @abstractmethod
    def fit_rows(self, rows: sparse.csr_array, train: Interactions, progress: Progress) -> L_co:
        """Fit to `rows`, those of `train` with any weights; `train` gives items and their counts."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ItemWeights(LinearRecommender):
    """A score is the sum of the weights from the items of the history."""

    in_threads: ClassVar[bool] = True  # SciPy multiplies in one thread
    batch: ClassVar[int] = SCORED_TOGETHER
    weights: WeightMatrix = learned("items", "items", sparse=None)
    """Row i holds what item i adds to the score of each item."""
    gram: NDArray[np.float32] | None = learned("items", "items", default=None)
    """XᵀX of the train rows, in Fortran order, if the model keeps its statistics (`Recommender.keeping_statistics`)."""
    weakest: NDArray[np.float32] | None = None
    """(n_items,) of lists of neighbours, what `NeighbourSpec.update` hands on to the next update; found from the weights if it is `None`."""

    def score_rows(self, rows: sparse.csr_array) -> NDArray[np.float32]:
        """Return scores (n_rows, n_items) of rows with any weights."""
        weights = self.weights
        if not sparse.issparse(weights):
            return np.asarray(rows @ weights, dtype=np.float32)
        return dense_product(rows, weights)


def dense_product(left: sparse.csr_array, right: sparse.csr_array) -> NDArray[np.float32]:
    """Return ``left @ right``, (n_rows, n_columns): where most entries are not 0, in half the time of a sparse product.

    The rows of `right` that a row of `left` has are written one after the other, as one row that has columns several times: made
    dense, they are summed. A product of sparse matrices would first find out where its entries are.
    """
    chosen = right[left.indices]
    values = chosen.data * np.repeat(left.data.astype(np.float32, copy=False), np.diff(chosen.indptr))
    shape = left.shape[0], right.shape[1]
    return sparse.csr_array((values, chosen.indices, chosen.indptr[left.indptr]), shape=shape).toarray()


class ItemWeightsSpec(LinearSpec[ItemWeights]):
    """The spec of a model that consists of weights from item to item."""

    fitted: ClassVar[str] = "unblur.models.linear.item_weights:ItemWeights"

    @final
    def fit_rows(self, rows: sparse.csr_array, train: Interactions, progress: Progress) -> ItemWeights:
        """Return the model with the weights that `item_weights` learns."""
        weights = self.item_weights(rows, train.item_ranks, progress)
        return ItemWeights(self, train.items, train.item_degrees, weights=weights)

    @abstractmethod
    def item_weights(
        self, rows: sparse.csr_array, ties: NDArray[np.int64], progress: Progress
    ) -> WeightMatrix:
        """Learn the weights (n_items, n_items) from `rows`, (n_users, n_items) with any weights.

        `ties` are the `Interactions.item_ranks` of train, by which a choice among equally strong items is made.
        """
