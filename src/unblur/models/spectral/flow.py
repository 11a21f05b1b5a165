"""Flows: linear processes and the numerical solvers that follow them, eigenvalue by eigenvalue."""

from __future__ import annotations

from collections.abc import Iterator
from math import factorial
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from unblur.spec import spec

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
