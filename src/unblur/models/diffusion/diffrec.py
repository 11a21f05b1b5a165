"""DiffRec and T-DiffRec: denoising diffusion on users' rows of items."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from unblur.errors import SpecError
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import Denoiser, Objective, Sampling, TimeWeights
from unblur.space import Dimension, choices
from unblur.spec import spec
from unblur.training.settings import Optimizer, Stopping
from unblur.training.trained import TrainedByEpochs

if TYPE_CHECKING:
    from unblur.models.diffusion.item_diffusion import DiffRecRecommender as DiffRecRecommender


@spec
class DiffRec(TrainedByEpochs["DiffRecRecommender"]):
    """The Diffusion Recommender Model (Wang et al., SIGIR 2023, arXiv 2304.04971).

    A user's 0/1 row is made noisy step by step, and a network learns to take the noise away; scores are what
    it makes of a history. With `time_weights` it is T-DiffRec, which needs timestamps.
    """

    kind: ClassVar[str] = "diffrec"
    stochastic: ClassVar[bool] = True
    fitted: ClassVar[str] = "unblur.models.diffusion.item_diffusion:DiffRecRecommender"
    learner: ClassVar[str] = "unblur.models.diffusion.item_diffusion:DiffRecLearner"
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

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return published((300,), (1000,), (200, 600))


def published(*dims: tuple[int, ...]) -> tuple[Dimension, ...]:
    """The values of the authors' published settings (Wang et al., SIGIR 2023), and those between; `dims` of the denoiser."""
    return choices(
        optimizer__learning_rate=(1e-3, 5e-4, 1e-4, 5e-5, 1e-5),
        denoiser__dims=dims,
        schedule__steps=(2, 5, 10, 40),
        schedule__scale=(0.0001, 0.001, 0.005, 0.01, 0.1, 0.5),
        schedule__lowest=(0.0005, 0.001, 0.005),
        schedule__highest=(0.006, 0.01, 0.02),
        objective__reweight=(True, False),
        time_weights__oldest=(0.1, 0.3, 0.5),
    )


def check_steps(schedule: Schedule, sampling: Sampling) -> None:
    """Raise `SpecError` where a history would be made noisier than the schedule goes."""
    if sampling.start_steps > schedule.steps:
        raise SpecError(
            "`sampling.start_steps` (sampling_steps) must not exceed `schedule.steps`; saw "
            f"{sampling.start_steps} and {schedule.steps}. Lower it; 0 starts from the row itself."
        )
