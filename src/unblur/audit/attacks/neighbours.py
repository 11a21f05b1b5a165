"""How near rows of one set are to rows of another, by Jaccard, from sparse products in blocks.

|A ∩ B| of all pairs is one sparse product. It is made for a few rows at a time, so that memory does not grow with
the product of the numbers of users; nothing dense is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.progress import Progress, ProgressEvent, silent

PAIRS_AT_ONCE = 1 << 22
"""How many pairs of rows are held at a time (about 100 MB); no result depends on it."""
POWER = 8
"""The kernel of the density is Jaccard to this power: near 0 for all but close rows."""


@dataclass(frozen=True, eq=False)
class Nearness:
    """How near each target is to a set of rows, (n_targets,) each."""

    nearest: NDArray[np.float32]
    """The largest Jaccard similarity to a row."""
    density: NDArray[np.float64]
    """The mean over all rows of Jaccard**8, a positive definite kernel: a density estimate."""
    mean: NDArray[np.float64]
    """The mean Jaccard similarity over all rows."""


def nearness(
    targets: sparse.csr_array,
    rows: sparse.csr_array,
    *,
    progress: Progress = silent,
    stage: str = "compare users",
) -> Nearness:
    """How near each target row is to `rows`; both binary over the same items."""
    n = targets.shape[0]
    nearest = np.zeros(n, dtype=np.float32)
    density, mean = np.zeros(n), np.zeros(n)
    for start, jaccard in _blocks(targets, rows):
        lengths = np.diff(jaccard.indptr)
        some = np.flatnonzero(lengths)
        if len(some):
            starts, at = jaccard.indptr[some], start + some
            nearest[at] = np.maximum.reduceat(jaccard.data, starts)
            mean[at] = np.add.reduceat(jaccard.data, starts, dtype=np.float64)
            powered = jaccard.data
            for _ in range(POWER.bit_length() - 1):
                powered = powered * powered
            density[at] = np.add.reduceat(powered, starts, dtype=np.float64)
        progress(ProgressEvent(stage, start + len(lengths), n))
    return Nearness(nearest, density / max(1, rows.shape[0]), mean / max(1, rows.shape[0]))


def closest(targets: sparse.csr_array, rows: sparse.csr_array, k: int) -> sparse.csr_array:
    """The Jaccard similarity of each target to its `k` nearest rows, (n_targets, n_rows); the rest is left out.

    Of equally near rows the first are kept.
    """
    parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
    for start, jaccard in _blocks(targets, rows):
        for at in range(jaccard.shape[0]):
            first, last = jaccard.indptr[at], jaccard.indptr[at + 1]
            near, columns = jaccard.data[first:last], jaccard.indices[first:last]
            if len(near) > k:
                least = np.partition(near, len(near) - k)[len(near) - k]
                above, equal = np.flatnonzero(near > least), np.flatnonzero(near == least)
                equal = equal[np.argsort(columns[equal])][: k - len(above)]
                kept = np.concatenate([above, equal])
                near, columns = near[kept], columns[kept]
            parts.append((near, np.full(len(near), start + at), columns))
    shape = targets.shape[0], rows.shape[0]
    if not parts:
        return sparse.csr_array(np.zeros(shape, dtype=np.float32))
    values, owners, places = (np.concatenate([part[field] for part in parts]) for field in range(3))
    return sparse.csr_array((values, (owners, places)), shape=shape)


def _blocks(targets: sparse.csr_array, rows: sparse.csr_array) -> Iterator[tuple[int, sparse.csr_array]]:
    """Runs of targets: the first one's position, and their Jaccard similarity to the rows that share an item."""
    turned = rows.T.tocsr()
    sizes = np.diff(rows.indptr).astype(np.float32)
    own = np.diff(targets.indptr).astype(np.float32)
    step = max(1, PAIRS_AT_ONCE // max(1, rows.shape[0]))
    for start in range(0, targets.shape[0], step):
        shared = targets[start : start + step] @ turned
        union = np.repeat(own[start : start + step], np.diff(shared.indptr))
        union += sizes[shared.indices]
        union -= shared.data
        np.divide(shared.data, union, out=shared.data)
        yield start, shared
