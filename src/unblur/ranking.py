"""The best items of each row: top-k, the table that holds it, and the explanation of one score."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, VocabularyMismatch
from unblur.parallel.threads import in_threads
from unblur.progress import Progress, ProgressEvent, silent

if TYPE_CHECKING:
    import polars as pl
    import torch


Excluded: TypeAlias = Literal["history"] | Interactions | None
"""The items that a row is not recommended: those of the row itself, those of rows with the same users, or none."""

_BLOCK = 16
"""Most items in a block: the best of each block are found before the best of all, at the speed of a pass over memory."""
_MANY = 4
"""Blocks are looked at one row at a time only where so many times as few are in question as there are scores in all."""


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
        from unblur.data.files import write_parquet

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


def excluded_rows(exclude: Excluded, histories: Interactions) -> Interactions | None:
    """The rows whose items are left out for `histories`; of the same users and items, or an error says so."""
    DataError.unless(
        exclude == "history" or not isinstance(exclude, str),
        f'`exclude` must be "history", Interactions or None; saw {exclude!r}.',
    )
    rows = histories if isinstance(exclude, str) else exclude
    if rows is not None and (rows.users != histories.users or rows.items != histories.items):
        raise VocabularyMismatch(
            f"`exclude` must have the users of the histories and the items of the model; it has {rows.users!r} "
            f"and {rows.items!r}. Bring it onto them with `.onto(users=…, items=…)`."
        )
    return rows


def rank_rows(
    score: Callable[[Interactions], NDArray[np.float32]],
    histories: Interactions,
    k: int,
    *,
    hidden: Interactions | None,
    size: int,
    candidates: NDArray[np.integer[Any]] | None = None,
    side_by_side: bool = False,
    progress: Progress = silent,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The best `k` items of each history row, (n_users, k) positions and scores; `size` rows are scored at a time.

    - `score`: gives the scores (rows, n_items) of some of the rows, in a fresh array.
    - `hidden`: rows whose items are left out; `histories` itself leaves out what a user has.
    - `candidates`: the positions to choose from, in order; all where `None`.
    - `side_by_side`: whether batches are scored in threads, one for each.
    """
    DataError.unless(size >= 1, f"`batch_size` must be at least 1; saw {size}.")
    n_users = histories.n_users
    positions = np.full((n_users, k), -1, dtype=np.int32)
    best = np.full((n_users, k), -np.inf, dtype=np.float32)

    def rank(rows: slice) -> slice:
        batch = histories if rows == slice(0, n_users) else histories.take_users(rows)
        scores = score(batch)
        if hidden is not None:
            left_out = batch if hidden is histories else hidden.take_users(rows)
            scores[left_out.rows(), left_out.matrix.indices] = -np.inf
        if candidates is None:
            positions[rows], best[rows] = top_k(scores, k)
        else:
            places, best[rows] = top_k(scores[:, candidates], k)
            positions[rows] = np.where(places >= 0, candidates[places], -1)
        return rows

    batches = [slice(start, min(start + size, n_users)) for start in range(0, n_users, size)]
    with closing(in_threads(rank, batches) if side_by_side else (rank(rows) for rows in batches)) as ranked:
        for rows in ranked:
            progress(ProgressEvent("score users", rows.stop, n_users))
    return positions, best


def top_k(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The positions and values of the k largest scores of each row, largest first, ties by position.

    `scores` is (n_users, n_items) in either memory order. −inf means excluded: where fewer than k others remain,
    the position is −1 and the score −inf. NaN and +inf raise `DataError`.

    The k-th largest of the maxima of disjoint blocks of items bounds the k-th largest score from below. Only small
    blocks whose own maximum reaches the bound are read again, and only the few items that reach it are sorted; the
    result is exact.
    """
    import torch

    if not scores.flags.writeable or min(scores.strides) < 0:
        scores = scores.copy()
    n_users, n_items = scores.shape
    positions = np.full((n_users, k), -1, dtype=np.int32)
    best = np.full((n_users, k), -np.inf, dtype=np.float32)
    if not n_items:
        return positions, best
    across = 0 if scores.flags.f_contiguous and not scores.flags.c_contiguous else 1
    values = torch.from_numpy(scores.T if across == 0 else scores)
    together = min(_BLOCK, max(1, n_items // (16 * k)))
    small = _block_maxima(values, across, -(-n_items // together))
    large = _block_maxima(small, across, min(small.shape[across], max(8 * k, 128)))
    DataError.unless(
        bool((large < torch.inf).all()),
        "Scores must be finite; saw NaN or +inf. The model did not fit (a learning rate too high, a ridge too "
        "small), or the scorer is broken.",
    )
    many = large.shape[across] >= k
    kth = (
        large.topk(k, dim=across).values.select(across, k - 1)
        if many
        else large.new_full((n_users,), -torch.inf)
    )
    bound = kth.clamp_min(torch.finfo(values.dtype).min)  # above −inf, which means excluded
    users, items = _reaching(values, small, bound, across)
    reached = scores[users, items]
    order = np.lexsort((items, -reached, users))
    users, items, reached = users[order], items[order], reached[order]
    starts = np.searchsorted(users, np.arange(n_users))
    rank = np.arange(len(users)) - starts[users]
    kept = rank < k
    positions[users[kept], rank[kept]] = items[kept]
    best[users[kept], rank[kept]] = reached[kept]
    return positions, best


def _block_maxima(values: torch.Tensor, across: int, n_blocks: int) -> torch.Tensor:
    """The maximum of each block of items; item i is in block i modulo `n_blocks`."""
    import torch

    n_items = values.shape[across]
    whole = n_items // n_blocks
    maxima: torch.Tensor = (
        values.narrow(across, 0, whole * n_blocks).unflatten(across, (whole, n_blocks)).amax(across)
    )
    rest = n_items - whole * n_blocks
    if rest:
        first = maxima.narrow(across, 0, rest)
        torch.maximum(first, values.narrow(across, whole * n_blocks, rest), out=first)
    return maxima


def _reaching(
    values: torch.Tensor, small: torch.Tensor, bound: torch.Tensor, across: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Users and items of all scores that reach their user's bound, from the maxima of small blocks."""
    import torch

    def places(reach: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = reach.nonzero(as_tuple=True)
        return found[1 - across], found[across]

    n_items, n_blocks = values.shape[across], small.shape[across]
    users, blocks = places(small >= bound.unsqueeze(across))
    if n_items == n_blocks:
        return users.numpy(), blocks.numpy()
    if (
        _MANY * len(blocks) > small.numel()
    ):  # equal scores without end: reading all of them is the shorter way
        users, items = places(values >= bound.unsqueeze(across))
        return users.numpy(), items.numpy()
    items = blocks[:, None] + n_blocks * torch.arange(-(-n_items // n_blocks))
    inside = items < n_items
    users, items = users[:, None].expand_as(items)[inside], items[inside]
    found = values[(items, users) if across == 0 else (users, items)]
    kept = found >= bound[users]
    return users[kept].numpy(), items[kept].numpy()
