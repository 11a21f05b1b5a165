"""Areas, intervals and thresholds against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from unblur.audit.findings import Area, Catch, Proportion, Unmeasured, area, catch, roc_points
from unblur.errors import DataError

scores = st.lists(st.integers(0, 6), min_size=20, max_size=60)


@given(scores, scores)
def test_the_area_is_that_of_scikit_learn_with_ties_counted_one_half(
    one: list[int], other: list[int]
) -> None:
    result = area(np.array(one, dtype=float), np.array(other, dtype=float))
    assert isinstance(result, Area)
    truth = roc_auc_score([1] * len(one) + [0] * len(other), one + other)
    assert result.value == pytest.approx(truth, abs=1e-12)
    assert result.ties == pytest.approx(np.mean(np.equal.outer(one, other)), abs=1e-12)
    assert 0 <= result.low <= result.value <= result.high <= 1


@given(scores, scores)
def test_swapping_the_groups_mirrors_the_area(one: list[int], other: list[int]) -> None:
    forth = area(np.array(one, dtype=float), np.array(other, dtype=float))
    back = area(np.array(other, dtype=float), np.array(one, dtype=float))
    assert isinstance(forth, Area)
    assert isinstance(back, Area)
    assert forth.value + back.value == pytest.approx(1)
    assert (forth.low, forth.high) == pytest.approx((1 - back.high, 1 - back.low))


def test_the_interval_covers_the_true_area_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    truth = stats.norm.cdf(0.5 / np.sqrt(2))
    covered = 0
    for _ in range(400):
        result = area(random.normal(0.5, 1, 60), random.normal(0, 1, 80))
        assert isinstance(result, Area)
        covered += result.low <= truth <= result.high
    assert 0.92 <= covered / 400 <= 0.98


def test_the_interval_is_as_wide_as_that_of_a_bootstrap() -> None:
    random = np.random.default_rng(6)
    one, other = random.normal(0.7, 1, 300), random.normal(0, 1.5, 200)
    result = area(one, other)
    assert isinstance(result, Area)
    labels = np.r_[np.ones(300), np.zeros(200)]
    drawn = [
        roc_auc_score(labels, np.r_[random.choice(one, 300), random.choice(other, 200)]) for _ in range(500)
    ]
    assert result.high - result.low == pytest.approx(2 * 1.96 * np.std(drawn), rel=0.12)


@given(st.integers(1, 300), st.data())
def test_a_share_has_the_interval_of_scipy(trials: int, data: st.DataObject) -> None:
    share = Proportion(data.draw(st.integers(0, trials)), trials)
    truth = stats.binomtest(share.hits, trials).proportion_ci(method="exact")
    assert (share.low, share.high) == pytest.approx((truth.low, truth.high), abs=1e-9)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="at least one trial"):
        Proportion(0, 0)
    with pytest.raises(DataError, match="A design effect must be at least 1"):
        Proportion(1, 2, 0.5)


def test_the_interval_of_clumped_trials_is_that_of_fewer() -> None:
    clumped, fewer = Proportion(40, 400, 8.0), Proportion(5, 50)
    assert clumped.value == fewer.value
    assert (clumped.low, clumped.high) == pytest.approx((fewer.low, fewer.high))


@given(
    st.lists(st.integers(0, 9), min_size=20, max_size=80),
    st.lists(st.integers(0, 9), min_size=100, max_size=250),
)
def test_no_more_outsiders_pass_than_were_asked_for(one: list[int], other: list[int]) -> None:
    result = catch(np.array(one), np.array(other), 0.01)
    assert isinstance(result, Catch)
    assert result.outsiders.value <= 0.01
    # The best point of the ROC curve at that rate.
    passed, caught, _ = roc_curve([1] * len(one) + [0] * len(other), one + other, drop_intermediate=False)
    assert result.members.value == pytest.approx(caught[passed <= 0.01 + 1e-12].max())


@pytest.mark.parametrize(("rate", "needed"), [(0.01, 100), (0.001, 1000)])
def test_a_rate_says_how_many_users_it_needs(rate: float, needed: int) -> None:
    members = np.arange(50.0)
    few = catch(members, np.arange(needed - 1.0), rate)
    assert isinstance(few, Unmeasured)
    assert few.reason == (
        f"cannot be measured: needs at least {needed:,} users who were not in training; there are {needed - 1:,}"
    )
    assert isinstance(catch(members, np.arange(float(needed)), rate), Catch)


def test_an_area_of_few_users_is_not_measured() -> None:
    assert isinstance(area(np.arange(19.0), np.arange(50.0)), Unmeasured)
    assert isinstance(area(np.arange(50.0), np.arange(19.0)), Unmeasured)


@given(scores, scores)
def test_roc_points_lie_on_the_curve_and_join_its_ends(one: list[int], other: list[int]) -> None:
    points = roc_points(np.array(one), np.array(other))
    passed, caught, _ = roc_curve([1] * len(one) + [0] * len(other), one + other, drop_intermediate=False)
    assert points[0] == (0, 0)
    assert points[-1] == (1, 1)
    truth = {(round(x, 9), round(y, 9)) for x, y in zip(passed, caught, strict=True)}
    assert {(round(x, 9), round(y, 9)) for x, y in points} <= truth


def test_a_thinned_curve_begins_at_nothing() -> None:
    """Above the most points as well: the best score is an outsider's and a member's, so no score has (0, 0) to itself."""
    scores = np.arange(1000.0)
    points = roc_points(np.append(scores, 2000.0), np.append(scores + 0.5, 2000.0))
    assert points[0] == (0, 0)
    assert points[-1] == (1, 1)
