"""Products in blocks, and the strongest entries of each row, against dense arrays and full sorts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from unblur.models.linear import neighbours
from unblur.models.linear.neighbours import (
    column_norms,
    cosine,
    inverse,
    row_blocks,
    strongest,
    top_per_row,
    transposed,
)

MATRICES = arrays(
    np.float32,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0.0, 0.0, 1.0, 2.0, 3.0]),
)


def top_by_sorting(dense: np.ndarray, k: int) -> np.ndarray:
    result = np.zeros_like(dense)
    for row, values in enumerate(dense):
        best = np.argsort(-values, kind="stable")[:k]
        result[row, best] = np.maximum(values[best], 0)
    return result


@given(MATRICES, st.integers(1, 10))
def test_the_largest_of_each_row_are_kept(dense: np.ndarray, k: int) -> None:
    result = top_per_row(sparse.csr_array(dense), k)
    assert np.array_equal(result.toarray(), top_by_sorting(dense, k))
    assert result.has_sorted_indices
    assert np.diff(result.indptr).max() <= k


@given(MATRICES, arrays(np.bool_, (9, 9)), st.integers(1, 10), st.permutations(range(9)))
def test_entries_that_are_not_kept_take_no_place_and_ties_fall_by_rank_whatever_the_order_of_columns(
    dense: np.ndarray, mask: np.ndarray, k: int, ranks: list[int]
) -> None:
    ties = np.array(ranks, dtype=np.int64)[: dense.shape[1]]
    order = np.argsort(ties)
    keep = mask[: dense.shape[0], : dense.shape[1]]
    rows, columns = np.nonzero(dense)
    backwards = np.lexsort((-columns, rows))
    rows, columns = rows[backwards], columns[backwards]
    indptr = np.searchsorted(rows, np.arange(len(dense) + 1))
    matrix = sparse.csr_array((dense[rows, columns], columns, indptr), shape=dense.shape)
    result = top_per_row(matrix, k, keep[rows, columns], ties)
    expected = top_by_sorting(np.where(keep, dense, 0)[:, order], k)
    assert np.array_equal(result.toarray()[:, order], expected)
    assert result.has_sorted_indices


@given(MATRICES, st.integers(1, 10), st.integers(1, 30), st.booleans())
def test_blocks_give_what_the_whole_product_gives(
    dense: np.ndarray, k: int, block: int, without_diagonal: bool
) -> None:
    x = sparse.csr_array(dense)
    product = dense.T.astype(np.float64) @ dense
    if without_diagonal:
        np.fill_diagonal(product, 0)
    before = neighbours.BLOCK_PRODUCTS
    neighbours.BLOCK_PRODUCTS = block
    try:
        result = strongest(
            transposed(x), x, k, weigh=lambda _, __, dots: dots, without_diagonal=without_diagonal
        )
    finally:
        neighbours.BLOCK_PRODUCTS = before
    assert np.array_equal(result.toarray(), top_by_sorting(product, k))


@given(
    arrays(np.float32, (5, 48), elements=st.sampled_from([0.0, 1.0, 2.0, 0.3])),
    st.integers(1, 3),
    st.permutations(range(48)),
)
def test_a_dense_block_gives_the_bytes_of_a_sparse_one(dense: np.ndarray, k: int, ranks: list[int]) -> None:
    x = sparse.csr_array(dense)
    norms = column_norms(x)

    def nearest(dense_from: float) -> sparse.csr_array:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(neighbours, "DENSE_FROM", dense_from)
            weigh = cosine(norms, norms)
            return strongest(transposed(x), x, k, weigh=weigh, ties=np.array(ranks, dtype=np.int64))

    found, expected = nearest(0), nearest(np.inf)
    for array in ("indptr", "indices", "data"):
        assert getattr(found, array).tobytes() == getattr(expected, array).tobytes()
    assert found.indices.dtype == np.int32


@given(MATRICES)
def test_blocks_of_rows_cover_all_rows_once(dense: np.ndarray) -> None:
    x = sparse.csr_array(dense)
    before = neighbours.BLOCK_PRODUCTS
    neighbours.BLOCK_PRODUCTS = 3
    try:
        rows = [row for block in row_blocks(x, transposed(x)) for row in range(block.start, block.stop)]
    finally:
        neighbours.BLOCK_PRODUCTS = before
    assert rows == list(range(len(dense)))


def test_progress_ends_at_the_last_row() -> None:
    x, events = sparse.csr_array(np.ones((4, 3), dtype=np.float32)), []
    strongest(transposed(x), x, 2, weigh=lambda _, __, dots: dots, progress=events.append)
    assert (events[-1].done, events[-1].total) == (3, 3)


def test_norms_and_inverses() -> None:
    x = sparse.csr_array(np.array([[3, 0], [4, 0]], dtype=np.float32))
    assert column_norms(x).tolist() == [5.0, 0.0]
    assert inverse(np.array([4.0, 0.0]), 0.5).tolist() == [0.5, 0.0]
    assert inverse(np.array([4.0, 0.0]), 0.0) == pytest.approx([1.0, 0.0])
