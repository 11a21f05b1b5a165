"""DiffRec and T-DiffRec: denoising diffusion on users' rows of items."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import SpecError
from unblur.fitted import Tensors
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import Denoiser, Objective, Sampling, TimeWeights
from unblur.spec import spec
from unblur.training.settings import Optimizer, Stopping
from unblur.training.trained import TrainedByEpochs

if TYPE_CHECKING:
    import torch

    from unblur.models.diffusion.item_diffusion import DiffRecRecommender, RowLearner


@spec
class DiffRec(TrainedByEpochs["DiffRecRecommender"]):
    """The Diffusion Recommender Model (Wang et al., SIGIR 2023, arXiv 2304.04971).

    A user's 0/1 row is made noisy step by step, and a network learns to take the noise away; scores are what
    it makes of a history. With `time_weights` it is T-DiffRec, which needs timestamps.
    """

    kind: ClassVar[str] = "diffrec"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.diffusion.item_diffusion:DiffRecRecommender"
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

    @property
    def needs_timestamps(self) -> bool:
        """T-DiffRec weighs interactions by their order in time."""
        return self.time_weights is not None

    def __post_init__(self) -> None:
        check_steps(self.schedule, self.sampling)

    def learner(
        self, train: Interactions, item_counts: NDArray[np.int64], seed: int, device: torch.device
    ) -> RowLearner:
        """The network and the rows it learns from."""
        from unblur.models.diffusion.item_diffusion import RowLearner

        return RowLearner(self, train, item_counts, seed, device)

    def restore(
        self, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
    ) -> DiffRecRecommender:
        """The fitted recommender from its saved parts."""
        from unblur.models.diffusion.item_diffusion import restored

        return restored(self, items, item_counts, tensors, device)


def check_steps(schedule: Schedule, sampling: Sampling) -> None:
    """Raise `SpecError` where a history would be made noisier than the schedule goes."""
    if sampling.start_steps > schedule.steps:
        raise SpecError(
            "`sampling.start_steps` (sampling_steps) must not exceed `schedule.steps`; saw "
            f"{sampling.start_steps} and {schedule.steps}. Lower it; 0 starts from the row itself."
        )
