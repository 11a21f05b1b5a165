"""From scores to items: density, counts, ties and excluded items."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from unblur.synthesis import discretization
from unblur.synthesis.discretization import (
    Discretization,
    above,
    best,
    discretized,
    gumbel_perturbed,
    quantile_threshold,
)
from unblur.synthesis.synthesizer import RealCounts, UserBlock

SCORES = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.floats(-4, 4, width=16).map(lambda value: float(np.float32(value))),
)


def rows_of(
    scores: NDArray[np.float32], settings: Discretization, counts: RealCounts, block: int = 4
) -> NDArray[np.float32]:
    blocks = [
        (UserBlock(len(part), np.random.default_rng(place)), part.copy())
        for place, part in enumerate(np.array_split(scores, range(block, len(scores), block)))
    ]
    items = discretized(iter(blocks), settings, counts, len(scores))
    return np.concatenate([each.toarray() for each in items])


def real(density: float, n_items: int) -> RealCounts:
    """1,000 users with density·n_items items each, as nearly as whole numbers allow."""
    each = density * n_items
    low = int(each)
    users = np.zeros(low + 2)
    users[low + 1] = round((each - low) * 1000)
    users[low] = 1000 - users[low + 1]
    return RealCounts(users, n_items)


@given(SCORES, st.floats(0.05, 0.95))
def test_equal_sparsity_gives_the_real_density(scores: NDArray[np.float32], density: float) -> None:
    distinct = scores.ravel().argsort(kind="stable").argsort().astype(np.float32).reshape(scores.shape)
    items = rows_of(distinct, Discretization(rule="equal-sparsity"), real(density, scores.shape[1]))
    n_expected = round(real(density, scores.shape[1]).density * scores.size)
    assert items.sum() == n_expected
    if n_expected and n_expected < scores.size:
        assert distinct[items > 0].min() > distinct[items == 0].max()


@given(SCORES, st.floats(0.05, 0.95))
def test_ties_at_the_threshold_are_left_out(scores: NDArray[np.float32], density: float) -> None:
    counts = real(density, scores.shape[1])
    items = rows_of(scores, Discretization(rule="equal-sparsity"), counts)
    n_expected = round(counts.density * scores.size)
    assert items.sum() <= n_expected
    ranked = np.sort(scores.ravel())[::-1]
    if n_expected < scores.size:
        assert items.sum() == (ranked > ranked[n_expected]).sum()


@given(SCORES, st.floats(0.05, 0.95))
def test_equal_sparsity_per_user_gives_all_the_same_number(
    scores: NDArray[np.float32], density: float
) -> None:
    counts = real(density, scores.shape[1])
    items = rows_of(scores, Discretization(rule="equal-sparsity", per="user"), counts)
    assert (items.sum(1) == round(counts.density * scores.shape[1])).all()


@given(SCORES)
def test_the_zero_threshold_takes_positive_scores(scores: NDArray[np.float32]) -> None:
    counts = real(0.3, scores.shape[1])
    assert np.array_equal(rows_of(scores, Discretization(rule="zero-threshold"), counts), scores > 0)
    assert np.array_equal(rows_of(scores, Discretization(rule="raw"), counts), np.maximum(scores, 0))


@given(SCORES, st.data())
def test_the_best_of_each_row_are_those_of_a_stable_sort(
    scores: NDArray[np.float32], data: st.DataObject
) -> None:
    n, m = scores.shape
    hidden = data.draw(arrays.arrays(bool, (n, m)))
    counts = data.draw(arrays.arrays(np.int64, n, elements=st.integers(0, m)))
    masked = np.where(hidden, -np.inf, scores).astype(np.float32)
    items = best(masked, counts).toarray()
    for row in range(n):
        order = np.argsort(-masked[row], kind="stable")[: counts[row]]
        expected = sorted(column for column in order if not hidden[row, column])
        assert np.flatnonzero(items[row]).tolist() == expected


def test_user_counts_follow_the_real_distribution() -> None:
    users = np.array([0, 10, 0, 30, 0, 0, 60], dtype=float)
    scores = np.random.default_rng(0).normal(size=(6000, 9)).astype(np.float32)
    items = rows_of(scores, Discretization(rule="user-counts"), RealCounts(users, 9), block=1000)
    shares = np.bincount(items.sum(1).astype(int), minlength=7) / 6000
    assert set(np.flatnonzero(shares)) == {1, 3, 6}
    np.testing.assert_allclose(shares, users / 100, atol=0.03)


def test_a_large_sample_takes_the_threshold_of_its_first_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discretization, "MOST_CELLS", 400)
    scores = np.random.default_rng(0).normal(size=(100, 10)).astype(np.float32)
    items = rows_of(scores, Discretization(rule="equal-sparsity"), real(0.2, 10), block=10)
    threshold = np.quantile(scores[:40], 0.8, method="inverted_cdf")
    assert np.array_equal(items, scores > threshold)
    assert abs(items.mean() - 0.2) < 0.05


@given(SCORES, st.floats(0, 1))
def test_the_threshold_is_a_quantile(scores: NDArray[np.float32], density: float) -> None:
    threshold = quantile_threshold([scores], density)
    n_kept = round(density * scores.size)
    if n_kept == scores.size:
        assert threshold == -np.inf
    else:
        assert threshold == np.sort(scores.ravel())[::-1][n_kept]
    assert above(scores, threshold).nnz <= n_kept


def test_items_are_drawn_by_the_softmax_without_replacement() -> None:
    """Ordered pairs have probability p_i·p_j / (1 − p_i), as in numpy's draws without replacement."""
    scores = np.array([1.0, 0.0, -1.0, 0.5, -np.inf], dtype=np.float32)
    probabilities = np.exp(scores) / np.exp(scores).sum()
    n = 60_000
    keys = gumbel_perturbed(np.tile(scores, (n, 1)), np.random.default_rng(0))
    order = np.argsort(-keys, axis=1)[:, :2]
    frequencies = np.zeros((5, 5))
    np.add.at(frequencies, (order[:, 0], order[:, 1]), 1 / n)
    expected = probabilities[:, None] * probabilities[None] / (1 - probabilities[:, None])
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(frequencies, expected, atol=0.006)
    sampled = np.zeros((5, 5))
    random = np.random.default_rng(1)
    for _ in range(4000):
        first, second = random.choice(5, 2, replace=False, p=probabilities)
        sampled[first, second] += 1 / 4000
    np.testing.assert_allclose(frequencies, sampled, atol=0.03)


@given(SCORES, st.data())
def test_a_multinomial_user_has_as_many_items_as_some_real_one(
    scores: NDArray[np.float32], data: st.DataObject
) -> None:
    n_items = data.draw(st.integers(1, scores.shape[1]))
    users = np.zeros(scores.shape[1] + 1)
    users[n_items] = 5
    items = rows_of(scores, Discretization(rule="multinomial"), RealCounts(users, scores.shape[1]))
    assert (items.sum(1) == n_items).all()
