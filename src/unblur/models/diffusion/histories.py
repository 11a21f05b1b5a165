"""A history as these models see it: weighted by order in time (T-DiffRec; paper, section 3.5), and with noise of its own.

Noise is a function of the history, so that the same row gets the same noise in whatever batch it stands.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.errors import DataError
from unblur.models.diffusion.settings import TimeWeights

Keys: TypeAlias = NDArray[np.uint64]
"""One word for each row."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2⁶⁴ over the golden ratio, by whose multiples SplitMix64 walks: they are spread evenly over all words."""


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
    lengths = data.user_degrees
    order = np.lexsort((data.timestamps, data.rows()))  # stable, so equal times stay in item order
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], lengths)
    back = (np.repeat(lengths, lengths) - 1 - place) / np.maximum(np.repeat(lengths, lengths) - 1, 1)
    values = (weights.newest - (weights.newest - weights.oldest) * back).astype(np.float32)
    return sparse.csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)


def mixed(values: Keys) -> Keys:
    """A bijective scrambling of 64-bit words (the finaliser of SplitMix64; Steele, Lea and Flood, OOPSLA
    2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def row_keys(rows: sparse.csr_array, seed: int) -> Keys:
    """One word for each row, (n_rows,), from which columns it has and from the seed."""
    with np.errstate(over="ignore"):
        words = mixed((rows.indices.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
        sums = np.concatenate(([np.uint64(0)], np.cumsum(words, dtype=np.uint64)))
        totals = sums[rows.indptr[1:]] - sums[rows.indptr[:-1]]
        return mixed(totals + np.uint64(seed))


def row_normals(keys: Keys, draw: int, width: int) -> NDArray[np.float32]:
    """Standard normal numbers, (n_rows, width), for the `draw`-th time that the rows need some (Box and
    Muller, 1958)."""
    pairs = -(-width // 2)
    with np.errstate(over="ignore"):
        places = (np.arange(pairs, dtype=np.uint64) + np.uint64(draw + 1) * np.uint64(1 << 32)) * _GOLDEN
        words = mixed(keys[:, None] + places[None, :])
    high = ((words >> np.uint64(32)).astype(np.float64) + 0.5) / 2**32
    low = (words & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2 * np.pi / 2**32)
    radius = np.sqrt(-2 * np.log(high))
    normals = np.empty((len(keys), 2 * pairs), dtype=np.float32)
    normals[:, 0::2], normals[:, 1::2] = radius * np.cos(low), radius * np.sin(low)
    return normals[:, :width]
