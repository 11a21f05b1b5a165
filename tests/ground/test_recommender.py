"""The base of all recommenders, on models that are simple enough to be right by inspection."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, VocabularyMismatch
from unblur.progress import ProgressEvent
from unblur.recommender import Recommender, Scorer
from unblur.spec import Spec

ITEMS = Vocabulary(["a", "b", "c", "d", "e"])
COUNTS = np.array([4, 8, 0, 2, 2])
WEIGHTS = np.array(
    [
        [0, 1, 2, 3, 4],
        [1, 0, 5, 5, 0],
        [2, 2, 0, 2, 2],
        [0, 0, 0, 0, 0],
        [9, 1, 1, 1, 0],
    ],
    dtype=np.float32,
)


FILLED = "{} recommended items have no signal for their user: popular items fill the lists, flagged as filled"
"""The note on items like c, which nobody had in train."""


class TableSpec(Spec):
    """Nothing to set."""

    kind: ClassVar[str] = "table"


class Table(Recommender):
    """A score is the sum of the table's rows of the history."""

    linear: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__(TableSpec(), ITEMS, COUNTS)

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        return np.asarray(histories.binarized().matrix @ WEIGHTS, dtype=np.float32)


class Largest(Table):
    """A score is the largest entry of the rows: not linear."""

    linear: ClassVar[bool] = False

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        has_item = histories.matrix.toarray()[:, :, None] > 0
        return np.asarray(np.where(has_item, WEIGHTS[None], 0).max(axis=1), dtype=np.float32)


class Latest(Table):
    """A score is the table's row of the latest item."""

    linear: ClassVar[bool] = False
    needs_timestamps: ClassVar[bool] = True

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        assert histories.timestamps is not None
        scores = np.zeros(histories.matrix.shape, dtype=np.float32)
        for row in np.flatnonzero(histories.user_degrees):
            entries = slice(*histories.matrix.indptr[row : row + 2])
            scores[row] = WEIGHTS[histories.matrix.indices[entries][np.argmax(histories.timestamps[entries])]]
        return scores


class Broken(Table):
    """Scores are NaN."""

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        return np.full(histories.matrix.shape, np.nan, dtype=np.float32)


def histories(*rows: str, times: bool = False, items: Vocabulary = ITEMS) -> Interactions:
    """One user for each string, whose items are its letters, taken in that order."""
    users = [row for row, letters in enumerate(rows) for _ in letters]
    return Interactions.from_pairs(
        users,
        list("".join(rows)) or np.array([], dtype=str),
        timestamps=range(len(users)) if times else None,
        user_vocabulary=Vocabulary.range(len(rows)),
        item_vocabulary=items,
    )


def labels(model: Recommender, rows: Interactions, **options: Any) -> list[str]:
    ranking = model.recommend(rows, **options)
    return ["".join(str(label) for label in ranking.labels(row)) for row in range(rows.n_users)]


def test_a_fitted_model_is_a_scorer() -> None:
    assert isinstance(Table(), Scorer)
    assert not isinstance(object(), Scorer)


def test_the_items_of_the_history_are_left_out() -> None:
    assert labels(Table(), histories("a", "b", "ae"), k=4) == ["edcb", "dcae", "dcb"]
    ranking = Table().recommend(histories("ae"), k=4)
    assert ranking.positions.tolist() == [[3, 2, 1, -1]]
    assert ranking.scores.tolist() == [[4.0, 3.0, 2.0, -np.inf]]


def test_other_interactions_or_none_may_be_left_out() -> None:
    assert labels(Table(), histories("a", "b"), k=5, exclude=None) == ["edcba", "dcabe"]
    assert labels(Table(), histories("a", "b"), k=2, exclude=histories("ed", "c")) == ["cb", "da"]


@pytest.mark.parametrize(
    "exclude",
    [
        histories("a"),
        histories("a", "b").onto(items=Vocabulary(list("edcba"))),
        histories("a", "b").take_users([1, 0]),
    ],
)
def test_what_is_left_out_must_be_of_the_same_rows_and_items(exclude: Interactions) -> None:
    with pytest.raises(
        DataError, match=r"`exclude` must have the users of the histories and the items.*it has .*onto"
    ):
        Table().recommend(histories("a", "b"), k=1, exclude=exclude)


def test_only_candidates_are_chosen_from() -> None:
    assert labels(Table(), histories("a", "b"), k=2, candidates=["c", "a", "b", "c"]) == ["cb", "ca"]
    assert labels(Table(), histories("a"), k=2, candidates=["a", "b"]) == ["b"]
    assert labels(Table(), histories("a"), k=2, candidates=["a", "b"], exclude=None) == ["ba"]
    with pytest.raises(VocabularyMismatch, match=r"must be known; 1 are not: 'q'"):
        Table().recommend(histories("a"), k=1, candidates=["a", "q"])


