"""What linear models of low rank come to: two tables of item vectors, applied to history rows."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.recommender import Recommender, Tensors

ROWS_TOGETHER = 256
"""How many rows are scored in float64 at a time; bounds the memory between."""


class FactorsRecommender(Recommender):
    """A history's vector is the sum of its items' `inward` vectors; a score is its product with `outward`."""

    linear: ClassVar[bool] = True

    def __init__(
        self,
        spec: Any,
        items: Vocabulary,
        item_counts: NDArray[np.int64],
        inward: NDArray[np.float32],
        outward: NDArray[np.float32],
        device: str = "cpu",
    ) -> None:
        """Both tables are (n_items, rank). Raises `ValueError` when they are not."""
        super().__init__(spec, items, item_counts, device)
        if inward.shape != outward.shape or inward.ndim != 2 or len(inward) != len(items):
            raise ValueError(f"factors of shapes {inward.shape} and {outward.shape} for {len(items)} items")
        self.inward, self.outward = inward, outward

    def score_rows(self, rows: sparse.csr_array) -> NDArray[np.float32]:
        """Scores (n_rows, n_items) of rows with any weights."""
        return products(np.asarray(rows.astype(np.float64) @ self.inward.astype(np.float64)), self.outward)

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        return self.score_rows(histories.binarized().matrix)

    def tensors(self) -> Tensors:
        """`inward` and `outward`, (n_items, rank); one table under both names where they are the same."""
        if self.outward is self.inward:
            return {"inward": self.inward}
        return {"inward": self.inward, "outward": self.outward}


def restored_factors(
    spec: Any, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
) -> FactorsRecommender:
    """The fitted recommender from its saved parts."""
    inward = np.asarray(tensors["inward"])
    outward = np.asarray(tensors["outward"]) if "outward" in tensors else inward
    return FactorsRecommender(spec, items, item_counts, inward, outward, device)


def products(users: NDArray[np.float64], items: NDArray[np.float32]) -> NDArray[np.float32]:
    """Users' vectors (n_users, rank) times items' (n_items, rank): float32, computed in float64.

    So the last bits of float32 do not depend on which rows are multiplied together.
    """
    made = np.empty((len(users), len(items)), dtype=np.float32)
    wide = items.T.astype(np.float64)
    for start in range(0, len(users), ROWS_TOGETHER):
        block = slice(start, start + ROWS_TOGETHER)
        made[block] = users[block] @ wide
    return made
