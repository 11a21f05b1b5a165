"""Steps of Adam for the row network, with few passes over the weights of its first layer.

They are nearly all of the network: embedding × n_items for each unit. Their gradient is the same for all items
that no row of the batch has, but for each place of the embedding, so the rest is computed for the batch's items
alone, and no gradient of all weights is ever made (see `row_first_layer`). A step is that of autograd and
`torch.optim.Adam`, but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from unblur.data.interactions import Interactions
from unblur.models.neural.fast import row_first_layer, row_last_layer
from unblur.models.neural.fast.adam import Moving, settle, update, without_faint
from unblur.models.neural.fast.row_first_layer import FirstLayer
from unblur.models.neural.fast.row_kernels import Kernels, Threads
from unblur.models.neural.fast.row_last_layer import LastLayer
from unblur.models.neural.row_network import RowLearner, RowNetwork, hidden_layers
from unblur.training.learner import Moment
from unblur.training.rows import SparseRows
from unblur.training.settings import Optimizer

if TYPE_CHECKING:
    from unblur.models.neural.row_mlp import RowMLP

LOOK_EVERY = 32
"""Updates between two looks for moments that are nothing."""


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
        *self._hidden_weights, last = network.weights
        *self._hidden_biases, last_bias = network.biases
        small = (network.embedding, network.cell_bias, *self._hidden_weights, *self._hidden_biases)
        self._small = [Moving.of(part.detach()) for part in small]
        cells, weights, biases = network.cells.detach(), last.detach(), last_bias.detach()
        self._first: FirstLayer
        self._last: LastLayer
        if compiled is None:
            self._first = row_first_layer.PlaceByPlace(cells, settings)
            self._last = row_last_layer.InPasses(weights, biases, settings)
        else:
            among = Threads(threads)
            self._first = row_first_layer.InOnePass(cells, settings, compiled, among)
            self._last = row_last_layer.InOnePass(weights, biases, settings, compiled, among)
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
        hidden = [*self._hidden_weights, *self._hidden_biases]
        with torch.enable_grad():
            h = hidden_layers(first, self._hidden_weights, self._hidden_biases, network.dropout, generator)
        loss, by_h = self._last.update(h.detach(), x)
        by_first, *by_hidden = map(without_faint, torch.autograd.grad(h, [first, *hidden], by_h))
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


class RowStepper(RowLearner):
    """Trains the same network, but takes each step itself."""

    def __init__(
        self,
        spec: RowMLP,
        train: Interactions,
        seed: int,
        compiled: Kernels | None = None,
        threads: int = 1,
    ) -> None:
        """See `RowTraining`."""
        super().__init__(spec, train, seed, torch.device("cpu"))
        self.training = RowTraining(self.network, self.rows, spec.optimizer, compiled, threads)

    @property
    def groups(self) -> Sequence[tuple[nn.Module, Optimizer]]:
        """None."""
        return []

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some rows before a step is taken for it."""
        return self.training.update(rows, generator)
