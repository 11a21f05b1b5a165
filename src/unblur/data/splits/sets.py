"""The split itself, and sets of interactions joined, thinned and put in the order of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, some


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
            "Something must be held out to evaluate on; nothing was. Hold out more, or give a test file.",
        )
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
        held: NDArray[np.bool_],
        method: str,
        *,
        validation: NDArray[np.bool_] | None = None,
        notes: tuple[str, ...] = (),
    ) -> Split:
        """The split that holds out the pairs of `data` where `held` holds, and learns from the rest.

        The pairs where `validation` holds, if there are any, are its validation part. Masks are aligned with
        ``data.matrix.data``.
        """
        if validation is None or not validation.any():
            train, aside = data.keep(~held), None
        else:
            train, aside = data.keep(~held & ~validation), data.keep(validation)
        return cls(train, train, data.keep(held), method, notes, aside)

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

    def _refuse_overlap(self, name: str, seen: Interactions) -> None:
        """Raise `DataError` when a held-out pair is in `seen`, whose users may be others."""
        rows = seen.users.positions_or_missing(self.held_out.users)[self.held_out.rows()]
        columns = self.held_out.matrix.indices
        overlap = (rows >= 0) & seen.contains(rows, columns)
        if overlap.any():
            users = self.held_out.users.take(self.held_out.rows()[overlap][:5]).to_list()
            pairs = zip(users, self.held_out.items.take(columns[overlap][:5]).to_list(), strict=True)
            raise DataError(
                f"{name} and held-out interactions must not overlap; {int(overlap.sum()):,} pairs are in both, "
                f"such as (user, item) {some(pairs)}. Remove them from one side."
            )


def rank_from_last(
    data: Interactions, priority: NDArray[Any], *, by: Literal["user", "all"] = "user"
) -> NDArray[np.int64]:
    """The rank of each pair among those of its user (or, `by` all, of the whole log): 0 for the highest priority.

    Of equal priorities the later item position, then the later row, ranks first. Aligned with
    ``data.matrix.data``, as `priority` is.
    """
    groups = data.rows() if by == "user" else np.zeros(data.n_interactions, dtype=np.int32)
    sizes = data.user_degrees if by == "user" else np.array([data.n_interactions])
    ranks = np.empty(data.n_interactions, dtype=np.int64)
    ranks[np.lexsort((priority, groups))] = (
        np.repeat(np.cumsum(sizes), sizes) - 1 - np.arange(data.n_interactions)
    )
    return ranks


def hold_out_last(
    data: Interactions, priority: NDArray[Any], wanted: NDArray[Any] | float
) -> NDArray[np.bool_]:
    """Which pairs are held out when each user gives up the `wanted` number of highest priority, but keeps one.

    Equal priorities go by item position, as in `rank_from_last`; `wanted` is one number, or one a user.
    """
    counts = np.minimum(wanted, np.maximum(data.user_degrees - 1, 0))
    held: NDArray[np.bool_] = rank_from_last(data, priority) < counts[data.rows()]
    return held


def times_of(data: Interactions) -> NDArray[np.int64]:
    """The timestamps, one a pair. Raises `DataError` where there are none."""
    if data.timestamps is None:
        raise DataError(
            "A split by time needs timestamps; these interactions have none. Name the time column when reading."
        )
    return data.timestamps


def later_share(one: Interactions, other: Interactions) -> float:
    """Of the users with something in both, for how many the mean time in `other` is the later; of equal times
    half count. Both need timestamps and the same rows; 0.5 where no user has both."""
    counted = (one.user_degrees > 0) & (other.user_degrees > 0)
    if not counted.any():
        return 0.5
    means = [
        np.bincount(part.rows(), weights=times_of(part), minlength=part.n_users)[counted]
        / part.user_degrees[counted]
        for part in (one, other)
    ]
    return float(np.mean((np.sign(means[1] - means[0]) + 1) / 2))


def joined_items(*parts: Interactions) -> Vocabulary:
    """One item vocabulary, in label order, that holds the items of all `parts`."""
    vocabularies = [part.items for part in parts]
    if all(vocabulary == vocabularies[0] for vocabulary in vocabularies):
        return vocabularies[0]
    DataError.unless(
        len({vocabulary.kind for vocabulary in vocabularies}) == 1,
        "Labels must be of one type in all files; some are integers and some are strings. "
        "Read all files with the same `labels` option.",
    )
    return Vocabulary(pl.concat([vocabulary.series for vocabulary in vocabularies]).unique().sort())


def together(one: Interactions, other: Interactions) -> Interactions:
    """The pairs of both, with times where both have them, and the order where both are of one source.

    That they are not is seen by a place in the order that both have. Raises `DataError` unless they have the same users and items and no pair in common.
    """
    _refuse_common_pairs(one, other)
    rows = np.concatenate([one.rows(), other.rows()])
    columns = np.concatenate([one.matrix.indices, other.matrix.indices])
    entries = np.lexsort((columns, rows))

    def both(ours: NDArray[Any] | None, theirs: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if ours is None or theirs is None else np.concatenate([ours, theirs])[entries]

    starts = np.concatenate([[0], np.cumsum(one.user_degrees + other.user_degrees)])
    times, order = both(one.timestamps, other.timestamps), both(one.order, other.order)
    if order is not None and len(np.unique(order)) < len(order):
        order = None
    weights = np.concatenate([one.matrix.data, other.matrix.data])[entries]
    matrix = sparse.csr_array((weights, columns[entries], starts), shape=one.matrix.shape)
    return Interactions(matrix, one.users, one.items, times, order)


def _refuse_common_pairs(one: Interactions, other: Interactions) -> None:
    """Raise `DataError` unless both have the same users and items and no pair in common."""
    DataError.unless(
        one.users == other.users and one.items == other.items,
        "Interactions must have the same users and items to be put together; they differ. Bring one onto "
        "the other's vocabularies with `.onto(users=…, items=…)`.",
    )
    n_common = int(one.contains(other.rows(), other.matrix.indices).sum())
    DataError.unless(
        not n_common,
        f"Train and validation interactions must not overlap; {n_common:,} pairs are in both. Remove them from one side.",
    )


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
    DataError.unless(
        kept.any(),
        f"No user with {users} items and item with {items} users is left of {data!r}. Lower the thresholds.",
    )
    smaller = data.keep(kept)
    present = Vocabulary(data.items.take(np.flatnonzero(item_counts >= max(1, items))).series)
    return smaller.take_users(user_counts >= max(1, users)).onto(items=present)
