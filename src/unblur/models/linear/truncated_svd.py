"""Truncated singular value decomposition of the users × items matrix, by scikit-learn."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from unblur.data.interactions import Interactions, check_train
from unblur.data.vocabulary import Vocabulary
from unblur.errors import SpecError
from unblur.progress import Progress, silent
from unblur.randomness import RNG, streams
from unblur.recommender import Recommender, Tensors
from unblur.spec import spec


@spec
class TruncatedSVD:
    """Scores are the history's projection onto the leading right singular vectors, x·V·Vᵀ."""

    kind: ClassVar[str] = "truncated-svd"
    rank: PositiveInt = 20
    """How many singular vectors."""
    algorithm: Literal["arpack", "randomized"] = "arpack"
    """``arpack`` is exact; ``randomized``, scikit-learn's default, depends on chance."""

    def fit(
        self, train: Interactions, *, rng: RNG | None = None, device: str = "cpu", progress: Progress = silent
    ) -> TruncatedSVDRecommender:
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
        return TruncatedSVDRecommender(self, train.items, train.item_degrees, vectors, device)

    def restore(
        self, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
    ) -> TruncatedSVDRecommender:
        """The fitted recommender from its saved parts."""
        vectors = cast("NDArray[np.float32]", tensors["vectors"])
        return TruncatedSVDRecommender(self, items, item_counts, vectors, device)


class TruncatedSVDRecommender(Recommender):
    """Holds the right singular vectors."""

    linear: ClassVar[bool] = True

    def __init__(
        self,
        spec: TruncatedSVD,
        items: Vocabulary,
        item_counts: NDArray[np.int64],
        vectors: NDArray[np.float32],
        device: str,
    ) -> None:
        super().__init__(spec, items, item_counts, device)
        self.vectors = vectors

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        projected = histories.matrix.astype(np.float64) @ self.vectors
        return np.asarray(projected @ self.vectors.T, dtype=np.float32)

    def tensors(self) -> Tensors:
        """`vectors` (n_items, rank): V."""
        return {"vectors": self.vectors}
