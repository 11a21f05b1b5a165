"""The truncated SVD against dense and iterative decompositions that are not ours."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import svds

from unblur.datasets import generated
from unblur.errors import DataError
from unblur.spectral.normalization import normalize
from unblur.spectral.spectrum import Spectrum, truncated_svd


@pytest.fixture(scope="module")
def large() -> sparse.csr_array:
    """A matrix whose smaller side is beyond what is decomposed densely."""
    return normalize(generated(3_200, 2_700, 40_000, rng=1)).matrix


def residuals(matrix: sparse.csr_array, found: Spectrum) -> float:
    wide, left, right = matrix.astype(np.float64), found.left.astype(float), found.right.astype(float)
    forward = np.linalg.norm(wide @ right - left * found.values, axis=0).max()
    backward = np.linalg.norm(wide.T @ left - right * found.values, axis=0).max()
    return float(max(forward, backward))


@pytest.mark.parametrize("turned", [False, True])
def test_values_residuals_and_orthonormality(large: sparse.csr_array, turned: bool) -> None:
    matrix = sparse.csr_array(large.T.tocsr()) if turned else large
    found = truncated_svd(matrix, 60, rng=0)
    values = svds(
        matrix.astype(np.float64), k=60, return_singular_vectors=False, rng=np.random.default_rng(0)
    )
    assert np.allclose(found.values, np.sort(values)[::-1], atol=1e-6)
    assert residuals(matrix, found) <= 1e-5
    for vectors in (found.left.astype(float), found.right.astype(float)):
        assert np.abs(vectors.T @ vectors - np.eye(60)).max() <= 1e-4


def test_the_same_rng_gives_the_same_bytes(large: sparse.csr_array) -> None:
    first, second = truncated_svd(large, 20, rng=5), truncated_svd(large, 20, rng=5)
    assert np.array_equal(first.right, second.right)
    assert np.array_equal(first.left, second.left)


def test_a_value_that_repeats_more_often_than_a_block_is_wide_is_found_every_time() -> None:
    """200 pairs of a user and an item that nobody else has: the value 1 occurs 200 times, and more."""
    rest = normalize(generated(2_600, 2_600, 26_000, rng=2)).matrix
    matrix = sparse.csr_array(sparse.block_diag((sparse.eye_array(200, dtype=np.float32), rest)).tocsr())
    found = truncated_svd(matrix, 210, rng=0)
    assert (found.values[:201] > 1 - 1e-5).all()
    assert residuals(matrix, found) <= 1e-5


def test_small_matrices_in_full_rank() -> None:
    random = np.random.default_rng(3)
    dense = (random.random((40, 25)) < 0.2).astype(np.float32)
    found = truncated_svd(sparse.csr_array(dense), 25, rng=0)
    assert np.allclose(found.values, np.linalg.svd(dense.astype(float), compute_uv=False), atol=1e-5)
    assert residuals(sparse.csr_array(dense), found) <= 1e-5


def test_vectors_of_the_value_zero_are_zero() -> None:
    matrix = sparse.csr_array(np.outer([1, 1, 0, 1], [1, 0, 1]).astype(np.float32))
    found = truncated_svd(matrix, 3, rng=0)
    assert np.allclose(found.values, [np.sqrt(6), 0, 0], atol=1e-6)
    assert not found.left[:, 1:].any()
    assert not found.right[:, 1:].any()


def test_a_rank_beyond_the_smaller_side_is_refused() -> None:
    with pytest.raises(DataError, match="must not exceed the smaller side"):
        truncated_svd(sparse.csr_array(np.ones((3, 5), dtype=np.float32)), 4)
