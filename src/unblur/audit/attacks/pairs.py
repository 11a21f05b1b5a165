"""Which pairs of items a user has, and how usual each pair is in a set of users."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.progress import Progress, ProgressEvent, silent

ITEMS_OF_A_USER = 32
"""Of a user with more items, so many are looked at: the rarest ones, where a pair tells most."""
CELLS_AT_ONCE = 1 << 22
"""How many item-item counts are held at a time; no result depends on it."""
PSEUDO_COUNT = 0.5
"""Added to every count of a pair, so that a pair that never occurs has a logarithm."""


def pair_log_share(
    targets: sparse.csr_array,
    rows: sparse.csr_array,
    *,
    progress: Progress = silent,
    stage: str = "compare item pairs",
) -> NDArray[np.float64]:
    """The mean, over the pairs of a target's items, of the log of the share of `rows` that have the pair.

    Both binary over the same items. (n_targets,); 0 for a target with fewer than two items. Co-occurrences are
    counted for a few items at a time.
    """
    by_item = targets.T.tocsr()
    owned = np.diff(targets.indptr)
    total = np.zeros(targets.shape[0])
    step = max(1, CELLS_AT_ONCE // targets.shape[1])
    turned = rows.T.tocsr()
    for start in range(0, targets.shape[1], step):
        stop = min(start + step, targets.shape[1])
        first, last = by_item.indptr[start], by_item.indptr[stop]
        users = by_item.indices[first:last]
        if len(users):
            local = np.repeat(np.arange(stop - start), np.diff(by_item.indptr[start : stop + 1]))
            lengths = owned[users]
            ends = np.cumsum(lengths)
            entry = np.arange(ends[-1]) - np.repeat(ends - lengths - targets.indptr[users], lengths)
            one, other = np.repeat(local, lengths), targets.indices[entry]
            counts = (turned[start:stop] @ rows).toarray()
            logs = np.log(counts[one, other] + PSEUDO_COUNT)
            logs[one + start == other] = 0.0  # an item with itself is no pair
            total += np.bincount(np.repeat(users, lengths), weights=logs, minlength=len(total))
        progress(ProgressEvent(stage, stop, targets.shape[1]))
    n_pairs = owned * (owned - 1)
    made: NDArray[np.float64] = np.where(
        n_pairs > 0, total / np.maximum(n_pairs, 1) - np.log(rows.shape[0] + 1), 0.0
    )
    return made


def rarest_items(targets: sparse.csr_array, counts: NDArray[Any]) -> sparse.csr_array:
    """The targets with at most `ITEMS_OF_A_USER` items each, those of the lowest count."""
    lengths = np.diff(targets.indptr)
    if not len(lengths) or lengths.max() <= ITEMS_OF_A_USER:
        return targets
    owner = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((targets.indices, counts[targets.indices], owner))
    place = np.arange(len(order)) - np.repeat(targets.indptr[:-1], lengths)
    kept = np.sort(order[place < ITEMS_OF_A_USER])
    indptr = np.concatenate(([0], np.cumsum(np.minimum(lengths, ITEMS_OF_A_USER))))
    return sparse.csr_array((targets.data[kept], targets.indices[kept], indptr), shape=targets.shape)
