"""Diffusion on rows of items: DiffRec's training, and the recommender that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.data.interactions import Interactions
from unblur.fitted import Array, learned
from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.histories import row_keys, row_weights
from unblur.models.diffusion.objective import DenoisingLoss
from unblur.models.diffusion.sampling import Inference
from unblur.models.diffusion.settings import GONE
from unblur.randomness import streams, torch_generator
from unblur.training.learner import Moment, Weights
from unblur.training.networks import Network_co, NetworkRecommender, NetworkSpec_co, below
from unblur.training.rows import SparseRows, scored

if TYPE_CHECKING:
    from unblur.models.diffusion.diffrec import DiffRec


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
