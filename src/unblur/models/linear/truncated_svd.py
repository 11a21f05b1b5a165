"""Truncated singular value decomposition of the users × items matrix, by scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from unblur.data.interactions import Interactions, check_train
from unblur.errors import SpecError
from unblur.fitted import StoppingData, learned
from unblur.randomness import RNG, streams
from unblur.recommender import Recommender, RecommenderSpec
from unblur.run import Run
from unblur.space import Dimension, choices
from unblur.spec import spec


@spec
class TruncatedSVD(RecommenderSpec["Projection"]):
    """Scores are the history's projection onto the leading right singular vectors, x·V·Vᵀ."""

    kind: ClassVar[str] = "truncated-svd"
    fitted: ClassVar[str] = "unblur.models.linear.truncated_svd:Projection"
    uses_weights: ClassVar[bool] = True
    rank: PositiveInt = 20
    """How many singular vectors."""
    algorithm: Literal["arpack", "randomized"] = "arpack"
    """``arpack`` is exact; ``randomized``, scikit-learn's default, depends on chance."""

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return choices(rank=(8, 16, 20, 32, 64, 128, 256))

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> Projection:
        """Decompose the train matrix, weights included. Raises `SpecError` for a rank that it cannot have."""
        from sklearn.decomposition import TruncatedSVD as Decomposition

        check_train(train)
        if self.rank >= min(train.matrix.shape):
            raise SpecError(
                f"`rank` must be below the numbers of users and items, {train.n_users:,} and {train.n_items:,}; "
                f"saw {self.rank}. Lower it."
            )
        seed = int(streams(rng, "start vector")["start vector"].integers(0, 2**31))
        made = Decomposition(self.rank, algorithm=self.algorithm, random_state=seed).fit(
            train.matrix.astype(np.float64)
        )
        vectors = np.ascontiguousarray(made.components_.T, dtype=np.float32)
        return Projection(self, train.items, train.item_degrees, device=run.device, vectors=vectors)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Projection(Recommender):
    """Projects a history, weights included, onto right singular vectors."""

    linear: ClassVar[bool] = True
    vectors: NDArray[np.float32] = learned("items", "rank")
    """V."""

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        projected = histories.matrix.astype(np.float64) @ self.vectors
        return np.asarray(projected @ self.vectors.T, dtype=np.float32)
