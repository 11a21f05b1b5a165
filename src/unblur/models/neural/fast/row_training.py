"""Steps of Adam for the row network, with few passes over the weights of its first layer and of its last.

The weights of the first are nearly all of the network: embedding × n_items for each unit. For each number of the
embedding their gradient is the same for all items that no row of the batch has, so only the rest is computed, for the
batch's items alone, and no gradient of all weights is ever in memory. If numba is installed (`unblur[fast]`) a step of
either layer is one compiled pass, while a row is in the processor; without it each table takes several passes of torch.
Both are steps of autograd and `torch.optim.Adam`, but for rounding.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unblur.models.neural.fast.adam import (
    FAINT,
    FIRST_BETA,
    NOTHING,
    SECOND_BETA,
    Adam,
    numbers_of_step,
    without_faint,
)
from unblur.training.loop import Moment
from unblur.training.settings import Optimizer

if TYPE_CHECKING:
    from unblur.models.neural.row_mlp import RowLearner

BLOCKS = 16
"""Parts of a table, over which a kernel sums separately: a fixed number, so that sums do not depend on threads."""
SETTLE_EVERY = 32
"""Updates between two calls of `Adam.settle`: a moment of `NOTHING` takes longer to become denormal."""
FORGOTTEN = 1e-8
"""A moment that has decayed to less than this fraction is taken for 0."""
NEVER_FAINT = 1e-29
"""A row's own moments are set to 0 below this, so that they are not denormal even when they have decayed nearly to
`FORGOTTEN`."""
AT_ONCE = 4
"""Rows of a batch that the kernel processes together."""


class RowStepper:
    """Trains the network of a learner, but takes each step itself: parameters are changed in place."""

    def __init__(self, learner: RowLearner, kernels: ModuleType | None = None, threads: int = 1) -> None:
        """Use `kernels` for the steps of the large layers, or torch if None.

        The kernels run in `threads` threads, best with torch's own at rest (`parallel.libraries_at_rest`).
        """
        network, settings = learner.module, learner.spec.optimizer
        self.module, self.rows, self.n_rows, self.fitted = (
            network,
            learner.rows,
            learner.n_rows,
            learner.fitted,
        )
        self.groups: Sequence[tuple[nn.Module, Optimizer]] = []
        *hidden_weights, last = network.weights
        *hidden_biases, last_bias = network.biases
        self._hidden_parts = [*hidden_weights, *hidden_biases]
        small_parts = (network.embedding, network.cell_bias, *self._hidden_parts)
        self._small_adam = Adam([part.detach() for part in small_parts], settings)
        cells, weights, biases = network.cells.detach(), last.detach(), last_bias.detach()
        pool = Threads(threads)
        self._first: FirstByTables | FirstInOnePass = (
            FirstByTables(cells, settings)
            if kernels is None
            else FirstInOnePass(cells, settings, kernels, pool)
        )
        self._last: LastInPasses | LastInOnePass = (
            LastInPasses(weights, biases, settings)
            if kernels is None
            else LastInOnePass(weights, biases, settings, kernels, pool)
        )
        self._sums = cells.sum(1)  # (embedding, width)
        self._step = 0

    @torch.no_grad()
    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """Return the mean loss of some rows, and take a step for it."""
        network, batch = self.module, self.rows.take(rows)
        items, x = batch.columns.unique(), batch.dense()
        inputs = x[:, items]
        zero_embedding, one_embedding = network.embedding
        constant, difference = zero_embedding @ self._sums + network.cell_bias, one_embedding - zero_embedding
        # The first layer: Σ_i E_0·W_i is there for every row, and (E_1 − E_0)·W_i is added for each item i that it has.
        sums = torch.addmm(constant, inputs, self._first.sum_rows(items, difference)).requires_grad_()
        # Autograd for the small layers between the two large ones.
        with torch.enable_grad():
            h = network.hidden(sums, generator)
        loss, by_h = self._last.update(h.detach(), x)
        by_first, *by_hidden = map(without_faint, torch.autograd.grad(h, [sums, *self._hidden_parts], by_h))
        # By the chain rule: E_0 has W's sums for its gradient by the constant; E_1 − E_0 the batch's items alone.
        by_constant, own_gradients = by_first.sum(0), without_faint(inputs.T @ by_first)
        by_zero = self._sums @ by_constant
        self._sums, by_difference = self._first.update(
            items, zero_embedding[:, None] * by_constant, difference, own_gradients
        )
        self._small_adam.step(torch.stack((by_zero - by_difference, by_difference)), by_constant, *by_hidden)
        self._step += 1
        if self._step % SETTLE_EVERY == 0:
            for adam in (self._small_adam, *self._first.adams, *self._last.adams):
                adam.settle()
        return loss


class Threads:
    """Threads among which the blocks of a kernel are divided."""

    def __init__(self, number: int) -> None:
        self._map: Callable[..., Iterable[None]] = map if number == 1 else ThreadPoolExecutor(number).map
        self._parts = list(pairwise(BLOCKS * part // number for part in range(number + 1)))

    def run(self, kernel: Callable[..., None], *arguments: Any) -> None:
        """Run a kernel on all blocks."""
        deque(self._map(partial(kernel, *arguments), self._parts), maxlen=0)


class FirstByTables:
    """The first layer's tables of weights, (embedding, n_rows, width), changed in place.

    By torch: one table after the other, all with the same memory for their gradients.
    """

    def __init__(self, values: Tensor, settings: Optimizer) -> None:
        self.adams = [Adam([table], settings) for table in values]
        self._tables, self._gradient = values, torch.empty_like(values[0])
        self._ones = torch.ones(values.shape[1])
        self._batch_weights: list[Tensor] = []  # of the rows of the last `sum_rows`

    def sum_rows(self, rows: Tensor, factors: Tensor) -> Tensor:
        """Return ``Σ_k factors[k]·table_k[rows]``, (n, width)."""
        self._batch_weights = [table.index_select(0, rows) for table in self._tables]
        sums = torch.zeros(len(rows), self._gradient.shape[1])
        for weights, factor in zip(self._batch_weights, factors.tolist(), strict=True):
            sums.add_(weights, alpha=factor)
        return sums

    def update(
        self, rows: Tensor, shared_gradients: Tensor, factors: Tensor, own_gradients: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Take one step of Adam, with `rows` those of the last `sum_rows`.

        The gradient of table k is ``shared_gradients[k]`` in each row, plus ``factors[k]·own_gradients`` at `rows`, (n,).
        Returns the sums of the new weights over their rows, (embedding, width), and the gradient of `factors`,
        (embedding,): the old weights of `rows` times `own_gradients`, summed.
        """
        sums, by_factors = torch.empty_like(shared_gradients), torch.empty_like(factors)
        for k, (adam, factor) in enumerate(zip(self.adams, factors.tolist(), strict=True)):
            by_factors[k] = self._batch_weights[k].view(-1) @ own_gradients.reshape(-1)
            self._gradient.copy_(shared_gradients[k])
            self._gradient.index_add_(0, rows, own_gradients, alpha=factor)
            adam.step(self._gradient)
            torch.mv(self._tables[k].T, self._ones, out=sums[k])
        return sums, by_factors


