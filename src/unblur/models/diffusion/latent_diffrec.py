"""L-DiffRec and LT-DiffRec: denoising diffusion in the latent space of clustered autoencoders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from unblur.data.interactions import Interactions
from unblur.errors import SpecError
from unblur.fitted import StoppingData, learned
from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.diffrec import Denoised, check_steps, published
from unblur.models.diffusion.histories import row_keys, row_weights
from unblur.models.diffusion.item_clusters import item_clusters
from unblur.models.diffusion.objective import DenoisingLoss
from unblur.models.diffusion.sampling import Inference
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import (
    Autoencoder,
    Denoiser,
    ItemClusters,
    Objective,
    Sampling,
    TimeWeights,
)
from unblur.models.variational import Encoding, negative_log_likelihood
from unblur.randomness import RNG, streams, torch_generator
from unblur.registry import resolve
from unblur.run import Run
from unblur.space import Dimension, choices
from unblur.spec import spec
from unblur.training.learner import Moment, Weights
from unblur.training.networks import ACTIVATIONS, Activate, xavier_normal
from unblur.training.rows import RowBatch, SparseRows, scored
from unblur.training.run import START, TrainedByEpochs
from unblur.training.settings import Optimizer, Stopping, rising

if TYPE_CHECKING:
    from unblur.training.loop import Training


@spec
class LatentDiffRec(TrainedByEpochs["LatentDiffRecRecommender"]):
    """L-DiffRec (Wang et al., SIGIR 2023, section 3.4): items are clustered, each cluster's part of a row is
    encoded, and diffusion runs on the latent.

    With `time_weights` it is LT-DiffRec, which needs timestamps.
    """

    kind: ClassVar[str] = "l-diffrec"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.diffusion.latent_diffrec:LatentDiffRecRecommender"
    learner: ClassVar[str] = "unblur.models.diffusion.latent_diffrec:LatentLearner"
    clusters: ItemClusters = ItemClusters()
    """Which items are encoded together."""
    autoencoder: Autoencoder = Autoencoder()
    """Between rows and latent."""
    schedule: Schedule = Schedule(scale=0.1, lowest=0.001, fixed_first=False)
    """How noisy latents become, and in how many steps."""
    denoiser: Denoiser = Denoiser()
    """The network that acts on latents."""
    objective: Objective = Objective()
    """What it is trained for. With `reweight` the loss is λ·diffusion + autoencoder, without it diffusion +
    λ·autoencoder."""
    sampling: Sampling = Sampling()
    """How scores are inferred."""
    optimizer: Optimizer = Optimizer(learning_rate=1e-4)
    """For the denoiser: `lr2`, `wd2`; the autoencoder has its own."""
    epochs: PositiveInt = 1000
    """The most passes over the rows: `epochs`."""
    batch_size: PositiveInt = 400
    """Rows a batch: `batch_size`, `train_batch_size`."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What matrix products of training are computed in; weights and losses are float32 in any case."""
    stopping: Stopping | None = Stopping()
    """When training ends early; `None` trains all epochs on all of train and keeps the last weights."""
    time_weights: TimeWeights | None = None
    """LT-DiffRec: weigh each user's interactions by their order in time, in input and target alike."""

    @property
    def needs_timestamps(self) -> bool:
        """T-DiffRec weighs interactions by their order in time."""
        return self.time_weights is not None

    def __post_init__(self) -> None:
        check_steps(self.schedule, self.sampling)

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return (
            *published((300,), (1000,)),
            *choices(
                autoencoder__optimizer__learning_rate=(1e-3, 5e-4, 1e-4),
                autoencoder__diffusion_weight=(0.03, 0.05, 0.1),
                clusters__count=(1, 2, 3),
            ),
        )

    def fit_in(
        self,
        run: Run,
        train: Interactions,
        *,
        rng: RNG | None = None,
        validation: StoppingData | None = None,
        item_embeddings: NDArray[np.floating[Any]] | None = None,
    ) -> LatentDiffRecRecommender:
        """`fit` within a run, with `item_embeddings` as `training` takes them."""
        return self.training(
            train, rng=rng, run=run, validation=validation, item_embeddings=item_embeddings
        ).finished()

    def training(
        self,
        train: Interactions,
        *,
        rng: RNG | None = None,
        run: Run = Run(),
        validation: StoppingData | None = None,
        item_embeddings: NDArray[np.floating[Any]] | None = None,
    ) -> Training[LatentDiffRecRecommender]:
        """What `fit` runs, for a caller who wants to see each epoch and to stop at will.

        `item_embeddings`, (n_items, any width) in the order of train's items, are what k-means sees where
        `clusters.embeddings` is ``given``. The other arguments, and the errors, are those of `DiffRec.fit`.
        """
        digest = None
        if item_embeddings is not None:
            digest = hashlib.sha256(np.ascontiguousarray(item_embeddings, dtype="<f8").tobytes()).hexdigest()
        make_learner = partial(resolve(self.learner), self, item_embeddings=item_embeddings)
        training: Training[LatentDiffRecRecommender] = resolve(START)(
            self,
            make_learner,
            train,
            rng=rng,
            run=run,
            validation=validation,
            identity={"item_embeddings": digest},
        )
        return training


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


