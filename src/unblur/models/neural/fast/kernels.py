"""Training steps as machine code, by numba (`unblur[fast]`); this module can be imported only where numba is installed.

The kernels of the row network's large layers work on some of the `BLOCKS` parts that a table's rows are divided into; their
last argument is the first part, and the one after the last. Sums over rows are taken in each part and then over the
parts in their order, so that no figure depends on the number of threads. A name `by_x` is the gradient with respect to x.
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
"""A sum of logarithms is taken as the logarithm of a product, which must not overflow: a new one begins beyond this."""

CompiledT = TypeVar("CompiledT", bound=Callable[..., Any])
compiled: Any = partial(numba.njit, nogil=True, error_model="numpy")
plain: Callable[[CompiledT], CompiledT] = compiled(fastmath={"contract"})
summed: Callable[[CompiledT], CompiledT] = compiled(fastmath={"contract", "reassoc"})
"""Contracts multiplications and additions, and may reorder sums, which a processor needs to add several numbers at once."""
inlined: Callable[[CompiledT], CompiledT] = compiled(inline="always")
"""Inlined into the functions that call it, and so compiled with their options."""


@inlined
def adam(value: Any, mean: Any, square: Any, gradient: Any, numbers: Any) -> None:
    """Take a step of Adam for the weights of one row, in place.

    Moments below `nothing` become 0, as ``m − m``, so that a NaN stays a NaN.
    """
    first, second, first_complement, second_complement, rate, root_factor, epsilon, nothing = numbers
    for j in range(len(value)):
        m = first * mean[j] + first_complement * gradient[j]
        s = second * square[j] + second_complement * gradient[j] * gradient[j]
        m = m if abs(m) >= nothing else m - m
        s = s if s >= nothing else s - s
        mean[j], square[j] = m, s
        value[j] -= rate * m / (np.sqrt(s) * root_factor + epsilon)


# ---------------------------------------------------------------------------------------------------- the row network


@plain
def weighted_rows(values: Any, rows: Any, factors: Any, sums: Any, blocks: Any) -> None:
    """Write ``sums[i] = Σ_k factors[k]·values[k, rows[i]]``."""
    for i in range(blocks[0] * len(rows) // BLOCKS, blocks[1] * len(rows) // BLOCKS):
        total = sums[i]
        total[:] = 0
        for k in range(len(values)):
            factor, value = factors[k], values[k, rows[i]]
            for j in range(len(total)):
                total[j] += factor * value[j]


@plain
def first_layer(
    tables: Any, common: Any, gradients: Any, row_states: Any, sums: Any, dots: Any, numbers: Any, blocks: Any
) -> None:
    """Take a step of Adam for tables of weights, in place; see `row_training.FirstInOnePass`.

    A weight's moments are the common ones plus those of the row's own gradients, which have decayed since the last one.
    `own_indices` has the index of a row's gradient in this batch, −1 without one. Sums of the new weights go to `sums`, and
    products of old weights and own gradients to `dots`.
    """
    values, means, squares = tables
    common_means, common_squares = common
    shared_gradients, factors, own_gradients = gradients
    own_indices, first_decays, second_decays = row_states
    _, _, first_complement, second_complement, rate, root_factor, epsilon, nothing = numbers
    zero = rate - rate
    for k in range(len(values)):
        shared_gradient, factor = shared_gradients[k], factors[k]
        common_mean, common_square = common_means[k], common_squares[k]
        for block in range(blocks[0], blocks[1]):
            total, dot = sums[k, block], dots[k, block]
            total[:] = 0
            dot[:] = 0
            for row in range(block * values.shape[1] // BLOCKS, (block + 1) * values.shape[1] // BLOCKS):
                value, mean, square = values[k, row], means[k, row], squares[k, row]
                first, second, index = first_decays[row], second_decays[row], own_indices[row]
                if index >= 0:
                    own_gradient = own_gradients[index]
                    for j in range(len(value)):
                        dot[j] += value[j] * own_gradient[j]
                        # The gradient is shared + extra, and its square s² + extra·(2s + extra): the common square has s².
                        extra = factor * own_gradient[j]
                        m = first * mean[j] + first_complement * extra
                        s = second * square[j] + second_complement * extra * (
                            shared_gradient[j] + shared_gradient[j] + extra
                        )
                        m = m if abs(m) >= nothing else m - m  # 0, or a NaN that stays one
                        s = s if abs(s) >= nothing else s - s
                        mean[j], square[j] = m, s
                        s = max(common_square[j] + s, zero)
                        value[j] -= rate * (common_mean[j] + m) / (np.sqrt(s) * root_factor + epsilon)
                        total[j] += value[j]
                elif first > zero:
                    for j in range(len(value)):
                        m = common_mean[j] + first * mean[j]
                        s = max(common_square[j] + second * square[j], zero)
                        value[j] -= rate * m / (np.sqrt(s) * root_factor + epsilon)
                        total[j] += value[j]
                else:  # the mean of its own gradients has decayed to 0 and need not be read
                    for j in range(len(value)):
                        s = max(common_square[j] + second * square[j], zero)
                        value[j] -= rate * common_mean[j] / (np.sqrt(s) * root_factor + epsilon)
                        total[j] += value[j]


@summed
def last_layer(
    tables: Any,
    batch: Any,
    logit_gradients: Any,
    input_gradients: Any,
    losses: Any,
    numbers: Any,
    blocks: Any,
) -> None:
    """Take a step of Adam for the weights of a dense layer before a binary cross-entropy; see `row_training.LastInOnePass`.

    Four rows of the batch at a time, so that a weight is loaded once for four products: all arrays of the batch are padded
    to a multiple of four rows, of which `n` count.
    """
    values, means, squares = tables
    inputs, targets, biases, n, faint, share = batch  # (rows, width), (len(values), rows), (len(values),)
    zero, one = share - share, share / share
    gradient = np.empty(values.shape[1], dtype=np.float32)
    for block in range(blocks[0], blocks[1]):
        block_gradients, loss = input_gradients[block], 0.0
        block_gradients[:] = 0
        for row in range(block * len(values) // BLOCKS, (block + 1) * len(values) // BLOCKS):
            value, mean, square, logits = values[row], means[row], squares[row], logit_gradients[row]
            # 1. Logits of the row's item, for all rows of the batch.
            odds = 1.0
            for k in range(0, len(inputs), 4):
                a, b, c, d = inputs[k], inputs[k + 1], inputs[k + 2], inputs[k + 3]
                logit_a = logit_b = logit_c = logit_d = biases[row]
                for j in range(len(value)):
                    logit_a += value[j] * a[j]
                    logit_b += value[j] * b[j]
                    logit_c += value[j] * c[j]
                    logit_d += value[j] * d[j]
                logits[k], logits[k + 1], logits[k + 2], logits[k + 3] = logit_a, logit_b, logit_c, logit_d
            # 2. The loss, max(z, 0) − z·t + log(1 + exp(−|z|)), and its gradient, which overwrites the logits. One
            # logarithm is taken of the product of many 1 + exp(−|z|).
            for k in range(len(logits)):
                if k < n:
                    logit, target = logits[k], targets[row, k]
                    exponential = np.exp(-abs(logit))
                    odds *= 1.0 + exponential
                    if odds > MOST_ODDS:
                        loss += np.log(odds)
                        odds = 1.0
                    loss += max(logit, zero) - logit * target
                    logit_gradient = share * (
                        (one if logit >= zero else exponential) / (one + exponential) - target
                    )
                    logits[k] = (
                        logit_gradient if abs(logit_gradient) >= faint else logit_gradient - logit_gradient
                    )
                else:
                    logits[k] = zero
            loss += np.log(odds)
            # 3. The gradient of the item's weights, and its part of the gradient of the layer's inputs.
            gradient[:] = 0
            for k in range(0, len(inputs), 4):
                a, b, c, d = inputs[k], inputs[k + 1], inputs[k + 2], inputs[k + 3]
                gradient_a, gradient_b, gradient_c, gradient_d = (
                    logits[k],
                    logits[k + 1],
                    logits[k + 2],
                    logits[k + 3],
                )
                for j in range(len(value)):
                    gradient[j] += (
                        gradient_a * a[j] + gradient_b * b[j] + gradient_c * c[j] + gradient_d * d[j]
                    )
            for k in range(n):
                input_gradient, row_gradient = block_gradients[k], logits[k]
                for j in range(len(value)):
                    input_gradient[j] += row_gradient * value[j]
            for j in range(len(value)):
                gradient[j] = gradient[j] if abs(gradient[j]) >= faint else gradient[j] - gradient[j]
            adam(value, mean, square, gradient, numbers)
        losses[block] = loss


# --------------------------------------------------------------------------------------------------- the pair network


@plain
def choose_negatives(
    users: Any, candidates: Any, starts: Any, columns: Any, n_items: Any, negatives: Any
) -> None:
    """Write the first candidate that its user does not have, or the last one; see `PairLearner.choose`."""
    for i in range(len(users)):
        start, end = starts[users[i]], starts[users[i] + 1]
        for attempt in range(len(candidates)):
            item = np.int64(((candidates[attempt, i] >> np.uint64(32)) * np.uint64(n_items)) >> np.uint64(32))
            negatives[i] = item
            index = start + np.searchsorted(columns[start:end], item)
            if index == end or columns[index] != item:
                break


@plain
def distinct(rows: Any, slots: Any, unique: Any, inverse: Any) -> int:
    """Write each row once to `unique` and the index of each of `rows` in it to `inverse`; return the number of unique rows.

    `slots`, for all rows of the table, is −1 before and after.
    """
    count = 0
    for i in range(len(rows)):
        row = rows[i]
        if slots[row] < 0:
            slots[row] = count
            unique[count] = row
            count += 1
        inverse[i] = slots[row]
    for i in range(count):
        slots[unique[i]] = -1
    return count


@plain
def catch_up(
    table: Any, rows: Any, row_steps: Any, now: Any, early: Any, sums: Any, powers: Any, numbers: Any
) -> None:
    """Take all steps of Adam without a gradient that rows have missed until now; see `pair_training`."""
    rate, epsilon64, nothing, first_beta, second_beta, lasting = numbers
    end, zero, epsilon = sums.shape[1] - 1, np.float32(0), np.float32(epsilon64)
    no_gradient = np.zeros(table.shape[2], dtype=np.float32)
    for row in rows:
        since = row_steps[row]
        row_steps[row] = now
        if since in (0, now):  # it has no moments yet, or has missed nothing
            continue
        value, mean, square = table[row, 0], table[row, 1], table[row, 2]
        # Early steps one by one, while the corrections of the moments change fast (`EARLY`).
        for step in range(since + 1, min(now + 1, since + lasting, early.shape[1])):
            scaled_rate, root_factor = np.float32(rate * early[0, step]), np.float32(early[1, step])
            adam(
                value,
                mean,
                square,
                no_gradient,
                (first_beta, second_beta, zero, zero, scaled_rate, root_factor, epsilon, nothing),
            )
            since = step
        # All others at once, by the closed form: a sum over steps since + 1 … now is that over all steps after `since`
        # less that over all steps after `now`.
        idle = min(now - since, end)
        if idle > 0:
            first_index, last_index = min(since, end), min(now, end)
            total = sums[0, first_index] - powers[0, idle] * sums[0, last_index]
            factor = (sums[1, first_index] - powers[1, idle] * sums[1, last_index]) / total
            scaled_rate, tempered = np.float32(rate * total), np.float32(epsilon64 * factor)
            first, second = np.float32(powers[2, idle]), np.float32(powers[3, idle])
            for j in range(len(value)):
                value[j] -= scaled_rate * mean[j] / (np.sqrt(square[j]) + tempered)
                m, s = first * mean[j], second * square[j]
                mean[j] = m if abs(m) >= nothing else m - m
                square[j] = s if s >= nothing else s - s


@plain
def step_rows(table: Any, rows: Any, gradients: Any, numbers: Any) -> None:
    """Take a step of Adam for some rows of a table."""
    for i in range(len(rows)):
        row = table[rows[i]]
        adam(row[0], row[1], row[2], gradients[i], numbers)


@summed
def pair_gradients(
    tables: Any,
    pairs: Any,
    words: Any,
    network: Any,
    gradients: Any,
    outputs: Any,
    output_gradients: Any,
    numbers: Any,
) -> float:
    """Return the mean loss of some pairs, of which the first `positives` are interactions.

    Adds to the gradients of the tables' rows, and writes those of the network. `outputs` is memory for the inputs of each
    layer and the outputs of the last, (n, width) each; `output_gradients` for the gradients of these.
    """
    users, items = tables
    user_rows, item_rows, user_indices, item_indices, positives = pairs
    weights, biases, last, last_bias = network
    by_users, by_items, by_weights, by_biases, by_last, by_last_bias = gradients
    smallest_kept, scale, share = numbers
    zero, one, depth = share - share, share / share, len(weights)
    k = len(last) - len(biases[depth - 1])
    hidden_width, total_loss = users.shape[2] - k, 0.0
    for n in range(len(user_rows)):
        user, item, x = users[user_rows[n], 0], items[item_rows[n], 0], outputs[0][n]
        x[:hidden_width], x[hidden_width:] = user[k:], item[k:]
    first_word = 0
    for layer in range(depth):
        weight, bias, x, h = weights[layer], biases[layer], outputs[layer], outputs[layer + 1]
        for n in range(len(x)):
            row, row_words = x[n], words[n, first_word : first_word + len(x[n])]
            for j in range(len(row)):
                row[j] = row[j] * scale if row_words[j] >= smallest_kept else zero
        first_word += x.shape[1]
        np.dot(x, weight.T, h)
        for n in range(len(h)):
            row = h[n]
            for j in range(len(row)):
                total = row[j] + bias[j]
                row[j] = zero if total <= zero else total

    by_last[:], by_last_bias[:] = zero, zero
    for n in range(len(user_rows)):
        user, item, h, by_h = (
            users[user_rows[n], 0],
            items[item_rows[n], 0],
            outputs[depth][n],
            output_gradients[depth][n],
        )
        by_user, by_item = by_users[user_indices[n]], by_items[item_indices[n]]
        logit = last_bias[0]
        for j in range(k):
            logit += last[j] * user[j] * item[j]
        for j in range(len(h)):
            logit += last[k + j] * h[j]
        target = one if n < positives else zero
        exponential = np.exp(-abs(logit))
        total_loss += max(logit, zero) - logit * target + np.log1p(exponential)
        logit_gradient = share * ((one if logit >= zero else exponential) / (one + exponential) - target)
        by_last_bias[0] += logit_gradient
        for j in range(k):
            by_last[j] += logit_gradient * user[j] * item[j]
            by_user[j] += logit_gradient * last[j] * item[j]
            by_item[j] += logit_gradient * last[j] * user[j]
        for j in range(len(h)):
            by_last[k + j] += logit_gradient * h[j]
            by_h[j] = logit_gradient * last[k + j]

    for back in range(depth):
        layer = depth - 1 - back
        h, by_h, by_bias = outputs[layer + 1], output_gradients[layer + 1], by_biases[layer]
        factor = scale if back else one  # dropout acts on inputs of layers, not on the last one's outputs
        by_bias[:] = zero
        for n in range(len(h)):
            row, by_row = h[n], by_h[n]
            for j in range(len(row)):
                gradient = by_row[j] * factor if row[j] != zero else zero  # 0 if ReLU or dropout gave 0
                by_row[j] = gradient
                by_bias[j] += gradient
        np.dot(by_h.T, outputs[layer], by_weights[layer])
        np.dot(by_h, weights[layer], output_gradients[layer])
    for n in range(len(user_rows)):
        by_user, by_item = by_users[user_indices[n]], by_items[item_indices[n]]
        by_x, row_words = output_gradients[0][n], words[n]
        for j in range(hidden_width):
            by_user[k + j] += by_x[j] * scale if row_words[j] >= smallest_kept else zero
            by_item[k + j] += (
                by_x[hidden_width + j] * scale if row_words[hidden_width + j] >= smallest_kept else zero
            )
    return float(total_loss * share)
