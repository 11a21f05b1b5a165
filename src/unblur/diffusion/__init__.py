"""Trained diffusion: DiffRec on rows of items, L-DiffRec on latents, and their pieces."""

from __future__ import annotations

from unblur.diffusion.diffrec import DiffRec as DiffRec
from unblur.diffusion.latent_diffrec import LatentDiffRec as LatentDiffRec
from unblur.diffusion.schedule import Schedule as Schedule
from unblur.diffusion.settings import Autoencoder as Autoencoder
from unblur.diffusion.settings import Denoiser as Denoiser
from unblur.diffusion.settings import ItemClusters as ItemClusters
from unblur.diffusion.settings import LightGCN as LightGCN
from unblur.diffusion.settings import Objective as Objective
from unblur.diffusion.settings import Optimizer as Optimizer
from unblur.diffusion.settings import Sampling as Sampling
from unblur.diffusion.settings import Stopping as Stopping
from unblur.diffusion.settings import TimeWeights as TimeWeights
