"""Beside accuracy: novelty, diversity and popularity of lists, and recall of popular and rare items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.evaluation.metrics import per_user

HEAD = 0.2
"""The share of the catalogue, most popular first, that is called head; the rest is tail."""
_ROWS = 256
MEANINGS = {
    "coverage": "share of the catalogue that is in somebody's list (Ge et al., RecSys 2010)",
    "gini": "Gini coefficient of how often each item is in a list: 0 all alike, 1 one item (Fleder and Hosanagar, 2009)",
    "mean_popularity": "mean number of training users of the recommended items (Yin et al., VLDB 2012)",
    "popularity_lift": "that mean over the same mean of the user's history: 1 is no bias towards popular items beyond the "
    "user's own (after Abdollahpouri et al., RMSE 2019)",
    "novelty": "mean self-information of the recommended items, −log2(training users of the item / all), in bits (Zhou et "
    "al., PNAS 2010)",
    "diversity": "mean of 1 − cosine of the training users of two items, over all pairs in a list (Ziegler et al., WWW "
    "2005)",
}
"""What each measure is, in a line."""


def popularity_lift(
    positions: NDArray[np.int32], histories: Interactions, degrees: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n_users,) mean train degree of the list over that of the history; NaN for an empty history or list."""
    filled = positions >= 0
    listed = np.where(filled, degrees[positions], 0).sum(axis=1) / np.maximum(filled.sum(axis=1), 1)
    owned = (histories.binarized().matrix @ degrees.astype(np.float64)) / np.maximum(
        histories.user_degrees, 1
    )
    made = np.full(len(positions), np.nan)
    np.divide(listed, owned, out=made, where=(owned > 0) & filled.any(axis=1))
    return made


def novelty(positions: NDArray[np.int32], degrees: NDArray[np.int64], n_users: int) -> NDArray[np.float64]:
    """(n_users,) mean of −log2(d_i / n) over the list; an item without train users counts as one with half a user."""
    bits = -np.log2(np.maximum(degrees, 0.5) / n_users)
    filled = positions >= 0
    total = np.where(filled, bits[positions], 0.0).sum(axis=1)
    return np.asarray(total / np.maximum(filled.sum(axis=1), 1))


def diversity(positions: NDArray[np.int32], train: Interactions) -> NDArray[np.float64]:
    """(n_users,) mean of 1 − cos(i, j) over pairs of a list, of the items' columns in the 0/1 train matrix.

    The cosines of all pairs of a list add up to (‖Σ ĉ_i‖² − Σ ‖ĉ_i‖²) / 2 with unit columns ĉ, so no pair is looked
    at. 0 for a list of fewer than two items.
    """
    matrix = train.binarized().matrix.astype(np.float64)
    norms = np.sqrt(train.item_degrees.astype(np.float64))
    units = sparse.csr_array((matrix @ sparse.diags_array(1 / np.maximum(norms, 1))).T)
    owned = (norms > 0).astype(np.float64)
    filled = positions >= 0
    sizes = filled.sum(axis=1)
    squares, own = np.zeros(len(positions)), np.where(filled, owned[positions], 0.0).sum(axis=1)
    for start in range(0, len(positions), _ROWS):
        rows = slice(start, start + _ROWS)
        place, column = np.nonzero(filled[rows])
        items = positions[rows][place, column]
        shape = (len(positions[rows]), train.n_items)
        summed = sparse.csr_array((np.ones(len(items)), (place, items)), shape=shape) @ units
        squares[rows] = np.bincount(
            np.repeat(np.arange(shape[0]), np.diff(summed.indptr)), weights=summed.data**2, minlength=shape[0]
        )
    pairs = sizes * (sizes - 1) / 2
    alike = np.divide((squares - own) / 2, pairs, out=np.zeros(len(sizes)), where=pairs > 0)
    return np.where(pairs > 0, 1.0 - alike, 0.0)


def head_of(degrees: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n_items,) whether an item is among the `HEAD` most popular; equal ones by position."""
    order = np.argsort(-degrees, kind="stable")
    head = np.zeros(len(degrees), dtype=bool)
    head[order[: max(1, round(HEAD * len(degrees)))]] = True
    return head


def recall_within(
    positions: NDArray[np.int32], held_out: Interactions, items: NDArray[np.bool_], k: int
) -> NDArray[np.float64]:
    """(n_users,) recall@k of the held-out items among `items`; NaN for users with none of them held out."""
    kept = held_out.keep(items[held_out.matrix.indices])
    values = per_user(positions, kept.matrix, ["recall"], [k])[f"recall@{k}"].copy()
    values[kept.user_degrees == 0] = np.nan
    return values
