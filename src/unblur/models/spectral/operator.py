"""The item-item operator ``P = R̃ᵀR̃``: normalisation, an order in which products are fast, and products in blocks."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.errors import CapabilityError
from unblur.models.linear.neighbours import transposed


@dataclass(frozen=True, eq=False)
class Normalized:
    """``R̃ = D_U^-½ R D_I^-½`` of the 0/1 matrix R, with singular values in [0, 1]."""

    matrix: sparse.csr_array
    """R̃, (n_users, n_items) float32."""
    item_root: NDArray[np.float32]
    """(n_items,) the diagonal of D_I^½."""
    item_inverse_root: NDArray[np.float32]
    """(n_items,) the diagonal of D_I^-½; 0 for an item that nobody has, so that its scores are finite."""


def normalize(train: Interactions) -> Normalized:
    """Normalise by degrees (BSPM, section 3.1). An empty row or column stays empty."""
    degrees = train.item_degrees
    matrix = start_rows(train, degrees, "normalized")
    return Normalized(matrix, np.sqrt(degrees).astype(np.float32), inverse_root(degrees))


def inverse_root(degrees: NDArray[np.int64]) -> NDArray[np.float32]:
    """``1/√d``, and 0 where d is 0."""
    return np.where(degrees > 0, 1 / np.sqrt(np.maximum(degrees, 1)), 0).astype(np.float32)


def start_rows(
    histories: Interactions, item_counts: NDArray[np.int64], history: Literal["counts", "normalized"]
) -> sparse.csr_array:
    """The rows (n_users, n_items) that a BSPM's processes start from: 0/1, or divided by the roots of the degrees."""
    rows = histories.binarized()
    if history == "counts":
        return rows.matrix
    degrees = rows.user_degrees
    data = inverse_root(item_counts)[rows.matrix.indices] * np.repeat(inverse_root(degrees), degrees)
    return sparse.csr_array((data, rows.matrix.indices, rows.matrix.indptr), shape=rows.matrix.shape)


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
    def of(cls, matrix: sparse.csr_array, device: str = "cpu") -> Ordering:
        """The order found for a matrix (n_users, n_items) by clustering both sides on its leading directions.

        Items are clustered by k-means on a few leading singular vectors, roughly computed; users go to the nearest
        centre; within a cluster the most active come first. Small matrices, and those on a GPU, stay as they are.
        The result is always the same for the same matrix.
        """
        if matrix.nnz < _FEWEST or device != "cpu" or min(matrix.shape) <= _CLUSTERS:
            return cls(*(np.arange(size, dtype=np.int32) for size in matrix.shape))
        from scipy.cluster.vq import kmeans2, vq

        items, users = _directions(matrix)
        sample = np.random.default_rng(0).permutation(len(items))[:_SAMPLE]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="One of the clusters is empty")
            centres, _ = kmeans2(items[sample], _CLUSTERS, iter=_ROUNDS, minit="points", rng=0)
        of_users, of_items = vq(users, centres)[0], vq(items, centres)[0]
        popularity = np.bincount(matrix.indices, minlength=matrix.shape[1])
        return cls(
            np.lexsort((-np.diff(matrix.indptr), of_users)).astype(np.int32),
            np.lexsort((-popularity, of_items)).astype(np.int32),
        )


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


@dataclass(frozen=True, eq=False)
class Operator:
    """A sparse matrix A and its transpose, each in row order, for products with blocks of dense columns.

    On a CPU torch hands these products to MKL, which is fastest with blocks of about 32 columns that are contiguous
    in memory; a block is (rows, columns) float32 in C order.
    """

    matrix: sparse.csr_array
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_device(self.device)

    @cached_property
    def forward(self) -> torch.Tensor:
        """A, (n_users, n_items)."""
        return sparse_tensor(self.matrix, self.device)

    @cached_property
    def backward(self) -> torch.Tensor:
        """Aᵀ, (n_items, n_users)."""
        return sparse_tensor(transposed(self.matrix), self.device)

    @property
    def block(self) -> int:
        """The number of columns with which products run best."""
        return 32 if self.device == "cpu" else 512


def sparse_tensor(matrix: sparse.csr_array, device: str = "cpu") -> torch.Tensor:
    """A SciPy CSR matrix as a torch CSR tensor; on a CPU the arrays are shared, not copied."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.sparse_csr_tensor(
            torch.from_numpy(np.asarray(matrix.indptr)),
            torch.from_numpy(np.asarray(matrix.indices)),
            torch.from_numpy(np.asarray(matrix.data)),
            size=matrix.shape,
            check_invariants=False,
        ).to(device)


def dense(array: Any, device: str) -> torch.Tensor:
    """A NumPy array as a torch tensor on `device`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def check_device(device: str) -> None:
    """Raise `CapabilityError` for a device that is not to be had."""
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise CapabilityError(f'`device` must be "cpu" or "cuda" (or "cuda:0" and so on); saw {device!r}.')
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise CapabilityError(
            f'No GPU was found for `device="{device}"`. Use "cpu", or a torch build with CUDA.'
        )
