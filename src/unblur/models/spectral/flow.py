"""Linear flows: ODEs with constant coefficients, followed for a time in equal steps."""

from __future__ import annotations

from collections.abc import Iterator
from math import factorial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat, PositiveInt

from unblur.spec import spec

_ORDER = {"euler": 1, "rk4": 4}


@spec
class Flow:
    """How far, and in which steps, one process of the model runs."""

    duration: PositiveFloat = 1.0
    """How long the process runs: T in the paper."""
    steps: PositiveInt = 1
    """In how many equal steps: K in the paper."""
    solver: Literal["euler", "rk4"] = "euler"
    """Euler's method, or a Runge-Kutta method of four stages and order four."""

    @property
    def degree(self) -> int:
        """The degree, in the operator, of the polynomial that the whole flow amounts to."""
        return self.steps * _ORDER[self.solver]


def follow(
    rate: NDArray[np.float64], start: NDArray[np.float64], flow: Flow
) -> Iterator[NDArray[np.float64]]:
    """The states of ``dy/dt = rate·y`` from `start`, one after each step.

    The field is linear, so it acts on each eigenvector by itself: `rate` and `start` hold one number for each
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
