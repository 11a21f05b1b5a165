"""Adam's step for weights whose gradient is the same in nearly all rows, in one pass over them.

Compiled by numba where that is installed (`unblur[fast]`): gradient, moments, weights and their sums are dealt with
while a row is in the processor, in place of several passes over main memory.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

BLOCKS = 16
"""Parts of the rows whose sums are added up in their order, so that no figure depends on the number of threads."""


@cache
def compiled() -> Any:
    """The step as machine code, or `None` without numba."""
    try:
        import numba
    except ImportError:
        return None
    return numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")(_step)


def _step(
    tables: Any, shared: Any, apart: Any, own: Any, where: Any, sums: Any, blocks: Any, adam: Any
) -> None:
    """The rows of some blocks: a row's gradient is the shared one, and what is its own where it has something."""
    values, means, squares = tables
    first, second, other_first, other_second, size, root, epsilon, nothing = adam
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
                    m = m if abs(m) >= nothing else m - m
                    s = s if s >= nothing else s - s
                    mean[j], square[j] = m, s
                    value[j] -= size * m / (np.sqrt(s) * root + epsilon)
                    total[j] += value[j]


class OnePass:
    """The moments of weights (places, n_rows, width), which are changed where they are."""

    def __init__(self, values: Tensor, betas: tuple[float, float], epsilon: float, nothing: float) -> None:
        """Moments below `nothing` are set to 0."""
        self.means, self.squares = torch.zeros_like(values), torch.zeros_like(values)
        self._tables = tuple(part.numpy() for part in (values, self.means, self.squares))
        self._sums = np.empty((len(values), BLOCKS, values.shape[2]), dtype=np.float32)
        self._where = np.full(values.shape[1], -1, dtype=np.int32)
        self._betas, self._rest, self._done = betas, (epsilon, nothing), 0
        self._threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def update(self, rows: Tensor, shared: Tensor, apart: Tensor, own: Tensor, rate: float) -> Tensor:
        """One step; gives the sums of the weights over their rows, (places, width).

        The gradient of a row is `shared`, (places, width), and for those at `rows`, (n,), also `own`, (n, width), times
        `apart`, (places,).
        """
        self._done += 1
        first, second = self._betas
        size, root = rate / (1 - first**self._done), 1 / math.sqrt(1 - second**self._done)
        numbers = (first, second, 1 - first, 1 - second, size, root, *self._rest)
        adam, at = tuple(np.float32(number) for number in numbers), rows.numpy()
        self._where[at] = np.arange(len(at), dtype=np.int32)
        given = (self._tables, shared.numpy(), apart.numpy(), own.numpy(), self._where, self._sums)
        run = partial(compiled(), *given)
        if self._pool is None:
            run((0, BLOCKS), adam)
        else:
            parts = pairwise(BLOCKS * part // self._threads for part in range(self._threads + 1))
            for done in [self._pool.submit(run, part, adam) for part in parts]:
                done.result()
        self._where[at] = -1
        return torch.from_numpy(self._sums.sum(1))
