"""A walk over items: from each to one that some user had beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from unblur.data.interactions import Interactions, check_train
from unblur.fitted import StoppingData, learned
from unblur.randomness import RNG
from unblur.run import Run
from unblur.spec import spec
from unblur.synthesis.synthesizer import Blocks, CountedSynthesizer, RealCounts, Rows, SynthesizerSpec

MOST_ROUNDS = 20
"""How many draws an item may cost, on average, before a user is left with fewer."""


@spec
class CooccurrenceWalk(SynthesizerSpec["CooccurrenceWalkSynthesizer"]):
    """A Markov chain: the first item by popularity, each next one by how many users had it beside the last.

    The walk ends with as many different items as some real user had.
    """

    kind: ClassVar[str] = "cooccurrence-walk"
    fitted: ClassVar[str] = "unblur.synthesis.samplers.cooccurrence_walk:CooccurrenceWalkSynthesizer"
    restart: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The chance that the next item is drawn by popularity, whatever the last one was."""

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> CooccurrenceWalkSynthesizer:
        """Count the users of each pair of items; `rng` and `run.progress` are not needed."""
        check_train(train)
        x = train.binarized().matrix
        pairs = sparse.csr_array(x.T @ x)
        pairs.sort_indices()
        off = np.repeat(np.arange(train.n_items), np.diff(pairs.indptr)) != pairs.indices
        indptr = np.concatenate(([0], np.cumsum(off)))[pairs.indptr]
        beside = sparse.csr_array((pairs.data[off], pairs.indices[off], indptr), shape=pairs.shape)
        return CooccurrenceWalkSynthesizer(
            self,
            train.items,
            train.n_users,
            device=run.device,
            beside=beside,
            item_counts=train.item_degrees,
            users_with=RealCounts.of(train).users_with,
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CooccurrenceWalkSynthesizer(CountedSynthesizer["CooccurrenceWalk"]):
    """Holds the numbers of users of items and of pairs of items."""

    beside: sparse.csr_array = learned("items", "items", dtype=None)
    """How many users had each pair of items."""
    item_counts: NDArray[np.int64] = learned("items", dtype="int64")

    @cached_property
    def _sums(self) -> NDArray[np.float64]:
        return np.concatenate(([0.0], np.cumsum(self.beside.data, dtype=np.float64)))

    @cached_property
    def _popular(self) -> NDArray[np.float64]:
        return np.cumsum(self.item_counts, dtype=np.float64)

    def _rows(self, blocks: Blocks) -> Rows:
        most = int((self.item_counts > 0).sum())
        for block in blocks:
            wanted = np.minimum(self.counts.drawn(block.size, block.random), most)
            taken = np.zeros((block.size, len(self.items)), dtype=bool)
            have = np.zeros(block.size, dtype=np.int64)
            last = self._by_popularity(block.size, block.random)
            for _ in range(MOST_ROUNDS * int(wanted.max(initial=0))):
                under_way = np.flatnonzero(have < wanted)
                if not len(under_way):
                    break
                fresh = ~taken[under_way, last[under_way]]
                taken[under_way, last[under_way]] = True
                have[under_way] += fresh
                last[under_way] = self._next(last[under_way], block.random)
            yield sparse.csr_array(taken, dtype=np.float32)

    def _next(self, last: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        starts, stops = self._sums[self.beside.indptr[last]], self._sums[self.beside.indptr[last + 1]]
        place = np.searchsorted(
            self._sums, starts + random.random(len(last)) * (stops - starts), side="right"
        )
        inside = np.clip(place - 1, self.beside.indptr[last], np.maximum(self.beside.indptr[last + 1] - 1, 0))
        anew = (random.random(len(last)) < self.spec.restart) | (stops <= starts)
        walked = np.zeros(len(last), dtype=np.int64)
        walked[~anew] = self.beside.indices[inside[~anew]]
        walked[anew] = self._by_popularity(int(anew.sum()), random)
        return walked

    def _by_popularity(self, size: int, random: np.random.Generator) -> NDArray[np.int64]:
        drawn = np.searchsorted(self._popular, random.random(size) * self._popular[-1], side="right")
        return np.asarray(drawn, dtype=np.int64)
