"""BSPM as its paper writes it: dense, in float64, with an ODE solver that is not ours and an exact SVD.

Choi et al., SIGIR 2023, equations 8 to 12, and the merging of the authors' program.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torchdiffeq import odeint  # type: ignore[import-untyped]

from unblur.models.spectral.bspm import BSPM
from unblur.models.spectral.flow import Flow

Matrix = NDArray[np.float64]
Field = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

ZERO = 1e-9
"""Singular values below this are zero: their vectors are not unique, so the filter does not have them."""


def power(degrees: Matrix, exponent: float) -> Matrix:
    """``degrees ** exponent``, and 0 for a degree of 0."""
    roots: Matrix = np.where(degrees > 0, np.maximum(degrees, 1) ** exponent, 0.0)
    return roots


def normalized(train: Matrix) -> Matrix:
    """R̃."""
    users, items = train.sum(axis=1), train.sum(axis=0)
    return power(users, -0.5)[:, None] * train * power(items, -0.5)[None, :]


def low_pass(train: Matrix, rank: int) -> Matrix:
    """``D_I^-½ V Vᵀ D_I^½``, items × items."""
    _, values, right = np.linalg.svd(normalized(train), full_matrices=False)
    v = right[:rank][values[:rank] > ZERO].T
    items = train.sum(axis=0)
    matrix: Matrix = power(items, -0.5)[:, None] * (v @ v.T) * power(items, 0.5)[None, :]
    return matrix


def path(field: Field, start: torch.Tensor, flow: Flow) -> torch.Tensor:
    """(steps, users, items) the states after each step."""
    times = torch.linspace(0, flow.duration, flow.steps + 1, dtype=torch.float64)
    states: torch.Tensor = odeint(field, start, times, method=flow.solver)
    return states[1:]


def scores(spec: BSPM, train: Matrix, rows: Matrix) -> Matrix:
    """Scores (users, items) of 0/1 rows."""
    if spec.history == "normalized":
        rows = power(rows.sum(axis=1), -0.5)[:, None] * rows * power(train.sum(axis=0), -0.5)[None, :]
    x = torch.from_numpy(rows)
    p = torch.from_numpy(normalized(train).T @ normalized(train))
    blurred = path(lambda t, state: state @ p - state, x, spec.blur)
    filtered = torch.zeros_like(x)
    if spec.low_pass is not None:
        m = torch.from_numpy(low_pass(train, spec.low_pass.rank))
        filtered = spec.low_pass.weight * path(lambda t, state: state @ m - state, x, spec.low_pass.flow)[-1]
    if spec.sharpen is None:
        out = blurred.mean(dim=0) if spec.output == "mean" else blurred[-1]
        return (out + filtered).numpy()
    start = blurred[-1] + filtered if spec.merge == "early" else blurred[-1]
    sharpened = path(lambda t, state: -state @ p, start, spec.sharpen)
    out = torch.cat([blurred, sharpened]).mean(dim=0) if spec.output == "mean" else sharpened[-1]
    return (out if spec.merge == "early" else out + filtered).numpy()
