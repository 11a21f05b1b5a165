"""Adam for parameters that are changed where they are."""

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
    """Whether a training can take its steps where its parameters are: Adam without anything else, on the CPU."""
    return (
        settings.name == "adam"
        and not settings.weight_decay
        and settings.clip_norm is None
        and device.type == "cpu"
    )


class Adam:
    """Some parameters with the moments of their gradients."""

    def __init__(self, values: Sequence[Tensor], settings: Optimizer) -> None:
        """Before the first gradient."""
        self.values, self.settings = list(values), settings
        self.means, self.squares = ([torch.zeros_like(value) for value in values] for _ in range(2))
        self._updates = [torch.zeros(()) for _ in values]

    def step(self, *gradients: Tensor) -> None:
        """One step of each parameter, where it is."""
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
        """Set moments that are nothing to 0."""
        for moment in (*self.means, *self.squares):
            functional.hardshrink(moment, NOTHING, out=moment)


def numbers_of_step(settings: Optimizer, step: int, nothing: float) -> tuple[np.float32, ...]:
    """What a kernel multiplies by in a step, counted from 1: β₁, β₂, 1 − β₁, 1 − β₂, the means' factor and that of the squares'
    roots; then ε, and what moments must not be below."""
    size, root = settings.learning_rate / (1 - FIRST_BETA**step), 1 / math.sqrt(1 - SECOND_BETA**step)
    betas = (FIRST_BETA, SECOND_BETA, 1 - FIRST_BETA, 1 - SECOND_BETA)
    return tuple(np.float32(number) for number in (*betas, size, root, settings.epsilon, nothing))


def without_faint(gradient: Tensor) -> Tensor:
    """A gradient whose faint numbers are 0."""
    return functional.hardshrink(gradient, FAINT)
