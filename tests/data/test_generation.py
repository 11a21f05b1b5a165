"""The demonstration data and generated sets: the same for the same rng, and of the stated shape."""

import hashlib
import time

import numpy as np
import pytest

from unblur import EASE, Interactions, Popularity
from unblur.data import catalogue as datasets
from unblur.data.catalogue.generation import demo_interactions, generated
from unblur.data.splits import LeaveLast, Random
from unblur.errors import DataError


def recall(model: Popularity | EASE, data: Interactions, *, last: bool = False) -> float:
    split = LeaveLast(n=3).apply(data) if last else Random(fraction=0.2).apply(data, rng=5)
    lists = model.fit(split.train).recommend(split.histories, k=20).positions
    hits = split.held_out.contains(np.repeat(np.arange(data.n_users), 20), lists.ravel())
    degrees = split.held_out.user_degrees
    return float((hits.reshape(-1, 20).sum(axis=1)[degrees > 0] / degrees[degrees > 0]).mean())


@pytest.fixture(scope="module")
def demo() -> Interactions:
    return demo_interactions()


def test_the_demo_has_people_and_films(demo: Interactions) -> None:
    assert (demo.n_users, demo.n_items) == (3000, 1000)
    assert 90_000 < demo.n_interactions < 120_000
    assert demo.timestamps is not None
    assert "anna-001" in demo.users.to_list()
    titles = demo.items.to_list()
    assert "Quiet Monastery (documentary)" in titles
    assert all(title.endswith(")") and title[0].isupper() for title in titles)
    assert demo.user_degrees.min() >= 5


def test_the_demo_is_the_same_each_time(demo: Interactions) -> None:
    assert demo_interactions().fingerprint() == demo.fingerprint()
    assert datasets.load("demo")["all"].fingerprint() == demo.fingerprint()
    assert datasets.locate("demo") == {}
    assert demo_interactions(rng=1).fingerprint() != demo.fingerprint()
    assert demo_interactions(rng=1).fingerprint() == demo_interactions(rng=1).fingerprint()
    digest = hashlib.sha256(demo.matrix.indices.astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "b8e6247f105e0b57"


def test_popular_films_of_the_demo_are_far_more_popular(demo: Interactions) -> None:
    degrees = np.sort(demo.item_degrees)[::-1]
    assert degrees[:100].sum() > 0.25 * degrees.sum()
    assert degrees[0] > 5 * np.median(degrees)


def test_taste_beats_popularity_on_the_demo(demo: Interactions) -> None:
    popular, personal = recall(Popularity(), demo), recall(EASE(ridge=200.0), demo)
    assert 0.05 < popular < 0.15
    assert personal > 2.5 * popular


def test_tastes_of_the_demo_drift(demo: Interactions) -> None:
    assert recall(EASE(ridge=200.0), demo, last=True) < 0.9 * recall(EASE(ridge=200.0), demo)


def test_demos_of_other_sizes() -> None:
    small = demo_interactions(50, 60, rng=3)
    assert (small.n_users, small.n_items) == (50, 60)
    large = demo_interactions(500, 4000, rng=3)
    assert large.n_users == 500
    assert len(set(large.items.to_list())) == large.n_items > 2000
    with pytest.raises(DataError, match="at least 10 users and 60 items"):
        demo_interactions(5, 1000)


def test_generated_sets_have_the_requested_shape() -> None:
    data = generated(2000, 1500, 50_000, rng=0)
    assert (data.n_users, data.n_items, data.n_interactions) == (2000, 1500, 50_000)
    assert data.user_degrees.min() >= 1
    assert generated(2000, 1500, 50_000, rng=0).fingerprint() == data.fingerprint()
    assert generated(2000, 1500, 50_000, rng=1).fingerprint() != data.fingerprint()
    for degrees in (data.user_degrees, data.item_degrees):
        ranked = np.sort(degrees)[::-1]
        tenth = ranked[: len(ranked) // 10].sum() / ranked.sum()
        assert 0.25 < tenth < 0.6
        assert abs(np.corrcoef(np.arange(len(degrees)), degrees)[0, 1]) < 0.1, "ids must not tell the degree"


@pytest.mark.parametrize("shape", [(1, 4, 1), (10, 4, 10), (30, 20, 150), (1, 1000, 250), (300, 300, 300)])
def test_generated_sets_at_the_limits(shape: tuple[int, int, int]) -> None:
    data = generated(*shape, rng=2)
    assert (data.n_users, data.n_items, data.n_interactions) == shape


@pytest.mark.parametrize("shape", [(10, 10, 9), (10, 10, 26), (0, 10, 0), (10, 0, 10)])
def test_generated_sets_beyond_the_limits(shape: tuple[int, int, int]) -> None:
    with pytest.raises(DataError, match="quarter of all pairs"):
        generated(*shape)


def test_the_block_size_does_not_change_the_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unblur.data.catalogue.generation.BLOCK_PAIRS", 1000)
    data = generated(500, 300, 20_000, rng=0)
    assert data.n_interactions == 20_000
    assert data.user_degrees.min() >= 1


@pytest.mark.slow
def test_two_million_interactions_take_seconds() -> None:
    start = time.perf_counter()
    assert generated(50_000, 30_000, 2_000_000, rng=0).n_interactions == 2_000_000
    assert time.perf_counter() - start < 30
