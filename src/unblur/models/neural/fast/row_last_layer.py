"""The weights of the row network's last layer, and Adam for them: one for each item and unit before it."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unblur.models.neural.fast.adam import (
    FAINT,
    FIRST_BETA,
    NOTHING,
    SECOND_BETA,
    Moving,
    settle,
    update,
    without_faint,
)
from unblur.models.neural.fast.row_kernels import BLOCKS, Kernels, Threads
from unblur.training.settings import Optimizer

AT_ONCE = 4
"""Rows of a batch that the kernel deals with together."""


class LastLayer(Protocol):
    """Weights (n_items, width) and biases (n_items,), which are changed where they are."""

    def update(self, shown: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """One step of Adam for the mean binary cross-entropy of logits made of `shown`, (n, width), against `wanted`,
        (n, n_items).

        Gives that mean, and its gradient by `shown`, both by the old weights.
        """
        ...

    def settle(self) -> None:
        """Set moments that are nothing to 0."""
        ...


class InPasses:
    """By torch."""

    def __init__(self, weights: Tensor, biases: Tensor, settings: Optimizer) -> None:
        self.settings, self.parts = settings, [Moving.of(weights), Moving.of(biases)]

    def update(self, shown: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """See `LastLayer`."""
        weights, biases = (part.value for part in self.parts)
        made = functional.linear(shown, weights, biases)
        loss = functional.binary_cross_entropy_with_logits(made, wanted)
        asked = without_faint(made.sigmoid_().sub_(wanted).div_(made.numel()))
        before = asked @ weights
        update(self.parts, [without_faint(asked.T @ shown), asked.sum(0)], self.settings)
        return loss, before

    def settle(self) -> None:
        """See `LastLayer`."""
        settle(self.parts)


class InOnePass:
    """By a kernel: an item's weights give its logits and both gradients, and take their step, while they are in the
    processor."""

    def __init__(
        self, weights: Tensor, biases: Tensor, settings: Optimizer, compiled: Kernels, threads: Threads
    ) -> None:
        self.settings, self.parts = settings, [Moving.of(weights), Moving.of(biases)]
        self._kernel, self._threads = compiled.last_layer, threads
        self._tables = tuple(part.numpy() for part in (weights, self.parts[0].mean, self.parts[0].square))
        self._losses = np.empty(BLOCKS)
        self._done = 0

    def update(self, shown: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """See `LastLayer`."""
        self._done += 1
        rate, epsilon, biases = self.settings.learning_rate, self.settings.epsilon, self.parts[1]
        size, root = rate / (1 - FIRST_BETA**self._done), 1 / math.sqrt(1 - SECOND_BETA**self._done)
        numbers = (
            *(FIRST_BETA, SECOND_BETA, 1 - FIRST_BETA, 1 - SECOND_BETA),
            *(size, root, epsilon, FAINT, NOTHING, 1 / wanted.numel()),
        )
        n = len(shown)
        missing = -n % AT_ONCE
        rows = functional.pad(shown, (0, 0, 0, missing))
        asked = torch.empty(len(biases.value), n + missing)
        before = np.empty((BLOCKS, n, shown.shape[1]), dtype=np.float32)
        self._threads.run(
            self._kernel,
            self._tables,
            (rows.numpy(), wanted.T.contiguous().numpy(), biases.value.numpy(), n),
            asked.numpy(),
            before,
            self._losses,
            tuple(np.float32(number) for number in numbers),
        )
        update([biases], [asked.sum(1)], self.settings)
        return torch.tensor(self._losses.sum() / wanted.numel()), torch.from_numpy(before.sum(0))

    def settle(self) -> None:
        """Of the weights every step has done it."""
        settle(self.parts[1:])
