"""Diffusion in a latent space: L-DiffRec's training, and the recommender that comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.data.interactions import Interactions
from unblur.fitted import learned
from unblur.models.diffusion.autoencoder import ClusteredAutoencoder
from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.histories import row_keys, row_weights
from unblur.models.diffusion.item_clusters import item_clusters
from unblur.models.diffusion.item_diffusion import Denoised
from unblur.models.diffusion.objective import DenoisingLoss
from unblur.models.diffusion.sampling import Inference
from unblur.models.diffusion.settings import Autoencoder
from unblur.models.variational import negative_log_likelihood
from unblur.randomness import streams, torch_generator
from unblur.training.learner import Moment, Weights
from unblur.training.rows import RowBatch, SparseRows, scored
from unblur.training.settings import rising

if TYPE_CHECKING:
    from unblur.models.diffusion.latent_diffrec import LatentDiffRec


def diffusion_weight(settings: Autoencoder, moment: Moment) -> float:
    """λ at a moment: it falls evenly from `diffusion_weight`, and not below `least_diffusion_weight`."""
    if not settings.diffusion_decay:
        return max(settings.diffusion_weight, settings.least_diffusion_weight)
    passed = moment.epoch - 1 if settings.decay_unit == "epochs" else moment.update
    falling = settings.diffusion_weight * (1 - passed / settings.diffusion_decay)
    return max(falling, settings.least_diffusion_weight)


class LatentLearner:
    """Trains autoencoder and denoiser together on the rows of some interactions; empty rows are left out."""

    def __init__(
        self,
        spec: LatentDiffRec,
        train: Interactions,
        item_counts: NDArray[np.int64],
        seed: int,
        device: torch.device,
        item_embeddings: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        """`item_counts`: of all interactions, those set aside included, for users without a history."""
        self.spec, self.items, self.item_counts, self.seed = spec, train.items, item_counts, seed
        self.rows = SparseRows.of(row_weights(train, spec.time_weights), device)
        self._filled = torch.as_tensor(np.flatnonzero(train.user_degrees), device=device)
        self.n_rows = len(self._filled)
        chance = streams(seed, "clusters", "initial autoencoder", "initial weights")
        self.clusters = item_clusters(
            train, spec.clusters, rng=chance["clusters"], embeddings=item_embeddings
        )
        first = torch_generator(chance["initial autoencoder"])
        self._autoencoder = ClusteredAutoencoder(self.clusters, spec.autoencoder, first).to(device)
        second = torch_generator(chance["initial weights"])
        self._network = DenoisingNetwork(self._autoencoder.latent_width, spec.denoiser, second).to(device)
        self._loss = DenoisingLoss(spec.schedule, spec.objective).to(device)
        self.module: nn.Module = nn.ModuleDict(
            {"autoencoder": self._autoencoder, "network": self._network, "loss": self._loss}
        )
        self.groups = [(self._autoencoder, spec.autoencoder.optimizer), (self._network, spec.optimizer)]

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some users' rows: encode, make noisy, denoise, decode (paper, section 3.4)."""
        settings = self.spec.autoencoder
        batch = self.rows.take(self._filled[rows])
        encoding = self._autoencoder.encode(batch.thinned(settings.dropout, generator))
        latent = encoding.drawn(generator) if settings.sample_latent else encoding.mean
        diffusion, guess = self._loss(self._network, latent, generator)
        logits = self._autoencoder.decode(guess).to(torch.float32)
        variational = negative_log_likelihood(logits, batch)
        divergence_weight = rising(settings.kl_weight, settings.kl_batches, moment.update)
        variational = variational + divergence_weight * encoding.divergences().mean()
        weight = diffusion_weight(settings, moment)
        total: Tensor
        if self.spec.objective.reweight:
            total = weight * diffusion + variational
        else:
            total = diffusion + weight * variational
        return total

    def fitted(self, weights: Weights) -> LatentDiffRecRecommender:
        """The recommender with these weights."""
        return LatentDiffRecRecommender(
            self.spec,
            self.items,
            self.item_counts,
            device=str(self.rows.weights.device),
            weights={name: tensor for name, tensor in weights.items() if not name.startswith("loss.")},
            seed=np.array([self.seed], dtype=np.int64),
            clusters=self.clusters,
        )


class LatentNetwork(nn.Module):
    """The two networks of a fitted L-DiffRec."""

    def __init__(self, clusters: NDArray[np.int64], spec: LatentDiffRec) -> None:
        super().__init__()
        self.autoencoder = ClusteredAutoencoder(clusters, spec.autoencoder)
        self.network = DenoisingNetwork(self.autoencoder.latent_width, spec.denoiser)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LatentDiffRecRecommender(Denoised["LatentDiffRec", LatentNetwork]):
    """Scores are the logits of the latents that the reverse chain makes of encoded histories."""

    clusters: NDArray[np.int64] = learned("items", dtype="int64")
    """Which cluster each item is in."""

    def blank(self) -> LatentNetwork:
        """Autoencoder and denoiser."""
        with torch.device(
            self.device
        ):  # the clusters, which are buffers without a name among the weights, stay real
            return LatentNetwork(self.clusters, self.spec)

    @cached_property
    def inference(self) -> Inference:
        """How the chain is run."""
        spec = self.spec
        return Inference(self.network.network, spec.schedule, spec.objective, spec.sampling)

    @torch.no_grad()
    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        matrix, autoencoder = row_weights(histories, self.spec.time_weights), self.network.autoencoder
        keys = row_keys(matrix, int(self.seed[0])) if self.inference.noisy else None

        def logits(rows: RowBatch, at: NDArray[np.int64]) -> Tensor:
            code = autoencoder.encode(rows).mean
            return autoencoder.decode(self.inference.dense(code, None if keys is None else keys[at]))

        return scored(matrix, logits, autoencoder.clusters.device)
