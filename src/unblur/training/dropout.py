"""Dropout whose chance comes from a generator that the caller holds."""

from __future__ import annotations

import torch
from torch import Tensor


def least_kept(dropout: float) -> int:
    """Of all int16 numbers, this one and those above it are a share of 1 − `dropout`, to 1/65,536."""
    return min(round(dropout * 65536) - 32768, 32767)


def keep_mask(shape: torch.Size | tuple[int, ...], dropout: float, generator: torch.Generator) -> Tensor:
    """A bool tensor that is true with probability 1 − `dropout`, on the generator's device.

    Four masks are cut from each 64 bits drawn, so the probability is exact to 1/65,536.
    """
    size = torch.Size(shape).numel()
    words = torch.empty(-(-size // 4), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return (words.view(torch.int16)[:size] >= least_kept(dropout)).view(shape)


def dropped(x: Tensor, dropout: float, generator: torch.Generator | None) -> tuple[Tensor, float]:
    """`x` with entries set to zero with probability `dropout`, and the factor that keeps its mean.

    The factor is left to the caller, who may find something smaller than `x` to multiply. Without a generator
    nothing is dropped.
    """
    if generator is None or not dropout:
        return x, 1.0
    return x * keep_mask(x.shape, dropout, generator), 1 / (1 - dropout)
