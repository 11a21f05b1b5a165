"""What chance gives a batch of pairs: items that its users do not have, and what dropout leaves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.models.neural.fast.pair_kernels import PairKernels

REDRAWN = 8
"""How often a negative that the user has is drawn again."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Pairs of a batch, the interactions first and then what was drawn beside each."""

    users: NDArray[np.int64]
    """(n,)."""
    items: NDArray[np.int64]
    """(n,)."""
    words: NDArray[np.int16]
    """(n, inputs): any number of an int16 is as likely as any other (`unblur.training.networks.least_kept`)."""


class PairDraws:
    """Draws batches by SFC64 (Doty-Humphrey, PractRand), which what trains on them has no part in."""

    def __init__(
        self, train: Interactions, negatives: int, inputs: int, compiled: PairKernels | None = None
    ) -> None:
        """For `negatives` items beside each interaction of `train`, and as many words as a pair has `inputs`. Without
        compiled kernels numpy draws the same."""
        self._starts, self._columns = train.matrix.indptr.astype(np.int64), train.matrix.indices
        self._n_items, self._negatives, self._inputs = train.n_items, negatives, inputs
        self._compiled = compiled

    def batch(self, rows: NDArray[np.int64], generator: torch.Generator) -> Drawn:
        """For the interactions at these positions."""
        chance = np.random.SFC64(int(torch.randint(2**62, (), generator=generator, device=generator.device)))
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        users = np.tile(owners, 1 + self._negatives)
        n, beside = len(users), self._negatives * len(rows)
        candidates = chance.random_raw((1 + REDRAWN) * beside).reshape(1 + REDRAWN, beside)
        others = np.empty(beside, dtype=np.int64)
        if self._compiled is None:
            self._choose(users[len(rows) :], candidates, others)
        else:
            self._compiled.choose(
                users[len(rows) :], candidates, self._starts, self._columns, self._n_items, others
            )
        words = chance.random_raw(-(-n * self._inputs // 4)).view(np.int16)[: n * self._inputs]
        return Drawn(
            users, np.concatenate((self._columns[rows].astype(np.int64), others)), words.reshape(n, -1)
        )

    def _choose(
        self, users: NDArray[np.int64], candidates: NDArray[np.uint64], others: NDArray[np.int64]
    ) -> None:
        """The first candidate that its user does not have, or the last one."""
        waiting = np.arange(len(users))
        for words in candidates:
            drawn = ((words[waiting] >> np.uint64(32)) * np.uint64(self._n_items)) >> np.uint64(32)
            others[waiting] = drawn
            keys = users[waiting] * self._n_items + others[waiting]
            places = np.minimum(np.searchsorted(self._pairs, keys), len(self._pairs) - 1)
            waiting = waiting[self._pairs[places] == keys]
            if not len(waiting):
                return

    @cached_property
    def _pairs(self) -> NDArray[np.int64]:
        owners = np.repeat(np.arange(len(self._starts) - 1), np.diff(self._starts))
        return np.asarray(owners * self._n_items + self._columns, dtype=np.int64)
