"""New latents from noise: the reverse chain, with its own number of steps for each row (paper, section 4).

All rows share one loop over the steps, noisiest first. Rows are ordered by how early they start, so those that
are under way are always the first ones, and a step costs what they cost.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from unblur.errors import UnblurError
from unblur.synthesis.latent_noise import LatentDenoiser, NoiseLevels, latent_schedule
from unblur.training.networks import dropped
from unblur.training.settings import Precision

ROUNDED = 128
"""The network is asked about a multiple of so many rows: each new shape of a matrix product costs its set-up."""


class DivergedSampling(UnblurError, ArithmeticError):
    """Latents that are no longer finite numbers."""


def lengths(resolution: str, n: int, steps: int, random: np.random.Generator) -> NDArray[np.int64]:
    """How many steps each of `n` rows gets: all T (``full``), or evenly drawn from 1 … T − 1
    (``multi-resolution``)."""
    if resolution == "full":
        return np.full(n, steps, dtype=np.int64)
    return random.integers(1, steps, n)


class LatentSampler:
    """A trained denoiser, ready to be asked at every step: what depends on the step alone is computed once."""

    @torch.no_grad()
    def __init__(self, network: LatentDenoiser, precision: Precision = "float32") -> None:
        self.settings = network.settings
        self.latent = network.latent
        self.device = network.last_bias.device
        kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._kind = kind
        self._bounded = network.bounded
        self._steps = network.step_inputs().to(kind)
        self._first = _turned(network.first_weight, kind)
        self._first_raised = _turned(network.first_weight / (1 - self.settings.dropout), kind)
        self._slopes = [float(network.first_slope)]
        self._layers = []
        for number in network.order:
            weight, bias = network.hidden_weights[number], network.hidden_biases[number]
            self._layers.append((_turned(weight, kind), bias.to(kind)))
            self._slopes.append(float(network.hidden_slopes[number]))
        self._layers.append((_turned(network.last_weight, kind), network.last_bias.to(kind)))
        self._levels = NoiseLevels.of(self.settings)
        made = latent_schedule(self.settings)
        alpha = 1 - made.betas
        self._answer = (1 - alpha) / made.noise  # what ε̂ counts for: (1 − α_t)/√(1 − ᾱ_t)
        self._shrink = 1 / np.sqrt(alpha)
        self._deviation = np.sqrt(made.betas) * self.settings.noise_variance_diminisher

    def answer(self, rows: Tensor, step: int, generator: torch.Generator | None = None) -> Tensor:
        """ε̂ for rows (n, latent) at one step, (n, latent) float32."""
        x, scale = dropped(rows.to(self._kind), self.settings.dropout, generator)
        h = torch.addmm(self._steps[step], x, self._first if scale == 1 else self._first_raised)
        h = functional.leaky_relu(h, self._slopes[0])
        for place, (weight, bias) in enumerate(self._layers, start=1):
            h = torch.addmm(bias, h, weight)
            if place < len(self._slopes):
                h = functional.leaky_relu(h, self._slopes[place])
        guess: Tensor = self._bounded(h)
        if self.settings.objective != "velocity":
            return guess
        return guess.mul_(float(self._levels.signal[step])).add_(rows, alpha=float(self._levels.level[step]))

    @torch.no_grad()
    def sample(self, counts: NDArray[np.int64], generator: torch.Generator) -> Tensor:
        """Latents, (n, latent), each from N(0, I) through its own number of steps: `counts` (n,), 1 … T.

        A row with k steps takes those from k down to 1, x ← (x − ε̂·(1 − α_t)/√(1 − ᾱ_t))/√α_t + √β_t·z, z
        scaled by the diminisher, and no z at step 1. Raises `DivergedSampling` when one is not finite.
        """
        order = np.argsort(-counts, kind="stable")
        under_way = np.searchsorted(-counts[order], -np.arange(self.settings.steps + 1), side="right")
        rows = torch.empty(len(counts), self.latent, device=self.device).normal_(generator=generator)
        buffer = torch.empty_like(rows)
        chance = generator if self.settings.sampling_dropout else None
        for step in range(int(counts.max()), 0, -1):
            n = int(under_way[step])
            active = rows[:n]
            guess = self.answer(rows[: -(-n // ROUNDED) * ROUNDED], step, chance)[:n]
            active.sub_(guess, alpha=float(self._answer[step]))
            active.mul_(float(self._shrink[step]))
            if step > 1:
                z = buffer[: len(active)].normal_(generator=generator)
                active.add_(z, alpha=float(self._deviation[step]))
        if not bool(torch.isfinite(rows).all()):
            raise DivergedSampling(
                f"Latents must stay finite; {int((~torch.isfinite(rows)).any(1).sum()):,} of {len(rows):,} did "
                "not. The denoiser did not fit: lower its learning rate, or train it longer."
            )
        made = torch.empty_like(rows)
        made[torch.as_tensor(order, device=self.device)] = rows
        return made


def _turned(weight: Tensor, kind: torch.dtype) -> Tensor:
    """A layer's weights with one row an input, in memory too: products with them need no rearranging."""
    return weight.to(kind).T.contiguous()
