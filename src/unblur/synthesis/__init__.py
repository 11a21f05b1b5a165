"""Synthetic users, from SDRM, its autoencoder and simpler samplers. Each name is loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unblur.registry import lazily

if TYPE_CHECKING:
    from unblur.privacy.accountant import Privacy as Privacy
    from unblur.synthesis.autoencoder import (
        UserStopping as UserStopping,
        VariationalAutoencoder as VariationalAutoencoder,
    )
    from unblur.synthesis.discretization import Discretization as Discretization
    from unblur.synthesis.latent_diffusion import LatentDiffusion as LatentDiffusion
    from unblur.synthesis.sdrm import SDRM as SDRM, VAESampler as VAESampler

_HOMES = {
    "Discretization": "unblur.synthesis.discretization",
    "LatentDiffusion": "unblur.synthesis.latent_diffusion",
    "Privacy": "unblur.privacy.accountant",
    "SDRM": "unblur.synthesis.sdrm",
    "UserStopping": "unblur.synthesis.autoencoder",
    "VAESampler": "unblur.synthesis.sdrm",
    "VariationalAutoencoder": "unblur.synthesis.autoencoder",
}
__all__ = [*_HOMES]
__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
