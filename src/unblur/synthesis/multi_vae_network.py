"""The network of MultiVAE++: a hidden layer on each side of the latent.

Weights lie with one row an item at both ends, so that a sparse history gathers the rows of its items.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from unblur.models.variational import Encoding
from unblur.privacy.clipping import Uses
from unblur.synthesis.settings import VariationalAutoencoder
from unblur.training.networks import xavier_normal
from unblur.training.rows import RowBatch

DENSE_FROM = 0.02
"""From which density on the first layer takes a batch as a dense matrix: then one product beats gathering."""


class MultiVAENetwork(nn.Module):
    """L2-normalised row → tanh layer → (μ, log σ²), and latent → tanh layer → logits (Liang et al., WWW 2018).

    Weights begin Xavier-normal, biases at 0. `prior_mean`, (latent,), and `prior_factor`, (latent, latent), are those of
    the codes where latents are drawn by them.
    """

    prior_mean: Tensor | None
    prior_factor: Tensor | None

    def __init__(
        self, n_items: int, settings: VariationalAutoencoder, generator: torch.Generator | None = None
    ) -> None:
        """Without a generator the weights are left to be loaded."""
        super().__init__()
        hidden, latent = settings.hidden, settings.latent
        self.dropout = settings.dropout
        self.item_in = nn.Parameter(torch.empty(n_items, hidden))
        self.bias_in = nn.Parameter(torch.empty(hidden))
        self.code_weight = nn.Parameter(torch.empty(2 * latent, hidden))
        self.code_bias = nn.Parameter(torch.empty(2 * latent))
        self.decoder_weight = nn.Parameter(torch.empty(hidden, latent))
        self.decoder_bias = nn.Parameter(torch.empty(hidden))
        self.item_out = nn.Parameter(torch.empty(n_items, hidden))
        self.bias_out = nn.Parameter(torch.empty(n_items))
        of_codes = settings.prior == "codes"
        self.register_buffer("prior_mean", torch.zeros(latent) if of_codes else None)
        self.register_buffer("prior_factor", torch.eye(latent) if of_codes else None)
        if generator is not None:
            xavier_normal(self.parameters(), generator)

    @property
    def latent(self) -> int:
        """Width of the latent."""
        return len(self.code_bias) // 2

    def encode(
        self, batch: RowBatch, generator: torch.Generator | None = None, uses: Uses | None = None
    ) -> Encoding:
        """Where rows (n, n_items) lie in the latent; dropout needs the generator."""
        rows = normalized(batch)
        if generator is not None:
            rows = rows.thinned(self.dropout, generator)
        if len(rows.columns) > DENSE_FROM * rows.n_rows * rows.n_columns:
            first = torch.addmm(self.bias_in, rows.dense(), self.item_in)
        else:
            first = rows.times(self.item_in) + self.bias_in
        if uses is not None:
            squares = rows.weights.new_zeros(rows.n_rows).index_add(0, rows.owners, rows.weights.square())
            uses.first_layer(first, squares)
        h = torch.tanh(first)
        code = functional.linear(h, self.code_weight, self.code_bias)
        if uses is not None:
            uses.layer("code", h, code)
        mean, log_variance = code.float().chunk(2, dim=1)
        return Encoding(mean, log_variance)

    @torch.no_grad()
    def fit_prior(self, codes: Tensor) -> None:
        """Take mean and covariance Σ of these codes (n, latent), where the settings say that latents are drawn by
        them: the factor F has FᵀF = Σ, from the eigenvectors of Σ, which need not have full rank."""
        if self.prior_mean is None or self.prior_factor is None:
            return
        each = codes.double()
        mean = each.mean(0)
        covariance = torch.cov(each.T, correction=0).view(len(mean), len(mean))
        values, vectors = torch.linalg.eigh(covariance)
        self.prior_mean.copy_(mean)
        self.prior_factor.copy_((vectors * values.clamp_min(0).sqrt()).T)

    def prior(self, n: int, generator: torch.Generator) -> Tensor:
        """Latents of n users who never were, (n, latent)."""
        drawn = torch.empty(n, self.latent, device=self.code_bias.device).normal_(generator=generator)
        if self.prior_mean is None or self.prior_factor is None:
            return drawn
        return torch.addmm(self.prior_mean, drawn, self.prior_factor)

    def decode(self, latent: Tensor, uses: Uses | None = None) -> Tensor:
        """Logits of all items, (n, n_items), from latents (n, latent)."""
        between = functional.linear(latent, self.decoder_weight, self.decoder_bias)
        h = torch.tanh(between)
        logits = functional.linear(h, self.item_out, self.bias_out)
        if uses is not None:
            uses.layer("decoder", latent, between)
            uses.layer("out", h, logits)
        return logits


def normalized(batch: RowBatch) -> RowBatch:
    """The rows divided by their L2 norms; a row without entries stays as it is."""
    squares = torch.zeros(batch.n_rows, device=batch.weights.device).index_add(
        0, batch.owners, batch.weights.square()
    )
    norms = squares.sqrt().clamp_min(1e-12)
    weights = batch.weights / norms[batch.owners]
    return RowBatch(batch.owners, batch.columns, weights, batch.offsets, batch.n_rows, batch.n_columns)
