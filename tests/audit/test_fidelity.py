"""Statistics against SciPy, and their intervals against resampling by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from tests.audit.sets import binary, groups
from unblur.audit.fidelity import (
    STATISTICS,
    Tally,
    cooccurrence_distance,
    fidelity,
    grouped_cooccurrence,
    popular_items,
)
from unblur.data.interactions import Interactions
from unblur.errors import DataError


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(2, 40))
def test_every_statistic_is_that_of_scipy(seed: int, n: int, m: int) -> None:
    random = np.random.default_rng(seed)
    one, train = binary(random, n, 15, 0.2), binary(random, m, 15, random.random() * 0.5)
    result = {
        name: entry.of(Tally.of(one, most=15), Tally.of(train, most=15))[0]
        for name, entry in STATISTICS.items()
    }
    p, q = one.sum(axis=0) / one.sum(), train.sum(axis=0) / train.sum()
    mine, theirs = one.sum(axis=1), train.sum(axis=1)
    assert result["item popularity, total variation"] == pytest.approx(np.abs(p - q).sum() / 2, abs=1e-6)
    assert result["item popularity, Jensen-Shannon"] == pytest.approx(
        jensenshannon(p, q, base=2) ** 2, abs=1e-6
    )
    assert result["user activity, Wasserstein"] == pytest.approx(
        stats.wasserstein_distance(mine, theirs), abs=1e-6
    )
    assert result["user activity, Kolmogorov-Smirnov"] == pytest.approx(
        stats.ks_2samp(mine, theirs, method="asymp").statistic, abs=1e-6
    )
    assert result["coverage"] == pytest.approx((p > 0).mean())
    assert result["sparsity"] == pytest.approx(1 - one.nnz / (n * 15))
    if np.ptp(p) and np.ptp(q):
        truth = stats.spearmanr(one.sum(axis=0), train.sum(axis=0)).statistic
        assert result["item popularity, rank correlation"] == pytest.approx(truth, abs=1e-9)
    tail = np.argsort(train.sum(axis=0), kind="stable")[:12]
    assert result["long tail"] == pytest.approx(p[tail].sum(), abs=1e-6)


def test_a_resample_is_the_set_with_repeated_users() -> None:
    random = np.random.default_rng(2)
    one, train = binary(random, 25, 15, 0.2), binary(random, 30, 15, 0.3)
    drawn = random.integers(0, 25, (3, 25))
    weights = np.stack([np.bincount(row, minlength=25) for row in drawn])
    against, many = Tally.of(train, most=15), Tally.of(one, weights, most=15)
    for entry in STATISTICS.values():
        by_hand = [entry.of(Tally.of(one[row], most=15), against)[0] for row in drawn]
        np.testing.assert_allclose(entry.of(many, against), by_hand, atol=1e-12)


def test_cooccurrence_is_that_of_the_dense_product() -> None:
    random = np.random.default_rng(3)
    one, train = binary(random, 90, 12, 0.3), binary(random, 80, 12, 0.3)
    items = popular_items(train)
    assert list(items) == list(np.argsort(-train.sum(axis=0), kind="stable"))
    pairs = []
    for part in (one, train):
        dense = part.toarray()[:, items]
        counts = dense.T @ dense
        np.fill_diagonal(counts, 0)
        pairs.append(counts / counts.sum())
    result = cooccurrence_distance(
        grouped_cooccurrence(one, items, random), grouped_cooccurrence(train, items, random)
    )
    assert result is not None
    assert result[0] == pytest.approx(np.abs(pairs[0] - pairs[1]).sum() / 2, abs=1e-6)
    assert result[1] < result[0] < result[2]


def test_sets_without_pairs_have_no_cooccurrence() -> None:
    people = groups(60, 80)
    lonely = Interactions.from_pairs(np.arange(60), np.arange(60), item_vocabulary=people.train.items)
    names = [entry.name for entry in fidelity(people.train, lonely, people.holdout, rng=1).likenesses]
    assert "item co-occurrence, total variation" not in names
    assert len(names) == 8


def test_equally_many_users_are_compared() -> None:
    people = groups(200)
    result = fidelity(
        people.train, people.others, people.holdout.take_users(slice(0, 70)), rng=1, resamples=20
    )
    assert (result.n_users, result.n_train) == (70, 200)
    for entry in result.likenesses:
        assert entry.low <= entry.value <= entry.high
        assert entry.yardstick_low <= entry.yardstick <= entry.yardstick_high
    for curve in (*result.curves.popularity.values(), *result.curves.activity.values()):
        assert curve[-1][1] == pytest.approx(1)
        assert list(curve) == sorted(curve)


def test_a_single_user_is_refused() -> None:
    people = groups(50)
    with pytest.raises(DataError, match="at least two users"):
        fidelity(people.train, people.others.take_users([0]), people.holdout)
