"""From events to interactions, against a dictionary."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, strategies as st

from tests.data.events import Events, Pair, contents, events
from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, VocabularyMismatch

Kept = dict[Pair, tuple[float, int | None]]
RESOLUTIONS: tuple[Literal["sum", "first", "last"], ...] = ("sum", "first", "last")


def expected(drawn: Events, duplicates: str) -> Kept:
    """What remains of each pair: of its events in order of time (or of place), one, or their sum."""
    order = list(range(len(drawn)))
    if drawn.timestamps is not None:
        order.sort(key=drawn.timestamps.__getitem__)
    by_pair: dict[Pair, list[int]] = {}
    for at in order:
        by_pair.setdefault((drawn.users[at], drawn.items[at]), []).append(at)
    kept: Kept = {}
    for pair, places in by_pair.items():
        weights = [1.0 if drawn.weights is None else drawn.weights[at] for at in places]
        times = [None if drawn.timestamps is None else drawn.timestamps[at] for at in places]
        if duplicates == "sum":
            kept[pair] = (sum(weights), times[-1])
        else:
            at = 0 if duplicates == "first" else -1
            kept[pair] = (weights[at], times[at])
    return kept


def has_repeats(drawn: Events) -> bool:
    return len(set(zip(drawn.users, drawn.items, strict=True))) < len(drawn)


@given(events(), st.sampled_from(RESOLUTIONS))
def test_repeated_pairs_are_resolved_as_asked(
    drawn: Events, duplicates: Literal["sum", "first", "last"]
) -> None:
    made = Interactions.from_pairs(**drawn.columns(), duplicates=duplicates)
    assert contents(made) == expected(drawn, duplicates)
    assert made.users.to_list() == sorted(set(drawn.users))
    assert made.items.to_list() == sorted(set(drawn.items))
    assert (made.timestamps is None) == (drawn.timestamps is None)


@given(events())
def test_repeated_pairs_raise_unless_something_else_is_asked(drawn: Events) -> None:
    if not has_repeats(drawn):
        assert contents(Interactions.from_pairs(**drawn.columns())) == expected(drawn, "first")
        return
    with pytest.raises(
        DataError, match=r'occur once; \d+ occur more often, such as .*Pass .*"sum".*"first" or "last"'
    ):
        Interactions.from_pairs(**drawn.columns())


@given(events(weights=False), st.sampled_from(RESOLUTIONS), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter_where_times_tell_them_apart(
    drawn: Events, duplicates: Literal["sum", "first", "last"], random: Any
) -> None:
    timed = Events(drawn.users, drawn.items, None, random.sample(range(1_000), len(drawn)))
    order = list(range(len(drawn)))
    random.shuffle(order)
    one = Interactions.from_pairs(**timed.columns(), duplicates=duplicates)
    other = Interactions.from_pairs(**timed.ordered(order).columns(), duplicates=duplicates)
    assert one.fingerprint() == other.fingerprint()


@given(events(), st.floats(0, 10))
def test_a_rating_threshold_keeps_the_liked_ones_with_weight_one(drawn: Events, least: float) -> None:
    if drawn.weights is None:
        with pytest.raises(
            DataError, match=r"`min_rating` needs weights.*none were given.*Name the rating column"
        ):
            Interactions.from_pairs(**drawn.columns(), min_rating=least)
        return
    made = Interactions.from_pairs(**drawn.columns(), min_rating=least, duplicates="last")
    liked = drawn.ordered([at for at, weight in enumerate(drawn.weights) if weight >= least])
    without = Events(liked.users, liked.items, None, liked.timestamps)
    assert contents(made) == expected(without, "last")
    assert (made.matrix.data == 1).all()


def test_a_rating_threshold_takes_ratings_that_are_no_weights() -> None:
    made = Interactions.from_pairs(["a", "a", "b"], [1, 2, 1], weights=[-3, 0, 4], min_rating=0)
    assert contents(made) == {("a", 2): (1.0, None), ("b", 1): (1.0, None)}


@given(events(), st.booleans())
def test_items_outside_a_vocabulary_are_refused_or_left_out(drawn: Events, backwards: bool) -> None:
    distinct = sorted(set(drawn.items), reverse=backwards)
    known = Vocabulary(distinct[: len(distinct) // 2 + 1]) if distinct else Vocabulary([])
    given_one: dict[str, Any] = {**drawn.columns(), "item_vocabulary": known, "duplicates": "first"}
    inside = {
        pair: value for pair, value in expected(drawn, "first").items() if pair[1] in set(known.to_list())
    }
    made = Interactions.from_pairs(**given_one, unknown_items="ignore")
    assert contents(made) == inside
    assert made.items == known
    assert made.users.to_list() == sorted(set(drawn.users))
    if len(known) < len(distinct):
        with pytest.raises(
            VocabularyMismatch, match=r'All items must be in.*are not: .*unknown_items="ignore"'
        ):
            Interactions.from_pairs(**given_one)


def test_rows_and_columns_follow_given_vocabularies() -> None:
    users, items = Vocabulary(["z", "a", "m"]), Vocabulary([9, 1, 5, 7])
    made = Interactions.from_pairs(["a", "z"], [5, 9], user_vocabulary=users, item_vocabulary=items)
    assert made.matrix.toarray().tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert made.users is users
    assert made.items is items
    with pytest.raises(VocabularyMismatch, match=r"All users must be in.*1 are not: 'q'"):
        Interactions.from_pairs(["q"], [5], user_vocabulary=users, item_vocabulary=items)


def test_dense_integers_are_their_own_positions() -> None:
    made = Interactions.from_pairs([2, 0, 1], [0, 1, 1])
    assert made.users.is_range
    assert made.items.is_range
    wide = Interactions.from_pairs([0, 10**12], [5, 10**18])
    assert wide.users.to_list() == [0, 10**12]
    assert wide.items.to_list() == [5, 10**18]


@pytest.mark.parametrize("empty", [[], np.array([]), pl.Series([], dtype=pl.Int64), np.array([], dtype=str)])
def test_no_events_are_empty_interactions(empty: Any) -> None:
    made = Interactions.from_pairs(empty, empty, weights=[], timestamps=[])
    assert made.matrix.shape == (0, 0)
    assert made.density == 0.0
    assert made.to_frame().is_empty()


@pytest.mark.parametrize("kind", [list, np.array, pl.Series])
def test_columns_come_in_many_forms(kind: Any) -> None:
    made = Interactions.from_pairs(
        kind(["b", "a"]), kind([4, 2]), weights=kind([1, 2]), timestamps=kind([10.0, -20.0])
    )
    assert contents(made) == {("b", 4): (1.0, 10), ("a", 2): (2.0, -20)}


def test_times_keep_every_bit() -> None:
    nanoseconds = [1_700_000_000_000_000_001, 1_700_000_000_000_000_002]
    made = Interactions.from_pairs([0, 0], [0, 0], timestamps=nanoseconds, duplicates="last")
    assert made.timestamps is not None
    assert made.timestamps.tolist() == nanoseconds[1:]
