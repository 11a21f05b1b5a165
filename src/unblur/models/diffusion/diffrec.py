"""DiffRec and T-DiffRec: denoising diffusion on users' rows of items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor, nn

from unblur.data.interactions import Interactions
from unblur.errors import SpecError
from unblur.fitted import Array, learned
from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.histories import row_keys, row_weights
from unblur.models.diffusion.objective import DenoisingLoss
from unblur.models.diffusion.sampling import Inference
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import GONE, Denoiser, Objective, Sampling, TimeWeights
from unblur.randomness import streams, torch_generator
from unblur.space import Dimension, choices
from unblur.spec import spec
from unblur.training.learner import Moment, Weights
from unblur.training.networks import Network_co, NetworkRecommender, NetworkSpec_co, below
from unblur.training.rows import SparseRows, scored
from unblur.training.run import R, TrainedByEpochs
from unblur.training.settings import Optimizer, Stopping


@spec
class DiffusionSpec(TrainedByEpochs[R]):
    """What DiffRec and L-DiffRec have in common: a denoiser that is trained on noisy rows, or on their codes."""

    stochastic: ClassVar[bool] = True
    schedule: Schedule = Schedule()
    """How noisy rows (or codes) become, and in how many steps."""
    denoiser: Denoiser = Denoiser()
    """The network that acts on them."""
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
    """T- and LT-DiffRec: weigh each user's interactions by their order in time, in input and target alike."""

    @property
    def needs_timestamps(self) -> bool:
        """T-DiffRec weighs interactions by their order in time."""
        return self.time_weights is not None

    def __post_init__(self) -> None:
        """Raises `SpecError` where a history would be made noisier than the schedule goes."""
        if self.sampling.start_steps > self.schedule.steps:
            raise SpecError(
                "`sampling.start_steps` (sampling_steps) must not exceed `schedule.steps`; saw "
                f"{self.sampling.start_steps} and {self.schedule.steps}. Lower it; 0 starts from the row itself."
            )


@spec
class DiffRec(DiffusionSpec["DiffRecRecommender"]):
    """The Diffusion Recommender Model (Wang et al., SIGIR 2023, arXiv 2304.04971).

    A user's 0/1 row is made noisy step by step, and a network learns to take the noise away; scores are what
    it makes of a history. With `time_weights` it is T-DiffRec, which needs timestamps.
    """

    kind: ClassVar[str] = "diffrec"
    fitted: ClassVar[str] = "unblur.models.diffusion.diffrec:DiffRecRecommender"
    learner: ClassVar[str] = "unblur.models.diffusion.diffrec:DiffRecLearner"

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


class DiffRecLearner:
    """Trains a denoiser on the rows of some interactions; rows without any are left out."""

    def __init__(
        self,
        spec: DiffRec,
        train: Interactions,
        item_counts: NDArray[np.int64],
        seed: int,
        device: torch.device,
    ) -> None:
        """`item_counts`: of all interactions, those set aside included, for users without a history."""
        self.spec, self.items, self.item_counts, self.seed = spec, train.items, item_counts, seed
        self.rows = SparseRows.of(row_weights(train, spec.time_weights), device)
        self._filled = torch.as_tensor(np.flatnonzero(train.user_degrees), device=device)
        self.n_rows = len(self._filled)
        chance = torch_generator(streams(seed, "initial weights")["initial weights"])
        self._network = DenoisingNetwork(train.n_items, spec.denoiser, chance).to(device)
        self._loss = DenoisingLoss(spec.schedule, spec.objective).to(device)
        self.module: nn.Module = nn.ModuleDict({"network": self._network, "loss": self._loss})
        self.groups = [(self.module, spec.optimizer)]

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some users' rows; they are made dense here, and only they."""
        clean = self.rows.take(self._filled[rows]).dense()
        loss: Tensor = self._loss(self._network, clean, generator)[0]
        return loss

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

    seed: NDArray[np.int64] = learned(1, dtype="int64")
    """What the noise of noisy inference depends on."""

    in_threads: ClassVar[bool] = True

    @classmethod
    def _further(cls, columns: Mapping[str, NDArray[Any]], left: dict[str, Array]) -> dict[str, Any]:
        for name in [name for name in left if name.startswith(GONE)]:
            del left[name]
        return super()._further(columns, left)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class DiffRecRecommender(Denoised["DiffRec", DenoisingNetwork]):
    """Scores are the rows that the reverse chain makes of histories."""

    def blank(self) -> DenoisingNetwork:
        """The denoiser of items."""
        return DenoisingNetwork(len(self.items), self.spec.denoiser)

    @cached_property
    def inference(self) -> Inference:
        """How the chain is run."""
        return Inference(self.network, self.spec.schedule, self.spec.objective, self.spec.sampling)

    @torch.no_grad()
    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        matrix = row_weights(histories, self.spec.time_weights)
        keys = row_keys(matrix, int(self.seed[0])) if self.inference.noisy else None
        return scored(
            matrix,
            lambda rows, at: self.inference.sparse(rows, None if keys is None else keys[at]),
            self.network.item_in.device,
        )
