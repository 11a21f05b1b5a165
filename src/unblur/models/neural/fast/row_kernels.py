"""Training steps of the row network's large layers as machine code, by numba (`unblur[fast]`).

Each works on some of the `BLOCKS` parts that a table's rows are divided into; what is summed over rows is summed in each
part and then over the parts in their order, so that no figure depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

BLOCKS = 16
"""Parts of a table."""
MOST_ODDS = 1e100
"""A product of Σ log's arguments is not let grow beyond this before its logarithm is taken."""


@dataclass(frozen=True)
class Kernels:
    """The functions below, compiled; the last argument of each is the pair of its first block and the one after its
    last."""

    added: Callable[..., None]
    first_layer: Callable[..., None]
    last_layer: Callable[..., None]


@cache
def kernels() -> Kernels | None:
    """All of them, or `None` where numba is not installed."""
    try:
        import numba
    except ImportError:
        return None
    made = partial(numba.njit, nogil=True, error_model="numpy")
    plain, summed = made(fastmath={"contract"}), made(fastmath={"contract", "reassoc"})
    return Kernels(plain(_added), plain(_first_layer), summed(_last_layer))


class Threads:
    """Threads among which the blocks of a kernel are divided."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._pool = ThreadPoolExecutor(number) if number > 1 else None

    def run(self, kernel: Callable[..., None], *given: Any) -> None:
        """All blocks of a kernel."""
        if self._pool is None:
            kernel(*given, (0, BLOCKS))
            return
        parts = pairwise(BLOCKS * part // self.number for part in range(self.number + 1))
        for done in [self._pool.submit(partial(kernel, *given), part) for part in parts]:
            done.result()


def _added(values: Any, rows: Any, apart: Any, made: Any, blocks: Any) -> None:
    """`made[i]` = Σ_p `apart[p]`·`values[p, rows[i]]`."""
    for i in range(blocks[0] * len(rows) // BLOCKS, blocks[1] * len(rows) // BLOCKS):
        total = made[i]
        total[:] = 0
        for place in range(len(values)):
            factor, value = apart[place], values[place, rows[i]]
            for j in range(len(total)):
                total[j] += factor * value[j]


def _first_layer(
    tables: Any, common: Any, given: Any, of_rows: Any, sums: Any, dots: Any, numbers: Any, blocks: Any
) -> None:
    """A step of Adam for tables of weights; see `row_training.FirstInOnePass`.

    A weight's moments are the common ones and what the row's own gradients have added, which has decayed since.
    """
    values, means, squares = tables
    common_means, common_squares = common
    shared, apart, own = given
    where, first_decays, second_decays = of_rows
    other_first, other_second, size, root, epsilon, nothing = numbers
    zero = size - size
    for place in range(len(values)):
        base, factor = shared[place], apart[place]
        common_mean, common_square = common_means[place], common_squares[place]
        for block in range(blocks[0], blocks[1]):
            total, dot = sums[place, block], dots[place, block]
            total[:] = 0
            dot[:] = 0
            for row in range(block * values.shape[1] // BLOCKS, (block + 1) * values.shape[1] // BLOCKS):
                value, mean, square = values[place, row], means[place, row], squares[place, row]
                first, second, which = first_decays[row], second_decays[row], where[row]
                if which >= 0:
                    mine = own[which]
                    for j in range(len(value)):
                        dot[j] += value[j] * mine[j]
                        extra = factor * mine[j]
                        m = first * mean[j] + other_first * extra
                        s = second * square[j] + other_second * extra * (base[j] + base[j] + extra)
                        m = m if abs(m) >= nothing else m - m  # a zero that stays a NaN where it was one
                        s = s if abs(s) >= nothing else s - s
                        mean[j], square[j] = m, s
                        s = max(common_square[j] + s, zero)
                        value[j] -= size * (common_mean[j] + m) / (np.sqrt(s) * root + epsilon)
                        total[j] += value[j]
                elif first > zero:
                    for j in range(len(value)):
                        m = common_mean[j] + first * mean[j]
                        s = max(common_square[j] + second * square[j], zero)
                        value[j] -= size * m / (np.sqrt(s) * root + epsilon)
                        total[j] += value[j]
                else:  # the mean of its own gradients is forgotten, and need not be read
                    for j in range(len(value)):
                        s = max(common_square[j] + second * square[j], zero)
                        value[j] -= size * common_mean[j] / (np.sqrt(s) * root + epsilon)
                        total[j] += value[j]


def _last_layer(
    tables: Any, given: Any, asked: Any, before: Any, losses: Any, numbers: Any, blocks: Any
) -> None:
    """A step of Adam for the weights of a dense layer before a binary cross-entropy; see `row_training.LastInOnePass`.

    Four rows of the batch at a time: all arrays of it have a multiple of four, of which `n` count.
    """
    values, means, squares = tables
    shown, wanted, biases, n = given  # (rows, width), (len(values), rows), (len(values),)
    first, second, other_first, other_second, size, root, epsilon, faint, nothing, share = numbers
    zero, one = share - share, share / share
    gradient = np.empty(values.shape[1], dtype=np.float32)
    for block in range(blocks[0], blocks[1]):
        made, loss = before[block], 0.0
        made[:] = 0
        for row in range(block * len(values) // BLOCKS, (block + 1) * len(values) // BLOCKS):
            value, mean, square, pulls = values[row], means[row], squares[row], asked[row]
            odds = 1.0
            for k in range(0, len(shown), 4):
                a, b, c, d = shown[k], shown[k + 1], shown[k + 2], shown[k + 3]
                at_a = at_b = at_c = at_d = biases[row]
                for j in range(len(value)):
                    at_a += value[j] * a[j]
                    at_b += value[j] * b[j]
                    at_c += value[j] * c[j]
                    at_d += value[j] * d[j]
                pulls[k], pulls[k + 1], pulls[k + 2], pulls[k + 3] = at_a, at_b, at_c, at_d
            for k in range(len(pulls)):
                if k < n:
                    logit, target = pulls[k], wanted[row, k]
                    less = np.exp(-abs(logit))
                    odds *= 1.0 + less
                    if odds > MOST_ODDS:
                        loss += np.log(odds)
                        odds = 1.0
                    loss += max(logit, zero) - logit * target
                    pull = share * ((one if logit >= zero else less) / (one + less) - target)
                    pulls[k] = pull if abs(pull) >= faint else pull - pull
                else:
                    pulls[k] = zero
            loss += np.log(odds)
            gradient[:] = 0
            for k in range(0, len(shown), 4):
                a, b, c, d = shown[k], shown[k + 1], shown[k + 2], shown[k + 3]
                by_a, by_b, by_c, by_d = pulls[k], pulls[k + 1], pulls[k + 2], pulls[k + 3]
                for j in range(len(value)):
                    gradient[j] += by_a * a[j] + by_b * b[j] + by_c * c[j] + by_d * d[j]
            for k in range(n):
                asking, by = made[k], pulls[k]
                for j in range(len(value)):
                    asking[j] += by * value[j]
            for j in range(len(value)):
                g = gradient[j] if abs(gradient[j]) >= faint else gradient[j] - gradient[j]
                m = first * mean[j] + other_first * g
                s = second * square[j] + other_second * g * g
                m = m if abs(m) >= nothing else m - m
                s = s if s >= nothing else s - s
                mean[j], square[j] = m, s
                value[j] -= size * m / (np.sqrt(s) * root + epsilon)
        losses[block] = loss
