"""Training steps as machine code, by numba (`unblur[fast]`); this module can be imported only where numba is installed.

Those of the row network's large layers work on some of the `BLOCKS` parts that a table's rows are divided into, which their
last argument names: the first, and the one after the last. What is summed over rows is summed in each part and then over the
parts in their order, so that no figure depends on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numba
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401 - for numba's products: to be there before its threads are limited

from unblur.models.neural.fast.row_training import BLOCKS

MOST_ODDS = 1e100
"""A product of Σ log's arguments is not let grow beyond this before its logarithm is taken."""

CompiledT = TypeVar("CompiledT", bound=Callable[..., Any])
compiled: Any = partial(numba.njit, nogil=True, error_model="numpy")
plain: Callable[[CompiledT], CompiledT] = compiled(fastmath={"contract"})
summed: Callable[[CompiledT], CompiledT] = compiled(fastmath={"contract", "reassoc"})
"""The second may add up in another order, which sums over rows of a batch need to be quick."""
inlined: Callable[[CompiledT], CompiledT] = compiled(inline="always")
"""Put into the functions that call it, and so compiled as they are."""


@inlined
def adam(value: Any, mean: Any, square: Any, gradient: Any, numbers: Any) -> None:
    """A step of Adam for the weights of one row; moments below `nothing` become a zero that stays a NaN where it was one."""
    first, second, other_first, other_second, size, root, epsilon, nothing = numbers
    for j in range(len(value)):
        m = first * mean[j] + other_first * gradient[j]
        s = second * square[j] + other_second * gradient[j] * gradient[j]
        m = m if abs(m) >= nothing else m - m
        s = s if s >= nothing else s - s
        mean[j], square[j] = m, s
        value[j] -= size * m / (np.sqrt(s) * root + epsilon)


# ---------------------------------------------------------------------------------------------------- the row network


@plain
def weighted_rows(values: Any, rows: Any, apart: Any, made: Any, blocks: Any) -> None:
    """`made[i]` = Σ_p `apart[p]`·`values[p, rows[i]]`."""
    for i in range(blocks[0] * len(rows) // BLOCKS, blocks[1] * len(rows) // BLOCKS):
        total = made[i]
        total[:] = 0
        for place in range(len(values)):
            factor, value = apart[place], values[place, rows[i]]
            for j in range(len(total)):
                total[j] += factor * value[j]


@plain
def first_layer(
    tables: Any, common: Any, given: Any, of_rows: Any, sums: Any, dots: Any, numbers: Any, blocks: Any
) -> None:
    """A step of Adam for tables of weights; see `row_training.FirstInOnePass`.

    A weight's moments are the common ones and what the row's own gradients have added, which has decayed since.
    """
    values, means, squares = tables
    common_means, common_squares = common
    shared, apart, own = given
    where, first_decays, second_decays = of_rows
    _, _, other_first, other_second, size, root, epsilon, nothing = numbers
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


@summed
def last_layer(
    tables: Any, given: Any, asked: Any, before: Any, losses: Any, numbers: Any, blocks: Any
) -> None:
    """A step of Adam for the weights of a dense layer before a binary cross-entropy; see `row_training.LastInOnePass`.

    Four rows of the batch at a time: all arrays of it have a multiple of four, of which `n` count.
    """
    values, means, squares = tables
    shown, wanted, biases, n, faint, share = given  # (rows, width), (len(values), rows), (len(values),)
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
                gradient[j] = gradient[j] if abs(gradient[j]) >= faint else gradient[j] - gradient[j]
            adam(value, mean, square, gradient, numbers)
        losses[block] = loss


# --------------------------------------------------------------------------------------------------- the pair network


@plain
def choose_negatives(
    users: Any, candidates: Any, starts: Any, columns: Any, n_items: Any, others: Any
) -> None:
    """The first candidate that its user does not have, or the last one; see `PairLearner.choose`."""
    for i in range(len(users)):
        begin, end = starts[users[i]], starts[users[i] + 1]
        for attempt in range(len(candidates)):
            item = np.int64(((candidates[attempt, i] >> np.uint64(32)) * np.uint64(n_items)) >> np.uint64(32))
            others[i] = item
            place = begin + np.searchsorted(columns[begin:end], item)
            if place == end or columns[place] != item:
                break


@plain
def distinct(rows: Any, slots: Any, once: Any, places: Any) -> int:
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


@plain
def catch_up(
    table: Any, rows: Any, moved: Any, done: Any, early: Any, sums: Any, powers: Any, numbers: Any
) -> None:
    """All steps of Adam without a gradient between where a row is and now; see `pair_training`."""
    rate, given_epsilon, nothing, first_beta, second_beta, lasting = numbers
    end, zero, epsilon = sums.shape[1] - 1, np.float32(0), np.float32(given_epsilon)
    still = np.zeros(table.shape[2], dtype=np.float32)  # no gradient
    for row in rows:
        since = moved[row]
        moved[row] = done
        if since in (0, done):  # it has no moments, or is where it should be
            continue
        value, mean, square = table[row, 0], table[row, 1], table[row, 2]
        for step in range(since + 1, min(done + 1, since + lasting, early.shape[1])):
            size, root = np.float32(rate * early[0, step]), np.float32(early[1, step])
            adam(
                value,
                mean,
                square,
                still,
                (first_beta, second_beta, zero, zero, size, root, epsilon, nothing),
            )
            since = step
        idle = min(done - since, end)
        if idle > 0:
            before, now = min(since, end), min(done, end)
            total = sums[0, before] - powers[0, idle] * sums[0, now]
            factor = (sums[1, before] - powers[1, idle] * sums[1, now]) / total
            size, tempered = np.float32(rate * total), np.float32(given_epsilon * factor)
            first, second = np.float32(powers[2, idle]), np.float32(powers[3, idle])
            for j in range(len(value)):
                value[j] -= size * mean[j] / (np.sqrt(square[j]) + tempered)
                m, s = first * mean[j], second * square[j]
                mean[j] = m if abs(m) >= nothing else m - m
                square[j] = s if s >= nothing else s - s


@plain
def step_rows(table: Any, rows: Any, gradients: Any, numbers: Any) -> None:
    """A step of Adam for some rows of a table."""
    for i in range(len(rows)):
        row = table[rows[i]]
        adam(row[0], row[1], row[2], gradients[i], numbers)


@summed
def pair_gradients(
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
        x[:wide], x[wide:] = user[k:], item[k:]
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
            by_item[k + j] += by_x[wide + j] * scale if kept[wide + j] >= least else zero
    return float(total_loss * share)
