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

from unblur.spectral.operator import Operator, sparse_tensor
from unblur.spectral.ordering import columns_taken
from unblur.spectral.polynomial import Polynomial

_KEPT = 64_000_000
_scratch = threading.local()
_MATRIX: tuple[Any, Any] = (torch.mm, torch.addmm)
_VECTOR: tuple[Any, Any] = (torch.mv, torch.addmv)


@dataclass(frozen=True, eq=False)
class Propagation:
    """``x·p(P)`` for history rows x, ``P = AᵀA``, on a CPU.

    With p written as ``constant + λ·c(λ)``, ``x·p(P) = constant·x + ((x·Aᵀ)·c(AAᵀ))·A``. The first product is of two
    sparse matrices and nearly free; the last gives the items in their own order; between the two, users and items
    come in the order that makes the products fastest.
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

    def add(self, polynomial: Polynomial, rows: sparse.csr_array, scores: torch.Tensor) -> None:
        """Add ``rows·p(P)`` to `scores`, (n_items, n_rows), in place."""
        width = rows.shape[0]
        if polynomial.constant:
            users = np.repeat(np.arange(width), np.diff(rows.indptr))
            scores.numpy()[rows.indices, users] += np.float32(polynomial.constant) * rows.data
        if not len(polynomial.coefficients):
            return
        start, state, other, image = self._blocks(width)
        reached = (rows @ self.turned).tocoo()
        start.zero_()
        places = reached.col.astype(np.int64) * width + reached.row
        start.view(-1)[torch.from_numpy(places)] = torch.from_numpy(reached.data)
        times, plus_times = _MATRIX if width > 1 else _VECTOR
        if width == 1:  # as a vector, a single column is multiplied in half the time
            start, state, other, image, scores = (
                block[:, 0] for block in (start, state, other, image, scores)
            )
        forward, backward = self.inner.forward, self.inner.backward
        torch.mul(start, float(polynomial.coefficients[-1]), out=state)
        for node, coefficient in zip(polynomial.nodes[-2::-1], polynomial.coefficients[-2::-1], strict=True):
            times(backward, state, out=image)
            plus_times(state, forward, image, beta=-float(node), alpha=polynomial.scale, out=other)
            other.add_(start, alpha=float(coefficient))
            state, other = other, state
        plus_times(scores, self.last, state, out=scores)

    def _blocks(self, width: int) -> tuple[torch.Tensor, ...]:
        """Room for three blocks of users and one of items, the thread's last one again where it fits."""
        n_users, n_items = self.matrix.shape
        sizes = (n_users, n_users, n_users, n_items)
        floats = sum(sizes) * width
        room = getattr(_scratch, "room", None)
        if room is None or len(room) < floats or len(room) > 4 * floats:
            room = torch.empty(floats)
            _scratch.room = room if floats <= _KEPT else None
        ends = np.cumsum([0, *(size * width for size in sizes)])
        return tuple(
            room[a:b].view(size, width) for a, b, size in zip(ends[:-1], ends[1:], sizes, strict=True)
        )
