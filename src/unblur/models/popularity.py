"""The most popular items for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.recommender import RNG, Recommender, RecommenderSpec, Run, StoppingData
from unblur.spec import spec


@spec
class Popularity(RecommenderSpec["MostPopular"]):
    """Rank items by how many users have them, the same for everybody. It has no hyper-parameters."""

    kind: ClassVar[str] = "popularity"
    fitted: ClassVar[str] = "unblur.models.popularity:MostPopular"
    personal: ClassVar[bool] = False
    refit_reason: ClassVar[str | None] = None

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> MostPopular:
        """Count the users of each item."""
        return MostPopular(self, train.items, train.item_degrees, device=run.device)


@dataclass(frozen=True, eq=False, repr=False)
class MostPopular(Recommender):
    """Scores are train degrees over the largest one; the history says only which items to leave out."""

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        return np.repeat(self.popularity[None, :], histories.n_users, axis=0)
