"""DP-SGD (Abadi et al., CCS 2016): Poisson batches, gradients cut user by user, Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from unblur.privacy.accountant import Stage
from unblur.privacy.clipping import Uses, clipped_gradients
from unblur.progress import Progress, ProgressEvent
from unblur.randomness import torch_generator
from unblur.synthesis.synthesizer import RealCounts
from unblur.training.learner import Moment
from unblur.training.loop import DivergedTraining
from unblur.training.optimization import make_optimizer
from unblur.training.settings import Optimizer

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
    secret: np.random.Generator,
    progress: Progress,
) -> None:
    """Train `module` in place. What it reveals about a user is bounded by what `accounting` says of `stage`.

    The noisy sum of the cut gradients is divided by the expected batch size, whatever the real one was. Who is in a batch
    and all noise come from `secret`; the chance that the loss needs, from `seed`, of which torch heeds 32 bits on a CPU.
    Raises `DivergedTraining` when a weight is not finite in the end.
    """
    device = next(module.parameters()).device
    generator = torch_generator(np.random.SeedSequence([seed, 1]), str(device))
    parameters = list(module.parameters())
    made = make_optimizer(parameters, optimizer)
    each_epoch = stage.updates // stage.epochs
    module.train()
    for update in range(stage.updates):
        epoch = update // each_epoch + 1
        if decay:
            for group in made.param_groups:
                group["lr"] = optimizer.learning_rate * (1 - (epoch - 1) / stage.epochs)
        rows = torch.from_numpy(np.flatnonzero(secret.random(stage.n_users) < stage.rate)).to(device)
        if len(rows):
            uses = Uses()
            losses = each_loss(rows, Moment(epoch, update), generator, uses)
            sums = clipped_gradients(parameters, losses, uses, clip_norm)
        else:
            sums = [torch.zeros_like(parameter) for parameter in parameters]
        for parameter, total in zip(parameters, sums, strict=True):
            spread = secret.standard_normal(tuple(parameter.shape), dtype=np.float32)
            parameter.grad = total.add(torch.from_numpy(spread).to(device), alpha=noise * clip_norm)
            parameter.grad /= stage.batch_size
        made.step()
        if (update + 1) % each_epoch == 0:
            progress(ProgressEvent("train privately", epoch, stage.epochs, kind="epoch", part=stage.name))
    module.eval()
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        raise DivergedTraining(
            f"All weights must stay finite; those of {stage.name} did not. Lower its learning rate."
        )


def noisy_counts(
    exact: RealCounts, n_users: int, deviation: float, random: np.random.Generator
) -> RealCounts:
    """How many users have how many items, in bins that widen with the number, each with Gaussian noise.

    One user is in one bin, so the most that one can change is 1. What the noise of so many bins may well come to, below
    √(2·ln n_bins) deviations (the universal threshold of Donoho and Johnstone, Biometrika 81, 1994), becomes 0: cut at 0
    alone, the many empty bins of users with more items than anybody has would add up. What is left is scaled to the
    number of users, which is public; users of a bin are spread evenly over its numbers.
    """
    edges = [0, 1]
    while edges[-1] <= exact.n_items:
        edges.append(max(edges[-1] + 1, round(edges[-1] * 1.25)))
    whole = np.zeros(edges[-1])
    whole[: len(exact.users_with)] = exact.users_with
    noisy = np.add.reduceat(whole, edges[:-1])
    noisy += random.normal(0, deviation, len(noisy))
    noisy[noisy < math.sqrt(2 * math.log(len(noisy))) * deviation] = 0
    kept = np.zeros(exact.n_items + 1)
    for (start, stop), count in zip(pairwise(edges), noisy, strict=True):
        inside = slice(start, min(stop, exact.n_items + 1))
        kept[inside] = count / max(1, inside.stop - start)
    if not kept.sum():  # so few users that nothing is known of them: few items each
        kept[1 : 2 + exact.n_items // 100] = 1.0
    return RealCounts(kept * (n_users / kept.sum()), exact.n_items)
