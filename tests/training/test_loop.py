"""The training loop: stopping, the best weights, divergence, progress, and the same bytes for a seed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.diffusion.trainable import DATA, ITEMS, LATENT, same_bytes
from unblur.data.splits import Random
from unblur.errors import CapabilityError, SpecError
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import Denoiser, Objective
from unblur.progress import ProgressEvent
from unblur.training.checkpoints import CheckpointFolder
from unblur.training.loop import DivergedTraining, Moment, Training, make_optimizer
from unblur.training.settings import Optimizer, Plan, Stopping


@pytest.mark.parametrize("spec", [ITEMS, LATENT])
def test_the_loss_falls(spec: Any) -> None:
    losses = [report.loss for report in spec.training(DATA, rng=0).epochs()]
    assert np.mean(losses[-3:]) < 0.8 * losses[0] if spec is ITEMS else losses[-1] < losses[0]


@pytest.mark.parametrize("spec", [ITEMS, LATENT])
def test_the_same_seed_gives_the_same_bytes(spec: Any) -> None:
    before = torch.get_rng_state()
    one, two, three = (spec.fit(DATA, rng=seed) for seed in (3, 3, 4))
    assert same_bytes(one, two)
    assert not same_bytes(one, three)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_caller_may_stop_and_take_the_best_so_far() -> None:
    run = ITEMS.training(DATA, rng=0)
    for report in run.epochs():
        if report.epoch == 4:
            break
    assert run.epoch == 4
    assert run.best is not None
    assert run.best.validation == max(r.validation for r in run.history if r.validation is not None)
    assert np.isfinite(run.fitted().score(DATA)).all()


class Scripted:
    """A learner that records its moments, with the losses of a script."""

    def __init__(self, losses: Sequence[float] = ()) -> None:
        self.module: nn.Module = nn.Linear(2, 1)
        self.losses, self.n_rows, self.fits = list(losses), 10, 0
        self.moments: list[Moment] = []

    @property
    def groups(self) -> list[tuple[nn.Module, Optimizer]]:
        return [(self.module, Optimizer(name="sgd"))]

    def loss(self, rows: torch.Tensor, moment: Moment, generator: torch.Generator) -> torch.Tensor:
        self.moments.append(moment)
        loss = self.module(torch.randn(len(rows), 2, generator=generator)).square().mean()
        return loss * (self.losses.pop(0) if self.losses else 1.0)

    def fitted(self, weights: Any) -> dict[str, Any]:
        return {name: tensor.clone() for name, tensor in weights.items()}


def test_patience_counts_epochs_since_the_best() -> None:
    values = itertools.chain([0.1, 0.3, 0.3, 0.2, 0.9], itertools.repeat(0.9))
    plan = Plan(epochs=100, batch_size=4, stopping=Stopping(every=5, patience=20))
    run = Training(Scripted(), plan, seed=0, judge=lambda _: next(values))
    reports = list(run.epochs())
    assert [(r.epoch, r.validation) for r in reports if r.best] == [(5, 0.1), (10, 0.3), (25, 0.9)]
    assert run.epoch == 44


def test_training_stops_before_the_epoch_that_would_be_too_late() -> None:
    plan = Plan(epochs=100, batch_size=4, stopping=Stopping(every=5, patience=20))
    run = Training(Scripted(), plan, seed=0, judge=lambda _: 0.5)
    assert [r.epoch for r in run.epochs()] == list(
        range(1, 25)
    )  # best at 5; the authors leave before epoch 25


def test_the_best_weights_are_kept_not_the_last() -> None:
    judged: list[dict[str, torch.Tensor]] = []

    def judge(fitted: dict[str, torch.Tensor]) -> float:
        judged.append(fitted)
        return -abs(len(judged) - 2)

    plan = Plan(epochs=12, batch_size=4, stopping=Stopping(every=1, patience=5))
    run = Training(Scripted(), plan, seed=0, judge=judge)
    list(run.epochs())
    assert all(torch.equal(run.fitted()[name], judged[1][name]) for name in judged[1])
    assert not torch.equal(judged[-1]["weight"], judged[1]["weight"])


def test_every_row_is_trained_on_once_an_epoch_and_moments_count_batches() -> None:
    learner = Scripted()
    list(Training(learner, Plan(epochs=2, batch_size=4), seed=0).epochs())
    assert learner.moments == [Moment(epoch, update) for update, epoch in enumerate([1, 1, 1, 2, 2, 2])]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_weights(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, {"seed": 1})
    learner = Scripted([1.0] * 7 + [float("nan")])
    plan = Plan(epochs=9, batch_size=4, stopping=Stopping(every=1))
    run = Training(learner, plan, seed=0, judge=lambda _: 1.0, checkpoints=folder)
    with pytest.raises(DivergedTraining, match=r"batch 2 of 3 in epoch 3 is nan.*learning rate.*Checkpoints"):
        list(run.epochs())
    assert run.epoch == 2
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["epoch-00001", "epoch-00002"]
    assert torch.isfinite(run.fitted()["weight"]).all()


def test_old_checkpoints_are_removed_and_nothing_of_anybody_elses(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, {"seed": 1})
    for epoch in range(1, 6):
        folder.write(epoch, {}, {"weight": np.zeros(epoch)})
        if epoch == 1:
            (tmp_path / "epoch-0-mine").mkdir()
        if epoch == 3:
            (tmp_path / "epoch-00003" / "notes.txt").write_text("years")
    names = ["epoch-0-mine", "epoch-00003", "epoch-00004", "epoch-00005"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == names
    assert (tmp_path / "epoch-00003" / "notes.txt").read_text() == "years"


def test_a_learning_rate_out_of_all_bounds_is_reported() -> None:
    wild = replace(
        ITEMS, optimizer=Optimizer(name="sgd", learning_rate=1e12), denoiser=Denoiser(activation="relu")
    )
    with pytest.raises(DivergedTraining, match="clip_norm"):
        wild.fit(DATA, rng=0)


def test_progress_reports_loss_metric_and_remaining_time() -> None:
    events: list[ProgressEvent] = []
    ITEMS.fit(DATA, rng=0, progress=events.append)
    epochs = [event for event in events if event.stage == "train"]
    assert [event.done for event in epochs] == list(range(1, 9))
    assert all(event.total == 8 and {"loss", "seconds_left"} <= event.values.keys() for event in epochs)
    assert ["recall@10" in event.values for event in epochs] == [False, True] * 4
    assert epochs[-1].values["seconds_left"] == 0


def test_gradients_are_clipped() -> None:
    free = ITEMS.fit(DATA, rng=0)
    clipped = replace(ITEMS, optimizer=Optimizer(name="sgd", learning_rate=1.0, clip_norm=1e-9)).fit(
        DATA, rng=0
    )
    begun = replace(ITEMS, optimizer=Optimizer(name="sgd", learning_rate=1e-30)).fit(DATA, rng=0)
    np.testing.assert_allclose(clipped.tensors()["item_in"], begun.tensors()["item_in"], atol=1e-6)
    assert np.abs(free.tensors()["item_in"] - begun.tensors()["item_in"]).max() > 1e-3


@pytest.mark.parametrize("spec", [ITEMS, LATENT])
def test_bfloat16_trains_float32_weights(spec: Any) -> None:
    rough = replace(spec, precision="bfloat16").training(DATA, rng=0)
    losses = [report.loss for report in rough.epochs()]
    exact = [report.loss for report in spec.training(DATA, rng=0).epochs()]
    assert losses[0] == pytest.approx(exact[0], rel=0.1)
    assert losses != exact
    assert losses[-1] < losses[0]
    assert all(array.dtype != np.float16 for array in rough.fitted().tensors().values())
    assert rough.fitted().score(DATA).dtype == np.float32


def test_given_validation_leaves_train_whole() -> None:
    split = Random(fraction=0.2).apply(DATA, rng=0)
    run = ITEMS.training(split.train, rng=0, validation=split.held_out)
    list(run.epochs())
    assert run.best is not None
    carved = ITEMS.training(split.train, rng=0)
    assert len(carved.learner.rows.columns) < len(run.learner.rows.columns) == split.train.n_interactions  # type: ignore[attr-defined]
    assert np.array_equal(run.fitted().item_counts, carved.fitted().item_counts)


def test_without_stopping_all_epochs_run_on_everything() -> None:
    run = replace(ITEMS, stopping=None, epochs=5).training(DATA, rng=0)
    assert [report.validation for report in run.epochs()] == [None] * 5
    assert len(run.learner.rows.columns) == DATA.n_interactions  # type: ignore[attr-defined]


def test_tensorboard_gets_the_figures(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    ITEMS.fit(DATA, rng=0, tensorboard=tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert len(events.Scalars("loss")) == 8
    assert [event.step for event in events.Scalars("validation")] == [2, 4, 6, 8]


def test_tensorboard_that_is_missing_is_a_capability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(CapabilityError, match=r"unblur\[tensorboard\]"):
        ITEMS.fit(DATA, rng=0, tensorboard=tmp_path)


def test_unavailable_devices_are_refused() -> None:
    with pytest.raises(CapabilityError, match="device"):
        ITEMS.fit(DATA, rng=0, device="warp")
    if not torch.cuda.is_available():
        with pytest.raises(CapabilityError, match="GPU"):
            ITEMS.fit(DATA, rng=0, device="cuda")


def test_rmsprop_is_the_textbook_formula() -> None:
    """v ← .99·v + .01·g², w ← w − rate·g/(√v + ε) (Tieleman and Hinton, 2012; torch's decay of .99)."""
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = make_optimizer([weight], Optimizer(name="rmsprop", learning_rate=0.1, epsilon=0.5))
    expected, square = np.array([1.0, -2.0]), np.zeros(2)
    for _ in range(3):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()
        gradient = 2 * expected
        square = 0.99 * square + 0.01 * gradient**2
        expected = expected - 0.1 * gradient / (np.sqrt(square) + 0.5)
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("spec", [ITEMS, LATENT])
def test_training_on_a_gpu_resembles_training_on_the_cpu(spec: Any) -> None:
    model = spec.fit(DATA, rng=0, device="cuda")
    assert np.isfinite(model.score(DATA)).all()
    on_cpu = type(model).from_tensors(spec, model.items, model.columns(), model.tensors(), "cpu")
    np.testing.assert_allclose(on_cpu.score(DATA), model.score(DATA), atol=1e-3)


def test_stopping_needs_patience() -> None:
    with pytest.raises(SpecError, match="patience"):
        Stopping(every=5, patience=4)


def test_uniform_steps_train_too() -> None:
    spec = replace(ITEMS, objective=Objective(timestep_sampler="uniform"), schedule=Schedule(steps=3))
    assert np.isfinite([report.loss for report in spec.training(DATA, rng=0).epochs()]).all()


def test_a_fitted_model_stays_as_it_was_while_training_continues() -> None:
    run = ITEMS.training(DATA, rng=0)
    reports = run.epochs()
    for report in reports:
        if report.best:
            break
    early = run.fitted()
    before = early.score(DATA).copy()
    list(reports)
    assert run.best is not None
    assert run.best.epoch > 2
    assert np.array_equal(early.score(DATA), before)
    assert not np.array_equal(run.fitted().score(DATA), before)
