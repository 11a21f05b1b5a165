"""From events to interactions, against a dictionary."""

from __future__ import annotations

from pathlib import Path
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


def expected(log: Events, duplicates: str) -> Kept:
    """The weight and time of each pair: those of one of its events in order of time (or position), or their sum."""
    order = list(range(len(log)))
    if log.timestamps is not None:
        order.sort(key=log.timestamps.__getitem__)
    by_pair: dict[Pair, list[int]] = {}
    for at in order:
        by_pair.setdefault((log.users[at], log.items[at]), []).append(at)
    result: Kept = {}
    for pair, places in by_pair.items():
        weights = [1.0 if log.weights is None else log.weights[at] for at in places]
        times = [None if log.timestamps is None else log.timestamps[at] for at in places]
        if duplicates == "sum":
            result[pair] = (sum(weights), times[-1])
        else:
            at = 0 if duplicates == "first" else -1
            result[pair] = (weights[at], times[at])
    return result


def has_repeats(log: Events) -> bool:
    return len(set(zip(log.users, log.items, strict=True))) < len(log)


@given(events(), st.sampled_from(RESOLUTIONS))
def test_repeated_pairs_are_resolved_by_the_given_rule(
    log: Events, duplicates: Literal["sum", "first", "last"]
) -> None:
    data = Interactions.from_pairs(**log.columns(), duplicates=duplicates)
    assert contents(data) == expected(log, duplicates)
    assert data.users.to_list() == sorted(set(log.users))
    assert data.items.to_list() == sorted(set(log.items))
    assert (data.timestamps is None) == (log.timestamps is None)


@given(events())
def test_repeated_pairs_raise_by_default(log: Events) -> None:
    if not has_repeats(log):
        assert contents(Interactions.from_pairs(**log.columns())) == expected(log, "first")
        return
    with pytest.raises(
        DataError, match=r'occur once; \d+ occur more often, such as .*Pass .*"sum".*"first" or "last"'
    ):
        Interactions.from_pairs(**log.columns())


