"""The canonical form of an interaction matrix: sorted, without repeats or zeros, float32, read-only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.errors import DataError


def canonical(
    given: sparse.csr_array, timestamps: NDArray[Any] | None
) -> tuple[sparse.csr_array, NDArray[np.int64] | None]:
    """The matrix in canonical form, and its times in the same order; arrays that are in order are not copied.

    `timestamps` are aligned with ``given.data``. Raises `DataError` for repeated pairs, weights that are not
    positive and finite, and times that are not aligned.
    """
    matrix = sparse.csr_array(given)
    times = None if timestamps is None else np.asarray(timestamps, dtype=np.int64)
    if times is not None and len(times) != matrix.nnz:
        raise DataError(
            f"There must be one timestamp for each of the {matrix.nnz:,} pairs; saw {len(times):,}. Align."
        )
    if not matrix.has_sorted_indices:
        place = sparse.csr_array(
            (np.arange(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape
        ).copy()
        place.sort_indices()
        matrix = sparse.csr_array((matrix.data[place.data], place.indices, place.indptr), shape=matrix.shape)
        times = None if times is None else times[place.data]
    steps = np.diff(matrix.indices)
    steps[matrix.indptr[1:-1][(matrix.indptr[1:-1] > 0) & (matrix.indptr[1:-1] < matrix.nnz)] - 1] = 1
    if bool((steps <= 0).any()):
        raise DataError(
            "Each user-item pair must occur once in a matrix; some occur twice. "
            "Call `sum_duplicates()` on it, or use `Interactions.from_pairs(…, duplicates=…)`."
        )
    with np.errstate(over="ignore"):
        data = np.asarray(matrix.data, dtype=np.float32)
    if bool((data == 0).any()):
        kept = data != 0
        indptr = np.concatenate(([0], np.cumsum(kept)))[matrix.indptr]
        matrix = sparse.csr_array((data[kept], matrix.indices[kept], indptr), shape=matrix.shape)
        data, times = matrix.data, None if times is None else times[kept]
    if not bool((data > 0).all()) or not bool(np.isfinite(data).all()):
        raise DataError(
            f"Weights must be positive finite numbers; saw {data[~((data > 0) & np.isfinite(data))][0]}. "
            "Drop or rescale such rows, or give `min_rating` to turn ratings into likes."
        )
    small = matrix.nnz < 2**31 and max(matrix.shape) < 2**31
    index_type = np.int32 if small else np.int64
    parts = (
        data,
        matrix.indices.astype(index_type, copy=False),
        matrix.indptr.astype(index_type, copy=False),
    )
    made = sparse.csr_array(tuple(read_only(part) for part in parts), shape=matrix.shape)
    made.has_sorted_indices = True
    made.has_canonical_format = True
    return made, None if times is None else read_only(times)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view of the array that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view
