"""What a list may hold, and in which order: excluded and allowed items, fillers, limits of a category, re-ranking."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.ranking.lists import top_k
from unblur.spec import spec

_AT_MOST = re.compile(r"([1-9]\d{0,8}):(.+)", re.DOTALL)
_POOL = 100
"""Items that are re-ranked, at least: five lists of 20, beyond which a score hardly says that an item fits."""
_LISTS_IN_A_POOL = 5
"""Items that are re-ranked for each slot of a list."""
_GROWTH = 4
"""Factor by which the pool grows for lists that a limit left short: few rounds, and seldom far more items than needed."""


@spec
class Selection:
    """What a list may hold, and how it is re-ranked. The defaults change nothing.

    Re-ranking takes the best max(100, 5·k) items of a user, with scores scaled to 0 … 1 among them, and fills the list
    greedily with the item that is largest in

        λ·(s(i) − γ·log(1 + d_i)) − (1 − λ)·max_{j in the list} sim(i, j),

    where d_i is the number of training users of i, and sim the similarity of `Recommender.similar_items`: maximal marginal
    relevance (Carbonell & Goldstein, SIGIR 1998, section 2) with a penalty of popularity. A list's scores are the model's.
    """

    where: str | None = None
    """A condition over the items' columns, such as ``category == "books" and stock > 0`` (see `unblur.ranking.conditions`)."""
    at_most: str | None = None
    """The most items of a list that share a value of a column, such as ``2:category``; items without a value are not
    limited."""
    diversity: Annotated[float, Field(ge=0, le=1)] = 1.0
    """λ: 1 ranks by score alone, 0 by distance from the items above alone."""
    popularity: Annotated[float, Field(ge=0, le=100)] = 0.0
    """γ: the penalty of popular items; 0 is none."""
    filler: Literal["popular", "none"] = "popular"
    """The end of a list for which the model has no signal: popular items, flagged as `filled`, or nothing."""

    @field_validator("at_most")
    @classmethod
    def _number_and_column(cls, at_most: str | None) -> str | None:
        if at_most is not None and not _AT_MOST.fullmatch(at_most):
            raise ValueError(f"It must be a number from 1 and a column, such as 2:category; saw {at_most!r}.")
        return at_most

    @property
    def limit(self) -> tuple[int, str] | None:
        """The number and the column of `at_most`."""
        match = _AT_MOST.fullmatch(self.at_most or "")
        return None if match is None else (int(match[1]), match[2])

    @property
    def reranks(self) -> bool:
        """True if lists are not in the order of the model's scores, or leave items out by what else is in them."""
        return self.at_most is not None or self.diversity < 1 or self.popularity > 0


