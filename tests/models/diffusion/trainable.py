"""Specs that train in a moment, data for them, and a comparison of fitted models."""

from __future__ import annotations

import numpy as np

from tests.models.diffusion.generated import communities
from unblur.models.diffusion.diffrec import DiffRec, LatentDiffRec
from unblur.models.diffusion.settings import Autoencoder, Denoiser, ItemClusters
from unblur.recommender import Recommender
from unblur.training.settings import Optimizer, Stopping

SMALL = Denoiser(dims=(12,))
STOPPING = Stopping(every=2, patience=20, metric="recall@10")
ITEMS = DiffRec(
    denoiser=SMALL, stopping=STOPPING, batch_size=50, epochs=8, optimizer=Optimizer(learning_rate=0.01)
)
LATENT = LatentDiffRec(
    denoiser=SMALL,
    stopping=STOPPING,
    batch_size=50,
    epochs=8,
    optimizer=Optimizer(learning_rate=0.01),
    autoencoder=Autoencoder(encoder_dims=(10,)),
    clusters=ItemClusters(count=2, embedding_size=8),
)
DATA = communities()


def same_bytes(one: Recommender, other: Recommender) -> bool:
    first, second = one.tensors(), other.tensors()
    return first.keys() == second.keys() and all(
        np.asarray(first[name]).tobytes() == np.asarray(second[name]).tobytes() for name in first
    )
