"""Adam for parameters that are changed where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(eq=False)
class Moving:
    """A parameter with the moments of its gradients."""

    value: Tensor
    mean: Tensor
    square: Tensor
    updates: Tensor

    @classmethod
    def of(cls, value: Tensor) -> Moving:
        """Before the first gradient."""
        return cls(value, torch.zeros_like(value), torch.zeros_like(value), torch.zeros(()))


def update(parts: Sequence[Moving], gradients: Sequence[Tensor], settings: Optimizer) -> None:
    """One step of each parameter, where it is."""
    adam(
        [part.value for part in parts],
        list(gradients),
        [part.mean for part in parts],
        [part.square for part in parts],
        [],
        [part.updates for part in parts],
        fused=True,
        amsgrad=False,
        beta1=FIRST_BETA,
        beta2=SECOND_BETA,
        lr=settings.learning_rate,
        weight_decay=0.0,
        eps=settings.epsilon,
        maximize=False,
    )


def settle(parts: Sequence[Moving]) -> None:
    """Set moments that are nothing to 0."""
    for part in parts:
        for moment in (part.mean, part.square):
            functional.hardshrink(moment, NOTHING, out=moment)


def without_faint(gradient: Tensor) -> Tensor:
    """A gradient whose faint numbers are 0."""
    return functional.hardshrink(gradient, FAINT)
