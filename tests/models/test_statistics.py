"""Statistics of rows: sums over users that add and subtract, and from which EASE computes its weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.errors import DataError
from unblur.models.linear.ease import EASE, Statistics


def rows(seed: int, n_users: int, n_items: int = 12) -> sparse.csr_array:
    random = np.random.default_rng(seed)
    return sparse.csr_array((random.random((n_users, n_items)) < 0.3).astype(np.float32))


def assert_same(one: Statistics, other: Statistics) -> None:
    assert one.n_users == other.n_users
    assert np.array_equal(one.degrees, other.degrees)
    assert np.array_equal(one.gram, other.gram)


@given(st.integers(0, 1000), st.integers(0, 30), st.integers(0, 30))
def test_statistics_of_two_sets_of_users_add_up_to_those_of_both(seed: int, first: int, second: int) -> None:
    one, other = rows(seed, first), rows(seed + 1, second)
    both = Statistics.of(sparse.csr_array(sparse.vstack([one, other], format="csr")))
    assert_same(Statistics.of(one) + Statistics.of(other), both)
    assert_same(both - Statistics.of(other), Statistics.of(one))


def test_statistics_are_degrees_and_the_gram_matrix() -> None:
    matrix = rows(3, 40)
    dense: NDArray[np.float32] = matrix.toarray()
    statistics = Statistics.of(matrix)
    assert np.array_equal(statistics.gram, dense.T @ dense)
    assert np.array_equal(statistics.degrees, np.count_nonzero(dense, axis=0))


def test_forgetting_users_is_fitting_without_them(log: Interactions) -> None:
    remaining, removed = log.take_users(np.arange(30)), log.take_users(np.arange(30, 51))
    all_users, removed_statistics = (Statistics.of(part.binarized().matrix) for part in (log, removed))
    weights = EASE(ridge=5.0).solve(all_users - removed_statistics)
    assert np.array_equal(weights, EASE(ridge=5.0).fit(remaining).tensors()["weights"])


def test_other_items_are_refused() -> None:
    with pytest.raises(DataError, match=r"12 and 5\. Bring"):
        Statistics.of(rows(0, 4)) + Statistics.of(rows(0, 4, 5))
