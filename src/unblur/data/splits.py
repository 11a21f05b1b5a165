"""Splits: training interactions, the histories that recommendations start from, and held-out interactions.

A splitting is a spec, which a recipe's ``[split]`` section names by its kind, with its code in `apply`:
``Random(fraction=0.1).apply(data, rng=0)``. `together`, `joined_items` and `k_core` join and thin sets of interactions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from unblur.data.interactions import Interactions, check_interactions, chronology
from unblur.data.intervals import Intervals
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, RecipeError, nearest, some
from unblur.randomness import RNG, generator
from unblur.spec import Count, spec

Order: TypeAlias = Literal["random", "time"]
"""The order in which interactions are cut into parts: random, or by timestamp."""


@dataclass(frozen=True, eq=False)
class Split:
    """Three sets of interactions over the same items."""

    train: Interactions
    """The interactions for `fit`."""
    histories: Interactions
    """The interactions to recommend from at evaluation, one row per user."""
    held_out: Interactions
    """The interactions to predict: the same rows as `histories` and, unless `keeps_seen`, no pair of theirs."""
    method: str
    """The method of the split in words, for reports."""
    notes: tuple[str, ...] = ()
    validation: Interactions | None = None
    """Interactions for early stopping and searches, if there are any: the users of train, no pair of train or `held_out`."""
    row_order: str | None = None
    """``sha256:…`` of the order of the source's rows, if ties in time at a cut rest on it."""
    keeps_seen: bool = False
    """True if items of a history count when they are held out again, and are recommended again."""
    low_rated: Interactions | None = None
    """What the users of the histories rated too low for these, if a choice by rating left it out: they have seen it."""

    def __post_init__(self) -> None:
        DataError.unless(
            self.train.items == self.histories.items == self.held_out.items,
            "Train, histories and held-out interactions must be over the same items; they are over "
            f"{self.train.n_items:,}, {self.histories.n_items:,} and {self.held_out.n_items:,}. "
            "Bring them onto one vocabulary with `.onto(items=…)`.",
        )
        DataError.unless(
            self.histories.users == self.held_out.users,
            "Held-out interactions must have the same rows as the histories; "
            f"{self.held_out.n_users:,} and {self.histories.n_users:,} users differ. "
            "Use the split `Files`, which aligns them.",
        )
        DataError.unless(
            self.held_out.n_interactions,
            "Something must be held out to evaluate on; nothing was. Hold out more, split otherwise (split.kind=random), "
            "or give a test file.",
        )
        if not self.keeps_seen:
            self._refuse_overlap("Histories", self.histories)
            if self.train is not self.histories:
                self._refuse_overlap("Train", self.train)
        if self.validation is not None:
            _refuse_common_pairs(self.train, self.validation)
            self._refuse_overlap("Validation", self.validation)

    @classmethod
    def of_mask(
        cls,
        data: Interactions,
        held_out: NDArray[np.bool_],
        method: str,
        *,
        validation: NDArray[np.bool_] | None = None,
        notes: tuple[str, ...] = (),
        row_order: str | None = None,
    ) -> Split:
        """The split by masks of `data`: held-out pairs, validation pairs if there are any, and the rest for training.

        Masks are aligned with ``data.matrix.data``.
        """
        if validation is None or not validation.any():
            train, validation_part = data.keep(~held_out), None
        else:
            train, validation_part = data.keep(~held_out & ~validation), data.keep(validation)
        return cls(train, train, data.keep(held_out), method, notes, validation_part, row_order)

    @property
    def excluded(self) -> Literal["history"] | Interactions | None:
        """The pairs to exclude from lists, for `RankingProtocol.rank`: histories, validation pairs and what was rated low.

        None of them can be among the held-out items, but those of histories if the split `keeps_seen`: then what was rated low alone.
        """
        if self.keeps_seen:
            return self.low_rated
        seen = self.histories
        for part in (self.validation, self.low_rated):
            if part is not None:
                new = part.keep(~seen.contains(part.rows(), part.matrix.indices))
                seen = together(seen, new) if new.n_interactions else seen
        return "history" if seen is self.histories else seen

    def _refuse_overlap(self, name: str, known: Interactions) -> None:
        """Raise `DataError` if a held-out pair is in `known`, whose users may be different."""
        rows = known.users.positions_or_missing(self.held_out.users)[self.held_out.rows()]
        columns = self.held_out.matrix.indices
        overlap = (rows >= 0) & known.contains(rows, columns)
        if overlap.any():
            users = self.held_out.users.take(self.held_out.rows()[overlap][:5]).to_list()
            pairs = zip(users, self.held_out.items.take(columns[overlap][:5]).to_list(), strict=True)
            raise DataError(
                f"{name} and held-out interactions must not overlap; {int(overlap.sum()):,} pairs are in both, "
                f"such as (user, item) {some(pairs)}. Remove them from one side."
            )


