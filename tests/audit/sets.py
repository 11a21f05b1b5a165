"""Real users who are alike, in disjoint groups."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from unblur.data.catalogue.generation import generated
from unblur.data.interactions import Interactions

GATES = (
    "valid",
    "findings",
    "max_auc",
    "max_catch_at_1",
    "max_catch_at_01",
    "max_near_copies",
    "max_excess",
)
"""The gates of an audit with a holdout, in the order of its page, by default."""


class Groups(NamedTuple):
    """Three groups of users of one kind, and none in two of them."""

    train: Interactions
    holdout: Interactions
    others: Interactions
    """Real users as well, who stand in for a synthetic set that learned nothing about train."""


def groups(n_users: int, n_items: int = 300, *, mean_items: int = 20, rng: int = 1) -> Groups:
    """`n_users` in each group."""
    data = generated(3 * n_users, n_items, 3 * n_users * mean_items, rng=rng)
    parts = [data.take_users(slice(at * n_users, (at + 1) * n_users)) for at in range(3)]
    return Groups(*parts)


def rows(*sets: Interactions) -> Interactions:
    """The rows of all sets one below the other, under new labels."""
    matrix = sparse.vstack([part.matrix for part in sets], format="csr")
    return Interactions.from_matrix(matrix, items=sets[0].items)


def binary(random: np.random.Generator, n_users: int, n_items: int, share: float) -> sparse.csr_array:
    """A random 0/1 matrix without empty rows."""
    dense = random.random((n_users, n_items)) < share
    dense[np.arange(n_users), random.integers(0, n_items, n_users)] = True
    return sparse.csr_array(dense.astype(np.float32))
