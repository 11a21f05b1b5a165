"""Intervals against scipy.stats, and their independence of threads and chunks."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import stats
from threadpoolctl import threadpool_limits

from unblur.errors import DataError
from unblur.evaluation import significance
from unblur.evaluation.significance import bootstrap_interval, holm


def test_interval_is_that_of_scipy_draw_for_draw() -> None:
    values = np.random.default_rng(0).beta(0.4, 2.0, (311, 3))
    low, high = bootstrap_interval(values, resamples=500, confidence=0.9, rng=7)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        axis=0,
        n_resamples=500,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(7),
    )
    # scipy draws anew for every column, so only the first column has the same draws
    first_column = stats.bootstrap(
        (values[:, 0],),
        np.mean,
        n_resamples=500,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(7),
    )
    np.testing.assert_allclose([low[0], high[0]], first_column.confidence_interval, rtol=0, atol=1e-11)
    np.testing.assert_allclose([low, high], theirs.confidence_interval, rtol=0, atol=0.01)


def test_interval_covers_the_mean_about_as_often_as_its_confidence() -> None:
    random = np.random.default_rng(1)
    samples = random.exponential(1.0, (200, 400))
    ends = bootstrap_interval(samples, resamples=400, rng=2)
    covered = np.mean((ends[0] <= 1.0) & (ends[1] >= 1.0))
    assert 0.90 <= covered <= 0.98


def test_interval_is_the_same_for_all_threads_and_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).random((2_003, 11))
    with threadpool_limits(1):
        one = bootstrap_interval(values, resamples=200, rng=5)
    with threadpool_limits(2):
        two = bootstrap_interval(values, resamples=200, rng=5)
    monkeypatch.setattr(significance, "CELLS_AT_ONCE", 2_003 * 7)
    chunked = bootstrap_interval(values, resamples=200, rng=5)
    column = bootstrap_interval(values[:, 4], resamples=200, rng=5)
    assert np.array_equal(one, two)
    assert np.array_equal(one, chunked)
    np.testing.assert_allclose([one[0][4], one[1][4]], np.ravel(column), rtol=0, atol=1e-15)


def test_interval_of_equal_values_is_a_point() -> None:
    low, high = bootstrap_interval(np.full((9, 2), [0.25, 0.0]), rng=1)
    assert low.tolist() == high.tolist() == [0.25, 0.0]


def test_tiny_and_large_values_keep_their_interval() -> None:
    values = np.random.default_rng(0).random(50)
    low, high = np.ravel(bootstrap_interval(values, rng=1))
    for scale in (1e-280, 1e-12, 1e12):
        scaled = np.ravel(bootstrap_interval(values * scale, rng=1))
        np.testing.assert_allclose(scaled / scale, [low, high], rtol=1e-10)


def test_intervals_of_twenty_columns_and_thirty_thousand_users_take_under_a_second() -> None:
    values = np.random.default_rng(0).random((30_000, 20))
    start = time.process_time()
    bootstrap_interval(values, rng=1)
    assert time.process_time() - start < 2.0


def test_holm_steps_down_and_stays_in_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []
    p_values = np.random.default_rng(0).random(12)
    adjusted = holm(p_values)
    assert (adjusted >= p_values).all()
    assert np.array_equal(np.argsort(p_values), np.lexsort((p_values, adjusted)))


def test_bad_values_and_settings_are_refused() -> None:
    with pytest.raises(DataError, match="at least 1 resample"):
        bootstrap_interval(np.ones(3), resamples=0)
    with pytest.raises(DataError, match=r"saw 1000 and 1\.5"):
        bootstrap_interval(np.ones(3), confidence=1.5)
    with pytest.raises(DataError, match=r"at least one user; saw shape \(0, 2\)"):
        bootstrap_interval(np.ones((0, 2)))
    with pytest.raises(DataError, match="must be finite"):
        bootstrap_interval(np.array([1.0, np.nan]))
    with pytest.raises(DataError, match="between 0 and 1"):
        holm([0.5, 1.5])
