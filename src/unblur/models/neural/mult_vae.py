"""Autoencoders with a multinomial likelihood: Mult-DAE and Mult-VAE."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from unblur.data.interactions import Interactions
from unblur.models.variational import Encoding, negative_log_likelihood
from unblur.randomness import streams, torch_generator
from unblur.recommender import WeighingSpec, WeightUse
from unblur.spec import Count, Dimension, Rounds, Widths, choices, spec
from unblur.training.loop import Moment
from unblur.training.networks import ACTIVATIONS, NetworkRecommender, Weights, xavier_normal
from unblur.training.rows import RowBatch, SparseRows, score_in_blocks
from unblur.training.run import TrainedByEpochs
from unblur.training.settings import Activation, Dropout, Optimizer, Stopping, rising


@spec(added={"weights": "binary"})
class MultDAE(TrainedByEpochs["MultinomialRecommender"], WeighingSpec["MultinomialRecommender"]):
    """Mult-DAE (Liang, Krishnan, Hoffman and Jebara, WWW 2018, arXiv 1802.05814, section 2.3).

    A history, L2-normalised and thinned by dropout, is encoded and decoded; the output is the logits of a
    multinomial over items, trained by its log-likelihood (equation 2).
    """

    kind: ClassVar[str] = "mult-dae"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.neural.mult_vae:MultinomialRecommender"
    learner: ClassVar[str] = "unblur.models.neural.mult_vae:MultinomialLearner"
    variational: ClassVar[bool] = False
    dims: Widths = (200,)
    """Widths from the row inwards; the last is that of the latent, and the decoder mirrors the encoder: n → 200 → n."""
    activation: Activation = "tanh"
    """Between layers."""
    dropout: Dropout = 0.5
    """On the normalised row."""
    optimizer: Optimizer = Optimizer(name="adam", learning_rate=1e-3)
    """The optimizer of all weights."""
    epochs: Rounds = 200
    """The most passes over the rows."""
    batch_size: Count = 500
    """Rows a batch."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """The precision of matrix products in training; weights and losses are float32 in any case."""
    stopping: Stopping | None = Stopping(metric="ndcg@20", every=2)
    """The rule by which training ends early (the paper: by NDCG@100); `None` trains all epochs on all of train."""
    weights: WeightUse = "binary"
    """The entries of a row, before it is normalised and in the likelihood, where they are the multinomial's counts
    (equation 2): 0/1, or the weights of the interactions."""

    def divergence_weight(self, update: int) -> float:
        """0: there is no variance."""
        return 0.0

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(
            optimizer__learning_rate=(3e-3, 1e-3, 3e-4),
            optimizer__weight_decay=(0.0, 1e-5, 1e-4, 1e-3),
            dims=((200,), (600, 200)),
            dropout=(0.2, 0.5, 0.7),
        )


@spec(added={"weights": "binary"})
class MultVAE(MultDAE):
    """Mult-VAE^PR (Liang, Krishnan, Hoffman and Jebara, WWW 2018, arXiv 1802.05814, section 2).

    A history, L2-normalised and thinned by dropout, is encoded as a Gaussian (μ, σ²); a draw from it is decoded to
    the logits of a multinomial over items. Trained on log-likelihood − β·KL (equation 7), where β rises from 0
    (section 2.2.2). Scores are the logits at μ.
    """

    kind: ClassVar[str] = "mult-vae"
    variational: ClassVar[bool] = True
    dims: Widths = (600, 200)
    """Widths from the row inwards; the last is that of the latent, and the decoder mirrors the encoder: n → 600 → 200 →
    600 → n."""
    kl_weight: NonNegativeFloat = 0.2
    """The final weight of the KL divergence: the largest β."""
    kl_batches: Count = 200_000
    """The number of batches in which that weight would rise to 1; it stops at `kl_weight`."""

    def divergence_weight(self, update: int) -> float:
        """β after `update` batches."""
        return rising(self.kl_weight, self.kl_batches, update)

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return (*super().space(), *choices(kl_weight=(0.0, 0.1, 0.2, 0.5, 1.0)))


BIAS_DEVIATION = 0.001
"""The standard deviation of initial biases, as in the authors' code."""


