"""`--checkpoints` of `run` and `fit`: an interrupted training is resumed and ends in the same bytes."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import COLUMNS, Unblur
from unblur import experiment
from unblur.errors import ArtifactError, RecipeError
from unblur.experiment import running as workers
from unblur.experiment.recipe.library import load_recipe
from unblur.training.loop import Training

RECIPE = """
schema = 1
name = "ours/log"
seed = 3
[data.read]
user = "who"
item = "what"
[split]
kind = "leave-last"
n = 2
[model]
kind = "diffrec"
epochs = 6
batch_size = 8
denoiser.dims = [8]
stopping.every = 1
stopping.patience = 50
stopping.metric = "recall@5"
[protocol]
cutoffs = [5]
metrics = ["recall"]
resamples = 0
"""


def measured(folder: Path) -> list[object]:
    return [entry["value"] for entry in json.loads((folder / "report.json").read_text())["measurements"]]


def weights(model: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in model.rglob("*.safetensors")}


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread, as processes do that share two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def interrupted_after(monkeypatch: pytest.MonkeyPatch, epochs: int) -> list[int]:
    """Interrupt training after that many epochs. Return the list of the epochs that were trained."""
    trained: list[int] = []
    original = Training.epochs

    def epochs_until(self: Training) -> object:
        for report in original(self):
            trained.append(report.epoch)
            if len(trained) == epochs:
                raise KeyboardInterrupt
            yield report

    monkeypatch.setattr(Training, "epochs", epochs_until)
    return trained


def test_an_interrupted_run_is_resumed(unblur: Unblur, recipe: Path, events: Path, tmp_path: Path) -> None:
    whole, again, state = tmp_path / "whole", tmp_path / "again", tmp_path / "state"
    words = ("run", recipe, "--data", events, "--seeds", "2")
    assert unblur(*words, "--out", whole).code == 0
    with pytest.MonkeyPatch.context() as patch:
        first = interrupted_after(patch, 8)  # 6 epochs of the first seed, 2 of the second
        stopped = unblur(*words, "--out", again, "--checkpoints", state)
        assert stopped.code == 130
        assert not again.exists()
    assert first == [1, 2, 3, 4, 5, 6, 1, 2]
    assert {path.name for path in state.iterdir()} == {"seed-3", "seed-4"}
    with pytest.MonkeyPatch.context() as patch:
        second = interrupted_after(patch, 1000)
        resumed = unblur(*words, "--out", again, "--checkpoints", state)
    assert resumed.code == 0, resumed.err
    assert len(second) <= 5  # nothing of the first seed, and of the second what was not kept
    assert measured(again) == measured(whole)
    assert weights(again / "model") == weights(whole / "model")
    assert weights(whole / "model")


def test_an_interrupted_fit_is_resumed(unblur: Unblur, recipe: Path, events: Path, tmp_path: Path) -> None:
    words = ("fit", events, "--model", recipe, *COLUMNS)
    assert unblur(*words, "--out", tmp_path / "whole").code == 0
    with pytest.MonkeyPatch.context() as patch:
        interrupted_after(patch, 3)
        stopped = unblur(*words, "--out", tmp_path / "again", "--checkpoints", tmp_path / "state")
        assert stopped.code == 130
    resumed = unblur(*words, "--out", tmp_path / "again", "--checkpoints", tmp_path / "state")
    assert resumed.code == 0, resumed.err
    assert weights(tmp_path / "again") == weights(tmp_path / "whole")


def test_another_run_s_checkpoints_are_refused(
    unblur: Unblur, recipe: Path, events: Path, tmp_path: Path
) -> None:
    words = ("run", recipe, "--data", events, "--checkpoints", tmp_path / "state")
    assert unblur(*words).code == 0
    refused = unblur(*words, "--set", "model.batch_size=4")
    assert refused.code == 2
    assert "continues only the run it came from" in refused.err
    assert "batch_size" in refused.err


@pytest.mark.parametrize("command", ["run", "fit"])
def test_a_model_without_epochs_is_refused(
    unblur: Unblur, recipe: Path, events: Path, tmp_path: Path, command: str
) -> None:
    words = {
        "run": ("run", "ease/demo", "--data", events),
        "fit": ("fit", events, "--model", "ease", *COLUMNS, "--out", tmp_path / "m"),
    }[command]
    refused = unblur(*words, "--checkpoints", tmp_path / "state")
    assert refused.code == 2
    assert "ease is not" in refused.err
    assert not (tmp_path / "state").exists()


def test_seeds_in_parallel_give_the_same(unblur: Unblur, recipe: Path, events: Path, tmp_path: Path) -> None:
    serial, parallel, state = tmp_path / "one", tmp_path / "beside", tmp_path / "state"
    words = ("run", recipe, "--data", events, "--seeds", "3")
    with one_thread():
        assert unblur(*words, "--out", serial).code == 0
        result = unblur(*words, "--out", parallel, "--workers", "2", "--checkpoints", state)
    assert result.code == 0, result.err
    assert measured(parallel) == measured(serial)
    assert weights(parallel / "model") == weights(serial / "model")
    assert {path.name for path in state.iterdir()} == {"seed-3", "seed-4", "seed-5"}
    report = json.loads((parallel / "report.json").read_text())
    assert any(note.startswith("2 seeds were trained at a time") for note in report["notes"])
    assert report["timings"]["fit_seconds"] > 0


def test_an_error_in_a_process_is_that_of_the_command(
    unblur: Unblur, recipe: Path, events: Path, tmp_path: Path
) -> None:
    words = ("run", recipe, "--data", events, "--seeds", "2", "--workers", "2", "--out", tmp_path / "out")
    failed = unblur(*words, "--set", "model.optimizer.learning_rate=1e38")
    assert failed.code == 2
    assert "must be finite" in failed.err
    assert not (tmp_path / "out").exists()


def killed(*arguments: object) -> None:
    os.abort()


def test_a_killed_process_is_an_error_and_its_checkpoints_stay(
    recipe: Path, events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_run_seed_in_process", killed)
    with pytest.raises(ArtifactError, match="has ended earlier"):
        experiment.run(
            load_recipe(recipe),
            data=events,
            seeds=2,
            workers=2,
            checkpoints=tmp_path / "state",
            out=tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()
    with pytest.raises(RecipeError, match="at least 1 seed and 1 worker; saw 0 and 2"):
        experiment.run(load_recipe(recipe), data=events, seeds=0, workers=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workers", "2"), "there is only one seed"),
        (("--workers", "2", "--seeds", "2", "--set", "model.kind=ease"), "ease is not trained by epochs"),
    ],
)
def test_workers_without_several_trainings_are_refused(
    unblur: Unblur, recipe: Path, events: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    if "model.kind=ease" in words:
        text = recipe.read_text()
        recipe.write_text(
            text[: text.index("[model]")] + '[model]\nkind = "ease"\n' + text[text.index("[protocol]") :]
        )
        words = words[:4]
    refused = unblur("run", recipe, "--data", events, "--out", tmp_path / "out", *words)
    assert refused.code == 2
    assert message in " ".join(refused.err.split())
    assert not (tmp_path / "out").exists()
