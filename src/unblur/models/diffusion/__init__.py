"""Trained diffusion: DiffRec on rows of items, L-DiffRec on latents, and their pieces."""

from __future__ import annotations

from unblur.models.diffusion.diffrec import DiffRec as DiffRec, LatentDiffRec as LatentDiffRec
from unblur.models.diffusion.schedule import Schedule as Schedule
from unblur.models.diffusion.settings import (
    Autoencoder as Autoencoder,
    Denoiser as Denoiser,
    GraphEmbeddings as GraphEmbeddings,
    ItemClusters as ItemClusters,
    Objective as Objective,
    Sampling as Sampling,
    TimeWeights as TimeWeights,
)
from unblur.training.settings import Optimizer as Optimizer, Stopping as Stopping
