from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unblur
from tests.models.diffusion.generated import communities, without_times
from tests.models.diffusion.trainable import LATENT, check_training
from unblur.data.interactions import Interactions
from unblur.data.splits import Random
from unblur.errors import DataError, OutdatedWarning, SpecError, VocabularyMismatch
from unblur.evaluation.metrics import per_user
from unblur.models.diffusion.diffrec import DiffRec
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import Denoiser, Objective, Sampling, TimeWeights
from unblur.models.popularity import Popularity
from unblur.recommender import Recommender
from unblur.spec import replace_field, spec_from_dict, spec_to_dict
from unblur.training.settings import Optimizer, Stopping

QUICK = DiffRec(
    denoiser=Denoiser(dims=(12,)),
    stopping=Stopping(every=2, patience=4, metric="recall@5"),
    batch_size=64,
    epochs=4,
    optimizer=Optimizer(learning_rate=0.01),
)
DATA = communities()

OPTIONS: dict[str, Any] = {
    "schedule.name": ["linear", "linear-var", "cosine", "binomial"],
    "schedule.steps": [1, 2, 5, 50],
    "schedule.scale": [0.0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1],
    "schedule.noise_min": [1e-4, 1e-3],
    "schedule.noise_max": [0.001, 0.01],
    "schedule.fixed_first": [True, False],
    "denoiser.dims": [[16], [8, 12], [6, 8, 10]],
    "denoiser.layout": ["hourglass", "straight"],
    "denoiser.activation": [
        *("tanh", "relu", "sigmoid", "leaky_relu", "elu", "gelu", "silu", "softplus", "identity"),
    ],
    "denoiser.dropout": [0.0, 0.5],
    "denoiser.normalize": [True, False],
    "denoiser.embedding_size": [1, 7, 10],
    "objective.prediction": ["x0", "eps"],
    "objective.reweight": [True, False],
    "objective.timestep_sampler": ["importance", "uniform"],
    "objective.history": [1, 10],
    "objective.uniform_probability": [0.001, 1.0],
    "sampling.start_steps": [0, 1, 5],
    "sampling.noise": [True, False],
    "sampling.inference_steps": [None, 1, 3],
    "optimizer.name": ["adamw", "adam", "sgd"],
    "optimizer.weight_decay": [0.0, 0.1],
    "optimizer.clip_norm": [None, 1.0],
    "optimizer.epsilon": [1e-8, 1e-3],
    "precision": ["float32", "bfloat16"],
    "stopping.hold_out": ["random", "last"],
    "stopping.metric": ["recall@5", "ndcg@10", "mrr@10", "map@3", "hit_rate@1", "precision@5"],
    "time_weights": [None, {"oldest": 0.1, "newest": 1.0}, {"oldest": 0.5, "newest": 1.0}],
}


@pytest.mark.parametrize(("path", "value"), [(path, value) for path in OPTIONS for value in OPTIONS[path]])
def test_every_option_trains_and_scores(path: str, value: Any) -> None:
    spec = replace_field(QUICK, path, value)
    check_training(spec, DATA)


@pytest.mark.parametrize("prediction", ["x0", "eps"])
@pytest.mark.parametrize("reweight", [True, False])
@pytest.mark.parametrize("name", ["linear", "linear-var", "cosine", "binomial"])
def test_the_loss_falls_under_every_objective(name: str, reweight: bool, prediction: str) -> None:
    spec = replace(
        QUICK,
        schedule=Schedule(name=name, scale=1.0, noise_min=0.01, noise_max=0.2, fixed_first=False),
        objective=Objective(prediction=prediction, reweight=reweight, timestep_sampler="uniform"),
        denoiser=Denoiser(dims=(32,), dropout=0.0),
        stopping=None,
        epochs=40,
    )
    losses = [report.loss for report in spec.training(DATA, rng=0).epochs()]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_it_learns_what_popularity_cannot() -> None:
    data = communities(400, 80, seed=1)
    split = Random(fraction=0.3).apply(data, rng=0)
    spec = replace(QUICK, denoiser=Denoiser(dims=(40,)), epochs=60, stopping=None)

    def recall(model: Recommender) -> float:
        lists = model.recommend(split.histories, k=10).positions
        return float(per_user(lists, split.held_out.matrix, ["recall"], [10]).values.mean())

    assert recall(spec.fit(split.train, rng=0)) > recall(Popularity().fit(split.train)) + 0.2


def test_order_in_time_changes_scores_of_the_timed_model_only() -> None:
    assert DATA.timestamps is not None
    reversed_log = Interactions(DATA.matrix, DATA.users, DATA.items, -DATA.timestamps)
    plain = QUICK.fit(DATA, rng=0)
    timed = replace(QUICK, time_weights=TimeWeights()).fit(DATA, rng=0)
    assert np.array_equal(plain.score(DATA), plain.score(reversed_log))
    assert np.abs(timed.score(DATA) - timed.score(reversed_log)).max() > 1e-4
    assert plain.score(without_times(DATA)).shape == (DATA.n_users, DATA.n_items)
    assert timed.needs_timestamps
    assert not plain.needs_timestamps


