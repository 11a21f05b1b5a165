"""Training of the row network by Adam, with few passes over the weights of its first layer.

They are nearly all of the network: embedding × n_items for each unit. Their gradient is the same for all items
that no row of the batch has, but for each place of the embedding, so the rest is computed for the batch's items
alone, and no gradient of all weights is ever made (see `row_first_layer`). What is trained is the same as with
`diffusion.training.Training`, but for rounding.
"""

from __future__ import annotations

import math
import time
from typing import Literal

import torch
from torch import Tensor

from unblur.diffusion.learner import Weights
from unblur.diffusion.rows import SparseRows
from unblur.diffusion.settings import Optimizer
from unblur.diffusion.training import EVENT_SECONDS, DivergedTraining, epoch_chance
from unblur.progress import Progress, ProgressEvent
from unblur.synthesis.downstream import row_first_layer, row_last_layer
from unblur.synthesis.downstream.row_adam import Moving, settle, update, without_faint
from unblur.synthesis.downstream.row_first_layer import FirstLayer
from unblur.synthesis.downstream.row_kernels import Kernels, Threads
from unblur.synthesis.downstream.row_last_layer import LastLayer
from unblur.synthesis.downstream.row_network import Judged, RowNetwork, hidden_layers, negative_error

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

    def negative_error(self, judged: Judged) -> float:
        """Minus the root mean squared error of the probabilities of all cells."""
        return negative_error(self.network, judged)

    def weights(self) -> Weights:
        """A copy of the weights, as the network has them."""
        return {name: value.clone() for name, value in self.network.state_dict().items()}


def trained_weights(
    training: RowTraining,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    patience: int | None,
    judged: Judged | None,
    progress: Progress,
    keep: Literal["best", "last"] = "best",
) -> Weights:
    """The weights after all epochs, or those of the best one where something to stop by is given.

    With ``keep="last"`` they are the last epoch's then, too. Training ends when `patience` epochs have passed
    without a smaller error. Raises `DivergedTraining` where a loss is not finite.
    """
    best, before, best_epoch = None, -math.inf, 0
    for epoch in range(1, epochs + 1):
        order, generator = epoch_chance(seed, epoch, len(training.rows), torch.device("cpu"))
        batches = order.split(batch_size)
        losses, told = torch.empty(len(batches)), time.perf_counter()
        for place, rows in enumerate(batches):
            losses[place] = training.update(rows, generator)
            if time.perf_counter() - told > EVENT_SECONDS:
                told = time.perf_counter()
                shown = {"loss": float(losses[place])}
                progress(ProgressEvent(f"train, epoch {epoch}", place + 1, len(batches), shown))
        if not bool(torch.isfinite(losses).all()):
            raise DivergedTraining(
                f"The loss of every batch must be finite; one in epoch {epoch} is not. Lower the learning rate."
            )
        shown = {"loss": float(losses.mean())}
        if judged is not None:
            shown["validation"] = training.negative_error(judged)
            if shown["validation"] > before:
                before, best_epoch = shown["validation"], epoch
                best = training.weights() if keep == "best" else None
        progress(ProgressEvent("train", epoch, epochs, shown))
        if judged is not None and patience is not None and epoch - best_epoch >= patience:
            break
    return training.weights() if best is None else best
