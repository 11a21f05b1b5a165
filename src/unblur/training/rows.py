"""Sparse history rows on a device, made dense a batch at a time, and scored in blocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from unblur.parallel.threads import in_threads

MOST_ROWS = 1024
"""The most histories that are scored together: bounds the memory of intermediate values."""
FEWEST_ROWS = 16
"""Fewer are padded: matrix products of a handful of rows use other kernels and differ in the last bits."""
MOST_ITEMS_FILLED = 8192
"""The most items with which rows are padded; with more it would cost a single user more time than the last bits are
worth."""


@dataclass(frozen=True, eq=False)
class SparseRows:
    """A CSR matrix on a device, from which batches of rows are taken."""

    starts: Tensor
    """(n_rows,) int64: the index of each row's first entry."""
    lengths: Tensor
    """(n_rows,) int64: the number of entries of each row."""
    columns: Tensor
    """(nnz,) int64."""
    weights: Tensor
    """(nnz,) float32."""
    n_columns: int

    @classmethod
    def of(cls, matrix: sparse.csr_array, device: torch.device | str = "cpu") -> SparseRows:
        """Copy the rows of a CSR matrix to `device`."""
        indptr = torch.as_tensor(matrix.indptr.astype(np.int64), device=device)
        return cls(
            starts=indptr[:-1],
            lengths=indptr.diff(),
            columns=torch.as_tensor(matrix.indices.astype(np.int64), device=device),
            weights=torch.tensor(matrix.data, dtype=torch.float32, device=device),
            n_columns=int(matrix.shape[1]),
        )

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, rows: Tensor) -> RowBatch:
        """Return the rows at the positions `rows`, int64 (n,), in that order."""
        lengths = self.lengths[rows]
        ends = lengths.cumsum(0)
        owners = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), lengths)
        # Entry e of the batch is the (e − first entry of its row)-th from where its row begins in the matrix.
        entries = torch.arange(len(owners), device=rows.device) + (self.starts[rows] - ends + lengths)[owners]
        return RowBatch(
            owners, self.columns[entries], self.weights[entries], ends - lengths, len(rows), self.n_columns
        )

    def all(self) -> RowBatch:
        """Return every row, in order."""
        return self.take(torch.arange(len(self), device=self.starts.device))


@dataclass(frozen=True, eq=False)
class RowBatch:
    """Some sparse rows: entry e says that row `owners[e]` has `weights[e]` in column `columns[e]`."""

    owners: Tensor
    columns: Tensor
    weights: Tensor
    offsets: Tensor
    """(n_rows,) int64: the index of each row's first entry."""
    n_rows: int
    n_columns: int

    def dense(self) -> Tensor:
        """Return (n_rows, n_columns) float32, zero where nothing is stored."""
        dense = torch.zeros(self.n_rows, self.n_columns, device=self.weights.device)
        dense.view(-1)[self.owners * self.n_columns + self.columns] = self.weights
        return dense

    def times(self, table: Tensor) -> Tensor:
        """Return the rows times a table (n_columns, width), (n_rows, width), at the cost of the stored entries."""
        return functional.embedding_bag(
            self.columns, table, self.offsets, mode="sum", per_sample_weights=self.weights.to(table.dtype)
        )

    def sums(self, values: Tensor) -> Tensor:
        """Return the sum of `values` (n_rows, n_columns) times the weights over each row's stored entries, (n_rows,)."""
        weighted = values[self.owners, self.columns] * self.weights
        return torch.zeros(self.n_rows, device=values.device, dtype=weighted.dtype).index_add(
            0, self.owners, weighted
        )

    def select(self, mask: Tensor, columns: Tensor, n_columns: int) -> RowBatch:
        """Return the entries where `mask` holds, in new `columns` of a table of `n_columns`."""
        owners = self.owners[mask]
        lengths = torch.bincount(owners, minlength=self.n_rows)
        return RowBatch(
            owners, columns, self.weights[mask], lengths.cumsum(0) - lengths, self.n_rows, n_columns
        )

    def thinned(self, dropout: float, generator: torch.Generator) -> RowBatch:
        """Return the rows after dropout: entries are set to zero with probability `dropout`, the others scaled up."""
        if not dropout:
            return self
        keep = torch.rand(len(self.weights), generator=generator, device=self.weights.device) >= dropout
        return replace(self, weights=self.weights * keep / (1 - dropout))


def score_in_blocks(
    matrix: sparse.csr_array,
    score: Callable[[RowBatch, NDArray[np.int64]], Tensor],
    device: torch.device,
) -> NDArray[np.float32]:
    """Score all rows in blocks, on a CPU one thread for each: (n_rows, n_items) float32 in the memory of the CPU.

    `score` takes a block of rows and their positions, (n,); a short block is padded with its last row.
    """
    rows, scores = SparseRows.of(matrix, device), np.empty(matrix.shape, dtype=np.float32)
    fewest = FEWEST_ROWS if matrix.shape[1] <= MOST_ITEMS_FILLED else 1
    target = torch.from_numpy(scores)

    @torch.no_grad()
    def score_block(start: int) -> None:
        stop = min(start + MOST_ROWS, len(rows))
        positions = np.minimum(np.arange(start, max(stop, start + fewest)), stop - 1)
        block_scores = score(rows.take(torch.as_tensor(positions, device=device)), positions)
        target[start:stop] = block_scores[: stop - start]

    starts = range(0, len(rows), MOST_ROWS)
    blocks = (
        in_threads(score_block, starts) if device.type == "cpu" else (score_block(start) for start in starts)
    )
    with closing(blocks):
        deque(blocks, maxlen=0)
    return scores
