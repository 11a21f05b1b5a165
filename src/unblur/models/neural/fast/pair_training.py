"""Steps of Adam for the pair network that look at the rows of its tables that a batch needs, and at no others.

A batch has some hundreds of users and items, and the tables all of them; the steps of the others are taken when they are
needed (see `deferred_adam`). A step is that of autograd and `torch.optim.Adam`, but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.data.interactions import Interactions
from unblur.models.neural.fast.adam import Moving, settle, update
from unblur.models.neural.fast.deferred_adam import DeferredAdam
from unblur.models.neural.fast.pair_draws import Drawn
from unblur.models.neural.fast.pair_kernels import PairKernels
from unblur.models.neural.pair_network import PairLearner, PairNetwork
from unblur.training.learner import Moment
from unblur.training.networks import least_kept
from unblur.training.settings import Optimizer

if TYPE_CHECKING:
    from unblur.models.neural.neumf import NeuMF


class PairTraining:
    """A network in training: its dense layers are changed where they are, the rows of its tables when they are written."""

    def __init__(self, network: PairNetwork, settings: Optimizer, compiled: PairKernels) -> None:
        self.network, self.settings, self._kernels = network, settings, compiled
        self._tables = [
            DeferredAdam(table.detach().numpy(), settings, compiled)
            for table in (network.users, network.items)
        ]
        dense = [*network.weights, *network.biases, network.last, network.last_bias]
        self._dense = Moving.of(torch.cat([part.detach().flatten() for part in dense]))
        self._gradient = torch.zeros_like(self._dense.value)
        for part, place in zip(dense, _divided(self._dense.value, dense), strict=True):
            part.data = place
        self._network, self._by_network = (
            _layers([part.numpy() for part in _divided(flat, dense)])
            for flat in (self._dense.value, self._gradient)
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
        n, dropout = len(drawn.users), self.network.dropout
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
            (np.int16(least_kept(dropout)), np.float32(1 / (1 - dropout)), np.float32(1 / n)),
        )
        users.step(some_users, by_users)
        items.step(some_items, by_items)
        update([self._dense], [self._gradient], self.settings)
        settle([self._dense])
        return loss

    @torch.no_grad()
    def write(self) -> None:
        """Put the rows of the tables, all of them up to now, into the network."""
        for values, table in zip((self.network.users, self.network.items), self._tables, strict=True):
            values.copy_(torch.from_numpy(table.values()))


class PairStepper(PairLearner):
    """Trains the same network, but takes each step itself; weights from elsewhere cannot be put into it."""

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
        drawn = self.draws.batch(rows.numpy(), generator)
        return torch.tensor(self.training.update(drawn, len(rows)))


def _divided(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Views of a vector, with the shapes of some parts that were put one after the other."""
    places = flat.split([part.numel() for part in like])
    return [place.view(part.shape) for place, part in zip(places, like, strict=True)]


def _layers(parts: list[NDArray[np.float32]]) -> tuple[Any, ...]:
    """Weights of the layers, their biases, the last layer's weights (2·factors,) and its bias (1,)."""
    *layers, last, last_bias = parts
    depth = len(layers) // 2
    return tuple(layers[:depth]), tuple(layers[depth:]), last.reshape(-1), last_bias
