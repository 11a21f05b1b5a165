"""Noisy counts: their sums, and that noise adds no users with many items."""

from __future__ import annotations

import numpy as np
import pytest

from unblur.privacy.accountant import noisy_counts
from unblur.synthesis.synthesizer import RealCounts


def noisy(
    exact: RealCounts, n_users: int, deviation: float, rng: int | np.random.Generator = 0
) -> RealCounts:
    users_with = noisy_counts(
        exact.users_with,
        exact.n_items,
        n_users=n_users,
        deviation=deviation,
        random=np.random.default_rng(rng),
    )
    return RealCounts(users_with, exact.n_items)


def test_counts_of_users_get_noise() -> None:
    exact = RealCounts(np.bincount([3, 3, 4, 20, 7, 7, 7], minlength=31).astype(float), 50)
    quiet = noisy(exact, 7, 1e-9)
    assert quiet.users_with.sum() == pytest.approx(7)
    assert quiet.density == pytest.approx(exact.density, rel=0.15)
    loud = noisy(exact, 7, 50.0)
    assert (loud.users_with >= 0).all()
    assert loud.users_with.sum() == pytest.approx(7)
    assert noisy(RealCounts(np.zeros(3), 9), 4, 1e-9, rng=1).users_with.sum() > 0


@pytest.mark.parametrize("deviation", [20.0, 40.0])
def test_noise_adds_no_users_with_more_items_than_anybody_has(deviation: float) -> None:
    """Real users have 1 to 40 of 5,000 items; clipping at 0 alone turned noise in empty bins into hundreds of items a user."""
    random = np.random.default_rng(3)
    real = np.clip(random.geometric(0.1, 8_000), 1, 40)
    exact = RealCounts(np.bincount(real).astype(float), 5_000)
    means = [noisy(exact, 8_000, deviation, random).density * 5_000 for _ in range(20)]
    assert np.median(means) == pytest.approx(real.mean(), rel=0.1)
