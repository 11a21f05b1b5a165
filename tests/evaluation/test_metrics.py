"""Metrics by their definitions, written out user by user, and bad input."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from scipy import sparse, stats

from unblur.data.interactions import Interactions
from unblur.errors import DataError, SpecError
from unblur.evaluation import metrics
from unblur.evaluation.metrics import (
    LIST_METRICS,
    USER_METRICS,
    check_metric,
    coverage,
    entropy_per_item,
    exposure,
    gini,
    metric_at,
    parse_metric,
    per_user,
)


def random_lists(
    seed: int, n_users: int, n_items: int, n_places: int
) -> tuple[NDArray[np.int32], sparse.csr_array]:
    """Random lists, some short or empty, and random relevance, some rows empty."""
    random = np.random.default_rng(seed)
    positions = random.permuted(np.tile(np.arange(n_items, dtype=np.int32), (n_users, 1)), axis=1)[
        :, :n_places
    ]
    lengths = random.integers(0, n_places + 1, n_users)
    positions[np.arange(n_places) >= lengths[:, None]] = -1
    density = random.uniform(0, 0.6)
    return positions, sparse.csr_array((random.random((n_users, n_items)) < density).astype(np.float32))


def by_definition(
    name: str, k: int, items: list[int], relevant: set[int], popularity: NDArray[np.int64]
) -> float:
    hits = [item in relevant for item in items[:k]]
    precision_at_hits = sum(sum(hits[: r + 1]) / (r + 1) for r in range(len(hits)) if hits[r])
    if name == "mean_popularity":
        return float(np.mean(popularity[items[:k]])) if items[:k] else 0.0
    if name == "tail_share":
        trained = sorted(np.flatnonzero(popularity), key=lambda item: (popularity[item], item))
        rare = trained[: max(1, len(trained) // 10)]
        return float(np.mean([item in rare for item in items[:k]])) if items[:k] else 0.0
    if not relevant:
        return 0.0
    ideal_hits = min(k, len(relevant))
    gain = sum(1 / math.log2(2 + r) for r in range(len(hits)) if hits[r])
    return {
        "recall": sum(hits) / len(relevant),
        "capped_recall": sum(hits) / ideal_hits,
        "precision": sum(hits) / k,
        "hit_rate": float(any(hits)),
        "ndcg": gain / sum(1 / math.log2(2 + r) for r in range(ideal_hits)),
        "mrr": 1 / (1 + hits.index(True)) if any(hits) else 0.0,
        "map": precision_at_hits / len(relevant),
        "capped_map": precision_at_hits / ideal_hits,
    }[name]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32), n_users=st.integers(1, 8), n_items=st.integers(1, 20), share=st.floats(0, 1)
)
def test_every_user_metric_follows_its_definition(
    seed: int, n_users: int, n_items: int, share: float
) -> None:
    n_places = max(1, round(share * n_items))
    positions, held_out = random_lists(seed, n_users, n_items, n_places)
    popularity = np.random.default_rng(seed).integers(0, 50, n_items)
    cutoffs = sorted({1, (n_places + 1) // 2, n_places})
    table = per_user(positions, held_out, USER_METRICS, cutoffs, popularity=popularity)
    assert table.names == tuple(metric_at(name, k) for name in USER_METRICS for k in cutoffs)
    for user in range(n_users):
        items = [item for item in positions[user].tolist() if item >= 0]
        relevant = set(np.flatnonzero(held_out[[user]].toarray()[0]).tolist())
        for name in USER_METRICS:
            for k in cutoffs:
                expected = by_definition(name, k, items, relevant, popularity)
                assert table[metric_at(name, k)][user] == pytest.approx(expected, abs=1e-12), (name, k)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(counts=st.lists(st.integers(0, 30), min_size=1, max_size=25))
def test_gini_is_half_the_relative_mean_difference_and_coverage_a_share(counts: list[int]) -> None:
    exposures = np.array(counts, dtype=np.int64)
    gaps = sum(abs(one - other) for one in counts for other in counts)
    textbook = gaps / (2 * len(counts) * sum(counts)) if sum(counts) else 0.0
    assert gini(exposures) == pytest.approx(textbook, abs=1e-12)
    assert coverage(exposures) == sum(count > 0 for count in counts) / len(counts)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30))
def test_entropy_is_that_of_the_slots_over_the_items_in_them(counts: list[int]) -> None:
    shown = [count for count in counts if count]
    expected = stats.entropy(shown) / len(shown) if shown else 0.0
    assert entropy_per_item(np.array(counts, dtype=np.int64)) == pytest.approx(expected, abs=1e-12)


def test_gini_at_its_ends() -> None:
    assert gini(np.array([7, 7, 7, 7])) == 0.0
    assert gini(np.array([0, 0, 0, 9])) == 0.75
    assert gini(np.zeros(4, dtype=np.int64)) == 0.0


def test_exposure_counts_lists_up_to_the_cutoff() -> None:
    positions = np.array([[0, 1, 2], [0, 2, -1], [-1, -1, -1]])
    assert exposure(positions, 4, 3).tolist() == [2, 1, 2, 0]
    assert exposure(positions, 4, 1).tolist() == [2, 0, 0, 0]


def test_a_perfect_list_scores_exactly_one() -> None:
    positions = np.array([[4, 2, 0, 1]])
    held_out = sparse.csr_array(np.array([[1, 0, 1, 0, 1]], dtype=np.float32))
    table = per_user(positions, held_out, ("recall", "capped_recall", "ndcg", "mrr", "map"), (3, 4))
    assert (table.values == 1.0).all()


def test_a_cap_counts_only_with_more_relevant_items_than_places() -> None:
    positions = np.array([[0, 1]])
    held_out = sparse.csr_array(np.ones((1, 8), dtype=np.float32))
    table = per_user(positions, held_out, ("recall", "capped_recall", "map", "capped_map"), (2,))
    assert table.values.tolist() == [[0.25, 1.0, 0.25, 1.0]]


def test_an_empty_place_is_never_a_hit_of_the_row_before() -> None:
    positions = np.array([[0, -1], [-1, -1]])
    held_out = sparse.csr_array(np.array([[0, 0, 1], [0, 0, 0]], dtype=np.float32))
    assert per_user(positions, held_out, ("hit_rate",), (2,)).values.tolist() == [[0.0], [0.0]]


def test_nothing_held_out_and_nothing_recommended_is_zero_and_finite() -> None:
    held_out = sparse.csr_array(np.zeros((2, 3), dtype=np.float32))
    table = per_user(np.full((2, 2), -1), held_out, USER_METRICS, (1, 2), popularity=np.arange(3))
    assert (table.values == 0).all()


def test_unsorted_relevance_and_stored_zeros_are_read_correctly() -> None:
    ragged = sparse.csr_array(
        (np.array([1.0, 0.0, 1.0]), np.array([3, 2, 0]), np.array([0, 3])), shape=(1, 4)
    )
    assert per_user(np.array([[2, 3, 0]]), ragged, ("recall", "precision"), (3,)).values.tolist() == [
        [1.0, 2 / 3]
    ]


def test_values_do_not_depend_on_how_many_users_are_measured_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    positions, held_out = random_lists(3, 40, 15, 10)
    popularity = np.arange(15)
    expected = per_user(positions, held_out, USER_METRICS, (1, 5, 10), popularity=popularity)
    monkeypatch.setattr(metrics, "USERS_AT_ONCE", 7)
    parts = per_user(positions, held_out, USER_METRICS, (1, 5, 10), popularity=popularity)
    assert np.array_equal(expected.values, parts.values)


def test_the_table_is_read_only_and_refuses_unknown_names() -> None:
    positions, held_out = random_lists(1, 3, 6, 4)
    table = per_user(positions, held_out, ("recall",), (2,))
    with pytest.raises(ValueError, match="read-only"):
        table["recall@2"][0] = 1.0
    with pytest.raises(DataError, match=r"saw 'recal@2'\. Did you mean 'recall@2'"):
        table["recal@2"]


def test_thirty_thousand_users_take_well_under_a_second() -> None:
    random = np.random.default_rng(0)
    n_users, n_items = 30_000, 40_000
    positions = (random.integers(0, n_items, (n_users, 1)) + np.arange(20) * 1999) % n_items
    held_out = sparse.csr_array(
        (
            np.ones(300_000, np.float32),
            (random.integers(0, n_users, 300_000), random.integers(0, n_items, 300_000)),
        ),
        shape=(n_users, n_items),
    )
    start = time.process_time()
    per_user(positions.astype(np.int32), held_out, USER_METRICS, (5, 10, 20), popularity=np.arange(n_items))
    assert time.process_time() - start < 2.0


def test_names_and_their_parts() -> None:
    assert metric_at("recall", 20) == "recall@20"
    assert parse_metric("capped_recall@5") == ("capped_recall", 5)
    assert set(USER_METRICS).isdisjoint(LIST_METRICS)
    for name in ("recall", "recall@", "recall@0", "recall@-1", "recall@2.5", "recall@²"):
        with pytest.raises(SpecError, match=r"such as recall@20; saw"):
            parse_metric(name)


def test_an_unknown_metric_is_answered_with_the_nearest() -> None:
    with pytest.raises(SpecError, match=r"saw 'recal'\. Did you mean 'recall'"):
        check_metric("recal")
    with pytest.raises(SpecError, match=r"saw 'auc'\. Known: recall,"):
        parse_metric("auc@5")


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (np.zeros((3, 2), np.int32), "one row for each of the 2 users"),
        (np.zeros((2, 2), np.float32), "signed whole numbers"),
        (np.zeros((2, 2), np.uint8), "signed whole numbers"),
        (np.array([[0, 4], [0, 1]]), "between 0 and 3.*saw 0 to 4"),
        (np.array([[0, -2], [0, 1]]), "saw -2 to 1"),
        (np.array([[0, 1], [2, 2]]), "twice; 1 lists do, the first in row 1"),
    ],
)
def test_lists_that_cannot_be_measured_are_refused(positions: NDArray[np.int32], message: str) -> None:
    held_out = sparse.csr_array(np.zeros((2, 4), dtype=np.float32))
    with pytest.raises(DataError, match=message):
        per_user(positions, held_out, ("recall",), (2,))


def test_cutoffs_metrics_and_popularity_that_do_not_fit_are_refused() -> None:
    positions, held_out = random_lists(1, 3, 6, 4)
    with pytest.raises(DataError, match="between 1 and the length of the lists, 4; saw 5"):
        per_user(positions, held_out, ("recall",), (5,))
    with pytest.raises(DataError, match="saw 0"):
        exposure(positions, 6, 0)
    with pytest.raises(SpecError, match="gini is of all lists together"):
        per_user(positions, held_out, ("gini",), (2,))
    with pytest.raises(DataError, match="Pass `popularity`"):
        per_user(positions, held_out, ("mean_popularity",), (2,))
    with pytest.raises(DataError, match="one count for each of 6 items"):
        per_user(positions, held_out, ("mean_popularity",), (2,), popularity=np.arange(5))


def test_diversity_is_the_same_however_many_lists_are_added_up_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    has_item = random.random((300, 20)) < 0.3
    train = Interactions.from_matrix(sparse.csr_array(has_item.astype(np.float32)))
    lists = random.permuted(np.tile(np.arange(-2, 20, dtype=np.int32), (50, 1)), axis=1)[:, :5]
    lists[lists < 0] = -1
    cosines = (has_item.T.astype(float) @ has_item) / np.sqrt(
        np.outer(train.item_degrees, train.item_degrees)
    )
    pairs = [
        [1 - cosines[i, j] for n, i in enumerate(row) for j in row[:n] if min(i, j) >= 0] for row in lists
    ]
    expected = metrics.diversity(lists, train)
    assert expected == pytest.approx([np.mean(distances) for distances in pairs])
    for entries in (1, 2_000):
        monkeypatch.setattr(metrics, "_ENTRIES_AT_ONCE", entries)
        assert metrics.diversity(lists, train).tolist() == expected.tolist()
