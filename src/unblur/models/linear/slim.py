"""SLIM: sparse, non-negative item-to-item weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.models.linear.item_weights import ItemWeightsRecommender, Weights
from unblur.models.linear.regressions import item_regressions
from unblur.progress import Progress, silent
from unblur.randomness import RNG
from unblur.recommender import Tensors
from unblur.spec import spec


@spec
class SLIM:
    """SLIM with feature selection, fsSLIM (Ning and Karypis, ICDM 2011, equation 4 and section 3.4).

    Column j of the weights W minimises ``½‖x_j − Xw‖² + (β/2)‖w‖² + λ‖w‖₁``, with ``w_jj = 0`` (and ``w ≥ 0``), over the
    `neighbours` items closest to j by cosine; all other weights are 0. Solved by cyclic coordinate descent
    (Friedman, Hastie and Tibshirani, JSS 33(1), 2010), many items at a time.
    """

    kind: ClassVar[str] = "slim"
    search_space: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "l1": (0.1, 0.5, 1.0, 2.0, 5.0),
        "l2": (10.0, 50.0, 100.0, 200.0, 500.0, 1000.0),
        "neighbours": (50, 100, 200),
    }
    """What a search tries unless told otherwise."""
    l1: NonNegativeFloat = 1.0
    """The penalty on the sum of weights: λ."""
    l2: PositiveFloat = 100.0
    """The penalty on their squares: β."""
    neighbours: PositiveInt = 100
    """How many items each item is predicted from, at most."""
    nonnegative: bool = True
    """Whether weights must not be below 0."""
    sweeps: PositiveInt = 100
    """The most passes over the coordinates."""
    tolerance: PositiveFloat = 1e-5
    """Passes end when no weight of a block changes by more than this."""

    def fit(
        self, train: Interactions, *, rng: RNG | None = None, device: str = "cpu", progress: Progress = silent
    ) -> ItemWeightsRecommender:
        """Solve n_items elastic nets of `neighbours` variables, in blocks; `rng` is not needed."""
        return self.fit_rows(train.binarized().matrix, train, progress)

    def fit_rows(
        self, rows: sparse.csr_array, train: Interactions, progress: Progress = silent
    ) -> ItemWeightsRecommender:
        """Fit to `rows`, those of `train` with other weights."""
        weights = item_regressions(rows, self.neighbours, self._descended, progress)
        return ItemWeightsRecommender(self, train.items, train.item_degrees, weights)

    def restore(
        self, items: Vocabulary, item_counts: NDArray[np.int64], tensors: Tensors, device: str
    ) -> ItemWeightsRecommender:
        """The fitted recommender from its saved parts."""
        return ItemWeightsRecommender(self, items, item_counts, cast("Weights", tensors["weights"]), device)

    def _descended(
        self, grams: NDArray[np.float64], targets: NDArray[np.float64], real: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """The minima (n, k) of n elastic nets at once; coordinates that are not `real` stay 0.

        Problems whose weights have settled are put aside, so that the slow ones alone go on.
        """
        by_coordinate = np.ascontiguousarray(grams.transpose(1, 0, 2))
        solved, left = np.zeros_like(targets), targets.copy()  # left: X_Dᵀ(x_j − X_D w)
        curvature = np.diagonal(grams, axis1=1, axis2=2) + self.l2
        going = np.arange(len(targets))
        weights = solved.copy()
        for _ in range(self.sweeps):
            moved = np.zeros(len(going))
            for place in range(targets.shape[1]):
                old = weights[:, place]
                pull = left[:, place] + (curvature[:, place] - self.l2) * old
                size = np.maximum(np.abs(pull) - self.l1, 0.0)
                new = np.where(pull > 0, size, 0.0 if self.nonnegative else -size) / curvature[:, place]
                step = np.where(real[:, place], new - old, 0.0)
                np.maximum(moved, np.abs(step), out=moved)
                changed = np.flatnonzero(step)
                if len(changed):
                    left[changed] -= step[changed, None] * by_coordinate[place, changed]
                    weights[changed, place] += step[changed]
            solved[going] = weights
            still = moved > self.tolerance
            if not still.any():
                break
            if still.mean() < 0.7:
                going, weights, left = going[still], weights[still], left[still]
                curvature, real, by_coordinate = curvature[still], real[still], by_coordinate[:, still]
        return solved
