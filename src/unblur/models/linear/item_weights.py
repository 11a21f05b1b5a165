"""What all item-to-item models come to: one sparse or dense matrix of weights, applied to history rows."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.progress import Progress
from unblur.recommender import Recommender, Tensors

Weights: TypeAlias = "NDArray[np.float32] | sparse.csr_array"
"""(n_items, n_items): row i holds what item i of a history adds to the score of each item."""


class RowScorer(Protocol):
    """A recommender whose scores are linear in the row, so that the row may carry any weights."""

    def score_rows(self, rows: sparse.csr_array) -> NDArray[np.float32]:
        """Scores (n_rows, n_items) of weighted rows, in a fresh array."""
        ...

    def tensors(self) -> Tensors:
        """As of `Recommender`."""
        ...


class RowSpec(Protocol):
    """A spec that can be fitted to weighted rows and gives a `RowScorer`."""

    kind: ClassVar[str]

    def fit_rows(self, rows: sparse.csr_array, train: Interactions, progress: Progress) -> RowScorer:
        """Fit to `rows`, those of `train` with other weights; `train` gives items and their counts."""
        ...

    def restore(
        self, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
    ) -> RowScorer:
        """As of `RecommenderSpec`."""
        ...


class ItemWeightsRecommender(Recommender):
    """A score is the sum of the weights from the items of the history."""

    linear: ClassVar[bool] = True

    def __init__(
        self,
        spec: Any,
        items: Vocabulary,
        item_counts: NDArray[np.int64],
        weights: Weights,
        device: str = "cpu",
    ) -> None:
        """Raises `ValueError` when the weights are not items × items."""
        super().__init__(spec, items, item_counts, device)
        if weights.shape != (len(items), len(items)):
            raise ValueError(f"weights of shape {weights.shape} for {len(items)} items")
        self.weights = weights

    def score_rows(self, rows: sparse.csr_array) -> NDArray[np.float32]:
        """Scores (n_rows, n_items) of rows with any weights; see `RowScorer`."""
        made = rows @ self.weights
        return np.asarray(made.toarray() if sparse.issparse(made) else made, dtype=np.float32)

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        return self.score_rows(histories.binarized().matrix)

    def tensors(self) -> Tensors:
        """`weights` (n_items, n_items): row i holds what item i adds to the score of each item."""
        return {"weights": self.weights}
