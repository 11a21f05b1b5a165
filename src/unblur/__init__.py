"""unblur: diffusion-style recommenders, their data, and an honest evaluation.

Importing this package does nothing; each name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unblur.data.changes import Change as Change
    from unblur.data.interactions import Interactions as Interactions
    from unblur.data.splits import Split as Split
    from unblur.data.vocabulary import Vocabulary as Vocabulary
    from unblur.models.diffusion.diffrec import DiffRec as DiffRec, LatentDiffRec as LatentDiffRec
    from unblur.models.linear.ease import EASE as EASE
    from unblur.models.popularity import Popularity as Popularity
    from unblur.models.spectral.bspm import BSPM as BSPM, LowPass as LowPass
    from unblur.models.spectral.flow import Flow as Flow
    from unblur.ranking import Ranking as Ranking
    from unblur.recommender import Recommender as Recommender, load as load
    from unblur.synthesis.sdrm import SDRM as SDRM

__version__ = "0.2.0"

_HOMES = {
    "BSPM": "unblur.models.spectral",
    "Change": "unblur.data.changes",
    "DiffRec": "unblur.models.diffusion",
    "EASE": "unblur.models.linear.ease",
    "Flow": "unblur.models.spectral",
    "Interactions": "unblur.data.interactions",
    "LatentDiffRec": "unblur.models.diffusion",
    "LowPass": "unblur.models.spectral",
    "Popularity": "unblur.models.popularity",
    "Ranking": "unblur.ranking",
    "Recommender": "unblur.recommender",
    "SDRM": "unblur.synthesis",
    "Split": "unblur.data.splits",
    "Vocabulary": "unblur.data.vocabulary",
    "load": "unblur.recommender",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unblur' has no attribute {name!r}")
    from unblur.registry import resolve

    return resolve(f"{_HOMES[name]}:{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
