"""Checkpoints: a resumed training ends in the same bytes, and what does not match or is damaged is refused."""

from __future__ import annotations

import errno
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.models.diffusion.generated import communities
from tests.models.diffusion.trainable import DATA, ITEMS, LATENT, same_bytes
from unblur.errors import ArtifactError
from unblur.progress import ProgressEvent, Run
from unblur.saving import container
from unblur.training.settings import Optimizer


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "rmsprop", "sgd"])
@pytest.mark.parametrize("spec", [ITEMS, LATENT])
def test_a_resumed_training_equals_an_uninterrupted_one(spec: Any, optimizer: Any, tmp_path: Path) -> None:
    rate = 1e-6 if optimizer == "sgd" else 0.01
    spec = replace(spec, optimizer=Optimizer(name=optimizer, learning_rate=rate))
    uninterrupted = spec.fit(DATA, rng=5)
    for stop in (1, 3, 4, 7):
        folder = tmp_path / f"{stop}"
        for _ in itertools.islice(spec.training(DATA, rng=5, run=Run(checkpoints=folder)).epochs(), stop):
            pass
        resumed = spec.training(DATA, rng=5, run=Run(checkpoints=folder))
        assert resumed.epoch == stop - stop % 2
        reports = list(resumed.epochs())
        assert [report.epoch for report in resumed.history] == list(range(1, resumed.epoch + 1))
        assert len(reports) == resumed.epoch - (stop - stop % 2)
        assert same_bytes(resumed.fitted(), uninterrupted)
        assert sorted(entry.name for entry in folder.iterdir()) == ["epoch-00006", "epoch-00008"]


def test_the_last_epoch_is_kept_whatever_its_number(tmp_path: Path) -> None:
    """So a finished training is not repeated."""
    spec = replace(ITEMS, epochs=7)  # every second epoch is kept
    uninterrupted = spec.training(DATA, rng=5, run=Run(checkpoints=tmp_path / "state"))
    assert [report.epoch for report in uninterrupted.epochs()] == list(range(1, 8))
    resumed = spec.training(DATA, rng=5, run=Run(checkpoints=tmp_path / "state"))
    assert resumed.epoch == 7
    assert list(resumed.epochs()) == []
    assert same_bytes(resumed.fitted(), uninterrupted.fitted())


def test_an_exception_of_the_observer_ends_training_and_it_can_be_resumed(tmp_path: Path) -> None:
    uninterrupted = ITEMS.fit(DATA, rng=5)

    def interrupt(event: ProgressEvent) -> None:
        if event.stage == "train" and event.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ITEMS.fit(DATA, rng=5, checkpoints=tmp_path, progress=interrupt)
    assert same_bytes(ITEMS.fit(DATA, rng=5, checkpoints=tmp_path), uninterrupted)


def test_without_a_seed_a_run_resumes_with_its_own(tmp_path: Path) -> None:
    first = ITEMS.training(DATA, run=Run(checkpoints=tmp_path))
    next(iter(itertools.islice(first.epochs(), 2, 3)))
    second = ITEMS.training(DATA, run=Run(checkpoints=tmp_path))
    assert second.seed == first.seed
    assert second.epoch == 2


def test_checkpoints_of_another_run_are_refused(tmp_path: Path) -> None:
    ITEMS.fit(DATA, rng=5, checkpoints=tmp_path)
    with pytest.raises(ArtifactError, match=r"spec\.batch_size: 50 there, 60 here"):
        replace(ITEMS, batch_size=60).fit(DATA, rng=5, checkpoints=tmp_path)
    with pytest.raises(ArtifactError, match="train"):
        ITEMS.fit(communities(seed=1), rng=5, checkpoints=tmp_path)
    with pytest.raises(ArtifactError, match="seed"):
        ITEMS.fit(DATA, rng=6, checkpoints=tmp_path)
    with pytest.raises(ArtifactError, match="kind"):
        LATENT.fit(DATA, rng=5, checkpoints=tmp_path)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    uninterrupted = ITEMS.fit(DATA, rng=5, checkpoints=tmp_path)
    (tmp_path / "epoch-00008" / "tensors.safetensors").write_bytes(b"broken")
    resumed = ITEMS.training(DATA, rng=5, run=Run(checkpoints=tmp_path))
    assert resumed.epoch == 6
    list(resumed.epochs())
    assert same_bytes(resumed.fitted(), uninterrupted)
    for name in ("epoch-00006", "epoch-00008"):
        (tmp_path / name / "tensors.safetensors").write_bytes(b"broken")
    with pytest.raises(ArtifactError):
        ITEMS.fit(DATA, rng=5, checkpoints=tmp_path)


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ITEMS.training(DATA, rng=5, run=Run(checkpoints=tmp_path))
    list(itertools.islice(run.epochs(), 5))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(container, "write_tensors", full)
        with pytest.raises(ArtifactError, match="No space left"):
            list(run.epochs())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["epoch-00002", "epoch-00004"]
    assert same_bytes(ITEMS.fit(DATA, rng=5, checkpoints=tmp_path), ITEMS.fit(DATA, rng=5))
