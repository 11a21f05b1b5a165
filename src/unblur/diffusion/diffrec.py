"""DiffRec and T-DiffRec: denoising diffusion on users' rows of items."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from unblur.diffusion.schedule import Schedule
from unblur.diffusion.settings import Denoiser, Objective, Optimizer, Sampling, Stopping, TimeWeights
from unblur.errors import SpecError
from unblur.interactions import Interactions
from unblur.progress import Progress, silent
from unblur.randomness import RNG
from unblur.recommender import Tensors
from unblur.spec import spec
from unblur.vocabulary import Vocabulary

if TYPE_CHECKING:
    from unblur.diffusion.item_diffusion import DiffRecRecommender
    from unblur.diffusion.training import Training


@spec
class DiffRec:
    """The Diffusion Recommender Model (Wang et al., SIGIR 2023, arXiv 2304.04971).

    A user's 0/1 row is made noisy step by step, and a network learns to take the noise away; scores are what
    it makes of a history. With `time_weights` it is T-DiffRec, which needs timestamps.
    """

    kind: ClassVar[str] = "diffrec"
    stochastic: ClassVar[bool] = True
    schedule: Schedule = Schedule()
    """How noisy rows become, and in how many steps."""
    denoiser: Denoiser = Denoiser()
    """The network."""
    objective: Objective = Objective()
    """What it is trained for."""
    sampling: Sampling = Sampling()
    """How scores are inferred."""
    optimizer: Optimizer = Optimizer()
    """How its weights follow their gradients."""
    epochs: PositiveInt = 1000
    """The most passes over the rows: `epochs`."""
    batch_size: PositiveInt = 400
    """Rows a batch: `batch_size`, `train_batch_size`."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What matrix products of training are computed in; weights and losses are float32 in any case."""
    stopping: Stopping | None = Stopping()
    """When training ends early; `None` trains all epochs on all of train and keeps the last weights."""
    time_weights: TimeWeights | None = None
    """T-DiffRec: weigh each user's interactions by their order in time, in input and target alike."""

    def __post_init__(self) -> None:
        check_steps(self.schedule, self.sampling)

    def fit(
        self,
        train: Interactions,
        *,
        rng: RNG | None = None,
        device: str = "cpu",
        progress: Progress = silent,
        validation: Interactions | None = None,
        checkpoints: str | Path | None = None,
        tensorboard: str | Path | None = None,
    ) -> DiffRecRecommender:
        """Train, and return the recommender of the best evaluated epoch (of the last one without `stopping`).

        - `validation`: interactions of the same users and items to stop by, where a protocol gives some.
          Without it `stopping` sets a part of `train` aside, and the rest is trained on.
        - `checkpoints`: a folder to keep the state of the run in after every evaluated epoch. Called again
          with the same spec, data and seed, an interrupted run goes on from there and ends in the same bytes.
        - `tensorboard`: a folder for event files.

        Raises `DataError` for data that cannot be trained on, `DivergedTraining` when a loss is not finite,
        and `ArtifactError` when a checkpoint cannot be written or belongs to another run.
        """
        run = self.training(
            train,
            rng=rng,
            device=device,
            progress=progress,
            validation=validation,
            checkpoints=checkpoints,
            tensorboard=tensorboard,
        )
        for _ in run.epochs():
            pass
        return run.fitted()

    def training(
        self,
        train: Interactions,
        *,
        rng: RNG | None = None,
        device: str = "cpu",
        progress: Progress = silent,
        validation: Interactions | None = None,
        checkpoints: str | Path | None = None,
        tensorboard: str | Path | None = None,
    ) -> Training[DiffRecRecommender]:
        """What `fit` runs, for a caller who wants to see each epoch and to stop at will; arguments as of
        `fit`."""
        from unblur.diffusion.item_diffusion import RowLearner
        from unblur.diffusion.runs import start_run

        return start_run(
            self,
            lambda part, seed, on: RowLearner(self, part, train.item_degrees, seed, on),
            train,
            rng=rng,
            device=device,
            progress=progress,
            validation=validation,
            checkpoints=checkpoints,
            tensorboard=tensorboard,
        )

    def restore(
        self, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
    ) -> DiffRecRecommender:
        """The fitted recommender from its saved parts."""
        from unblur.diffusion.item_diffusion import restored

        return restored(self, items, item_counts, tensors, device)


def check_steps(schedule: Schedule, sampling: Sampling) -> None:
    """Raise `SpecError` where a history would be made noisier than the schedule goes."""
    if sampling.start_steps > schedule.steps:
        raise SpecError(
            "`sampling.start_steps` (sampling_steps) must not exceed `schedule.steps`; saw "
            f"{sampling.start_steps} and {schedule.steps}. Lower it; 0 starts from the row itself."
        )
