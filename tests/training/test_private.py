"""DP-SGD: batches are Poisson samples, noise is as planned and cannot be guessed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unblur.privacy.accountant import NoisySums, Stage
from unblur.privacy.clipping import Uses
from unblur.training.loop import Moment
from unblur.training.private import train_privately
from unblur.training.settings import Optimizer


def test_batches_are_poisson_samples_and_noise_has_the_planned_deviation() -> None:
    module = torch.nn.Linear(50, 40, bias=False)
    module.weight.data.zero_()
    sizes: list[int] = []
    stage = Stage("one", 400, 40, 100)

    def each(rows: torch.Tensor, moment: Moment, generator: torch.Generator, uses: Uses) -> torch.Tensor:
        sizes.append(len(rows))
        inputs = torch.zeros(len(rows), 50)
        outputs = module(inputs)
        uses.layer("only", inputs, outputs)
        return outputs.sum(1)

    train_privately(
        module,
        each,
        stage,
        Optimizer(name="sgd", learning_rate=1.0),
        sums=NoisySums(2.0, 3.0, np.random.default_rng(1)),
        decay=False,
        seed=1,
        progress=lambda event: None,
    )
    assert np.mean(sizes) == pytest.approx(40, abs=1)
    assert np.std(sizes) == pytest.approx(np.sqrt(400 * 0.1 * 0.9), rel=0.1)
    # 1,000 steps of noise N(0, 6²)/40 and no gradient: a random walk of deviation 0.15·√1000.
    assert float(module.weight.detach().std()) == pytest.approx(0.15 * np.sqrt(1000), rel=0.06)


def test_batches_and_noise_depend_on_more_than_32_bits() -> None:
    """torch uses 32 bits of a seed on a CPU: whoever tried them all would know the noise."""

    def trained(seed: int, secret: int) -> torch.Tensor:
        module = torch.nn.Linear(5, 4, bias=False)
        module.weight.data.zero_()
        train_privately(
            module,
            lambda rows, moment, generator, uses: zero_gradient_losses(module, rows, uses),
            Stage("one", 40, 4, 2),
            Optimizer(name="sgd", learning_rate=1.0),
            sums=NoisySums(1.0, 1.0, np.random.default_rng(secret)),
            decay=False,
            seed=seed,
            progress=lambda event: None,
        )
        return module.weight.detach().clone()

    assert torch.equal(trained(1, 7), trained(2, 7))  # this loss draws nothing itself
    assert not torch.equal(trained(1, 7), trained(1, 7 + 2**32))


def zero_gradient_losses(module: torch.nn.Module, rows: torch.Tensor, uses: Uses) -> torch.Tensor:
    inputs = torch.zeros(len(rows), 5)
    outputs = module(inputs)
    uses.layer("only", inputs, outputs)
    return outputs.sum(1)
