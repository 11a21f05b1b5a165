"""DiffRec and T-DiffRec, denoising diffusion on users' rows of items; L- and LT-DiffRec, in the latent space of clustered
autoencoders."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional

from unblur.data.interactions import Interactions
from unblur.data.splits import rank_from_latest
from unblur.errors import DataError, SpecError
from unblur.fitted import FROM_ZERO, GROUPS, Array, StoppingData, learned
from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.objective import DenoisingLoss
from unblur.models.diffusion.sampling import Inference, row_keys
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import (
    GONE,
    Autoencoder,
    Denoiser,
    GraphEmbeddings,
    ItemClusters,
    Objective,
    Sampling,
    TimeWeights,
)
from unblur.models.neural.lightgcn import GraphLearner, LightGCN
from unblur.models.spectral.operator import normalize
from unblur.models.spectral.spectrum import truncated_svd
from unblur.models.variational import Encoding, negative_log_likelihood
from unblur.progress import Progress, Run, of_part, silent
from unblur.randomness import RNG, generator, streams, torch_generator
from unblur.spec import Count, Dimension, Rounds, choices, spec
from unblur.training.loop import Moment, Training
from unblur.training.networks import (
    ACTIVATIONS,
    Activate,
    Network_co,
    NetworkRecommender,
    NetworkSpec_co,
    Weights,
    below,
    xavier_normal,
)
from unblur.training.rows import RowBatch, SparseRows, score_in_blocks
from unblur.training.run import R, TrainedByEpochs, start
from unblur.training.settings import Optimizer, Plan, Stopping, rising


@spec
class DiffusionSpec(TrainedByEpochs[R]):
    """The common part of DiffRec and L-DiffRec: a denoiser that is trained on noisy rows, or on their latents."""

    stochastic: ClassVar[bool] = True
    schedule: Schedule = Schedule()
    """The noise of rows (or latents), step by step."""
    denoiser: Denoiser = Denoiser()
    """The network that removes it."""
    objective: Objective = Objective()
    """The objective of its training."""
    sampling: Sampling = Sampling()
    """The inference of scores."""
    optimizer: Optimizer = Optimizer()
    """The optimizer of its weights."""
    epochs: Rounds = 1000
    """The most passes over the rows: `epochs`."""
    batch_size: Count = 400
    """Rows a batch: `batch_size`, `train_batch_size`."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """The precision of matrix products in training; weights and losses are float32 in any case."""
    stopping: Stopping | None = Stopping()
    """The rule by which training ends early; `None` trains all epochs on all of train and keeps the last weights."""
    time_weights: TimeWeights | None = None
    """T- and LT-DiffRec: weight each user's interactions by their order in time, in input and target alike."""

    @property
    def needs_timestamps(self) -> bool:
        """True for T- and LT-DiffRec, which weight interactions by their order in time."""
        return self.time_weights is not None

    def __post_init__(self) -> None:
        """Raise `SpecError` if inference would start at a step beyond the schedule."""
        SpecError.unless(
            self.sampling.start_steps <= self.schedule.steps,
            "`sampling.start_steps` (sampling_steps) must not exceed `schedule.steps`; saw "
            f"{self.sampling.start_steps} and {self.schedule.steps}. Lower it; 0 starts from the row itself.",
        )


@spec
class DiffRec(DiffusionSpec["DiffRecRecommender"]):
    """The Diffusion Recommender Model (Wang et al., SIGIR 2023, arXiv 2304.04971).

    Noise is added to a user's 0/1 row step by step, and a network learns to remove it; scores are the denoised
    history. With `time_weights` it is T-DiffRec, which needs timestamps.
    """

    kind: ClassVar[str] = "diffrec"
    fitted: ClassVar[str] = "unblur.models.diffusion.diffrec:DiffRecRecommender"
    learner: ClassVar[str] = "unblur.models.diffusion.diffrec:DiffRecLearner"

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return published((300,), (1000,), (200, 600))