def _owners(data: Interactions, by: Literal["user", "all"]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The position of each pair's user, and the number of pairs of each user; `by` all, one owner has them all."""
    if by == "user":
        return data.rows().astype(np.int64), data.user_degrees
    return np.zeros(data.n_interactions, dtype=np.int64), np.array([data.n_interactions])


def rank_from_last(
    data: Interactions, priority: NDArray[Any], *, by: Literal["user", "all"] = "user"
) -> NDArray[np.float64]:
    """The rank of each pair among those of its user (or, `by` all, of the whole log): 0 for the highest priority.

    Equal priorities share their mean rank. Aligned with ``data.matrix.data``, like `priority`.
    """
    owners, sizes = _owners(data, by)
    levels, level = np.unique(priority, return_inverse=True)
    # Ranks from 1 in the order of owners and, for one owner, of priority: they end where the next owner's begin. Those of
    # equal ones end where the next higher begin; their mean lies half their number less one below.
    _, groups, counts = np.unique(owners * len(levels) + level, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[groups]
    return np.asarray(np.repeat(np.cumsum(sizes), sizes) - ranks)


def rank_from_latest(
    data: Interactions, rng: RNG | None = None, *, by: Literal["user", "all"] = "user"
) -> NDArray[np.float64]:
    """The rank of each pair in time among those of its user (or, `by` all, of the whole log): 0 for the latest.

    Ties in time keep the order of the rows of the source. Where rows have no order, they fall by `rng`, or share their
    mean rank if it is `None`. Raises `DataError` if there are no timestamps.
    """
    times = times_of(data)
    if data.order is None and rng is None:
        return rank_from_last(data, times, by=by)
    rows = generator(rng).random(data.n_interactions) if data.order is None else data.order
    return rank_from_last(data, chronology(times, rows), by=by)


def hold_out_last(
    data: Interactions,
    n: NDArray[Any] | float,
    order: Order,
    rng: RNG | None,
    method: str,
    *,
    middle: NDArray[Any] | float = 0,
    by: Literal["user", "all"] = "user",
) -> Split:
    """Hold out the last `n` of each user (or of the whole log) in an order, and validate on the `middle` before them.

    At least one pair of each user is not held out. `n` and `middle` are one number, or one per user. Raises `DataError`
    if nothing is held out, or there are no timestamps to order by.
    """
    ranks = (
        rank_from_latest(data, generator(rng), by=by)
        if order == "time"
        else rank_from_last(data, generator(rng).random(data.n_interactions), by=by)
    )
    owners, sizes = _owners(data, by)
    counts = np.minimum(n, np.maximum(sizes - 1, 0))
    held_out, later = ranks < counts[owners], ranks < (counts + middle)[owners]
    notes: tuple[str, ...] = ()
    row_order = None
    # A pair is in part 0 (train), 1 (validation) or 2 (held out).
    if order == "time" and (n_tied := _tied_cuts(data, owners, ranks, held_out.astype(np.int8) + later)):
        n_cut = int((counts > 0).sum())
        whose = f"{n_tied:,} of {n_cut:,} users ({n_tied / n_cut:.1%})" if by == "user" else "the log"
        decides = "chance" if data.order is None else "the order of the rows"
        notes = (f"the cut of {whose} falls into a tie in time, which {decides} decides",)
        row_order = data.order_digest()
    return Split.of_mask(
        data, held_out, method, validation=later & ~held_out, notes=notes, row_order=row_order
    )


def _tied_cuts(
    data: Interactions, owners: NDArray[np.int64], ranks: NDArray[np.float64], part: NDArray[np.int8]
) -> int:
    """The number of owners of whom two parts meet at one moment. All arrays have an entry for each pair."""
    sequence = np.lexsort((ranks, owners))
    owner, cut, time = (column[sequence] for column in (owners, part, times_of(data)))
    tied = (owner[1:] == owner[:-1]) & (cut[1:] != cut[:-1]) & (time[1:] == time[:-1])
    return len(np.unique(owner[1:][tied]))


def times_of(data: Interactions) -> NDArray[np.int64]:
    """The timestamps, one per pair. Raises `DataError` if there are none."""
    if data.timestamps is None:
        raise DataError(
            "A split by time needs timestamps; these interactions have none. Name the time column when reading."
        )
    return data.timestamps


def later_share(first: Interactions, second: Interactions) -> float:
    """The share of the users in both whose mean time in `second` is later; equal times count one half.

    Both need timestamps and the same rows; 0.5 if no user is in both.
    """
    counted = (first.user_degrees > 0) & (second.user_degrees > 0)
    if not counted.any():
        return 0.5
    means = [
        np.bincount(part.rows(), weights=times_of(part), minlength=part.n_users)[counted]
        / part.user_degrees[counted]
        for part in (first, second)
    ]
    return float(np.mean((np.sign(means[1] - means[0]) + 1) / 2))


def joined_items(*parts: Interactions) -> Vocabulary:
    """One item vocabulary, in label order, with the items of all `parts`."""
    vocabularies = [part.items for part in parts]
    if all(vocabulary == vocabularies[0] for vocabulary in vocabularies):
        return vocabularies[0]
    DataError.unless(
        len({vocabulary.kind for vocabulary in vocabularies}) == 1,
        "Labels must be of one type in all files; some are integers and some are strings. "
        "Read all files with the same `labels` option.",
    )
    return Vocabulary(pl.concat([vocabulary.series for vocabulary in vocabularies]).unique().sort())


def together(first: Interactions, second: Interactions) -> Interactions:
    """The pairs of both, with times if both have them, and with the order if both are from one source.

    Raises `DataError` unless they have the same users and items and no pair in common.
    """
    _refuse_common_pairs(first, second)
    rows = np.concatenate([first.rows(), second.rows()])
    columns = np.concatenate([first.matrix.indices, second.matrix.indices])
    entries = np.lexsort((columns, rows))

    def both(left: NDArray[Any] | None, right: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if left is None or right is None else np.concatenate([left, right])[entries]

    starts = np.concatenate([[0], np.cumsum(first.user_degrees + second.user_degrees)])
    times, order = both(first.timestamps, second.timestamps), both(first.order, second.order)
    # Rows of one source have distinct positions; a position of both shows that there are two sources.
    if order is not None and len(np.unique(order)) < len(order):
        order = None
    weights = np.concatenate([first.matrix.data, second.matrix.data])[entries]
    matrix = sparse.csr_array((weights, columns[entries], starts), shape=first.matrix.shape)
    return Interactions(matrix, first.users, first.items, times, order)


def _refuse_common_pairs(first: Interactions, second: Interactions) -> None:
    """Raise `DataError` unless both have the same users and items and no pair in common."""
    DataError.unless(
        first.users == second.users and first.items == second.items,
        "Interactions must have the same users and items to be put together; they differ. Bring one onto "
        "the other's vocabularies with `.onto(users=…, items=…)`.",
    )
    n_common = int(first.contains(second.rows(), second.matrix.indices).sum())
    DataError.unless(
        not n_common,
        f"Train and validation interactions must not overlap; {n_common:,} pairs are in both. Remove them from one side.",
    )


def k_core(data: Interactions, *, users: int | str = 1, items: int | str = 1) -> Interactions:
    """The part in which each user has at least `users` items and each item at least `items` users.

    Text means intervals, such as ``"[5,100]"``. Users and items outside are removed together, with their labels, until
    there are none.
    """
    of_users, of_items = (
        Intervals.parse(size) if isinstance(size, str) else Intervals.from_least(size)
        for size in (users, items)
    )
    rows, columns = data.rows(), data.matrix.indices
    core = np.ones(data.n_interactions, dtype=bool)
    while True:
        user_counts = np.bincount(rows[core], minlength=data.n_users)
        item_counts = np.bincount(columns[core], minlength=data.n_items)
        user_stays = of_users.contain(user_counts) & (user_counts > 0)
        item_stays = of_items.contain(item_counts) & (item_counts > 0)
        outside = core & ~(user_stays[rows] & item_stays[columns])
        if not outside.any():
            break
        core &= ~outside
    DataError.unless(
        core.any(),
        f"No user with {users} items and item with {items} users is left of {data!r}. Lower the thresholds.",
    )
    remaining = Vocabulary(data.items.take(np.flatnonzero(item_stays)).series)
    return data.keep(core).take_users(user_stays).onto(items=remaining)


# ---------------------------------------------------------------------------------------------- splittings

Fraction: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
"""A share strictly between 0 and 1."""

_ORDERS = {"random": "at random", "time": "in the order of time"}
_ALMOST = 1e-9
"""Added before a size is rounded down, so that a product just below a whole number by rounding, as 0.29 · 100 =
28.999999999999996, is that number."""


@spec(added={"new_items": "keep", "repeats": "leave-out"})
class Files:
    """The split of the data's own files: the rows of train are the histories, and items are those of all parts."""

    kind: ClassVar[str] = "files"
    train: str = "train"
    """The part to train on; its rows are the histories as well."""
    held_out: str = "test"
    """The held-out part."""
    validation: str | None = None
    """The part to stop training by, if there is one; lists exclude its items as well as those of the history. Under the
    strict protocol, which then needs timestamps, it and `held_out` are put in the order of time, and the earlier of the
    two is trained on."""
    histories: Literal["train", "train-and-validation"] = "train"
    """The histories at evaluation under the paper's protocol."""
    without_history: Literal["leave-out", "popular"] = "leave-out"
    """Held-out users without a row in train: left out and counted in a note, or given popular items."""
    new_items: Literal["keep", "leave-out"] = "keep"
    """Held-out interactions with items that nobody has in train: kept, which most models miss, or left out and counted."""
    repeats: Literal["leave-out", "keep"] = "leave-out"
    """Held-out items that the user has in train, such as those bought again: left out and counted, or kept; lists then may
    hold the items of a history as well."""

    def apply(self, data: Mapping[str, Interactions], rng: RNG | None = None) -> Split:
        """The split of the named parts.

        Raises `RecipeError` for a missing part, and `DataError` if no held-out user has a row in train, or the validation
        part overlaps another.
        """
        train, held_out, validation, notes = self._aligned(data)
        keeps_seen = self.repeats == "keep"
        if self.histories == "train":
            return Split(train, train, held_out, "given files", notes, validation, keeps_seen=keeps_seen)
        if validation is None:
            raise RecipeError(
                'split.histories = "train-and-validation" needs a validation part; none is named. Name it with '
                "split.validation=NAME."
            )
        histories = together(train, validation)
        return Split(train, histories, held_out, "given files", notes, validation, keeps_seen=keeps_seen)

    def in_order(self, parts: Mapping[str, Interactions]) -> Split:
        """The split in the order of time: the later of validation and held-out part is held out, the earlier is added to
        train.

        The later part is the one in which most users' mean time is later. Raises `RecipeError` if no validation part is
        named, and for a part that is missing or has no times.
        """
        train, held_out, validation, notes = self._aligned(parts)
        if validation is None:
            raise RecipeError(
                "Parts are put in order if there is a validation part; none is named. Name it with "
                "split.validation=NAME."
            )
        RecipeError.unless(
            all(part.timestamps is not None for part in (train, held_out, validation)),
            "The strict protocol puts validation and held-out part in the order of time, so all parts need "
            "timestamps; some have none. Choose a reading that has them (data.reading=NAME), or leave "
            "validation out: split.validation=off.",
        )
        first, last = (self.validation, validation), (self.held_out, held_out)
        share = later_share(validation, held_out)
        if share < 0.5:
            first, last, share = last, first, 1 - share
        earlier = together(train, first[1])
        note = (
            f"in the order of time: {self.train} and {first[0]} are learned from, {last[0]} is held out, which "
            f"is later for {share:.0%} of the users with both"
        )
        method = "given files, in the order of time"
        return Split(earlier, earlier, last[1], method, (*notes, note), keeps_seen=self.repeats == "keep")

    def _aligned(
        self, parts: Mapping[str, Interactions]
    ) -> tuple[Interactions, Interactions, Interactions | None, tuple[str, ...]]:
        """Train, held-out and validation part, over the users of train and the items of all, and notes on other users."""
        validation = None if self.validation is None else _part(parts, self.validation, "validation")
        train, held_out = _part(parts, self.train, "train"), _part(parts, self.held_out, "held_out")
        items = joined_items(train, held_out, *([] if validation is None else [validation]))
        train = train.onto(items=items)
        if self.without_history == "popular":
            # They have an empty row then, for which every model scores items by popularity.
            users = pl.concat([train.users.series, _newcomers(train, held_out)])
            train = train.onto(users=Vocabulary(users))
        held_out, notes = _over(train, held_out, self.held_out)
        held_out, remarks = self._counting(train, held_out)
        notes += remarks
        if validation is not None:
            validation, further_notes = _over(train, validation, str(self.validation))
            notes += further_notes
        return train, held_out, validation, notes

    def _counting(self, train: Interactions, held_out: Interactions) -> tuple[Interactions, tuple[str, ...]]:
        """The held-out interactions that count, and notes on repeats and new items."""
        repeated = train.contains(held_out.rows(), held_out.matrix.indices)
        is_new = (train.item_degrees == 0)[held_out.matrix.indices]
        counts, of_all = (
            np.ones(len(is_new), dtype=bool),
            f"of {len(is_new):,} held-out interactions are with items",
        )
        notes: tuple[str, ...] = ()
        if repeated.any():
            counts &= ~repeated | (self.repeats == "keep")
            treatment = "count" if self.repeats == "keep" else "were left out"
            notes += (f"{repeated.sum():,} {of_all} that their user has in train and {treatment}",)
        if self.new_items == "leave-out" and is_new.any():
            counts &= ~is_new
            notes += (f"{is_new.sum():,} {of_all} that nobody has in train and were left out",)
        return held_out if counts.all() else held_out.keep(counts), notes


@spec
class OnePart(ABC):
    """A splitting of one set of interactions."""

    part: str | None = None
    """The part of the data to split; may be left out if there is only one. ``"all"``: all parts together."""

    def apply(self, data: Interactions | Mapping[str, Interactions], rng: RNG | None = None) -> Split:
        """The split of `data`, or of its `part`; random splits draw from `rng`.

        Raises `RecipeError` if there are several parts and none is named, and `DataError` for data that cannot be split
        so: nothing would be held out, or timestamps are missing.
        """
        if not isinstance(data, Mapping):
            check_interactions(data, f"The split {type(self).__name__}")
        return self._split(data if isinstance(data, Interactions) else self._chosen(data), rng)

    @abstractmethod
    def _split(self, data: Interactions, rng: RNG | None) -> Split: ...

    def _chosen(self, parts: Mapping[str, Interactions]) -> Interactions:
        if self.part == "all" and "all" not in parts:
            return reduce(together, parts.values())
        if self.part is not None:
            return _part(parts, self.part, "part")
        RecipeError.unless(
            len(parts) == 1,
            f"One part of the data is split; there are {len(parts)}: {some(sorted(parts))}. "
            "Name one with split.part=NAME, or put them together with split.part=all.",
        )
        return next(iter(parts.values()))


@spec
class Random(OnePart):
    """Hold out random items of each user."""

    kind: ClassVar[str] = "random"
    fraction: Fraction = 0.2
    """The share of each user's items that is held out; one always remains."""
    n: Count | None = None
    """The number of items of each user that are held out, instead of a share."""

    def _split(self, data: Interactions, rng: RNG | None) -> Split:
        if self.n is not None:
            return hold_out_last(data, self.n, "random", rng, f"random, per user, {self.n}")
        n = np.round(data.user_degrees * self.fraction)
        return hold_out_last(data, n, "random", rng, f"random, per user, {self.fraction:.0%}")


@spec
class Block(OnePart):
    """Hold out one contiguous run of each user's items, in label order, with a random start.

    On data sets whose ids follow the order of collection such a run is more like their test sets than a random choice is,
    because items that were collected together have neighbouring ids.
    """

    kind: ClassVar[str] = "block"
    fraction: Fraction = 0.2
    """The share of each user's items that is held out; one always remains."""

    def _split(self, data: Interactions, rng: RNG | None) -> Split:
        starts, degrees = generator(rng).random(data.n_users), data.user_degrees
        counts = np.minimum(np.round(degrees * self.fraction), np.maximum(degrees - 1, 0))
        first = np.floor(starts * (degrees - counts + 1))
        offset = np.arange(data.n_interactions) - np.repeat(data.matrix.indptr[:-1], degrees)
        mask = (offset >= np.repeat(first, degrees)) & (offset < np.repeat(first + counts, degrees))
        return Split.of_mask(data, mask, f"contiguous run of items, {self.fraction:.0%} per user")


@spec
class LeaveLast(OnePart):
    """Hold out the last items of each user in time (ties: `rank_from_latest`)."""

    kind: ClassVar[str] = "leave-last"
    n: Count = 1
    """The number of items to hold out; one item always remains."""

    def _split(self, data: Interactions, rng: RNG | None) -> Split:
        return hold_out_last(data, self.n, "time", rng, f"last in time, per user, {self.n}")


@spec
class Time(OnePart):
    """Hold out everything after a point in time.

    Users without an earlier interaction have no history and are left out, with a note.
    """

    kind: ClassVar[str] = "time"
    fraction: Fraction = 0.2
    """The share of all interactions, the latest ones, that is held out."""
    after: int | None = None
    """The point in time, in the unit of the data, instead of a share."""

    def _split(self, data: Interactions, rng: RNG | None) -> Split:
        times = times_of(data)
        DataError.unless(
            len(times), "A split by time needs interactions; there are none. Check what was read."
        )
        moment = self.after
        if moment is None:
            moment = int(np.quantile(times, 1 - self.fraction, method="lower"))
        mask = times > moment
        has_history = np.bincount(data.rows()[~mask], minlength=data.n_users) > 0
        n_new = int((~has_history).sum())
        notes = (f"{n_new:,} users have no interaction up to {moment} and were left out",) if n_new else ()
        return Split.of_mask(
            data.take_users(has_history),
            mask[has_history[data.rows()]],
            f"by time, after {moment}",
            notes=notes,
        )


@spec
class Users(OnePart):
    """Keep some users out of train; part of their items are histories, the rest is held out."""

    kind: ClassVar[str] = "users"
    fraction: Fraction = 0.1
    """The share of users that is kept out of train."""
    held_out_fraction: Fraction = 0.2
    """The share of those users' items that is held out."""

    def _split(self, data: Interactions, rng: RNG | None) -> Split:
        random = generator(rng)
        chosen = np.zeros(data.n_users, dtype=bool)
        chosen[random.permutation(data.n_users)[: max(1, round(self.fraction * data.n_users))]] = True
        DataError.unless(
            not chosen.all(),
            f"Some users must stay in train; {self.fraction} of {data.n_users:,} takes all. Lower `fraction`.",
        )
        inner = Random(fraction=self.held_out_fraction).apply(data.take_users(chosen), random)
        method = (
            f"by user, {self.fraction:.0%} of users, {self.held_out_fraction:.0%} of their items held out"
        )
        return Split(data.take_users(~chosen), inner.histories, inner.held_out, method)


@spec
class Ratio(OnePart):
    """Train, validation and test part by shares, as in RecBole's ratio split.

    Sizes are rounded down, but a share above 0 gets at least one interaction, the held-out part first, if one remains to
    train on. Train comes first in the order, the held-out part last (ties in time: `rank_from_latest`).
    """

    kind: ClassVar[str] = "ratio"
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share to stop training by, which lists exclude; 0 for none."""
    held_out: Fraction = 0.1
    """The share to hold out; the rest is train."""
    order: Order = "random"
    """``random``, or ``time``: train is the earliest, the held-out part the latest."""
    by: Literal["user", "all"] = "user"
    """Take shares of each user's interactions, or of all interactions."""

    def _split(self, data: Interactions, rng: RNG | None) -> Split:
        shares = (1 - self.validation - self.held_out, self.validation, self.held_out)
        DataError.unless(
            self.validation + self.held_out < 1,
            "`validation` and `held_out` must be shares of the whole, the second above 0, that leave something to "
            f"train; saw {self.validation!r} and {self.held_out!r}. Give, say, 0.1 and 0.1.",
        )
        totals = data.user_degrees if self.by == "user" else np.array([data.n_interactions])
        middle, last = (np.floor(share * totals + _ALMOST).astype(np.int64) for share in shares[1:])
        last += (last == 0) & (totals - middle > 1)
        if self.validation > 0:
            middle += (middle == 0) & (totals - last > 1)
        whose = "per user" if self.by == "user" else "over the whole log"
        method = f"{' : '.join(f'{share:.0%}' for share in shares)} {_ORDERS[self.order]}, {whose}"
        return hold_out_last(data, last, self.order, rng, method, middle=middle, by=self.by)


@spec
class LeaveOneOut(OnePart):
    """Hold out the last interaction of each user, and validate on the one before it.

    One always stays in train, so users with two have none in the validation part, and users with one have none held out.
    Ties in time fall as `rank_from_latest` says.
    """

    kind: ClassVar[str] = "leave-one-out"
    order: Order = "time"
    """The order that says which is last: ``time`` or ``random``."""
    validation: bool = True
    """Make a validation part."""

    def _split(self, data: Interactions, rng: RNG | None) -> Split:
        middle = ((data.user_degrees > 2) & self.validation).astype(np.int64)
        left = ", one left to validation" if self.validation else ""
        method = f"one of each user held out{left}, {_ORDERS[self.order]}"
        return hold_out_last(data, 1, self.order, rng, method, middle=middle)


Splitting: TypeAlias = Files | Random | Block | LeaveLast | Time | Users | Ratio | LeaveOneOut
SPLITTINGS: Mapping[str, type[Splitting]] = {
    splitting.kind: splitting
    for splitting in (Files, Random, Block, LeaveLast, Time, Users, Ratio, LeaveOneOut)
}
"""The splittings by kind, as a recipe names them."""


def _part(parts: Mapping[str, Interactions], name: str, role: str) -> Interactions:
    RecipeError.unless(
        name in parts,
        f"The data must have a part {name!r} ({role} of the split); there is {some(sorted(parts))}."
        f"{nearest(name, parts)} Name another part, or hold interactions out with split.kind=random.",
    )
    return parts[name]


def _newcomers(train: Interactions, part: Interactions) -> pl.Series:
    """The users with pairs in a part who are not in train."""
    missing = train.users.positions_or_missing(part.users) < 0
    return part.users.series.filter(missing & (part.user_degrees > 0))


def _over(train: Interactions, part: Interactions, name: str) -> tuple[Interactions, tuple[str, ...]]:
    """The part over the users and items of train, and a note on users with pairs who are not in train.

    Raises `DataError` if none of them is.
    """
    newcomers = _newcomers(train, part)
    DataError.unless(
        not len(newcomers) or len(newcomers) < np.count_nonzero(part.user_degrees),
        f"Some users of the part {name!r} must be in train; none of its {len(newcomers):,} is: "
        f"{some(newcomers.to_list())}. Name users alike in all files.",
    )
    note = f"{len(newcomers):,} users of the part {name!r} have no history in train and were left out"
    return part.onto(users=train.users, items=train.items, unknown="ignore"), (note,) if len(
        newcomers
    ) else ()
