"""Curves of what a model recommends and of what it does."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unblur.models.spectral.bspm import BSPM
from unblur.models.spectral.flow import response
from unblur.spec import Spec

Curve: TypeAlias = tuple[tuple[float, float], ...]


def concentration(counts: NDArray[Any], order: NDArray[Any], points: int = 40) -> Curve:
    """(share of the catalogue, share of `counts` on it), items in `order`: where the mass lies, most popular first."""
    summed = np.concatenate(([0.0], np.cumsum(counts[order])))
    # Most of the mass lies on the first items, so the points grow apart with the square of their number.
    places = np.unique(np.round(np.linspace(0, 1, points) ** 2 * len(order)).astype(int))
    total = summed[-1] or 1.0
    return tuple((float(place / len(order)), float(summed[place] / total)) for place in places)


def filter_response(spec: Spec) -> dict[str, Curve]:
    """What a BSPM multiplies each eigenvector by, over eigenvalues 0 … 1; empty for any other model."""
    if not isinstance(spec, BSPM):
        return {}
    eigenvalues = np.linspace(0.0, 1.0, 81)
    outside, extra = response(spec, eigenvalues)
    factors = {"outside the low-pass": outside}
    if spec.low_pass is not None:
        factors = {"within the low-pass": outside + extra, **factors}
    return {
        name: tuple((float(x), float(y)) for x, y in zip(eigenvalues, factor, strict=True))
        for name, factor in factors.items()
    }
