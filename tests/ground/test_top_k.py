"""Top-k against a stable sort, and the tables made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError
from unblur.ranking import Explanation, Ranking, tie_ranks, top_k


def by_sorting(
    scores: NDArray[np.float32], k: int, counts: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k best by sorting every row in full: by score, then count, then position."""
    order = np.array(
        [sorted(range(len(row)), key=lambda at: (-row[at], -counts[at], at)) for row in scores.tolist()],
        dtype=np.int64,
    ).reshape(scores.shape)
    best = np.take_along_axis(scores, order, axis=1)
    places = np.where(best > -np.inf, order, -1)
    missing = max(0, k - scores.shape[1])
    places = np.pad(places, ((0, 0), (0, missing)), constant_values=-1)[:, :k]
    best = np.pad(best, ((0, 0), (0, missing)), constant_values=-np.inf)[:, :k]
    return places.astype(np.int32), best


def assert_same(scores: NDArray[np.float32], k: int) -> None:
    before = scores.copy()
    # Some counts are equal, so that positions count as well.
    counts = np.random.default_rng(scores.shape[1]).integers(0, max(1, scores.shape[1] // 2), scores.shape[1])
    positions, best = top_k(scores, k, tie_ranks(counts))
    expected_positions, expected_best = by_sorting(before, k, counts)
    assert positions.dtype == np.int32
    assert best.dtype == np.float32
    assert np.array_equal(positions, expected_positions)
    assert np.array_equal(best, expected_best)
    assert np.array_equal(scores, before)


few_values = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 1.0, 1.5, 3e38, -3e38])
small = arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(0, 12)), elements=few_values)
orders = st.sampled_from(["C", "F"])


@given(small, st.integers(1, 14), orders)
def test_few_items_with_many_ties(scores: NDArray[np.float32], k: int, order: Any) -> None:
    assert_same(np.array(scores, order=order), k)


@given(
    st.integers(0, 2**32),
    st.integers(1, 3),
    st.sampled_from([127, 128, 129, 255, 256, 257, 300, 511, 1000, 2049]),
    st.sampled_from([1, 2, 10, 40]),
    st.sampled_from([2, 5, 1000, None]),
    st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    orders,
)
def test_many_items_in_blocks(
    seed: int, n_users: int, n_items: int, k: int, distinct: int | None, hidden: float, order: Any
) -> None:
    random = np.random.default_rng(seed)
    scores = random.standard_normal((n_users, n_items)).astype(np.float32)
    if distinct is not None:
        scores = random.integers(0, distinct, (n_users, n_items)).astype(np.float32)
    scores[random.random((n_users, n_items)) < hidden] = -np.inf
    assert_same(np.array(scores, order=order), k)


