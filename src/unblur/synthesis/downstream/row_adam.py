"""Adam for the row network: one step for its small parts, and one for the weights of its first layer.

The gradient of those is the same in nearly all rows of a table. Where numba is installed (`unblur[fast]`) their step is
one compiled pass: gradient, moments, weights and sums are dealt with while a row is in the processor. Without it each
table takes several passes of torch. Both come to the same, but for rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.adam import adam

from unblur.diffusion.settings import Optimizer

FIRST_BETA, SECOND_BETA = 0.9, 0.999
"""As `torch.optim.Adam` has them."""
NOTHING = 1e-35
"""A moment below this is set to 0: the moments of a unit without a gradient decay into denormal numbers, with which a
processor calculates some hundred times slower."""
BLOCKS = 16
"""Parts of a table whose sums are added up in their order, so that no figure depends on the number of threads."""


@dataclass(eq=False)
class Moving:
    """A parameter with the moments of its gradients."""

    value: Tensor
    mean: Tensor
    square: Tensor
    updates: Tensor

    @classmethod
    def of(cls, value: Tensor) -> Moving:
        """Before the first gradient."""
        return cls(value, torch.zeros_like(value), torch.zeros_like(value), torch.zeros(()))


def update(parts: Sequence[Moving], gradients: Sequence[Tensor], settings: Optimizer) -> None:
    """One step of each parameter, where it is."""
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
        lr=settings.learning_rate,
        weight_decay=0.0,
        eps=settings.epsilon,
        maximize=False,
    )


def settle(parts: Sequence[Moving]) -> None:
    """Set moments that are nothing to 0."""
    for part in parts:
        for moment in (part.mean, part.square):
            functional.hardshrink(moment, NOTHING, out=moment)


class CellsAdam(Protocol):
    """Adam for tables of weights, (places, n_rows, width), which are changed where they are."""

    def update(self, rows: Tensor, shared: Tensor, apart: Tensor, own: Tensor) -> Tensor:
        """One step; gives the sums of the weights over their rows, (places, width).

        The gradient of a row is `shared`, (places, width), and for those at `rows`, (n,), also `own`, (n, width), times
        `apart`, (places,).
        """
        ...

    def settle(self) -> None:
        """Set moments that are nothing to 0."""
        ...


def cells_adam(values: Tensor, settings: Optimizer) -> CellsAdam:
    """In one pass where numba is installed, else place by place."""
    return (PlaceByPlace if compiled() is None else OnePass)(values, settings)


class PlaceByPlace:
    """By torch: one table after the other, with a gradient in memory that all share."""

    def __init__(self, values: Tensor, settings: Optimizer) -> None:
        self.settings = settings
        self.parts = [Moving.of(table) for table in values]
        self._gradient, self._ones = torch.empty_like(values[0]), torch.ones(values.shape[1])

    def update(self, rows: Tensor, shared: Tensor, apart: Tensor, own: Tensor) -> Tensor:
        """See `CellsAdam`."""
        sums = torch.empty_like(shared)
        for part, base, factor, total in zip(self.parts, shared, apart.tolist(), sums, strict=True):
            self._gradient.copy_(base)
            self._gradient.index_add_(0, rows, own, alpha=factor)
            update([part], [self._gradient], self.settings)
            torch.mv(part.value.T, self._ones, out=total)
        return sums

    def settle(self) -> None:
        """See `CellsAdam`."""
        settle(self.parts)


@cache
def compiled() -> Any:
    """The step as machine code, or `None` without numba."""
    try:
        import numba
    except ImportError:
        return None
    return numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")(_step)


def _step(
    tables: Any, shared: Any, apart: Any, own: Any, where: Any, sums: Any, blocks: Any, numbers: Any
) -> None:
    """The rows of some blocks: a row's gradient is the shared one, and what is its own where it has something."""
    values, means, squares = tables
    first, second, other_first, other_second, size, root, epsilon, nothing = numbers
    n_rows, n_blocks = values.shape[1], sums.shape[1]
    for place in range(values.shape[0]):
        base, factor = shared[place], apart[place]
        for block in range(blocks[0], blocks[1]):
            total = sums[place, block]
            total[:] = 0
            for row in range(block * n_rows // n_blocks, (block + 1) * n_rows // n_blocks):
                value, mean, square = values[place, row], means[place, row], squares[place, row]
                which = where[row]
                for j in range(len(value)):
                    gradient = base[j]
                    if which >= 0:
                        gradient += factor * own[which, j]
                    m = first * mean[j] + other_first * gradient
                    s = second * square[j] + other_second * gradient * gradient
                    m = m if abs(m) >= nothing else m - m  # a zero that stays a NaN where it was one
                    s = s if s >= nothing else s - s
                    mean[j], square[j] = m, s
                    value[j] -= size * m / (np.sqrt(s) * root + epsilon)
                    total[j] += value[j]


class OnePass:
    """By `_step`, the tables' rows divided among torch's number of threads."""

    def __init__(self, values: Tensor, settings: Optimizer) -> None:
        self.settings = settings
        self.means, self.squares = torch.zeros_like(values), torch.zeros_like(values)
        self._tables = tuple(part.numpy() for part in (values, self.means, self.squares))
        self._sums = np.empty((len(values), BLOCKS, values.shape[2]), dtype=np.float32)
        self._where = np.full(values.shape[1], -1, dtype=np.int32)
        self._done, self._threads = 0, torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def update(self, rows: Tensor, shared: Tensor, apart: Tensor, own: Tensor) -> Tensor:
        """See `CellsAdam`."""
        self._done += 1
        rate, epsilon = self.settings.learning_rate, self.settings.epsilon
        size, root = rate / (1 - FIRST_BETA**self._done), 1 / math.sqrt(1 - SECOND_BETA**self._done)
        numbers = (FIRST_BETA, SECOND_BETA, 1 - FIRST_BETA, 1 - SECOND_BETA, size, root, epsilon, NOTHING)
        singles, at = tuple(np.float32(number) for number in numbers), rows.numpy()
        self._where[at] = np.arange(len(at), dtype=np.int32)
        given = (self._tables, shared.numpy(), apart.numpy(), own.numpy(), self._where, self._sums)
        run = partial(compiled(), *given)
        if self._pool is None:
            run((0, BLOCKS), singles)
        else:
            parts = pairwise(BLOCKS * part // self._threads for part in range(self._threads + 1))
            for done in [self._pool.submit(run, part, singles) for part in parts]:
                done.result()
        self._where[at] = -1
        return torch.from_numpy(self._sums.sum(1))

    def settle(self) -> None:
        """Every step has done it."""