def test_more_than_there_is_gives_what_there_is() -> None:
    assert labels(Table(), histories("a", "b"), k=9) == ["edcb", "dcae"]
    assert labels(Table(), histories("a", "b"), k=3, candidates=["a", "b"]) == ["b", "a"]
    assert labels(Table(), histories("abcde", "a"), k=10**9) == ["", "edcb"]
    nothing = Table().recommend(histories("a", "b"), k=1, candidates=[])
    assert nothing.to_frame().select("user", "item").rows() == [(0, None), (1, None)]
    assert [len(batch.users) for batch in Table().recommend_batches(histories("a"), k=10**9)] == [1]


def test_each_user_may_have_allowed_items_of_its_own() -> None:
    rows = histories("a", "b", "c")
    allowed = histories("ab", "e", "")
    assert labels(Table(), rows, k=5, candidates=allowed) == ["b", "e", ""]
    assert labels(Table(), rows, k=5, candidates=allowed, exclude=None) == ["ba", "e", ""]
    with pytest.raises(VocabularyMismatch, match="`candidates` must have the users of the histories"):
        Table().recommend(rows, k=1, candidates=histories("a"))
    batches = Table().recommend_batches(rows, k=5, exclude=histories("", "e", ""), candidates=allowed)
    assert [batch.labels(row) for batch in batches for row in range(3)] == [["b", "a"], [], []]


def test_an_empty_history_gets_popular_items_and_is_flagged() -> None:
    ranking = Table().recommend(histories("a", "", "b", ""), k=3)
    assert ranking.fallback.tolist() == [False, True, False, True]
    assert ranking.labels(1) == ranking.labels(3) == ["b", "a", "d"]
    assert ranking.scores[1].tolist() == [1.0, 0.5, 0.25]
    assert ranking.notes == ("2 users without a history were given popular items", FILLED.format(2))
    assert ranking.filled is not None
    assert ranking.filled.all(axis=1).tolist() == [False, True, False, True]
    assert ranking.to_frame().filter(fallback=True)["user"].unique().to_list() == [1, 3]


def test_no_users_get_no_lists() -> None:
    ranking = Table().recommend(histories(), k=3)
    assert ranking.positions.shape == (0, 3)
    assert Table().score(histories()).shape == (0, 5)


WIDER = Vocabulary(["a", "b", "q", "r"])


def test_unknown_items_raise_or_are_ignored_and_counted() -> None:
    rows = histories("aq", "qr", "b", items=WIDER)
    for ask in (Table().score, lambda rows: Table().recommend(rows, k=2)):
        with pytest.raises(
            VocabularyMismatch,
            match=r"model's 5 items; these are over 4; 2 of theirs are unknown.*'q', 'r'.*item_vocab",
        ):
            ask(rows)
    # Rows over other items, none of which is unknown, are brought onto those of the model.
    known = Table().recommend(histories("a", "b", items=Vocabulary(["b", "a", "q"])), k=2)
    assert known.positions.tolist() == Table().recommend(histories("a", "b"), k=2).positions.tolist()
    ranking = Table().recommend(rows, k=2, unknown_items="ignore")
    assert [ranking.labels(row) for row in range(3)] == [["e", "d"], ["b", "a"], ["d", "c"]]
    assert ranking.fallback.tolist() == [False, True, False]
    assert ranking.notes == (
        "3 history interactions with items that the model never saw were ignored",
        "1 users without a history were given popular items",
        FILLED.format(1),
    )
    with pytest.raises(DataError, match="`unknown` must be one of raise, ignore; saw 'drop'"):
        Table().recommend(rows, k=2, unknown_items="drop")  # type: ignore[arg-type]


def test_items_of_another_type_are_refused() -> None:
    rows = Interactions.from_pairs([0], [3])
    with pytest.raises(VocabularyMismatch, match=r"theirs are int labels and its are str labels"):
        Table().score(rows)


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"k": 0}, ["k must be a whole number from 1", "saw 0"]),
        ({"k": 2.0}, ["k must be a whole number", "saw 2.0"]),
        ({"k": True}, ["k must be a whole number", "saw True"]),
        ({"k": 1, "exclude": "histroy"}, ['"history", Interactions or None', "saw 'histroy'"]),
        ({"k": 1, "batch_size": 0}, ["`batch_size` must be at least 1", "saw 0"]),
        ({"k": 1, "batch_size": -5}, ["`batch_size` must be at least 1", "saw -5"]),
    ],
)
def test_bad_arguments_of_recommend_are_refused(options: dict[str, Any], facts: list[str]) -> None:
    with pytest.raises(DataError) as error:
        Table().recommend(histories("a"), **options)
    for fact in facts:
        assert error.match(fact)


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match=r"Scores must be finite; saw NaN"):
        Broken().recommend(histories("a"), k=1)


def test_batches_are_reported_one_by_one() -> None:
    events: list[ProgressEvent] = []
    rows = histories(*("abcde"[n % 5] for n in range(10)))
    expected = Table().recommend(rows, k=2)
    parts = Table().recommend(rows, k=2, batch_size=4, progress=events.append)
    assert np.array_equal(expected.positions, parts.positions)
    assert [(event.stage, event.done, event.total) for event in events] == [
        ("score users", 4, 10),
        ("score users", 8, 10),
        ("score users", 10, 10),
    ]


