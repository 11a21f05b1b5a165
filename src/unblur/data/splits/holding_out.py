"""Ways to hold interactions out, and the k-core."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.data.splits.sets import Split, times_of
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError
from unblur.randomness import RNG, generator


def hold_out(
    data: Interactions,
    *,
    fraction: float | None = None,
    n: int | None = None,
    rounded_up: bool = False,
    rng: RNG | None = None,
) -> Split:
    """Hold out `n` random items, or a random `fraction` of the items, of each user (always leaving one).

    A share that is no whole number is rounded, or `rounded_up`, so that something is held out of all who have two items.
    """
    chance = generator(rng).random(data.n_interactions)
    return _by_priority(data, chance, fraction, n, "random, per user", rounded_up=rounded_up)


def hold_out_block(data: Interactions, *, fraction: float, rng: RNG | None = None) -> Split:
    """Hold out, of each user, one contiguous run of the items in label order, starting at a random place.

    On data sets whose ids follow the order of collection such a run is more like their test sets than a random
    choice is, because items that were seen together have neighbouring ids.
    """
    starts = generator(rng).random(data.n_users)
    degrees = data.user_degrees
    place = np.arange(data.n_interactions) - np.repeat(data.matrix.indptr[:-1], degrees)
    counts = _counts(degrees, fraction, None)
    first = np.floor(starts * (degrees - counts + 1)).astype(np.int64)
    held = (place >= np.repeat(first, degrees)) & (place < np.repeat(first + counts, degrees))
    return _split(data, held, f"contiguous run of items, {fraction:.0%} per user")


def leave_last(data: Interactions, n: int = 1) -> Split:
    """Hold out the last `n` interactions of each user in time (always leaving one); needs timestamps."""
    return _by_priority(data, times_of(data), None, n, "last in time, per user")


def by_time(data: Interactions, *, fraction: float | None = None, after: int | None = None) -> Split:
    """Hold out everything later than a moment: `after`, or the one that leaves the last `fraction` of all interactions.

    Users without an earlier interaction have no history and are left out, with a note.
    """
    times = times_of(data)
    if (fraction is None) == (after is None):
        raise DataError("Give exactly one of `fraction` and `after`; saw both or neither.")
    if not len(times):
        raise DataError("A split by time needs interactions; there are none. Check what was read.")
    moment = after if after is not None else int(np.quantile(times, 1 - _checked(fraction), method="lower"))
    held = times > moment
    known = np.zeros(data.n_users, dtype=bool)
    known[data.rows()[~held]] = True
    split = _split(data.take_users(known), held[known[data.rows()]], f"by time, after {moment}")
    new = int((~known).sum())
    notes = (f"{new:,} users have no interaction up to {moment} and were left out",) if new else ()
    return Split(split.train, split.histories, split.held_out, split.method, notes)


def by_user(
    data: Interactions, *, fraction: float, held_out_fraction: float = 0.2, rng: RNG | None = None
) -> Split:
    """Strong generalisation: a random `fraction` of the users is kept out of train altogether.

    Those users are shown `1 − held_out_fraction` of their items at evaluation and must get the rest.
    """
    random = generator(rng)
    chosen = np.zeros(data.n_users, dtype=bool)
    size = max(1, round(_checked(fraction) * data.n_users))
    chosen[random.permutation(data.n_users)[:size]] = True
    if chosen.all():
        raise DataError(
            f"Some users must stay in train; {fraction} of {data.n_users:,} takes all. Lower `fraction`."
        )
    inner = hold_out(data.take_users(chosen), fraction=held_out_fraction, rng=random)
    method = f"by user, {fraction:.0%} of users, {held_out_fraction:.0%} of their items held out"
    return Split(data.take_users(~chosen), inner.histories, inner.held_out, method)


def k_core(data: Interactions, *, users: int = 1, items: int = 1) -> Interactions:
    """The largest part in which each user has at least `users` items and each item at least `items` users.

    Users and items below are removed in turn until none is left to remove; labels of those removed are dropped.
    """
    rows, columns = data.rows(), data.matrix.indices
    kept = np.ones(data.n_interactions, dtype=bool)
    while True:
        user_counts = np.bincount(rows[kept], minlength=data.n_users)
        item_counts = np.bincount(columns[kept], minlength=data.n_items)
        weak = kept & ((user_counts[rows] < users) | (item_counts[columns] < items))
        if not weak.any():
            break
        kept &= ~weak
    if not kept.any():
        raise DataError(
            f"No user with {users} items and item with {items} users is left of {data!r}. Lower the thresholds."
        )
    smaller = data.keep(kept)
    present = Vocabulary(data.items.take(np.flatnonzero(item_counts >= max(1, items))).series)
    return smaller.take_users(user_counts >= max(1, users)).onto(items=present)


def _checked(fraction: float | None) -> float:
    if fraction is None or not 0 < fraction < 1:
        raise DataError(f"`fraction` must lie strictly between 0 and 1; saw {fraction!r}.")
    return fraction


def _counts(
    degrees: NDArray[np.int64], fraction: float | None, n: int | None, *, rounded_up: bool = False
) -> NDArray[np.int64]:
    """How many to hold out of each user, so that at least one stays."""
    if (fraction is None) == (n is None):
        raise DataError("Give exactly one of `fraction` and `n`; saw both or neither.")
    if n is not None and n < 1:
        raise DataError(f"`n` must be at least 1; saw {n}.")
    if n is not None:
        wanted = np.full(len(degrees), float(n))
    else:
        share = degrees * _checked(fraction)
        wanted = np.ceil(share - 1e-9) if rounded_up else np.round(share)
    return np.asarray(np.minimum(wanted, np.maximum(degrees - 1, 0)), dtype=np.int64)


def _by_priority(
    data: Interactions,
    priority: NDArray[Any],
    fraction: float | None,
    n: int | None,
    method: str,
    *,
    rounded_up: bool = False,
) -> Split:
    """Hold out the highest priorities of each user; equal ones by item position."""
    degrees = data.user_degrees
    counts = _counts(degrees, fraction, n, rounded_up=rounded_up)
    order = np.lexsort((priority, data.rows()))
    place = np.arange(data.n_interactions) - np.repeat(data.matrix.indptr[:-1], degrees)
    held = np.zeros(data.n_interactions, dtype=bool)
    held[order] = place >= np.repeat(degrees - counts, degrees)
    size = f"{fraction:.0%}" if fraction is not None else f"{n}"
    return _split(data, held, f"{method}, {size}")


def _split(data: Interactions, held: NDArray[np.bool_], method: str) -> Split:
    train = data.keep(~held)
    return Split(train, train, data.keep(held), method)
