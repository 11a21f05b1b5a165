"""Ties in time: the order of the source's rows decides, never a label; without such an order, `rng` does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tests.data.events import Pair, events
from unblur.data.interactions import Duplicates, Interactions
from unblur.data.splits import LeaveLast, LeaveOneOut, OnePart, Ratio, Split, Time, rank_from_latest
from unblur.errors import DataError
from unblur.models.diffusion.diffrec import row_weights
from unblur.models.diffusion.settings import TimeWeights
from unblur.models.linear.recency import Recency
from unblur.training.settings import Stopping
from unblur.training.stopping import hold_out

IN_TIME: list[OnePart] = [
    LeaveLast(),
    LeaveLast(n=2),
    LeaveOneOut(),
    LeaveOneOut(validation=False),
    Ratio(validation=0.2, held_out=0.3, order="time"),
    Ratio(validation=0.2, held_out=0.3, order="time", by="all"),
    Time(fraction=0.4),
]
logs = events(least=2, weights=False).map(lambda drawn: drawn.with_times())
"""Event logs with repeated pairs and few moments."""


@st.composite
def renumbered(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], dict[Any, Any]]:
    """The columns of a log, the same with its items renumbered, and the new label of each item."""
    drawn = draw(logs)
    old = sorted(set(drawn.items))
    new: dict[Any, Any] = dict(zip(old, draw(st.permutations(range(len(old)))), strict=True))
    columns = {"users": drawn.users, "items": drawn.items, "timestamps": drawn.timestamps}
    return columns, {**columns, "items": [new[item] for item in drawn.items]}, new


def pairs(data: Interactions | None, new: dict[Any, Any] | None = None) -> set[Pair]:
    if data is None:
        return set()
    frame = data.to_frame()
    rows = zip(frame["user"].to_list(), frame["item"].to_list(), strict=True)
    return {(user, item if new is None else new[item]) for user, item in rows}


def parts(split: Split, new: dict[Any, Any] | None = None) -> list[set[Pair]]:
    return [pairs(part, new) for part in (split.train, split.histories, split.validation, split.held_out)]


@given(renumbered(), st.sampled_from(IN_TIME))
def test_a_renumbering_of_items_leaves_every_split_in_time_as_it_is(
    log: tuple[dict[str, Any], dict[str, Any], dict[Any, Any]], splitting: OnePart
) -> None:
    one, other, new = log
    try:
        split = splitting.apply(Interactions.from_pairs(**one, duplicates="first"))
    except DataError:
        with pytest.raises(DataError):
            splitting.apply(Interactions.from_pairs(**other, duplicates="first"))
        return
    assert parts(split, new) == parts(splitting.apply(Interactions.from_pairs(**other, duplicates="first")))


@given(renumbered(), st.sampled_from(["first", "last"]))
def test_a_renumbering_of_items_leaves_weights_by_time_as_they_are(
    log: tuple[dict[str, Any], dict[str, Any], dict[Any, Any]], duplicates: Duplicates
) -> None:
    one, other, new = log
    data, again = (Interactions.from_pairs(**each, duplicates=duplicates) for each in (one, other))
    columns = again.items.positions([new[item] for item in data.items.to_list()])
    for before, after in (
        (row_weights(data, TimeWeights()), row_weights(again, TimeWeights())),
        (Recency(half_life=2.0).weighted(data), Recency(half_life=2.0).weighted(again)),
    ):
        assert np.array_equal(before.toarray(), after.toarray()[:, columns])


@given(logs, st.randoms(use_true_random=False))
def test_events_are_in_the_order_of_their_rows_however_they_arrive(drawn: Any, random: Any) -> None:
    shuffled = random.sample(range(len(drawn)), len(drawn))
    columns = {"users": drawn.users, "items": drawn.items, "timestamps": drawn.timestamps}
    data = Interactions.from_pairs(**columns, duplicates="last")
    again = Interactions.from_pairs(
        **{name: [values[at] for at in shuffled] for name, values in columns.items()},
        order=shuffled,
        duplicates="last",
    )
    assert data.fingerprint() == again.fingerprint()
    assert np.array_equal(rank_from_latest(data), rank_from_latest(again))


@given(logs)
def test_ranks_in_time_are_those_of_a_sort_of_the_rows(drawn: Any) -> None:
    data = Interactions.from_pairs(**drawn.first_of_each_pair().columns())
    assert data.order is not None
    assert data.timestamps is not None
    for by in ("user", "all"):
        expected = np.empty(data.n_interactions)
        owners = data.rows() if by == "user" else np.zeros(data.n_interactions)
        for owner in set(owners.tolist()):
            own = np.flatnonzero(owners == owner).tolist()
            latest = sorted(own, key=lambda at: (data.timestamps[at], data.order[at]), reverse=True)
            expected[latest] = range(len(own))
        assert np.array_equal(rank_from_latest(data, by=by), expected)  # type: ignore[arg-type]


def test_the_last_row_of_a_moment_is_the_last_in_time() -> None:
    data = Interactions.from_pairs(["u"] * 3, ["z", "m", "a"], timestamps=[5, 5, 5])
    assert pairs(LeaveLast().apply(data).held_out) == {("u", "a")}
    assert pairs(hold_out(data, Stopping(hold_out="last", fraction=0.34), None).held_out) == {("u", "a")}
    split = LeaveOneOut().apply(data)
    assert split.validation is not None
    assert (pairs(split.validation), pairs(split.held_out)) == ({("u", "m")}, {("u", "a")})
    assert row_weights(data, TimeWeights(oldest=0.5, newest=1.0)).toarray().tolist() == [[1.0, 0.75, 0.5]]


def test_times_to_stop_by_are_told_apart_to_the_nanosecond() -> None:
    now = 1_700_000_000_000_000_000  # as float64, all three would be equal
    data = Interactions.from_pairs([0, 0, 0], [0, 1, 2], timestamps=[now, now + 2, now + 1])
    assert pairs(hold_out(data, Stopping(hold_out="last", fraction=0.34), None).held_out) == {(0, 1)}


def without_rows(n_users: int) -> Interactions:
    """Users with three items of one moment, and nothing that says which came first."""
    data = Interactions.from_matrix(np.ones((n_users, 3)))
    times = np.full(data.n_interactions, 5)
    return Interactions(data.matrix, data.users, data.items, times)


def test_without_rows_a_tie_falls_by_rng() -> None:
    data = without_rows(3_000)
    held_out = LeaveLast().apply(data, rng=1).held_out
    assert held_out.fingerprint() == LeaveLast().apply(data, rng=1).held_out.fingerprint()
    counts = Counter(held_out.matrix.indices.tolist())
    # 5 standard deviations of a binomial count: about one run in a million is further off.
    assert all(abs(counts[item] - 1_000) < 5 * np.sqrt(3_000 * 2 / 9) for item in range(3))


def test_without_rows_the_items_of_a_moment_share_their_mean_age() -> None:
    data = without_rows(2)
    assert rank_from_latest(data).tolist() == [1.0] * 6
    assert row_weights(data, TimeWeights(oldest=0.5, newest=1.0)).data.tolist() == [0.75] * 6


# -------------------------------------------------------------------------------- what a report says of them


def test_a_split_says_how_many_users_are_cut_within_a_tie_and_on_what_order_it_rests() -> None:
    times = [1, 2, 2, 1, 2, 3, 7]
    data = Interactions.from_pairs([0, 0, 0, 1, 1, 1, 2], [5, 3, 4, 5, 4, 3, 3], timestamps=times)
    split = LeaveLast().apply(data)
    note = "the cut of 1 of 2 users (50.0%) falls into a tie in time, which the order of the rows decides"
    assert split.notes == (note,)
    assert split.row_order == data.order_digest()
    assert split.row_order is not None
    shuffled = Interactions(data.matrix, data.users, data.items, data.timestamps, data.order[::-1])  # type: ignore[index]
    assert LeaveLast().apply(shuffled).row_order not in (None, split.row_order)
    both = LeaveOneOut().apply(data)  # user 1 is cut twice, and never within a tie
    assert both.notes == split.notes
    log = Ratio(validation=0.2, held_out=0.3, order="time", by="all").apply(data)
    assert log.notes == ("the cut of the log falls into a tie in time, which the order of the rows decides",)
    bare = LeaveLast().apply(Interactions(data.matrix, data.users, data.items, data.timestamps), rng=0)
    assert bare.row_order is None
    assert bare.notes == (note.replace("the order of the rows", "chance"),)


def test_a_split_without_ties_rests_on_no_order() -> None:
    data = Interactions.from_pairs([0, 0, 0, 1, 1], [5, 3, 4, 5, 4], timestamps=[1, 1, 2, 1, 2])
    for splitting in (LeaveLast(), LeaveOneOut(validation=False), Ratio(order="random")):
        split = splitting.apply(data, rng=0)
        assert (split.notes, split.row_order) == ((), None)
