"""How near rows of one set are to rows of another, by Jaccard, from sparse products in blocks.

|A ∩ B| of all pairs is one sparse product. It is made for a few rows at a time, so that memory does not grow with
the product of the numbers of users; nothing dense is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.models.linear.neighbours import row_blocks, strongest, transposed
from unblur.progress import Progress, ProgressEvent, silent

Places: TypeAlias = NDArray[np.integer]
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
    n, columns = targets.shape[0], transposed(rows)
    sizes, others = _sizes(targets), _sizes(rows)
    nearest = np.zeros(n, dtype=np.float32)
    density, mean = np.zeros(n), np.zeros(n)
    for block in row_blocks(targets, columns):
        shared = targets[block] @ columns
        lengths = np.diff(shared.indptr)
        near = _jaccard(np.repeat(sizes[block], lengths), others[shared.indices], shared.data)
        some = np.flatnonzero(lengths)
        if len(some):
            starts, at = shared.indptr[some], block.start + some
            nearest[at] = np.maximum.reduceat(near, starts)
            mean[at] = np.add.reduceat(near, starts, dtype=np.float64)
            for _ in range(POWER.bit_length() - 1):
                near = near * near
            density[at] = np.add.reduceat(near, starts, dtype=np.float64)
        progress(ProgressEvent(stage, block.stop, n))
    return Nearness(nearest, density / max(1, rows.shape[0]), mean / max(1, rows.shape[0]))


def closest(targets: sparse.csr_array, rows: sparse.csr_array, k: int) -> sparse.csr_array:
    """The Jaccard similarity of each target to its `k` nearest rows, (n_targets, n_rows); the rest is left out.

    Of equally near rows the first are kept.
    """
    sizes, others = _sizes(targets), _sizes(rows)

    def nearest(left: Places, right: Places, shared: NDArray[np.float32]) -> NDArray[np.float32]:
        near = _jaccard(sizes[left], others[right], shared)
        # Many pairs share an item: those that cannot be among the nearest are left out before anything is sorted.
        for row in np.split(near, np.flatnonzero(np.diff(left)) + 1):
            if len(row) > k:
                row[row < np.partition(row, -k)[-k]] = 0
        return near

    return strongest(targets, transposed(rows), k, weigh=nearest, without_diagonal=False)


def _sizes(rows: sparse.csr_array) -> NDArray[np.float32]:
    return np.diff(rows.indptr).astype(np.float32)


def _jaccard(
    one: NDArray[np.float32], other: NDArray[np.float32], shared: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The similarities of pairs, of the sizes of both and the number of shared items; `one` is overwritten."""
    one += other
    one -= shared
    return np.divide(shared, one, out=one)
