"""Diffusion on rows of items: what DiffRec trains, and the recommender that comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.fitted import Tensors
from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.histories import row_keys, row_weights
from unblur.models.diffusion.objective import DenoisingLoss
from unblur.models.diffusion.sampling import Inference
from unblur.models.diffusion.settings import GONE
from unblur.randomness import streams, torch_generator
from unblur.recommender import Recommender
from unblur.training.devices import check_device
from unblur.training.learner import Moment, Weights, load_weights
from unblur.training.rows import SparseRows, scored
from unblur.training.settings import Optimizer

if TYPE_CHECKING:
    from unblur.models.diffusion.diffrec import DiffRec


class RowLearner:
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
        chance = torch_generator(streams(seed, "initial weights")["initial weights"])
        network = DenoisingNetwork(train.n_items, spec.denoiser, chance).to(device)
        self._loss = DenoisingLoss(spec.schedule, spec.objective).to(device)
        self.module: nn.Module = nn.ModuleDict({"network": network, "loss": self._loss})
        self._network = network

    @property
    def groups(self) -> Sequence[tuple[nn.Module, Optimizer]]:
        """The one optimizer, for all parameters."""
        return [(self.module, self.spec.optimizer)]

    @property
    def n_rows(self) -> int:
        """Users with at least one interaction."""
        return len(self._filled)

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """The mean loss of some users' rows; they are made dense here, and only they."""
        clean = self.rows.take(self._filled[rows]).dense()
        loss: Tensor = self._loss(self._network, clean, generator)[0]
        return loss

    def fitted(self, weights: Weights) -> DiffRecRecommender:
        """The recommender with these weights."""
        state = {
            name.removeprefix("network."): value
            for name, value in weights.items()
            if name.startswith("network.")
        }
        return built(self.spec, self.items, self.item_counts, state, self.seed, str(self.rows.weights.device))


class DiffRecRecommender(Recommender["DiffRec"]):
    """Scores are the rows that the reverse chain makes of histories."""

    in_threads: ClassVar[bool] = True

    def __init__(
        self,
        spec: DiffRec,
        items: Vocabulary,
        item_counts: NDArray[np.int64],
        network: DenoisingNetwork,
        seed: int,
        device: str,
    ) -> None:
        super().__init__(spec, items, item_counts, device=device)
        self.network, self.seed = network, seed
        self.inference = Inference(network, spec.schedule, spec.objective, spec.sampling)

    @torch.no_grad()
    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        matrix = row_weights(histories, self.spec.time_weights)
        keys = row_keys(matrix, self.seed) if self.inference.noisy else None
        return scored(
            matrix,
            lambda rows, at: self.inference.sparse(rows, None if keys is None else keys[at]),
            self.network.item_in.device,
        )

    def tensors(self) -> Tensors:
        """The network's weights by name, and `seed`, which the noise of noisy inference depends on."""
        weights = {name: value.detach().cpu().numpy() for name, value in self.network.state_dict().items()}
        return {**weights, "seed": np.array([self.seed], dtype=np.int64)}


def built(
    spec: DiffRec, items: Vocabulary, item_counts: NDArray[np.int64], weights: Weights, seed: int, device: str
) -> DiffRecRecommender:
    """The recommender with these weights of the network, which are not copied."""
    with torch.device("meta"):
        network = DenoisingNetwork(len(items), spec.denoiser)
    load_weights(network, weights)
    return DiffRecRecommender(spec, items, item_counts, network, seed, device)


def restored(
    spec: DiffRec, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
) -> DiffRecRecommender:
    """The recommender from its saved parts."""
    on = check_device(device)
    arrays = {
        name: torch.from_numpy(np.asarray(array)).to(on)
        for name, array in tensors.items()
        if name != "seed" and not name.startswith(GONE)
    }
    seed = int(np.asarray(tensors["seed"])[0])
    return built(spec, items, item_counts, arrays, seed, device)
