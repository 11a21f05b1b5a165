"""Training of the row network by Adam, with few passes over the weights of its first layer.

They are nearly all of the network: embedding × n_items for each unit. Their gradient is the same for all items
that no row of the batch has, but for each place of the embedding, so the rest is computed for the batch's items
alone, and no gradient of all weights is ever made (see `row_adam`). What is trained is the same as with
`diffusion.training.Training`, but for rounding.
"""

from __future__ import annotations

import math
import time
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from unblur.diffusion.learner import Weights
from unblur.diffusion.rows import SparseRows
from unblur.diffusion.settings import Optimizer
from unblur.diffusion.training import EVENT_SECONDS, DivergedTraining, epoch_chance
from unblur.progress import Progress, ProgressEvent
from unblur.synthesis.downstream.row_adam import Moving, cells_adam, settle, update
from unblur.synthesis.downstream.row_network import Judged, RowNetwork, negative_error, upper_layers

LOOK_EVERY = 32
"""Updates between two looks for moments that are nothing."""
FAINT = 1e-16
"""A gradient below this is taken for 0, since its square would be denormal as well. It moves a weight by less than
1e-8 of the learning rate at an ε of 1e-8."""


def _without_faint(gradient: Tensor) -> Tensor:
    return functional.hardshrink(gradient, FAINT)


class RowTraining:
    """A network in training: its parameters are changed where they are."""

    def __init__(self, network: RowNetwork, rows: SparseRows, settings: Optimizer) -> None:
        """`rows` are all that will be trained on."""
        self.network, self.rows, self.settings = network, rows, settings
        self._embedding, self._cell_bias = (
            Moving.of(part.detach()) for part in (network.embedding, network.cell_bias)
        )
        self._upper = [Moving.of(part.detach()) for part in (*network.weights, *network.biases)]
        self._cells = cells_adam(network.cells.detach(), settings)
        self._sums = network.cells.detach().sum(1)  # (embedding, width)
        self._done = 0

    def update(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Train on the rows at these positions; gives their mean loss."""
        network, batch = self.network, self.rows.take(rows)
        items, x = batch.columns.unique(), batch.dense()
        shown = x[:, items]
        with torch.no_grad():
            off, on = network.embedding
            cells = network.cells.index_select(1, items).flatten(1)  # (embedding, items of the batch × width)
            always = off @ self._sums + network.cell_bias
            adds = ((on - off) @ cells).view(len(items), len(always))
            first = torch.addmm(always, shown, adds).requires_grad_()
        upper = [*network.weights, *network.biases]
        with torch.enable_grad():
            made = upper_layers(
                first, list(network.weights), list(network.biases), network.dropout, generator
            )
            made.register_hook(_without_faint)
            loss = functional.binary_cross_entropy_with_logits(made, x)
        by_first, *by_upper = map(_without_faint, torch.autograd.grad(loss, [first, *upper]))
        with torch.no_grad():
            by_always, by_adds = by_first.sum(0), _without_faint(shown.T @ by_first)
            by_apart = cells @ by_adds.flatten()
            by_embedding = torch.stack((self._sums @ by_always - by_apart, by_apart))
            shared, apart = off[:, None] * by_always, on - off
            self._sums = self._cells.update(items, shared, apart, by_adds)
            small = [self._embedding, self._cell_bias, *self._upper]
            update(small, [by_embedding, by_always, *by_upper], self.settings)
            self._done += 1
            if self._done % LOOK_EVERY == 0:
                self._settle()
        return loss.detach()

    def _settle(self) -> None:
        """Set moments that are nothing to 0."""
        settle([self._cell_bias, self._embedding, *self._upper])
        self._cells.settle()

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
