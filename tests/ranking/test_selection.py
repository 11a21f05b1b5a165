"""Conditions, limits and re-ranking of lists, against the same done plainly, user by user."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError
from unblur.models.linear.neighbours import ItemKNN
from unblur.models.popularity import Popularity
from unblur.ranking import Chooser, Selection
from unblur.ranking.lists import tie_ranks

N_ITEMS = 12


def greedy(
    scores: NDArray[np.float32], selection: Selection, k: int, counts: Any, groups: Any, similar: Any
) -> list[int]:
    """One list by the formula, with every item in the pool."""
    spread = max(scores.max() - scores.min(), 1e-30) if scores.max() > scores.min() else 1.0
    value = (scores - scores.min()).astype(np.float64) / spread - selection.popularity * np.log1p(counts)
    ranks, chosen = tie_ranks(counts), list[int]()
    while len(chosen) < k:
        free = [
            item
            for item in range(len(scores))
            if item not in chosen
            and (groups[item] < 0 or sum(groups[other] == groups[item] for other in chosen) < 2)
        ]
        if not free:
            break
        gain = {
            item: selection.diversity * value[item]
            - (1 - selection.diversity) * max((similar[other, item] for other in chosen), default=0)
            for item in free
        }
        chosen.append(max(free, key=lambda item: (gain[item], scores[item], -ranks[item])))
    return chosen


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    diversity=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
    popularity=st.sampled_from([0.0, 0.1, 2.0]),
    limited=st.booleans(),
)
def test_lists_are_those_of_the_formula(
    seed: int, diversity: float, popularity: float, limited: bool
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.permutation(5 * N_ITEMS)[: 5 * N_ITEMS].reshape(5, N_ITEMS).astype(np.float32)
    counts, groups = rng.integers(1, 9, N_ITEMS), rng.integers(-1, 3, N_ITEMS)
    similar = np.round(rng.random((N_ITEMS, N_ITEMS)), 2).astype(np.float32)
    selection = Selection(diversity=diversity, popularity=popularity, at_most="2:kind" if limited else None)
    chooser = Chooser(
        k=6,
        ties=tie_ranks(counts),
        selection=selection,
        counts=counts,
        groups=groups if limited else None,
        neighbours=sparse.csr_array(similar) if diversity < 1 else None,
    )
    nobody = Interactions.from_matrix(np.zeros((5, N_ITEMS)))
    positions, best = chooser(scores.copy(), slice(0, 5), nobody)
    for row in range(5):
        free = np.full(N_ITEMS, -1) if not limited else groups
        expected = greedy(scores[row], selection, 6, counts, free, similar)
        assert positions[row][positions[row] >= 0].tolist() == expected
        assert best[row][: len(expected)].tolist() == scores[row][expected].tolist()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6), k=st.integers(1, 14), n_silent=st.integers(0, N_ITEMS), hidden=st.booleans()
)
def test_items_without_signal_are_in_the_order_of_popularity(
    seed: int, k: int, n_silent: int, hidden: bool
) -> None:
    """By sorting: noise counts as 0, and equal scores fall by count."""
    rng = np.random.default_rng(seed)
    scores = rng.permutation(4 * N_ITEMS).reshape(4, N_ITEMS).astype(np.float32) - 9
    scores[:, rng.permutation(N_ITEMS)[:n_silent]] = rng.normal(0, 1e-9, (4, n_silent))
    if hidden:
        scores[rng.random(scores.shape) < 0.3] = -np.inf
    counts = rng.integers(1, 9, N_ITEMS)
    ties = tie_ranks(counts)
    level = np.where(np.abs(scores) <= 1e-6, 0, scores)
    nobody = Interactions.from_matrix(np.ones((4, N_ITEMS)))
    positions, _ = Chooser(k=k, ties=ties, signal_threshold=1e-6)(scores.copy(), slice(0, 4), nobody)
    without = Chooser(k=k, ties=ties, signal_threshold=1e-6, selection=Selection(filler="none"))
    signal, _ = without(scores.copy(), slice(0, 4), nobody)
    for row in range(4):
        order = [item for item in np.lexsort((ties, -level[row])) if level[row, item] > -np.inf]
        assert positions[row][positions[row] >= 0].tolist() == order[:k]
        assert signal[row][signal[row] >= 0].tolist() == [item for item in order if level[row, item] > 0][:k]


def test_a_shop_whose_items_many_people_bought_once() -> None:
    """30,000 people, four in ten items bought once: what nobody shares is filled by popular items, flagged and counted."""
    rng = np.random.default_rng(0)
    n_people, n_head, n_once = 30_000, 400, 302
    bought = np.stack([np.repeat(np.arange(n_people), 2), rng.zipf(1.3, 2 * n_people) % n_head])
    buyers = np.arange(n_people, n_people + n_once)  # each has one item, that nobody else has
    pairs = np.unique(
        np.concatenate([bought, np.stack([buyers, n_head + np.arange(n_once)])], axis=1), axis=1
    )
    log = Interactions.from_pairs(pairs[0], pairs[1])
    assert (log.item_degrees == 1).mean() > 0.4
    model = ItemKNN().fit(log)
    lists = model.recommend(log, k=20)
    assert lists.filled is not None
    alone = lists.filled[-n_once:]
    assert alone.all()
    popular = np.argsort(model.tie_ranks)[:20]
    assert (lists.positions[-n_once:] == popular).all()
    assert f"{lists.n_filled:,} recommended items have no signal" in lists.notes[-1]
    none = model.recommend(log.take_users(slice(-n_once, None)), k=20, selection=Selection(filler="none"))
    assert (none.positions == -1).all()


def test_the_pool_grows_until_a_limited_list_is_full() -> None:
    """500 items, of which the best 400 share a value: a list of 20 with two of them reaches far beyond its first pool."""
    scores = -np.arange(500, dtype=np.float32)[None]
    groups = np.where(np.arange(500) < 400, 0, np.arange(500))
    chooser = Chooser(
        k=20, ties=np.arange(500), selection=Selection(at_most="2:kind"), groups=groups.astype(np.int64)
    )
    positions, _ = chooser(scores, slice(0, 1), Interactions.from_matrix(np.zeros((1, 500))))
    assert positions[0].tolist() == [0, 1, *range(400, 418)]


@pytest.fixture(scope="module")
def shop() -> tuple[Interactions, pl.DataFrame]:
    """People of two tastes, and a table of what they buy."""
    rng = np.random.default_rng(4)
    chance = np.where((np.arange(60)[:, None] + np.arange(20)[None]) % 2, 0.5, 0.05)
    matrix = (rng.random((60, 20)) < chance).astype(np.float32)
    log = Interactions.from_matrix(matrix, items=Vocabulary([f"i{n:02}" for n in range(20)]))
    kinds = ["book", "toy", "game", None]
    table = pl.DataFrame(
        {
            "sku": [f"i{n:02}" for n in range(1, 20)] + ["other"],
            "title": [f"Item {n}" for n in range(1, 20)] + ["Other"],
            "category": [kinds[n % 4] for n in range(1, 21)],
            "stock": [*range(1, 20), 0],
        }
    )
    return log, table


def test_a_model_keeps_its_side(shop: tuple[Interactions, pl.DataFrame], tmp_path: Any) -> None:
    import unblur

    log, table = shop
    model = ItemKNN().fit(log).with_side(table)
    model.save(tmp_path / "m")
    loaded = unblur.load(tmp_path / "m")
    assert loaded.side is not None
    assert model.side is not None
    assert loaded.side.equals(model.side)
    assert loaded.side.row(0) == (None, None, None)
    lists = loaded.recommend(log, k=5, selection=Selection(where='category = "toy" and stock > 9'))
    frame = lists.to_frame().drop_nulls("item")
    assert set(frame["item"]) <= {"i13", "i17"}
    assert set(frame["title"]) <= {"Item 13", "Item 17"}
    limited = loaded.recommend(log, k=8, selection=Selection(at_most="1:category")).to_frame()
    kinds = limited.join(table, left_on="item", right_on="sku").group_by("user", "category").len()
    assert kinds.drop_nulls("category")["len"].max() == 1
    (tmp_path / "m" / "side.parquet").write_bytes(b"PAR1 something else")
    with pytest.raises(unblur.errors.ArtifactError, match=r"side\.parquet"):
        unblur.load(tmp_path / "m")


def test_an_updated_model_keeps_the_side_of_its_items(shop: tuple[Interactions, pl.DataFrame]) -> None:
    from unblur.data.changes import Change

    log, table = shop
    model = ItemKNN().fit(log).with_side(table)
    updated = model.updated(Change.of(log, forget=[0]))
    assert updated.titles is not None
    assert updated.titles.to_list() == [f"Item {n}" if n else None for n in range(20)]


def test_diversity_and_its_trade(shop: tuple[Interactions, pl.DataFrame]) -> None:
    """Lists by maximal marginal relevance are less alike within, and lists against popularity hold rarer items."""
    from unblur.evaluation.metrics import diversity

    log, _ = shop
    model = ItemKNN().fit(log)
    plain = model.recommend(log, k=5)
    varied = model.recommend(log, k=5, selection=Selection(diversity=0.3))
    rare = model.recommend(log, k=5, selection=Selection(popularity=0.5))
    assert diversity(varied.positions, log).mean() > diversity(plain.positions, log).mean()
    assert log.item_degrees[rare.positions].mean() < log.item_degrees[plain.positions].mean()
    same = model.recommend(log, k=5, selection=Selection(diversity=1.0, popularity=0.0))
    assert np.array_equal(same.positions, plain.positions)


class TestRefused:
    """What cannot be selected by."""

    cases: ClassVar[list[tuple[Selection, str]]] = [
        (Selection(where="stock > 1"), "no table of them"),
        (Selection(at_most="2:category"), "no table of them"),
    ]

    def test_without_a_side(self, shop: tuple[Interactions, pl.DataFrame]) -> None:
        model = ItemKNN().fit(shop[0])
        for selection, message in self.cases:
            with pytest.raises(DataError, match=message):
                model.recommend(shop[0], k=2, selection=selection)

    def test_a_column_that_is_not_there(self, shop: tuple[Interactions, pl.DataFrame]) -> None:
        with pytest.raises(DataError, match=r"'categry' is none of them\. Did you mean 'category'"):
            ItemKNN().fit(shop[0]).with_side(shop[1]).recommend(
                shop[0], k=2, selection=Selection(at_most="2:categry")
            )

    @pytest.mark.parametrize("at_most", ["0:a", "a", "-1:a", "2:", "2"])
    def test_no_limit(self, at_most: str) -> None:
        with pytest.raises(ValueError, match="such as 2:category"):
            Selection(at_most=at_most)

    def test_similarity_without_persons(self, shop: tuple[Interactions, pl.DataFrame]) -> None:
        with pytest.raises(RuntimeError, match="looks at no history"):
            Popularity().fit(shop[0]).recommend(shop[0], k=2, selection=Selection(diversity=0.5))
