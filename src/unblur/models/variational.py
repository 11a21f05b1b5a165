"""The leaves that variational autoencoders of rows share: codes, their divergence, and likelihoods.

Their networks differ, and so do the bits of two ways to the same likelihood; both are kept, since published figures
rest on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from unblur.training.rows import RowBatch


@dataclass(frozen=True, eq=False)
class Encoding:
    """Where rows lie in the latent."""

    mean: Tensor
    """μ, (n, latent)."""
    log_variance: Tensor
    """log σ², (n, latent)."""

    def drawn(self, generator: torch.Generator) -> Tensor:
        """μ + σ·ε, (n, latent) (Kingma and Welling, ICLR 2014, section 2.4)."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + torch.exp(self.log_variance / 2) * noise

    def divergences(self) -> Tensor:
        """KL(N(μ, σ²) ‖ N(0, 1)) of each row, (n,)."""
        return -(1 + self.log_variance - self.mean.square() - self.log_variance.exp()).sum(1) / 2


def negative_log_likelihood(logits: Tensor, batch: RowBatch) -> Tensor:
    """−Σ_i x_i·log softmax(logits)_i, mean over rows (Liang et al., WWW 2018, equation 2)."""
    totals = torch.zeros(batch.n_rows, device=logits.device).index_add(0, batch.owners, batch.weights)
    return (totals * torch.logsumexp(logits, 1) - batch.sums(logits)).mean()


def negative_log_likelihoods(logits: Tensor, batch: RowBatch) -> Tensor:
    """The same of each row, (n,) float32, with one buffer of the logits' size in place of autograd's three."""
    places = batch.owners * batch.n_columns + batch.columns
    losses: Tensor = _Multinomial.apply(logits, places, batch.owners, batch.weights)  # type: ignore[no-untyped-call]
    return losses


class _Multinomial(torch.autograd.Function):
    """Keeps the log-softmax, which becomes the gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, places: Tensor, owners: Tensor, weights: Tensor) -> Tensor:
        logs = torch.log_softmax(logits.float(), 1)
        totals = torch.zeros(len(logs), device=logs.device).index_add(0, owners, weights)
        ctx.save_for_backward(logs, totals, places, owners, weights)
        ctx.kind = logits.dtype  # type: ignore[attr-defined]
        picked = logs.view(-1)[places] * weights
        return torch.zeros(len(logs), device=logs.device).index_add(0, owners, picked).neg()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        logs, totals, places, owners, weights = ctx.saved_tensors
        (each,) = gradients
        by_logits = logs.exp().mul_((totals * each)[:, None])
        by_logits.view(-1)[places] -= weights * each[owners]
        return by_logits.to(ctx.kind), None, None, None
