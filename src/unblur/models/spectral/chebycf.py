"""ChebyCF: a plateau filter, interpolated by Chebyshev polynomials, and an ideal low-pass; training-free.

Kim, Sung, Han and Lee, *Graph Spectral Filtering with Chebyshev Interpolation for Recommendation*, SIGIR 2025, arXiv 2505.00552. Symbols:
φ → `ChebyCF.flatness`, K → `degree`, η → `rank`, α → `weight`, β → `exponent`, L̃ = I − 2P with ``P = R̃ᵀR̃``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from unblur.models.spectral.operator import Weighting
from unblur.models.spectral.polynomial_filter import Bands, FilterSpec
from unblur.spec import Dimension, Width, choices, spec


@spec
class ChebyCF(FilterSpec):
    """Scores ``x·D_I^-β·[Σ_m c_m T_m(L̃) + α V Vᵀ]·D_I^β``. The defaults are the first settings that the paper publishes."""

    kind: ClassVar[str] = "chebycf"

    flatness: PositiveFloat = 1.5
    """φ, the power in the target ``h(x) = ½ − ½·sign(x)·|x|^φ``: the larger, the longer its plateau at ½."""
    degree: Annotated[int, Field(gt=0, le=100)] = 8
    """K, the degree of the polynomial. Bounded because fitting it takes the degree cubed."""
    sampling: Literal["authors", "gauss"] = "authors"
    """Where the target is sampled: as the authors' program does, or at the Gauss nodes, where the polynomial then equals it."""
    rank: Width = 512
    """η, the number of singular vectors of the ideal part. With fewer users or items than that, all of them, with a note."""
    weight: Annotated[float, Field(ge=-1e6, le=1e6)] = 0.2
    """α, the weight of the ideal part. Far above 1 float32 would lose the polynomial."""
    exponent: Annotated[float, Field(ge=0, le=1)] = 0.4
    """β: interactions are divided by the item's degree to this power before the filter, and its scores multiplied after it."""

    bands: Bands = (1.0,)
    """Factors of the ideal part by bands of singular vectors of equal width. The paper's one band passes all alike."""

    @property
    def low_pass_exponent(self) -> float:
        """0: interactions and scores are weighted for both parts alike."""
        return 0.0

    @property
    def weighting(self) -> Weighting:
        """The item degrees' power on both sides of the filter."""
        return Weighting(item=self.exponent, score=self.exponent + self.degrees.score)

    def space(self) -> tuple[Dimension, ...]:
        """The default search space."""
        return choices(
            flatness=(1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 15.0),
            rank=(64, 128, 256, 384, 512),
            weight=(0.1, 0.2, 0.3, 0.4),
            exponent=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
        )

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """c_m, (degree + 1,): the target's samples, projected on the polynomials T_m at the Gauss nodes."""
        size = self.degree + 1
        nodes: NDArray[np.float64] = np.cos(np.pi * (size + 0.5 - np.arange(1, size + 1)) / size)
        if self.sampling == "authors":
            # The authors sample at the Lobatto points, rounded like the samples to three decimals, but project as if these
            # were the Gauss nodes: at each node the polynomial has the target's value a little further out.
            points: NDArray[np.float64] = np.cos(np.pi * np.arange(self.degree, -1, -1) / self.degree)
            samples = self.target(points.round(3)).round(3)
        else:
            samples = self.target(nodes)
        coefficients = 2 / size * (chebyshev.chebvander(nodes, self.degree).T @ samples)
        coefficients[0] /= 2
        return np.asarray(coefficients)

    def target(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return h at eigenvalues of L̃, from −1, the smoothest, to 1."""
        return 0.5 - 0.5 * np.sign(points) * np.abs(points) ** self.flatness

    def response(self, eigenvalues: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the values of p and q at `eigenvalues` of P: the polynomial, and the weight of the ideal part."""
        p: NDArray[np.float64] = np.asarray(chebyshev.chebval(1 - 2 * eigenvalues, self.coefficients))
        return p, np.full_like(p, self.weight)
