"""The logarithm of a softmax's denominator over many columns, without the table of all logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

ROWS_TOGETHER = 128
"""How many rows have their logits in memory at a time; with some thousand columns they stay in a cache."""


class _LogPartition(torch.autograd.Function):
    """Works out logits block of rows by block, and again for the gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, columns: Tensor) -> Tensor:
        made = torch.cat([torch.logsumexp(block @ columns.T, 1) for block in rows.split(ROWS_TOGETHER)])
        ctx.save_for_backward(rows, columns, made)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns, made = ctx.saved_tensors
        for_rows, for_columns = torch.empty_like(rows), torch.zeros_like(columns)
        for start in range(0, len(rows), ROWS_TOGETHER):
            block = slice(start, start + ROWS_TOGETHER)
            shares = (rows[block] @ columns.T).sub_(made[block, None]).exp_().mul_(gradients[0][block, None])
            torch.mm(shares, columns, out=for_rows[block])
            for_columns.addmm_(shares.T, rows[block])
        return for_rows, for_columns


def log_partition(rows: Tensor, columns: Tensor) -> Tensor:
    """``log Σ_j exp(rows_i·columns_j)``, (n,), of tables (n, width) and (m, width).

    Differentiable in both; memory grows with m, not with n·m.
    """
    made: Tensor = _LogPartition.apply(rows, columns)  # type: ignore[no-untyped-call]
    return made
