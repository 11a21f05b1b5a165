"""Flows, and a BSPM's response: its processes, merged and combined, as functions of the eigenvalue.

The ODEs of the paper are linear with constant coefficients, so a BSPM is a function of two operators: the item-item
operator ``P = R̃ᵀR̃`` and the ideal low-pass ``M = D_I^-½ V Vᵀ D_I^½``, a projection. A history row x becomes
``x·p(P) + x·M·q(P)``, and `response` gives p and q at any eigenvalues.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import factorial
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from unblur.spec import spec

if TYPE_CHECKING:
    from unblur.models.spectral.bspm import BSPM


_ORDER = {"euler": 1, "rk4": 4}


@spec
class Flow:
    """The duration and the numerical solver of one process of the model."""

    duration: Annotated[float, Field(gt=0, le=100)] = 1.0
    """The time until which the process runs: T in the paper, 3 at most. Bounded so that no state overflows."""
    steps: Annotated[int, Field(gt=0, le=1000)] = 1
    """The number of equal steps: K in the paper, 2 at most. Bounded because each is a degree of a
    polynomial, or four."""
    solver: Literal["euler", "rk4"] = "euler"
    """Euler's method, or a Runge-Kutta method of four stages and order four."""

    @property
    def degree(self) -> int:
        """The degree, in the operator, of the polynomial that the whole flow is."""
        return self.steps * _ORDER[self.solver]


def follow(
    rate: NDArray[np.float64], start: NDArray[np.float64], flow: Flow
) -> Iterator[NDArray[np.float64]]:
    """Solve ``dy/dt = rate·y`` from `start`, and yield the state after each step.

    The field is linear, so each eigenvector evolves by itself: `rate` and `start` hold one number for each
    eigenvalue (or for each point of a grid of them). A step h of a method of order p with p stages multiplies the
    state by ``Σ_{j≤p} (h·rate)^j / j!``, whatever the method's tableau (Hairer, Nørsett and Wanner, Solving
    Ordinary Differential Equations I, section II.1).
    """
    h = flow.duration / flow.steps
    factor = sum((h * rate) ** j / factorial(j) for j in range(_ORDER[flow.solver] + 1))
    state = start
    for _ in range(flow.steps):
        state = state * factor
        yield state


def response(spec: BSPM, eigenvalues: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values of p and q at `eigenvalues` of P (BSPM, equations 8 to 12)."""
    ones = np.ones_like(eigenvalues)
    blurred = list(follow(eigenvalues - 1, ones, spec.blur))
    identity_part, projected_part = _low_pass(spec)
    states = blurred
    early = spec.merge == "early" and spec.sharpen is not None
    q = np.zeros_like(ones)
    if spec.sharpen is not None:
        # Sharpening is linear, so its states are factors of the state it starts from, and of the low-pass term in it.
        sharpened = list(follow(-eigenvalues, ones, spec.sharpen))
        merged = blurred[-1] + (identity_part if early else 0.0)
        states = (
            [*blurred, *(state * merged for state in sharpened)]
            if spec.output == "mean"
            else [sharpened[-1] * merged]
        )
        if early:
            # A mean is over all states, but the low-pass term is in the sharpened ones alone.
            factors = sharpened if spec.output == "mean" else sharpened[-1:]
            q = projected_part * np.sum(factors, axis=0) / len(states)
    elif spec.output == "last":
        states = blurred[-1:]
    p = np.mean(states, axis=0)
    if not early:
        p, q = p + identity_part, q + projected_part
    return p, q


def _low_pass(spec: BSPM) -> tuple[float, float]:
    """Return (β·a, β·b) such that the weighted low-pass flow is ``x·(βa + βb·M)``.

    M is a projection: outside its eigenvalue 0 gives a, inside its eigenvalue 1 gives a + b.
    """
    if spec.low_pass is None:
        return 0.0, 0.0
    *_, factors = follow(np.array([-1.0, 0.0]), np.ones(2), spec.low_pass.flow)
    outside, inside = (spec.low_pass.weight * factor for factor in factors.tolist())
    return outside, inside - outside


def degree(spec: BSPM) -> int:
    """Return the degree of p."""
    return spec.blur.degree + (spec.sharpen.degree if spec.sharpen else 0)
