"""Training in few passes changes nothing but the time that it takes: against the loop that trains everything."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

from unblur.datasets import generated
from unblur.diffusion.learner import Moment
from unblur.diffusion.settings import Optimizer
from unblur.diffusion.training import DivergedTraining, Plan, Training
from unblur.interactions import Interactions
from unblur.progress import silent
from unblur.spec import replace_field
from unblur.synthesis.downstream import RowMLP, row_adam
from unblur.synthesis.downstream.row_adam import OnePass
from unblur.synthesis.downstream.row_network import Judged, RowLearner, negative_error, plain_adam
from unblur.synthesis.downstream.row_training import LOOK_EVERY, RowTraining, trained_weights

CPU = torch.device("cpu")
SPEC = RowMLP(embedding=4, dims=(48, 16), optimizer=Optimizer(name="adam", learning_rate=3e-3))


@pytest.fixture(scope="module")
def users() -> Interactions:
    return generated(240, 60, 2000, rng=0)


@pytest.fixture(params=["one pass", "torch alone"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With numba, and as it is without."""
    if request.param == "torch alone":
        monkeypatch.setattr(row_adam, "compiled", lambda: None)
    else:
        assert row_adam.compiled() is not None


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("initialization", "fan-in"),
        ("initialization", "glorot"),
        ("dropout_after", "each"),
        ("dims", (24,)),
        ("optimizer.epsilon", 1e-4),
    ],
)
def test_the_weights_are_those_of_the_loop_that_trains_everything(
    users: Interactions, name: str, value: object
) -> None:
    spec = replace_field(SPEC, name, value)
    learner = RowLearner(spec, users, 5, CPU)
    training = RowTraining(learner.network, learner.rows, spec.optimizer)
    made = trained_weights(
        training, epochs=12, batch_size=16, seed=5, patience=None, judged=None, progress=silent
    )
    learner = RowLearner(spec, users, 5, CPU)
    run = Training(learner, Plan(12, 16), seed=5)
    losses = [report.loss for report in run.epochs()]
    assert losses[-1] < losses[0]
    wanted = learner.network.state_dict()
    assert made.keys() == wanted.keys()
    for name, tensor in wanted.items():
        np.testing.assert_allclose(made[name], tensor, rtol=0.02, atol=2e-3, err_msg=name)
    rows = Judged.of(users, users.items, CPU)
    error = negative_error(learner.fitted(made), rows)
    assert error == pytest.approx(negative_error(learner.fitted(wanted), rows), abs=1e-4)
    assert training.negative_error(rows) == pytest.approx(error, abs=1e-6)


@pytest.mark.usefixtures("either_way")
def test_moments_of_idle_units_are_never_denormal(users: Interactions) -> None:
    learner = RowLearner(SPEC, users, 5, CPU)
    with torch.no_grad():
        learner.network.cell_bias[:40] = -100.0  # off for every row
    training = RowTraining(learner.network, learner.rows, Optimizer(name="adam", learning_rate=1e-3))
    idle, chance = slice(0, 40), torch.Generator().manual_seed(0)
    cells: Any = training._cells
    once = isinstance(cells, OnePass)
    means = [cells.means] if once else [part.mean for part in cells.parts]
    squares = [cells.squares] if once else [part.square for part in cells.parts]
    for mean in means:
        mean[..., idle] = 1e-34  # as after some hundreds of updates without a gradient
    for _ in range(3 * LOOK_EVERY):
        training.update(torch.arange(16), chance)
    least = torch.finfo(torch.float32).tiny
    upper = [moment for part in training._upper for moment in (part.mean, part.square)]
    for moment in (*means, *squares, *upper):
        assert not ((moment != 0) & (moment.abs() < least)).any()


