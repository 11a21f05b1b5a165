"""Diffusion in a latent space: what L-DiffRec trains, and the recommender that comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.fitted import Tensors
from unblur.models.diffusion.autoencoder import ClusteredAutoencoder
from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.histories import row_keys, row_weights
from unblur.models.diffusion.item_clusters import item_clusters
from unblur.models.diffusion.objective import DenoisingLoss
from unblur.models.diffusion.sampling import Inference
from unblur.models.diffusion.settings import GONE, Autoencoder
from unblur.models.variational import negative_log_likelihood, rising
from unblur.progress import Progress, silent
from unblur.randomness import streams, torch_generator
from unblur.recommender import Recommender
from unblur.training.devices import check_device
from unblur.training.learner import Moment, Weights, load_weights
from unblur.training.rows import RowBatch, SparseRows, scored
from unblur.training.settings import Optimizer

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
        item_embeddings: NDArray[np.floating[Any]] | None,
        progress: Progress = silent,
    ) -> None:
        self.spec, self.items, self.item_counts, self.seed = spec, train.items, item_counts, seed
        self.rows = SparseRows.of(row_weights(train, spec.time_weights), device)
        self._filled = torch.as_tensor(np.flatnonzero(train.user_degrees), device=device)
        chance = streams(seed, "clusters", "initial autoencoder", "initial weights")
        self.clusters = item_clusters(
            train, spec.clusters, rng=chance["clusters"], embeddings=item_embeddings, progress=progress
        )
        first = torch_generator(chance["initial autoencoder"])
        self._autoencoder = ClusteredAutoencoder(self.clusters, spec.autoencoder, first).to(device)
        second = torch_generator(chance["initial weights"])
        self._network = DenoisingNetwork(self._autoencoder.latent_width, spec.denoiser, second).to(device)
        self._loss = DenoisingLoss(spec.schedule, spec.objective).to(device)
        self.module: nn.Module = nn.ModuleDict(
            {"autoencoder": self._autoencoder, "network": self._network, "loss": self._loss}
        )

    @property
    def groups(self) -> Sequence[tuple[nn.Module, Optimizer]]:
        """One optimizer for the autoencoder, one for the denoiser."""
        return [(self._autoencoder, self.spec.autoencoder.optimizer), (self._network, self.spec.optimizer)]

    @property
    def n_rows(self) -> int:
        """Users with at least one interaction."""
        return len(self._filled)

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
        device = str(self.rows.weights.device)
        return built(self.spec, self.items, self.item_counts, weights, self.clusters, self.seed, device)


class LatentDiffRecRecommender(Recommender["LatentDiffRec"]):
    """Scores are the logits of the latents that the reverse chain makes of encoded histories."""

    in_threads: ClassVar[bool] = True

    def __init__(
        self,
        spec: LatentDiffRec,
        items: Vocabulary,
        item_counts: NDArray[np.int64],
        autoencoder: ClusteredAutoencoder,
        network: DenoisingNetwork,
        seed: int,
        device: str,
    ) -> None:
        super().__init__(spec, items, item_counts, device=device)
        self.autoencoder, self.network, self.seed = autoencoder, network, seed
        self.inference = Inference(network, spec.schedule, spec.objective, spec.sampling)

    @torch.no_grad()
    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        matrix = row_weights(histories, self.spec.time_weights)
        keys = row_keys(matrix, self.seed) if self.inference.noisy else None

        def logits(rows: RowBatch, at: NDArray[np.int64]) -> Tensor:
            code = self.autoencoder.encode(rows).mean
            return self.autoencoder.decode(self.inference.dense(code, None if keys is None else keys[at]))

        return scored(matrix, logits, self.network.item_in.device)

    def tensors(self) -> Tensors:
        """The weights of both networks by name, `clusters` (n_items,), and `seed`, which noisy inference depends on."""
        parts = {"autoencoder": self.autoencoder, "network": self.network}
        return {
            **{
                f"{part}.{name}": value.detach().cpu().numpy()
                for part, module in parts.items()
                for name, value in module.state_dict().items()
            },
            "clusters": self.autoencoder.clusters.cpu().numpy(),
            "seed": np.array([self.seed], dtype=np.int64),
        }


def built(
    spec: LatentDiffRec,
    items: Vocabulary,
    item_counts: NDArray[np.int64],
    weights: Weights,
    clusters: NDArray[np.int64],
    seed: int,
    device: str,
) -> LatentDiffRecRecommender:
    """The recommender with these weights, which are not copied."""
    autoencoder = ClusteredAutoencoder(clusters, spec.autoencoder).to(check_device(device))
    with torch.device("meta"):
        network = DenoisingNetwork(autoencoder.latent_width, spec.denoiser)
    for name, module in (("autoencoder.", autoencoder), ("network.", network)):
        own = {key.removeprefix(name): value for key, value in weights.items() if key.startswith(name)}
        load_weights(module, own)
    return LatentDiffRecRecommender(spec, items, item_counts, autoencoder, network, seed, device)


def restored(
    spec: LatentDiffRec, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
) -> LatentDiffRecRecommender:
    """The recommender from its saved parts."""
    on = check_device(device)
    arrays = {name: np.asarray(array) for name, array in tensors.items()}
    clusters, seed = arrays.pop("clusters"), int(arrays.pop("seed")[0])
    weights = {
        name: torch.from_numpy(array).to(on) for name, array in arrays.items() if not name.startswith(GONE)
    }
    return built(spec, items, item_counts, weights, clusters, seed, device)
