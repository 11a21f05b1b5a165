"""Steps of Adam for the row network, with few passes over the weights of its first layer and of its last.

Those of the first are nearly all of the network: embedding × n_items for each unit. Their gradient is the same for all
items that no row of the batch has, but for each place of the embedding, so the rest is computed for the batch's items
alone, and no gradient of all weights is ever made. Where numba is installed (`unblur[fast]`) a step of either layer is
one compiled pass, while a row is in the processor; without it each table takes several passes of torch. Both are steps
of autograd and `torch.optim.Adam`, but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn
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
from unblur.training.learner import Moment, Weights
from unblur.training.rows import SparseRows
from unblur.training.settings import Optimizer

if TYPE_CHECKING:
    from unblur.models.neural.row_mlp import RowLearner, RowNetwork

LOOK_EVERY = 32
"""Updates between two looks for moments that are nothing."""
FORGOTTEN = 1e-8
"""What has decayed to less than this share is taken for 0."""
NEVER_FAINT = 1e-29
"""What a row's own gradients add to its moments is set to 0 below this, so that it is not denormal even when it has
decayed nearly to `FORGOTTEN`."""
AT_ONCE = 4
"""Rows of a batch that the kernel deals with together."""


class RowTraining:
    """A network in training: its parameters are changed where they are."""

    def __init__(
        self,
        network: RowNetwork,
        rows: SparseRows,
        settings: Optimizer,
        compiled: Kernels | None = None,
        threads: int = 1,
    ) -> None:
        """`rows` are all that will be trained on. With compiled kernels the large layers take their steps by these, on
        so many threads, which want the processor for themselves (`parallel.torch_at_rest`); else by torch."""
        self.network, self.rows, self.settings = network, rows, settings
        *hidden_weights, last = network.weights
        *hidden_biases, last_bias = network.biases
        self._hidden = [*hidden_weights, *hidden_biases]
        small = (network.embedding, network.cell_bias, *self._hidden)
        self._small = [Moving.of(part.detach()) for part in small]
        cells, weights, biases = network.cells.detach(), last.detach(), last_bias.detach()
        self._first: FirstLayer
        self._last: LastLayer
        if compiled is None:
            self._first = FirstPlaceByPlace(cells, settings)
            self._last = LastInPasses(weights, biases, settings)
        else:
            among = Threads(threads)
            self._first = FirstInOnePass(cells, settings, compiled, among)
            self._last = LastInOnePass(weights, biases, settings, compiled, among)
        self._sums = network.cells.detach().sum(1)  # (embedding, width)
        self._done = 0

    @torch.no_grad()
    def update(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Train on the rows at these positions; gives their mean loss."""
        network, batch = self.network, self.rows.take(rows)
        items, x = batch.columns.unique(), batch.dense()
        shown = x[:, items]
        off, on = network.embedding
        always, apart = off @ self._sums + network.cell_bias, on - off
        first = torch.addmm(always, shown, self._first.added(items, apart)).requires_grad_()
        with torch.enable_grad():
            h = network.hidden(first, generator)
        loss, by_h = self._last.update(h.detach(), x)
        by_first, *by_hidden = map(without_faint, torch.autograd.grad(h, [first, *self._hidden], by_h))
        by_always, own = by_first.sum(0), without_faint(shown.T @ by_first)
        by_off = self._sums @ by_always
        self._sums, by_apart = self._first.update(items, off[:, None] * by_always, apart, own)
        by_embedding = torch.stack((by_off - by_apart, by_apart))
        update(self._small, [by_embedding, by_always, *by_hidden], self.settings)
        self._done += 1
        if self._done % LOOK_EVERY == 0:
            for part in (self._first, self._last):
                part.settle()
            settle(self._small)
        return loss


class RowStepper:
    """Trains the network of a learner, but takes each step itself."""

    def __init__(self, learner: RowLearner, compiled: Kernels | None = None, threads: int = 1) -> None:
        """See `RowTraining`."""
        self.learner = learner
        self.training = RowTraining(learner.network, learner.rows, learner.spec.optimizer, compiled, threads)

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.learner.network

    @property
    def groups(self) -> Sequence[tuple[nn.Module, Optimizer]]:
        """None."""
        return []

    @property
    def n_rows(self) -> int:
        """As of the learner."""
        return self.learner.n_rows

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some rows before a step is taken for it."""
        return self.training.update(rows, generator)

    def fitted(self, weights: Weights) -> RowNetwork:
        """As of the learner."""
        return self.learner.fitted(weights)


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


class FirstPlaceByPlace:
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


class FirstInOnePass:
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


class LastInPasses:
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


class LastInOnePass:
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
