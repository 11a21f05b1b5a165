"""Mult-DAE and Mult-VAE: networks and losses against plain NumPy, training, stopping and resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from tests.models.diffusion.generated import communities
from tests.models.diffusion.trainable import same_bytes
from unblur.data.interactions import Interactions
from unblur.data.splits import Random
from unblur.models.neural.mult_vae import MultDAE, MultinomialLearner, MultinomialRecommender, MultVAE
from unblur.progress import Run
from unblur.training.loop import Moment
from unblur.training.settings import Optimizer, Stopping

DATA = communities()
FILLED = DATA.take_users(np.flatnonzero(DATA.user_degrees))
STOPPING = Stopping(every=2, patience=20, metric="ndcg@10")
QUICK = Optimizer(name="adam", learning_rate=0.01)
DAE = MultDAE(dims=(12,), epochs=10, batch_size=40, optimizer=QUICK, stopping=STOPPING)
VAE = MultVAE(dims=(16, 8), epochs=10, batch_size=40, optimizer=QUICK, stopping=STOPPING, kl_batches=100)
SPECS = pytest.mark.parametrize("spec", [DAE, VAE], ids=["mult-dae", "mult-vae"])


def weights_of(model: MultinomialRecommender) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, dtype=np.float64) for name, value in model.tensors().items()}


def by_hand(w: dict[str, np.ndarray], data: Interactions, spec: MultDAE | MultVAE) -> tuple[Any, Any, Any]:
    """μ, log σ² and logits at μ."""
    x = data.matrix.toarray().astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    if not spec.variational:
        mean = np.tanh(x @ w["table"] + w["encoder_biases.0"])
        return mean, None, mean @ w["decoder.0"].T + w["decoder_biases.0"]
    h = np.tanh(x @ w["table"] + w["encoder_biases.0"]) @ w["encoder.0"].T + w["encoder_biases.1"]
    mean, log_variance = h[:, :8], h[:, 8:]
    inside = np.tanh(mean @ w["decoder.0"].T + w["decoder_biases.0"])
    return mean, log_variance, inside @ w["decoder.1"].T + w["decoder_biases.1"]


@SPECS
def test_scores_are_the_logits_at_the_mean(spec: MultDAE | MultVAE) -> None:
    model = spec.fit(DATA, rng=1)
    expected = by_hand(weights_of(model), FILLED, spec)[2]
    np.testing.assert_allclose(model.score(FILLED), expected, atol=2e-5)


@SPECS
def test_the_loss_is_the_papers(spec: MultDAE | MultVAE) -> None:
    """Without dropout and with zero variance the loss is deterministic (equations 2 and 7)."""
    calm = type(spec)(**{**vars_of(spec), "dropout": 0.0})
    learner = MultinomialLearner(calm, DATA, DATA.item_degrees, 0, torch.device("cpu"))
    w = weights_of(learner.fitted(learner.module.state_dict()))
    if isinstance(spec, MultVAE):
        with torch.no_grad():
            learner.module.encoder[0][8:] = 0
            learner.module.encoder_biases[1][8:] = -60.0
        w = weights_of(learner.fitted(learner.module.state_dict()))
    mean, log_variance, logits = by_hand(w, FILLED, spec)
    x = FILLED.matrix.toarray()
    expected = -(x * (logits - logsumexp(logits, axis=1, keepdims=True))).sum(axis=1).mean()
    for update, beta in ((0, 0.0), (7, 0.07), (20, 0.2), (90, 0.2)):
        loss = learner.loss(torch.arange(len(x)), Moment(1, update), torch.Generator().manual_seed(0))
        divergence = 0.0
        if log_variance is not None:
            divergence = -0.5 * (1 + log_variance - mean**2 - np.exp(log_variance)).sum(axis=1).mean()
        assert float(loss.detach()) == pytest.approx(expected + beta * divergence, rel=1e-4)


def vars_of(spec: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(spec).items() if not name.startswith("_")}


@SPECS
def test_the_loss_falls_and_communities_are_learned(spec: MultDAE | MultVAE) -> None:
    split = Random(fraction=0.3).apply(DATA, rng=0)
    run = spec.training(split.train, rng=1)
    losses = [report.loss for report in run.epochs()]
    assert losses[-1] < 0.95 * losses[0]
    ranking = run.fitted().recommend(split.histories, k=10)
    hits = split.held_out.contains(np.repeat(np.arange(split.train.n_users), 10), ranking.positions.ravel())
    expected_hits = 10 * split.held_out.n_interactions / DATA.n_items
    assert hits.sum() > 2 * expected_hits


@SPECS
def test_a_seed_gives_the_same_bytes(spec: MultDAE | MultVAE) -> None:
    assert same_bytes(spec.fit(DATA, rng=3), spec.fit(DATA, rng=3))
    assert not same_bytes(spec.fit(DATA, rng=3), spec.fit(DATA, rng=4))


@SPECS
def test_an_interrupted_run_ends_in_the_same_bytes(spec: MultDAE | MultVAE, tmp_path: Path) -> None:
    run = spec.training(DATA, rng=5, run=Run(checkpoints=tmp_path))
    for report in run.epochs():
        if report.epoch == 6:
            break
    assert same_bytes(spec.fit(DATA, rng=5, checkpoints=tmp_path), spec.fit(DATA, rng=5))


def test_training_stops_by_a_given_validation_part() -> None:
    split = Random(fraction=0.3).apply(DATA, rng=0)
    run = DAE.training(split.train, rng=1, validation=split.held_out)
    values = [report.validation for report in run.epochs() if report.validation is not None]
    assert len(values) == 5
    assert run.best is not None
    assert run.best.validation == max(values)