class MultinomialAutoencoder(nn.Module):
    """From sparse rows to logits of all items; the first layer costs as much as the stored entries.

    Initial weights are Xavier-normal, biases normal with a standard deviation of 0.001.
    """

    def __init__(self, n_items: int, spec: MultDAE, generator: torch.Generator | None = None) -> None:
        """Without a generator the weights are left uninitialised, to be loaded."""
        super().__init__()
        self.variational, self.activation = spec.variational, ACTIVATIONS[spec.activation]
        dims = spec.dims
        inner = [*dims[:-1], 2 * dims[-1] if spec.variational else dims[-1]]
        outward = [*reversed(dims), n_items]
        self.table = nn.Parameter(torch.empty(n_items, inner[0]))
        self.encoder = nn.ParameterList([torch.empty(after, before) for before, after in pairwise(inner)])
        self.encoder_biases = nn.ParameterList([torch.empty(width) for width in inner])
        self.decoder = nn.ParameterList([torch.empty(after, before) for before, after in pairwise(outward)])
        self.decoder_biases = nn.ParameterList([torch.empty(width) for width in outward[1:]])
        if generator is not None:
            xavier_normal(self.parameters(), generator, bias_deviation=BIAS_DEVIATION)

    def encode(self, batch: RowBatch) -> Encoding:
        """Return the latents of rows (n, n_items); those of a Mult-DAE are the means, and their variance is not used."""
        h = batch.times(self.table) + self.encoder_biases[0]
        for weight, bias in zip(self.encoder, list(self.encoder_biases)[1:], strict=True):
            h = functional.linear(self.activation(h), weight, bias)
        if not self.variational:
            return Encoding(self.activation(h), torch.zeros_like(h))
        mean, log_variance = h.chunk(2, dim=1)
        return Encoding(mean, log_variance)

    def decode(self, latent: Tensor) -> Tensor:
        """Return logits (n, n_items) of latents."""
        h = latent
        for layer, (weight, bias) in enumerate(zip(self.decoder, self.decoder_biases, strict=True)):
            h = functional.linear(self.activation(h) if layer else h, weight, bias)
        return h


class MultinomialLearner:
    """Trains an autoencoder on the rows of interactions; empty rows are left out."""

    def __init__(
        self,
        spec: MultDAE,
        train: Interactions,
        item_counts: NDArray[np.int64],
        seed: int,
        device: torch.device,
    ) -> None:
        """`item_counts`: of all interactions, validation data included, for users without a history."""
        self.spec, self.items, self.item_counts = spec, train.items, item_counts
        filled = spec.with_weights(train).matrix[np.flatnonzero(train.user_degrees)]
        self.rows, self.inputs = SparseRows.of(filled, device), SparseRows.of(unit_rows(filled), device)
        self.n_rows = len(self.rows)
        generator = torch_generator(streams(seed, "initial weights")["initial weights"])
        self.module = MultinomialAutoencoder(train.n_items, spec, generator).to(device)
        self.groups = [(self.module, spec.optimizer)]

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """Return −log-likelihood + β·KL, mean over some users (Liang et al., equation 7)."""
        code = self.module.encode(self.inputs.take(rows).thinned(self.spec.dropout, generator))
        latent = code.sample(generator) if self.spec.variational else code.mean
        likelihood = negative_log_likelihood(self.module.decode(latent).float(), self.rows.take(rows))
        if not self.spec.variational:
            return likelihood
        return likelihood + self.spec.divergence_weight(moment.update) * code.divergences().mean()

    def fitted(self, weights: Weights) -> MultinomialRecommender:
        """The recommender with these weights."""
        device = str(self.rows.weights.device)
        return MultinomialRecommender(self.spec, self.items, self.item_counts, device=device, weights=weights)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MultinomialRecommender(NetworkRecommender["MultDAE", MultinomialAutoencoder]):
    """Scores are the logits at the mean of a history's latent."""

    def blank(self) -> MultinomialAutoencoder:
        """The autoencoder."""
        return MultinomialAutoencoder(len(self.items), self.spec)

    def item_vectors(self) -> NDArray[np.float32]:
        """The decoder's weights of each item's logit."""
        return np.asarray(self.network.decoder[-1].cpu().numpy())

    @torch.no_grad()
    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        network, rows = self.network, unit_rows(self.spec.with_weights(histories).matrix)
        return score_in_blocks(
            rows, lambda batch, _: network.decode(network.encode(batch).mean), network.table.device
        )


def unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    """Return rows divided by their L2 norms; empty rows stay empty."""
    owners = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    values = matrix.data.astype(np.float64)
    norms = np.sqrt(np.bincount(owners, weights=values**2, minlength=matrix.shape[0]))
    data = (values / norms[owners]).astype(np.float32)
    return sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
