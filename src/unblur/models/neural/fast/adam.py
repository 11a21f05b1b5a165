"""Adam for parameters that are changed in place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.adam import adam

from unblur.training.settings import Optimizer

FIRST_BETA, SECOND_BETA = 0.9, 0.999
"""As `torch.optim.Adam` has them."""
NOTHING = 1e-35
"""A moment below this is set to 0: the moments of a unit without a gradient decay into denormal numbers, with which a
processor calculates some hundred times slower."""
FAINT = 1e-16
"""A gradient below this is taken for 0, since its square would be denormal as well. It moves a weight by less than
1e-8 of the learning rate at an ε of 1e-8."""


def plain_adam(settings: Optimizer, device: torch.device) -> bool:
    """Return whether a training can take its steps here: Adam without weight decay or clipping, on the CPU."""
    return (
        settings.name == "adam"
        and not settings.weight_decay
        and settings.clip_norm is None
        and device.type == "cpu"
    )


class Adam:
    """Some parameters with the moments of their gradients."""

    def __init__(self, values: Sequence[Tensor], settings: Optimizer) -> None:
        """All moments begin at 0."""
        self.values, self.settings = list(values), settings
        self.means, self.squares = ([torch.zeros_like(value) for value in values] for _ in range(2))
        self._updates = [torch.zeros(()) for _ in values]

    def step(self, *gradients: Tensor) -> None:
        """Take one step of each parameter, in place."""
        adam(
            self.values,
            list(gradients),
            self.means,
            self.squares,
            [],
            self._updates,
            fused=True,
            amsgrad=False,
            beta1=FIRST_BETA,
            beta2=SECOND_BETA,
            lr=self.settings.learning_rate,
            weight_decay=0.0,
            eps=self.settings.epsilon,
            maximize=False,
        )

    def settle(self) -> None:
        """Set moments below `NOTHING` to 0."""
        for moment in (*self.means, *self.squares):
            functional.hardshrink(moment, NOTHING, out=moment)


def numbers_of_step(settings: Optimizer, step: int, nothing: float) -> tuple[np.float32, ...]:
    """Return the numbers that a kernel needs for a step, counted from 1.

    They are β₁, β₂, 1 − β₁, 1 − β₂, the factor of the means (learning rate and bias correction), that of the roots of the
    squares (bias correction), ε, and the bound below which moments become 0.
    """
    rate, root_factor = settings.learning_rate / (1 - FIRST_BETA**step), 1 / math.sqrt(1 - SECOND_BETA**step)
    betas = (FIRST_BETA, SECOND_BETA, 1 - FIRST_BETA, 1 - SECOND_BETA)
    return tuple(np.float32(number) for number in (*betas, rate, root_factor, settings.epsilon, nothing))


def without_faint(gradient: Tensor) -> Tensor:
    """Return a gradient with numbers below `FAINT` set to 0."""
    return functional.hardshrink(gradient, FAINT)
