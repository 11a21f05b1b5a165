"""SLIM: sparse, non-negative item-to-item weights."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from scipy import sparse

from unblur.data.interactions import Interactions
from unblur.models.linear.item_weights import ItemWeights, LinearSpec
from unblur.models.linear.regressions import item_regressions
from unblur.progress import Progress
from unblur.space import Dimension, choices
from unblur.spec import spec


@spec
class SLIM(LinearSpec[ItemWeights]):
    """SLIM with feature selection, fsSLIM (Ning and Karypis, ICDM 2011, equation 4 and section 3.4).

    Column j of the weights W minimises ``½‖x_j − Xw‖² + (β/2)‖w‖² + λ‖w‖₁``, with ``w_jj = 0`` (and ``w ≥ 0``), over the
    `neighbours` items closest to j by cosine; all other weights are 0. Solved by cyclic coordinate descent
    (Friedman, Hastie and Tibshirani, JSS 33(1), 2010), many items at a time.
    """

    kind: ClassVar[str] = "slim"
    fitted: ClassVar[str] = "unblur.models.linear.item_weights:ItemWeights"
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

    def space(self) -> tuple[Dimension, ...]:
        """What a search tries unless told otherwise."""
        return choices(
            l1=(0.1, 0.5, 1.0, 2.0, 5.0),
            l2=(10.0, 50.0, 100.0, 200.0, 500.0, 1000.0),
            neighbours=(50, 100, 200),
        )

    def fit_rows(self, rows: sparse.csr_array, train: Interactions, progress: Progress) -> ItemWeights:
        """Solve n_items elastic nets of `neighbours` variables, in blocks."""
        weights = item_regressions(rows, self.neighbours, self._descended, progress)
        return ItemWeights(self, train.items, train.item_degrees, weights=weights)

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
