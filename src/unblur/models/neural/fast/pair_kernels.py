"""Training steps of the pair network as machine code, by numba (`unblur[fast]`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np


@dataclass(frozen=True)
class PairKernels:
    """The functions below, compiled."""

    choose: Callable[..., None]
    once: Callable[..., int]
    rest: Callable[..., None]
    step: Callable[..., None]
    gradients: Callable[..., float]


@cache
def pair_kernels() -> PairKernels | None:
    """All of them, or `None` where numba is not installed."""
    try:
        import numba

        import_module(
            "scipy.linalg.cython_blas"
        )  # numba's products: to be there before its threads are limited
    except ImportError:
        return None
    made = partial(numba.njit, nogil=True, error_model="numpy")
    plain, summed = made(fastmath={"contract"}), made(fastmath={"contract", "reassoc"})
    return PairKernels(plain(_choose), plain(_once), plain(_rest), plain(_step), summed(_gradients))


def _choose(users: Any, candidates: Any, starts: Any, columns: Any, n_items: Any, others: Any) -> None:
    """The first candidate that its user does not have, or the last one; see `PairDraws`."""
    for i in range(len(users)):
        begin, end = starts[users[i]], starts[users[i] + 1]
        for attempt in range(len(candidates)):
            item = np.int64(((candidates[attempt, i] >> np.uint64(32)) * np.uint64(n_items)) >> np.uint64(32))
            others[i] = item
            low, high = begin, end
            while low < high:
                middle = (low + high) >> 1
                if columns[middle] < item:
                    low = middle + 1
                else:
                    high = middle
            if low == end or columns[low] != item:
                break


def _once(rows: Any, slots: Any, once: Any, places: Any) -> int:
    """Each row one time, where in this each one is, and how many there are; `slots` is −1 before and after."""
    count = 0
    for i in range(len(rows)):
        row = rows[i]
        if slots[row] < 0:
            slots[row] = count
            once[count] = row
            count += 1
        places[i] = slots[row]
    for i in range(count):
        slots[once[i]] = -1
    return count


def _rest(
    table: Any, rows: Any, moved: Any, done: Any, early: Any, sums: Any, powers: Any, numbers: Any
) -> None:
    """All steps of Adam without a gradient between where a row is and now; see `pair_training`."""
    rate, given_epsilon, nothing, first_beta, second_beta, lasting = numbers
    end = sums.shape[1] - 1
    for row in rows:
        since = moved[row]
        moved[row] = done
        if since in (0, done):  # it has no moments, or is where it should be
            continue
        value, mean, square = table[row, 0], table[row, 1], table[row, 2]
        for step in range(since + 1, min(done + 1, since + lasting, early.shape[1])):
            size, root = np.float32(rate * early[0, step]), np.float32(early[1, step])
            epsilon = np.float32(given_epsilon)
            for j in range(len(value)):
                m, s = first_beta * mean[j], second_beta * square[j]
                m = m if abs(m) >= nothing else m - m  # a zero that stays a NaN where it was one
                s = s if s >= nothing else s - s
                mean[j], square[j] = m, s
                value[j] -= size * m / (np.sqrt(s) * root + epsilon)
            since = step
        idle = min(done - since, end)
        if idle > 0:
            before, now = min(since, end), min(done, end)
            total = sums[0, before] - powers[0, idle] * sums[0, now]
            factor = (sums[1, before] - powers[1, idle] * sums[1, now]) / total
            size, epsilon = np.float32(rate * total), np.float32(given_epsilon * factor)
            first, second = np.float32(powers[2, idle]), np.float32(powers[3, idle])
            for j in range(len(value)):
                value[j] -= size * mean[j] / (np.sqrt(square[j]) + epsilon)
                m, s = first * mean[j], second * square[j]
                mean[j] = m if abs(m) >= nothing else m - m
                square[j] = s if s >= nothing else s - s


def _step(table: Any, rows: Any, gradients: Any, numbers: Any) -> None:
    """A step of Adam for some rows of a table."""
    first, second, other_first, other_second, size, root, epsilon, nothing = numbers
    for i in range(len(rows)):
        row, gradient = rows[i], gradients[i]
        value, mean, square = table[row, 0], table[row, 1], table[row, 2]
        for j in range(len(value)):
            m = first * mean[j] + other_first * gradient[j]
            s = second * square[j] + other_second * gradient[j] * gradient[j]
            m = m if abs(m) >= nothing else m - m
            s = s if s >= nothing else s - s
            mean[j], square[j] = m, s
            value[j] -= size * m / (np.sqrt(s) * root + epsilon)


def _gradients(
    tables: Any, pairs: Any, words: Any, network: Any, gradients: Any, made: Any, asked: Any, numbers: Any
) -> float:
    """The mean loss of some pairs, the first `positives` of them interactions; adds to the gradients of the tables' rows,
    and writes those of the network.

    `made` is room for what each layer takes and, at last, gives, (n, width) each; `asked` as much for its gradients.
    """
    users, items = tables
    user_rows, item_rows, user_places, item_places, positives = pairs
    weights, biases, last, last_bias = network
    by_users, by_items, by_weights, by_biases, by_last, by_last_bias = gradients
    least, scale, share = numbers
    zero, one, depth = share - share, share / share, len(weights)
    k = len(last) - len(biases[depth - 1])
    wide, total_loss = users.shape[2] - k, 0.0
    for n in range(len(user_rows)):
        user, item, x = users[user_rows[n], 0], items[item_rows[n], 0], made[0][n]
        for j in range(wide):
            x[j] = user[k + j]
            x[wide + j] = item[k + j]
    used = 0
    for layer in range(depth):
        weight, bias, x, h = weights[layer], biases[layer], made[layer], made[layer + 1]
        for n in range(len(x)):
            row, kept = x[n], words[n, used : used + len(x[n])]
            for j in range(len(row)):
                row[j] = row[j] * scale if kept[j] >= least else zero
        used += x.shape[1]
        np.dot(x, weight.T, h)
        for n in range(len(h)):
            row = h[n]
            for j in range(len(row)):
                of = row[j] + bias[j]
                row[j] = zero if of <= zero else of

    by_last[:], by_last_bias[:] = zero, zero
    for n in range(len(user_rows)):
        user, item, h, by_h = users[user_rows[n], 0], items[item_rows[n], 0], made[depth][n], asked[depth][n]
        by_user, by_item = by_users[user_places[n]], by_items[item_places[n]]
        logit = last_bias[0]
        for j in range(k):
            logit += last[j] * user[j] * item[j]
        for j in range(len(h)):
            logit += last[k + j] * h[j]
        target = one if n < positives else zero
        less = np.exp(-abs(logit))
        total_loss += max(logit, zero) - logit * target + np.log1p(less)
        pull = share * ((one if logit >= zero else less) / (one + less) - target)
        by_last_bias[0] += pull
        for j in range(k):
            by_last[j] += pull * user[j] * item[j]
            by_user[j] += pull * last[j] * item[j]
            by_item[j] += pull * last[j] * user[j]
        for j in range(len(h)):
            by_last[k + j] += pull * h[j]
            by_h[j] = pull * last[k + j]

    for back in range(depth):
        layer = depth - 1 - back
        h, by_h, by_bias = made[layer + 1], asked[layer + 1], by_biases[layer]
        further = scale if back else one  # nothing is dropped of what the last layer gives
        by_bias[:] = zero
        for n in range(len(h)):
            row, by_row = h[n], by_h[n]
            for j in range(len(row)):
                by = by_row[j] * further if row[j] != zero else zero  # 0 where it was cut off or dropped
                by_row[j] = by
                by_bias[j] += by
        np.dot(by_h.T, made[layer], by_weights[layer])
        np.dot(by_h, weights[layer], asked[layer])
    for n in range(len(user_rows)):
        by_user, by_item = by_users[user_places[n]], by_items[item_places[n]]
        by_x, kept = asked[0][n], words[n]
        for j in range(wide):
            by_user[k + j] += by_x[j] * scale if kept[j] >= least else zero
        for j in range(wide):
            by_item[k + j] += by_x[wide + j] * scale if kept[wide + j] >= least else zero
    return float(total_loss * share)
