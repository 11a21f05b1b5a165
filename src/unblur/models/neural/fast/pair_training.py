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
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.models.neural.fast.adam import FIRST_BETA, NOTHING, SECOND_BETA, Moving, settle, update
from unblur.models.neural.fast.pair_kernels import PairKernels
from unblur.training.learner import Moment, Weights
from unblur.training.networks import least_kept
from unblur.training.settings import Optimizer

if TYPE_CHECKING:
    from unblur.models.neural.neumf import Drawn, PairLearner, PairNetwork

EARLY = 500
"""Up to this step, steps are taken one by one."""
SETTLED = 1e-9
"""A power of β₂ below this is 0, and so is what one of β₁ leaves of a moment."""

LASTING = math.ceil(math.log(SETTLED) / math.log(FIRST_BETA))
"""After so many steps nothing is left of a first moment."""


class DeferredAdam:
    """The rows of a table with the moments of their gradients; a row is where it should be once it was asked for."""

    def __init__(self, values: NDArray[np.float32], settings: Optimizer, compiled: PairKernels) -> None:
        """From `values`, (n_rows, width), which are copied."""
        self.settings, self._kernels = settings, compiled
        self.table = np.zeros((len(values), 3, values.shape[1]), dtype=np.float32)
        """Values, means and squares of a row beside each other, where one look finds them all."""
        self.table[:, 0] = values
        self._moved = np.zeros(len(values), dtype=np.int64)  # the step that each row has come to
        self._slots = np.full(len(values), -1, dtype=np.int64)
        self._done = 0

    def ask(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bring rows, (n,), up to now; gives each of them once, (m,), and where in this each one is, (n,)."""
        once, places = np.empty_like(rows), np.empty_like(rows)
        once = once[: self._kernels.once(rows, self._slots, once, places)]
        self._bring(once)
        return once, places

    def step(self, rows: NDArray[np.int64], gradients: NDArray[np.float32]) -> None:
        """One step of Adam, for rows that were asked for since the last one; all others have no gradient."""
        self._done += 1
        rate, epsilon = self.settings.learning_rate, self.settings.epsilon
        size, root = rate / (1 - FIRST_BETA**self._done), 1 / math.sqrt(1 - SECOND_BETA**self._done)
        betas = (FIRST_BETA, SECOND_BETA, 1 - FIRST_BETA, 1 - SECOND_BETA)
        numbers = tuple(np.float32(number) for number in (*betas, size, root, epsilon, NOTHING))
        self._kernels.step(self.table, rows, gradients, numbers)
        self._moved[rows] = self._done

    def values(self) -> NDArray[np.float32]:
        """All rows, up to now."""
        self._bring(np.arange(len(self.table)))
        return self.table[:, 0]

    def _bring(self, rows: NDArray[np.int64]) -> None:
        others = (np.float32(number) for number in (NOTHING, FIRST_BETA, SECOND_BETA))
        numbers = (self.settings.learning_rate, self.settings.epsilon, *others, LASTING)
        self._kernels.rest(self.table, rows, self._moved, self._done, early(), *resting(), numbers)


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


class PairStepper:
    """Trains the network of a learner, but takes each step itself; weights from elsewhere cannot be put into it."""

    def __init__(self, learner: PairLearner, compiled: PairKernels) -> None:
        """See `PairTraining`."""
        self.learner, self._kernels = learner, compiled
        self.training = PairTraining(learner.network, learner.spec.optimizer, compiled)

    @property
    def module(self) -> nn.Module:
        """The network, all of it up to now."""
        self.training.write()
        return self.learner.network

    @property
    def groups(self) -> Sequence[tuple[nn.Module, Optimizer]]:
        """None."""
        return []

    @property
    def n_rows(self) -> int:
        """As of the learner."""
        return self.learner.n_rows

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some interactions and of their negatives before a step is taken for them."""
        drawn = self.learner.draws.batch(rows.numpy(), generator, self._choose)
        return torch.tensor(self.training.update(drawn, len(rows)))

    def fitted(self, weights: Weights) -> Weights:
        """As of the learner."""
        return self.learner.fitted(weights)

    def _choose(self, users: NDArray[np.int64], candidates: NDArray[np.uint64]) -> NDArray[np.int64]:
        draws, others = self.learner.draws, np.empty(len(users), dtype=np.int64)
        self._kernels.choose(users, candidates, draws.starts, draws.columns, draws.n_items, others)
        return others


def _divided(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Views of a vector, with the shapes of some parts that were put one after the other."""
    places = flat.split([part.numel() for part in like])
    return [place.view(part.shape) for place, part in zip(places, like, strict=True)]


def _layers(parts: list[NDArray[np.float32]]) -> tuple[Any, ...]:
    """Weights of the layers, their biases, the last layer's weights (2·factors,) and its bias (1,)."""
    *layers, last, last_bias = parts
    depth = len(layers) // 2
    return tuple(layers[:depth]), tuple(layers[depth:]), last.reshape(-1), last_bias
