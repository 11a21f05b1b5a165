"""EASE: a linear item-to-item model with a closed form, of a Gram matrix that is a sum over users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.errors import DataError
from unblur.models.linear.item_weights import ItemWeights, LinearSpec
from unblur.progress import Progress, ProgressEvent, silent
from unblur.space import Dimension, choices
from unblur.spec import spec

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


@spec
class EASE(LinearSpec[ItemWeights]):
    """Embarrassingly shallow autoencoder (Steck, WWW 2019, arXiv 1905.03375).

    Item weights ``B = I − P·diag(1/diag P)`` with ``P = (XᵀX + λI)⁻¹`` (equation 8), where X is the 0/1 train
    matrix. One dense n_items × n_items float32 matrix, inverted in place.
    """

    kind: ClassVar[str] = "ease"
    fitted: ClassVar[str] = "unblur.models.linear.item_weights:ItemWeights"
    ridge: PositiveFloat = 500.0
    """The ridge λ on the item-item weights."""

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return choices(
            ridge=(50.0, 100.0, 200.0, 350.0, 500.0, 700.0, 1000.0, 1500.0, 2000.0, 3000.0, 5000.0, 10000.0)
        )

    def fit_rows(self, rows: sparse.csr_array, train: Interactions, progress: Progress) -> ItemWeights:
        """Sum up the rows and solve: 4·n_items² bytes and about n_items³ operations."""
        progress(ProgressEvent("multiply items by items", 0, 3))
        weights = self.solve(Statistics.of(rows), progress)
        return ItemWeights(self, train.items, train.item_degrees, weights=weights)

    def solve(self, statistics: Statistics, progress: Progress = silent) -> NDArray[np.float32]:
        """The weights (n_items, n_items) by equation 8; `statistics.gram` is written over.

        Raises `DataError` where XᵀX + λI is not positive definite.
        """
        import torch

        gram = statistics.gram
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
        return weights
