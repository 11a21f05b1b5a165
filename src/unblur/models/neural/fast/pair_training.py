"""Steps of Adam for the pair network that look at the rows of its tables that a batch needs, and at no others.

A batch has some hundreds of users and items, and the tables all of them; the steps of the others are taken when they are
needed. A step is that of autograd and `torch.optim.Adam`, but for rounding.

**Steps that wait.** A row without a gradient moves as well, by what is left of its first moment. Nobody sees where it is before it is needed
again, so all these steps are taken at once then. From the one after step t to that of now they add up to

    rate · mean · Σ_s (β₁/ρ)^(s−t) · c_s / (√square + ε · b_s · ρ^(t−s)),
    ρ = √β₂,  b_s = √(1 − β₂^s),  c_s = b_s / (1 − β₁^s)

(Kingma and Ba, ICLR 2015, with the moments written out). All but the factor of ε are sums that depend on no row; ε is
given its mean factor over the steps, each counting what it counts in the sum. This changes the sum in the second order
of the spread of these factors: by 2·10⁻⁵ of it where √square is about ε, by 1.4·10⁻⁴ where it is far below, and less
later in a training and where it is above. In the first `EARLY` steps, while b_s grows fast, they are taken one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from unblur.models.neural.fast.adam import FIRST_BETA, NOTHING, SECOND_BETA, Adam, numbers_of_step
from unblur.training.loop import Moment
from unblur.training.networks import least_kept
from unblur.training.settings import Optimizer

if TYPE_CHECKING:
    from unblur.models.neural.neumf import PairLearner, PairNetwork

EARLY = 500
"""Up to this step, steps are taken one by one."""
SETTLED = 1e-9
"""A power of β₂ below this is 0, and so is what one of β₁ leaves of a moment."""

LASTING = math.ceil(math.log(SETTLED) / math.log(FIRST_BETA))
"""After so many steps nothing is left of a first moment."""


class DeferredAdam:
    """The rows of a table with the moments of their gradients; a row is where it should be once it was asked for."""

    def __init__(self, values: NDArray[np.float32], settings: Optimizer, kernels: ModuleType) -> None:
        """From `values`, (n_rows, width), which are copied."""
        self.settings, self._kernels = settings, kernels
        self.table = np.zeros((len(values), 3, values.shape[1]), dtype=np.float32)
        """Values, means and squares of a row beside each other, where one look finds them all."""
        self.table[:, 0] = values
        self._moved = np.zeros(len(values), dtype=np.int64)  # the step that each row has come to
        self._slots = np.full(len(values), -1, dtype=np.int64)
        self._done = 0

    def ask(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bring rows, (n,), up to now; gives each of them once, (m,), and where in this each one is, (n,)."""
        once, places = np.empty_like(rows), np.empty_like(rows)
        once = once[: self._kernels.distinct(rows, self._slots, once, places)]
        self._bring(once)
        return once, places

    def step(self, rows: NDArray[np.int64], gradients: NDArray[np.float32]) -> None:
        """One step of Adam, for rows that were asked for since the last one; all others have no gradient."""
        self._done += 1
        self._kernels.step_rows(
            self.table, rows, gradients, numbers_of_step(self.settings, self._done, NOTHING)
        )
        self._moved[rows] = self._done

    def values(self) -> NDArray[np.float32]:
        """All rows, up to now."""
        self._bring(np.arange(len(self.table)))
        return self.table[:, 0]

    def _bring(self, rows: NDArray[np.int64]) -> None:
        single = map(np.float32, (NOTHING, FIRST_BETA, SECOND_BETA))
        numbers = (self.settings.learning_rate, self.settings.epsilon, *single, LASTING)
        self._kernels.catch_up(self.table, rows, self._moved, self._done, early(), *resting(), numbers)


@cache
def early() -> NDArray[np.float64]:
    """What makes up for moments that begin at 0, (2, EARLY + 1): 1 / (1 − β₁^s) and 1 / b_s."""
    steps = np.maximum(np.arange(EARLY + 1), 1)
    return np.array([1 / (1 - FIRST_BETA**steps), 1 / np.sqrt(1 - SECOND_BETA**steps)])


