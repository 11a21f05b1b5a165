"""Interactions normalised by the degrees of their users and items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions


@dataclass(frozen=True, eq=False)
class Normalized:
    """``R̃ = D_U^-½ R D_I^-½`` of the 0/1 matrix R, with singular values in [0, 1]."""

    matrix: sparse.csr_array
    """R̃, (n_users, n_items) float32."""
    item_root: NDArray[np.float32]
    """(n_items,) the diagonal of D_I^½."""
    item_inverse_root: NDArray[np.float32]
    """(n_items,) the diagonal of D_I^-½; 0 for an item that nobody has, so that its scores are finite."""


def normalize(train: Interactions) -> Normalized:
    """Normalise by degrees (BSPM, section 3.1). An empty row or column stays empty."""
    user_inverse_root = inverse_root(train.user_degrees)
    item_inverse_root = inverse_root(train.item_degrees)
    data = np.repeat(user_inverse_root, train.user_degrees) * item_inverse_root[train.matrix.indices]
    matrix = sparse.csr_array((data, train.matrix.indices, train.matrix.indptr), shape=train.matrix.shape)
    return Normalized(matrix, np.sqrt(train.item_degrees).astype(np.float32), item_inverse_root)


def inverse_root(degrees: NDArray[np.int64]) -> NDArray[np.float32]:
    """``1/√d``, and 0 where d is 0."""
    positive = np.maximum(degrees, 1)
    return np.where(degrees > 0, 1 / np.sqrt(positive), 0).astype(np.float32)


def start_rows(
    histories: Interactions, item_counts: NDArray[np.int64], history: Literal["counts", "normalized"]
) -> sparse.csr_array:
    """The rows (n_users, n_items) that a BSPM's processes start from: 0/1, or divided by the roots of the degrees."""
    rows = histories.binarized()
    if history == "counts":
        return rows.matrix
    degrees = rows.user_degrees
    data = inverse_root(item_counts)[rows.matrix.indices] * np.repeat(inverse_root(degrees), degrees)
    return sparse.csr_array((data, rows.matrix.indices, rows.matrix.indptr), shape=rows.matrix.shape)
