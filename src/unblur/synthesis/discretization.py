"""From scores of synthetic users to the items that they have (paper, section 4)."""

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
"""Of how many scores, and of how many users, the common threshold is a quantile at most: a larger sample takes
that of its first users."""


@spec
class Discretization:
    """How scores of a synthetic user become items that he or she has."""

    rule: Literal["multinomial", "user-counts", "equal-sparsity", "zero-threshold", "raw"] = "multinomial"
    """``multinomial`` (ours): each user gets the number of items of some real user, drawn by chance, and that many
    items drawn without replacement by the softmax of the scores, which is what a decoder with a multinomial
    likelihood says of them (by the k largest of scores with Gumbel noise; Kool et al., ICML 2019, arXiv 1903.06059).
    ``user-counts`` (ours): as many, but the best ones, which leaves the long tail out. ``equal-sparsity``: the best
    scores, as many as give the density of the real data. ``zero-threshold``: items with a score above 0. ``raw``: as ``zero-threshold``, with the scores as weights;
    `sample_scores` gives those below 0 too, which interactions have no place for."""
    per: Literal["sample", "user"] = "sample"
    """Of what ``equal-sparsity`` takes the quantile: of the scores of all users, or of each user's own, which
    gives every user the same number of items."""


def discretized(
    scored: Iterable[tuple[UserBlock, Scores]], settings: Discretization, counts: RealCounts, n_users: int
) -> Iterator[sparse.csr_array]:
    """The rows of each block, (size, n_items) CSR, from its scores (size, n_items), which are not kept.

    A score of −∞ is never taken. ``equal-sparsity`` over the sample holds the scores of all `n_users`, or of
    as many as `MOST_CELLS` and `MOST_USERS` allow, before it gives out the first block.
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
            wanted = counts.drawn(len(scores), block.random)
            if settings.rule == "multinomial":
                scores = noised(scores, block.random)
            yield best(scores, wanted)


def noised(scores: Scores, random: np.random.Generator) -> Scores:
    """Scores with Gumbel noise of their own: the k largest of a row are k draws without replacement by its softmax."""
    noise = random.standard_exponential(scores.shape, dtype=np.float32)
    np.maximum(noise, np.finfo(np.float32).tiny, out=noise)
    np.log(noise, out=noise)
    return np.subtract(scores, noise, out=noise)


def _by_common_threshold(
    scored: Iterable[tuple[UserBlock, Scores]], counts: RealCounts, n_users: int
) -> Iterator[sparse.csr_array]:
    """The first users' scores are held, their quantile is the threshold of all."""
    rows = iter(scored)
    held: list[Scores] = []
    n_held = 0
    for _, scores in rows:
        held.append(scores)
        n_held += len(scores)
        more = n_held + len(scores)
        if n_held < n_users and (more * scores.shape[1] > MOST_CELLS or more > MOST_USERS):
            break
    threshold = quantile_threshold(held, counts.density)
    for scores in chain(held, (scores for _, scores in rows)):
        yield above(scores, threshold)


def quantile_threshold(parts: list[Scores], density: float) -> float:
    """The value that a share `density` of all scores lies above, but for ties with it."""
    cells = sum(part.size for part in parts)
    kept = min(max(round(density * cells), 0), cells)
    if kept == cells:
        return -np.inf
    values = np.concatenate([part.ravel() for part in parts])
    values.partition(cells - kept - 1)
    return float(values[cells - kept - 1])


def above(scores: Scores, threshold: float, *, keep_scores: bool = False) -> sparse.csr_array:
    """The cells with a score above the threshold, with weight 1, or their scores."""
    cells = np.flatnonzero(scores.ravel() > threshold)
    rows, columns = np.divmod(cells, scores.shape[1])
    data = scores.ravel()[cells] if keep_scores else np.ones(len(cells), dtype=np.float32)
    return _matrix(rows, columns, data, scores.shape)


def best(scores: Scores, counts: NDArray[np.integer[Any]]) -> sparse.csr_array:
    """The `counts` (n,) best cells of each row, ties broken by item position; cells of −∞ are never taken."""
    n, n_items = scores.shape
    limits = np.minimum(counts, (scores > -np.inf).sum(1))
    bounds = np.full(n, np.inf, dtype=scores.dtype)
    for row in np.flatnonzero(limits):  # each row its own rank: four times faster than sorting them all
        place = n_items - limits[row]
        bounds[row] = np.partition(scores[row], place)[place]
    taken = scores >= bounds[:, None]
    taken[limits == 0] = False
    for row in np.flatnonzero(taken.sum(1) > limits):  # ties at the bound
        tied = np.flatnonzero(scores[row] == bounds[row])
        taken[row, tied[limits[row] - int((scores[row] > bounds[row]).sum()) :]] = False
    rows, columns = np.divmod(np.flatnonzero(taken.ravel()), n_items)
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
