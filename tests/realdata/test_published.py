"""The published numbers and the reference lists, on the real data. `make reproduce` runs more of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from unblur.datasets import load
from unblur.experiment import Outcome, measure, prepare
from unblur.recipe import load_recipe

pytestmark = [pytest.mark.realdata, pytest.mark.slow]


@pytest.fixture(scope="module")
def gowalla() -> Outcome:
    if not (Path(os.environ["UNBLUR_DATA"]) / "gowalla").is_dir():
        pytest.skip("needs gowalla under UNBLUR_DATA")
    return measure(prepare(load_recipe("bspm/gowalla")))


def test_bspm_on_gowalla_gives_the_published_numbers(gowalla: Outcome) -> None:
    assert gowalla.report["recall@20"].value == pytest.approx(0.1920, abs=0.0003)
    assert gowalla.report["ndcg@20"].value == pytest.approx(0.1597, abs=0.0003)
    assert gowalla.report["recall@20"].n_users == 29_858
    assert not gowalla.report.missed()


def test_the_best_20_of_200_users_are_those_of_the_reference(gowalla: Outcome) -> None:
    reference = Path(os.environ["UNBLUR_DATA"]).parent / "golden" / "bspm-gowalla.npz"
    if not reference.is_file():
        pytest.skip("needs golden/bspm-gowalla.npz beside UNBLUR_DATA")
    with np.load(reference, allow_pickle=False) as arrays:
        users, items, scores = arrays["users"], arrays["items"][:, :20], arrays["scores"][:, :20]
    train = load("gowalla")["train"].onto(items=gowalla.model.items)
    ranking = gowalla.model.recommend(train.select_users(users), k=20)
    same = [len(set(ours) & set(theirs)) / 20 for ours, theirs in zip(ranking.positions, items, strict=True)]
    assert np.mean(same) >= 0.999
    assert np.abs(ranking.scores - scores).max() <= 1e-4
