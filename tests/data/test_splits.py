"""Splits: nothing is lost or in two parts, and every user of the histories keeps an item."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, strategies as st

from tests.data.events import Label, Pair, contents, interactions
from unblur.data.interactions import Interactions
from unblur.data.splits import (
    SPLITTINGS,
    Block,
    Files,
    LeaveLast,
    OnePart,
    Random,
    Ratio,
    Split,
    Time,
    Users,
    joined_items,
    k_core,
    later_share,
    together,
)
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, RecipeError, SpecError, VocabularyMismatch
from unblur.evaluation.protocol import RankingProtocol
from unblur.models.popularity import Popularity

data_sets = interactions(least=2, times=True)
fractions = st.floats(0.05, 0.95)
seeds = st.integers(0, 5)


def given_files(train: Interactions, test: Interactions) -> Split:
    """The split of two sets as they would come from files."""
    return Files().apply({"train": train, "test": test})


def split_or_nothing(make: Callable[[], Split]) -> Split:
    """The split; examples in which nothing can be held out are discarded."""
    try:
        return make()
    except DataError as problem:
        assume("Something must be held out" not in str(problem))
        raise


def assert_parts(split: Split, data: Interactions) -> None:
    """Check that train and held-out items divide `data`, and that each user of the histories keeps an item."""
    train, held_out = contents(split.train), contents(split.held_out)
    assert split.train is split.histories
    assert not train.keys() & held_out.keys()
    assert train | held_out == contents(data)
    had_something = data.user_degrees > 0
    assert (split.histories.user_degrees[had_something] >= 1).all()
    assert split.train.items == split.held_out.items == data.items
    assert split.histories.users == split.held_out.users == data.users


def held_counts(split: Split) -> list[int]:
    counts: list[int] = split.held_out.user_degrees.tolist()
    return counts


@given(data_sets, fractions, seeds)
def test_a_random_fraction_of_each_user(data: Interactions, fraction: float, seed: int) -> None:
    split = split_or_nothing(lambda: Random(fraction=fraction).apply(data, rng=seed))
    assert_parts(split, data)
    assert held_counts(split) == [min(round(n * fraction), n - 1) for n in data.user_degrees.tolist()]
    repeated = Random(fraction=fraction).apply(data, rng=seed)
    assert repeated.held_out.fingerprint() == split.held_out.fingerprint()


@given(data_sets, st.integers(1, 4), seeds)
def test_n_random_items_of_each_user(data: Interactions, n: int, seed: int) -> None:
    split = split_or_nothing(lambda: Random(n=n).apply(data, rng=seed))
    assert_parts(split, data)
    assert held_counts(split) == [min(n, degree - 1) for degree in data.user_degrees.tolist()]


def test_a_random_hold_out_is_fair() -> None:
    data = Interactions.from_matrix(np.ones((4_000, 5)))
    counts = Random(n=2).apply(data, rng=1).held_out.item_degrees
    assert np.abs(counts - 1_600).max() < 5 * np.sqrt(4_000 * 0.4 * 0.6)


@given(data_sets, fractions, seeds)
def test_a_block_is_one_run_of_items(data: Interactions, fraction: float, seed: int) -> None:
    split = split_or_nothing(lambda: Block(fraction=fraction).apply(data, rng=seed))
    assert_parts(split, data)
    assert held_counts(split) == [min(round(n * fraction), n - 1) for n in data.user_degrees.tolist()]
    for row in range(data.n_users):
        items = data.matrix.indices[slice(*data.matrix.indptr[row : row + 2])]
        held_items = split.held_out.matrix.indices[slice(*split.held_out.matrix.indptr[row : row + 2])]
        places = np.flatnonzero(np.isin(items, held_items))
        assert len(places) == 0 or np.array_equal(places, np.arange(places[0], places[-1] + 1))


def test_a_block_starts_anywhere() -> None:
    split = Block(fraction=0.4).apply(Interactions.from_matrix(np.ones((3_000, 5))), rng=1)
    starts = Counter(split.held_out.matrix.indices[::2].tolist())
    assert sorted(starts) == [0, 1, 2, 3]
    assert min(starts.values()) > 600


@given(data_sets, st.integers(1, 3))
def test_the_last_of_each_user_in_time(data: Interactions, n: int) -> None:
    split = split_or_nothing(lambda: LeaveLast(n=n).apply(data))
    assert_parts(split, data)
    assert held_counts(split) == [min(n, degree - 1) for degree in data.user_degrees.tolist()]
    latest_kept: dict[Label, int] = {}
    for (user, _), (_, time) in contents(split.train).items():
        assert time is not None
        latest_kept[user] = max(latest_kept.get(user, time), time)
    assert all(
        time is not None and time >= latest_kept[user]
        for (user, _), (_, time) in contents(split.held_out).items()
    )


def test_the_last_in_time_are_distinguished_to_the_nanosecond() -> None:
    now = 1_700_000_000_000_000_000
    data = Interactions.from_pairs([0, 0, 0], [0, 1, 2], timestamps=[now, now + 2, now + 1])
    assert contents(LeaveLast().apply(data).held_out) == {(0, 1): (1.0, now + 2)}


def after_a_moment(data: Interactions, moment: int) -> tuple[dict[Pair, Any], dict[Pair, Any]]:
    """The known and the held-out pairs if time is cut at `moment` and new users are left out."""
    everything = contents(data)
    known = {pair: value for pair, value in everything.items() if value[1] is not None and value[1] <= moment}
    known_users = {user for user, _ in known}
    return known, {
        pair: value for pair, value in everything.items() if pair not in known and pair[0] in known_users
    }


@given(data_sets, st.integers(-6, 6))
def test_everything_later_than_a_moment(data: Interactions, moment: int) -> None:
    known, later = after_a_moment(data, moment)
    if not later:
        with pytest.raises(DataError, match="Something must be held out"):
            Time(after=moment).apply(data)
        return
    split = Time(after=moment).apply(data)
    assert contents(split.train) == known
    assert contents(split.held_out) == later
    assert (split.histories.user_degrees >= 1).all()
    newcomers = data.n_users - split.histories.n_users
    assert len(split.notes) == bool(newcomers)
    assert not newcomers or split.notes[0].startswith(f"{newcomers} users have no interaction up to {moment}")


@given(data_sets, fractions)
def test_the_last_fraction_in_time(data: Interactions, fraction: float) -> None:
    assert data.timestamps is not None
    ranked = np.sort(data.timestamps)
    moment = int(ranked[int((1 - fraction) * (len(ranked) - 1))])
    split = split_or_nothing(lambda: Time(fraction=fraction).apply(data))
    known, later = after_a_moment(data, moment)
    assert (contents(split.train), contents(split.held_out)) == (known, later)


@given(interactions(least=4, times=True), fractions, fractions, seeds)
def test_users_kept_out_of_train(
    data: Interactions, fraction: float, hold_out_fraction: float, seed: int
) -> None:
    chosen = max(1, round(fraction * data.n_users))
    if chosen == data.n_users:
        with pytest.raises(DataError, match=r"Some users must stay in train.*takes all.*Lower `fraction`"):
            Users(fraction=fraction, held_out_fraction=hold_out_fraction).apply(data, rng=seed)
        return
    split = split_or_nothing(
        lambda: Users(fraction=fraction, held_out_fraction=hold_out_fraction).apply(data, rng=seed)
    )
    train, histories, held_out = contents(split.train), contents(split.histories), contents(split.held_out)
    assert split.histories.n_users == chosen
    assert not set(split.train.users.to_list()) & set(split.histories.users.to_list())
    assert train | histories | held_out == contents(data)
    assert len(train) + len(histories) + len(held_out) == data.n_interactions
    assert (split.histories.user_degrees >= 1).all()


# -------------------------------------------------------------------------------- k-core


def core(pairs: set[Pair], users: int, items: int) -> set[Pair]:
    """The k-core of a set of pairs, by taking weak users and items away until none is left."""
    while True:
        degrees = Counter(user for user, _ in pairs), Counter(item for _, item in pairs)
        remaining = {
            (user, item) for user, item in pairs if degrees[0][user] >= users and degrees[1][item] >= items
        }
        if remaining == pairs:
            return pairs
        pairs = remaining


def test_a_core_may_have_upper_ends() -> None:
    rows = [(user, item) for user, items in (("a", "xy"), ("b", "xyz"), ("c", "x")) for item in items]
    data = Interactions.from_pairs(*zip(*rows, strict=True))
    assert set(contents(k_core(data, users="[2,2]"))) == {("a", "x"), ("a", "y")}
    assert set(contents(k_core(data, users="[1,1];[3,inf)"))) == {
        ("b", "x"),
        ("b", "y"),
        ("b", "z"),
        ("c", "x"),
    }
    assert set(contents(k_core(data, items="(0,2]"))) == {("a", "y"), ("b", "y"), ("b", "z")}


@given(interactions(least=1), st.integers(0, 4), st.integers(0, 4))
def test_the_core_is_the_fixed_point(data: Interactions, users: int, items: int) -> None:
    everything = contents(data)
    remaining = core(set(everything), users, items)
    if not remaining:
        with pytest.raises(
            DataError, match=r"No user with \d items and item with \d users is left.*Lower the"
        ):
            k_core(data, users=users, items=items)
        return
    result = k_core(data, users=users, items=items)
    assert contents(result) == {pair: everything[pair] for pair in remaining}
    assert result.users.to_list() == [
        user for user in data.users.to_list() if user in {pair[0] for pair in remaining}
    ]
    assert result.items.to_list() == [
        item for item in data.items.to_list() if item in {pair[1] for pair in remaining}
    ]


# -------------------------------------------------------------------------------- given files


def test_given_files_are_brought_onto_common_vocabularies() -> None:
    train = Interactions.from_pairs(["a", "b", "b"], ["x", "x", "z"])
    held_out = Interactions.from_pairs(["b", "a"], ["y", "q"])
    split = given_files(train, held_out)
    assert split.train is split.histories
    assert split.train.items.to_list() == ["q", "x", "y", "z"]
    assert split.held_out.users == train.users
    assert contents(split.held_out) == contents(held_out)
    assert contents(split.train) == contents(train)
    assert split.method == "given files"


def test_given_files_over_dense_integers_stay_so() -> None:
    split = given_files(Interactions.from_pairs([0, 1], [0, 1]), Interactions.from_pairs([0, 1], [2, 0]))
    assert split.train.items == Vocabulary.range(3)


def test_a_user_of_the_test_file_with_nothing_held_out_need_not_be_known() -> None:
    train = Interactions.from_pairs([0, 1], [0, 1])
    held_out = Interactions.from_matrix(np.array([[0, 1], [0, 0], [0, 0]]))
    assert contents(given_files(train, held_out).held_out) == {(0, 1): (1.0, None)}


@given(data_sets, fractions, seeds)
def test_the_files_of_a_split_give_it_back(data: Interactions, fraction: float, seed: int) -> None:
    split = split_or_nothing(lambda: Random(fraction=fraction).apply(data, rng=seed))
    reloaded = given_files(split.train, split.held_out)
    assert reloaded.train.fingerprint() == split.train.fingerprint()
    assert reloaded.held_out.fingerprint() == split.held_out.fingerprint()


def test_joined_items_are_in_label_order() -> None:
    parts = [Interactions.from_pairs([0, 0], items) for items in (["b", "a"], ["c", "b"])]
    assert joined_items(*parts).to_list() == ["a", "b", "c"]


# -------------------------------------------------------------------------------- refusals

PAIRS = Interactions.from_pairs(["a", "a", "b"], ["x", "y", "x"])
MANY = Interactions.from_pairs(
    np.repeat(np.arange(20), 10), np.tile(np.arange(10), 20), timestamps=np.arange(200) * 7 % 200
)
MORE = Interactions.from_pairs(["a", "b"], ["z", "y"])


def over(data: Interactions, items: str = "xyz") -> Interactions:
    return data.onto(items=Vocabulary(list(items)))


@pytest.mark.parametrize(
    ("build", "facts"),
    [
        (
            lambda: given_files(PAIRS, Interactions.from_pairs(["c"], ["z"])),
            ["Some users of the part 'test' must be in train", "none of its 1 is: 'c'", "Name users alike"],
        ),
        (
            lambda: Split(PAIRS, PAIRS, PAIRS.keep(np.array([False, True, False])), "by hand"),
            ["must not overlap", "1 pairs are in both", r"\('a', 'y'\)", "Remove them from one side"],
        ),
        (
            lambda: given_files(PAIRS, Interactions.from_pairs(["a"], [1])),
            ["of one type in all files", "some are integers and some are strings", "same `labels` option"],
        ),
        (
            lambda: given_files(Interactions.from_pairs([1], ["x"]), PAIRS),
            ["of one type", "strings were asked for", "`labels` option"],
        ),
        (
            lambda: given_files(PAIRS, PAIRS.keep(np.zeros(3, dtype=bool))),
            ["Something must be held out", "nothing was"],
        ),
        (
            lambda: Split(over(PAIRS), over(PAIRS), MORE, "by hand"),
            ["over the same items", "3, 3 and 2", r"\.onto\(items=…\)"],
        ),
        (
            lambda: Split(over(PAIRS), over(PAIRS), over(Interactions.from_pairs(["a"], ["z"])), "by hand"),
            ["the same rows as the histories", "1 and 2 users differ", "Files"],
        ),
        (
            lambda: Split(over(PAIRS), over(PAIRS), over(PAIRS), "by hand"),
            ["Histories and held-out", "3 pairs are in both"],
        ),
        (
            lambda: Split(over(MORE), over(PAIRS), over(MORE), "by hand"),
            ["Train and held-out", "2 pairs are in both", r"\('a', 'z'\)", "Remove them from one side"],
        ),
        (
            lambda: Users(fraction=0.9).apply(PAIRS),
            ["Some users must stay in train", "takes all", "Lower `fraction`"],
        ),
        (lambda: LeaveLast().apply(PAIRS), ["needs timestamps", "have none", "Name the time column"]),
        (lambda: Time(fraction=0.1).apply(PAIRS), ["needs timestamps", "have none", "Name the time column"]),
        (
            lambda: k_core(PAIRS, users=3),
            ["No user with 3 items", "2 users × 2 items", "Lower the thresholds"],
        ),
    ],
)
def test_bad_splits_are_refused(build: Callable[[], object], facts: list[str]) -> None:
    with pytest.raises(DataError) as error:
        build()
    for fact in facts:
        assert error.match(fact)


@pytest.mark.parametrize(
    ("build", "fact"),
    [
        (lambda: Random(n=0), "n of Random: .*greater than 0; saw 0"),
        (lambda: Random(fraction=1.0), "fraction of Random: .*less than 1; saw 1.0"),
        (lambda: Random(fraction=0.0), "fraction of Random: .*greater than 0; saw 0.0"),
        (lambda: Block(fraction=-0.5), "fraction of Block: .*saw -0.5"),
        (lambda: Block(fraction=float("nan")), "fraction of Block: .*saw nan"),
        (lambda: Users(fraction=2), "fraction of Users: .*saw 2"),
        (lambda: Ratio(held_out=0.0), "held_out of Ratio: .*greater than 0"),
        (lambda: Ratio(validation=-0.1), "validation of Ratio: .*saw -0.1"),
    ],
)
def test_sizes_out_of_range_are_refused(build: Callable[[], object], fact: str) -> None:
    with pytest.raises(SpecError, match=fact):
        build()


@pytest.mark.parametrize("kind", [kind for kind in SPLITTINGS.values() if kind is not Files])
def test_a_part_is_split_as_the_log_alone_is(kind: type[OnePart]) -> None:
    parts = {"train": MANY, "other": PAIRS}
    unparted, named, only = (
        kind().apply(MANY, 3),
        kind(part="train").apply(parts, 3),
        kind().apply({"log": MANY}, 3),
    )
    for split in (named, only):
        assert split.method == unparted.method
        assert split.held_out.fingerprint() == unparted.held_out.fingerprint()
    with pytest.raises(RecipeError, match="One part of the data is split; there are 2"):
        kind().apply(parts)
    with pytest.raises(RecipeError, match=r"must have a part 'trian'.*Did you mean 'train'"):
        kind(part="trian").apply(parts)


@pytest.mark.parametrize("kind", [Random, Block])
def test_all_parts_together_are_split_as_the_log_that_they_come_from(kind: type[OnePart]) -> None:
    first = Random(fraction=0.4).apply(MANY, 1)
    parts = {"train": first.train, "test": first.held_out}
    pooled, whole = kind(part="all").apply(parts, 3), kind().apply(MANY, 3)
    assert pooled.train.fingerprint() == whole.train.fingerprint()
    assert pooled.held_out.fingerprint() == whole.held_out.fingerprint()
    assert (
        kind(part="all").apply({"all": MANY, "other": PAIRS}, 3).train.fingerprint()
        == whole.train.fingerprint()
    )


TIMED = Interactions.from_pairs(["a", "a", "b"], ["x", "y", "x"], timestamps=[1, 2, 3])


@pytest.mark.parametrize(
    ("build", "facts"),
    [
        (lambda: Time(after=9).apply(TIMED), ["Something must be held out", "nothing was"]),
        (lambda: Time(after=-9).apply(TIMED), ["Something must be held out", "nothing was"]),
        (
            lambda: Time(fraction=0.5).apply(TIMED.keep(np.zeros(3, dtype=bool))),
            ["needs interactions", "there are none"],
        ),
        (lambda: Random(n=1).apply(TIMED.take_users([1])), ["Something must be held out"]),
    ],
)
def test_bad_splits_by_time_are_refused(build: Callable[[], object], facts: list[str]) -> None:
    with pytest.raises(DataError) as error:
        build()
    for fact in facts:
        assert error.match(fact)


def test_new_users_with_rows_of_their_own_are_no_overlap() -> None:
    shown = over(Interactions.from_pairs(["c"], ["x"]))
    hidden = over(Interactions.from_pairs(["c"], ["y"]))
    assert Split(over(PAIRS), shown, hidden, "by hand").train.n_interactions == 3


def test_a_mismatch_of_label_types_is_a_vocabulary_mismatch() -> None:
    with pytest.raises(VocabularyMismatch):
        given_files(Interactions.from_pairs([1], ["x"]), PAIRS)


def test_held_out_pairs_by_user(log: Interactions) -> None:
    split = Random(n=2).apply(log, rng=0)
    by_row: dict[Label, set[Label]] = defaultdict(set)
    for user, item in contents(split.held_out):
        by_row[user].add(item)
    assert {len(items) for items in by_row.values()} <= {1, 2}


@given(data_sets, seeds)
def test_parts_are_joined_to_the_original(data: Interactions, seed: int) -> None:
    split = split_or_nothing(lambda: Random(fraction=0.4).apply(data, rng=seed))
    for joined in (together(split.train, split.held_out), together(split.held_out, split.train)):
        assert joined.fingerprint() == data.fingerprint()
    with pytest.raises(DataError, match="must not overlap"):
        together(data, split.held_out)


def test_only_parts_with_the_same_labels_are_joined() -> None:
    one = Interactions.from_pairs([0, 1], [0, 1], timestamps=[1, 2])
    with pytest.raises(DataError, match="same users and items"):
        together(one, Interactions.from_pairs([0, 2], [0, 1]))
    timeless = Interactions.from_pairs([0, 1], [1, 0])
    assert together(one, timeless).timestamps is None
    assert together(one, timeless).n_interactions == 4


def test_which_of_two_is_later() -> None:
    one = Interactions.from_pairs([0, 0, 1, 2], [0, 1, 0, 0], timestamps=[1, 3, 5, 5])
    other = Interactions.from_pairs([0, 1, 2], [2, 1, 1], timestamps=[4, 5, 4]).onto(
        items=Vocabulary.range(3)
    )
    one = one.onto(items=Vocabulary.range(3))
    assert later_share(one, other) == 0.5  # later, at the same time, earlier
    assert later_share(one, other.keep(np.array([True, False, False]))) == 1.0
    assert later_share(one, other.keep(np.zeros(3, dtype=bool))) == 0.5


def test_held_out_users_without_a_history_are_left_out_or_given_popular_items() -> None:
    parts = {"train": PAIRS, "test": Interactions.from_pairs(["a", "c", "d"], ["z", "x", "z"])}
    left_out, popular = (Files(without_history=way).apply(parts) for way in ("leave-out", "popular"))
    assert left_out.notes == ("2 users of the part 'test' have no history in train and were left out",)
    assert left_out.histories.users == PAIRS.users
    assert left_out.held_out.n_interactions == 1
    assert popular.held_out.users.to_list() == ["a", "b", "c", "d"]
    ranking = RankingProtocol(cutoffs=(1,), resamples=0).rank(Popularity().fit(popular.train), popular)
    assert ranking.fallback.tolist() == [False, True, True]
    assert ranking.labels(1) == ["x"]


def test_what_may_come_back_is_what_was_not_rated_low() -> None:
    items = Vocabulary(["v", "w", "x", "y", "z"])

    def pairs(*labels: str) -> Interactions:
        return Interactions.from_pairs(["a"] * len(labels), list(labels)).onto(items=items)

    def excluded(**options: Any) -> list[Any]:
        split = Split(pairs("x"), pairs("x"), pairs("v"), "given", validation=pairs("z"), **options)
        rows = split.excluded
        return [] if rows is None else items.take(rows.matrix.indices).to_list()

    low_rated = pairs("w", "y")
    assert excluded() == ["x", "z"]
    assert excluded(low_rated=low_rated) == ["w", "x", "y", "z"]
    assert excluded(low_rated=low_rated, keeps_seen=True) == ["w", "y"]
    assert excluded(keeps_seen=True) == []
