"""The split itself, and the one that given sets make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
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
        np.bincount(part.rows(), weights=times_of(part), minlength=part.n_users)[counted]
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


def times_of(data: Interactions) -> NDArray[np.int64]:
    """The timestamps, one a pair. Raises `DataError` where there are none."""
    if data.timestamps is None:
        raise DataError(
            "A split by time needs timestamps; these interactions have none. Name the time column when reading."
        )
    return data.timestamps
