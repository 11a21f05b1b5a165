"""User-based nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveInt
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.fitted import StoppingData, learned
from unblur.models.linear.neighbours import column_norms, inverse, strongest, transposed
from unblur.randomness import RNG
from unblur.recommender import Recommender, RecommenderSpec
from unblur.run import Run
from unblur.space import Dimension, choices
from unblur.spec import spec


@spec
class UserKNN(RecommenderSpec["Neighbours"]):
    """User-based collaborative filtering (Resnick et al., CSCW 1994; for implicit feedback: Sarwar et al., EC 2000).

    The `neighbours` train rows v closest to a history x, by ``s(x, v) = x·v / (‖x‖‖v‖ + h)``, vote for their
    items: a score is ``Σ_v s(x, v)·v_j``. A history that was in train is its own nearest neighbour; it votes for
    what is left out of its list anyway.

    This model keeps the train rows, sparse and without the users' labels: the one exception to the rule that
    models hold items only. Whoever has the saved model has those rows.
    """

    kind: ClassVar[str] = "user-knn"
    fitted: ClassVar[str] = "unblur.models.user_knn:Neighbours"
    neighbours: PositiveInt = 100
    """How many train rows vote: k."""
    shrinkage: NonNegativeFloat = 0.0
    """What the denominator of the cosine is raised by: h."""
    normalize: bool = False
    """Divide the votes by the sum of the similarities; it changes no user's ranking, only the scale."""

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return choices(neighbours=(20, 50, 100, 200, 400), shrinkage=(0.0, 10.0, 100.0))

    def learn(
        self, train: Interactions, *, rng: RNG | None, run: Run, validation: StoppingData | None
    ) -> Neighbours:
        """Keep the 0/1 rows that are not empty."""
        rows = train.binarized().matrix[np.flatnonzero(train.user_degrees)]
        return Neighbours(self, train.items, train.item_degrees, device=run.device, rows=rows)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Neighbours(Recommender["UserKNN"]):
    """Scores are votes of the train rows closest to the history."""

    rows: sparse.csr_array = learned("train users", "items", dtype=None)
    """The 0/1 rows of train, without labels."""

    @cached_property
    def _columns(self) -> sparse.csr_array:
        return transposed(self.rows)

    @cached_property
    def _norms(self) -> NDArray[np.float64]:
        return column_norms(self._columns)

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
