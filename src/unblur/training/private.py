"""DP-SGD (Abadi et al., CCS 2016): Poisson batches, gradients cut user by user, Gaussian noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from unblur.privacy.accountant import NoisySums, Stage
from unblur.privacy.clipping import Uses
from unblur.progress import Progress, ProgressEvent
from unblur.randomness import torch_generator
from unblur.training.loop import DivergedTraining, Moment, make_optimizer
from unblur.training.settings import Optimizer

EachLoss = Callable[[Tensor, Moment, torch.Generator, Uses], Tensor]
"""The loss of each of some users, (n,), none of which touches another's; it records what they pass."""


def train_privately(
    module: nn.Module,
    each_loss: EachLoss,
    stage: Stage,
    optimizer: Optimizer,
    *,
    sums: NoisySums,
    decay: bool,
    seed: int,
    progress: Progress,
) -> None:
    """Train `module` in place. What it reveals about a user is bounded by what `privacy.accountant` says of `stage`.

    The noisy sum of the cut gradients is divided by the expected batch size, whatever the real one was. Batches and noise
    come from `sums`; the loss draws from a generator of its own, seeded by `seed`. With `decay` the learning rate falls
    linearly from epoch to epoch. Raises `DivergedTraining` if a weight is not finite in the end.
    """
    parameters = list(module.parameters())
    device = parameters[0].device
    generator = torch_generator(np.random.SeedSequence([seed, 1]), str(device))
    steps = make_optimizer(parameters, optimizer)
    each_epoch = stage.updates // stage.epochs
    module.train()
    for update in range(stage.updates):
        epoch = update // each_epoch + 1
        if decay:
            for group in steps.param_groups:
                group["lr"] = optimizer.learning_rate * (1 - (epoch - 1) / stage.epochs)
        rows, uses = torch.from_numpy(sums.sample(stage)).to(device), Uses()
        losses = each_loss(rows, Moment(epoch, update), generator, uses) if len(rows) else None
        for parameter, total in zip(parameters, sums.gradients(parameters, losses, uses), strict=True):
            parameter.grad = total / stage.batch_size
        steps.step()
        if (update + 1) % each_epoch == 0:
            progress(ProgressEvent("train privately", epoch, stage.epochs, kind="epoch", part=stage.name))
    module.eval()
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        raise DivergedTraining(
            f"All weights must stay finite; those of {stage.name} did not. Lower its learning rate."
        )
