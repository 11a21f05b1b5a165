"""User-based nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.models.linear.neighbours import column_norms, inverse, strongest, transposed
from unblur.progress import Progress, silent
from unblur.randomness import RNG
from unblur.recommender import Recommender, Tensors
from unblur.spec import spec


@spec
class UserKNN:
    """User-based collaborative filtering (Resnick et al., CSCW 1994; for implicit feedback: Sarwar et al., EC 2000).

    The `neighbours` train rows v closest to a history x, by ``s(x, v) = x·v / (‖x‖‖v‖ + h)``, vote for their
    items: a score is ``Σ_v s(x, v)·v_j``. A history that was in train is its own nearest neighbour; it votes for
    what is left out of its list anyway.

    This model keeps the train rows, sparse and without the users' labels: the one exception to the rule that
    models hold items only. Whoever has the saved model has those rows.
    """

    kind: ClassVar[str] = "user-knn"
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "neighbours": (20, 50, 100, 200, 400),
        "shrinkage": (0.0, 10.0, 100.0),
    }
    """What a search tries unless told otherwise."""
    neighbours: PositiveInt = 100
    """How many train rows vote: k."""
    shrinkage: NonNegativeFloat = 0.0
    """What the denominator of the cosine is raised by: h."""
    normalize: bool = False
    """Divide the votes by the sum of the similarities; it changes no user's ranking, only the scale."""

    def fit(
        self, train: Interactions, *, rng: RNG | None = None, device: str = "cpu", progress: Progress = silent
    ) -> UserKNNRecommender:
        """Keep the 0/1 rows that are not empty; `rng`, `device` and `progress` are not needed."""
        rows = train.binarized().matrix[np.flatnonzero(train.user_degrees)]
        return UserKNNRecommender(self, train.items, train.item_degrees, rows, device)

    def restore(
        self, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
    ) -> UserKNNRecommender:
        """The fitted recommender from its saved parts."""
        return UserKNNRecommender(self, items, item_counts, cast("sparse.csr_array", tensors["rows"]), device)


class UserKNNRecommender(Recommender):
    """Scores are votes of the train rows closest to the history."""

    def __init__(
        self,
        spec: UserKNN,
        items: Vocabulary,
        item_counts: NDArray[np.int64],
        rows: sparse.csr_array,
        device: str,
    ) -> None:
        """Raises `ValueError` when the rows are not over the items."""
        super().__init__(spec, items, item_counts, device)
        if rows.shape[1] != len(items):
            raise ValueError(f"rows of {rows.shape[1]} columns for {len(items)} items")
        self.rows = rows
        self._columns = transposed(rows)
        self._norms = column_norms(self._columns)

    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        rows = histories.binarized().matrix
        norms = np.sqrt(histories.user_degrees)

        def cosine(
            left: NDArray[np.integer], right: NDArray[np.integer], dots: NDArray[np.float32]
        ) -> NDArray[np.float32]:
            return np.asarray(
                dots / (norms[left] * self._norms[right] + self.spec.shrinkage), dtype=np.float32
            )

        close = strongest(rows, self._columns, self.spec.neighbours, weigh=cosine, without_diagonal=False)
        votes: NDArray[np.float32] = (close @ self.rows).toarray()
        if self.spec.normalize:
            votes *= inverse(np.asarray(close.sum(axis=1), dtype=np.float64))[:, None].astype(np.float32)
        return votes

    def tensors(self) -> Tensors:
        """`rows` (n_train_users, n_items) CSR: the 0/1 rows of train, without labels."""
        return {"rows": self.rows}
