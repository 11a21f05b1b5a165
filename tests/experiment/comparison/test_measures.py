"""Novelty, diversity and popularity against their definitions, pair by pair."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.evaluation.metrics import diversity, head_of, novelty, popularity_lift, recall_within


def log(users: list[int], items: list[int], n_users: int, n_items: int = 6) -> Interactions:
    return Interactions.from_matrix(
        sparse.csr_array((np.ones(len(users)), (users, items)), shape=(n_users, n_items))
    )


TRAIN = log([0, 0, 0, 1, 1, 2, 2, 2, 2, 3], [0, 1, 2, 0, 1, 0, 2, 3, 4, 0], 4)


@given(st.lists(st.permutations(range(6)), min_size=1, max_size=5), st.integers(2, 6), st.integers(0, 2))
def test_diversity_is_the_mean_over_pairs(orders: list[list[int]], k: int, missing: int) -> None:
    positions = np.array(orders, dtype=np.int32)[:, :k]
    positions[0, k - min(missing, k - 2) :] = -1
    columns = TRAIN.matrix.toarray().astype(float)
    norms = np.linalg.norm(columns, axis=0)
    expected = []
    for row in positions:
        items = [int(item) for item in row if item >= 0]
        cosines = [
            columns[:, one] @ columns[:, other] / (norms[one] * norms[other])
            if norms[one] * norms[other]
            else 0.0
            for one, other in combinations(items, 2)
        ]
        expected.append(1 - float(np.mean(cosines)))
    np.testing.assert_allclose(diversity(positions, TRAIN), expected, atol=1e-12)


def test_novelty_is_self_information() -> None:
    degrees = TRAIN.item_degrees
    positions = np.array([[0, 3], [1, -1]], dtype=np.int32)
    expected = [(-np.log2(4 / 4) - np.log2(1 / 4)) / 2, -np.log2(2 / 4)]
    np.testing.assert_allclose(novelty(positions, degrees, 4), expected)


def test_popularity_lift_compares_the_list_with_the_history() -> None:
    histories = TRAIN.take_users([0, 3])
    positions = np.array([[3, 4], [0, 1]], dtype=np.int32)
    lift = popularity_lift(positions, histories, TRAIN.item_degrees)
    np.testing.assert_allclose(lift, [1 / ((4 + 2 + 2) / 3), 3 / 4])
    empty = log([0], [0], 2)
    assert np.isnan(popularity_lift(positions, empty, TRAIN.item_degrees)[1])


def test_recall_within_a_group_of_items() -> None:
    held_out = log([0, 0, 1], [3, 0, 4], 2)
    head = np.array([True, True, False, False, False, False])
    positions = np.array([[0, 5], [4, 0]], dtype=np.int32)
    inside = recall_within(positions, held_out, head, 2)
    assert inside[0] == 1.0
    assert np.isnan(inside[1])
    np.testing.assert_allclose(recall_within(positions, held_out, ~head, 2), [0.0, 1.0])


def test_the_head_is_a_fifth_of_the_catalogue() -> None:
    degrees = np.array([5, 1, 9, 5, 0, 0, 0, 0, 0, 0])
    assert np.flatnonzero(head_of(degrees)).tolist() == [0, 2]
    assert head_of(np.array([3])).tolist() == [True]
    assert head_of(np.ones(10, dtype=np.int64)).sum() == pytest.approx(2)