def published(*dims: tuple[int, ...]) -> tuple[Dimension, ...]:
    """Return a search space of the authors' published settings (Wang et al., SIGIR 2023), with `dims` of the denoiser."""
    return choices(
        optimizer__learning_rate=(1e-3, 5e-4, 1e-4, 5e-5, 1e-5),
        denoiser__dims=dims,
        schedule__steps=(2, 5, 10, 40),
        schedule__scale=(0.0001, 0.001, 0.005, 0.01, 0.1, 0.5),
        schedule__noise_min=(0.0005, 0.001, 0.005),
        schedule__noise_max=(0.006, 0.01, 0.02),
        objective__reweight=(True, False),
        time_weights__oldest=(0.1, 0.3, 0.5),
    )


def row_weights(data: Interactions, weights: TimeWeights | None) -> sparse.csr_array:
    """Return the rows that the model is trained on, (n_users, n_items): 0/1, or weighted by order in time.

    With `weights`, a user's M interactions in time order have weights ``oldest + (newest − oldest)·(m − 1)/(M − 1)``
    for m = 1 … M; a single interaction is the newest. Ties in time fall as `rank_from_latest` says. The weights of `data` itself
    (ratings, counts) are not used.

    Raises `DataError` if there are no timestamps to order by.
    """
    matrix = data.binarized().matrix
    if weights is None:
        return matrix
    if data.timestamps is None:
        raise DataError(
            "Time weights order each user's interactions by their timestamps; these have none. "
            "Read the data with its time column, or leave `time_weights` out."
        )
    ages = rank_from_latest(data) / np.maximum(data.user_degrees[data.rows()] - 1, 1)
    values = (weights.newest - (weights.newest - weights.oldest) * ages).astype(np.float32)
    return sparse.csr_array((values, matrix.indices, matrix.indptr), shape=matrix.shape)


class DiffRecLearner:
    """Trains a denoiser on the rows of interactions; empty rows are left out."""

    def __init__(
        self,
        spec: DiffRec,
        train: Interactions,
        item_counts: NDArray[np.int64],
        seed: int,
        device: torch.device,
    ) -> None:
        """`item_counts`: of all interactions, validation data included, for users without a history."""
        self.spec, self.items, self.item_counts, self.seed = spec, train.items, item_counts, seed
        self.rows = SparseRows.of(row_weights(train, spec.time_weights), device)
        self._nonempty = torch.as_tensor(np.flatnonzero(train.user_degrees), device=device)
        self.n_rows = len(self._nonempty)
        generator = torch_generator(streams(seed, "initial weights")["initial weights"])
        self._network = DenoisingNetwork(train.n_items, spec.denoiser, generator).to(device)
        self._loss = DenoisingLoss(spec.schedule, spec.objective).to(device)
        self.module: nn.Module = nn.ModuleDict({"network": self._network, "loss": self._loss})
        self.groups = [(self.module, spec.optimizer)]

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """Return the mean loss of some users' rows; only these are made dense."""
        clean = self.rows.take(self._nonempty[rows]).dense()
        return cast("Tensor", self._loss(self._network, clean, generator)[0])

    def fitted(self, weights: Weights) -> DiffRecRecommender:
        """The recommender with these weights."""
        return DiffRecRecommender(
            self.spec,
            self.items,
            self.item_counts,
            device=str(self.rows.weights.device),
            weights=below("network.", weights),
            seed=np.array([self.seed], dtype=np.int64),
        )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Denoised(NetworkRecommender[NetworkSpec_co, Network_co]):
    """A recommender that reverses a diffusion."""

    seed: NDArray[np.int64] = learned(1, dtype="int64", values=FROM_ZERO)
    """The seed of the noise in inference, if there is any."""

    in_threads: ClassVar[bool] = True

    @classmethod
    def _other_fields(
        cls, columns: Mapping[str, NDArray[Any]], remaining: dict[str, Array]
    ) -> dict[str, Any]:
        for name in [name for name in remaining if name.startswith(GONE)]:
            del remaining[name]
        return super()._other_fields(columns, remaining)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DiffRecRecommender(Denoised["DiffRec", DenoisingNetwork]):
    """Scores are the histories after the reverse chain."""

    def blank(self) -> DenoisingNetwork:
        """The denoiser, uninitialised."""
        return DenoisingNetwork(len(self.items), self.spec.denoiser)

    def item_vectors(self) -> NDArray[np.float32]:
        """The denoiser's weights of each item's output."""
        return np.asarray(self.network.item_out.cpu().numpy())

    @cached_property
    def inference(self) -> Inference:
        """The network and its reverse chain."""
        return Inference(self.network, self.spec.schedule, self.spec.objective, self.spec.sampling)

    @torch.no_grad()
    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        matrix = row_weights(histories, self.spec.time_weights)
        keys = row_keys(matrix, int(self.seed[0])) if self.inference.needs_noise else None
        return score_in_blocks(
            matrix,
            lambda rows, positions: self.inference.sparse(rows, None if keys is None else keys[positions]),
            self.network.item_in.device,
        )


