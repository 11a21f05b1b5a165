"""Training of the row network by Adam, with few passes over the weights of its first layer.

They are nearly all of the network: embedding × n_items for each unit. Their gradient is the same for all items
that no row of the batch has, but for each place of the embedding, so the rest is computed for the batch's items
alone; no gradient of all weights is ever made. Their step is one pass where numba is there (see `one_pass`); without
it each place of the embedding has its own, by torch, with a gradient in memory that all share. What is trained is the
same as with `diffusion.training.Training`, but for rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.adam import adam

from unblur.diffusion.learner import Weights
from unblur.diffusion.rows import SparseRows
from unblur.diffusion.training import EVENT_SECONDS, DivergedTraining, epoch_chance
from unblur.progress import Progress, ProgressEvent
from unblur.synthesis.downstream import one_pass
from unblur.synthesis.downstream.one_pass import OnePass
from unblur.synthesis.downstream.row_network import Judged, RowNetwork, negative_error, upper_layers

FIRST_BETA, SECOND_BETA, EPSILON = 0.9, 0.999, 1e-8
"""Adam's, as `torch.optim.Adam` has them."""
LOOK_EVERY = 32
"""Updates between two looks for moments that are nothing."""
NOTHING = 1e-35
"""A moment below this is set to 0: the moments of a unit without a gradient decay into denormal numbers, with which a
processor calculates some hundred times slower."""
FAINT = 1e-16
"""A gradient below this is taken for 0, since its square would be denormal as well. It moves a weight by less than
1e-8 of the learning rate (Adam's ε is 1e-8)."""


@dataclass(eq=False)
class _Moving:
    """A parameter with the moments of its gradients."""

    value: Tensor
    mean: Tensor
    square: Tensor
    updates: Tensor

    @classmethod
    def of(cls, value: Tensor) -> _Moving:
        return cls(value, torch.zeros_like(value), torch.zeros_like(value), torch.zeros(()))


def _update(parts: Sequence[_Moving], gradients: Sequence[Tensor], rate: float) -> None:
    adam(
        [part.value for part in parts],
        list(gradients),
        [part.mean for part in parts],
        [part.square for part in parts],
        [],
        [part.updates for part in parts],
        fused=True,
        amsgrad=False,
        beta1=FIRST_BETA,
        beta2=SECOND_BETA,
        lr=rate,
        weight_decay=0.0,
        eps=EPSILON,
        maximize=False,
    )


def _without_faint(gradient: Tensor) -> Tensor:
    return functional.hardshrink(gradient, FAINT)


class RowTraining:
    """A network in training: its parameters are changed where they are."""

    def __init__(self, network: RowNetwork, rows: SparseRows, rate: float) -> None:
        """`rows` are all that will be trained on; `rate` is Adam's learning rate."""
        self.network, self.rows, self.rate = network, rows, rate
        self._embedding = _Moving.of(network.embedding.detach())
        cells = network.cells.detach()
        self._one_pass = (
            OnePass(cells, (FIRST_BETA, SECOND_BETA), EPSILON, NOTHING) if one_pass.compiled() else None
        )
        self._cells = [] if self._one_pass else [_Moving.of(place) for place in cells]
        """For each place of the embedding, (n_items, width), where each has its own step."""
        self._cell_bias = _Moving.of(network.cell_bias.detach())
        self._upper = [_Moving.of(part.detach()) for part in (*network.weights, *network.biases)]
        self._ones = torch.ones(network.cells.shape[1])
        self._sums = torch.stack([self._ones @ place for place in cells])  # (embedding, width)
        self._gradient = torch.empty_like(
            cells[0] if self._cells else self._ones
        )  # of one place after the other
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
            self._follow_cells(items, by_always, by_adds)
            small = [self._embedding, self._cell_bias, *self._upper]
            _update(small, [by_embedding, by_always, *by_upper], self.rate)
            self._done += 1
            if self._done % LOOK_EVERY == 0:
                self._settle()
        return loss.detach()

    def _follow_cells(self, items: Tensor, by_always: Tensor, by_adds: Tensor) -> None:
        """One step of Adam for the weights of the first layer."""
        if self._one_pass is not None:
            off, on = self._embedding.value
            self._sums = self._one_pass.update(items, off[:, None] * by_always, on - off, by_adds, self.rate)
            return
        for place, cells in enumerate(self._cells):
            off, on = self._embedding.value[:, place].tolist()
            self._gradient.copy_(by_always * off)
            self._gradient.index_add_(0, items, by_adds, alpha=on - off)
            _update([cells], [self._gradient], self.rate)
            torch.mv(cells.value.T, self._ones, out=self._sums[place])

    def _settle(self) -> None:
        """Set moments that are nothing to 0."""
        for part in (*self._cells, self._cell_bias, self._embedding, *self._upper):
            for moment in (part.mean, part.square):
                functional.hardshrink(moment, NOTHING, out=moment)

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

    With ``keep="last"`` they are the last epoch's then, too. Training ends when `patience` epochs have passed without a smaller error. Raises `DivergedTraining` where a loss is
    not finite.
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
