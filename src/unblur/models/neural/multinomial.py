"""What Mult-DAE and Mult-VAE train, and the recommender that comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.fitted import Tensors
from unblur.models.variational import Encoding, negative_log_likelihood, rising
from unblur.randomness import streams, torch_generator
from unblur.recommender import Recommender
from unblur.training.devices import check_device
from unblur.training.learner import Moment, Weights, load_weights
from unblur.training.networks import ACTIVATIONS, xavier_normal
from unblur.training.rows import RowBatch, SparseRows, scored
from unblur.training.settings import Activation, Optimizer

if TYPE_CHECKING:
    from unblur.models.neural.mult_vae import MultDAE, MultVAE

    Spec: TypeAlias = MultDAE | MultVAE

BIAS_DEVIATION = 0.001
"""The deviation that biases begin with, as in the authors' code."""


class MultinomialAutoencoder(nn.Module):
    """From sparse rows to logits of all items; the first layer costs what the stored entries cost.

    Weights begin Xavier-normal, biases with a deviation of 0.001.
    """

    def __init__(
        self,
        n_items: int,
        dims: Sequence[int],
        activation: Activation,
        *,
        variational: bool,
        generator: torch.Generator | None = None,
    ) -> None:
        """Without a generator the weights are left to be loaded."""
        super().__init__()
        self.variational, self.activation = variational, ACTIVATIONS[activation]
        inner = [*dims[:-1], 2 * dims[-1] if variational else dims[-1]]
        outward = [*reversed(dims), n_items]
        self.table = nn.Parameter(torch.empty(n_items, inner[0]))
        self.encoder = nn.ParameterList([torch.empty(after, before) for before, after in pairwise(inner)])
        self.encoder_biases = nn.ParameterList([torch.empty(width) for width in inner])
        self.decoder = nn.ParameterList([torch.empty(after, before) for before, after in pairwise(outward)])
        self.decoder_biases = nn.ParameterList([torch.empty(width) for width in outward[1:]])
        if generator is not None:
            xavier_normal(self.parameters(), generator, bias_deviation=BIAS_DEVIATION)

    def encode(self, batch: RowBatch) -> Encoding:
        """Where rows (n, n_items) lie; without variation the variance is of no use."""
        h = batch.times(self.table) + self.encoder_biases[0]
        for weight, bias in zip(self.encoder, list(self.encoder_biases)[1:], strict=True):
            h = functional.linear(self.activation(h), weight, bias)
        if not self.variational:
            return Encoding(self.activation(h), torch.zeros_like(h))
        mean, log_variance = h.chunk(2, dim=1)
        return Encoding(mean, log_variance)

    def decode(self, latent: Tensor) -> Tensor:
        """Logits (n, n_items)."""
        h = latent
        for place, (weight, bias) in enumerate(zip(self.decoder, self.decoder_biases, strict=True)):
            h = functional.linear(self.activation(h) if place else h, weight, bias)
        return h


class MultinomialLearner:
    """Trains an autoencoder on the rows of some interactions; rows without any are left out."""

    def __init__(
        self,
        spec: Spec,
        train: Interactions,
        item_counts: NDArray[np.int64],
        kl_weight: float,
        kl_batches: int,
        seed: int,
        device: torch.device,
    ) -> None:
        """`item_counts`: of all interactions, those set aside included, for users without a history."""
        self.spec, self.items, self.item_counts = spec, train.items, item_counts
        self.kl_weight, self.kl_batches = kl_weight, kl_batches
        filled = train.binarized().matrix[np.flatnonzero(train.user_degrees)]
        self.rows = SparseRows.of(filled, device)
        self.inputs = SparseRows.of(unit_rows(filled), device)
        chance = torch_generator(streams(seed, "initial weights")["initial weights"])
        self.network = MultinomialAutoencoder(
            train.n_items, spec.dims, spec.activation, variational=spec.kind == "mult-vae", generator=chance
        ).to(device)
        self.module: nn.Module = self.network

    @property
    def groups(self) -> Sequence[tuple[nn.Module, Optimizer]]:
        """The one optimizer, for all parameters."""
        return [(self.module, self.spec.optimizer)]

    @property
    def n_rows(self) -> int:
        """Users with at least one interaction."""
        return len(self.rows)

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """−log-likelihood + β·KL, mean over some users (Liang et al., equation 7)."""
        place = self.network.encode(self.inputs.take(rows).thinned(self.spec.dropout, generator))
        latent = place.drawn(generator) if self.network.variational else place.mean
        likelihood = negative_log_likelihood(self.network.decode(latent).float(), self.rows.take(rows))
        if not self.network.variational:
            return likelihood
        weight = rising(self.kl_weight, self.kl_batches, moment.update)
        return likelihood + weight * place.divergences().mean()

    def fitted(self, weights: Weights) -> MultinomialRecommender:
        """The recommender with these weights."""
        return _built(self.spec, self.items, self.item_counts, weights, str(self.rows.weights.device))


class MultinomialRecommender(Recommender):
    """Scores are the logits at the mean of a history's latent."""

    def __init__(
        self,
        spec: Spec,
        items: Vocabulary,
        item_counts: NDArray[np.int64],
        network: MultinomialAutoencoder,
        device: str,
    ) -> None:
        super().__init__(spec, items, item_counts, device=device)
        self.network = network

    @torch.no_grad()
    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        network = self.network
        return scored(
            unit_rows(histories.binarized().matrix),
            lambda batch, _: network.decode(network.encode(batch).mean),
            network.table.device,
        )

    def tensors(self) -> Tensors:
        """The network's weights by name."""
        return {name: value.detach().cpu().numpy() for name, value in self.network.state_dict().items()}


def unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    """0/1 rows divided by their L2 norms; empty rows stay empty."""
    lengths = np.diff(matrix.indptr)
    data = np.repeat(1 / np.sqrt(np.maximum(lengths, 1)), lengths).astype(np.float32)
    return sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def restored(
    spec: Spec, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
) -> MultinomialRecommender:
    """The fitted recommender from its saved parts."""
    on = check_device(device)
    weights = {name: torch.from_numpy(np.asarray(array)).to(on) for name, array in tensors.items()}
    return _built(spec, items, item_counts, weights, device)


def _built(
    spec: Spec, items: Vocabulary, item_counts: NDArray[np.int64], weights: Weights, device: str
) -> MultinomialRecommender:
    """The recommender with these weights, which are not copied."""
    with torch.device("meta"):
        network = MultinomialAutoencoder(
            len(items), spec.dims, spec.activation, variational=spec.kind == "mult-vae"
        )
    load_weights(network, weights)
    return MultinomialRecommender(spec, items, item_counts, network, device)
