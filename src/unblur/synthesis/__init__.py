"""Synthetic interactions: users that never were, from SDRM, its autoencoder, and simpler samplers."""

from __future__ import annotations

from unblur.privacy.accountant import Privacy as Privacy
from unblur.synthesis.sdrm import SDRM as SDRM, MultiVAE as MultiVAE
from unblur.synthesis.settings import (
    Discretization as Discretization,
    LatentDiffusion as LatentDiffusion,
    UserStopping as UserStopping,
    VariationalAutoencoder as VariationalAutoencoder,
)
