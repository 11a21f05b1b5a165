from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.diffusion.generated import communities, without_times
from tests.models.diffusion.trainable import check_training
from unblur.data.splits import Random
from unblur.errors import ArtifactError, DataError, SpecError
from unblur.evaluation.metrics import per_user
from unblur.models.diffusion.diffrec import LatentDiffRec
from unblur.models.diffusion.settings import Autoencoder, Denoiser, ItemClusters, TimeWeights
from unblur.models.popularity import Popularity
from unblur.progress import Run
from unblur.recommender import Recommender
from unblur.spec import replace_field
from unblur.training.settings import Optimizer, Stopping

RATE = Optimizer(learning_rate=0.01)
QUICK = LatentDiffRec(
    clusters=ItemClusters(count=2, embedding_size=8),
    autoencoder=Autoencoder(encoder_dims=(12,), optimizer=RATE),
    denoiser=Denoiser(dims=(12,)),
    stopping=Stopping(every=2, patience=4, metric="recall@5"),
    batch_size=64,
    epochs=4,
    optimizer=RATE,
)
DATA = communities()

OPTIONS: dict[str, Any] = {
    "clusters.count": [1, 2, 5],
    "clusters.embeddings": ["spectral", "lightgcn"],
    "autoencoder.encoder_dims": [[12], [16, 12]],
    "autoencoder.decoder_dims": [[], [9], [9, 11]],
    "autoencoder.activation": ["tanh", "relu", "sigmoid", "leaky_relu"],
    "autoencoder.dropout": [0.0, 0.1, 0.5],
    "autoencoder.sample_latent": [True, False],
    "autoencoder.diffusion_weight": [0.0, 0.03, 0.05],
    "autoencoder.least_diffusion_weight": [0.0, 0.005],
    "autoencoder.diffusion_decay": [0, 3, 1000],
    "autoencoder.decay_unit": ["epochs", "batches"],
    "autoencoder.kl_weight": [0.0, 0.3],
    "autoencoder.kl_batches": [0, 200],
    "autoencoder.optimizer.name": ["adamw", "adam", "sgd"],
    "autoencoder.optimizer.weight_decay": [0.1],
    "schedule.name": ["linear", "linear-var", "cosine", "binomial"],
    "schedule.steps": [1, 5, 40],
    "schedule.scale": [0.0, 0.1, 0.5],
    "schedule.fixed_first": [True, False],
    "denoiser.dims": [[8, 12]],
    "denoiser.normalize": [True],
    "objective.prediction": ["x0", "eps"],
    "objective.reweight": [True, False],
    "sampling.start_steps": [0, 2],
    "sampling.noise": [True],
    "sampling.inference_steps": [2],
    "precision": ["bfloat16"],
    "time_weights": [None, {"oldest": 0.1}],
}


@pytest.mark.parametrize(("path", "value"), [(path, value) for path in OPTIONS for value in OPTIONS[path]])
def test_every_option_trains_and_scores(path: str, value: Any) -> None:
    spec = replace_field(QUICK, path, value)
    check_training(spec, DATA)


@pytest.mark.parametrize("spec", [QUICK, replace(QUICK, clusters=ItemClusters(count=1))])
def test_the_loss_falls_and_it_learns_what_popularity_cannot(spec: LatentDiffRec) -> None:
    split = Random(fraction=0.3).apply(communities(400, 80, seed=1), rng=0)
    spec = replace(
        spec, autoencoder=Autoencoder(encoder_dims=(24,), optimizer=RATE), epochs=60, stopping=None
    )
    run = spec.training(split.train, rng=0)
    losses = [report.loss for report in run.epochs()]
    assert np.mean(losses[-5:]) < 0.95 * np.mean(losses[:5])

    def recall(model: Recommender) -> float:
        lists = model.recommend(split.histories, k=10).positions
        return float(per_user(lists, split.held_out.matrix, ["recall"], [10]).values.mean())

    assert recall(run.fitted()) > recall(Popularity().fit(split.train)) + 0.15


def test_given_embeddings_decide_the_clusters(tmp_path: Path) -> None:
    spec = replace(QUICK, clusters=ItemClusters(count=2, embeddings="given"))
    points = np.repeat([[0.0], [1.0]], [20, 40], axis=0)
    model = spec.fit_in(Run(checkpoints=tmp_path), DATA, rng=0, item_embeddings=points)
    assert model.tensors()["clusters"].tolist() == [0] * 20 + [1] * 40  # type: ignore[union-attr]
    assert model.network.autoencoder.shares == [4, 8]
    with pytest.raises(ArtifactError, match="item_embeddings"):
        spec.fit_in(Run(checkpoints=tmp_path), DATA, rng=0, item_embeddings=points + 1)


@pytest.mark.parametrize(
    "spec",
    [
        QUICK,
        replace(QUICK, time_weights=TimeWeights()),
        replace(
            QUICK,
            autoencoder=Autoencoder(encoder_dims=(9, 8), decoder_dims=(7,)),
            clusters=ItemClusters(count=3),
        ),
    ],
)
def test_restored_from_its_tensors_it_scores_the_same(spec: LatentDiffRec, tmp_path: Path) -> None:
    model = spec.fit(DATA, rng=0)
    restored = type(model).from_tensors(spec, model.items, model.columns(), model.tensors(), "cpu")
    assert np.array_equal(restored.score(DATA), model.score(DATA))
    model.save(tmp_path / "model")


def test_timed_models_need_times() -> None:
    timed = replace(QUICK, time_weights=TimeWeights())
    assert timed.fit(DATA, rng=0).needs_timestamps
    with pytest.raises(DataError, match="timestamps"):
        timed.fit(without_times(DATA), rng=0)


def test_bad_input_is_refused() -> None:
    with pytest.raises(SpecError, match="n_cate"):
        replace(QUICK, clusters=ItemClusters(count=61)).fit(DATA, rng=0)
    with pytest.raises(SpecError, match="encoder_dims"):
        replace(QUICK, clusters=ItemClusters(count=20)).fit(DATA, rng=0)
    with pytest.raises(DataError, match="60 items"):
        replace(QUICK, clusters=ItemClusters(count=2, embeddings="given")).fit_in(
            Run(), DATA, rng=0, item_embeddings=np.zeros((59, 4))
        )
    with pytest.raises(SpecError, match="encoder_dims"):
        Autoencoder(encoder_dims=())
