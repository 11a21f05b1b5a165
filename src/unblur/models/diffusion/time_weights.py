"""Weights that rise with time along each user's interactions (T-DiffRec; paper, section 3.5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.errors import DataError
from unblur.models.diffusion.settings import TimeWeights


def row_weights(data: Interactions, weights: TimeWeights | None) -> sparse.csr_array:
    """The rows as the model sees them, (n_users, n_items): 0/1, or weighted by order in time.

    With `weights`, a user's M interactions in time order count ``oldest + (newest − oldest)·(m − 1)/(M − 1)``
    for m = 1 … M; a single interaction is the newest. Interactions of one moment are ordered by item
    position. The weights that `data` itself carries (ratings, counts) are not used.

    Raises `DataError` when there are no timestamps to order by.
    """
    matrix = data.binarized().matrix
    if weights is None:
        return matrix
    if data.timestamps is None:
        raise DataError(
            "Time weights order each user's interactions by their timestamps; these have none. "
            "Read the data with its time column, or leave `time_weights` out."
        )
    values = weights_in_time(data.timestamps, matrix.indptr, weights)
    return sparse.csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)


def weights_in_time(
    timestamps: NDArray[np.int64], indptr: NDArray[np.integer], weights: TimeWeights
) -> NDArray[np.float32]:
    """The weight of each stored entry of a canonical CSR matrix with the given `indptr`; see
    `row_weights`."""
    lengths = np.diff(indptr).astype(np.int64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((timestamps, rows))  # stable, so equal times stay in item order
    place = np.empty(len(rows), dtype=np.int64)
    place[order] = np.arange(len(rows)) - np.repeat(indptr[:-1], lengths)
    back = (np.repeat(lengths, lengths) - 1 - place) / np.maximum(np.repeat(lengths, lengths) - 1, 1)
    made: NDArray[np.float32] = (weights.newest - (weights.newest - weights.oldest) * back).astype(np.float32)
    return made
