"""Blends against their formula, written out user by user."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from unblur.data.catalogue.generation import demo_interactions
from unblur.data.interactions import Interactions
from unblur.errors import SpecError
from unblur.models.blend import Blend
from unblur.models.linear.ease import EASE
from unblur.models.linear.factors import PureSVD
from unblur.models.linear.neighbours import UserKNN
from unblur.models.popularity import Popularity
from unblur.models.spectral import IdealLowPass
from unblur.recommender import Recommender
from unblur.tuning.points import set_point, space_of


@pytest.fixture(scope="module")
def train() -> Interactions:
    return demo_interactions(n_users=200, n_items=120, rng=5)


def parts() -> dict[str, Any]:
    return {
        "spectral": IdealLowPass(rank=8),
        "users": {"kind": "user-knn", "neighbours": "all", "power": 2.0},
        "ease": EASE(ridge=20.0),
    }


def scaled(model: Recommender, histories: Interactions) -> np.ndarray:
    """N(S): scores divided by the mean of the 50 greatest of items that the user does not have."""
    scores = model.score(histories).astype(np.float64)
    for row, seen in zip(scores, histories.matrix.toarray() > 0, strict=True):
        mean = np.mean(np.sort(row[~seen])[-50:])
        row /= abs(mean) if mean else 1
    return scores


def test_scores_are_the_weighted_sum_of_scaled_ones(train: Interactions) -> None:
    model = Blend(parts=parts(), weights={"users": 0.5, "ease": -0.25}).fit(train, rng=0)
    expected = scaled(IdealLowPass(rank=8).fit(train, rng=0), train)
    expected += 0.5 * scaled(UserKNN(neighbours="all", power=2.0).fit(train), train)
    expected -= 0.25 * scaled(EASE(ridge=20.0).fit(train), train)
    known = train.user_degrees > 0
    np.testing.assert_allclose(model.score(train)[known], expected[known], rtol=1e-3, atol=1e-4)


def test_a_part_alone_ranks_as_the_model_itself(train: Interactions) -> None:
    alone = Blend(parts={"only": EASE()}, weights={"only": 3.0}).fit(train)
    assert np.array_equal(
        alone.recommend(train, k=10).positions, EASE().fit(train).recommend(train, k=10).positions
    )


def test_negative_scores_keep_their_order_and_few_unseen_items_are_no_error() -> None:
    train = Interactions.from_matrix(np.array([[1, 1, 1, 0], [1, 0, 0, 1], [0, 1, 1, 1], [1, 1, 1, 1]]))
    below = Blend(parts={"ease": EASE()}, weights={"ease": -1.0})
    nested = Blend(parts={"below": below, "none": PureSVD(rank=1)}, weights={"none": 0.0}).fit(train)
    scores = EASE().fit(train).score(train)
    unseen = train.matrix.toarray() == 0
    expected = np.where(unseen, -scores, -np.inf).argmax(axis=1)
    some = unseen.any(axis=1)
    assert np.array_equal(nested.recommend(train, k=1).positions[some, 0], expected[some])
    assert np.isfinite(nested.score(train)).all()


def test_an_explanation_is_the_weighted_sum_of_those_of_the_parts(train: Interactions) -> None:
    spec = Blend(parts={"ease": EASE(), "spectral": IdealLowPass(rank=8)}, weights={"spectral": 0.5})
    model = spec.fit(train, rng=0)
    history = train.take_users([3])
    item = train.items.to_list()[7]
    explanation = model.explain(history, item)
    assert explanation.exact
    assert explanation.shares.sum() == pytest.approx(explanation.score, rel=1e-4)
    shares = dict.fromkeys(explanation.history.to_list(), 0.0)
    for name, weight in (("ease", 1.0), ("spectral", 0.5)):
        part = model.parts[name]
        own = part.explain(history, item)
        scale = own.score / scaled(part, history)[0, 7]
        for label, share in zip(own.history.to_list(), own.shares, strict=True):
            shares[label] += weight * share / scale
    np.testing.assert_allclose(
        explanation.shares, [shares[label] for label in explanation.history.to_list()], rtol=1e-3, atol=1e-6
    )
    by_occlusion = Blend(parts={"users": UserKNN(), "ease": EASE()}).fit(train).explain(history, item)
    assert not by_occlusion.exact


def test_what_it_can_do_follows_from_its_parts() -> None:
    assert not Blend(parts={"a": EASE()}).stochastic
    assert Blend(parts={"a": EASE(), "b": {"kind": "mult-vae"}}).stochastic
    assert not Blend(parts={"a": Popularity()}).personal
    assert Blend(parts={"a": EASE(), "b": {"kind": "recency"}}).needs_timestamps


def test_a_search_varies_the_parts_and_the_weights() -> None:
    base = Blend(parts=parts())
    space = space_of(base)
    names = [dimension.name for dimension in space]
    assert {"parts.spectral.degrees.item", "parts.users.power", "parts.ease.ridge"} <= set(names)
    assert [name for name in names if name.startswith("weights")] == ["weights.users", "weights.ease"]
    point = {dimension.name: (dimension.all() or ())[0] for dimension in space}
    changed = set_point(base, space, point)
    assert changed.models["ease"] == EASE(ridge=50.0)
    assert changed.weights == {"spectral": 1.0, "users": 0.1, "ease": 0.1}
    ranks = space_of(base, largest_rank=100)
    assert next(d.all() for d in ranks if d.name == "parts.spectral.rank") == (64,)


@pytest.mark.parametrize(
    "values",
    [
        {"parts": {}},
        {"parts": {"a.b": {"kind": "ease"}}},
        {"parts": {"a": {"kind": "nothing"}}},
        {"parts": {"a": {"kind": "ease", "ridge": -1.0}}},
        {"parts": {"a": {"ridge": 1.0}}},
        {"parts": {"a": {"kind": "ease"}}, "weights": {"b": 1.0}},
        {"parts": {f"p{number}": {"kind": "ease"} for number in range(101)}},
        {
            "parts": {
                f"p{number}": {"kind": "blend", "parts": {name: {"kind": "ease"} for name in "abcdefghij"}}
                for number in range(10)
            }
        },
    ],
)
def test_what_cannot_be_blended_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        Blend(**values)