def test_an_observer_may_stop_the_work() -> None:
    batch_sizes: list[int] = []

    class Counting(Table):
        def _score(self, histories: Interactions) -> NDArray[np.float32]:
            batch_sizes.append(histories.n_users)
            return super()._score(histories)

    def interrupt(event: ProgressEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Counting().recommend(histories("a", "b", "c"), k=1, batch_size=1, progress=interrupt)
    assert batch_sizes == [1]


# -------------------------------------------------------------------------------- times


def test_a_model_that_needs_times_refuses_histories_without() -> None:
    with pytest.raises(
        DataError, match=r"Latest weighs .* must carry timestamps; these have none\. Read the data with"
    ):
        Latest().score(histories("ab"))
    assert labels(Latest(), histories("ab", "ba", times=True), k=1) == ["d", "e"]


def test_a_model_that_needs_times_finds_similar_items_too() -> None:
    assert Latest().similar_items("b", 2).labels() == ["d", "c"]


# -------------------------------------------------------------------------------- similar items, explanations


@pytest.mark.parametrize("model", [Table(), Largest(), Latest()])
def test_similar_items_are_recommended_to_a_history_of_the_item(model: Recommender) -> None:
    ranking = model.similar_items("b", 3)
    assert ranking.labels() == ["d", "c", "a"]
    with pytest.raises(VocabularyMismatch, match=r"must be known; 1 are not: 'q'.*such as 'a', 'b', 'c'"):
        model.similar_items("q", 3)


def test_the_shares_of_a_linear_model_add_up() -> None:
    explanation = Table().explain(histories("bde"), "c")
    assert explanation.exact
    assert explanation.history.to_list() == ["b", "e", "d"]
    assert explanation.shares.tolist() == [5.0, 1.0, 0.0]
    assert explanation.score == 6.0
    assert explanation.item == "c"


def test_equal_shares_are_in_item_order() -> None:
    assert Table().explain(histories("dac"), "b").history.to_list() == ["c", "a", "d"]
    assert Table().explain(histories("edc"), "d").history.to_list() == ["c", "e", "d"]


def test_the_shares_of_a_nonlinear_model_are_drops_of_the_score() -> None:
    explanation = Largest().explain(histories("abe"), "c")
    assert not explanation.exact
    assert explanation.score == 5.0
    assert explanation.history.to_list() == ["b", "a", "e"]
    assert explanation.shares.tolist() == [3.0, 0.0, 0.0]
    single = Largest().explain(histories("a"), "c")
    assert (single.shares.tolist(), single.score) == ([2.0], 2.0)


def test_explaining_follows_times() -> None:
    explanation = Latest().explain(histories("ab", times=True), "c")
    assert dict(zip(explanation.history.to_list(), explanation.shares.tolist(), strict=True)) == {
        "b": 3.0,
        "a": 0.0,
    }


@pytest.mark.parametrize("rows", [histories(), histories(""), histories("a", "b")])
def test_only_one_user_with_a_history_is_explained(rows: Interactions) -> None:
    with pytest.raises(
        DataError, match=r"One user with at least one interaction.*saw \d users.*select_users"
    ):
        Table().explain(rows, "a")


def test_an_unknown_item_is_not_explained() -> None:
    with pytest.raises(VocabularyMismatch, match=r"1 are not: 'q'"):
        Table().explain(histories("a"), "q")


def test_batches_of_lists_are_the_lists_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users are ranked some at a time; labels, ranks, scores, notes and progress are those of one call."""
    users = Vocabulary([f"u{number}" for number in range(13)])
    rng = np.random.default_rng(1)
    own = Vocabulary(["b", "a", "new", "d"])
    data = Interactions(sparse.csr_array((rng.random((13, 4)) < 0.4).astype(np.float32)), users, own)
    model: Table = Table()
    events: list[ProgressEvent] = []
    monkeypatch.setattr("unblur.recommender._BATCHES_AT_A_TIME", 2)
    monkeypatch.setattr("unblur.recommender._ROWS_AT_A_TIME", 8)
    monkeypatch.setattr(type(model), "batch", 3)
    batches = list(model.recommend_batches(data, k=2, unknown_items="ignore", progress=events.append))
    whole = model.recommend(data, k=2, unknown_items="ignore")
    assert [len(batch.users) for batch in batches] == [6, 6, 1]
    assert pl.concat([batch.to_frame() for batch in batches]).equals(whole.to_frame())
    assert [batch.notes for batch in batches] == [whole.notes[:2], (), whole.notes[2:]]
    assert len(whole.notes) == 3
    assert [(event.done, event.total) for event in events] == [(3, 13), (6, 13), (9, 13), (12, 13), (13, 13)]
    with pytest.raises(VocabularyMismatch, match="new"):
        next(model.recommend_batches(data, k=2))
    assert [
        len(batch.users)
        for batch in model.recommend_batches(data.take_users([]), k=2, unknown_items="ignore")
    ] == [0]
