"""What a BSPM does to each eigenvector: its processes, merged and combined, as functions of the eigenvalue.

The ODEs of the paper are linear with constant coefficients, so a BSPM is a function of two operators: the item-item
operator ``P = R̃ᵀR̃`` and the ideal low-pass ``M = D_I^-½ V Vᵀ D_I^½``, a projection. A history row x becomes
``x·p(P) + x·M·q(P)``, and this module gives p and q at any eigenvalues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unblur.models.spectral.flow import follow

if TYPE_CHECKING:
    from unblur.models.spectral.bspm import BSPM


def response(spec: BSPM, eigenvalues: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The values of p and q at `eigenvalues` of P (BSPM, equations 8 to 12)."""
    one = np.ones_like(eigenvalues)
    blurred = list(follow(eigenvalues - 1, one, spec.blur))
    passed, projected = _low_pass(spec)
    states = blurred
    merged_early = spec.merge == "early" and spec.sharpen is not None
    q = np.zeros_like(one)
    if spec.sharpen is not None:
        sharpened = list(follow(-eigenvalues, one, spec.sharpen))
        before = blurred[-1] + (passed if merged_early else 0.0)
        states = (
            [*blurred, *(state * before for state in sharpened)]
            if spec.output == "mean"
            else [sharpened[-1] * before]
        )
        if merged_early:
            kept = sharpened if spec.output == "mean" else sharpened[-1:]
            q = projected * np.sum(kept, axis=0) / len(states)
    elif spec.output == "last":
        states = blurred[-1:]
    p = np.mean(states, axis=0)
    if not merged_early:
        p, q = p + passed, q + projected
    return p, q


def _low_pass(spec: BSPM) -> tuple[float, float]:
    """The weighted low-pass flow ``β·(a + b·M)``: since M is a projection, two numbers say it all."""
    if spec.low_pass is None:
        return 0.0, 0.0
    *_, ends = follow(np.array([-1.0, 0.0]), np.ones(2), spec.low_pass.flow)
    outside, inside = (spec.low_pass.weight * end for end in ends.tolist())
    return outside, inside - outside


def degree(spec: BSPM) -> int:
    """The degree of p: no polynomial of a higher degree is needed to have it exactly."""
    return spec.blur.degree + (spec.sharpen.degree if spec.sharpen else 0)
