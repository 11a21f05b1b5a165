"""DiffRec on MovieLens 1M, a few epochs: it learns, and fewer reverse steps cost as little as the docs say."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from unblur.data.catalogue.copies import load
from unblur.data.interactions import Interactions
from unblur.models.diffusion.diffrec import DiffRec, DiffRecRecommender
from unblur.models.diffusion.sampling import denoise, reverse_chain
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import Denoiser, Sampling
from unblur.models.popularity import Popularity
from unblur.training.rows import SparseRows

pytestmark = [pytest.mark.realdata]

SPEC = DiffRec(
    schedule=Schedule(name="linear-var", steps=40, scale=0.005, noise_min=0.005, noise_max=0.01),
    denoiser=Denoiser(dims=(200, 600)),
    stopping=None,
    epochs=5,
)


@dataclass(frozen=True)
class Trained:
    model: DiffRecRecommender
    losses: list[float]
    train: Interactions
    validation: Interactions


@pytest.fixture(scope="module")
def trained() -> Trained:
    if not (Path(os.environ["UNBLUR_DATA"]) / "ml-1m_clean").is_dir():
        pytest.skip("needs ml-1m_clean, which is not under UNBLUR_DATA")
    parts = load("ml-1m_clean")
    train = parts["train"]
    run = SPEC.training(train, rng=0)
    losses = [report.loss for report in run.epochs()]
    validation = parts["valid"].onto(users=train.users, items=train.items, unknown="ignore")
    return Trained(run.fitted(), losses, train.take_users(range(1500)), validation.take_users(range(1500)))


def recall(model: object, trained: Trained) -> float:
    """Recall@20 on validation, mean over users who have validation items."""
    ranking = model.recommend(trained.train, k=20)  # type: ignore[attr-defined]
    relevant = trained.validation.matrix.toarray() > 0
    hits = np.take_along_axis(relevant, ranking.positions.astype(np.intp), axis=1).sum(1)
    has_relevant = relevant.any(1)
    return float((hits[has_relevant] / relevant[has_relevant].sum(1)).mean())


def changed(model: DiffRecRecommender, sampling: Sampling) -> DiffRecRecommender:
    return replace(model, spec=replace(SPEC, sampling=sampling))


def test_the_loss_falls_and_ranks_beat_popularity(trained: Trained) -> None:
    assert trained.losses[-1] < 0.7 * trained.losses[0]
    popularity = Popularity().fit(load("ml-1m_clean")["train"])
    assert recall(trained.model, trained) > 1.1 * recall(popularity, trained)


def test_one_reverse_step_ranks_about_as_well_as_forty(trained: Trained) -> None:
    all_steps, one_step = (
        changed(trained.model, sampling) for sampling in (Sampling(), Sampling(inference_steps=1))
    )
    assert recall(one_step, trained) == pytest.approx(recall(all_steps, trained), abs=0.01)
    assert np.abs(one_step.score(trained.train) - all_steps.score(trained.train)).max() < 0.9


def test_the_folded_chain_equals_its_steps(trained: Trained) -> None:
    rows = trained.train.take_users(range(500))
    plain = denoise(
        trained.model.network, reverse_chain(SPEC.schedule), SparseRows.of(rows.matrix).all().dense()
    )
    assert np.abs(trained.model.score(rows) - plain.numpy()).max() <= 1e-5
