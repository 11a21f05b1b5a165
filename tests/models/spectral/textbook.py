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
from unblur.models.spectral.operator import DegreePowers

Matrix = NDArray[np.float64]
Field = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

ZERO = 1e-9
"""Singular values below this are zero: their vectors are not unique, so the filter does not have them."""


def power(degrees: Matrix, exponent: float) -> Matrix:
    """``degrees ** exponent``, and 0 for a degree of 0."""
    roots: Matrix = np.where(degrees > 0, np.maximum(degrees, 1) ** exponent, 0.0)
    return roots


PAPER = DegreePowers()


def normalized(train: Matrix, degrees: DegreePowers = PAPER) -> Matrix:
    """R̃, whose largest singular value is 1."""
    users, items = train.sum(axis=1), train.sum(axis=0)
    matrix = power(users, -degrees.user)[:, None] * train * power(items, -degrees.item)[None, :]
    return matrix / np.linalg.norm(matrix, 2)


def low_pass(
    train: Matrix, rank: int, degrees: DegreePowers = PAPER, bands: tuple[float, ...] = (1.0,)
) -> Matrix:
    """``D_I^-h V diag(f) Vᵀ D_I^h``, items × items."""
    _, values, right = np.linalg.svd(normalized(train, degrees), full_matrices=False)
    v = right[:rank][values[:rank] > ZERO].T
    f = [bands[index * len(bands) // rank] for index in range(v.shape[1])]
    before, after = (power(train.sum(axis=0), sign * degrees.item) for sign in (-1, 1))
    matrix: Matrix = before[:, None] * (v * f @ v.T) * after[None, :]
    return matrix


def path(field: Field, start: torch.Tensor, flow: Flow) -> torch.Tensor:
    """(steps, users, items) the states after each step."""
    times = torch.linspace(0, flow.duration, flow.steps + 1, dtype=torch.float64)
    states: torch.Tensor = odeint(field, start, times, method=flow.solver)
    return states[1:]


def scores(spec: BSPM, train: Matrix, rows: Matrix) -> Matrix:
    """Scores (users, items) of 0/1 rows."""
    degrees, items = spec.degrees, train.sum(axis=0)
    if spec.history == "normalized":
        rows = power(rows.sum(axis=1), -degrees.user)[:, None] * rows * power(items, -degrees.item)[None, :]
    scores = _unweighted(spec, train, rows)
    return scores * power(items, degrees.score) if degrees.score else scores


def _unweighted(spec: BSPM, train: Matrix, rows: Matrix) -> Matrix:
    x = torch.from_numpy(rows)
    r = normalized(train, spec.degrees)
    p = torch.from_numpy(r.T @ r)
    blurred = path(lambda t, state: state @ p - state, x, spec.blur)
    filtered = torch.zeros_like(x)
    if spec.low_pass is not None:
        rank, flow = spec.low_pass.rank, spec.low_pass.flow
        m = torch.from_numpy(low_pass(train, rank, spec.degrees))
        bands = torch.from_numpy(low_pass(train, rank, spec.degrees, spec.low_pass.bands))
        # The process goes to a·x + b·x·M; bands are weights in its second part.
        first_part = path(lambda t, state: -state, x, flow)[-1]
        second_part = path(lambda t, state: state @ m - state, x, flow)[-1] - first_part
        filtered = spec.low_pass.weight * (first_part + second_part @ bands)
    if spec.sharpen is None:
        out = blurred.mean(dim=0) if spec.output == "mean" else blurred[-1]
        return (out + filtered).numpy()
    start = blurred[-1] + filtered if spec.merge == "early" else blurred[-1]
    sharpened = path(lambda t, state: -state @ p, start, spec.sharpen)
    out = torch.cat([blurred, sharpened]).mean(dim=0) if spec.output == "mean" else sharpened[-1]
    return (out if spec.merge == "early" else out + filtered).numpy()
