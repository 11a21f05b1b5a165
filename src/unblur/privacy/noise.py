"""Sums over users with Gaussian noise on them, so that they tell little about any one user."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.privacy.accountant import Stage
from unblur.privacy.clipping import Uses, clipped_gradients


@dataclass(frozen=True, eq=False)
class NoisySums:
    """Sums of gradients over Poisson samples of users: each gradient cut to a norm, the sum with Gaussian noise."""

    noise: float
    """σ: the deviation of the noise over `clip_norm`, which is the most that one user can change."""
    clip_norm: float
    secret: np.random.Generator
    """Draws the samples and all noise. Whoever can predict it undoes the privacy."""

    def sample(self, stage: Stage) -> NDArray[np.intp]:
        """The users of one batch, by position: each is in it with probability `stage.rate`, independently."""
        return np.flatnonzero(self.secret.random(stage.n_users) < stage.rate)

    def gradients(
        self, parameters: Sequence[nn.Parameter], losses: Tensor | None, uses: Uses
    ) -> list[Tensor]:
        """The noisy sum of the cut gradients of some losses, (n,); of noise alone where nobody was sampled."""
        sums = (
            [torch.zeros_like(parameter) for parameter in parameters]
            if losses is None
            else clipped_gradients(parameters, losses, uses, self.clip_norm)
        )
        return [
            # NumPy draws, since torch's generators on a CPU heed 32 bits of a seed, which can be tried one by one.
            total.add(
                torch.from_numpy(self.secret.standard_normal(tuple(total.shape), dtype=np.float32)).to(
                    total.device
                ),
                alpha=self.noise * self.clip_norm,
            )
            for total in sums
        ]


def noisy_counts(
    users_with: NDArray[np.float64],
    n_items: int,
    *,
    n_users: int,
    deviation: float,
    random: np.random.Generator,
) -> NDArray[np.float64]:
    """How many users have 0, 1, … `n_items` items, counted with Gaussian noise in bins that widen with the number.

    `users_with` are the exact counts. One user is in one bin, so the most that one can change is 1. Counts below
    √(2·ln n_bins) deviations, which the largest of so many noises is likely to reach (the universal threshold of Donoho
    and Johnstone, Biometrika 81, 1994), become 0: cut at 0 alone, the many empty bins of users with more items than
    anybody has would add up. The rest is scaled to the number of users, which is public, and spread evenly over the
    numbers of a bin.
    """
    edges = [0, 1]
    while edges[-1] <= n_items:
        edges.append(max(edges[-1] + 1, round(edges[-1] * 1.25)))
    exact = np.zeros(edges[-1])
    exact[: len(users_with)] = users_with
    noisy = np.add.reduceat(exact, edges[:-1])
    noisy += random.normal(0, deviation, len(noisy))
    noisy[noisy < math.sqrt(2 * math.log(len(noisy))) * deviation] = 0
    counts = np.zeros(n_items + 1)
    for (start, stop), count in zip(pairwise(edges), noisy, strict=True):
        inside = slice(start, min(stop, n_items + 1))
        counts[inside] = count / max(1, inside.stop - start)
    if not counts.sum():  # so few users that nothing is known of them: few items each
        counts[1 : 2 + n_items // 100] = 1.0
    return np.asarray(counts * (n_users / counts.sum()), dtype=np.float64)
