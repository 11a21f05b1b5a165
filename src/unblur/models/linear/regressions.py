"""One small regression an item, on a neighbourhood of other items: the sparse forms of item-to-item models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.models.linear.neighbours import column_norms, strongest, transposed
from unblur.progress import Progress, ProgressEvent

BLOCK_NUMBERS = 1 << 23
"""How many numbers the Gram matrices of a block of items hold together: bounds the memory."""
WHOLE_UP_TO = 4096
"""With so many items or fewer one dense Gram matrix of all is made: 128 MiB at most, and much faster."""

Solve: TypeAlias = Callable[
    [NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]], NDArray[np.float64]
]
"""From Gram matrices (n, k, k), products with the targets (n, k), and which of k are real, to weights (n, k)."""


def item_regressions(
    rows: sparse.csr_array, neighbours: int, solve: Solve, progress: Progress
) -> sparse.csr_array:
    """Weights (n_items, n_items), column j those that `solve` finds for item j on its closest items by cosine.

    All items of a block are solved together; with many items no items × items matrix exists.
    """
    columns, norms = transposed(rows), column_norms(rows)
    close = strongest(
        columns,
        rows,
        neighbours,
        weigh=lambda left, right, dots: np.asarray(dots / (norms[left] * norms[right]), dtype=np.float32),
        progress=progress,
    )
    whole = (columns @ rows).toarray().astype(np.float64) if rows.shape[1] <= WHOLE_UP_TO else None
    counts = np.diff(close.indptr)
    data = np.zeros(close.nnz)
    width, n_items, start = int(counts.max(initial=1)), rows.shape[1], 0
    step = max(1, BLOCK_NUMBERS // (width + 1) ** 2)
    if whole is None:
        step = max(1, min(step, BLOCK_NUMBERS // max(1, rows.shape[0])))
    while start < n_items:
        progress(ProgressEvent("regress items", start, n_items))
        stop = min(start + step, n_items)
        own = np.arange(start, stop)
        members = np.full((len(own), int(counts[start:stop].max(initial=0)) + 1), -1, dtype=np.int64)
        real = np.arange(members.shape[1] - 1) < counts[start:stop, None]
        members[:, :-1][real] = close.indices[close.indptr[start] : close.indptr[stop]]
        members[:, -1] = own
        grams = local_grams(columns, members) if whole is None else gathered(whole, members)
        solved = solve(grams[:, :-1, :-1], grams[:, :-1, -1], real)
        data[close.indptr[start] : close.indptr[stop]] = solved[real]
        start = stop
    progress(ProgressEvent("regress items", n_items, n_items))
    made = transposed(sparse.csr_array((data.astype(np.float32), close.indices, close.indptr), close.shape))
    made.eliminate_zeros()
    return made


def local_grams(columns: sparse.csr_array, members: NDArray[np.int64]) -> NDArray[np.float64]:
    """The products of all pairs of columns within each group, (n_groups, size, size); `members` of −1 give zeros.

    `columns` is the transposed matrix, one row a column. Groups are laid side by side, as blocks of one sparse
    matrix whose product with its transpose is block diagonal.
    """
    groups, size = members.shape
    flat = members.ravel()
    lengths = np.where(flat >= 0, np.diff(columns.indptr)[flat], 0).astype(np.int64)
    indptr = np.concatenate(([0], np.cumsum(lengths)))
    entries = np.repeat(columns.indptr[flat].astype(np.int64) - indptr[:-1], lengths) + np.arange(indptr[-1])
    group = np.repeat(np.arange(groups * size) // size, lengths)
    places = group * columns.shape[1] + columns.indices[entries]
    wide = sparse.csr_array(
        (columns.data[entries].astype(np.float64), places, indptr),
        shape=(groups * size, groups * columns.shape[1]),
    )
    product = sparse.coo_array(wide @ wide.T)
    made = np.zeros((groups * size, size))
    made[product.coords[0], product.coords[1] % size] = product.data
    return made.reshape(groups, size, size)


def gathered(whole: NDArray[np.float64], members: NDArray[np.int64]) -> NDArray[np.float64]:
    """The same from the products of all pairs."""
    real = members >= 0
    made = whole[members[:, :, None], members[:, None, :]]
    made *= real[:, :, None] & real[:, None, :]
    return np.asarray(made)
