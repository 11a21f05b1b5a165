"""Jaccard similarities between rows of two sets, from sparse products in blocks.

|A ∩ B| of all pairs is one sparse product. It is computed for a few rows at a time, so that memory does not grow with the
product of the numbers of users; nothing dense is allocated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.models.linear.neighbours import row_blocks, strongest, transposed
from unblur.progress import Progress, ProgressEvent, silent

Indices: TypeAlias = NDArray[np.integer]
POWER = 8
"""The kernel of the density is Jaccard to this power (chosen by hand, a power of 2): near 0 for all but close rows."""


@dataclass(frozen=True, eq=False)
class Nearness:
    """Similarities of each target to a set of rows, (n_targets,) each."""

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
    """Compare each target row with `rows`; both binary over the same items."""
    n, columns = targets.shape[0], transposed(rows)
    sizes, row_sizes = _sizes(targets), _sizes(rows)
    nearest = np.zeros(n, dtype=np.float32)
    density, mean = np.zeros(n), np.zeros(n)
    for block in row_blocks(targets, columns):
        shared = targets[block] @ columns
        lengths = np.diff(shared.indptr)
        similarities = _jaccard(np.repeat(sizes[block], lengths), row_sizes[shared.indices], shared.data)
        # `reduceat` needs segments with an entry: targets that share no item with any row keep their zeros.
        filled = np.flatnonzero(lengths)
        if len(filled):
            starts, positions = shared.indptr[filled], block.start + filled
            nearest[positions] = np.maximum.reduceat(similarities, starts)
            mean[positions] = np.add.reduceat(similarities, starts, dtype=np.float64)
            for _ in range(POWER.bit_length() - 1):
                similarities = similarities * similarities
            density[positions] = np.add.reduceat(similarities, starts, dtype=np.float64)
        progress(ProgressEvent(stage, block.stop, n))
    return Nearness(nearest, density / max(1, rows.shape[0]), mean / max(1, rows.shape[0]))


def closest(targets: sparse.csr_array, rows: sparse.csr_array, k: int) -> sparse.csr_array:
    """The Jaccard similarities of each target to its `k` nearest rows, (n_targets, n_rows); no other entries.

    Of equally near rows the first stay.
    """
    sizes, row_sizes = _sizes(targets), _sizes(rows)

    def similarities(left: Indices, right: Indices, shared: NDArray[np.float32]) -> NDArray[np.float32]:
        union = np.maximum(sizes[left] + row_sizes[right] - shared, 1)  # 0 / 1 if both are empty
        return np.asarray(shared / union, dtype=np.float32)

    return strongest(targets, transposed(rows), k, weigh=similarities, without_diagonal=False)


def _sizes(rows: sparse.csr_array) -> NDArray[np.float32]:
    return np.diff(rows.indptr).astype(np.float32)


def _jaccard(
    left: NDArray[np.float32], right: NDArray[np.float32], shared: NDArray[np.float32]
) -> NDArray[np.float32]:
    """|A ∩ B| / (|A| + |B| − |A ∩ B|) of pairs, from the sizes and the numbers of shared items; overwrites `left`."""
    left += right
    left -= shared
    return np.divide(shared, left, out=left)
