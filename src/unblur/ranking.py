"""The best items of each row: top-k, the table that holds it, and the explanation of one score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unblur.errors import DataError
from unblur.vocabulary import Vocabulary

if TYPE_CHECKING:
    import polars as pl
    import torch


@dataclass(frozen=True, eq=False)
class Ranking:
    """The best items of each user, best first."""

    users: Vocabulary
    """The label of each row."""
    items: Vocabulary
    """What `positions` point into."""
    positions: NDArray[np.int32]
    """(n_users, k) item positions, −1 where a user had fewer than k items to choose from."""
    scores: NDArray[np.float32]
    """(n_users, k), −inf where the position is −1."""
    fallback: NDArray[np.bool_]
    """(n_users,) whether the user had no history and got popular items instead."""
    notes: tuple[str, ...] = ()
    """What a reader must know: ignored items, users without a history."""

    @property
    def k(self) -> int:
        """How many items each user was given, at most."""
        return int(self.positions.shape[1])

    def labels(self, row: int = 0) -> list[int] | list[str]:
        """The item labels of one row, best first."""
        places = self.positions[row]
        return self.items.take(places[places >= 0]).to_list()

    def to_frame(self) -> pl.DataFrame:
        """A polars table user, rank (from 1), item, score, fallback, in the caller's own labels."""
        import polars as pl

        real = self.positions >= 0
        rows, columns = np.nonzero(real)
        return pl.DataFrame(
            {
                "user": self.users.take(rows).series,
                "rank": (columns + 1).astype(np.int32),
                "item": self.items.take(self.positions[real]).series,
                "score": self.scores[real],
                "fallback": self.fallback[rows],
            }
        )

    def write_parquet(self, path: str | Path) -> None:
        """Write `to_frame` to a Parquet file, whole or not at all; an existing file is replaced."""
        from unblur.sources import write_parquet

        write_parquet(self.to_frame(), path)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why one item has the score it has for one history."""

    item: int | str
    score: float
    """The score of `item` for the whole history."""
    history: Vocabulary
    """The items of the history, largest share first."""
    shares: NDArray[np.float64]
    """How much each of them adds to the score, aligned with `history`."""
    exact: bool
    """Whether the shares add up to the score (linear models)."""

    def to_frame(self) -> pl.DataFrame:
        """A polars table item, share."""
        import polars as pl

        return pl.DataFrame({"item": self.history.series, "share": self.shares})


def top_k(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The positions and values of the k largest scores of each row, largest first, ties by position.

    `scores` is (n_users, n_items) in either memory order. −inf means excluded: where fewer than k others remain,
    the position is −1 and the score −inf. NaN and +inf raise `DataError`.

    The k-th largest of the maxima of blocks of items bounds the k-th largest score from below, so only the few
    items that reach it are sorted; the result is exact.
    """
    import torch

    if not scores.flags.writeable or min(scores.strides) < 0:
        scores = scores.copy()
    n_users = scores.shape[0]
    across = 0 if scores.flags.f_contiguous and not scores.flags.c_contiguous else 1
    values = torch.from_numpy(scores.T if across == 0 else scores)
    maxima = _block_maxima(values, across, k)
    if not bool((maxima < torch.inf).all()):
        raise DataError(
            "Scores must be finite; saw NaN or +inf. The model did not fit (a learning rate too high, a ridge too "
            "small), or the scorer is broken."
        )
    if maxima.shape[across] >= k:
        bound = maxima.topk(k, dim=across).values.select(across, k - 1)
    else:
        bound = maxima.new_full((n_users,), -torch.inf)
    lowest = torch.finfo(values.dtype).min  # above −inf, which means excluded
    reach = values >= bound.clamp_min(lowest).unsqueeze(across)
    found = reach.nonzero().numpy()
    items, users = (found[:, 0], found[:, 1]) if across == 0 else (found[:, 1], found[:, 0])
    reached = scores[users, items]
    order = np.lexsort((items, -reached, users))
    users, items, reached = users[order], items[order], reached[order]
    starts = np.searchsorted(users, np.arange(n_users))
    rank = np.arange(len(users)) - starts[users]
    kept = rank < k
    positions = np.full((n_users, k), -1, dtype=np.int32)
    best = np.full((n_users, k), -np.inf, dtype=np.float32)
    positions[users[kept], rank[kept]] = items[kept]
    best[users[kept], rank[kept]] = reached[kept]
    return positions, best


def _block_maxima(values: torch.Tensor, across: int, k: int) -> torch.Tensor:
    """The maximum of each block of items, a short last block included."""
    import torch

    n_items = values.shape[across]
    block = max(1, n_items // max(8 * k, 128))
    whole = n_items // block
    head = values.narrow(across, 0, whole * block)
    shape = (whole, block, values.shape[1]) if across == 0 else (values.shape[0], whole, block)
    maxima = (
        head.unflatten(across, (whole, block)).amax(across + 1)
        if block > 1
        else head.reshape(shape).amax(across + 1)
    )
    if whole * block == n_items:
        return maxima
    tail = values.narrow(across, whole * block, n_items - whole * block).amax(across, keepdim=True)
    return torch.cat((maxima, tail), across)
