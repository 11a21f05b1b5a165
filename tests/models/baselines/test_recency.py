"""Half-lives: closed forms, limits and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tests.models.diffusion.generated import communities, without_times
from unblur.data.interactions import Interactions
from unblur.errors import DataError, SpecError
from unblur.experiment.ranking import RankingTask
from unblur.experiment.recipe.schema import Recipe
from unblur.models.linear.ease import EASE
from unblur.models.linear.neighbours import ItemKNN
from unblur.models.linear.recency import INNER, Recency
from unblur.registry import recommender_spec
from unblur.spec import replace_field, spec_from_dict, spec_to_dict

DATA = communities()


def row(times: list[int]) -> Interactions:
    return Interactions.from_pairs(["u"] * len(times), list(range(len(times))), timestamps=times)


def test_ages_in_items_count_back_from_the_newest() -> None:
    weights = Recency(half_life=2.0).weighted(row([30, 10, 20])).data
    assert weights == pytest.approx([1.0, 2 ** (-2 / 2), 2 ** (-1 / 2)])


def test_items_of_one_moment_are_in_the_order_of_their_rows() -> None:
    weights = Recency(half_life=1.0).weighted(row([5, 9, 5, 9])).data
    assert weights == pytest.approx([2**-3, 2**-1, 2**-2, 1.0])


def test_ages_in_time() -> None:
    day = 86_400
    assert Recency(half_life=3.0, unit="days").weighted(row([0, 3 * day, 6 * day])).data == pytest.approx(
        [0.25, 0.5, 1.0]
    )
    assert Recency(half_life=4.0, unit="seconds").weighted(row([-4, 0])).data == pytest.approx([0.5, 1.0])


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=12), st.sampled_from(["items", "seconds", "days"]))
def test_newer_never_counts_less(times: list[int], unit: str) -> None:
    weights = Recency(half_life=1.5, unit=unit).weighted(row(times)).data
    order = np.argsort(times, kind="stable")
    assert (np.diff(weights[order]) >= 0).all()
    assert (weights > 0).all()
    assert weights.max() <= 1
    shifted = Recency(half_life=1.5, unit=unit).weighted(row([time + 1000 for time in times])).data
    assert np.array_equal(weights, shifted)


@pytest.mark.parametrize("kind", sorted(INNER))
def test_an_endless_half_life_is_the_inner_model(kind: str) -> None:
    expected = recommender_spec(kind)().fit(DATA, rng=0).score(DATA)
    scores = Recency(inner={"kind": kind}, half_life=1e12).fit(DATA, rng=0).score(DATA)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)


def test_a_brief_half_life_sees_the_last_item_alone() -> None:
    data = row([3, 9, 6])
    wide = Interactions.from_pairs(
        DATA.users.take(DATA.rows()).series,
        DATA.items.take(DATA.matrix.indices).series,
        timestamps=DATA.timestamps,
    )
    model = Recency(inner={"kind": "item-knn"}, half_life=0.01).fit(wide)
    history = data.onto(items=wide.items)
    expected = ItemKNN().fit(wide).score(history.keep(history.timestamps == 9))
    np.testing.assert_allclose(model.score(history), expected, atol=1e-6)


def test_train_rows_can_be_weighted() -> None:
    spec = Recency(inner=EASE(ridge=10.0), half_life=3.0, train_rows=True)
    x = spec.weighted(DATA).toarray().astype(np.float64)
    inverse = np.linalg.inv(x.T @ x + 10 * np.eye(x.shape[1]))
    expected = x @ (np.eye(x.shape[1]) - inverse / np.diag(inverse))
    known = DATA.user_degrees > 0
    np.testing.assert_allclose(spec.fit(DATA).score(DATA)[known], expected[known], atol=1e-4)


def test_the_inner_spec_is_plain_data_in_specs_and_recipes() -> None:
    spec = Recency(inner=EASE(ridge=10.0))
    assert spec.inner == {"kind": "ease", "ridge": 10.0, "dropout": 0.0, "weights": "binary"}
    assert spec == Recency(inner={"kind": "ease", "ridge": 10.0})
    assert spec_from_dict(Recency, spec_to_dict(spec)) == spec
    assert replace_field(spec, "inner.ridge", 20.0).model == EASE(ridge=20.0)
    recipe = Recipe(name="ours/log", task=RankingTask(model=spec))
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert recipe.changed({"model.inner.ridge": 30.0}).model.model == EASE(ridge=30.0)


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        ({"kind": "eese"}, "Did you mean 'ease'"),
        ({}, "must be one that takes weighted rows: ease, item-knn"),
        ({"kind": "popularity"}, "saw 'popularity'"),
        ({"kind": "ease", "ridge": -1.0}, "ridge of EASE"),
        ({"kind": "ease", "rigde": 1.0}, "Did you mean 'ridge'"),
    ],
)
def test_bad_inner_models_are_refused(inner: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Recency(inner=inner)


def test_data_without_times_are_refused() -> None:
    with pytest.raises(DataError, match=r"timestamps; these have none.*fit the inner model \(ease\)"):
        Recency().fit(without_times(DATA))
