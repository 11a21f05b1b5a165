"""Figures by group, by hand and against ranx."""

import numpy as np
import pytest

from unblur.data.interactions import Interactions
from unblur.data.splits import Files, Split
from unblur.evaluation.groups import by_group, list_measures, user_groups, with_extra_metrics
from unblur.evaluation.protocol import RankingProtocol
from unblur.models.popularity import Popularity

HISTORIES = {"a": "pqrs", "b": "pq", "c": "p", "d": "pqr", "e": "p", "f": "pqrstu"}
"""Six users with 4, 2, 1, 3, 1 and 6 items."""
WEEK = {"a": "tu", "b": "rt", "c": "q", "d": "s", "e": "tu", "f": "v"}


def of(rows: dict[str, str]) -> Interactions:
    pairs = [(user, item) for user, items in rows.items() for item in items]
    return Interactions.from_pairs([user for user, _ in pairs], [item for _, item in pairs])


@pytest.fixture
def split() -> Split:
    return Files().apply({"train": of(HISTORIES), "test": of(WEEK)})


def test_users_are_grouped_by_the_length_of_their_history(split: Split) -> None:
    members = {
        name: split.histories.users.take(np.flatnonzero(mask)).to_list()
        for name, mask in user_groups(split, split.histories.users).items()
    }
    assert members == {
        "users with few interactions (1–2)": ["b", "c", "e"],
        "users with some interactions (3–4)": ["a", "d"],
        "users with many interactions (6–6)": ["f"],
    }


def test_figures_by_group_by_hand(split: Split) -> None:
    # Lists of the two most popular items that a user has not: of p … v, which have 6, 4, 3, 2, 1, 1 and 0 users.
    model = Popularity().fit(split.train)
    evaluation = RankingProtocol(cutoffs=(2,), metrics=("recall", "hit_rate")).evaluate(model, split)
    assert [evaluation.ranking.labels(row) for row in range(6)] == [
        ["t", "u"], ["r", "s"], ["q", "r"], ["s", "t"], ["q", "r"], ["v"],
    ]  # fmt: skip
    figures = {entry.name: entry for entry in by_group(evaluation, split, 100, 0)}
    assert figures["recall@2 of users with few interactions (1–2)"].value == pytest.approx(
        (1 / 2 + 1 + 0) / 3
    )
    assert figures["recall@2 of users with few interactions (1–2)"].n_users == 3
    assert figures["recall@2 of users with some interactions (3–4)"].value == 1
    assert figures["hit_rate@2 of users with few interactions (1–2)"].value == pytest.approx(2 / 3)
    # p is the popular fifth of seven items: nobody has it held out, so it has no recall.
    assert "recall of popular items@2" not in figures
    assert figures["recall of rare items@2"].value == evaluation["recall@2"].value
    bits = -np.log2(np.array([6, 4, 3, 2, 1, 1, 0.5]) / 6)
    _, q, r, s, t, u, v = bits
    assert figures["novelty@2"].value == pytest.approx(
        np.mean([(t + u) / 2, (r + s) / 2, (q + r) / 2, (s + t) / 2, (q + r) / 2, v])
    )
    for entry in figures.values():
        assert entry.low is not None
        assert entry.low <= entry.value <= entry.high
    assert all(entry.low is None for entry in by_group(evaluation, split, 0, 0))


def test_coverage_is_that_of_all_lists(split: Split) -> None:
    protocol = with_extra_metrics(RankingProtocol(cutoffs=(2,), metrics=("recall", "coverage")))
    assert protocol.metrics == ("recall", "coverage", "gini", "mean_popularity")
    evaluation = protocol.evaluate(Popularity().fit(split.train), split)
    assert evaluation["coverage@2"].value == 6 / 7


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # ranx's loops are compiled at first use
def test_a_group_has_the_mean_that_ranx_has_for_its_users(split: Split) -> None:
    import ranx  # type: ignore[import-untyped]

    evaluation = RankingProtocol(cutoffs=(3,), metrics=("ndcg",)).evaluate(
        Popularity().fit(split.train), split
    )
    figures = {entry.name: entry.value for entry in by_group(evaluation, split, 0, 0)}
    names = split.histories.users.to_list()
    for label, members in user_groups(split, split.histories.users).items():
        rows = np.flatnonzero(members)
        relevance = ranx.Qrels({names[row]: dict.fromkeys(WEEK[names[row]], 1) for row in rows})
        lists = ranx.Run(
            {
                names[row]: {item: -float(rank) for rank, item in enumerate(evaluation.ranking.labels(row))}
                for row in rows
            }
        )
        expected = ranx.evaluate(relevance, lists, "ndcg@3", make_comparable=True)
        assert figures[f"ndcg@3 of {label}"] == pytest.approx(expected, abs=1e-9)


def test_lists_are_cut_at_k(split: Split) -> None:
    ranking = RankingProtocol(cutoffs=(3,)).rank(Popularity().fit(split.train), split)
    assert list_measures(ranking, split, 1).names[1] == "novelty@1"
    first = list_measures(ranking, split, 1)["novelty@1"]
    assert first[1] == pytest.approx(-np.log2(3 / 6))
