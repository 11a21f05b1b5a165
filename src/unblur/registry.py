"""The kinds of specs that recipes and saved models may name; a file can never name an import path."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from unblur.errors import SpecError, nearest

RECOMMENDERS = {
    "bspm": "unblur.spectral.bspm:BSPM",
    "diffrec": "unblur.diffusion.diffrec:DiffRec",
    "ease": "unblur.baselines.ease:EASE",
    "l-diffrec": "unblur.diffusion.latent_diffrec:LatentDiffRec",
    "popularity": "unblur.baselines.popularity:Popularity",
}
"""Kind → module and class of each recommender spec."""


def recommender_spec(kind: str) -> type[Any]:
    """The spec class of a kind. Raises `SpecError`, with the nearest name, for a kind that there is not."""
    if kind not in RECOMMENDERS:
        raise SpecError(
            f"The kind of a model must be one of {', '.join(sorted(RECOMMENDERS))}; saw {kind!r}."
            f"{nearest(kind, RECOMMENDERS)}"
        )
    module, _, name = RECOMMENDERS[kind].partition(":")
    loaded: type[Any] = getattr(import_module(module), name)
    return loaded