def test_timed_models_refuse_data_without_times() -> None:
    timed = replace(QUICK, time_weights=TimeWeights())
    with pytest.raises(DataError, match="timestamps"):
        timed.fit(without_times(DATA), rng=0)
    with pytest.raises(DataError, match="timestamps"):
        timed.fit(DATA, rng=0).score(without_times(DATA))


@pytest.mark.parametrize(
    "spec",
    [
        QUICK,
        replace(QUICK, time_weights=TimeWeights()),
        replace(QUICK, sampling=Sampling(start_steps=2, noise=True)),
        replace(QUICK, denoiser=Denoiser(dims=(6, 9, 7), layout="straight")),
    ],
)
def test_restored_from_its_tensors_it_scores_the_same(spec: DiffRec, tmp_path: Path) -> None:
    model = spec.fit(DATA, rng=0)
    restored = type(model).from_tensors(spec, model.items, model.columns(), model.tensors(), "cpu")
    assert np.array_equal(restored.score(DATA), model.score(DATA))
    model.save(tmp_path / "model")
    assert (tmp_path / "model" / "manifest.json").is_file()


@pytest.mark.parametrize("spec", [QUICK, LATENT])
def test_a_model_saved_with_a_tolerance_loads_and_scores_at_every_step(
    spec: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = spec.fit(DATA, rng=0)
    earlier = {**model.tensors(), "shortened.weights": np.eye(3), "shortened.gains.0": np.ones((3, 12))}
    with monkeypatch.context() as patched:
        patched.setattr(type(model), "tensors", lambda self: earlier)
        model.save(tmp_path / "model")
    loaded = unblur.load(tmp_path / "model")
    assert loaded.tensors().keys() == model.tensors().keys()
    table = {**spec_to_dict(spec), "sampling": {"start_steps": 0, "tolerance": 0.01}}
    with pytest.warns(OutdatedWarning, match=r"sampling\.tolerance is gone, and its value 0\.01 is left out"):
        assert spec_from_dict(type(spec), table) == spec
    assert np.array_equal(loaded.score(DATA), model.score(DATA))


def test_new_users_empty_histories_and_unknown_items() -> None:
    model = QUICK.fit(DATA, rng=0)
    new = Interactions.from_pairs([0, 0, 1], [3, 5, 59], user_vocabulary=None, item_vocabulary=DATA.items)
    assert model.recommend(new, k=5).positions.shape == (2, 5)
    empty = DATA.keep(np.zeros(DATA.n_interactions, dtype=bool)).take_users([0])
    expected = DATA.item_degrees / DATA.item_degrees.max()
    assert model.score(empty)[0].tolist() == pytest.approx(expected.astype(np.float32).tolist())
    with pytest.raises(VocabularyMismatch):
        model.score(Interactions.from_pairs([0], [1]))


def test_users_without_interactions_are_not_trained_on() -> None:
    idle = DATA.keep(DATA.rows() % 2 == 0)
    run = replace(QUICK, stopping=None, epochs=1).training(idle, rng=0)
    assert run.learner.n_rows == int((idle.user_degrees > 0).sum()) < idle.n_users


def test_bad_specs_are_refused() -> None:
    with pytest.raises(SpecError, match="sampling_steps"):
        DiffRec(schedule=Schedule(steps=3), sampling=Sampling(start_steps=4))
    with pytest.raises(SpecError, match="epochs"):
        DiffRec(epochs=0)
    with pytest.raises(SpecError, match="Did you mean 'schedule'"):
        spec_from_dict(DiffRec, {"scedule": {}})
    with pytest.raises(SpecError, match="dims"):
        replace_field(QUICK, "denoiser.dims", [])


def test_bad_data_are_refused() -> None:
    empty = DATA.keep(np.zeros(DATA.n_interactions, dtype=bool))
    with pytest.raises(DataError, match="interactions to train on"):
        QUICK.fit(empty, rng=0)
    with pytest.raises(SpecError, match="noise"):
        replace(QUICK, objective=Objective(prediction="eps"), schedule=Schedule(scale=0.0)).fit(DATA, rng=0)
    with pytest.raises(DataError, match="stopping"):
        replace(QUICK, stopping=None).fit(DATA, rng=0, validation=DATA)


def test_weights_of_another_shape_are_refused() -> None:
    model = QUICK.fit(DATA, rng=0)
    wider = replace(QUICK, denoiser=Denoiser(dims=(13,)))
    with pytest.raises(ValueError, match="size mismatch"):
        replace(model, spec=wider)


def test_a_metric_that_cannot_stop_training_is_refused_with_the_spec() -> None:
    with pytest.raises(SpecError, match="recall"):
        replace_field(QUICK, "stopping.metric", "recal@20")
