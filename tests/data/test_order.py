"""The row of each pair in its source stays with it through every view, and is no part of the fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import assume, given, strategies as st
from scipy import sparse

from tests.data.events import Events, Pair, events
from unblur.data.files import write
from unblur.data.interactions import Interactions
from unblur.data.splits import Block, LeaveLast, Random, Ratio, Time, Users, k_core, together
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError

logs = events(least=2).map(lambda log: log.first_of_each_pair().with_times())


def places(data: Interactions) -> dict[Pair, int]:
    """The source row of each pair, keyed by its labels."""
    assert data.order is not None
    assert data.order.dtype == np.int64
    assert not data.order.flags.writeable
    frame = data.to_frame()
    pairs = zip(frame["user"].to_list(), frame["item"].to_list(), strict=True)
    return dict(zip(pairs, data.order.tolist(), strict=True))


def rows_of(log: Events) -> dict[Pair, int]:
    """The row of each pair in the columns of the log."""
    return {pair: at for at, pair in enumerate(zip(log.users, log.items, strict=True))}


def assert_among(data: Interactions, log: Events) -> None:
    """Check that every remaining pair has its source row."""
    rows = rows_of(log)
    assert all(rows[pair] == place for pair, place in places(data).items())


@given(logs)
def test_pairs_know_their_rows(log: Events) -> None:
    assert places(Interactions.from_pairs(**log.columns())) == rows_of(log)


@given(logs, st.randoms(use_true_random=False))
def test_rows_may_be_given(log: Events, random: Any) -> None:
    rows = random.sample(range(1000), len(log))
    data = Interactions.from_pairs(**log.columns(), order=rows)
    assert places(data) == {pair: rows[at] for pair, at in rows_of(log).items()}


@given(events(least=1), st.sampled_from(["first", "last", "sum"]))
def test_of_a_repeated_pair_the_row_is_that_of_the_event_that_stays(
    log: Events, duplicates: Literal["first", "last", "sum"]
) -> None:
    by_time = sorted(range(len(log)), key=(log.timestamps or [0] * len(log)).__getitem__)
    expected: dict[Pair, int] = {}
    for at in by_time:
        pair = (log.users[at], log.items[at])
        if duplicates != "first" or pair not in expected:
            expected[pair] = at
    assert places(Interactions.from_pairs(**log.columns(), duplicates=duplicates)) == expected


@given(logs, st.floats(0, 10), st.data())
def test_left_out_rows_keep_the_numbers_of_the_others(log: Events, least: float, draw: st.DataObject) -> None:
    items = sorted(draw.draw(st.sets(st.sampled_from(log.items), min_size=1)))
    data = Interactions.from_pairs(
        **{**log.columns(), "weights": log.weights or [1.0] * len(log)},
        min_rating=least,
        item_vocabulary=Vocabulary(items),
        unknown_items="ignore",
    )
    assert_among(data, log)


@given(logs, st.data())
def test_views_keep_the_order(log: Events, draw: st.DataObject) -> None:
    data = Interactions.from_pairs(**log.columns())
    rows = draw.draw(st.lists(st.integers(0, data.n_users - 1), unique=True))
    mask = np.array(draw.draw(st.lists(st.booleans(), min_size=len(log), max_size=len(log))))
    users = draw.draw(st.permutations(data.users.to_list()))
    items = draw.draw(st.permutations(data.items.to_list()))
    moved = data.onto(users=Vocabulary(users), items=Vocabulary(items))
    views = [
        data.take_users(rows),
        data.take_users(slice(None, None, -1)),
        data.select_users([data.users.to_list()[row] for row in rows]),
        data.keep(mask),
        data.without(data.keep(mask)),
        data.binarized(),
        moved,
        moved.onto(items=Vocabulary(items[: max(1, len(items) // 2)]), unknown="ignore"),
        k_core(data, users=1, items=1),
    ]
    for view in views:
        assert_among(view, log)
    assert len(places(moved)) == len(log)
    assert places(together(data.keep(mask), data.keep(~mask))) == rows_of(log)


@given(logs, st.integers(0, 5))
def test_splits_keep_the_order(log: Events, seed: int) -> None:
    data = Interactions.from_pairs(**log.columns())
    for way in (Random(), Block(), LeaveLast(), Time(), Users(fraction=0.5), Ratio(order="time")):
        try:
            split = way.apply(data, seed)
        except DataError:
            continue
        for part in (split.train, split.histories, split.held_out, split.validation):
            if part is not None:
                assert_among(part, log)


@given(logs, st.data())
def test_a_core_keeps_the_order(log: Events, draw: st.DataObject) -> None:
    data = Interactions.from_pairs(**log.columns())
    try:
        core = k_core(data, users=2, items=2)
    except DataError:
        assume(False)
    assert_among(core, log)


def test_unsorted_rows_are_sorted_and_stored_zeros_dropped_with_their_order() -> None:
    matrix = sparse.csr_array(
        (np.array([1.0, 0.0, 2.0]), np.array([2, 1, 0]), np.array([0, 3])), shape=(1, 3)
    )
    data = Interactions(matrix, Vocabulary.range(1), Vocabulary.range(3), None, np.array([7, 8, 9]))
    assert places(data) == {(0, 0): 9, (0, 2): 7}
    with pytest.raises(DataError, match=r"one place in the order for each of the 3 pairs; saw 2\. Align"):
        Interactions(matrix, Vocabulary.range(1), Vocabulary.range(3), None, np.array([7, 8]))


@given(logs, st.randoms(use_true_random=False))
def test_the_fingerprint_does_not_depend_on_the_order(log: Events, random: Any) -> None:
    order = random.sample(range(len(log)), len(log))
    one, other = (Interactions.from_pairs(**each.columns()) for each in (log, log.ordered(order)))
    bare = Interactions(one.matrix, one.users, one.items, one.timestamps)
    assert one.fingerprint() == other.fingerprint() == bare.fingerprint()


def test_interactions_from_a_matrix_have_no_order() -> None:
    data = Interactions.from_matrix(np.eye(3))
    pairs = Interactions.from_pairs([0, 1], [0, 1])
    for view in (data, data.take_users([1]), data.binarized(), data.onto(items=Vocabulary.range(4))):
        assert view.order is None
    assert (
        together(
            data.take_users([0, 1]).onto(items=pairs.items, unknown="ignore"), pairs.keep(np.zeros(2, bool))
        ).order
        is None
    )


def test_joined_sources_have_no_order() -> None:
    one = Interactions.from_pairs([0, 1], [0, 1])
    other = Interactions.from_pairs([0, 1], [1, 0])
    assert together(one, other).order is None


TEXT = "user,item,rating,time\nb,x,5,1\na,y,1,1\na,x,5,1\nb,y,4,1\n"


def test_a_file_gives_the_rows(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(TEXT)
    rated = Interactions.read(tmp_path / "log.csv", rating="rating")
    assert places(rated) == {("b", "x"): 0, ("a", "y"): 1, ("a", "x"): 2, ("b", "y"): 3}
    liked = Interactions.read(tmp_path / "log.csv", min_rating=4)
    assert places(liked) == {("b", "x"): 0, ("a", "x"): 2, ("b", "y"): 3}
    (tmp_path / "lists.txt").write_text("1 5 3\n0 4\n1 2\n")
    lists = Interactions.read(tmp_path / "lists.txt")
    assert places(lists) == {(1, 5): 0, (1, 3): 1, (0, 4): 2, (1, 2): 3}


@pytest.mark.parametrize("name", ["log.parquet", "log.csv", "log.inter", "log.npy", "log.txt"])
def test_files_are_written_in_the_order_of_the_source(name: str, tmp_path: Path) -> None:
    rows = [(2, 1), (0, 3), (2, 0), (1, 1), (0, 0), (1, 2), (1, 3)]
    data = Interactions.from_pairs(*zip(*rows, strict=True)).keep(
        np.array([True, True, True, True, True, False, True])
    )
    write(data, tmp_path / name)
    loaded = Interactions.read(tmp_path / name)
    assert loaded.fingerprint() == data.fingerprint()
    if name != "log.txt":  # a line of such a file holds all items of a user
        expected = sorted(places(data), key=places(data).__getitem__)
        assert sorted(places(loaded), key=places(loaded).__getitem__) == expected
