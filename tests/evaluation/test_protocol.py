"""The protocol: the users that count, the metrics, and that nothing else changes the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from unblur.data.interactions import Interactions
from unblur.data.splits import Files, Split
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, SpecError, VocabularyMismatch
from unblur.evaluation.metrics import USER_METRICS, per_user
from unblur.evaluation.protocol import Evaluation, RankingProtocol
from unblur.models.popularity import Popularity
from unblur.progress import ProgressEvent
from unblur.recommender import Recommender
from unblur.spec import spec_from_dict, spec_to_dict

EVERYTHING = RankingProtocol(
    cutoffs=(5, 10),
    metrics=(*USER_METRICS, "coverage", "gini"),
    resamples=50,
)


class CommonUsers(Recommender):
    """Score an item by the number of users it shares with those of the history: whole numbers, many ties."""

    def __init__(self, train: Interactions) -> None:
        super().__init__(Popularity(), train.items, train.item_degrees)
        self.together = (train.matrix.T @ train.matrix).toarray()

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        return np.asarray(histories.matrix @ self.together, dtype=np.float32)

    def tensors(self) -> Mapping[str, Any]:
        return {"together": self.together}


class Foreign:
    """The same scores from a class that is not ours, in float64 and column by column in memory."""

    def __init__(self, model: CommonUsers) -> None:
        self.items = model.items
        self.together = model.together
        self.rows: list[int] = []

    def score(self, histories: Interactions) -> NDArray[Any]:
        self.rows.append(histories.n_users)
        return np.asfortranarray(histories.matrix @ self.together, dtype=np.float64)


@pytest.fixture(scope="module")
def split() -> Split:
    """120 users of whom 20 have nothing held out, 60 items, string labels."""
    random = np.random.default_rng(0)
    has_item = random.random((120, 60)) < np.linspace(0.5, 0.05, 60)
    has_item[:, 0] = True
    is_held_out = has_item & (random.random(has_item.shape) < 0.3)
    is_held_out[:, 0] = False
    is_held_out[10:30] = False
    users = np.array([f"user {row}" for row in range(120)])
    items = np.array([f"item {column}" for column in range(60)])
    vocabulary = Vocabulary(items)

    def part(mask: NDArray[np.bool_]) -> Interactions:
        rows, columns = np.nonzero(mask)
        return Interactions.from_pairs(users[rows], items[columns], item_vocabulary=vocabulary)

    return Files().apply({"train": part(has_item & ~is_held_out), "test": part(is_held_out)})


@pytest.fixture(scope="module")
def model(split: Split) -> CommonUsers:
    return CommonUsers(split.train)


def figures(evaluation: Evaluation) -> list[tuple[str, float, float | None, float | None, int]]:
    return [
        (entry.name, entry.value, entry.low, entry.high, entry.n_users) for entry in evaluation.measurements
    ]


def test_every_metric_at_every_cutoff_with_its_interval(split: Split, model: CommonUsers) -> None:
    evaluation = EVERYTHING.evaluate(model, split, rng=1)
    assert tuple(entry.name for entry in evaluation.measurements) == EVERYTHING.names
    with_relevant = split.held_out.user_degrees > 0
    lists = model.recommend(split.histories.take_users(with_relevant), k=10)
    table = per_user(
        lists.positions,
        split.held_out.take_users(with_relevant).matrix,
        USER_METRICS,
        (5, 10),
        popularity=split.train.item_degrees,
    )
    for name in table.names:
        assert evaluation[name].value == pytest.approx(table[name].mean(), abs=1e-12)
        low, high = evaluation[name].low, evaluation[name].high
        assert low is not None
        assert high is not None
        assert low <= evaluation[name].value <= high
        assert np.array_equal(evaluation.per_user[name], table[name])
    for k in (5, 10):
        recommended = np.unique(lists.positions[:, :k])
        assert evaluation[f"coverage@{k}"].value == len(recommended) / 60
        assert evaluation[f"coverage@{k}"].low is None
        assert 0 < evaluation[f"gini@{k}"].value < 1
    assert {entry.n_users for entry in evaluation.measurements} == {100}


def test_batches_threads_and_kind_of_scorer_change_nothing(split: Split, model: CommonUsers) -> None:
    torch_threads = torch.get_num_threads()
    results = []
    for batch_size, threads in ((1024, 2), (1, 1), (7, 2), (33, 1), (100, 2)):
        for scorer in (model, Foreign(model)):
            torch.set_num_threads(threads)
            with threadpool_limits(threads):
                results.append(figures(EVERYTHING.evaluate(scorer, split, rng=3, batch_size=batch_size)))
    torch.set_num_threads(torch_threads)
    assert all(result == results[0] for result in results)


def test_users_with_nothing_held_out_are_left_out_and_counted(split: Split, model: CommonUsers) -> None:
    foreign = Foreign(model)
    evaluation = RankingProtocol(resamples=0).evaluate(foreign, split, batch_size=64)
    assert foreign.rows == [64, 36]
    assert "20 users had nothing held out and were left out" in evaluation.notes
    assert f"split: {split.method}" in evaluation.notes
    assert evaluation["recall@20"].low is None
    assert len(evaluation.ranking.users) == evaluation["recall@20"].n_users == 100


def test_averaging_over_all_users_counts_them_as_zero(split: Split, model: CommonUsers) -> None:
    some = RankingProtocol(resamples=10).evaluate(model, split, rng=1)
    everybody = RankingProtocol(resamples=10, averaging="all-users").evaluate(model, split, rng=1)
    assert everybody["recall@20"].n_users == 120
    assert everybody["recall@20"].value == pytest.approx(some["recall@20"].value * 100 / 120)
    assert (everybody.per_user["recall@20"][split.held_out.user_degrees == 0] == 0).all()
    assert "20 users had nothing held out and count as users without a hit" in everybody.notes


def test_metrics_of_all_lists_need_no_values_per_user(split: Split, model: CommonUsers) -> None:
    evaluation = RankingProtocol(metrics=("coverage", "gini")).evaluate(model, split)
    assert [entry.name for entry in evaluation.measurements] == ["coverage@20", "gini@20"]
    assert evaluation.per_user.values.shape == (100, 0)


def test_intervals_follow_rng_alone(split: Split, model: CommonUsers) -> None:
    protocol = RankingProtocol(resamples=20)
    one, same, other = (figures(protocol.evaluate(model, split, rng=seed)) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    with_more_metrics = RankingProtocol(resamples=20, metrics=("recall", "ndcg", "gini", "mrr"))
    assert figures(with_more_metrics.evaluate(model, split, rng=1))[:2] == one


def test_only_excluded_items_are_missing_from_lists(split: Split, model: CommonUsers) -> None:
    protocol = RankingProtocol(cutoffs=(60,), metrics=("recall",), resamples=0)
    has_held_out = split.held_out.user_degrees > 0
    histories = split.histories.take_users(has_held_out)
    for scorer in (model, Foreign(model)):
        masked = protocol.rank(scorer, split)
        assert ((masked.positions >= 0).sum(axis=1) == 60 - histories.user_degrees).all()
        assert protocol.measure(masked, split)["recall@60"].value == 1.0
        assert "100 users had fewer than 60 items to choose from" in protocol.measure(masked, split).notes
        complete = protocol.rank(scorer, split, exclude=None)
        assert (complete.positions >= 0).all()
        hidden = protocol.rank(scorer, split, exclude=split.held_out)
        assert protocol.measure(hidden, split)["recall@60"].value == 0.0


def test_items_without_signal_are_a_list_of_popular_ones(split: Split) -> None:
    class Indifferent:
        items = split.train.items

        def score(self, histories: Interactions) -> NDArray[np.float32]:
            return np.zeros(histories.matrix.shape, dtype=np.float32)

    ranking = RankingProtocol(cutoffs=(4,), resamples=0).rank(Indifferent(), split, exclude=None)
    popular = np.argsort(-split.train.item_degrees, kind="stable")[:4]
    assert (ranking.positions == popular).all()


def test_the_scores_of_a_scorer_are_not_written_to(split: Split) -> None:
    class Remembering:
        items = split.train.items
        kept = np.ones(split.histories.matrix.shape, dtype=np.float32)

        def score(self, histories: Interactions) -> NDArray[np.float32]:
            return self.kept[: histories.n_users]

    RankingProtocol(resamples=0).rank(Remembering(), split)
    assert (Remembering.kept == 1).all()


def test_progress_is_reported_and_may_interrupt(split: Split, model: CommonUsers) -> None:
    for scorer in (model, Foreign(model)):
        events: list[ProgressEvent] = []
        RankingProtocol(resamples=0).evaluate(scorer, split, batch_size=40, progress=events.append)
        assert [(event.done, event.total) for event in events] == [(40, 100), (80, 100), (100, 100)]

    def stop(event: ProgressEvent, /) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RankingProtocol(resamples=0).evaluate(Foreign(model), split, progress=stop)


def test_per_user_values_carry_the_users_labels(split: Split, model: CommonUsers) -> None:
    frame = RankingProtocol(resamples=0).evaluate(model, split).to_frame()
    assert frame.columns == ["user", "recall@20", "ndcg@20"]
    assert frame.height == 100
    assert set(frame["user"]) <= {f"user {row}" for row in range(120)}


def test_a_protocol_is_a_spec() -> None:
    protocol = spec_from_dict(
        RankingProtocol, {"cutoffs": [5, 20], "metrics": ["map"], "averaging": "all-users"}
    )
    assert protocol.names == ("map@5", "map@20")
    assert spec_from_dict(RankingProtocol, spec_to_dict(protocol)) == protocol


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metrics": ["recal"]}, r"saw 'recal'\. Did you mean 'recall'"),
        ({"metrics": []}, r"metrics: There must be at least one"),
        ({"cutoffs": [20, 20]}, r"cutoffs: There must be at least one, without repeats; saw \[20, 20\]"),
        ({"cutoffs": [0]}, r"cutoffs.*greater than 0"),
        ({"cutoff": [5]}, r"Did you mean 'cutoffs'"),
        ({"averaging": "all"}, r"averaging"),
        ({"resamples": -1}, r"resamples"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec_from_dict(RankingProtocol, values)


def test_what_cannot_be_evaluated_is_refused(split: Split, model: CommonUsers) -> None:
    protocol = RankingProtocol(resamples=0)
    with pytest.raises(DataError, match="must not exceed the 60 items; saw 61"):
        RankingProtocol(cutoffs=(61,)).evaluate(model, split)
    with pytest.raises(DataError, match=r"must have `items` and `score\(histories\)`; saw RankingProtocol"):
        protocol.evaluate(protocol, split)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="`batch_size` must be at least 1; saw 0"):
        protocol.evaluate(model, split, batch_size=0)
    with pytest.raises(DataError, match="`exclude` must have the users of the histories"):
        protocol.evaluate(model, split, exclude=split.histories.take_users(slice(5)))
    with pytest.raises(DataError, match="must be \"history\", Interactions or None; saw 'histroy'"):
        protocol.evaluate(model, split, exclude="histroy")  # type: ignore[arg-type]
    train, test = (
        Interactions.from_pairs([0, 1], items, item_vocabulary=Vocabulary.range(60))
        for items in ([0, 1], [5, 6])
    )
    other = Files().apply({"train": train, "test": test})
    for scorer in (model, Foreign(model)):
        with pytest.raises(VocabularyMismatch):
            protocol.evaluate(scorer, other)
    with pytest.raises(VocabularyMismatch, match="one list for each of the 100 users that count"):
        protocol.measure(model.recommend(split.histories, k=20), split)


@pytest.mark.parametrize("fault", ["nan", "inf", "shape", "overflow"])
def test_broken_scores_are_refused(split: Split, fault: str) -> None:
    class Broken:
        items = split.train.items

        def score(self, histories: Interactions) -> NDArray[Any]:
            scores = np.zeros(histories.matrix.shape)
            if fault == "shape":
                return scores[:, 1:]
            scores[-1, 3] = {"nan": np.nan, "inf": np.inf, "overflow": 1e300}[fault]
            return scores

    with pytest.raises(DataError, match="a row per user" if fault == "shape" else "must be finite"):
        RankingProtocol(resamples=0).evaluate(Broken(), split)
