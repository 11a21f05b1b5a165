"""Clipped gradients, against one row at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unblur.data.interactions import Interactions
from unblur.privacy.clipping import Uses, clipped_gradients
from unblur.synthesis.autoencoder import AutoencoderLearner, VariationalAutoencoder
from unblur.synthesis.latent_diffusion import CodesLearner, LatentDiffusion
from unblur.training.loop import Moment


def one_by_one(
    parameters: list[torch.nn.Parameter], losses: torch.Tensor, clip_norm: float
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The sum of clipped gradients, and their norms, by one backward pass for each row."""
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    norms = []
    for loss in losses:
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
        norm = torch.sqrt(sum((each.square().sum() for each in gradients), torch.zeros(())))
        norms.append(norm)
        for total, each in zip(sums, gradients, strict=True):
            total += each * min(1.0, clip_norm / max(1e-12, float(norm)))
    return sums, torch.stack(norms)


def assert_clipped(parameters: list[torch.nn.Parameter], losses: torch.Tensor, uses: Uses) -> None:
    norms = uses.squared_norms(losses).sqrt()
    clip_norm = float(norms.median())
    expected, expected_norms = one_by_one(parameters, losses, clip_norm)
    np.testing.assert_allclose(norms.detach(), expected_norms, rtol=1e-4)
    for ours, theirs in zip(clipped_gradients(parameters, losses, uses, clip_norm), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * max(1.0, float(theirs.abs().max())))


@pytest.mark.parametrize("dense_from", [0.0, 2.0])
def test_clipped_gradients_of_the_autoencoder(
    log: Interactions, dense_from: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unblur.synthesis.autoencoder.DENSE_FROM", dense_from)
    learner = AutoencoderLearner(VariationalAutoencoder(hidden=9, latent=4), log, 1, torch.device("cpu"))
    uses = Uses()
    losses = learner.losses(torch.arange(51), Moment(1, 500), torch.Generator().manual_seed(1), uses)
    assert_clipped(list(learner.network.parameters()), losses, uses)


@pytest.mark.parametrize("tied", [False, True])
def test_clipped_gradients_of_the_denoiser(tied: bool) -> None:
    settings = LatentDiffusion(steps=5, hidden_layers=3, tied_hidden_layers=tied, objective="noise")
    learner = CodesLearner(settings, torch.randn(20, 6, generator=torch.Generator().manual_seed(1)), 0)
    uses = Uses()
    losses = learner.losses(torch.arange(20), Moment(1, 0), torch.Generator().manual_seed(2), uses)
    assert_clipped(list(learner.network.parameters()), losses, uses)
