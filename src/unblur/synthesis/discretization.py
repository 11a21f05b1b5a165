"""Discretization: from scores of synthetic users to their items (paper, section 4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.spec import spec
from unblur.synthesis.synthesizer import RealCounts, UserBlock

Scores = NDArray[np.float32]

MOST_CELLS, MOST_USERS = 1 << 25, 1 << 14
"""The common threshold of ``equal-sparsity`` is a quantile of at most so many scores (2²⁵ float32 are 128 MiB) of at most so
many users: a larger sample takes it from its first users, so that memory does not grow with the sample."""


@spec
class Discretization:
    """The rule that turns the scores of a synthetic user into items."""

    rule: Literal["multinomial", "user-counts", "equal-sparsity", "zero-threshold", "raw"] = "multinomial"
    """``multinomial`` (ours): each user gets the number of items of a random real user, drawn without replacement with
    the softmax of the scores as probabilities, which are those of a decoder with a multinomial likelihood (the k largest
    scores with Gumbel noise; Kool et al., ICML 2019, arXiv 1903.06059). ``user-counts`` (ours): as many, but those with
    the highest scores, which leaves the long tail out. ``equal-sparsity``: the highest scores, as many as give the
    density of the real data. ``zero-threshold``: items with a score above 0. ``raw``: as ``zero-threshold``, with the
    scores as weights; `sample_scores` gives those below 0 too, which are no valid weights of interactions."""
    per: Literal["sample", "user"] = "sample"
    """The scores whose quantile ``equal-sparsity`` takes: those of all users, or of each user separately, which gives
    every user the same number of items."""


def discretized(
    scored: Iterable[tuple[UserBlock, Scores]], settings: Discretization, counts: RealCounts, n_users: int
) -> Iterator[sparse.csr_array]:
    """Yield the rows of each block, (size, n_items) CSR, from its scores (size, n_items).

    An item with a score of −∞ is never taken. ``equal-sparsity`` over the sample collects the scores of all `n_users`, or
    of as many as `MOST_CELLS` and `MOST_USERS` allow, before it yields the first block.
    """
    if settings.rule == "equal-sparsity" and settings.per == "sample":
        yield from _by_common_threshold(scored, counts, n_users)
        return
    for block, scores in scored:
        if settings.rule in ("raw", "zero-threshold"):
            yield above(scores, 0.0, keep_scores=settings.rule == "raw")
        elif settings.rule == "equal-sparsity":
            yield best(scores, np.full(len(scores), round(counts.density * scores.shape[1])))
        else:
            n_items = counts.draw(len(scores), block.random)
            if settings.rule == "multinomial":
                scores = gumbel_perturbed(scores, block.random)
            yield best(scores, n_items)


def gumbel_perturbed(scores: Scores, random: np.random.Generator) -> Scores:
    """Scores plus independent Gumbel noise: the k largest of a row are k draws without replacement by its softmax."""
    # −log of a standard exponential is a standard Gumbel; an exponential of 0 would have an infinite one.
    noise = random.standard_exponential(scores.shape, dtype=np.float32)
    np.maximum(noise, np.finfo(np.float32).tiny, out=noise)
    np.log(noise, out=noise)
    return np.subtract(scores, noise, out=noise)


def _by_common_threshold(
    scored: Iterable[tuple[UserBlock, Scores]], counts: RealCounts, n_users: int
) -> Iterator[sparse.csr_array]:
    """Rows by the quantile of the first users' scores, which is the threshold of all."""
    blocks = iter(scored)
    collected: list[Scores] = []
    n_collected = 0
    for _, scores in blocks:
        collected.append(scores)
        n_collected += len(scores)
        # The number of users with one more block of this size.
        n_next = n_collected + len(scores)
        if n_collected < n_users and (n_next * scores.shape[1] > MOST_CELLS or n_next > MOST_USERS):
            break
    threshold = quantile_threshold(collected, counts.density)
    for scores in chain(collected, (scores for _, scores in blocks)):
        yield above(scores, threshold)


def quantile_threshold(parts: list[Scores], density: float) -> float:
    """The threshold that a share `density` of all scores exceeds, except for scores equal to it."""
    n_cells = sum(part.size for part in parts)
    n_above = min(max(round(density * n_cells), 0), n_cells)
    if n_above == n_cells:
        return -np.inf
    values = np.concatenate([part.ravel() for part in parts])
    values.partition(n_cells - n_above - 1)
    return float(values[n_cells - n_above - 1])


def above(scores: Scores, threshold: float, *, keep_scores: bool = False) -> sparse.csr_array:
    """The cells with a score above the threshold, with weight 1, or the scores as weights."""
    cells = np.flatnonzero(scores.ravel() > threshold)
    rows, columns = np.divmod(cells, scores.shape[1])
    data = scores.ravel()[cells] if keep_scores else np.ones(len(cells), dtype=np.float32)
    return _matrix(rows, columns, data, scores.shape)


def best(scores: Scores, counts: NDArray[np.integer[Any]]) -> sparse.csr_array:
    """The `counts` (n,) highest scores of each row, ties broken by item index; scores of −∞ are never taken."""
    n, n_items = scores.shape
    limits = np.minimum(counts, (scores > -np.inf).sum(1))
    bounds = np.full(n, np.inf, dtype=scores.dtype)
    for row in np.flatnonzero(limits):  # one partition per row: four times faster than sorting all rows
        rank = n_items - limits[row]
        bounds[row] = np.partition(scores[row], rank)[rank]
    selected = scores >= bounds[:, None]
    selected[limits == 0] = False
    for row in np.flatnonzero(selected.sum(1) > limits):  # ties at the bound: the first items of them stay
        tied = np.flatnonzero(scores[row] == bounds[row])
        selected[row, tied[limits[row] - int((scores[row] > bounds[row]).sum()) :]] = False
    rows, columns = np.divmod(np.flatnonzero(selected.ravel()), n_items)
    return _matrix(rows, columns, np.ones(len(rows), dtype=np.float32), scores.shape)


def _matrix(
    rows: NDArray[np.intp],
    columns: NDArray[np.integer[Any]],
    data: NDArray[np.float32],
    shape: tuple[int, ...],
) -> sparse.csr_array:
    indptr = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=shape[0]))))
    return sparse.csr_array(
        (data, columns.astype(np.int32), indptr.astype(np.int32)), shape=(shape[0], shape[1])
    )
