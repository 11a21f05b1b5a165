"""Training of the row network by Adam that leaves out the units of the first layer that no row turns on.

The first layer holds embedding × n_items weights for each unit, nearly all of the network. Its constant part,
Σ_i W_i·E_0, is moved by a step of all these weights at once, so that most units are soon below zero for every row:
nine of ten, at the sizes of the SDRM paper. Such a unit gets no gradient. Once what is left of its momentum is
nothing, it would stand still, and it sleeps: it costs nothing. It is woken as soon as the embedding, which all
units share, has moved so far that a row could turn it on; how far that is, is bounded, not guessed. What is
trained is the same as with `diffusion.training.Training`, but for rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.adam import adam

from unblur.diffusion.learner import Weights
from unblur.diffusion.rows import RowBatch, SparseRows
from unblur.diffusion.training import EVENT_SECONDS, DivergedTraining, epoch_chance
from unblur.progress import Progress, ProgressEvent
from unblur.synthesis.downstream.row_network import RowNetwork, error_of, upper_layers

FIRST_BETA, SECOND_BETA, EPSILON = 0.9, 0.999, 1e-8
"""Adam's, as `torch.optim.Adam` has them."""
SETTLED = 64
"""After so many updates without a gradient a unit may sleep: 0.1 % of its momentum is left."""
LONGEST = 512
"""Each time that a unit was woken soon, or could not sleep, it must be quiet for twice as long, up to so many updates."""
WORTH = 256
"""A shorter sleep saves less than finding the unit's bound costs."""
LOOK_EVERY = 32
"""Updates between two looks for units that may sleep."""
AT_ONCE = 4096
"""Rows that a unit's bound is measured on together."""
NOTHING = 1e-35
"""A moment below this is set to 0: the moments of a unit without a gradient decay into denormal numbers, with which a
processor calculates some hundred times slower."""
FAINT = 1e-16
"""A gradient below this is taken for 0, since its square would be denormal as well. It moves a weight by less than
1e-8 of the learning rate (Adam's ε is 1e-8)."""
SLACK = 1.001
"""What bounds are multiplied by, for rounding."""


