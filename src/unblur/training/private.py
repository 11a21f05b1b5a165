"""DP-SGD (Abadi et al., CCS 2016): Poisson batches, gradients clipped user by user, Gaussian noise."""

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

UserLosses = Callable[[Tensor, Moment, torch.Generator, Uses], Tensor]
"""From users to the loss of each, (n,), of which none depends on another's row; records the layers in `Uses`."""


def train_privately(
    module: nn.Module,
    user_losses: UserLosses,
    stage: Stage,
    optimizer: Optimizer,
    *,
    sums: NoisySums,
    decay: bool,
    seed: int,
    progress: Progress,
) -> None:
    """Train `module` in place; `privacy.accountant` bounds what it reveals about a user by `stage`.

    The noisy sum of the clipped gradients is divided by the expected batch size, whatever the real one was, since the
    number of users in a batch is private too. Batches and noise come from `sums`; the loss draws from a generator of
    its own, seeded by `seed`. With `decay` the learning rate falls linearly from epoch to epoch. Raises
    `DivergedTraining` if a weight is not finite in the end.
    """
    parameters = list(module.parameters())
    device = parameters[0].device
    generator = torch_generator(np.random.SeedSequence([seed, 1]), str(device))
    torch_optimizer = make_optimizer(parameters, optimizer)
    updates_per_epoch = stage.updates // stage.epochs
    module.train()
    for update in range(stage.updates):
        epoch = update // updates_per_epoch + 1
        if decay:
            for group in torch_optimizer.param_groups:
                group["lr"] = optimizer.learning_rate * (1 - (epoch - 1) / stage.epochs)
        rows, uses = torch.from_numpy(sums.sample(stage)).to(device), Uses()
        losses = user_losses(rows, Moment(epoch, update), generator, uses) if len(rows) else None
        for parameter, total in zip(parameters, sums.gradients(parameters, losses, uses), strict=True):
            parameter.grad = total / stage.batch_size
        torch_optimizer.step()
        if (update + 1) % updates_per_epoch == 0:
            progress(ProgressEvent("train privately", epoch, stage.epochs, kind="epoch", part=stage.name))
    module.eval()
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        raise DivergedTraining(
            f"All weights must stay finite; those of {stage.name} did not. Lower its learning rate."
        )
