"""A change of a log: users who are forgotten, and events that are added."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from unblur.data.interactions import Duplicates, Interactions
from unblur.data.vocabulary import Vocabulary, label_series
from unblur.errors import DataError, VocabularyMismatch, some


@dataclass(frozen=True, eq=False)
class Change:
    """A log before and after some of its users changed. Build one with `Change.of`."""

    before: Interactions
    after: Interactions
    forgotten: Vocabulary
    """The users whose rows were taken out."""
    users: Vocabulary
    """The users whose rows changed: those, and all with new events."""

    @classmethod
    def of(
        cls,
        log: Interactions,
        *,
        add: Interactions | None = None,
        forget: ArrayLike | Iterable[int] | Iterable[str] = (),
        duplicates: Duplicates = "last",
    ) -> Self:
        """Take the rows of the users to `forget` out of `log`, then append the events to `add`.

        - Users and items of `add` may be new: a vocabulary that is sorted stays sorted, another one grows at its end.
        - A pair of `add` that the log has already is handled as `duplicates` says (`Interactions.from_pairs`); by default the last event counts.
        - An item that only forgotten users had is left out of the vocabulary with them: its label may tell of its user.

        Raises `VocabularyMismatch` for a user to forget who is not in the log, and `DataError` if a user is both to be
        forgotten and in `add`, or if nobody is left.
        """
        forgotten = Vocabulary(label_series(forget, "forget").unique(maintain_order=True))
        changed = forgotten
        after = _without_users(log, forgotten) if len(forgotten) else log
        if add is not None and add.n_interactions:
            new_users = add.users.take(np.flatnonzero(add.user_degrees))
            _check_kinds(log, add)
            both = forgotten.positions_or_missing(new_users) >= 0
            DataError.unless(
                not both.any(),
                f"A user must be forgotten or have new events, not both; {int(both.sum()):,} users are in `forget` and in "
                "`add`. Take them out of one.",
            )
            after = _extended(after, add, duplicates)
            changed = (
                new_users
                if not len(forgotten)
                else Vocabulary(pl.concat([forgotten.series, new_users.series]))
            )
        DataError.unless(
            after.n_interactions,
            "Somebody must be left to learn from; no interaction would be. Delete the model instead.",
        )
        return cls(log, after, forgotten, changed)

    @cached_property
    def removed(self) -> Interactions:
        """The rows of the changed users as they were."""
        return self.before.take_users(_present(self.users, self.before.users))

    @cached_property
    def added(self) -> Interactions:
        """The rows of the changed users as they are now."""
        return self.after.take_users(_present(self.users, self.after.users))

    @cached_property
    def moved(self) -> NDArray[np.intp]:
        """(n_items before,) the position of each item among those after, −1 if it is left out. It ascends otherwise."""
        if self.before.items == self.after.items:
            return np.arange(self.before.n_items)
        return self.after.items.positions_or_missing(self.before.items)

    @cached_property
    def items(self) -> NDArray[np.intp]:
        """The positions after the change of all items that a changed user has or had, ascending."""
        positions = np.concatenate([self.moved[self.removed.matrix.indices], self.added.matrix.indices])
        return np.unique(positions[positions >= 0])


def _present(labels: Vocabulary, vocabulary: Vocabulary) -> NDArray[np.intp]:
    positions = vocabulary.positions_or_missing(labels)
    return positions[positions >= 0]


def _without_users(log: Interactions, forgotten: Vocabulary) -> Interactions:
    remaining = np.ones(log.n_users, dtype=bool)
    positions = log.users.positions_or_missing(forgotten)
    unknown = forgotten.series.filter(positions < 0).to_list()
    VocabularyMismatch.unless(
        not unknown,
        f"Users to forget must be in the log; {len(unknown):,} are not: {some(unknown)}. Check their spelling, or leave them out: "
        "nothing was learned of them.",
    )
    remaining[positions] = False
    rest = log.take_users(remaining)
    remains = (rest.item_degrees > 0) | (log.item_degrees == 0)
    return rest if remains.all() else rest.onto(items=log.items.take(np.flatnonzero(remains)))


def _check_kinds(log: Interactions, add: Interactions) -> None:
    for axis, old, new in (("Users", log.users, add.users), ("Items", log.items, add.items)):
        VocabularyMismatch.unless(
            old.kind == new.kind,
            f"{axis} must have labels of one type; those of the log are {old.kind} and those of the new events {new.kind}. "
            f'Read both with labels="{"str" if "str" in (old.kind, new.kind) else "int"}".',
        )
    DataError.unless(
        log.timestamps is None or add.timestamps is not None,
        "New events must have times, as those of the log do; they have none. Read them with their time column.",
    )


def _extended(log: Interactions, add: Interactions, duplicates: Duplicates) -> Interactions:
    """The events of both; the rows of `add` come after all of the log's."""
    logs = (log, add)
    order = None
    if log.order is not None:
        new = np.arange(add.n_interactions) if add.order is None else add.order
        order = np.concatenate([log.order, new + log.order.max(initial=-1) + 1])
    both = Interactions.from_pairs(
        pl.concat([part.users.take(part.rows()).series for part in logs]),
        pl.concat([part.items.take(part.matrix.indices).series for part in logs]),
        weights=np.concatenate([part.matrix.data for part in logs]),
        timestamps=None
        if log.timestamps is None or add.timestamps is None
        else np.concatenate([log.timestamps, add.timestamps]),
        order=order,
        duplicates=duplicates,
        user_vocabulary=_grown(log.users, add.users.take(np.flatnonzero(add.user_degrees))),
        item_vocabulary=_grown(log.items, add.items.take(np.flatnonzero(add.item_degrees))),
    )
    return both if log.order is not None else replace(both, order=None)


def _grown(vocabulary: Vocabulary, labels: Vocabulary) -> Vocabulary:
    """The vocabulary with the labels that are new to it: in their place if it is sorted, else at its end."""
    new = labels.series.filter(vocabulary.positions_or_missing(labels) < 0)
    if not len(new):
        return vocabulary
    series = pl.concat([vocabulary.series.rename("label"), new.sort().rename("label")])
    return Vocabulary(series.sort() if vocabulary.series.is_sorted() else series)
