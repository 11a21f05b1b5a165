"""A log before and after users are forgotten and events are added."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from unblur.data.changes import Change
from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, VocabularyMismatch

LOG = Interactions.from_pairs(
    ["ann", "ann", "bob", "bob", "cem"],
    ["b", "d", "b", "f", "d"],
    weights=[1, 2, 3, 4, 5],
    timestamps=[10, 20, 30, 40, 50],
)


def pairs(log: Interactions) -> list[tuple[str, str, float, int]]:
    return [tuple(row) for row in log.to_frame().select("user", "item", "weight", "timestamp").rows()]


def test_a_forgotten_user_and_the_items_that_nobody_else_has_are_gone() -> None:
    change = Change.of(LOG, forget=["bob", "bob"])
    assert pairs(change.after) == [("ann", "b", 1, 10), ("ann", "d", 2, 20), ("cem", "d", 5, 50)]
    assert change.after.users.to_list() == ["ann", "cem"]
    assert change.after.items.to_list() == ["b", "d"]
    assert change.forgotten.to_list() == ["bob"]
    assert change.items.tolist() == [0]
    assert change.moved.tolist() == [0, 1, -1]


def test_an_item_that_nobody_ever_had_stays() -> None:
    known = LOG.onto(items=Vocabulary(["b", "d", "e", "f"]))
    assert Change.of(known, forget=["bob"]).after.items.to_list() == ["b", "d", "e"]


def test_new_events_are_those_of_a_log_of_all_rows() -> None:
    new = Interactions.from_pairs(
        ["dan", "ann", "ann"], ["a", "d", "c"], weights=[6, 7, 8], timestamps=[60, 5, 70]
    )
    change = Change.of(LOG, add=new)
    frames = [part.to_frame() for part in (LOG, new)]
    together = Interactions.from_pairs(
        *(pl.concat([frame[column] for frame in frames]) for column in ("user", "item")),
        weights=np.concatenate([frame["weight"] for frame in frames]),
        timestamps=np.concatenate([frame["timestamp"] for frame in frames]),
        duplicates="last",
    )
    # The new event of ann and d is the earlier one, so that the old one stays.
    assert change.after.fingerprint() == together.fingerprint()
    assert ("ann", "d", 2, 20) in pairs(change.after)
    assert sorted(change.users.to_list()) == ["ann", "dan"]
    assert change.after.items.take(change.items).to_list() == ["a", "b", "c", "d"]


def test_a_vocabulary_that_is_not_sorted_grows_at_its_end() -> None:
    log = Interactions.from_pairs([1, 2], [7, 3], item_vocabulary=Vocabulary([7, 3]))
    after = Change.of(log, add=Interactions.from_pairs([1, 3], [5, 2])).after
    assert after.items.to_list() == [7, 3, 2, 5]
    assert after.users.to_list() == [1, 2, 3]


def test_rows_without_an_order_stay_so() -> None:
    log = Interactions.from_matrix(np.eye(3))
    assert Change.of(log, add=Interactions.from_pairs([0], [2])).after.order is None
    assert Change.of(log, forget=[1]).after.order is None


def test_nothing_to_do_changes_nothing() -> None:
    change = Change.of(LOG)
    assert change.after is LOG
    assert not len(change.items)


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(VocabularyMismatch, match="must be in the log; 1 are not: 'eve'"):
        Change.of(LOG, forget=["bob", "eve"])
    with pytest.raises(DataError, match="Delete the model"):
        Change.of(LOG, forget=["ann", "bob", "cem"])
    new = Interactions.from_pairs(["bob"], ["b"], timestamps=[1])
    with pytest.raises(DataError, match="forgotten or have new events, not both; 1 users"):
        Change.of(LOG, add=new, forget=["bob"])
    with pytest.raises(DataError, match="must have times"):
        Change.of(LOG, add=Interactions.from_pairs(["bob"], ["b"]))
    with pytest.raises(VocabularyMismatch, match=r"Users must have labels of one type.*labels=\"str\""):
        Change.of(LOG, add=Interactions.from_pairs([1], ["b"], timestamps=[1]))
