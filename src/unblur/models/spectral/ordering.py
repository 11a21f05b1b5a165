"""An order of users and items in which rows that are used together lie together in memory.

A product of a sparse matrix with a block of columns reads one row of the block for each stored entry. When users
of similar taste, and the items they share, are neighbours, those rows are still in the processor's cache.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from unblur.models.spectral.operator import Operator

_FEWEST = 100_000
_DIRECTIONS = 32
_SWEEPS = 2
_CLUSTERS = 64
_SAMPLE = 10_000
_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class Ordering:
    """Positions of users and of items, similar ones beside each other."""

    users: NDArray[np.int32]
    """(n_users,) the user that comes at each place."""
    items: NDArray[np.int32]
    """(n_items,) the item that comes at each place."""

    @classmethod
    def natural(cls, n_users: int, n_items: int) -> Ordering:
        """Everything where it is."""
        return cls(np.arange(n_users, dtype=np.int32), np.arange(n_items, dtype=np.int32))

    @classmethod
    def of(cls, matrix: sparse.csr_array, device: str = "cpu") -> Ordering:
        """The order found for a matrix (n_users, n_items) by clustering both sides on its leading directions.

        Items are clustered by k-means on a few leading singular vectors, roughly computed; users go to the nearest
        centre; within a cluster the most active come first. Small matrices, and those on a GPU, stay as they are.
        The result is always the same for the same matrix.
        """
        if matrix.nnz < _FEWEST or device != "cpu" or min(matrix.shape) <= _CLUSTERS:
            return cls.natural(*matrix.shape)
        from scipy.cluster.vq import kmeans2, vq

        items, users = _directions(matrix)
        sample = np.random.default_rng(0).permutation(len(items))[:_SAMPLE]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="One of the clusters is empty")
            centres, _ = kmeans2(items[sample], _CLUSTERS, iter=_ROUNDS, minit="points", rng=0)
        of_users, of_items = vq(users, centres)[0], vq(items, centres)[0]
        activity = np.diff(matrix.indptr)
        popularity = np.bincount(matrix.indices, minlength=matrix.shape[1])
        return cls(
            np.lexsort((-activity, of_users)).astype(np.int32),
            np.lexsort((-popularity, of_items)).astype(np.int32),
        )


def reordered(matrix: sparse.csr_array, ordering: Ordering) -> sparse.csr_array:
    """The matrix with its rows and columns in that order."""
    return columns_taken(sparse.csr_array(matrix[ordering.users]), ordering.items)


def columns_taken(matrix: sparse.csr_array, items: NDArray[np.int32]) -> sparse.csr_array:
    """``matrix[:, items]`` for a permutation, sorted."""
    places = np.empty_like(items)
    places[items] = np.arange(len(items), dtype=items.dtype)
    taken = sparse.csr_array((matrix.data.copy(), places[matrix.indices], matrix.indptr), shape=matrix.shape)
    taken.sort_indices()
    return taken


def _directions(matrix: sparse.csr_array) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit rows (n_items, 32) and (n_users, 32) along the leading singular vectors, by subspace iteration."""
    operator = Operator(matrix)
    chance = torch.Generator().manual_seed(0)
    block = torch.randn((matrix.shape[1], _DIRECTIONS), generator=chance)
    for _ in range(_SWEEPS):
        block = torch.linalg.qr(operator.backward @ (operator.forward @ block)).Q
    items, users = (
        (rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)).numpy()
        for rows in (block, operator.forward @ block)
    )
    return items, users
