"""Steps of Adam for the row network, with few passes over the weights of its first layer and of its last.

Those of the first are nearly all of the network: embedding × n_items for each unit. Their gradient is the same for all
items that no row of the batch has, but for each place of the embedding, so the rest is computed for the batch's items
alone, and no gradient of all weights is ever made. Where numba is installed (`unblur[fast]`) a step of either layer is
one compiled pass, while a row is in the processor; without it each table takes several passes of torch. Both are steps
of autograd and `torch.optim.Adam`, but for rounding.
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
"""Parts of a table, by which a kernel sums over its rows."""
LOOK_EVERY = 32
"""Updates between two looks for moments that are nothing."""
FORGOTTEN = 1e-8
"""What has decayed to less than this share is taken for 0."""
NEVER_FAINT = 1e-29
"""What a row's own gradients add to its moments is set to 0 below this, so that it is not denormal even when it has
decayed nearly to `FORGOTTEN`."""
AT_ONCE = 4
"""Rows of a batch that the kernel deals with together."""


class RowStepper:
    """Trains the network of a learner in its place, but takes each step itself: parameters are changed where they are."""

    def __init__(self, learner: RowLearner, kernels: ModuleType | None = None, threads: int = 1) -> None:
        """With `kernels` the large layers take their steps by these, on so many threads, which want the processor for
        themselves (`parallel.torch_at_rest`); else by torch."""
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
        self._hidden = [*hidden_weights, *hidden_biases]
        small = (network.embedding, network.cell_bias, *self._hidden)
        self._small = Adam([part.detach() for part in small], settings)
        cells, weights, biases = network.cells.detach(), last.detach(), last_bias.detach()
        among = Threads(threads)
        self._first: FirstPlaceByPlace | FirstInOnePass = (
            FirstPlaceByPlace(cells, settings)
            if kernels is None
            else FirstInOnePass(cells, settings, kernels, among)
        )
        self._last: LastInPasses | LastInOnePass = (
            LastInPasses(weights, biases, settings)
            if kernels is None
            else LastInOnePass(weights, biases, settings, kernels, among)
        )
        self._sums = cells.sum(1)  # (embedding, width)
        self._done = 0

    @torch.no_grad()
    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some rows before a step is taken for it."""
        network, batch = self.module, self.rows.take(rows)
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
        self._small.step(torch.stack((by_off - by_apart, by_apart)), by_always, *by_hidden)
        self._done += 1
        if self._done % LOOK_EVERY == 0:
            for adam in (self._small, *self._first.adams, *self._last.adams):
                adam.settle()
        return loss