BY_SCORE = Selection()
"""All items, in the order of the model's scores."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chooser:
    """Chooses the items of each list, as `rank_rows` calls it."""

    k: int
    ties: NDArray[np.int64]
    """(n_items,) the `tie_ranks` of the items; −1 for items that are not to be chosen from."""
    excluded: Interactions | None = None
    """Rows whose items are excluded; the histories themselves exclude the items that a user has."""
    allowed: Interactions | None = None
    """Rows whose items alone may be chosen; `None` allows all."""
    signal_threshold: float | None = None
    """Scores up to this size are those of items without signal; `None` if no score of the model says so."""
    selection: Selection = BY_SCORE
    counts: NDArray[np.int64] | None = None
    """(n_items,) the number of training users of each item, for a penalty of popularity."""
    groups: NDArray[np.int64] | None = None
    """(n_items,) the number of each item's value in the column of `at_most`; −1 without a value."""
    neighbours: sparse.csr_array | None = None
    """(n_items, n_items) similarities from 0 to 1, for diversity."""

    @cached_property
    def candidates(self) -> NDArray[np.intp] | None:
        """The positions of the items to choose from; `None` for all."""
        return None if (self.ties >= 0).all() else np.flatnonzero(self.ties >= 0)

    def __call__(
        self, scores: NDArray[np.float32], rows: slice, histories: Interactions
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """See `unblur.ranking.lists.ItemChooser`."""
        if self.excluded is not None:
            excluded = self.excluded.take_users(rows)
            scores[excluded.rows(), excluded.matrix.indices] = -np.inf
        if self.allowed is not None:
            allowed = self.allowed.take_users(rows)
            hidden = np.ones(scores.shape, dtype=bool)
            hidden[allowed.rows(), allowed.matrix.indices] = False
            scores[hidden] = -np.inf
        if self.selection.filler == "none":
            scores[histories.user_degrees == 0] = -np.inf
        return self._reranked(scores) if self.selection.reranks else self._best(scores, self.k)

    def _best(self, scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The best `k` candidates of each row; items without signal are in the order of their count, or left out.

        Rounding puts such items in some order, and sorting thousands of equal ones takes longer than all else. So those with
        signal are chosen first, and the popular ones of the others fill what is left.
        """
        if self.signal_threshold is None:
            return self._top(scores, k)
        positions, best = self._top(scores, k, above=self.signal_threshold)
        short = np.flatnonzero(positions[:, -1] < 0)
        if self.selection.filler == "none" or not len(short):
            return positions, best
        # Four times as many as a list takes: some of the most popular items have signal, or are in the history.
        popular = self.by_popularity[: _GROWTH * k]
        free = np.abs(scores[short][:, popular]) <= self.signal_threshold
        slots = (positions[short] >= 0).sum(axis=1)[:, None] + free.cumsum(axis=1) - 1
        rows, columns = np.nonzero(free & (slots < k))
        positions[short[rows], slots[rows, columns]] = popular[columns]
        best[short[rows], slots[rows, columns]] = 0
        # Lists that are short still reach rarer items, or those with a score below that of no signal.
        short = short[positions[short, -1] < 0]
        level = scores[short]
        level[np.abs(level) <= self.signal_threshold] = 0
        positions[short], best[short] = self._top(level, k)
        return positions, best

    @cached_property
    def by_popularity(self) -> NDArray[np.intp]:
        """The positions of the items to choose from, by their tie ranks."""
        candidates = np.flatnonzero(self.ties >= 0)
        return candidates[np.argsort(self.ties[candidates])]

    def _top(
        self, scores: NDArray[np.float32], k: int, above: float = -np.inf
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        candidates = self.candidates
        if candidates is None:
            return top_k(scores, k, self.ties, above=above)
        chosen, best = top_k(scores[:, candidates], k, self.ties[candidates], above=above)
        if not len(candidates):
            return chosen, best
        return np.where(chosen >= 0, candidates[chosen], -1).astype(np.int32), best

    def _reranked(self, scores: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The lists of a batch, from pools that grow while a limit leaves a list short of what there is."""
        n_candidates = int((self.ties >= 0).sum())
        positions = np.full((len(scores), self.k), -1, dtype=np.int32)
        best = np.full((len(scores), self.k), -np.inf, dtype=np.float32)
        rows, size = np.arange(len(scores)), max(_POOL, _LISTS_IN_A_POOL * self.k)
        while len(rows):
            size = min(size, n_candidates)
            pool, pool_scores = self._best(scores[rows], size)
            positions[rows], best[rows] = self._greedy(pool, pool_scores)
            short = (positions[rows, -1] < 0) & (pool[:, -1] >= 0) if size else np.zeros(len(rows), bool)
            rows = rows[short] if size < n_candidates else rows[:0]
            size *= _GROWTH
        return positions, best

    def _greedy(
        self, pool: NDArray[np.int32], scores: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Fill each list slot by slot with the best item of its pool, which is in the order of the scores."""
        selection, every = self.selection, np.arange(len(pool))
        there = pool >= 0
        value = _scaled(scores)
        if self.counts is not None:
            value -= selection.popularity * np.log1p(self.counts[pool])
        value *= selection.diversity
        group = np.full(pool.shape, -1) if self.groups is None else np.where(there, self.groups[pool], -1)
        limit = selection.limit[0] if selection.limit else 0
        nearest = np.zeros(pool.shape)  # the largest similarity to an item of the list
        positions = np.full((len(pool), self.k), -1, dtype=np.int32)
        best = np.full((len(pool), self.k), -np.inf, dtype=np.float32)
        members = np.zeros(pool.shape, dtype=np.int64)  # items of the list that share this one's value
        for slot in range(min(self.k, pool.shape[1])):
            gain = np.where(there, value - (1 - selection.diversity) * nearest, -np.inf)
            chosen = gain.argmax(axis=1)  # the first of equals: that of the higher score
            is_left = there[every, chosen]
            positions[is_left, slot] = pool[every, chosen][is_left]
            best[is_left, slot] = scores[every, chosen][is_left]
            there[every, chosen] = False
            if self.groups is not None:
                own = group[every, chosen]
                members += (group == own[:, None]) & (own >= 0)[:, None]
                there &= (members < limit) | (group < 0)
            if self.neighbours is not None:
                last = np.repeat(pool[every, chosen], pool.shape[1])
                similar = np.asarray(self.neighbours[last, pool.ravel()]).reshape(pool.shape)
                nearest = np.maximum(nearest, np.where(pool >= 0, similar, 0))
        return positions, best


def _scaled(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each row's finite scores from 0 to 1; all 0 if they are equal."""
    finite = scores > -np.inf
    low = np.where(finite, scores, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    high = scores.max(axis=1, initial=-np.inf, keepdims=True)
    width = np.where(high > low, high - low, 1.0)
    return np.where(finite, (scores - np.where(np.isfinite(low), low, 0)) / width, 0.0).astype(np.float64)