@pytest.mark.usefixtures("either_way")
def test_a_batch_may_be_of_users_without_items(users: Interactions) -> None:
    """As sampled users can be."""
    matrix = users.binarized().matrix.tolil()
    matrix[:16] = 0
    empty = Interactions.from_matrix(matrix.tocsr())
    learner, other = RowLearner(SPEC, empty, 5, CPU), RowLearner(SPEC, empty, 5, CPU)
    training = RowTraining(learner.network, learner.rows, Optimizer(name="adam", learning_rate=3e-3))
    loss = training.update(torch.arange(16), torch.Generator().manual_seed(0))
    adam = torch.optim.Adam(other.network.parameters(), lr=3e-3)
    chance = torch.Generator().manual_seed(0)
    wanted = other.loss(torch.arange(16), Moment(1, 0), chance)
    wanted.backward()
    adam.step()
    assert float(loss) == pytest.approx(float(wanted.detach()), rel=1e-5)
    for name, tensor in other.network.state_dict().items():
        np.testing.assert_allclose(training.weights()[name], tensor, atol=1e-5, err_msg=name)


def test_weights_are_a_copy(users: Interactions) -> None:
    learner = RowLearner(SPEC, users, 5, CPU)
    training = RowTraining(learner.network, learner.rows, Optimizer(name="adam", learning_rate=1e-3))
    before = training.weights()
    training.update(torch.arange(16), torch.Generator().manual_seed(0))
    after = training.weights()
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_a_loss_that_is_not_finite_is_an_error(users: Interactions) -> None:
    learner = RowLearner(SPEC, users, 5, CPU)
    training = RowTraining(learner.network, learner.rows, Optimizer(name="adam", learning_rate=1e30))
    with pytest.raises(DivergedTraining, match="must be finite"):
        trained_weights(
            training, epochs=5, batch_size=16, seed=5, patience=None, judged=None, progress=silent
        )


def test_only_adam_without_anything_else_is_trained_so() -> None:
    assert plain_adam(RowMLP(), CPU)
    for other in (Optimizer(name="adam", weight_decay=0.1), Optimizer(name="sgd"), Optimizer(clip_norm=1.0)):
        assert not plain_adam(RowMLP(optimizer=other), CPU)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("n_rows", [5, 16, 203])
def test_one_pass_is_adam_whatever_the_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int, n_rows: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    chance = torch.Generator().manual_seed(n_rows)
    values = torch.randn(3, n_rows, 7, generator=chance)
    wanted = values.clone().requires_grad_()
    adam = torch.optim.Adam([wanted], lr=0.02, eps=1e-3)
    ours = OnePass(values, Optimizer(name="adam", learning_rate=0.02, epsilon=1e-3))
    for _ in range(30):
        rows = torch.randperm(n_rows, generator=chance)[: n_rows // 4]
        shared, own = torch.randn(3, 7, generator=chance), torch.randn(len(rows), 7, generator=chance)
        apart = torch.randn(3, generator=chance)
        wanted.grad = shared[:, None].expand_as(values).clone()
        wanted.grad[:, rows] += apart[:, None, None] * own
        adam.step()
        sums = ours.update(rows, shared, apart, own)
    np.testing.assert_allclose(values, wanted.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sums, values.sum(1), rtol=1e-4, atol=1e-4)


def test_one_pass_comes_to_the_same_bytes_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        chance = torch.Generator().manual_seed(0)
        values = torch.randn(2, 90, 9, generator=chance)
        ours = OnePass(values, Optimizer(name="adam", learning_rate=0.02, epsilon=1e-3))
        for _ in range(5):
            shared, own = torch.randn(2, 9, generator=chance), torch.randn(4, 9, generator=chance)
            sums = ours.update(torch.arange(4), shared, torch.ones(2), own)
        ends.append((values.numpy().tobytes(), sums.numpy().tobytes()))
    assert ends[0] == ends[1] == ends[2]


def test_a_process_without_numba_says_nothing_and_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    row_adam.compiled.cache_clear()
    try:
        assert row_adam.compiled() is None
    finally:
        row_adam.compiled.cache_clear()
