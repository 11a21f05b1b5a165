"""Synthetic users, from SDRM, its autoencoder and simpler samplers."""

from __future__ import annotations

from unblur.privacy.accountant import Privacy as Privacy
from unblur.synthesis.autoencoder import (
    UserStopping as UserStopping,
    VariationalAutoencoder as VariationalAutoencoder,
)
from unblur.synthesis.discretization import Discretization as Discretization
from unblur.synthesis.latent_diffusion import LatentDiffusion as LatentDiffusion
from unblur.synthesis.sdrm import SDRM as SDRM, VAESampler as VAESampler
