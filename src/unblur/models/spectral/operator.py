"""The normalised interactions as a linear operator on blocks of columns, on a CPU or a GPU."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import sparse

from unblur.errors import CapabilityError


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
        turned = sparse.csr_array(self.matrix.T.tocsr())
        turned.sort_indices()
        return sparse_tensor(turned, self.device)

    @property
    def block(self) -> int:
        """The number of columns with which products run best."""
        return 32 if self.device == "cpu" else 512


def sparse_tensor(matrix: sparse.csr_array, device: str = "cpu") -> torch.Tensor:
    """A SciPy CSR matrix as a torch CSR tensor; on a CPU the arrays are shared, not copied."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        made = torch.sparse_csr_tensor(
            torch.from_numpy(np.asarray(matrix.indptr)),
            torch.from_numpy(np.asarray(matrix.indices)),
            torch.from_numpy(np.asarray(matrix.data)),
            size=matrix.shape,
            check_invariants=False,
        )
        return made.to(device)


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