@dataclass(eq=False)
class _Moving:
    """A tensor with the moments of its gradients."""

    value: Tensor
    mean: Tensor
    square: Tensor
    updates: Tensor

    @classmethod
    def of(cls, value: Tensor) -> _Moving:
        value = value.detach().clone(memory_format=torch.contiguous_format)
        return cls(value, torch.zeros_like(value), torch.zeros_like(value), torch.zeros(()))

    @property
    def arrays(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.value, self.mean, self.square

    def first(self, n: int) -> _Moving:
        """The first units, in the same memory."""
        return _Moving(self.value[:n], self.mean[:n], self.square[:n], self.updates)


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
    """The weights in training. Units of the first layer are kept in an order of their own, those awake first."""

    @torch.no_grad()
    def __init__(self, network: RowNetwork, rows: SparseRows, rate: float) -> None:
        """`rows` are all that will be trained on; `rate` is Adam's learning rate. The first layer must be without
        dropout."""
        self.rows, self.rate, self.dropout = rows, rate, network.dropout
        width = len(network.cell_bias)
        self.awake, self.order = width, torch.arange(width)
        self.embedding = _Moving.of(network.embedding)
        self.cells = [_Moving.of(cells.T) for cells in network.cells]
        """For each place of the embedding, (width, n_items)."""
        self.cell_bias = _Moving.of(network.cell_bias)
        self.second = _Moving.of(network.weights[0].T)
        """(width, width of the second layer)."""
        self.later = [_Moving.of(weight) for weight in list(network.weights)[1:]]
        self.biases = [_Moving.of(bias) for bias in network.biases]
        self._sums = torch.stack([cells.value.sum(1) for cells in self.cells])  # (embedding, width)
        self._table = torch.empty_like(self.cells[0].value)  # (width, n_items)
        self._gradient = torch.empty_like(self._table)
        self._tabulate(0, width)
        self._quiet = torch.zeros(width, dtype=torch.int64)
        self._needed = torch.full((width,), SETTLED)  # how long a unit must be quiet before it is looked at
        self._since = torch.zeros(width)  # the update at which a unit went to sleep
        self._reach = torch.zeros(width)  # of a sleeping unit: the largest Σ_i x_i·A_i of any row, then
        self._swing = torch.zeros(len(self.cells), width)  # and the largest |Σ_i x_i·W_i| by place
        self._apart = torch.zeros(len(self.cells), width)  # and E_1 − E_0
        self._all = [rows.take(places) for places in torch.arange(len(rows)).split(AT_ONCE)]
        self._done = 0

    @property
    def _shared(self) -> list[_Moving]:
        """What has one row a unit."""
        return [*self.cells, self.cell_bias, self.second]

    def update(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Train on the rows at these positions; gives their mean loss."""
        x = self.rows.take(rows).dense()
        n = self.awake
        with torch.no_grad():
            first = (x @ self._table[:n].T).add_(self._always(0, n)).requires_grad_()
        later = [part.value.requires_grad_() for part in (*self.later, *self.biases)]
        second = self.second.value[:n].detach().requires_grad_()
        weights = [second.T, *later[: len(self.later)]]
        with torch.enable_grad():
            made = upper_layers(first, weights, later[len(self.later) :], self.dropout, generator)
            made.register_hook(_without_faint)
            loss = functional.binary_cross_entropy_with_logits(made, x)
        gradients = torch.autograd.grad(loss, [first, second, *later])
        by_first, by_second, *by_later = map(_without_faint, gradients)
        with torch.no_grad():
            for part in later:
                part.requires_grad_(False)
            self._follow(x, by_first, by_second, by_later)
            self._quiet[:n] += 1
            self._quiet[:n][(by_first != 0).any(0)] = 0
            self._done += 1
            self._wake()
            if self._done % LOOK_EVERY == 0:
                self._rest()
                self._settle()
        return loss.detach()

    def _follow(self, x: Tensor, by_first: Tensor, by_second: Tensor, by_later: Sequence[Tensor]) -> None:
        """One step of Adam."""
        n = self.awake
        by_always = by_first.sum(0)
        by_adds = _without_faint(by_first.T @ x)
        flat = by_adds.view(-1)
        apart = torch.stack([cells.value[:n].view(-1).dot(flat) for cells in self.cells])
        by_embedding = torch.stack((self._sums[:, :n] @ by_always - apart, apart))
        before = self.embedding.value.tolist()
        small = [self.embedding, self.cell_bias.first(n), self.second.first(n), *self.later, *self.biases]
        _update(small, [by_embedding, by_always, by_second, *by_later], self.rate)
        table, gradient = self._table[:n], self._gradient[:n]
        for place, cells in enumerate(self.cells):
            off, on = before[0][place], before[1][place]
            torch.add((by_always * off)[:, None], by_adds, alpha=on - off, out=gradient)
            _update([cells.first(n)], [gradient], self.rate)
            now = float(self.embedding.value[1, place] - self.embedding.value[0, place])
            if place:
                table.add_(cells.value[:n], alpha=now)
            else:
                torch.mul(cells.value[:n], now, out=table)
            torch.sum(cells.value[:n], 1, out=self._sums[place, :n])

    def _tabulate(self, start: int, stop: int) -> None:
        """E_1 − E_0 times the weights of some units."""
        apart = self.embedding.value[1] - self.embedding.value[0]
        part = self._table[start:stop].zero_()
        for off, cells in zip(apart.tolist(), self.cells, strict=True):
            part.add_(cells.value[start:stop], alpha=off)

    def _always(self, start: int, stop: int) -> Tensor:
        """What some units get from every row."""
        return self.embedding.value[0] @ self._sums[:, start:stop] + self.cell_bias.value[start:stop]

    def _rest(self) -> None:
        """Put to sleep what has been quiet for long, and what no row can turn on."""
        found = (self._quiet[: self.awake] >= self._needed[: self.awake]).nonzero()[:, 0]
        if not len(found):
            return
        reach = self._largest(self._table[found])
        free = (self._always(0, self.awake)[found] + SLACK * reach) < 0
        self._quiet[found[~free]] = 0
        self._needed[found[~free]] = (2 * self._needed[found[~free]]).clamp_max(LONGEST)
        apart = self.embedding.value[1] - self.embedding.value[0]
        for unit, most in zip(found[free].flip(0).tolist(), reach[free].flip(0).tolist(), strict=True):
            last = self.awake - 1
            self._swap(unit, last)
            self._since[last], self._reach[last], self._apart[:, last] = self._done, most, apart
            self.awake = last
        if bool(free.any()):
            asleep = slice(self.awake, self.awake + int(free.sum()))
            for place, cells in enumerate(self.cells):
                both = torch.cat((cells.value[asleep], -cells.value[asleep]))
                self._swing[place, asleep] = self._largest(both).view(2, -1).amax(0)

    def _settle(self) -> None:
        """Set moments that are nothing to 0."""
        shared = [part.first(self.awake) for part in self._shared]
        for part in (*shared, self.embedding, *self.later, *self.biases):
            for moment in (part.mean, part.square):
                moment.copy_(functional.hardshrink(moment, NOTHING))

    def _wake(self) -> None:
        """Wake what a row could turn on by now."""
        n = self.awake
        if n == len(self.order):
            return
        apart = self.embedding.value[1] - self.embedding.value[0]
        moved = ((apart[:, None] - self._apart[:, n:]).abs() * self._swing[:, n:]).sum(0)
        bound = self._always(n, len(self.order)) + SLACK * (self._reach[n:] + moved)
        for unit in (n + (bound >= 0).nonzero()[:, 0]).tolist():
            first = self.awake
            self._swap(unit, first)
            slept = self._done - int(self._since[first])
            for part in self._shared:
                part.mean[first] *= FIRST_BETA**slept
                part.square[first] *= SECOND_BETA**slept
            self._quiet[first] = 0
            self._needed[first] = SETTLED if slept >= WORTH else min(2 * int(self._needed[first]), LONGEST)
            self._tabulate(first, first + 1)
            self.awake = first + 1

    def _largest(self, table: Tensor) -> Tensor:
        """The largest Σ_i x_i·table_i of any row, for each of (n, n_items): (n,)."""
        by_item, most = table.T.contiguous(), torch.full((len(table),), -math.inf)
        for batch in self._all:
            most = torch.maximum(most, batch.times(by_item).amax(0))
        return most

    def _swap(self, one: int, other: int) -> None:
        if one == other:
            return
        pair, turned = [one, other], [other, one]
        for part in self._shared:
            for array in part.arrays:
                array[pair] = array[turned]
        for array in (self.order, self._table, self._quiet, self._needed, self._since, self._reach):
            array[pair] = array[turned]
        for array in (self._sums, self._swing, self._apart):
            array[:, pair] = array[:, turned]

    @torch.no_grad()
    def negative_error(self, rows: SparseRows) -> float:
        """Minus the root mean squared error of the probabilities of all cells."""
        width = len(self.order)
        self._tabulate(self.awake, width)
        adds, always = self._table.T.contiguous(), self._always(0, width)

        def made(batch: RowBatch) -> Tensor:
            weights = [self.second.value.T, *(part.value for part in self.later)]
            biases = [part.value for part in self.biases]
            return upper_layers(batch.times(adds) + always, weights, biases, self.dropout, None)

        return -error_of(made, rows)

    def weights(self) -> Weights:
        """A copy of the weights, as the network has them."""
        back = self.order.argsort()
        made = {
            "embedding": self.embedding.value.clone(),
            "cells": torch.stack([cells.value[back].T for cells in self.cells]),
            "cell_bias": self.cell_bias.value[back],
            "weights.0": self.second.value[back].T.contiguous(),
        }
        made |= {f"weights.{place}": part.value.clone() for place, part in enumerate(self.later, start=1)}
        made |= {f"biases.{place}": part.value.clone() for place, part in enumerate(self.biases)}
        return made


def trained_weights(
    training: RowTraining,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    patience: int | None,
    judged: SparseRows | None,
    progress: Progress,
) -> Weights:
    """The weights after all epochs, or those of the best one where rows to stop by are given.

    Training ends when `patience` epochs have passed without a smaller error. Raises `DivergedTraining` where a loss is
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
                best, before, best_epoch = training.weights(), shown["validation"], epoch
        progress(ProgressEvent("train", epoch, epochs, shown))
        if judged is not None and patience is not None and epoch - best_epoch >= patience:
            break
    return training.weights() if best is None else best
