"""Small generated data for the tests of diffusion: users and items in communities, with times."""

from __future__ import annotations

import numpy as np

from unblur.data.interactions import Interactions


def communities(n_users: int = 120, n_items: int = 60, groups: int = 4, seed: int = 0) -> Interactions:
    """Users like items of their own group; each interaction has a time, some of them equal."""
    random = np.random.default_rng(seed)
    user_group, item_group = random.integers(0, groups, n_users), random.integers(0, groups, n_items)
    likes = np.where(user_group[:, None] == item_group[None, :], 0.45, 0.03)
    users, items = np.nonzero(random.random((n_users, n_items)) < likes)
    return Interactions.from_pairs(users, items, timestamps=random.integers(0, 50, len(users)))


def without_times(data: Interactions) -> Interactions:
    return Interactions(data.matrix, data.users, data.items)
