"""The strongest entries of a product of sparse matrices, found in blocks, so that the product never exists whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.progress import Progress, ProgressEvent, silent

BLOCK_PRODUCTS = 1 << 23
"""About how many entries of the product, before duplicates are summed, a block holds: bounds the memory."""

Weigh: TypeAlias = Callable[
    [NDArray[np.integer], NDArray[np.integer], NDArray[np.float32]], NDArray[np.float32]
]
"""From rows, columns and values of entries of the product to their strengths."""


def strongest(
    left: sparse.csr_array,
    right: sparse.csr_array,
    k: int,
    *,
    weigh: Weigh,
    without_diagonal: bool = True,
    stage: str = "find neighbours",
    progress: Progress = silent,
) -> sparse.csr_array:
    """The `k` strongest entries of each row of ``left @ right``, as `weigh` makes them; float32, columns sorted.

    Only entries above 0 count; ties break by column.
    """
    parts, n_rows = [], left.shape[0]
    for rows in row_blocks(left, right):
        progress(ProgressEvent(stage, rows.start, n_rows))
        product = sparse.csr_array(left[rows] @ right)
        product.sort_indices()
        owners = np.repeat(np.arange(rows.start, rows.stop), np.diff(product.indptr))
        product.data = weigh(owners, product.indices, product.data).astype(np.float32)
        keep = product.data > 0
        if without_diagonal:
            keep &= owners != product.indices
        parts.append(top_per_row(product, k, keep))
    progress(ProgressEvent(stage, n_rows, n_rows))
    if not parts:
        return sparse.csr_array(np.zeros((n_rows, right.shape[1]), dtype=np.float32))
    return sparse.csr_array(sparse.vstack(parts, format="csr"))


def top_per_row(matrix: sparse.csr_array, k: int, keep: NDArray[np.bool_] | None = None) -> sparse.csr_array:
    """The `k` largest stored entries of each row among those to `keep`, ties by column; columns sorted.

    `matrix` must have sorted indices.
    """
    n_rows = matrix.shape[0]
    rows = np.repeat(np.arange(n_rows, dtype=np.int32), np.diff(matrix.indptr))
    columns, values = matrix.indices, matrix.data
    if keep is not None:
        rows, columns, values = rows[keep], columns[keep], values[keep]
    lengths = np.bincount(rows, minlength=n_rows)
    if lengths.max(initial=0) > k:
        order = np.argsort(-values, kind="stable")
        order = order[np.argsort(rows[order], kind="stable")]
        starts = np.cumsum(lengths) - lengths
        place = np.arange(len(rows)) - np.repeat(starts, lengths)
        chosen = np.sort(order[place < k])
        rows, columns, values = rows[chosen], columns[chosen], values[chosen]
        lengths = np.minimum(lengths, k)
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    return sparse.csr_array((values, columns, indptr), shape=matrix.shape)


def row_blocks(left: sparse.csr_array, right: sparse.csr_array) -> Iterator[slice]:
    """Runs of rows of `left` whose products with `right` fit into memory; at least one row each."""
    costs = np.concatenate(([0], np.cumsum(np.diff(right.indptr)[left.indices].astype(np.int64))))
    upto, start, n_rows = costs[left.indptr], 0, left.shape[0]
    while start < n_rows:
        stop = int(np.searchsorted(upto, upto[start] + BLOCK_PRODUCTS, side="right")) - 1
        stop = min(max(stop, start + 1), n_rows)
        yield slice(start, stop)
        start = stop


def transposed(matrix: sparse.csr_array) -> sparse.csr_array:
    """The transpose, in CSR with sorted indices."""
    made = sparse.csr_array(matrix.T.tocsr())
    made.sort_indices()
    return made


def column_norms(matrix: sparse.csr_array) -> NDArray[np.float64]:
    """The L2 norm of each column."""
    squares = np.bincount(
        matrix.indices, weights=matrix.data.astype(np.float64) ** 2, minlength=matrix.shape[1]
    )
    return np.asarray(np.sqrt(squares))


def inverse(values: NDArray[np.float64], power: float = 1.0) -> NDArray[np.float64]:
    """``values^-power``, and 0 where a value is not above 0."""
    positive = values > 0
    return np.where(positive, np.where(positive, values, 1.0) ** -power, 0.0)
