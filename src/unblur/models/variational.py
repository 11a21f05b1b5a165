"""The parts that variational autoencoders of rows share: codes, their divergence, and likelihoods.

Two functions compute the same likelihood and differ in the last bits; both are kept, since published figures rest on them.
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
    """The distributions of rows in the latent space."""

    mean: Tensor
    """μ, (n, latent)."""
    log_variance: Tensor
    """log σ², (n, latent)."""

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw μ + σ·ε, (n, latent) (Kingma and Welling, ICLR 2014, section 2.4)."""
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
    """−Σ_i x_i·log softmax(logits)_i of each row, (n,) float32, with one buffer of the logits' size, not autograd's three."""
    flat_indices = batch.owners * batch.n_columns + batch.columns
    losses: Tensor = _Multinomial.apply(logits, flat_indices, batch.owners, batch.weights)  # type: ignore[no-untyped-call]
    return losses


class _Multinomial(torch.autograd.Function):
    """The likelihood, with a gradient computed from the saved log-softmax."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, logits: Tensor, flat_indices: Tensor, owners: Tensor, weights: Tensor
    ) -> Tensor:
        logs = torch.log_softmax(logits.float(), 1)
        totals = torch.zeros(len(logs), device=logs.device).index_add(0, owners, weights)
        ctx.save_for_backward(logs, totals, flat_indices, owners, weights)
        ctx.kind = logits.dtype  # type: ignore[attr-defined]
        weighted_logs = logs.view(-1)[flat_indices] * weights
        return torch.zeros(len(logs), device=logs.device).index_add(0, owners, weighted_logs).neg()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        logs, totals, flat_indices, owners, weights = ctx.saved_tensors
        (row_gradients,) = output_gradients
        logit_gradients = logs.exp().mul_((totals * row_gradients)[:, None])
        logit_gradients.view(-1)[flat_indices] -= weights * row_gradients[owners]
        return logit_gradients.to(ctx.kind), None, None, None