class ClusteredAutoencoder(nn.Module):
    """One encoder a cluster; one linear decoder for all items, or one decoder a cluster.

    Each encoder sees its cluster's items only and fills its part of the latent, as wide as the cluster's
    share of the items. Weights begin Xavier-normal, biases at 0. `clusters` (n_items,) int64 says which
    cluster an item is in.
    """

    clusters: Tensor
    places: Tensor

    def __init__(
        self, clusters: NDArray[np.int64], settings: Autoencoder, generator: torch.Generator | None = None
    ) -> None:
        """Without a generator the weights are left to be loaded."""
        super().__init__()
        self.settings = settings
        self.activation = ACTIVATIONS[settings.activation]
        self.sizes: list[int] = np.bincount(clusters).tolist()
        self.shares = latent_shares(self.sizes, settings.encoder_dims[-1])
        places = np.empty(len(clusters), dtype=np.int64)
        for number, size in enumerate(self.sizes):
            places[clusters == number] = np.arange(size)
        self.register_buffer("clusters", torch.tensor(clusters, dtype=torch.int64), persistent=False)
        self.register_buffer("places", torch.tensor(places), persistent=False)
        encoder = settings.encoder_dims[:-1]
        self.encoders = nn.ModuleList(
            [
                _Encoder((size, *encoder, 2 * share))
                for size, share in zip(self.sizes, self.shares, strict=True)
            ]
        )
        if settings.decoder_dims:
            widths = [
                (share, *settings.decoder_dims, size)
                for size, share in zip(self.sizes, self.shares, strict=True)
            ]
        else:
            widths = [(settings.encoder_dims[-1], len(clusters))]
        self.decoders = nn.ModuleList([_Decoder(each) for each in widths])
        if generator is not None:
            xavier_normal(self.parameters(), generator)

    @property
    def latent_width(self) -> int:
        """Of the latent of a row."""
        return sum(self.shares)

    def encode(self, batch: RowBatch) -> Encoding:
        """Where sparse rows (n, n_items) lie; the first layers cost what the stored entries cost."""
        parts = [
            encoder(self._of_cluster(batch, number), self.activation).chunk(2, dim=1)
            for number, encoder in enumerate(self.encoders)
        ]
        return Encoding(torch.cat([part[0] for part in parts], 1), torch.cat([part[1] for part in parts], 1))

    def decode(self, latent: Tensor) -> Tensor:
        """Logits of all items, (n, n_items), from latents (n, latent)."""
        if not self.settings.decoder_dims:
            whole: Tensor = self.decoders[0](latent, self.activation)
            return whole
        parts = latent.split(self.shares, dim=1)
        logits = [decoder(part, self.activation) for decoder, part in zip(self.decoders, parts, strict=True)]
        starts = torch.tensor([0, *(part.shape[1] for part in logits[:-1])], device=latent.device).cumsum(0)
        return torch.cat(logits, 1)[:, starts[self.clusters] + self.places]

    def _of_cluster(self, batch: RowBatch, number: int) -> RowBatch:
        """The part of the rows in one cluster's items."""
        if len(self.encoders) == 1:
            return batch
        inside = self.clusters[batch.columns] == number
        return batch.kept(inside, self.places[batch.columns[inside]], self.sizes[number])


class _Encoder(nn.Module):
    """From sparse rows of the cluster's items to 2·share numbers; the activation follows every layer."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(widths[0], widths[1]))
        self.bias = nn.Parameter(torch.empty(widths[1]))
        self.weights = nn.ParameterList(
            [torch.empty(after, before) for before, after in pairwise(widths[1:])]
        )
        self.biases = nn.ParameterList([torch.empty(after) for after in widths[2:]])

    def forward(self, batch: RowBatch, activation: Activate) -> Tensor:
        h: Tensor = activation(batch.times(self.table) + self.bias)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = activation(functional.linear(h, weight, bias))
        return h


class _Decoder(nn.Module):
    """From a latent (or a part of it) to logits; the activation stands between layers."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([torch.empty(after, before) for before, after in pairwise(widths)])
        self.biases = nn.ParameterList([torch.empty(after) for after in widths[1:]])

    def forward(self, latent: Tensor, activation: Activate) -> Tensor:
        h = latent
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = functional.linear(activation(h) if number else h, weight, bias)
        return h


def latent_shares(sizes: Sequence[int], width: int) -> list[int]:
    """How much of a latent each cluster gets: its share of the items, rounded down, at least 1; the last the
    rest.

    Raises `SpecError` when there are more clusters than numbers in the latent.
    """
    if len(sizes) > width:
        raise SpecError(
            f"Each cluster needs a part of the latent; there are {len(sizes)} clusters and a latent of "
            f"{width}. Raise the last of `autoencoder.encoder_dims`, or lower `clusters.count`."
        )
    total = sum(sizes)
    shares = [max(1, size * width // total) for size in sizes[:-1]]
    while sum(shares) > width - 1:
        shares[shares.index(max(shares))] -= 1
    return [*shares, width - sum(shares)]
