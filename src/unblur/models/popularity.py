"""The most popular items for everybody."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.progress import Progress, silent
from unblur.randomness import RNG
from unblur.recommender import Recommender, Tensors
from unblur.spec import spec


@spec
class Popularity:
    """Rank items by how many users have them, the same for everybody. It has no hyper-parameters."""

    kind: ClassVar[str] = "popularity"

    def fit(
        self, train: Interactions, *, rng: RNG | None = None, device: str = "cpu", progress: Progress = silent
    ) -> PopularityRecommender:
        """Count the users of each item; `rng`, `device` and `progress` are not needed."""
        return PopularityRecommender(self, train.items, train.item_degrees, device)

    def restore(
        self, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
    ) -> PopularityRecommender:
        """The fitted recommender from its saved parts."""
        return PopularityRecommender(self, items, item_counts, device)


class PopularityRecommender(Recommender):
    """Scores are train degrees over the largest one; the history only says what to leave out."""

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        row: NDArray[Any] = (self.item_counts / max(1, self.item_counts.max(initial=0))).astype(np.float32)
        return np.repeat(row[None, :], histories.n_users, axis=0)

    def tensors(self) -> Tensors:
        """Nothing beside the item counts."""
        return {}
