"""DP-SGD (Abadi et al., CCS 2016): Poisson batches, gradients cut user by user, Gaussian noise."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from unblur.diffusion.learner import Moment
from unblur.diffusion.optimization import make_optimizer
from unblur.diffusion.settings import Optimizer
from unblur.diffusion.training import DivergedTraining
from unblur.progress import Progress, ProgressEvent
from unblur.synthesis.accounting import Stage
from unblur.synthesis.ghost_clipping import Uses, clipped_gradients
from unblur.synthesis.synthesizer import RealCounts

EachLoss = Callable[[Tensor, Moment, torch.Generator, Uses], Tensor]
"""The loss of each of some users, (n,), none of which touches another's; it records what they pass."""


def train_privately(
    module: nn.Module,
    each_loss: EachLoss,
    stage: Stage,
    optimizer: Optimizer,
    *,
    noise: float,
    clip_norm: float,
    decay: bool,
    seed: int,
    progress: Progress,
) -> None:
    """Train `module` in place. What it reveals about a user is bounded by what `accounting` says of `stage`.

    The noisy sum of the cut gradients is divided by the expected batch size, whatever the real one was.
    Raises `DivergedTraining` when a weight is not finite in the end.
    """
    device = next(module.parameters()).device
    generator = torch.Generator(device=device)
    generator.manual_seed(int(np.random.SeedSequence([seed, 1]).generate_state(1, np.uint64)[0] >> 1))
    parameters = list(module.parameters())
    made = make_optimizer(parameters, optimizer)
    each_epoch = stage.updates // stage.epochs
    module.train()
    for update in range(stage.updates):
        epoch = update // each_epoch + 1
        if decay:
            for group in made.param_groups:
                group["lr"] = optimizer.learning_rate * (1 - (epoch - 1) / stage.epochs)
        rows = torch.rand(stage.n_users, generator=generator, device=device).lt(stage.rate).nonzero()[:, 0]
        if len(rows):
            uses = Uses()
            losses = each_loss(rows, Moment(epoch, update), generator, uses)
            sums = clipped_gradients(parameters, losses, uses, clip_norm)
        else:
            sums = [torch.zeros_like(parameter) for parameter in parameters]
        for parameter, total in zip(parameters, sums, strict=True):
            spread = torch.empty_like(parameter).normal_(0, noise * clip_norm, generator=generator)
            parameter.grad = (total + spread) / stage.batch_size
        made.step()
        if (update + 1) % each_epoch == 0:
            progress(ProgressEvent(f"train {stage.name} privately", epoch, stage.epochs))
    module.eval()
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        raise DivergedTraining(
            f"All weights must stay finite; those of {stage.name} did not. Lower its learning rate."
        )


def noisy_counts(exact: RealCounts, deviation: float, random: np.random.Generator) -> RealCounts:
    """How many users have how many items, in bins that widen with the number, each with Gaussian noise.

    One user is in one bin, so the most that one can change is 1. What is negative becomes 0; users of a bin
    are spread evenly over its numbers.
    """
    edges = [0, 1]
    while edges[-1] <= exact.n_items:
        edges.append(max(edges[-1] + 1, round(edges[-1] * 1.25)))
    whole = np.zeros(edges[-1])
    whole[: len(exact.users_with)] = exact.users_with
    kept = np.zeros(exact.n_items + 1)
    for start, stop in pairwise(edges):
        count = max(0.0, float(whole[start:stop].sum() + random.normal(0, deviation)))
        inside = slice(start, min(stop, exact.n_items + 1))
        kept[inside] = count / max(1, inside.stop - start)
    if not kept.sum():
        kept[1 : 2 + exact.n_items // 100] = 1.0
    return RealCounts(kept, exact.n_items)
