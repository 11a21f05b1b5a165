"""Splits: what is learned from, what the recommender is shown, and what it must recover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.errors import DataError, some
from unblur.interactions import Interactions
from unblur.randomness import RNG, generator
from unblur.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Split:
    """Three sets of interactions over the same items."""

    train: Interactions
    """All that `fit` may see."""
    histories: Interactions
    """What the recommender is shown at evaluation: one row a user."""
    held_out: Interactions
    """What it must recover: the same rows as `histories`, and no pair of theirs."""
    method: str
    """How the split was made, printed in every report."""
    notes: tuple[str, ...] = ()
    validation: Interactions | None = None
    """What `fit` may choose by, where files give some: the users of train, no pair of train or `held_out`."""

    def __post_init__(self) -> None:
        if not self.train.items == self.histories.items == self.held_out.items:
            raise DataError(
                "Train, histories and held-out interactions must be over the same items; they are over "
                f"{self.train.n_items:,}, {self.histories.n_items:,} and {self.held_out.n_items:,}. "
                "Bring them onto one vocabulary with `.onto(items=…)`."
            )
        if self.histories.users != self.held_out.users:
            raise DataError(
                "Held-out interactions must have the same rows as the histories; "
                f"{self.held_out.n_users:,} and {self.histories.n_users:,} users differ. Use `from_files`, which aligns them."
            )
        if not self.held_out.n_interactions:
            raise DataError(
                "Something must be held out to evaluate on; nothing was. Hold out more, or give a test file."
            )
        self._refuse_overlap("Histories", self.histories, self.held_out.rows())
        if self.train is not self.histories:
            rows = self.train.users.positions_or_missing(self.held_out.users)[self.held_out.rows()]
            self._refuse_overlap("Train", self.train, rows)
        if self.validation is not None:
            together(
                self.train, self.validation
            )  # raises where they overlap, or are over other users or items
            rows = self.validation.users.positions_or_missing(self.held_out.users)[self.held_out.rows()]
            self._refuse_overlap("Validation", self.validation, rows)

    @property
    def excluded(self) -> Literal["history"] | Interactions:
        """What lists leave out when they are measured, in the form that `RankingProtocol.rank` takes.

        Where there is validation, histories and validation both: neither can be among the held-out items.
        """
        if self.validation is None:
            return "history"
        rows, columns = self.validation.rows(), self.validation.matrix.indices
        new = self.validation.keep(~self.histories.contains(rows, columns))
        return together(self.histories, new) if new.n_interactions else "history"

    def _refuse_overlap(self, name: str, seen: Interactions, rows: NDArray[Any]) -> None:
        """Raise `DataError` when a held-out pair is in `seen`, where its user has the given row (−1: none)."""
        columns = self.held_out.matrix.indices
        overlap = (rows >= 0) & seen.contains(rows, columns)
        if overlap.any():
            users = self.held_out.users.take(self.held_out.rows()[overlap][:5]).to_list()
            pairs = zip(users, self.held_out.items.take(columns[overlap][:5]).to_list(), strict=True)
            raise DataError(
                f"{name} and held-out interactions must not overlap; {int(overlap.sum()):,} pairs are in both, "
                f"such as (user, item) {some(pairs)}. Remove them from one side."
            )


def joined_items(*parts: Interactions) -> Vocabulary:
    """One item vocabulary, in label order, that holds the items of all `parts`."""
    return _joined([part.items for part in parts])


def _joined(vocabularies: list[Vocabulary]) -> Vocabulary:
    import polars as pl

    if all(vocabulary == vocabularies[0] for vocabulary in vocabularies):
        return vocabularies[0]
    kinds = {vocabulary.kind for vocabulary in vocabularies}
    if len(kinds) > 1:
        raise DataError(
            "Labels must be of one type in all files; some are integers and some are strings. "
            "Read all files with the same `labels` option."
        )
    labels = pl.concat([vocabulary.series for vocabulary in vocabularies]).unique().sort()
    return (
        Vocabulary.range(len(labels))
        if labels.dtype == pl.Int64 and labels[-1] == len(labels) - 1
        else Vocabulary(labels)
    )


def from_files(
    train: Interactions,
    held_out: Interactions,
    *,
    validation: Interactions | None = None,
    validation_in_histories: bool = False,
    method: str = "given files",
) -> Split:
    """The split that given sets make: histories are the train rows, items are those of all sets.

    With `validation_in_histories` the histories are those of train and validation together. Raises `DataError`
    when a user of the others has no row in train, or when two sets overlap.
    """
    items = joined_items(train, held_out, *([] if validation is None else [validation]))
    known = train.onto(items=items)
    held = _aligned(held_out, known, "held-out items")
    if validation is None:
        return Split(known, known, held, method)
    aside = _aligned(validation, known, "validation items")
    histories = together(known, aside) if validation_in_histories else known
    return Split(known, histories, held, method, validation=aside)


def together(one: Interactions, other: Interactions) -> Interactions:
    """The pairs of both, with times where both have them.

    Raises `DataError` unless they have the same users and items and no pair in common.
    """
    if one.users != other.users or one.items != other.items:
        raise DataError(
            "Interactions must have the same users and items to be put together; they differ. Bring one onto "
            "the other's vocabularies with `.onto(users=…, items=…)`."
        )
    both = one.contains(other.rows(), other.matrix.indices)
    if both.any():
        raise DataError(
            f"Train and validation interactions must not overlap; {int(both.sum()):,} pairs are in both. Remove "
            "them from one side."
        )
    rows = np.concatenate([one.rows(), other.rows()])
    columns = np.concatenate([one.matrix.indices, other.matrix.indices])
    order = np.lexsort((columns, rows))
    starts = np.concatenate([[0], np.cumsum(one.user_degrees + other.user_degrees)])
    weights = np.concatenate([one.matrix.data, other.matrix.data])[order]
    times = None
    if one.timestamps is not None and other.timestamps is not None:
        times = np.concatenate([one.timestamps, other.timestamps])[order]
    matrix = sparse.csr_array((weights, columns[order], starts), shape=one.matrix.shape)
    return Interactions(matrix, one.users, one.items, times)


def later_share(one: Interactions, other: Interactions) -> float:
    """Of the users with something in both, for how many the mean time in `other` is the later; of equal times
    half count. Both need timestamps and the same rows; 0.5 where no user has both."""
    counted = (one.user_degrees > 0) & (other.user_degrees > 0)
    if not counted.any():
        return 0.5
    means = [
        np.bincount(part.rows(), weights=_times(part), minlength=part.n_users)[counted]
        / part.user_degrees[counted]
        for part in (one, other)
    ]
    return float(np.mean((np.sign(means[1] - means[0]) + 1) / 2))


def _aligned(part: Interactions, train: Interactions, what: str) -> Interactions:
    """The part over the rows and items of train; raises `DataError` where it has users that train has not."""
    unknown = train.users.positions_or_missing(part.users) < 0
    strangers = part.users.series.filter(unknown & (part.user_degrees > 0))
    if len(strangers):
        raise DataError(
            f"Every user with {what} must be in the histories; {len(strangers):,} are not: "
            f"{some(strangers.to_list())}. Add their histories to train, or leave them out."
        )
    return part.onto(users=train.users, items=train.items, unknown="ignore")


def hold_out(
    data: Interactions, *, fraction: float | None = None, n: int | None = None, rng: RNG | None = None
) -> Split:
    """Hold out `n` random items, or a random `fraction` of the items, of each user (always leaving one)."""
    chance = generator(rng).random(data.n_interactions)
    return _by_priority(data, chance, fraction, n, "random, per user")


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
    return _by_priority(data, _times(data), None, n, "last in time, per user")


def by_time(data: Interactions, *, fraction: float | None = None, after: int | None = None) -> Split:
    """Hold out everything later than a moment: `after`, or the one that leaves the last `fraction` of all interactions.

    Users without an earlier interaction have no history and are left out, with a note.
    """
    times = _times(data)
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


def _times(data: Interactions) -> NDArray[np.int64]:
    if data.timestamps is None:
        raise DataError(
            "A split by time needs timestamps; these interactions have none. Name the time column when reading."
        )
    return data.timestamps


def _checked(fraction: float | None) -> float:
    if fraction is None or not 0 < fraction < 1:
        raise DataError(f"`fraction` must lie strictly between 0 and 1; saw {fraction!r}.")
    return fraction


def _counts(degrees: NDArray[np.int64], fraction: float | None, n: int | None) -> NDArray[np.int64]:
    """How many to hold out of each user, so that at least one stays."""
    if (fraction is None) == (n is None):
        raise DataError("Give exactly one of `fraction` and `n`; saw both or neither.")
    if n is not None and n < 1:
        raise DataError(f"`n` must be at least 1; saw {n}.")
    wanted = np.round(degrees * _checked(fraction)) if n is None else np.full(len(degrees), n)
    return np.asarray(np.minimum(wanted, np.maximum(degrees - 1, 0)), dtype=np.int64)


def _by_priority(
    data: Interactions,
    priority: NDArray[Any],
    fraction: float | None,
    n: int | None,
    method: str,
) -> Split:
    """Hold out the highest priorities of each user; equal ones by item position."""
    degrees = data.user_degrees
    counts = _counts(degrees, fraction, n)
    order = np.lexsort((priority, data.rows()))
    place = np.arange(data.n_interactions) - np.repeat(data.matrix.indptr[:-1], degrees)
    held = np.zeros(data.n_interactions, dtype=bool)
    held[order] = place >= np.repeat(degrees - counts, degrees)
    size = f"{fraction:.0%}" if fraction is not None else f"{n}"
    return _split(data, held, f"{method}, {size}")


def _split(data: Interactions, held: NDArray[np.bool_], method: str) -> Split:
    train = data.keep(~held)
    return Split(train, train, data.keep(held), method)
