"""How near rows of one set are to rows of another, by Jaccard, from sparse products in blocks.

|A ∩ B| of all pairs is one sparse product. It is made for a few rows at a time, so that memory does not grow with
the product of the numbers of users; nothing dense is made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.models.linear.neighbours import Weigh, row_blocks, strongest, transposed
from unblur.progress import Progress, ProgressEvent, silent

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
    n, columns, jaccard = targets.shape[0], transposed(rows), _jaccard(targets, rows)
    nearest = np.zeros(n, dtype=np.float32)
    density, mean = np.zeros(n), np.zeros(n)
    for block in row_blocks(targets, columns):
        shared = targets[block] @ columns
        lengths = np.diff(shared.indptr)
        near = jaccard(np.repeat(np.arange(block.start, block.stop), lengths), shared.indices, shared.data)
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
    return strongest(targets, transposed(rows), k, weigh=_jaccard(targets, rows), without_diagonal=False)


def _jaccard(targets: sparse.csr_array, rows: sparse.csr_array) -> Weigh:
    """From the numbers of items that targets and rows share to their Jaccard similarities."""
    sizes, others = (np.diff(part.indptr).astype(np.float32) for part in (targets, rows))
    return lambda left, right, shared: shared / (sizes[left] + others[right] - shared)