@given(st.integers(0, 99), st.sampled_from([-np.inf, -1.0, 0.0, 0.3, 9.0]), st.sampled_from([1, 5, 40]))
def test_scores_that_are_not_above_a_bound_are_as_if_excluded(seed: int, above: float, k: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.choice([-1.0, 0.0, 0.1, 0.3, 0.7, -np.inf], (3, 300)).astype(np.float32)
    ties = random.permutation(300)
    excluded = np.where(scores > np.float32(above), scores, -np.inf)
    for found, expected in zip(top_k(scores, k, ties, above=above), top_k(excluded, k, ties), strict=True):
        assert np.array_equal(found, expected)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    scores, ties = np.random.default_rng(0).integers(0, 9, (40, 700)).astype(np.float32), np.arange(700)
    whole = top_k(scores, 25, ties)
    for row in range(40):
        positions, best = top_k(scores[row : row + 1], 25, ties)
        assert np.array_equal(positions[0], whole[0][row])
        assert np.array_equal(best[0], whole[1][row])


@pytest.mark.parametrize("n_items", [1, 5, 400])
def test_everything_tied_is_ranked_by_count_and_then_by_position(n_items: int) -> None:
    k = min(n_items, 7)
    scores = np.zeros((2, n_items), dtype=np.float32)
    assert top_k(scores, k, tie_ranks(np.ones(n_items, dtype=int)))[0].tolist() == [list(range(k))] * 2
    popular = top_k(scores, k, tie_ranks(np.arange(n_items)))[0]
    assert popular.tolist() == [list(range(n_items - 1, n_items - 1 - k, -1))] * 2


def test_views_that_are_read_only_or_reversed() -> None:
    scores = np.random.default_rng(0).standard_normal((6, 400)).astype(np.float32)
    frozen = scores.copy()
    frozen.flags.writeable = False
    for view in (frozen, frozen.T[:6, :6], scores[::2, ::3], scores[::-1], scores[:, ::-1], scores.T):
        assert_same(view, 3)
    assert_same(np.broadcast_to(scores[:1], (3, 400)), 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("n_items", [3, 130, 257, 1025])
@pytest.mark.parametrize("order", ["C", "F"])
def test_scores_that_are_not_finite_are_refused_wherever_they_are(
    bad: float, n_items: int, order: Any
) -> None:
    for place in {0, 1, n_items // 2, n_items - 1}:
        scores = np.zeros((2, n_items), dtype=np.float32, order=order)
        scores[1, place] = bad
        with pytest.raises(
            DataError, match=r"Scores must be finite; saw NaN or infinity\. The model did not fit"
        ):
            top_k(scores, 1, np.arange(n_items))


# -------------------------------------------------------------------------------- tables


def ranking() -> Ranking:
    return Ranking(
        users=Vocabulary(["anna", "ben"]),
        items=Vocabulary(["x", "y", "z"]),
        positions=np.array([[2, 0], [1, -1]], dtype=np.int32),
        scores=np.array([[0.5, 0.25], [1.0, -np.inf]], dtype=np.float32),
        fallback=np.array([False, True]),
        notes=("1 users without a history were given popular items",),
    )


def test_a_ranking_is_a_table_in_the_callers_labels() -> None:
    lists = ranking()
    assert lists.k == 2
    assert lists.labels() == ["z", "x"]
    assert lists.labels(1) == ["y"]
    assert lists.to_frame().to_dict(as_series=False) == {
        "user": ["anna", "anna", "ben"],
        "rank": [1, 2, 1],
        "item": ["z", "x", "y"],
        "score": [0.5, 0.25, 1.0],
        "fallback": [False, False, True],
        "filled": [False, False, False],
    }


def test_a_user_with_an_empty_list_has_a_row_without_an_item() -> None:
    lists = replace(
        ranking(),
        positions=np.array([[-1, -1], [1, -1]], dtype=np.int32),
        scores=np.array([[-np.inf, -np.inf], [1.0, -np.inf]], dtype=np.float32),
        filled=np.array([[False, False], [True, False]]),
    )
    assert lists.labels() == []
    assert lists.to_frame().to_dict(as_series=False) == {
        "user": ["anna", "ben"],
        "rank": [None, 1],
        "item": [None, "y"],
        "score": [None, 1.0],
        "fallback": [False, True],
        "filled": [False, True],
    }


def test_a_ranking_of_nobody_is_an_empty_table() -> None:
    none = np.zeros((0, 3))
    lists = Ranking(
        Vocabulary([]),
        Vocabulary(["x"]),
        none.astype(np.int32),
        none.astype(np.float32),
        np.zeros(0, dtype=bool),
    )
    assert lists.to_frame().columns == ["user", "rank", "item", "score", "fallback", "filled"]
    assert lists.to_frame().is_empty()


def test_an_explanation_is_a_table() -> None:
    explanation = Explanation("z", 3.0, Vocabulary(["x", "y"]), np.array([2.0, 1.0]), exact=True)
    assert explanation.to_frame().to_dict(as_series=False) == {"item": ["x", "y"], "share": [2.0, 1.0]}
