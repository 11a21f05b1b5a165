"""Specs that train in a moment, data for them, and checks of fitted models."""

from __future__ import annotations

import numpy as np

from tests.models.diffusion.generated import communities
from unblur.data.interactions import Interactions
from unblur.models.diffusion.diffrec import DiffRec, LatentDiffRec
from unblur.models.diffusion.settings import Autoencoder, Denoiser, ItemClusters
from unblur.recommender import Recommender
from unblur.spec import spec_from_dict, spec_to_dict
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


def check_training(spec: DiffRec | LatentDiffRec, data: Interactions) -> None:
    """The spec is read as it was written, its losses and scores are finite, and a user's scores do not depend on who is scored."""
    assert spec_from_dict(type(spec), spec_to_dict(spec)) == spec
    run = spec.training(data, rng=0)
    assert np.isfinite([report.loss for report in run.epochs()]).all()
    model = run.fitted()
    scores = model.score(data)
    assert scores.shape == (data.n_users, data.n_items)
    assert np.isfinite(scores).all()
    one_by_one = np.concatenate([model.score(data.take_users([row])) for row in (0, 7, 50)])
    np.testing.assert_allclose(one_by_one, scores[[0, 7, 50]], rtol=1e-4, atol=1e-5 * np.abs(scores).max())
