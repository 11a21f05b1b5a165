"""Gaussian noise that is a function of a history: the same row gets the same noise in whatever batch it
stands."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Keys = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


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
    made = np.empty((len(keys), 2 * pairs), dtype=np.float32)
    made[:, 0::2], made[:, 1::2] = radius * np.cos(low), radius * np.sin(low)
    return made[:, :width]
