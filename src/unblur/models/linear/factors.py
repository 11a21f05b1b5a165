"""What linear models of low rank result in: two tables of item vectors, applied to history rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.fitted import learned
from unblur.models.linear.item_weights import LinearRecommender

ROWS_TOGETHER = 256
"""How many rows are scored in float64 at a time; bounds the memory between."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Factors(LinearRecommender):
    """A history's vector is the sum of its items' `inward` vectors; a score is its product with `outward`."""

    inward: NDArray[np.float32] = learned("items", "width")
    outward: NDArray[np.float32] | None = learned("items", "width", default=None)
    """`None` where it is `inward` again."""

    def score_rows(self, rows: sparse.csr_array) -> NDArray[np.float32]:
        """Scores (n_rows, n_items) of rows with any weights."""
        inward, outward = self.tables()
        return products(np.asarray(rows.astype(np.float64) @ inward.astype(np.float64)), outward)

    def tables(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The inward and the outward vectors."""
        return self.inward, self.inward if self.outward is None else self.outward


def products(users: NDArray[np.float64], items: NDArray[np.float32]) -> NDArray[np.float32]:
    """Users' vectors (n_users, rank) times items' (n_items, rank): float32, computed in float64.

    So the last bits of float32 do not depend on which rows are multiplied together.
    """
    scores = np.empty((len(users), len(items)), dtype=np.float32)
    wide = items.T.astype(np.float64)
    for start in range(0, len(users), ROWS_TOGETHER):
        block = slice(start, start + ROWS_TOGETHER)
        scores[block] = users[block] @ wide
    return scores