class Threads:
    """Threads among which the blocks of a kernel are divided."""

    def __init__(self, number: int) -> None:
        self._each: Callable[..., Iterable[None]] = map if number == 1 else ThreadPoolExecutor(number).map
        self._parts = list(pairwise(BLOCKS * part // number for part in range(number + 1)))

    def run(self, kernel: Callable[..., None], *given: Any) -> None:
        """All blocks of a kernel."""
        deque(self._each(partial(kernel, *given), self._parts), maxlen=0)


class FirstPlaceByPlace:
    """Tables of weights, (places, n_rows, width), which are changed where they are.

    By torch: one table after the other, with a gradient in memory that all share.
    """

    def __init__(self, values: Tensor, settings: Optimizer) -> None:
        self.adams = [Adam([table], settings) for table in values]
        self._tables, self._gradient = values, torch.empty_like(values[0])
        self._ones = torch.ones(values.shape[1])
        self._picked: list[Tensor] = []  # the weights of the rows that `added` was asked for

    def added(self, rows: Tensor, apart: Tensor) -> Tensor:
        """The tables of some rows, (n,), each place times its number in `apart`, (places,), summed: (n, width)."""
        self._picked = [table.index_select(0, rows) for table in self._tables]
        added = torch.zeros(len(rows), self._gradient.shape[1])
        for picked, factor in zip(self._picked, apart.tolist(), strict=True):
            added.add_(picked, alpha=factor)
        return added

    def update(self, rows: Tensor, shared: Tensor, apart: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """One step of Adam, for the rows that `added` was asked for last; gives the sums of the new weights over their
        rows, (places, width), and the gradient of `apart`, (places,): the old weights of `rows` times `own`, summed.

        The gradient of a row is `shared`, (places, width), and for those at `rows`, (n,), also `own`, (n, width), times
        `apart`, (places,).
        """
        sums, by_apart = torch.empty_like(shared), torch.empty_like(apart)
        for place, (adam, factor) in enumerate(zip(self.adams, apart.tolist(), strict=True)):
            by_apart[place] = self._picked[place].view(-1) @ own.reshape(-1)
            self._gradient.copy_(shared[place])
            self._gradient.index_add_(0, rows, own, alpha=factor)
            adam.step(self._gradient)
            torch.mv(self._tables[place].T, self._ones, out=sums[place])
        return sums, by_apart


class FirstInOnePass:
    """The same by a kernel. Moments are linear in gradients and their squares, so they are kept in two parts.

    One part comes from the shared gradient and is the same for all rows. The other comes from what was a row's own: it
    is kept as of the row's last own gradient, decays from then on, and is written only when another one comes. A step
    reads and writes all weights, but reads one number more for each of them (two while the first moment lasts) and
    writes none, where Adam would read and write two.
    """

    adams: Sequence[Adam] = ()

    def __init__(self, values: Tensor, settings: Optimizer, kernels: ModuleType, threads: Threads) -> None:
        self.settings, self._kernels, self._threads = settings, kernels, threads
        places, n_rows, width = values.shape
        self.means, self.squares = torch.zeros_like(values), torch.zeros_like(values)
        self.common_mean, self.common_square = torch.zeros(places, width), torch.zeros(places, width)
        self._tables = tuple(part.numpy() for part in (values, self.means, self.squares))
        self._sums, self._dots = (np.empty((places, BLOCKS, width), dtype=np.float32) for _ in range(2))
        self._where, self._last = np.full(n_rows, -1, dtype=np.int32), np.zeros(n_rows, dtype=np.int64)
        self._decays = [_decays(FIRST_BETA), _decays(SECOND_BETA)]
        self._done = 0

    def added(self, rows: Tensor, apart: Tensor) -> Tensor:
        """See `FirstPlaceByPlace`."""
        added = torch.empty(len(rows), self._sums.shape[2])
        self._threads.run(
            self._kernels.weighted_rows, self._tables[0], rows.numpy(), apart.numpy(), added.numpy()
        )
        return added

    def update(self, rows: Tensor, shared: Tensor, apart: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """See `FirstPlaceByPlace`."""
        self._done += 1
        self.common_mean.mul_(FIRST_BETA).add_(shared, alpha=1 - FIRST_BETA)
        self.common_square.mul_(SECOND_BETA).addcmul_(shared, shared, value=1 - SECOND_BETA)
        for moment in (self.common_mean, self.common_square):
            functional.hardshrink(moment, NOTHING, out=moment)
        at, ages = rows.numpy(), self._done - self._last
        self._where[at] = np.arange(len(at), dtype=np.int32)
        self._threads.run(
            self._kernels.first_layer,
            self._tables,
            (self.common_mean.numpy(), self.common_square.numpy()),
            (shared.numpy(), apart.numpy(), own.numpy()),
            (self._where, *(table[np.minimum(ages, len(table) - 1)] for table in self._decays)),
            self._sums,
            self._dots,
            numbers_of_step(self.settings, self._done, NEVER_FAINT),
        )
        self._where[at], self._last[at] = -1, self._done
        return torch.from_numpy(self._sums.sum(1)), torch.from_numpy(self._dots.sum((1, 2)))


def _decays(beta: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """β⁰, β¹, β², … as far as it matters, and then 0."""
    powers = beta ** np.arange(math.ceil(math.log(FORGOTTEN) / math.log(beta)) + 1)
    powers[-1] = 0
    return powers.astype(np.float32)


class LastInPasses:
    """Weights (n_items, width) and biases (n_items,), which are changed where they are: by torch."""

    def __init__(self, weights: Tensor, biases: Tensor, settings: Optimizer) -> None:
        self.adams = [Adam([weights, biases], settings)]

    def update(self, shown: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """One step of Adam for the mean binary cross-entropy of logits made of `shown`, (n, width), against `wanted`,
        (n, n_items).

        Gives that mean, and its gradient by `shown`, both by the old weights.
        """
        weights, biases = self.adams[0].values
        logits = functional.linear(shown, weights, biases)
        loss = functional.binary_cross_entropy_with_logits(logits, wanted)
        asked = without_faint(logits.sigmoid_().sub_(wanted).div_(logits.numel()))
        before = asked @ weights
        self.adams[0].step(without_faint(asked.T @ shown), asked.sum(0))
        return loss, before


class LastInOnePass:
    """The same by a kernel: an item's weights give its logits and both gradients, and take their step, while they are in
    the processor. The kernel sets moments of weights that are nothing to 0 itself."""

    def __init__(
        self, weights: Tensor, biases: Tensor, settings: Optimizer, kernels: ModuleType, threads: Threads
    ) -> None:
        self.settings, self.adams = settings, [Adam([biases], settings)]
        self.mean, self.square = torch.zeros_like(weights), torch.zeros_like(weights)
        self._tables = tuple(part.numpy() for part in (weights, self.mean, self.square))
        self._biases, self._kernel, self._threads = biases, kernels.last_layer, threads
        self._losses = np.empty(BLOCKS)
        self._done = 0

    def update(self, shown: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """See `LastInPasses`."""
        self._done += 1
        n, share = len(shown), np.float32(1 / wanted.numel())
        missing = -n % AT_ONCE
        rows = functional.pad(shown, (0, 0, 0, missing))
        asked = torch.empty(len(self._biases), n + missing)
        before = np.empty((BLOCKS, n, shown.shape[1]), dtype=np.float32)
        self._threads.run(
            self._kernel,
            self._tables,
            (rows.numpy(), wanted.T.contiguous().numpy(), self._biases.numpy(), n, np.float32(FAINT), share),
            asked.numpy(),
            before,
            self._losses,
            numbers_of_step(self.settings, self._done, NOTHING),
        )
        self.adams[0].step(asked.sum(1))
        return torch.tensor(self._losses.sum() / wanted.numel()), torch.from_numpy(before.sum(0))
