"""What the training loop asks of anything that can be trained: a learner has a module, optimizers and a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from unblur.training.settings import Optimizer

Weights: TypeAlias = Mapping[str, Tensor]
"""Parameters and buffers by name, as `nn.Module.state_dict` gives them."""
Fitted_co = TypeVar("Fitted_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Moment:
    """When a batch is trained on."""

    epoch: int
    """From 1."""
    update: int
    """How many batches came before, in all epochs."""


class Learner(Protocol[Fitted_co]):
    """What can be trained."""

    @property
    def module(self) -> nn.Module:
        """Every parameter and every buffer that changes in training."""

    @property
    def groups(self) -> Sequence[tuple[nn.Module, Optimizer]]:
        """Parts of `module`, and how the parameters of each are optimised; none where `loss` takes the step itself."""

    @property
    def n_rows(self) -> int:
        """How many rows there are to train on."""

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some rows, int64 positions; all its chance comes from the generator."""

    def fitted(self, weights: Weights) -> Fitted_co:
        """What `weights`, those of `module` at some time, make; they must not be changed."""
