"""Similarities from sparse blocks against scikit-learn's dense ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn.metrics import pairwise_distances

from tests.audit.sets import binary
from unblur.audit.attacks import membership
from unblur.audit.attacks.membership import pair_log_share, rarest_items
from unblur.audit.attacks.neighbours import closest, nearness
from unblur.models.linear import neighbours as products


@given(st.integers(0, 1000), st.integers(1, 30), st.integers(1, 30))
def test_nearness_is_that_of_all_pairs(seed: int, n: int, m: int) -> None:
    random = np.random.default_rng(seed)
    one, other = binary(random, n, 12, 0.2), binary(random, m, 12, 0.2)
    truth = 1 - pairwise_distances(one.toarray() > 0, other.toarray() > 0, metric="jaccard")
    result = nearness(one, other)
    np.testing.assert_allclose(result.nearest, truth.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(result.mean, truth.mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(result.density, (truth**8).mean(axis=1), atol=1e-6)


def test_the_size_of_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    one, other = binary(random, 40, 15, 0.2), binary(random, 50, 15, 0.2)
    whole, share = nearness(one, other), pair_log_share(one, other)
    monkeypatch.setattr(products, "BLOCK_PRODUCTS", 120)
    monkeypatch.setattr(membership, "CELLS_AT_ONCE", 31)
    np.testing.assert_array_equal(nearness(one, other).density, whole.density)
    np.testing.assert_allclose(pair_log_share(one, other), share, rtol=1e-12)


def test_the_closest_rows_are_kept_and_of_equal_ones_the_first() -> None:
    random = np.random.default_rng(4)
    one, other = binary(random, 20, 8, 0.3), binary(random, 60, 8, 0.3)
    truth = 1 - pairwise_distances(one.toarray() > 0, other.toarray() > 0, metric="jaccard")
    result = closest(one, other, 5).toarray()
    for row in range(20):
        order = np.lexsort((np.arange(60), -np.round(truth[row], 6)))[:5]
        order = order[truth[row][order] > 0]
        np.testing.assert_array_equal(np.flatnonzero(result[row]), np.sort(order))
        np.testing.assert_allclose(result[row][order], truth[row][order], atol=1e-6)


def test_item_pairs_are_counted_as_by_hand() -> None:
    random = np.random.default_rng(8)
    targets, rows = binary(random, 12, 9, 0.3), binary(random, 30, 9, 0.3)
    counts = (rows.T @ rows).toarray()
    result = pair_log_share(targets, rows)
    for row in range(12):
        items = np.flatnonzero(targets.toarray()[row])
        logs = [np.log((counts[a, b] + 0.5) / 31) for a in items for b in items if a != b]
        assert result[row] == pytest.approx(np.mean(logs) if logs else 0.0)


def test_the_rarest_items_of_a_long_row_are_kept() -> None:
    random = np.random.default_rng(9)
    rows = binary(random, 6, 80, 0.7)
    counts = random.permutation(80)
    kept = rarest_items(rows, counts)
    for row in range(6):
        items = np.flatnonzero(rows.toarray()[row])
        expected = np.sort(items[np.argsort(counts[items])][: membership.ITEMS_OF_A_USER])
        np.testing.assert_array_equal(kept.indices[kept.indptr[row] : kept.indptr[row + 1]], expected)
