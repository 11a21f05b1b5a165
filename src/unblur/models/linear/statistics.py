"""What a linear item model learns of interactions: a sum over users, so that it adds and subtracts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.errors import DataError

COLUMNS_TOGETHER = 1024
"""How many columns of XᵀX are multiplied at a time: a sparse block of them is small next to the dense whole."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """Degrees and Gram matrix of rows X (n_users, n_items), weighted or not.

    `Statistics.of` of two sets of users add up to that of both; subtracting some users forgets them. Sums of whole
    numbers are exact in float32 up to 2²⁴ users of a pair of items.
    """

    n_users: int
    degrees: NDArray[np.int64]
    """(n_items,) how many users have each item."""
    gram: NDArray[np.float32]
    """(n_items, n_items) XᵀX, in Fortran order."""

    @classmethod
    def of(cls, rows: sparse.csr_array) -> Self:
        """Sum over the rows: 4·n_items² bytes and Σ_u degree_u² operations."""
        n_users, n_items = rows.shape
        gram = np.empty((n_items, n_items), dtype=np.float32, order="F")
        transposed = rows.T.tocsr()
        for start in range(0, n_items, COLUMNS_TOGETHER):
            columns = slice(start, min(start + COLUMNS_TOGETHER, n_items))
            # XᵀX is symmetric: rows of the product are written as columns, which lie together in Fortran order.
            gram[:, columns] = (transposed[columns] @ rows).toarray().T
        return cls(n_users, np.diff(transposed.indptr).astype(np.int64), gram)

    def __add__(self, other: Statistics) -> Statistics:
        """Those of the users of both. Raises `DataError` for other items."""
        return self._with(other, 1)

    def __sub__(self, other: Statistics) -> Statistics:
        """Those without some users. Raises `DataError` for other items."""
        return self._with(other, -1)

    def _with(self, other: Statistics, sign: int) -> Statistics:
        if self.gram.shape != other.gram.shape:
            raise DataError(
                f"Statistics must be over the same items; these are over {len(self.degrees):,} and "
                f"{len(other.degrees):,}. Bring the interactions onto one vocabulary."
            )
        return Statistics(
            self.n_users + sign * other.n_users,
            self.degrees + sign * other.degrees,
            self.gram + np.float32(sign) * other.gram,
        )
