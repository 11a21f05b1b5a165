"""The published numbers and the reference lists, on the real data. `make reproduce` runs more of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from unblur.data.catalogue.copies import load
from unblur.experiment.ranking import prepare
from unblur.experiment.recipe.library import load_recipe
from unblur.experiment.running import Outcome, measure
from unblur.models.spectral.polynomial_filter import PolynomialFilter

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


def measured(data: str) -> Outcome:
    if not (Path(os.environ["UNBLUR_DATA"]) / data).is_dir():
        pytest.skip(f"needs {data}, which is not under UNBLUR_DATA")
    return measure(prepare(load_recipe(f"bspm/{data}")))


@pytest.fixture(scope="module")
def gowalla() -> Outcome:
    return measured("gowalla")


def test_bspm_on_gowalla_gives_the_published_numbers(gowalla: Outcome) -> None:
    assert gowalla.report["recall@20"].value == pytest.approx(0.1920, abs=0.0003)
    assert gowalla.report["ndcg@20"].value == pytest.approx(0.1597, abs=0.0003)
    assert gowalla.report["recall@20"].n_users == 29_858
    assert not gowalla.report.missed()


def test_all_singular_vectors_are_accurate(gowalla: Outcome) -> None:
    """``‖Aᵀu − σv‖`` with ``u = Av/σ``: at most 1e-5 for all 448."""
    model = gowalla.model
    assert isinstance(model, PolynomialFilter)
    a, v = model.normalized.astype(np.float64), model.right.astype(np.float64)
    values = model.singular_values
    assert v.shape == (40_981, 448)
    residuals = np.linalg.norm(a.T @ (a @ v / values) - v * values, axis=0)
    assert residuals.max() <= 1e-5
    assert np.abs(v.T @ v - np.eye(448)).max() <= 1e-5
    assert values[0] == pytest.approx(1, abs=1e-5)
    assert values[-1] ** 2 == pytest.approx(0.204, abs=5e-4)


def test_the_best_20_of_200_users_are_those_of_the_reference(gowalla: Outcome) -> None:
    reference = Path(os.environ["UNBLUR_DATA"]).parent / "golden" / "bspm-gowalla.npz"
    if not reference.is_file():
        pytest.skip("needs golden/bspm-gowalla.npz beside UNBLUR_DATA")
    with np.load(reference, allow_pickle=False) as arrays:
        users, items, scores = arrays["users"], arrays["items"][:, :20], arrays["scores"][:, :20]
    train = load("gowalla")["train"].onto(items=gowalla.model.items)
    ranking = gowalla.model.recommend(train.select_users(users), k=20)
    overlaps = [
        len(set(ours) & set(theirs)) / 20 for ours, theirs in zip(ranking.positions, items, strict=True)
    ]
    assert np.mean(overlaps) >= 0.999
    assert np.abs(ranking.scores - scores).max() <= 1e-4


@pytest.mark.skipif(not os.environ.get("UNBLUR_SLOW"), reason="takes a minute more; set UNBLUR_SLOW=1")
def test_bspm_on_yelp2018_gives_the_published_numbers() -> None:
    report = measured("yelp2018").report
    assert report["recall@20"].value == pytest.approx(0.0720, abs=0.0003)
    assert report["ndcg@20"].value == pytest.approx(0.0593, abs=0.0003)
    assert report["recall@20"].n_users == 31_668
    assert not report.missed()
