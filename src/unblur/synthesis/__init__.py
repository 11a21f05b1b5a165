"""Synthetic interactions: users that never were, from SDRM, its autoencoder, and simpler samplers."""

from __future__ import annotations

from unblur.privacy.accountant import Privacy as Privacy
from unblur.synthesis.sdrm import SDRM as SDRM
from unblur.synthesis.sdrm import MultiVAE as MultiVAE
from unblur.synthesis.settings import Discretization as Discretization
from unblur.synthesis.settings import LatentDiffusion as LatentDiffusion
from unblur.synthesis.settings import UserStopping as UserStopping
from unblur.synthesis.settings import VariationalAutoencoder as VariationalAutoencoder
