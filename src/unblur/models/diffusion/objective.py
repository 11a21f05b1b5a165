"""What the denoiser is trained for: the loss of each step, and which steps are drawn (paper, section 3.2).

Everything works on whole batches; there is no loop over rows or steps.
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


class StepChoice(nn.Module):
    """Draws the steps of a batch, and remembers the last losses of each step.

    Steps are drawn in proportion to √(mean of squares of the step's last losses), with a little of the even
    choice mixed in, and evenly until every step has a full history (Nichol and Dhariwal, ICML 2021, section
    3.3). The history is two buffers: `losses` (T, history) float64, each row a ring, and `seen` (T,) int64.
    """

    losses: Tensor
    seen: Tensor

    def __init__(self, steps: int, settings: Objective) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("losses", torch.zeros(steps, settings.history, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(steps, dtype=torch.int64))

    def chances(self) -> Tensor:
        """How likely each step is drawn, (T,) float64."""
        steps, share = len(self.seen), self.settings.uniform_share
        even = torch.full((steps,), 1 / steps, dtype=torch.float64, device=self.seen.device)
        if self.settings.step_choice == "uniform":
            return even
        size = self.losses.square().mean(1).sqrt()
        uneven = size / size.sum() * (1 - share) + share / steps
        full = (self.seen >= self.settings.history).all() & (size.sum() > 0) & torch.isfinite(size.sum())
        return torch.where(full, uneven, even)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` steps, int64, and T times the chance of each, float32: what their losses are divided by."""
        chances = self.chances()
        steps = torch.multinomial(chances, count, replacement=True, generator=generator)
        return steps, (chances[steps] * len(chances)).to(torch.float32)

    @torch.no_grad()
    def remember(self, steps: Tensor, losses: Tensor) -> None:
        """Put the losses of a batch, (n,), behind those known for their steps, (n,); of many, the last ones
        stay."""
        if self.settings.step_choice == "uniform":
            return
        length = self.settings.history
        order = torch.argsort(steps, stable=True)
        ranked = steps[order]
        counts = torch.bincount(ranked, minlength=len(self.seen))
        place = torch.arange(len(ranked), device=steps.device) - (counts.cumsum(0) - counts)[ranked]
        kept = place >= counts[ranked] - length
        slots = (self.seen[ranked] + place) % length
        self.losses[ranked[kept], slots[kept]] = losses.detach().to(torch.float64)[order][kept]
        self.seen += counts


def step_weights(
    schedule: NoiseSchedule, objective: Objective
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What the error of each step counts for, (T,) float64; 1 without `reweight`, and always 1 at the first
    step.

    x0: SNR(t − 1) − SNR(t) (paper, section 3.2). eps: (1 − ᾱ_t) / ((1 − ᾱ_{t−1})²·(1 − β_t)), as in the
    authors' code.
    """
    made = np.ones(schedule.steps)
    if not objective.reweight:
        return made
    if objective.predicts == "x0":
        made[1:] = -np.diff(schedule.signal_to_noise)
    else:
        kept = 1 - schedule.alpha_bar
        made[1:] = kept[1:] / (kept[:-1] ** 2 * (1 - schedule.betas[1:]))
    return made


class DenoisingLoss(nn.Module):
    """The weighted error of the denoiser on noisy copies of clean rows, with steps drawn by `StepChoice`."""

    signal: Tensor
    noise: Tensor
    weights: Tensor

    def __init__(self, schedule: Schedule, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.choice = StepChoice(schedule.steps, objective)
        self.noiseless = schedule.noiseless
        steps = schedule.steps
        signal, noise, weights = np.ones(steps), np.zeros(steps), np.ones(steps)
        if not schedule.noiseless:
            noisy = noise_schedule(schedule)
            SpecError.unless(
                objective.predicts != "eps" or noisy.alpha_bar[-1] > 0,
                '`predicts` "eps" needs some signal at every step; the last step keeps none. Use "x0".',
            )
            signal, noise, weights = noisy.signal, noisy.noise, step_weights(noisy, objective)
        elif objective.predicts == "eps":
            raise SpecError(
                'Without noise (`scale` 0) there is none to guess; saw `predicts` "eps". Use "x0", or add noise.'
            )
        for name, values in (("signal", signal), ("noise", noise), ("weights", weights)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)

    def forward(
        self, network: DenoisingNetwork, clean: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The mean loss of clean rows (n, width), and the network's guess of them (n, width).

        A row's loss is its mean squared error times the weight of its step, over T times the chance of that
        step. With eps and `reweight` the first step's loss is half the squared error of the guessed clean row
        instead.
        """
        steps, scaled_chance = self.choice.draw(len(clean), generator)
        signal, noise = self.signal[steps, None], self.noise[steps, None]
        epsilon: Tensor | None = None
        noisy = clean
        if not self.noiseless:
            epsilon = torch.empty_like(clean).normal_(generator=generator)
            noisy = (epsilon * noise).addcmul_(clean, signal)
        answer = network(noisy, steps, generator).to(torch.float32)
        if self.objective.predicts == "x0":
            guess = answer
            losses = mean_squares(answer, clean) * self.weights[steps]
        else:
            assert epsilon is not None
            guess = (noisy - noise * answer) / signal
            losses = mean_squares(answer, epsilon) * self.weights[steps]
            if self.objective.reweight:
                likelihood = mean_squares(guess, clean) / 2
                losses = torch.where(steps == 0, likelihood, losses)
        self.choice.remember(steps, losses)
        return (losses / scaled_chance).mean(), guess


class _MeanSquares(torch.autograd.Function):
    """Mean squared differences of rows: one buffer of their size, which becomes the gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, answer: Tensor, target: Tensor) -> Tensor:
        difference = answer - target
        ctx.save_for_backward(difference)
        norms: Tensor = torch.linalg.vector_norm(difference, dim=1)
        return norms.square_().div_(answer.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (difference,) = ctx.saved_tensors
        answer = difference * (gradients[0] * (2 / difference.shape[1]))[:, None]
        return answer, -answer if ctx.needs_input_grad[1] else None


def mean_squares(answer: Tensor, target: Tensor) -> Tensor:
    """The mean squared difference of each row, (n, width) twice → (n,)."""
    return cast("Tensor", _MeanSquares.apply(answer, target))  # type: ignore[no-untyped-call]
