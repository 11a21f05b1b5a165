"""Hyper-parameters that all trained models share; light to import, since nothing here computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, PositiveFloat

from unblur.errors import SpecError
from unblur.evaluation.metrics import USER_METRICS, parse_metric
from unblur.spec import Count, spec

Activation: TypeAlias = Literal[
    "tanh", "relu", "sigmoid", "leaky_relu", "elu", "gelu", "silu", "softplus", "identity"
]
"""The non-linearity between linear layers."""
Dropout: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
"""A probability of being set to zero in training; what stays is scaled up to keep the mean."""
Precision: TypeAlias = Literal["float32", "bfloat16"]
"""The precision of matrix products; weights and losses are float32 in any case."""
Share: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
"""A fraction strictly between 0 and 1."""


@spec
class Optimizer:
    """The optimizer of weights."""

    name: Literal["adamw", "adam", "rmsprop", "sgd"] = "adamw"
    """The authors use AdamW, RecBole Adam. RMSprop (Tieleman and Hinton, 2012) is Adam without a mean of gradients."""
    learning_rate: PositiveFloat = 1e-3
    """Step size: `lr`, `learning_rate`."""
    weight_decay: NonNegativeFloat = 0.0
    """`wd`, `weight_decay`: decoupled for AdamW, an L2 penalty for the others."""
    clip_norm: PositiveFloat | None = None
    """Scale a batch's gradient down to this norm if it is longer; `None` leaves it."""
    epsilon: PositiveFloat = 1e-8
    """Adam's ε, and RMSprop's, added to the root of a gradient's mean square before it divides. torch's is 1e-8, Keras's 1e-7,
    which matters if gradients are as small."""


@spec(renamed={"carve": "hold_out"})
class Stopping:
    """Early stopping, judged on interactions that are held out of train."""

    metric: str = "recall@20"
    """A ranking metric with a value for each user, at a cut-off; higher must be better."""
    every: Count = 5
    """Epochs between evaluations."""
    patience: Count = 20
    """Training ends when the next epoch would be this many after the best evaluated one."""
    hold_out: Literal["random", "last"] = "random"
    """The interactions of each user that are held out: random ones, or the last in time (which needs timestamps)."""
    fraction: Share = 0.1
    """The fraction of each user's interactions that is held out; one always remains."""

    def __post_init__(self) -> None:
        check_stopping(self.metric, self.every, self.patience)


def check_stopping(metric: str, every: int, patience: int) -> None:
    """Raise `SpecError` if a training cannot stop by these."""
    check_metric(metric)
    if every > patience:
        raise SpecError(
            f"`patience` counts epochs and must be at least `every`; saw {patience} and {every}. "
            "Raise `patience` or evaluate more often."
        )


def check_metric(name: str) -> tuple[str, int]:
    """Return the metric and cut-off of a name such as ``recall@20``.

    Raises `SpecError` unless each user has a value of it, of which more is better.
    """
    metric, cutoff = parse_metric(name)
    if metric not in USER_METRICS or metric == "mean_popularity":
        options = ", ".join(sorted(set(USER_METRICS) - {"mean_popularity"}))
        raise SpecError(
            f"Training stops by a metric that each user has and that grows; saw {name!r}. Use one of {options}."
        )
    return metric, cutoff


@dataclass(frozen=True, slots=True)
class Plan:
    """The length of a training, its batches, and its stopping."""

    epochs: int = 1000
    batch_size: int = 400
    precision: Precision = "float32"
    """The precision of matrix products: bfloat16 runs them under autocast, weights and losses stay float32."""
    stopping: Stopping | None = None
    """The rule of early stopping; needs a judge."""
    decay: Literal["none", "linear"] = "none"
    """``linear``: in epoch e of E, learning rates are 1 − (e − 1)/E of the initial ones."""
    judged_by: str = ""
    """The name in progress events of the value to stop by, if that is not the metric of `stopping`."""


def rising(end: float, batches: float, update: int) -> float:
    """Return β, the weight of a variational divergence, after `update` batches.

    It rises linearly, as if to 1 in `batches`, up to `end`; it is `end` from the start if `batches` is 0 (Liang et al.,
    WWW 2018, section 2.2.2).
    """
    return min(end, update / batches) if batches else end
