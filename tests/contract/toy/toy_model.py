"""A model of another distribution, in one file: items that share users, scored by a power of their number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.recommender import RNG, Recommender, RecommenderSpec, Run, StoppingData, learned
from unblur.spec import Dimension, choices, spec


@spec
class Together(RecommenderSpec["TogetherRecommender"]):
    kind: ClassVar[str] = "together"
    fitted: ClassVar[str] = "toy_model:TogetherRecommender"
    power: float = 1.0

    def space(self) -> tuple[Dimension, ...]:
        return choices(power=(0.25, 0.5, 1.0))

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> TogetherRecommender:
        rows = train.binarized().matrix
        counts = np.asarray((rows.T @ rows).toarray() ** self.power, dtype=np.float32)
        return TogetherRecommender(self, train.items, train.item_degrees, counts=counts)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class TogetherRecommender(Recommender):
    counts: NDArray[np.float32] = learned("items", "items")

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        return histories.binarized().matrix @ self.counts
