"""Steps of Adam for the pair network that look at the rows of its tables that a batch needs, and at no others.

A batch has some hundreds of users and items, and the tables all of them; the steps of the others are taken when they are
needed (see `deferred_adam`). A step is that of autograd and `torch.optim.Adam`, but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.diffusion.dropout import least_kept
from unblur.diffusion.learner import Moment
from unblur.diffusion.settings import Optimizer
from unblur.interactions import Interactions
from unblur.synthesis.downstream.adam import Moving, settle, update, without_faint
from unblur.synthesis.downstream.deferred_adam import DeferredAdam
from unblur.synthesis.downstream.pair_draws import Drawn
from unblur.synthesis.downstream.pair_kernels import PairKernels
from unblur.synthesis.downstream.pair_network import PairLearner, PairNetwork

if TYPE_CHECKING:
    from unblur.synthesis.downstream.neumf import NeuMF


class PairTraining:
    """A network in training: its parameters are changed where they are."""

    def __init__(self, network: PairNetwork, settings: Optimizer, compiled: PairKernels) -> None:
        self.settings, self._kernels, self._dropout = settings, compiled, network.dropout
        self._into = network
        self._tables = [
            DeferredAdam(table.detach().numpy(), settings, compiled)
            for table in (network.users, network.items)
        ]
        dense = [*network.weights, *network.biases, network.last, network.last_bias]
        flat = torch.cat([part.detach().flatten() for part in dense])
        self._dense, self._gradient = Moving.of(flat), torch.zeros_like(flat)
        ends = np.cumsum([0, *(part.numel() for part in dense)])
        for part, (begin, end) in zip(dense, pairwise(ends), strict=True):
            part.data = flat[begin:end].view(part.shape)
        depth = len(network.weights)
        self._network = _divided([part.detach().numpy() for part in dense], depth)
        self._by_network = _divided(
            [
                self._gradient[begin:end].view(part.shape).numpy()
                for part, (begin, end) in zip(dense, pairwise(ends), strict=True)
            ],
            depth,
        )
        self._widths = [network.weights[0].shape[1], *(len(weight) for weight in network.weights)]

    @torch.no_grad()
    def update(self, drawn: Drawn, positives: int) -> float:
        """Train on pairs of which the first `positives` are interactions; gives their mean loss."""
        users, items = self._tables
        (some_users, user_places), (some_items, item_places) = users.ask(drawn.users), items.ask(drawn.items)
        by_users, by_items = (
            np.zeros((len(rows), users.table.shape[2]), dtype=np.float32) for rows in (some_users, some_items)
        )
        n = len(drawn.users)
        made, asked = (
            tuple(np.empty((n, width), dtype=np.float32) for width in self._widths) for _ in range(2)
        )
        loss = self._kernels.gradients(
            (users.table, items.table),
            (drawn.users, drawn.items, user_places, item_places, positives),
            drawn.words,
            self._network,
            (by_users, by_items, *self._by_network),
            made,
            asked,
            (np.int16(least_kept(self._dropout)), np.float32(1 / (1 - self._dropout)), np.float32(1 / n)),
        )
        users.step(some_users, by_users)
        items.step(some_items, by_items)
        update([self._dense], [without_faint(self._gradient)], self.settings)
        settle([self._dense])
        return loss

    @torch.no_grad()
    def write(self) -> None:
        """Put the rows of the tables, all of them up to now, into the network."""
        for values, table in zip((self._into.users, self._into.items), self._tables, strict=True):
            values.copy_(torch.from_numpy(table.values()))


class PairStepper(PairLearner):
    """Trains the same network, but takes each step itself."""

    def __init__(self, spec: NeuMF, train: Interactions, seed: int, compiled: PairKernels) -> None:
        """See `PairTraining`."""
        super().__init__(spec, train, seed, torch.device("cpu"), compiled)
        self.training = PairTraining(self.network, spec.optimizer, compiled)

    @property
    def module(self) -> nn.Module:
        """The network, all of it up to now."""
        self.training.write()
        return self.network

    @property
    def groups(self) -> Sequence[tuple[nn.Module, Optimizer]]:
        """None."""
        return []

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some interactions and of their negatives before a step is taken for them."""
        drawn = self.draws.batch(rows.numpy(), moment, generator)
        return torch.tensor(self.training.update(drawn, len(rows)))


def _divided(parts: list[NDArray[np.float32]], depth: int) -> tuple[Any, ...]:
    """Weights of the layers, their biases, the last layer's weights (2·factors,) and its bias (1,)."""
    return tuple(parts[:depth]), tuple(parts[depth : 2 * depth]), parts[-2].reshape(-1), parts[-1]
