"""L-DiffRec and LT-DiffRec: denoising diffusion in the latent space of clustered autoencoders."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from unblur.data.interactions import Interactions
from unblur.fitted import StoppingData
from unblur.models.diffusion.diffrec import check_steps, published
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import (
    Autoencoder,
    Denoiser,
    ItemClusters,
    Objective,
    Sampling,
    TimeWeights,
)
from unblur.randomness import RNG
from unblur.registry import resolve
from unblur.run import Run
from unblur.space import Dimension, choices
from unblur.spec import spec
from unblur.training.settings import Optimizer, Stopping
from unblur.training.trained import START, TrainedByEpochs

if TYPE_CHECKING:
    from unblur.models.diffusion.latent_diffusion import LatentDiffRecRecommender
    from unblur.training.loop import Training


@spec
class LatentDiffRec(TrainedByEpochs["LatentDiffRecRecommender"]):
    """L-DiffRec (Wang et al., SIGIR 2023, section 3.4): items are clustered, each cluster's part of a row is
    encoded, and diffusion runs on the latent.

    With `time_weights` it is LT-DiffRec, which needs timestamps.
    """

    kind: ClassVar[str] = "l-diffrec"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.diffusion.latent_diffusion:LatentDiffRecRecommender"
    learner: ClassVar[str] = "unblur.models.diffusion.latent_diffusion:LatentLearner"
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
