"""Steps of Adam for the pair network that read only the rows of its tables that a batch needs.

A batch has some hundreds of users and items, and the tables all of them; the steps of the others are taken when they are
needed. A step is that of autograd and `torch.optim.Adam`, but for rounding.

**Deferred steps.** A row without a gradient moves as well, by its remaining first moment. It is not read before it is
needed again, so all its missed steps are taken at once then. From the one after step t to the current one they sum to

    rate · mean · Σ_s (β₁/ρ)^(s−t) · c_s / (√square + ε · b_s · ρ^(t−s)),
    ρ = √β₂,  b_s = √(1 − β₂^s),  c_s = b_s / (1 − β₁^s)

(Kingma and Ba, ICLR 2015, with the moments written out). All but the factor of ε are sums that depend on no row; for ε
the mean of its factors over the steps is used, weighted as the steps are in the sum. This changes the sum in the second
order of the spread of these factors: by 2·10⁻⁵ of it if √square is about ε, by 1.4·10⁻⁴ if it is far below, and less
later in a training and if it is above. The first `EARLY` steps, while b_s grows fast, are taken one by one.
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
"""Missed steps up to this one are taken one by one."""
SETTLED = 1e-9
"""A power of β₂ below this is 0, and so is what one of β₁ leaves of a moment."""

LASTING = math.ceil(math.log(SETTLED) / math.log(FIRST_BETA))
"""The number of steps after which a first moment has decayed below `SETTLED` of itself."""


class DeferredAdam:
    """The rows of a table with their moments, whose steps without a gradient are deferred until `ask`."""

    def __init__(self, values: NDArray[np.float32], settings: Optimizer, kernels: ModuleType) -> None:
        """Copy `values`, (n_rows, width); all moments begin at 0."""
        self.settings, self._kernels = settings, kernels
        self.table = np.zeros((len(values), 3, values.shape[1]), dtype=np.float32)
        """(n_rows, 3, width): values, means and squares of a row next to each other in memory."""
        self.table[:, 0] = values
        self._row_steps = np.zeros(len(values), dtype=np.int64)  # the last step taken of each row
        self._slots = np.full(len(values), -1, dtype=np.int64)
        self._step = 0

    def ask(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take the missed steps of rows, (n,); returns the unique rows, (m,), and the index of each in them, (n,)."""
        unique, inverse = np.empty_like(rows), np.empty_like(rows)
        unique = unique[: self._kernels.distinct(rows, self._slots, unique, inverse)]
        self._catch_up(unique)
        return unique, inverse

    def step(self, rows: NDArray[np.int64], gradients: NDArray[np.float32]) -> None:
        """Take one step of Adam, for rows that `ask` has brought up to date since the last one; others have no gradient."""
        self._step += 1
        self._kernels.step_rows(
            self.table, rows, gradients, numbers_of_step(self.settings, self._step, NOTHING)
        )
        self._row_steps[rows] = self._step

    def values(self) -> NDArray[np.float32]:
        """All rows, after all steps."""
        self._catch_up(np.arange(len(self.table)))
        return self.table[:, 0]

    def _catch_up(self, rows: NDArray[np.int64]) -> None:
        singles = map(np.float32, (NOTHING, FIRST_BETA, SECOND_BETA))
        numbers = (self.settings.learning_rate, self.settings.epsilon, *singles, LASTING)
        self._kernels.catch_up(
            self.table, rows, self._row_steps, self._step, early_corrections(), *deferred_sums(), numbers
        )


@cache
def early_corrections() -> NDArray[np.float64]:
    """The bias corrections of both moments by step, (2, EARLY + 1): 1 / (1 − β₁^s) and 1 / b_s."""
    steps = np.maximum(np.arange(EARLY + 1), 1)
    return np.array([1 / (1 - FIRST_BETA**steps), 1 / np.sqrt(1 - SECOND_BETA**steps)])


@cache
def deferred_sums() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums and powers for the closed form.

    Sums over all later steps, (2, n), by the step after which they begin: of (β₁/ρ)^j·c and of (β₁/β₂)^j·c·b. Powers by
    exponent, (4, n): of both factors, of β₁ and of β₂. From the last index on they no longer change.
    """
    n = math.ceil(math.log(SETTLED) / math.log(SECOND_BETA)) + 1
    factors = np.array([FIRST_BETA / math.sqrt(SECOND_BETA), FIRST_BETA / SECOND_BETA])
    steps = np.arange(1, n)
    b = np.sqrt(1 - SECOND_BETA**steps)
    c = b / (1 - FIRST_BETA**steps)
    # From the last one back; beyond it c and b are 1, and the sum is a geometric series.
    sums = np.empty((2, n))
    sums[:, -1] = factors / (1 - factors)
    for step in range(n - 2, -1, -1):
        sums[:, step] = factors * ((c[step], c[step] * b[step]) + sums[:, step + 1])
    powers = np.power(np.array([*factors, FIRST_BETA, SECOND_BETA])[:, None], np.arange(n, dtype=np.float64))
    powers[:, -1] = 0
    return sums, powers


class PairStepper:
    """Trains the network of a learner, but takes each step itself.

    Dense layers are changed in place, the rows of tables when `module` is read. Weights loaded into the network later are
    not seen.
    """

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
        """The network, with all rows of its tables after all steps."""
        with torch.no_grad():
            for values, table in zip((self.network.users, self.network.items), self._tables, strict=True):
                values.copy_(torch.from_numpy(table.values()))
        return self.network

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """Return the mean loss of some interactions and of their negatives, and take a step for them."""
        user_rows, item_rows, words = self.learner.batch(rows.numpy(), generator, self._choose)
        users, items = self._tables
        (unique_users, user_indices), (unique_items, item_indices) = (
            users.ask(user_rows),
            items.ask(item_rows),
        )
        by_users, by_items = (
            np.zeros((len(unique), users.table.shape[2]), dtype=np.float32)
            for unique in (unique_users, unique_items)
        )
        n_pairs, dropout = len(user_rows), self.network.dropout
        outputs, output_gradients = (
            tuple(np.empty((n_pairs, width), dtype=np.float32) for width in self._widths) for _ in range(2)
        )
        loss = self._kernels.pair_gradients(
            (users.table, items.table),
            (user_rows, item_rows, user_indices, item_indices, len(rows)),
            words,
            self._network,
            (by_users, by_items, *self._by_network),
            outputs,
            output_gradients,
            (np.int16(least_kept(dropout)), np.float32(1 / (1 - dropout)), np.float32(1 / n_pairs)),
        )
        users.step(unique_users, by_users)
        items.step(unique_items, by_items)
        self._dense.step(self._gradient)
        self._dense.settle()
        return torch.tensor(loss)

    def _choose(self, users: NDArray[np.int64], candidates: NDArray[np.uint64]) -> NDArray[np.int64]:
        train, negatives = self.learner.train, np.empty_like(users)
        self._kernels.choose_negatives(
            users, candidates, self.learner.starts, train.matrix.indices, train.n_items, negatives
        )
        return negatives


def _layers(parameters: Sequence[Tensor]) -> tuple[Any, ...]:
    """Return weights and biases of the layers, the last layer's weights (2·factors,) and its bias (1,), as NumPy views."""
    *layers, last, last_bias = [parameter.detach().numpy() for parameter in parameters]
    depth = len(layers) // 2
    return tuple(layers[:depth]), tuple(layers[depth:]), last.reshape(-1), last_bias
