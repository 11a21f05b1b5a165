"""The record of a training: the epochs of the first seed, on the page too."""

from pathlib import Path

from unblur import experiment
from unblur.data.catalogue.generation import demo_interactions
from unblur.data.files import write_parquet
from unblur.experiment.recipe.library import load_recipe
from unblur.experiment.task import TrainingLog
from unblur.progress import ProgressEvent, silent


def test_a_log_keeps_the_epochs_of_the_last_training_and_passes_everything_on() -> None:
    passed: list[ProgressEvent] = []
    log = TrainingLog(passed.append)
    events = [
        ProgressEvent("train", 1, 9, {"loss": 3.0}, kind="epoch"),
        ProgressEvent("train, epoch 2", 4, 8, {"loss": 2.9}, kind="batch"),
        ProgressEvent("train", 2, 9, {"loss": 2.0, "recall@20": 0.1}, kind="epoch", metric="recall@20"),
        ProgressEvent("train", 7, 9, {"loss": 1.0}, kind="epoch", part="the autoencoder"),
        ProgressEvent("score users", 5, 5),
    ]
    for event in events:
        log(event)
    assert log.epochs == [(1.0, 3.0, None), (2.0, 2.0, 0.1)]
    assert passed == events
    log(ProgressEvent("train", 1, 9, {"loss": 5.0}, kind="epoch"))
    assert log.epochs == [(1.0, 5.0, None)]


def test_the_page_of_a_trained_model_shows_its_training(tmp_path: Path) -> None:
    log = tmp_path / "log.parquet"
    write_parquet(demo_interactions(n_users=120, n_items=60, rng=2).to_frame().select("user", "item"), log)
    recipe = load_recipe("diffrec/ml-100k").changed(
        {
            "model.epochs": 4,
            "model.denoiser.dims": [8],
            "model.stopping.every": 2,
            "model.stopping.patience": 2,
        }
    )
    prepared = experiment.prepare(recipe, data=log)
    outcome = experiment.measure(prepared, progress=silent)
    assert [epoch for epoch, _, _ in outcome.training] == [1, 2, 3, 4][: len(outcome.training)]
    assert len(outcome.training) >= 2
    assert outcome.training[1][2] is not None
    experiment.write_folder(tmp_path / "run", outcome)
    assert (
        f"Training loss of {len(outcome.training)} epochs" in (tmp_path / "run" / "report.html").read_text()
    )
