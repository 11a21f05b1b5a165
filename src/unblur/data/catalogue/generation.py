"""Interactions of any size, for measurements: power-law degrees on both sides and groups of like-minded
users."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError
from unblur.randomness import RNG, streams

BLOCK_PAIRS = 1 << 21
"""How many pairs are made at a time; memory beyond the result is a small multiple of it."""
_USERS, _ITEMS = (0.8, 0.004), (0.75, 0.001)
_FINE, _COARSE = 256, 16  # numbers of groups; a fine group lies inside a coarse one
_SHARE_FINE, _SHARE_COARSE = 0.4, 0.2


def generated(n_users: int, n_items: int, n_interactions: int, *, rng: RNG | None = None) -> Interactions:
    """Exactly `n_interactions` distinct pairs, with integer labels and no times.

    Users and items are in random order. The degree of the user, or item, of rank r falls like (r +
    offset)^−exponent; every user has at least one item, an item may have none. Six in ten choices stay within
    a group of users and items, so that the matrix has a decaying spectrum as real ones do. Ten million
    pairs take some seconds.

    Raises `DataError` unless n_users ≤ n_interactions ≤ n_users·n_items/4.
    """
    if min(n_users, n_items) < 1 or not n_users <= n_interactions <= n_users * n_items // 4:
        raise DataError(
            "The number of interactions must lie between the number of users and a quarter of all pairs; "
            f"saw {n_interactions:,} for {n_users:,} users and {n_items:,} items. Change one of the three."
        )
    chance = streams(rng, "degrees", "labels", "groups", "pairs")
    degrees = chance["degrees"].permutation(_degrees(n_users, n_interactions, most=max(1, n_items // 2)))
    label_of_rank = chance["labels"].permutation(n_items)
    home = chance["groups"].integers(0, _FINE, n_users)
    ends = np.cumsum(degrees)
    columns = np.empty(n_interactions, dtype=np.int32)
    first = 0
    while first < n_users:
        begin = int(ends[first] - degrees[first])
        last = max(first + 1, int(np.searchsorted(ends, begin + BLOCK_PAIRS, side="right")))
        block = _block(degrees[first:last], home[first:last], label_of_rank, chance["pairs"])
        columns[begin : begin + len(block)] = block
        first = last
    indptr = np.concatenate(([0], ends))
    matrix = sparse.csr_array(
        (
            np.ones(n_interactions, dtype=np.float32),
            columns,
            indptr.astype(np.int32 if ends[-1] < 2**31 else np.int64),
        ),
        shape=(n_users, n_items),
    )
    return Interactions(matrix, Vocabulary.range(n_users), Vocabulary.range(n_items))


def _degrees(n: int, total: int, most: int) -> NDArray[np.int64]:
    """`n` whole numbers from 1 to `most`, of the given sum, that fall with their rank by a power law."""
    exponent, offset = _USERS
    weights = (np.arange(n) + offset * n + 1) ** -exponent
    degrees: NDArray[np.int64] = np.minimum(
        1 + np.floor(weights / weights.sum() * (total - n)).astype(np.int64), most
    )
    left = total - int(degrees.sum())
    while left:
        room = np.flatnonzero(degrees < most)
        share, extra = divmod(left, len(room))
        degrees[room] += share + (np.arange(len(room)) < extra)
        degrees = np.minimum(degrees, most)
        left = total - int(degrees.sum())
    return degrees


def _block(
    degrees: NDArray[np.int64],
    home: NDArray[np.int64],
    label_of_rank: NDArray[np.int64],
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Items for a run of users, user after user, ascending and distinct within each."""
    n_items = len(label_of_rank)
    keys = np.empty(0, dtype=np.int64)
    missing = degrees
    round_ = 0
    while missing.any():
        rows = np.repeat(np.arange(len(degrees)), missing)
        # Those who have nearly exhausted the popular items of their group end with any item at all.
        items = (
            label_of_rank[_ranks(home[rows], n_items, random)]
            if round_ < 8
            else random.integers(0, n_items, len(rows))
        )
        drawn = np.sort(rows * n_items + items)
        fresh = drawn[np.concatenate(([True], drawn[1:] != drawn[:-1]))]
        if len(keys):
            places = np.minimum(np.searchsorted(keys, fresh), len(keys) - 1)
            fresh = fresh[keys[places] != fresh]
        keys = np.sort(np.concatenate((keys, fresh)), kind="stable")  # two sorted runs: merged in linear time
        missing = degrees - np.bincount(keys // n_items, minlength=len(degrees))
        round_ += 1
    items_of_keys: NDArray[np.int64] = keys % n_items
    return items_of_keys


def _ranks(home: NDArray[np.int64], n_items: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Ranks drawn from the power law, some moved to the user's group at the same level of popularity."""
    ranks = power_law_ranks(random.random(len(home)), n_items, *_ITEMS)
    choice = random.random(len(home))
    for groups, low, high in (
        (_FINE, 0.0, _SHARE_FINE),
        (_COARSE, _SHARE_FINE, _SHARE_FINE + _SHARE_COARSE),
    ):
        moved = ranks // groups * groups + home % groups
        ranks = np.where((choice >= low) & (choice < high) & (moved < n_items), moved, ranks)
    return ranks


def power_law_ranks(
    uniform: NDArray[np.float64], n: int, exponent: float, offset: float
) -> NDArray[np.int64]:
    """Ranks 0 … n − 1 with density ∝ (rank + offset·n)^−exponent, from uniform numbers in [0, 1)."""
    shift = offset * n
    power = 1.0 - exponent
    low, high = shift**power, (n + shift) ** power
    ranks = (low + uniform * (high - low)) ** (1.0 / power) - shift
    clipped: NDArray[np.int64] = np.minimum(ranks.astype(np.int64), n - 1)
    return clipped