@spec
class LatentDiffRec(DiffusionSpec["LatentDiffRecRecommender"]):
    """L-DiffRec (Wang et al., SIGIR 2023, section 3.4): items are clustered, each cluster's part of a row is
    encoded, and diffusion runs on the latent.

    With `time_weights` it is LT-DiffRec, which needs timestamps. With `objective.reweight` the loss is λ·diffusion +
    autoencoder, without it diffusion + λ·autoencoder.
    """

    kind: ClassVar[str] = "l-diffrec"
    fitted: ClassVar[str] = "unblur.models.diffusion.diffrec:LatentDiffRecRecommender"
    learner: ClassVar[str] = "unblur.models.diffusion.diffrec:LatentLearner"
    clusters: ItemClusters = ItemClusters()
    """The clusters of items, each with an encoder."""
    autoencoder: Autoencoder = Autoencoder()
    """The autoencoder between rows and latent."""
    schedule: Schedule = Schedule(scale=0.1, noise_min=0.001, fixed_first=False)
    """The noise of latents, step by step."""
    optimizer: Optimizer = Optimizer(learning_rate=1e-4)
    """The denoiser's: `lr2`, `wd2`; the autoencoder has its own."""

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
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
        """Return the training that `fit` runs, to see each epoch or to stop at will.

        `item_embeddings`, (n_items, any width) in the order of train's items, are the input of k-means if
        `clusters.embeddings` is ``given``. The other arguments, and the errors, are those of `DiffRec.fit`.
        """
        digest = None
        if item_embeddings is not None:
            digest = hashlib.sha256(np.ascontiguousarray(item_embeddings, dtype="<f8").tobytes()).hexdigest()
        return start(
            self,
            partial(LatentLearner, self, item_embeddings=item_embeddings),
            train,
            rng=rng,
            run=run,
            validation=validation,
            identity={"item_embeddings": digest},
        )


def item_clusters(
    train: Interactions,
    settings: ItemClusters,
    *,
    rng: RNG | None = None,
    embeddings: NDArray[np.floating] | None = None,
    progress: Progress = silent,
) -> NDArray[np.int64]:
    """Return the cluster of each item, (n_items,) int64, numbered in the order of their first items.

    `embeddings`, (n_items, any width), are used if the settings say ``given``; otherwise they are computed
    from `train`. One cluster needs none. Raises `SpecError` for more clusters than items, and `DataError` for
    embeddings of the wrong shape, not finite, missing, or of no use.
    """
    SpecError.unless(
        settings.count <= train.n_items,
        f"`clusters.count` (n_cate) must not exceed the {train.n_items:,} items; saw "
        f"{settings.count:,}. Lower it.",
    )
    DataError.unless(
        (embeddings is not None) == (settings.embeddings == "given"),
        'Item embeddings are used where `clusters.embeddings` is "given", and only there; it is '
        f"{settings.embeddings!r} and {'some' if embeddings is not None else 'none'} were passed. "
        "Change one of the two.",
    )
    if embeddings is not None:
        array = np.asarray(embeddings)
        DataError.unless(
            array.ndim == 2 and len(array) == train.n_items and array.dtype.kind in "fiu" and array.shape[1],
            f"Item embeddings must be numbers with one row for each of the {train.n_items:,} items of train, in "
            f"their order; saw {array.dtype} of shape {array.shape}. Bring them onto train's items.",
        )
        DataError.unless(
            np.isfinite(array).all(), "Item embeddings must be finite; saw NaN or infinity. Correct them."
        )
    if settings.count == 1:
        return np.zeros(train.n_items, dtype=np.int64)
    chance = streams(rng, "embeddings", "k-means")
    if embeddings is None and settings.embeddings == "spectral":
        embeddings = spectral_embeddings(train, settings.embedding_size, rng=chance["embeddings"])
    elif embeddings is None:
        embeddings = lightgcn_embeddings(
            train, settings.embedding_size, settings.lightgcn, rng=chance["embeddings"], progress=progress
        )
    return nearest_centres(embeddings, settings.count, rng=chance["k-means"])


