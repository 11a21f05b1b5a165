"""What LightGCN trains: embeddings of users and items, by pairwise ranking of sampled items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unblur.baselines.factors import FactorsRecommender
from unblur.baselines.neighbours import inverse
from unblur.diffusion.item_embeddings import interaction_graph, layers_of, pairwise_loss, propagated
from unblur.diffusion.learner import Moment, Weights
from unblur.diffusion.settings import Optimizer
from unblur.interactions import Interactions
from unblur.randomness import streams, torch_generator

if TYPE_CHECKING:
    from unblur.baselines.lightgcn import LightGCN


class GraphLearner:
    """Trains e⁰ of a LightGCN on pairs of a user and an item."""

    def __init__(
        self,
        spec: LightGCN,
        train: Interactions,
        item_counts: NDArray[np.int64],
        seed: int,
        device: torch.device,
    ) -> None:
        """`item_counts`: of all interactions, those set aside included, for users without a history."""
        self.spec, self.items, self.item_counts, self.n_users = spec, train.items, item_counts, train.n_users
        self.graph = interaction_graph(train, device)
        self._degrees = train.item_degrees
        self._users = torch.as_tensor(train.rows().astype(np.int64), device=device)
        self._items = torch.as_tensor(train.matrix.indices.astype(np.int64), device=device)
        self._own = self._users * train.n_items + self._items  # ascending, since the matrix is canonical
        chance = torch_generator(streams(seed, "initial weights")["initial weights"])
        start = torch.randn(train.n_users + train.n_items, spec.width, generator=chance) * spec.deviation
        users, items = start.split([train.n_users, train.n_items])
        parts = {"item_start": nn.Parameter(items.clone().to(device))}
        if spec.users == "embedded":
            parts["user_start"] = nn.Parameter(users.clone().to(device))
        self.module: nn.Module = nn.ParameterDict(parts)
        self._none = torch.zeros(train.n_users, spec.width, device=device)

    @property
    def groups(self) -> Sequence[tuple[nn.Module, Optimizer]]:
        """The one optimizer, for all embeddings."""
        return [(self.module, self.spec.optimizer)]

    @property
    def n_rows(self) -> int:
        """Interactions."""
        return len(self._users)

    def loss(self, rows: Tensor, moment: Moment, generator: torch.Generator) -> Tensor:
        """BPR of some interactions, each beside an item drawn evenly (drawn again, once, where it is the user's)."""
        users, n_items = self._users[rows], len(self.items)
        negatives = self._drawn(len(rows), generator)
        keys = users * n_items + negatives
        found = torch.searchsorted(self._own, keys).clamp_max(len(self._own) - 1)
        again = self._drawn(len(rows), generator)
        negatives = torch.where(self._own[found] == keys, again, negatives)
        weights = dict(self.module.named_parameters())
        start = torch.cat((weights.get("user_start", self._none), weights["item_start"]))
        final = propagated(self.graph, start, self.spec.layers)
        first = self.n_users
        return pairwise_loss(
            final, start, users, self._items[rows] + first, negatives + first, self.spec.ridge
        )

    @torch.no_grad()
    def fitted(self, weights: Weights) -> FactorsRecommender:
        """The recommender with these embeddings: `inward` are q, `outward` the items' final embeddings."""
        start = torch.cat((weights.get("user_start", self._none), weights["item_start"]))
        layers = [layer[self.n_users :] for layer in layers_of(self.graph, start, self.spec.layers)]
        count = len(layers)
        scale = inverse(self._degrees.astype(np.float64), 0.5)[:, None] / count
        inward = torch.stack(layers[:-1]).sum(0).cpu().numpy() * scale
        outward = torch.stack(layers).mean(0).cpu().numpy()
        return FactorsRecommender(self.spec, self.items, self.item_counts, inward.astype(np.float32), outward)

    def _drawn(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randint(len(self.items), (n,), generator=generator, device=self._users.device)