@cache
def resting() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums over all later steps, (2, n), by the step that they begin after: of (β₁/ρ)^j·c and of (β₁/β₂)^j·c·b.

    And powers by their exponent, (4, n): of the factors of both, of β₁ and of β₂. From the last place on nothing changes.
    """
    n = math.ceil(math.log(SETTLED) / math.log(SECOND_BETA)) + 1
    factors = np.array([FIRST_BETA / math.sqrt(SECOND_BETA), FIRST_BETA / SECOND_BETA])
    steps = np.arange(1, n)
    b = np.sqrt(1 - SECOND_BETA**steps)
    c = b / (1 - FIRST_BETA**steps)
    sums = np.empty((2, n))
    sums[:, -1] = factors / (1 - factors)
    for step in range(n - 2, -1, -1):
        sums[:, step] = factors * ((c[step], c[step] * b[step]) + sums[:, step + 1])
    powers = np.power(np.array([*factors, FIRST_BETA, SECOND_BETA])[:, None], np.arange(n, dtype=np.float64))
    powers[:, -1] = 0
    return sums, powers


class PairStepper:
    """Trains the network of a learner in its place, but takes each step itself: dense layers are changed where they are, the
    rows of tables when `module` is asked for. Weights from elsewhere cannot be put into it."""

    def __init__(self, learner: PairLearner, kernels: ModuleType) -> None:
        self.learner, self.n_rows, self.fitted = learner, learner.n_rows, learner.fitted
        self.groups: Sequence[tuple[nn.Module, Optimizer]] = []
        network, settings = learner.module, learner.spec.optimizer
        self.network, self._kernels = network, kernels
        self._tables = [
            DeferredAdam(table.detach().numpy(), settings, kernels)
            for table in (network.users, network.items)
        ]
        # All dense parameters, and their gradients, are views of one vector each: Adam takes one step for all of them.
        dense = [*network.weights, *network.biases, network.last, network.last_bias]
        by_dense = [torch.empty_like(part) for part in dense]
        vector = parameters_to_vector(dense).detach()
        self._gradient = torch.zeros_like(vector)
        vector_to_parameters(vector, dense)
        vector_to_parameters(self._gradient, by_dense)
        self._dense = Adam([vector], settings)
        self._network, self._by_network = _layers(dense), _layers(by_dense)
        self._widths = [network.weights[0].shape[1], *(len(weight) for weight in network.weights)]

    @property
    def module(self) -> PairNetwork:
        """The network, with all rows of its tables up to now."""
        with torch.no_grad():
            for values, table in zip((self.network.users, self.network.items), self._tables, strict=True):
                values.copy_(torch.from_numpy(table.values()))
        return self.network

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some interactions and of their negatives before a step is taken for them."""
        user_rows, item_rows, words = self.learner.batch(rows.numpy(), generator, self._choose)
        users, items = self._tables
        (some_users, user_places), (some_items, item_places) = users.ask(user_rows), items.ask(item_rows)
        by_users, by_items = (
            np.zeros((len(asked), users.table.shape[2]), dtype=np.float32)
            for asked in (some_users, some_items)
        )
        n, dropout = len(user_rows), self.network.dropout
        made, asked = (
            tuple(np.empty((n, width), dtype=np.float32) for width in self._widths) for _ in range(2)
        )
        loss = self._kernels.pair_gradients(
            (users.table, items.table),
            (user_rows, item_rows, user_places, item_places, len(rows)),
            words,
            self._network,
            (by_users, by_items, *self._by_network),
            made,
            asked,
            (np.int16(least_kept(dropout)), np.float32(1 / (1 - dropout)), np.float32(1 / n)),
        )
        users.step(some_users, by_users)
        items.step(some_items, by_items)
        self._dense.step(self._gradient)
        self._dense.settle()
        return torch.tensor(loss)

    def _choose(self, users: NDArray[np.int64], candidates: NDArray[np.uint64]) -> NDArray[np.int64]:
        train, others = self.learner.train, np.empty_like(users)
        self._kernels.choose_negatives(
            users, candidates, self.learner.starts, train.matrix.indices, train.n_items, others
        )
        return others


def _layers(parts: Sequence[Tensor]) -> tuple[Any, ...]:
    """Weights of the layers, their biases, the last layer's weights (2·factors,) and its bias (1,)."""
    *layers, last, last_bias = [part.detach().numpy() for part in parts]
    depth = len(layers) // 2
    return tuple(layers[:depth]), tuple(layers[depth:]), last.reshape(-1), last_bias
