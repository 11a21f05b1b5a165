"""The weights of the row network's first layer, which are nearly all of it, and Adam for them.

Their gradient is the same in nearly all rows of a table: only items of the batch have something of their own. Where
numba is installed (`unblur[fast]`) a step is one compiled pass, while a row is in the processor; without it each table
takes several passes of torch. Both come to the same, but for rounding.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unblur.models.neural.fast.adam import FIRST_BETA, NOTHING, SECOND_BETA, Moving, settle, update
from unblur.models.neural.fast.row_kernels import BLOCKS, Kernels, Threads
from unblur.training.settings import Optimizer

FORGOTTEN = 1e-8
"""What has decayed to less than this share is taken for 0."""
NEVER_FAINT = 1e-29
"""What a row's own gradients add to its moments is set to 0 below this, so that it is not denormal even when it has
decayed nearly to `FORGOTTEN`."""


class FirstLayer(Protocol):
    """Tables of weights, (places, n_rows, width), which are changed where they are."""

    def added(self, rows: Tensor, apart: Tensor) -> Tensor:
        """The tables of some rows, (n,), each place times its number in `apart`, (places,), summed: (n, width)."""
        ...

    def update(self, rows: Tensor, shared: Tensor, apart: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """One step of Adam, for the rows that `added` was asked for last; gives the sums of the new weights over their
        rows, (places, width), and the gradient of `apart`, (places,): the old weights of `rows` times `own`, summed.

        The gradient of a row is `shared`, (places, width), and for those at `rows`, (n,), also `own`, (n, width), times
        `apart`, (places,).
        """
        ...

    def settle(self) -> None:
        """Set moments that are nothing to 0."""
        ...


class PlaceByPlace:
    """By torch: one table after the other, with a gradient in memory that all share."""

    def __init__(self, values: Tensor, settings: Optimizer) -> None:
        self.settings = settings
        self.parts = [Moving.of(table) for table in values]
        self._gradient, self._ones = torch.empty_like(values[0]), torch.ones(values.shape[1])
        self._picked: list[Tensor] = []  # the weights of the rows that `added` was asked for

    def added(self, rows: Tensor, apart: Tensor) -> Tensor:
        """See `FirstLayer`."""
        self._picked = [part.value.index_select(0, rows) for part in self.parts]
        made = torch.zeros(len(rows), self._gradient.shape[1])
        for picked, factor in zip(self._picked, apart.tolist(), strict=True):
            made.add_(picked, alpha=factor)
        return made

    def update(self, rows: Tensor, shared: Tensor, apart: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """See `FirstLayer`."""
        sums, by_apart = torch.empty_like(shared), torch.empty_like(apart)
        for place, (part, factor) in enumerate(zip(self.parts, apart.tolist(), strict=True)):
            by_apart[place] = self._picked[place].view(-1) @ own.reshape(-1)
            self._gradient.copy_(shared[place])
            self._gradient.index_add_(0, rows, own, alpha=factor)
            update([part], [self._gradient], self.settings)
            torch.mv(part.value.T, self._ones, out=sums[place])
        return sums, by_apart

    def settle(self) -> None:
        """See `FirstLayer`."""
        settle(self.parts)


class InOnePass:
    """By a kernel. Moments are linear in gradients and their squares, so they are kept in two parts.

    One part comes from the shared gradient and is the same for all rows. The other comes from what was a row's own: it
    is kept as of the row's last own gradient, decays from then on, and is written only when another one comes. A step
    reads and writes all weights, but reads one number more for each of them (two while the first moment lasts) and
    writes none, where Adam would read and write two.
    """

    def __init__(self, values: Tensor, settings: Optimizer, compiled: Kernels, threads: Threads) -> None:
        self.settings, self._kernels, self._threads = settings, compiled, threads
        places, n_rows, width = values.shape
        self.means, self.squares = torch.zeros_like(values), torch.zeros_like(values)
        self.common_mean, self.common_square = torch.zeros(places, width), torch.zeros(places, width)
        self._tables = tuple(part.numpy() for part in (values, self.means, self.squares))
        self._common = (self.common_mean.numpy(), self.common_square.numpy())
        self._sums, self._dots = (np.empty((places, BLOCKS, width), dtype=np.float32) for _ in range(2))
        self._where, self._last = np.full(n_rows, -1, dtype=np.int32), np.zeros(n_rows, dtype=np.int64)
        self._first_decays, self._second_decays = _decays(FIRST_BETA), _decays(SECOND_BETA)
        self._done = 0

    def added(self, rows: Tensor, apart: Tensor) -> Tensor:
        """See `FirstLayer`."""
        made = torch.empty(len(rows), self._sums.shape[2])
        self._threads.run(self._kernels.added, self._tables[0], rows.numpy(), apart.numpy(), made.numpy())
        return made

    def update(self, rows: Tensor, shared: Tensor, apart: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """See `FirstLayer`."""
        self._done += 1
        rate, epsilon = self.settings.learning_rate, self.settings.epsilon
        size, root = rate / (1 - FIRST_BETA**self._done), 1 / math.sqrt(1 - SECOND_BETA**self._done)
        numbers = (1 - FIRST_BETA, 1 - SECOND_BETA, size, root, epsilon, NEVER_FAINT)
        self.common_mean.mul_(FIRST_BETA).add_(shared, alpha=1 - FIRST_BETA)
        self.common_square.mul_(SECOND_BETA).addcmul_(shared, shared, value=1 - SECOND_BETA)
        for moment in (self.common_mean, self.common_square):
            functional.hardshrink(moment, NOTHING, out=moment)
        at, ages = rows.numpy(), self._done - self._last
        self._where[at] = np.arange(len(at), dtype=np.int32)
        decays = (
            table[np.minimum(ages, len(table) - 1)] for table in (self._first_decays, self._second_decays)
        )
        self._threads.run(
            self._kernels.first_layer,
            self._tables,
            self._common,
            (shared.numpy(), apart.numpy(), own.numpy()),
            (self._where, *decays),
            self._sums,
            self._dots,
            tuple(np.float32(number) for number in numbers),
        )
        self._where[at], self._last[at] = -1, self._done
        return torch.from_numpy(self._sums.sum(1)), torch.from_numpy(self._dots.sum((1, 2)))

    def settle(self) -> None:
        """Every step has done it."""


def _decays(beta: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """β⁰, β¹, β², … as far as it matters, and then 0."""
    powers = beta ** np.arange(math.ceil(math.log(FORGOTTEN) / math.log(beta)) + 1)
    powers[-1] = 0
    return powers.astype(np.float32)
