"""The ideal low-pass filter alone, with free powers of degrees and weights of its singular vectors; training-free.

With the powers ½ it is the second part of GF-CF (Shen et al., CIKM 2021), of BSPM and of ChebyCF, which none of their papers runs alone.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from unblur.models.spectral.operator import Weighting
from unblur.models.spectral.polynomial_filter import Bands, FilterSpec
from unblur.spec import Dimension, Width, choices, spec


@spec
class IdealLowPass(FilterSpec):
    """Scores ``x·D_I^-h·V·diag(f)·Vᵀ·D_I^h·D_I^e``, where V are the leading right singular vectors of ``D_U^-g R D_I^-h``."""

    kind: ClassVar[str] = "low-pass"

    rank: Width = 512
    """The number of singular vectors that pass. With fewer users or items than that, all of them, with a note."""
    bands: Bands = (1.0,)
    """f: the weights of the singular vectors, by bands of equal width; one band is the projection."""

    @property
    def low_pass_exponent(self) -> float:
        """That of R̃."""
        return self.degrees.item

    @property
    def degree(self) -> int:
        """0: there is no polynomial."""
        return 0

    @property
    def weighting(self) -> Weighting:
        """The 0/1 rows, and the weights of the scores."""
        return Weighting(score=self.degrees.score or None)

    def space(self) -> tuple[Dimension, ...]:
        """The default search space; bands are as given."""
        return choices(
            rank=(64, 128, 256, 384, 512),
            degrees__user=(0.3, 0.4, 0.5),
            degrees__item=(0.3, 0.4, 0.5),
            degrees__score=(-0.3, -0.2, -0.15, -0.1, 0.0, 0.1),
        )

    def response(self, eigenvalues: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return p = 0 and q = 1."""
        return np.zeros_like(eigenvalues), np.ones_like(eigenvalues)
