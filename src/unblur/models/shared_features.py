"""Lists under many settings whose scores are combinations of a few shared features of a user and an item.

Ranking all items under every setting would cost more than the features themselves, so each row first gets a shortlist:
the best items under a few settings that lie far apart. All settings are ranked on the shortlist; a few that matter can be
ranked exactly by a second pass over these alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.models.spectral.operator import Dense, dense, on_cpu
from unblur.parallel.threads import in_threads
from unblur.progress import Progress, ProgressEvent, silent
from unblur.ranking import top_k
from unblur.spec import SharedRankings

BATCH = 32
"""Users in a batch: the columns of a block at which sparse products are fastest (see `unblur.models.spectral.operator.Operator`)."""
ANCHORS = 8
"""Settings whose best items make the shortlist that all settings choose from; up to so many are ranked in full."""
_DEPTH = 100
"""Items that each anchor puts on the shortlist, at least; what is chosen at the end is judged again exactly."""


@dataclass(frozen=True, eq=False)
class SharedPasses:
    """Passes over settings that share no features, such as those of spectral filters of different R̃, each prepared by itself."""

    passes: Sequence[tuple[Sequence[int], SharedRankings]]
    """Each with the indices of its settings."""

    def rankings(
        self,
        histories: Interactions,
        *,
        k: int,
        settings: Sequence[int] | None = None,
        progress: Progress = silent,
    ) -> Iterator[tuple[slice, NDArray[np.int32]]]:
        """Yield the best items under each setting, as `SharedRankings` says; those of one pass have a shortlist of their own."""
        n_settings = sum(len(own) for own, _ in self.passes)
        settings = range(n_settings) if settings is None else settings
        indices: list[list[int]] = []
        parts: list[Iterator[tuple[slice, NDArray[np.int32]]]] = []
        for own, shared in self.passes:
            chosen = [index for index, setting in enumerate(settings) if setting in own]
            if chosen:
                report = silent if parts else progress  # all passes go over the same batches
                own_settings = [own.index(settings[index]) for index in chosen]
                parts.append(shared.rankings(histories, k=k, settings=own_settings, progress=report))
                indices.append(chosen)
        for batch in zip(*parts, strict=True):
            rows, first = batch[0]
            positions = np.empty((len(settings), *first.shape[1:]), dtype=np.int32)
            for chosen, (_, own_positions) in zip(indices, batch, strict=True):
                positions[chosen] = own_positions
            yield rows, positions


def rank_batches(
    rank: Callable[[Interactions], NDArray[np.int32]],
    histories: Interactions,
    progress: Progress,
    *,
    parallel: bool = True,
) -> Iterator[tuple[slice, NDArray[np.int32]]]:
    """Yield batches of rows, each with ``rank(rows)``, the lists (settings, rows, k) of many settings."""
    n_users = histories.n_users
    batches = [slice(start, min(start + BATCH, n_users)) for start in range(0, n_users, BATCH)]

    def rank_batch(rows: slice) -> tuple[slice, NDArray[np.int32]]:
        return rows, rank(histories.take_users(rows))

    with closing(
        in_threads(rank_batch, batches) if parallel else (rank_batch(rows) for rows in batches)
    ) as results:
        for rows, positions in results:
            yield rows, positions
            progress(ProgressEvent("score all settings", rows.stop, n_users))


def rank_settings(
    table: Dense,
    features: Dense,
    start: sparse.csr_array,
    k: int,
    ties: NDArray[np.int64],
    device: str = "cpu",
) -> NDArray[np.int32]:
    """Return the best items of some rows under each setting, (settings, rows, k), without those of the rows themselves.

    Scores are `table`, (settings, features), times `features`, (features, n_items, rows). The lists of more than eight settings
    are exact but for items that none of eight settings far apart has among its best 100 (about 1 position in 400).
    """
    few = len(table) <= ANCHORS
    anchors = table if few else table[spread_settings(table, ANCHORS)]
    # A setting's scores are its coefficients times the features, for all items and rows in one product.
    scores = on_cpu(exclude_histories(combined(anchors, features), start))
    if few:
        return best_items(scores, k, ties)
    shortlist = _shortlist(scores, min(max(_DEPTH, 2 * k), scores.shape[1]), ties)
    return _rank_shortlist(table, features, shortlist, k, device)


def best_items(scores: NDArray[np.float32], k: int, ties: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the best items by scores (settings, n_items, rows), (settings, rows, k)."""
    return np.stack([top_k(setting_scores.T, k, ties)[0] for setting_scores in scores])


def combined(table: Dense, vectors: Dense) -> Dense:
    """Combine vectors (terms, n_items, rows) by a table (settings, terms), to (settings, n_items, rows)."""
    return (table @ vectors.reshape(len(vectors), -1)).reshape(len(table), *vectors.shape[1:])


def _shortlist(scores: NDArray[np.float32], depth: int, ties: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the best items under any anchor, (rows, at most anchors × depth), from scores (anchors, n_items, rows).

    −1 stands for a repeated or a missing item; sorting the items brings repeats together, and once more the −1 to the front,
    where they change no score.
    """
    items = np.sort(np.concatenate(best_items(scores, depth, ties), axis=1), axis=1)
    items[:, 1:][items[:, 1:] == items[:, :-1]] = -1
    items = np.sort(items, axis=1)
    # Anchors share most of their items. Columns of −1 alone would be ranked under every setting, slowly: equal values.
    return items[:, -int((items >= 0).sum(axis=1).max()) :].astype(np.int64)


def exclude_histories(scores: Dense, start: sparse.csr_array) -> Dense:
    """Set scores (settings, n_items, rows) of the items of the histories to −inf, in place, and return them."""
    users = np.repeat(np.arange(start.shape[0]), np.diff(start.indptr))
    scores[:, start.indices.astype(np.int64), users] = -np.inf
    return scores


def _rank_shortlist(
    table: Dense, features: Dense, shortlist: NDArray[np.int64], k: int, device: str
) -> NDArray[np.int32]:
    """Return the best items of the shortlist under each setting of the table, (settings, rows, k); ties in any order."""
    # A catalogue of fewer items than k may give a narrower shortlist; the list's end is then −1, as in `top_k`.
    shortlist = np.pad(shortlist, ((0, 0), (0, max(0, k - shortlist.shape[1]))), constant_values=-1)
    rows = np.arange(len(shortlist))[:, None]
    items, rows = (dense(part, device) for part in (np.maximum(shortlist, 0), rows))
    scores = on_cpu(combined(table, features[:, items, rows]))
    scores[:, shortlist < 0] = -np.inf
    best = np.argpartition(scores, -k, axis=2)[:, :, -k:]
    best_scores = np.take_along_axis(scores, best, axis=2)
    order = np.argsort(-best_scores, axis=2)
    best, best_scores = (np.take_along_axis(part, order, axis=2) for part in (best, best_scores))
    positions = np.take_along_axis(np.broadcast_to(shortlist, scores.shape), best, axis=2)
    return np.where(best_scores == -np.inf, -1, positions).astype(np.int32)


def spread_settings(points: Dense, number: int) -> list[int]:
    """Return the indices of up to `number` settings, each as far as possible from those before it.

    A setting and its multiples rank alike, so only directions count.
    """
    directions = on_cpu(points)
    directions = directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-30)
    settings = [int(np.linalg.norm(directions - directions.mean(axis=0), axis=1).argmin())]
    distance = np.linalg.norm(directions - directions[settings[0]], axis=1)
    while len(settings) < number and distance.max() > 0:
        settings.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(directions - directions[settings[-1]], axis=1))
    return settings