@given(events(weights=False), st.sampled_from(RESOLUTIONS), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter_if_their_times_differ(
    log: Events, duplicates: Literal["sum", "first", "last"], random: Any
) -> None:
    timed = Events(log.users, log.items, None, random.sample(range(1_000), len(log)))
    order = list(range(len(log)))
    random.shuffle(order)
    one = Interactions.from_pairs(**timed.columns(), duplicates=duplicates)
    other = Interactions.from_pairs(**timed.ordered(order).columns(), duplicates=duplicates)
    assert one.fingerprint() == other.fingerprint()


@given(events(), st.floats(0, 10))
def test_a_rating_threshold_keeps_the_liked_ones_with_weight_one(log: Events, least: float) -> None:
    if log.weights is None:
        with pytest.raises(
            DataError, match=r"`min_rating` needs weights.*none were given.*Name the rating column"
        ):
            Interactions.from_pairs(**log.columns(), min_rating=least)
        return
    data = Interactions.from_pairs(**log.columns(), min_rating=least, duplicates="last")
    last = expected(log, "last")
    assert contents(data) == {pair: (1.0, time) for pair, (rating, time) in last.items() if rating >= least}
    assert (data.matrix.data == 1).all()


@pytest.mark.parametrize("duplicates", ["raise", *RESOLUTIONS])
@pytest.mark.parametrize("min_rating", [None, 4.0])
def test_an_empty_log_has_no_users_and_no_items(duplicates: Any, min_rating: float | None) -> None:
    data = Interactions.from_pairs([], [], weights=[], min_rating=min_rating, duplicates=duplicates)
    assert (data.n_users, data.n_items, data.n_interactions) == (0, 0, 0)


@pytest.mark.parametrize(
    ("duplicates", "timestamps", "liked"),
    [("last", None, False), ("first", None, True), ("last", [9, 3], True), ("first", [9, 3], False)],
)
def test_repeats_are_removed_before_ratings_are_cut(
    duplicates: Any, timestamps: list[int] | None, liked: bool
) -> None:
    data = Interactions.from_pairs(
        ["u", "u", "v"],
        ["a", "a", "b"],
        weights=[5, 1, 5],
        timestamps=None if timestamps is None else [*timestamps, 0],
        min_rating=4,
        duplicates=duplicates,
    )
    assert (("u", "a") in contents(data)) == liked


def test_ratings_may_be_selected_by_intervals() -> None:
    data = Interactions.from_pairs(
        list("abcdef"), [1] * 6, weights=[1, 2, 3, 3.5, 4, 5], ratings="[1,2);(3,4]"
    )
    assert data.users.to_list() == ["a", "d", "e"]
    with pytest.raises(DataError, match="both say which ratings count"):
        Interactions.from_pairs(["a"], [1], weights=[1], min_rating=1, ratings="[1,2]")
    with pytest.raises(DataError, match=r"Intervals must be written as \[4,inf\)"):
        Interactions.from_pairs(["a"], [1], weights=[1], ratings="4 and more")


def test_a_rating_threshold_allows_ratings_that_are_not_positive() -> None:
    data = Interactions.from_pairs(["a", "a", "b"], [1, 2, 1], weights=[-3, 0, 4], min_rating=0)
    assert contents(data) == {("a", 2): (1.0, None), ("b", 1): (1.0, None)}


@given(events(), st.booleans())
def test_items_outside_a_vocabulary_are_refused_or_left_out(log: Events, backwards: bool) -> None:
    distinct = sorted(set(log.items), reverse=backwards)
    known = Vocabulary(distinct[: len(distinct) // 2 + 1]) if distinct else Vocabulary([])
    arguments: dict[str, Any] = {**log.columns(), "item_vocabulary": known, "duplicates": "first"}
    inside = {
        pair: value for pair, value in expected(log, "first").items() if pair[1] in set(known.to_list())
    }
    data = Interactions.from_pairs(**arguments, unknown_items="ignore")
    assert contents(data) == inside
    assert data.items == known
    assert data.users.to_list() == sorted(set(log.users))
    if len(known) < len(distinct):
        with pytest.raises(
            VocabularyMismatch, match=r'All items must be in.*are not: .*unknown_items="ignore"'
        ):
            Interactions.from_pairs(**arguments)


def test_rows_and_columns_follow_given_vocabularies() -> None:
    users, items = Vocabulary(["z", "a", "m"]), Vocabulary([9, 1, 5, 7])
    data = Interactions.from_pairs(["a", "z"], [5, 9], user_vocabulary=users, item_vocabulary=items)
    assert data.matrix.toarray().tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert data.users is users
    assert data.items is items
    with pytest.raises(VocabularyMismatch, match=r"All users must be in.*1 are not: 'q'"):
        Interactions.from_pairs(["q"], [5], user_vocabulary=users, item_vocabulary=items)


def test_dense_integers_are_their_own_positions() -> None:
    data = Interactions.from_pairs([2, 0, 1], [0, 1, 1])
    assert data.users.is_range
    assert data.items.is_range
    wide = Interactions.from_pairs([0, 10**12], [5, 10**18])
    assert wide.users.to_list() == [0, 10**12]
    assert wide.items.to_list() == [5, 10**18]


@pytest.mark.parametrize("empty", [[], np.array([]), pl.Series([], dtype=pl.Int64), np.array([], dtype=str)])
def test_no_events_are_empty_interactions(empty: Any) -> None:
    data = Interactions.from_pairs(empty, empty, weights=[], timestamps=[])
    assert data.matrix.shape == (0, 0)
    assert data.density == 0.0
    assert data.to_frame().is_empty()


@pytest.mark.parametrize("kind", [list, np.array, pl.Series])
def test_columns_come_in_many_forms(kind: Any) -> None:
    data = Interactions.from_pairs(
        kind(["b", "a"]), kind([4, 2]), weights=kind([1, 2]), timestamps=kind([10.0, -20.0])
    )
    assert contents(data) == {("b", 4): (1.0, 10), ("a", 2): (2.0, -20)}


def test_times_keep_every_bit() -> None:
    nanoseconds = [1_700_000_000_000_000_001, 1_700_000_000_000_000_002]
    data = Interactions.from_pairs([0, 0], [0, 0], timestamps=nanoseconds, duplicates="last")
    assert data.timestamps is not None
    assert data.timestamps.tolist() == nanoseconds[1:]


def test_rows_without_a_user_or_an_item_are_left_out_when_told_to(tmp_path: Path) -> None:
    file = tmp_path / "log.inter"
    file.write_text("user_id:token\titem_id:token\nu\ta\n\ta\nv\t\nv\tb\n")
    with pytest.raises(DataError, match="must have no nulls"):
        Interactions.read(file)
    data = Interactions.read(file, on_null="drop")
    assert set(contents(data)) == {("u", "a"), ("v", "b")}
    assert data.order is not None
    assert data.order.tolist() == [0, 3]


def test_rows_without_a_weight_or_a_time_are_left_out_when_told_to(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("user,item,weight,timestamp\nu,a,2,10\nu,b,,20\nv,a,3,\nv,b,4,40\n")
    for options in ({}, {"timestamp": "ignore"}, {"rating": "ignore"}):
        with pytest.raises(DataError, match="must have no nulls"):
            Interactions.read(file, **options)
    assert set(contents(Interactions.read(file, on_null="drop"))) == {("u", "a"), ("v", "b")}
    untimed = Interactions.read(file, on_null="drop", timestamp="ignore")
    assert set(contents(untimed)) == {("u", "a"), ("v", "a"), ("v", "b")}
    liked = Interactions.read(file, on_null="drop", min_rating=3)
    assert set(contents(liked)) == {("v", "b")}
