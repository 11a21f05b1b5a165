"""Ratio splits and leaving one out, against RecBole's rule written out for one user at a time."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from unblur.data.interactions import Interactions
from unblur.data.splits import LeaveOneOut, Ratio, Split
from unblur.errors import DataError


def drawn(degrees: list[int], seed: int) -> Interactions:
    """Users with that many items each, at times without ties."""
    random = np.random.default_rng(seed)
    users = np.repeat(np.arange(len(degrees)), degrees)
    items = np.concatenate([random.choice(60, size=degree, replace=False) for degree in degrees])
    times = random.permutation(len(users))
    return Interactions.from_pairs(users, items, timestamps=times)


def parts_of(split: Split) -> list[Interactions]:
    assert split.histories is split.train
    empty = split.train.keep(np.zeros(split.train.n_interactions, dtype=bool))
    return [split.train, empty if split.validation is None else split.validation, split.held_out]


def sizes(count: int, validation: float, held_out: float) -> tuple[int, int, int]:
    """The sizes of the parts: shares rounded down, the rest to train; then one for each empty part, the last first."""
    last, middle = int(held_out * count), int(validation * count)
    first = count - last - middle
    if first > 1 and last == 0:
        first, last = first - 1, 1
    if first > 1 and middle == 0 and validation:
        first, middle = first - 1, 1
    return first, middle, last


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=12).filter(lambda degrees: max(degrees) > 1),
    st.sampled_from([(0.125, 0.125), (0.25, 0.5), (0.0, 0.25), (0.0625, 0.25)]),
    st.sampled_from(["random", "time"]),
    st.integers(0, 5),
)
def test_each_user_is_cut_as_the_rule_says(
    degrees: list[int], shares: tuple[float, float], order: str, seed: int
) -> None:
    data = drawn(degrees, seed)
    split = Ratio(validation=shares[0], held_out=shares[1], order=order).apply(data, rng=seed)  # type: ignore[arg-type]
    parts = parts_of(split)
    counts = np.stack([part.user_degrees for part in parts], axis=1).tolist()
    assert counts == [list(sizes(degree, *shares)) for degree in data.user_degrees.tolist()]
    assert sum(part.n_interactions for part in parts) == data.n_interactions
    assert sum(part.matrix for part in parts).nnz == data.n_interactions  # type: ignore[union-attr]


@given(st.lists(st.integers(1, 20), min_size=2, max_size=10).filter(lambda d: max(d) > 2), st.integers(0, 5))
def test_in_time_train_comes_before_validation_and_that_before_the_test(
    degrees: list[int], seed: int
) -> None:
    data = drawn(degrees, seed)
    for split in (
        Ratio(validation=0.1, held_out=0.1, order="time").apply(data),
        LeaveOneOut().apply(data),
    ):
        train, middle, last = parts_of(split)
        for user in range(data.n_users):
            times = [
                part.timestamps[part.matrix.indptr[user] : part.matrix.indptr[user + 1]]  # type: ignore[index]
                for part in (train, middle, last)
            ]
            joined = np.concatenate([np.sort(part) for part in times])
            assert (np.diff(joined) > 0).all()


def test_one_is_left_out_for_each_purpose_as_far_as_there_are_some() -> None:
    data = drawn([1, 2, 3, 9], seed=1)
    train, middle, last = parts_of(LeaveOneOut().apply(data))
    assert train.user_degrees.tolist() == [1, 1, 1, 7]
    assert middle.user_degrees.tolist() == [0, 0, 1, 1]
    assert last.user_degrees.tolist() == [0, 1, 1, 1]
    assert LeaveOneOut(validation=False).apply(data).validation is None


def test_over_the_whole_log_the_latest_are_held_out() -> None:
    data = drawn([30, 5, 15], seed=2)
    split = Ratio(validation=0.1, held_out=0.2, order="time", by="all").apply(data)
    train, middle, last = parts_of(split)
    assert [train.n_interactions, middle.n_interactions, last.n_interactions] == [35, 5, 10]
    assert train.timestamps is not None
    assert middle.timestamps is not None
    assert last.timestamps is not None
    assert train.timestamps.max() < middle.timestamps.min() < middle.timestamps.max() < last.timestamps.min()


def test_the_seed_decides() -> None:
    data = drawn([20, 20, 20], seed=3)
    one, same, other = (Ratio(validation=0.1, held_out=0.1).apply(data, rng=seed) for seed in (1, 1, 2))
    assert one.held_out.fingerprint() == same.held_out.fingerprint()
    assert one.held_out.fingerprint() != other.held_out.fingerprint()


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.3, 0.9)])
def test_shares_that_leave_nothing_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="leave something to train"):
        Ratio(validation=shares[0], held_out=shares[1]).apply(drawn([5, 5], seed=0))


def test_an_order_in_time_needs_times() -> None:
    data = Interactions.from_pairs([0, 0, 1, 1], [0, 1, 0, 1])
    with pytest.raises(DataError, match="timestamps"):
        LeaveOneOut().apply(data)
