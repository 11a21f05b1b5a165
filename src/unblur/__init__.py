"""unblur: diffusion-style recommenders, their data, and an honest evaluation.

Importing this package does nothing; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unblur.artifact import load as load
    from unblur.baselines import EASE as EASE
    from unblur.baselines import Popularity as Popularity
    from unblur.diffusion import DiffRec as DiffRec
    from unblur.diffusion import LatentDiffRec as LatentDiffRec
    from unblur.interactions import Interactions as Interactions
    from unblur.ranking import Ranking as Ranking
    from unblur.recommender import Recommender as Recommender
    from unblur.spectral import BSPM as BSPM
    from unblur.spectral import Flow as Flow
    from unblur.spectral import LowPass as LowPass
    from unblur.splitting import Split as Split
    from unblur.synthesis import SDRM as SDRM
    from unblur.vocabulary import Vocabulary as Vocabulary

__version__ = "0.1.0"

_HOMES = {
    "BSPM": "unblur.spectral",
    "DiffRec": "unblur.diffusion",
    "EASE": "unblur.baselines",
    "Flow": "unblur.spectral",
    "Interactions": "unblur.interactions",
    "LatentDiffRec": "unblur.diffusion",
    "LowPass": "unblur.spectral",
    "Popularity": "unblur.baselines",
    "Ranking": "unblur.ranking",
    "Recommender": "unblur.recommender",
    "SDRM": "unblur.synthesis",
    "Split": "unblur.splitting",
    "Vocabulary": "unblur.vocabulary",
    "load": "unblur.artifact",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unblur' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