def spectral_embeddings(train: Interactions, width: int, *, rng: RNG | None = None) -> NDArray[np.float32]:
    """Return V·Σ of the normalised train matrix, (n_items, at most `width`): its leading right singular vectors, scaled."""
    rank = min(width, train.n_users, train.n_items)
    spectrum = truncated_svd(normalize(train.binarized()), rank, rng=rng)
    return np.asarray(spectrum.right * spectrum.values.astype(np.float32))


def lightgcn_embeddings(
    train: Interactions,
    width: int,
    settings: GraphEmbeddings,
    *,
    rng: RNG | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Return the final item embeddings of a `LightGCN` trained on `train` by pairwise ranking, (n_items, `width`)."""
    spec = LightGCN(
        embedding_size=width,
        layers=settings.layers,
        init_std=settings.init_std,
        ridge=settings.ridge,
        optimizer=Optimizer(name="adam", learning_rate=settings.learning_rate),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        stopping=None,
    )
    seed = int(generator(rng).integers(0, 2**62))
    learner = GraphLearner(spec, train, train.item_degrees, seed, torch.device("cpu"))
    plan = Plan(spec.epochs, spec.batch_size)
    run = Run(progress=of_part(progress, "item embeddings"))
    return Training(learner, plan, seed=seed, run=run).finished().tables()[1]


def nearest_centres(
    embeddings: NDArray[np.floating], count: int, *, rng: RNG | None = None
) -> NDArray[np.int64]:
    """Return the cluster of each row, (n,), by k-means (Lloyd's, ten starts), numbered in the order of first rows.

    Raises `DataError` if there are fewer distinct rows than clusters.
    """
    from sklearn.cluster import KMeans

    distinct = len(np.unique(embeddings, axis=0))
    DataError.unless(
        distinct >= count,
        f"There must be at least as many different item embeddings as clusters; saw {distinct:,} for "
        f"{count:,}. Lower `clusters.count`.",
    )
    seed = int(generator(rng).integers(0, 2**31))
    labels = KMeans(count, n_init=10, random_state=seed).fit_predict(np.asarray(embeddings, dtype=np.float64))
    _, first_rows, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first_rows))[inverse].astype(np.int64)


def diffusion_weight(settings: Autoencoder, moment: Moment) -> float:
    """Return λ at a moment: it falls linearly from `diffusion_weight`, but not below `least_diffusion_weight`."""
    if not settings.diffusion_decay:
        return max(settings.diffusion_weight, settings.least_diffusion_weight)
    elapsed = moment.epoch - 1 if settings.decay_unit == "epochs" else moment.update
    weight = settings.diffusion_weight * (1 - elapsed / settings.diffusion_decay)
    return max(weight, settings.least_diffusion_weight)


class LatentLearner:
    """Trains autoencoder and denoiser together on the rows of interactions; empty rows are left out."""

    def __init__(
        self,
        spec: LatentDiffRec,
        train: Interactions,
        item_counts: NDArray[np.int64],
        seed: int,
        device: torch.device,
        item_embeddings: NDArray[np.floating[Any]] | None = None,
    ) -> None:
        """`item_counts`: of all interactions, validation data included, for users without a history."""
        self.spec, self.items, self.item_counts, self.seed = spec, train.items, item_counts, seed
        self.rows = SparseRows.of(row_weights(train, spec.time_weights), device)
        self._nonempty = torch.as_tensor(np.flatnonzero(train.user_degrees), device=device)
        self.n_rows = len(self._nonempty)
        generators = streams(seed, "clusters", "initial autoencoder", "initial weights")
        self.clusters = item_clusters(
            train, spec.clusters, rng=generators["clusters"], embeddings=item_embeddings
        )
        autoencoder_generator = torch_generator(generators["initial autoencoder"])
        self._autoencoder = ClusteredAutoencoder(self.clusters, spec.autoencoder, autoencoder_generator).to(
            device
        )
        denoiser_generator = torch_generator(generators["initial weights"])
        self._network = DenoisingNetwork(
            self._autoencoder.latent_width, spec.denoiser, denoiser_generator
        ).to(device)
        self._loss = DenoisingLoss(spec.schedule, spec.objective).to(device)
        self.module: nn.Module = nn.ModuleDict(
            {"autoencoder": self._autoencoder, "network": self._network, "loss": self._loss}
        )
        self.groups = [(self._autoencoder, spec.autoencoder.optimizer), (self._network, spec.optimizer)]

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """Return the mean loss of some users' rows: encode, add noise, denoise, decode (paper, section 3.4)."""
        settings = self.spec.autoencoder
        batch = self.rows.take(self._nonempty[rows])
        encoding = self._autoencoder.encode(batch.thinned(settings.dropout, generator))
        latent = encoding.sample(generator) if settings.sample_latent else encoding.mean
        diffusion, guess = self._loss(self._network, latent, generator)
        logits = self._autoencoder.decode(guess).to(torch.float32)
        variational = negative_log_likelihood(logits, batch)
        divergence_weight = rising(settings.kl_weight, settings.kl_batches, moment.update)
        variational = variational + divergence_weight * encoding.divergences().mean()
        weight = diffusion_weight(settings, moment)
        reweight = self.spec.objective.reweight
        total = weight * diffusion + variational if reweight else diffusion + weight * variational
        return cast("Tensor", total)

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

    def __init__(self, clusters: NDArray[np.int64], spec: LatentDiffRec, device: str) -> None:
        super().__init__()
        self.autoencoder = ClusteredAutoencoder(clusters, spec.autoencoder, device=device)
        self.network = DenoisingNetwork(self.autoencoder.latent_width, spec.denoiser)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LatentDiffRecRecommender(Denoised["LatentDiffRec", LatentNetwork]):
    """Scores are the decoded latents of histories after the reverse chain."""

    clusters: NDArray[np.int64] = learned("items", dtype="int64", values=GROUPS)
    """The cluster of each item."""

    def blank(self) -> LatentNetwork:
        """Autoencoder and denoiser, uninitialised."""
        return LatentNetwork(self.clusters, self.spec, self.device)

    def item_vectors(self) -> NDArray[np.float32]:
        """The decoder's weights of each item's logit; with a decoder a cluster, items of two clusters share none."""
        autoencoder = self.network.autoencoder
        blocks = torch.block_diag(
            *(cast("_Decoder", decoder).weights[-1] for decoder in autoencoder.decoders)
        )
        return np.asarray(autoencoder.in_item_order(blocks.T).T.cpu().numpy())

    @cached_property
    def inference(self) -> Inference:
        """The denoiser and its reverse chain."""
        spec = self.spec
        return Inference(self.network.network, spec.schedule, spec.objective, spec.sampling)

    @torch.no_grad()
    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        matrix, autoencoder = row_weights(histories, self.spec.time_weights), self.network.autoencoder
        keys = row_keys(matrix, int(self.seed[0])) if self.inference.needs_noise else None

        def logits(rows: RowBatch, positions: NDArray[np.int64]) -> Tensor:
            code = autoencoder.encode(rows).mean
            return autoencoder.decode(self.inference.dense(code, None if keys is None else keys[positions]))

        return score_in_blocks(matrix, logits, autoencoder.clusters.device)


class ClusteredAutoencoder(nn.Module):
    """One encoder a cluster; one linear decoder for all items, or one decoder a cluster.

    Each encoder takes its cluster's items only and gives its part of the latent, whose width is the cluster's
    share of the items. Initial weights are Xavier-normal, biases 0. `clusters` (n_items,) int64 is the
    cluster of each item.
    """

    clusters: Tensor
    positions: Tensor

    def __init__(
        self,
        clusters: NDArray[np.int64],
        settings: Autoencoder,
        generator: torch.Generator | None = None,
        *,
        device: str = "cpu",
    ) -> None:
        """Without a generator the weights are left uninitialised, to be loaded.

        The clusters are not among the saved weights, so they are on the `device` also where weights have no memory.
        """
        super().__init__()
        self.settings = settings
        self.activation = ACTIVATIONS[settings.activation]
        self.sizes: list[int] = np.bincount(clusters).tolist()
        self.shares = latent_shares(self.sizes, settings.encoder_dims[-1])
        positions = np.empty(len(clusters), dtype=np.int64)
        for number, size in enumerate(self.sizes):
            positions[clusters == number] = np.arange(size)
        self.register_buffer(
            "clusters", torch.tensor(clusters, dtype=torch.int64, device=device), persistent=False
        )
        self.register_buffer("positions", torch.tensor(positions, device=device), persistent=False)
        encoder = settings.encoder_dims[:-1]
        parts = list(zip(self.sizes, self.shares, strict=True))
        self.encoders = nn.ModuleList([_Encoder((size, *encoder, 2 * share)) for size, share in parts])
        cluster_widths = [(share, *settings.decoder_dims, size) for size, share in parts]
        joint_widths = [(settings.encoder_dims[-1], len(clusters))]
        self.decoders = nn.ModuleList(
            [_Decoder(widths) for widths in (cluster_widths if settings.decoder_dims else joint_widths)]
        )
        if generator is not None:
            xavier_normal(self.parameters(), generator)

    @property
    def latent_width(self) -> int:
        """The width of a row's latent."""
        return sum(self.shares)

    def encode(self, batch: RowBatch) -> Encoding:
        """Return the latent distributions of sparse rows (n, n_items); the first layers cost as much as the entries."""
        parts = [
            encoder(self._select_cluster(batch, number), self.activation).chunk(2, dim=1)
            for number, encoder in enumerate(self.encoders)
        ]
        return Encoding(torch.cat([part[0] for part in parts], 1), torch.cat([part[1] for part in parts], 1))

    def decode(self, latent: Tensor) -> Tensor:
        """Return logits of all items, (n, n_items), from latents (n, latent)."""
        if not self.settings.decoder_dims:
            return cast("Tensor", self.decoders[0](latent, self.activation))
        parts = latent.split(self.shares, dim=1)
        logits = [decoder(part, self.activation) for decoder, part in zip(self.decoders, parts, strict=True)]
        return self.in_item_order(torch.cat(logits, 1))

    def in_item_order(self, columns: Tensor) -> Tensor:
        """Return columns (n, n_items) of the decoders' outputs, one decoder after the other, in the order of items."""
        if not self.settings.decoder_dims:
            return columns
        starts = torch.tensor([0, *self.sizes[:-1]], device=columns.device).cumsum(0)
        return columns[:, starts[self.clusters] + self.positions]

    def _select_cluster(self, batch: RowBatch, number: int) -> RowBatch:
        """Return the part of the rows in one cluster's items."""
        if len(self.encoders) == 1:
            return batch
        inside = self.clusters[batch.columns] == number
        return batch.select(inside, self.positions[batch.columns[inside]], self.sizes[number])


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
    """Return the width of each cluster's part of a latent: its share of the items, rounded down, at least 1.

    The last gets the rest. Raises `SpecError` if there are more clusters than numbers in the latent.
    """
    SpecError.unless(
        len(sizes) <= width,
        f"Each cluster needs a part of the latent; there are {len(sizes)} clusters and a latent of "
        f"{width}. Raise the last of `autoencoder.encoder_dims`, or lower `clusters.count`.",
    )
    total = sum(sizes)
    shares = [max(1, size * width // total) for size in sizes[:-1]]
    while sum(shares) > width - 1:
        shares[shares.index(max(shares))] -= 1
    return [*shares, width - sum(shares)]