class FirstInOnePass:
    """The same by a kernel. Moments are linear in gradients and their squares, so they are stored in two parts.

    One part comes from the shared gradient and is the same for all rows. The other comes from a row's own gradients: it
    is stored as of the last of these, decays from then on, and is written only at the next one. A step reads and writes
    all weights, but for each of them reads only one number more (two until the first moment has decayed) and writes
    none; Adam would read and write two.
    """

    adams: Sequence[Adam] = ()

    def __init__(self, values: Tensor, settings: Optimizer, kernels: ModuleType, threads: Threads) -> None:
        self.settings, self._kernels, self._threads = settings, kernels, threads
        embedding, n_rows, width = values.shape
        self.means, self.squares = torch.zeros_like(values), torch.zeros_like(values)
        self.common_mean, self.common_square = torch.zeros(embedding, width), torch.zeros(embedding, width)
        self._tables = tuple(part.numpy() for part in (values, self.means, self.squares))
        self._sums, self._dots = (np.empty((embedding, BLOCKS, width), dtype=np.float32) for _ in range(2))
        self._own_indices, self._last_own_step = (
            np.full(n_rows, -1, dtype=np.int32),
            np.zeros(n_rows, dtype=np.int64),
        )
        self._decays = [_decays(FIRST_BETA), _decays(SECOND_BETA)]
        self._step = 0

    def sum_rows(self, rows: Tensor, factors: Tensor) -> Tensor:
        """See `FirstByTables`."""
        sums = torch.empty(len(rows), self._sums.shape[2])
        self._threads.run(
            self._kernels.weighted_rows, self._tables[0], rows.numpy(), factors.numpy(), sums.numpy()
        )
        return sums

    def update(
        self, rows: Tensor, shared_gradients: Tensor, factors: Tensor, own_gradients: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `FirstByTables`."""
        self._step += 1
        self.common_mean.mul_(FIRST_BETA).add_(shared_gradients, alpha=1 - FIRST_BETA)
        self.common_square.mul_(SECOND_BETA).addcmul_(
            shared_gradients, shared_gradients, value=1 - SECOND_BETA
        )
        for moment in (self.common_mean, self.common_square):
            functional.hardshrink(moment, NOTHING, out=moment)
        indices, ages = rows.numpy(), self._step - self._last_own_step
        self._own_indices[indices] = np.arange(len(indices), dtype=np.int32)
        self._threads.run(
            self._kernels.first_layer,
            self._tables,
            (self.common_mean.numpy(), self.common_square.numpy()),
            (shared_gradients.numpy(), factors.numpy(), own_gradients.numpy()),
            (self._own_indices, *(table[np.minimum(ages, len(table) - 1)] for table in self._decays)),
            self._sums,
            self._dots,
            numbers_of_step(self.settings, self._step, NEVER_FAINT),
        )
        self._own_indices[indices], self._last_own_step[indices] = -1, self._step
        return torch.from_numpy(self._sums.sum(1)), torch.from_numpy(self._dots.sum((1, 2)))


def _decays(beta: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return β⁰, β¹, β², … down to `FORGOTTEN`, and then 0."""
    powers = beta ** np.arange(math.ceil(math.log(FORGOTTEN) / math.log(beta)) + 1)
    powers[-1] = 0
    return powers.astype(np.float32)


class LastInPasses:
    """The last layer's weights (n_items, width) and biases (n_items,), changed in place by torch."""

    def __init__(self, weights: Tensor, biases: Tensor, settings: Optimizer) -> None:
        self.adams = [Adam([weights, biases], settings)]

    def update(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Take one step of Adam for the mean binary cross-entropy of the logits of `inputs`, (n, width).

        `targets` are (n, n_items). Returns that mean and its gradient by `inputs`, both of the old weights.
        """
        weights, biases = self.adams[0].values
        logits = functional.linear(inputs, weights, biases)
        loss = functional.binary_cross_entropy_with_logits(logits, targets)
        by_logits = without_faint(logits.sigmoid_().sub_(targets).div_(logits.numel()))
        by_inputs = by_logits @ weights
        self.adams[0].step(without_faint(by_logits.T @ inputs), by_logits.sum(0))
        return loss, by_inputs


class LastInOnePass:
    """The same by a kernel: logits, both gradients and the step of an item's weights while these are in the processor.

    The kernel itself sets moments below `NOTHING` to 0.
    """

    def __init__(
        self, weights: Tensor, biases: Tensor, settings: Optimizer, kernels: ModuleType, threads: Threads
    ) -> None:
        self.settings, self.adams = settings, [Adam([biases], settings)]
        self.mean, self.square = torch.zeros_like(weights), torch.zeros_like(weights)
        self._tables = tuple(part.numpy() for part in (weights, self.mean, self.square))
        self._biases, self._kernel, self._threads = biases, kernels.last_layer, threads
        self._losses = np.empty(BLOCKS)
        self._step = 0

    def update(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See `LastInPasses`."""
        self._step += 1
        n, weight = len(inputs), np.float32(1 / targets.numel())
        padding = -n % AT_ONCE
        rows = functional.pad(inputs, (0, 0, 0, padding))
        by_logits = torch.empty(len(self._biases), n + padding)
        by_inputs = np.empty((BLOCKS, n, inputs.shape[1]), dtype=np.float32)
        self._threads.run(
            self._kernel,
            self._tables,
            (
                rows.numpy(),
                targets.T.contiguous().numpy(),
                self._biases.numpy(),
                n,
                np.float32(FAINT),
                weight,
            ),
            by_logits.numpy(),
            by_inputs,
            self._losses,
            numbers_of_step(self.settings, self._step, NOTHING),
        )
        self.adams[0].step(by_logits.sum(1))
        return torch.tensor(self._losses.sum() / targets.numel()), torch.from_numpy(by_inputs.sum(0))
