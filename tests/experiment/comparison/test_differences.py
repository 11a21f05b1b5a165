"""The tests behind a leaderboard: right p-values, and no more false alarms than promised."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from unblur.errors import DataError
from unblur.evaluation.significance import differences, sign_flip_tests


def shuffled_models(n_models: int, n_users: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Values of equal models: users differ, many have no hit, and the assignment to models is random."""
    ability = rng.beta(1.0, 3.0, (n_users, 1))
    values = rng.binomial(12, ability, (n_users, n_models)) * rng.uniform(0.5, 1.0, (n_users, n_models)) / 12
    return np.asarray(rng.permuted(values, axis=1))


@pytest.mark.parametrize("n_models", [2, 3])
def test_equal_models_differ_as_often_as_the_level_says(n_models: int) -> None:
    """The probability of any false difference in a comparison, over 1,000 of them: 5 % ± 1.5 %.

    With three models Holm's bound is not met in full, since the pairs share models: about 4.3 % by the distribution of
    the studentized range.
    """
    rng = np.random.default_rng(20)
    alarms = 0
    for number in range(1000):
        table = differences(shuffled_models(n_models, 150, rng), permutations=1999, resamples=0, rng=number)
        alarms += any(entry.differs for entry in table)
    assert 35 <= alarms <= 65


def test_many_equal_models_raise_no_more_false_alarms() -> None:
    """With many dependent pairs Holm's correction is conservative, never too liberal."""
    rng = np.random.default_rng(7)
    alarms = sum(
        any(
            entry.differs
            for entry in differences(shuffled_models(6, 60, rng), permutations=999, resamples=0, rng=number)
        )
        for number in range(500)
    )
    assert alarms <= 0.065 * 500


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(1)
    values = shuffled_models(3, 400, rng)
    values[:, 2] += 0.05
    table = {(entry.one, entry.other): entry for entry in differences(values, rng=0)}
    assert table[0, 2].differs
    assert table[1, 2].differs
    assert table[0, 2].low <= table[0, 2].mean <= table[0, 2].high < 0


def test_p_values_are_those_of_scipy() -> None:
    rng = np.random.default_rng(3)
    gaps = rng.normal(0.15, 1.0, (40, 3))
    ours = sign_flip_tests(gaps, permutations=20_000, rng=0)
    for column, p_value in zip(gaps.T, ours, strict=True):
        oracle = stats.permutation_test(
            (column, np.zeros_like(column)),
            lambda one, other, axis: np.mean(one - other, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=20_000,
            rng=np.random.default_rng(5),
        ).pvalue
        assert p_value == pytest.approx(oracle, abs=0.012)


def test_ties_count_as_large() -> None:
    """Two users who both differ by one step: half of the patterns are as large as what was seen."""
    assert sign_flip_tests(np.array([[0.1], [0.1]]), permutations=40_000, rng=0)[0] == pytest.approx(
        0.5, abs=0.01
    )
    assert sign_flip_tests(np.zeros((5, 2)), rng=0).tolist() == [1.0, 1.0]


def test_values_must_be_finite() -> None:
    with pytest.raises(DataError, match="finite"):
        differences(np.array([[0.1, np.nan]]))
    assert differences(np.ones((3, 1))) == []
