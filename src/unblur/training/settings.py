"""Hyper-parameters that all trained models share; light to import, since nothing here computes."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from unblur.errors import SpecError
from unblur.spec import spec

Activation: TypeAlias = Literal[
    "tanh", "relu", "sigmoid", "leaky_relu", "elu", "gelu", "silu", "softplus", "identity"
]
"""The non-linearity between linear layers."""
Dropout: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
"""A probability of being set to zero in training; what stays is scaled up to keep the mean."""
Share: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
"""A fraction strictly between 0 and 1."""


@spec
class Optimizer:
    """How weights follow their gradients."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """The authors use AdamW, RecBole Adam."""
    learning_rate: PositiveFloat = 1e-3
    """Step size: `lr`, `learning_rate`."""
    weight_decay: NonNegativeFloat = 0.0
    """`wd`, `weight_decay`: decoupled for AdamW, an L2 penalty for the others."""
    clip_norm: PositiveFloat | None = None
    """Scale a batch's gradient down to this norm where it is longer; `None` leaves it."""
    epsilon: PositiveFloat = 1e-8
    """Adam's ε: what is added to the root of a gradient's mean square before it divides. torch's is 1e-8, Keras's 1e-7,
    which matters where gradients are as small."""


@spec
class Stopping:
    """When training ends early, judged on interactions that are carved out of train."""

    metric: str = "recall@20"
    """A ranking metric with a value for each user, at a cut-off; higher must be better."""
    every: PositiveInt = 5
    """Epochs between evaluations."""
    patience: PositiveInt = 20
    """Training ends when the next epoch would be this many after the best evaluated one."""
    carve: Literal["random", "last"] = "random"
    """Which interactions of each user are set aside: any, or the last in time (which needs timestamps)."""
    fraction: Share = 0.1
    """How much of each user's interactions is set aside, always leaving one."""

    def __post_init__(self) -> None:
        from unblur.training.validation import check_metric

        check_metric(self.metric)
        if self.every > self.patience:
            raise SpecError(
                f"`patience` counts epochs and must be at least `every`; saw {self.patience} and "
                f"{self.every}. Raise `patience` or evaluate more often."
            )
