"""Shared by all tests: the search of properties, skipped marks, and a small data set."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import CapabilityError

settings.register_profile(
    "unblur",
    deadline=None,
    database=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "explore", deadline=None, max_examples=2_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("unblur")  # `pytest --hypothesis-profile=explore` tries more examples, at random


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that this machine cannot run, with the reason."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device; this machine has none")
    if item.get_closest_marker("realdata") and not os.environ.get("UNBLUR_DATA"):
        pytest.skip("needs public data; UNBLUR_DATA is not set")


@pytest.fixture
def opacus() -> type[Any]:
    """The class of opacus' accountant; a test that uses it is skipped without opacus."""
    pytest.importorskip("torch", reason="needs the extra `privacy`")
    from unblur.privacy.accountant import accountant

    try:
        return accountant()
    except CapabilityError:
        pytest.skip("needs opacus; install the extra `privacy`")


@pytest.fixture(scope="session")
def log() -> Interactions:
    """50 users × 30 items with labels and times, a user and an item without interactions, and a pair of twins.

    ``item-07`` and ``item-21`` were taken by the same users. ``item-30`` is known but was never taken, and
    ``user-50`` never took anything.
    """
    random = np.random.default_rng(20)
    taste = random.normal(size=(50, 4)) @ random.normal(size=(4, 30)) + random.normal(size=(50, 30))
    has_item = taste + np.linspace(1.5, -1.5, 30) > 1.2
    has_item[np.arange(50), random.integers(0, 30, 50)] = True
    has_item[:, 21] = has_item[:, 7]
    rows, columns = np.nonzero(has_item)
    shuffled = random.permutation(len(rows))
    return Interactions.from_pairs(
        np.array([f"user-{row:02}" for row in rows[shuffled]]),
        np.array([f"item-{column:02}" for column in columns[shuffled]]),
        timestamps=random.integers(0, 1_000_000, len(rows)),
        user_vocabulary=Vocabulary([f"user-{row:02}" for row in range(51)]),
        item_vocabulary=Vocabulary([f"item-{column:02}" for column in range(31)]),
    )
