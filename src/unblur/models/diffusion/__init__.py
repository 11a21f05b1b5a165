"""Trained diffusion: DiffRec on rows of items, L-DiffRec on latents, and their pieces."""

from __future__ import annotations

from unblur.models.diffusion.diffrec import DiffRec as DiffRec
from unblur.models.diffusion.latent_diffrec import LatentDiffRec as LatentDiffRec
from unblur.models.diffusion.schedule import Schedule as Schedule
from unblur.models.diffusion.settings import Autoencoder as Autoencoder
from unblur.models.diffusion.settings import Denoiser as Denoiser
from unblur.models.diffusion.settings import GraphEmbeddings as GraphEmbeddings
from unblur.models.diffusion.settings import ItemClusters as ItemClusters
from unblur.models.diffusion.settings import Objective as Objective
from unblur.models.diffusion.settings import Sampling as Sampling
from unblur.models.diffusion.settings import TimeWeights as TimeWeights
from unblur.training.settings import Optimizer as Optimizer
from unblur.training.settings import Stopping as Stopping
