"""Filtered history rows: sparse in, dense out, with everything between in an order that suits the cache."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from unblur.models.spectral.operator import Operator, columns_taken, sparse_tensor
from unblur.models.spectral.polynomial import Polynomial

_KEPT = 64_000_000
_SLICE = 16_384
"""Users in a slice: what a block of 32 columns says about them fits a processor's second cache."""
_FEWEST_SLICES = 4
_USERS_PER_ITEM = 2
"""From how many users an item on the way by slices is the faster one; measured, see docs/benchmarks.md."""
_scratch = threading.local()
_MATRIX: tuple[Any, Any] = (torch.mm, torch.addmm)
_VECTOR: tuple[Any, Any] = (torch.mv, torch.addmv)


@dataclass(frozen=True, eq=False)
class Propagation:
    """``x·p(P)`` for history rows x, ``P = AᵀA``, on a CPU.

    With p written as ``constant + λ·c(λ)``, ``x·p(P) = constant·x + ((x·Aᵀ)·c(AAᵀ))·A``. The first product is of two
    sparse matrices and nearly free; the last gives the items in their own order; between the two, users and items
    come in the order that makes the products fastest.

    Where users are many times more than items, a block of them no longer fits a cache and each stored entry would
    wait for main memory. Then ``x·p(P)`` is worked out on the side of the items, and P is applied slice of users by
    slice of users, ``y += (y·Aₛᵀ)·Aₛ``, so that no block of all users exists.
    """

    matrix: sparse.csr_array
    """A, (n_users, n_items): users in the order they are worked with, items in their own."""
    item_order: NDArray[np.int32]
    """(n_items,) the item that comes at each place of the inner products."""

    @cached_property
    def turned(self) -> sparse.csr_array:
        """Aᵀ, (n_items, n_users)."""
        made = sparse.csr_array(self.matrix.T.tocsr())
        made.sort_indices()
        return made

    @cached_property
    def last(self) -> torch.Tensor:
        """Aᵀ as a tensor."""
        return sparse_tensor(self.turned)

    @cached_property
    def inner(self) -> Operator:
        """A with its items in the inner order."""
        return Operator(columns_taken(self.matrix, self.item_order))

    @cached_property
    def slices(self) -> list[Operator]:
        """A, slice of users by slice, with its items in the inner order."""
        whole = columns_taken(self.matrix, self.item_order)
        return [
            Operator(sparse.csr_array(whole[start : start + _SLICE]))
            for start in range(0, whole.shape[0], _SLICE)
        ]

    @property
    def by_slices(self) -> bool:
        """Whether users are so many more than items that they are worked through in slices."""
        n_users, n_items = self.matrix.shape
        return n_users > (_FEWEST_SLICES - 1) * _SLICE and n_users >= _USERS_PER_ITEM * n_items

    def add(self, polynomial: Polynomial, rows: sparse.csr_array, scores: torch.Tensor) -> None:
        """Add ``rows·p(P)`` to `scores`, (n_items, n_rows), in place."""
        width = rows.shape[0]
        if polynomial.constant:
            users = np.repeat(np.arange(width), np.diff(rows.indptr))
            scores.numpy()[rows.indices, users] += np.float32(polynomial.constant) * rows.data
        if not len(polynomial.coefficients):
            return
        if self.by_slices:
            self._add_by_slices(polynomial, rows, scores)
            return
        n_users, n_items = self.matrix.shape
        start, state, image = _blocks(width, n_users, n_users, n_items)
        reached = (rows @ self.turned).tocoo()
        start.zero_()
        places = reached.col.astype(np.int64) * width + reached.row
        start.view(-1)[torch.from_numpy(places)] = torch.from_numpy(reached.data)
        times, plus_times = _MATRIX if width > 1 else _VECTOR
        if width == 1:  # as a vector, a single column is multiplied in half the time
            start, state, image, scores = (block[:, 0] for block in (start, state, image, scores))
        forward, backward, scale = self.inner.forward, self.inner.backward, polynomial.scale
        *lower, highest = polynomial.coefficients.tolist()
        steps = list(zip(polynomial.nodes.tolist(), lower, strict=False))[::-1]
        if not steps:
            plus_times(scores, self.last, start, alpha=highest, out=scores)
            return
        node, coefficient = steps[0]  # from highest·start: the first step needs no block of its own for that
        times(backward, start, out=image)
        plus_times(start, forward, image, beta=coefficient - node * highest, alpha=scale * highest, out=state)
        for node, coefficient in steps[1:]:
            times(backward, state, out=image)
            state.mul_(-node).add_(start, alpha=coefficient)
            plus_times(state, forward, image, alpha=scale, out=state)
        plus_times(scores, self.last, state, out=scores)

    def _add_by_slices(self, polynomial: Polynomial, rows: sparse.csr_array, scores: torch.Tensor) -> None:
        """What `add` does, by Newton's form of c in P instead of AAᵀ: ``x·p(P) = constant·x + (x·c(P))·P``."""
        n_items, width = scores.shape
        start, state, other, image = _blocks(
            width, n_items, n_items, n_items, min(_SLICE, self.matrix.shape[0])
        )
        start.zero_()
        users = np.repeat(np.arange(width), np.diff(rows.indptr))
        start.numpy()[self._places[rows.indices], users] = rows.data
        times, plus_times = _MATRIX if width > 1 else _VECTOR
        if width == 1:
            start, state, other, image = (block[:, 0] for block in (start, state, other, image))

        def add_product(block: torch.Tensor, scale: float, out: torch.Tensor) -> None:
            for part in self.slices:
                of_users = image[: part.matrix.shape[0]]
                times(part.forward, block, out=of_users)
                plus_times(out, part.backward, of_users, alpha=scale, out=out)

        torch.mul(start, float(polynomial.coefficients[-1]), out=state)
        for node, coefficient in zip(polynomial.nodes[-2::-1], polynomial.coefficients[-2::-1], strict=True):
            torch.mul(state, -float(node), out=other).add_(start, alpha=float(coefficient))
            add_product(state, polynomial.scale, other)
            state, other = other, state
        other.zero_()
        add_product(state, 1.0, other)
        scores.index_add_(0, torch.from_numpy(self.item_order), other.view(n_items, width))

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        """(n_items,) where each item comes in the inner order."""
        places = np.empty(len(self.item_order), dtype=np.int64)
        places[self.item_order] = np.arange(len(self.item_order))
        return places


def _blocks(width: int, *sizes: int) -> tuple[torch.Tensor, ...]:
    """Room for blocks of (size, width) each, the thread's last one again where it fits."""
    floats = sum(sizes) * width
    room = getattr(_scratch, "room", None)
    if room is None or len(room) < floats or len(room) > 4 * floats:
        room = torch.empty(floats)
        _scratch.room = room if floats <= _KEPT else None
    ends = np.cumsum([0, *(size * width for size in sizes)])
    return tuple(room[a:b].view(size, width) for a, b, size in zip(ends[:-1], ends[1:], sizes, strict=True))
