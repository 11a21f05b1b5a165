"""The objective of the denoiser: the loss of each step, and the sampler of steps (paper, section 3.2).

The paper is Wang et al., Diffusion Recommender Model, SIGIR 2023, arXiv 2304.04971. Everything works on whole
batches; there is no loop over rows or steps.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from unblur.errors import SpecError
from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.schedule import NoiseSchedule, Schedule, noise_schedule
from unblur.models.diffusion.settings import Objective


class TimestepSampler(nn.Module):
    """Draws the steps of a batch, and stores the last losses of each step.

    Steps are drawn in proportion to √(mean of squares of the step's last losses), mixed with a small uniform
    probability, and uniformly until every step has a full history (Nichol and Dhariwal, ICML 2021, section
    3.3). The history is two buffers: `losses` (T, history) float64, each row a ring, and `seen` (T,) int64, the number
    of losses so far.
    """

    losses: Tensor
    seen: Tensor

    def __init__(self, steps: int, settings: Objective) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("losses", torch.zeros(steps, settings.history, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(steps, dtype=torch.int64))

    def probabilities(self) -> Tensor:
        """Return the probability of each step, (T,) float64."""
        steps, share = len(self.seen), self.settings.uniform_probability
        uniform = torch.full((steps,), 1 / steps, dtype=torch.float64, device=self.seen.device)
        if self.settings.timestep_sampler == "uniform":
            return uniform
        root_mean_squares = self.losses.square().mean(1).sqrt()
        importance = root_mean_squares / root_mean_squares.sum() * (1 - share) + share / steps
        usable = (
            (self.seen >= self.settings.history).all()
            & (root_mean_squares.sum() > 0)
            & torch.isfinite(root_mean_squares.sum())
        )
        return torch.where(usable, importance, uniform)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw `count` steps, int64; returns them, and T times the probability of each, float32, to divide losses by."""
        probabilities = self.probabilities()
        steps = torch.multinomial(probabilities, count, replacement=True, generator=generator)
        return steps, (probabilities[steps] * len(probabilities)).to(torch.float32)

    @torch.no_grad()
    def remember(self, steps: Tensor, losses: Tensor) -> None:
        """Append the losses of a batch, (n,), to the histories of their steps, (n,), which keep the last ones."""
        if self.settings.timestep_sampler == "uniform":
            return
        length = self.settings.history
        # A loss' rank among those of the same step is its slot in the ring, from where the step's last one went.
        order = torch.argsort(steps, stable=True)
        sorted_steps = steps[order]
        counts = torch.bincount(sorted_steps, minlength=len(self.seen))
        rank = (
            torch.arange(len(sorted_steps), device=steps.device) - (counts.cumsum(0) - counts)[sorted_steps]
        )
        keep = rank >= counts[sorted_steps] - length
        slots = (self.seen[sorted_steps] + rank) % length
        self.losses[sorted_steps[keep], slots[keep]] = losses.detach().to(torch.float64)[order][keep]
        self.seen += counts


def step_weights(
    schedule: NoiseSchedule, objective: Objective
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the loss weight of each step, (T,) float64; 1 without `reweight`, and always 1 at the first step.

    x0: SNR(t − 1) − SNR(t) (paper, section 3.2). eps: (1 − ᾱ_t) / ((1 − ᾱ_{t−1})²·(1 − β_t)), as in the
    authors' code.
    """
    weights = np.ones(schedule.steps)
    if not objective.reweight:
        return weights
    if objective.prediction == "x0":
        weights[1:] = -np.diff(schedule.signal_to_noise)
    else:
        noise_variance = 1 - schedule.alpha_bar
        weights[1:] = noise_variance[1:] / (noise_variance[:-1] ** 2 * (1 - schedule.betas[1:]))
    return weights


class DenoisingLoss(nn.Module):
    """The weighted error of the denoiser on noisy copies of clean rows, with steps drawn by `TimestepSampler`."""

    signal: Tensor
    noise: Tensor
    weights: Tensor

    def __init__(self, schedule: Schedule, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.choice = TimestepSampler(schedule.steps, objective)
        self.noiseless = schedule.noiseless
        steps = schedule.steps
        signal, noise, weights = np.ones(steps), np.zeros(steps), np.ones(steps)
        if not schedule.noiseless:
            levels = noise_schedule(schedule)
            SpecError.unless(
                objective.prediction != "eps" or levels.alpha_bar[-1] > 0,
                '`prediction` "eps" needs some signal at every step; the last step keeps none. Use "x0".',
            )
            signal, noise, weights = levels.signal, levels.noise, step_weights(levels, objective)
        elif objective.prediction == "eps":
            raise SpecError(
                'Without noise (`scale` 0) there is none to guess; saw `prediction` "eps". Use "x0", or add noise.'
            )
        for name, values in (("signal", signal), ("noise", noise), ("weights", weights)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def forward(
        self, network: DenoisingNetwork, clean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss of clean rows (n, width), and the network's guess of them (n, width).

        A row's loss is its mean squared error times the weight of its step, over T times the probability of that
        step. With eps and `reweight` the first step's loss is half the squared error of the guessed clean row
        instead.
        """
        steps, scaled_probability = self.choice.draw(len(clean), generator)
        signal, noise = self.signal[steps, None], self.noise[steps, None]
        epsilon: Tensor | None = None
        noisy = clean
        if not self.noiseless:
            epsilon = torch.empty_like(clean).normal_(generator=generator)
            noisy = (epsilon * noise).addcmul_(clean, signal)
        output = network(noisy, steps, generator).to(torch.float32)
        if self.objective.prediction == "x0":
            guess = output
            losses = mean_squares(output, clean) * self.weights[steps]
        else:
            assert epsilon is not None
            guess = (noisy - noise * output) / signal
            losses = mean_squares(output, epsilon) * self.weights[steps]
            if self.objective.reweight:
                # The first step's term of the bound: −log p(x_0 | x_1) of unit variance, up to constants.
                first_step_error = mean_squares(guess, clean) / 2
                losses = torch.where(steps == 0, first_step_error, losses)
        self.choice.remember(steps, losses)
        return (losses / scaled_probability).mean(), guess


class _MeanSquares(torch.autograd.Function):
    """Mean squared differences of rows; the difference alone is saved and, scaled, gives the gradient.

    The mean is the square of a norm, which takes no tensor of squares.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, output: Tensor, target: Tensor) -> Tensor:
        difference = output - target
        ctx.save_for_backward(difference)
        norms: Tensor = torch.linalg.vector_norm(difference, dim=1)
        return norms.square_().div_(output.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (difference,) = ctx.saved_tensors
        gradient = difference * (gradients[0] * (2 / difference.shape[1]))[:, None]
        return gradient, -gradient if ctx.needs_input_grad[1] else None


def mean_squares(output: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of each row, (n, width) twice → (n,)."""
    return cast("Tensor", _MeanSquares.apply(output, target))  # type: ignore[no-untyped-call]
