"""Curves that pages draw, computed from models and lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from unblur.models.spectral.bspm import BSPM

Curve = tuple[tuple[float, float], ...]


def concentration(counts: NDArray[Any], order: NDArray[Any], points: int = 40) -> Curve:
    """(share of the catalogue, share of `counts` on it), items in `order`: where the mass lies, most popular first."""
    summed = np.concatenate(([0.0], np.cumsum(counts[order])))
    places = np.unique(np.round(np.linspace(0, 1, points) ** 2 * len(order)).astype(int))
    total = summed[-1] or 1.0
    return tuple((float(place / len(order)), float(summed[place] / total)) for place in places)


def filter_response(spec: Any) -> dict[str, Curve]:
    """What a BSPM multiplies each eigenvector by, over eigenvalues 0 … 1; empty for any other model."""
    if getattr(spec, "kind", "") != "bspm":
        return {}
    from unblur.models.spectral.response import response

    model: BSPM = spec
    eigenvalues = np.linspace(0.0, 1.0, 81)
    outside, extra = response(model, eigenvalues)
    drawn = {"outside the low-pass": outside}
    if model.low_pass is not None:
        drawn = {"within the low-pass": outside + extra, **drawn}
    return {
        name: tuple((float(x), float(y)) for x, y in zip(eigenvalues, factor, strict=True))
        for name, factor in drawn.items()
    }
