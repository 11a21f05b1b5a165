"""Sleeping units change nothing but the time that training takes: against the loop that trains everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unblur.datasets import generated
from unblur.diffusion.rows import SparseRows
from unblur.diffusion.settings import Optimizer
from unblur.diffusion.training import DivergedTraining, Plan, Training
from unblur.interactions import Interactions
from unblur.progress import silent
from unblur.synthesis.downstream import RowMLP
from unblur.synthesis.downstream.row_network import RowLearner, negative_error, units_may_sleep
from unblur.synthesis.downstream.row_training import RowTraining, trained_weights

CPU = torch.device("cpu")
SPEC = RowMLP(embedding=4, dims=(48, 16), optimizer=Optimizer(name="adam", learning_rate=3e-3))


@pytest.fixture(scope="module")
def users() -> Interactions:
    return generated(240, 60, 2000, rng=0)


def _asleep(users: Interactions, epochs: int) -> tuple[RowTraining, dict[str, torch.Tensor]]:
    learner = RowLearner(SPEC, users, 5, CPU)
    training = RowTraining(learner.network, learner.rows, SPEC.optimizer.learning_rate)
    made = trained_weights(
        training, epochs=epochs, batch_size=16, seed=5, patience=None, judged=None, progress=silent
    )
    return training, dict(made)


def test_the_weights_are_those_of_the_loop_that_trains_everything(users: Interactions) -> None:
    training, made = _asleep(users, 12)
    assert training.awake < 48
    learner = RowLearner(SPEC, users, 5, CPU)
    run = Training(learner, Plan(12, 16), seed=5)
    losses = [report.loss for report in run.epochs()]
    assert losses[-1] < losses[0]
    wanted = learner.network.state_dict()
    assert made.keys() == wanted.keys()
    for name, tensor in wanted.items():
        np.testing.assert_allclose(made[name], tensor, rtol=0.02, atol=2e-3, err_msg=name)
    rows = SparseRows.of(users.binarized().matrix)
    error = negative_error(learner.fitted(made), rows)
    assert error == pytest.approx(negative_error(learner.fitted(wanted), rows), abs=1e-4)
    assert training.negative_error(rows) == pytest.approx(error, abs=1e-6)


def test_a_unit_that_sleeps_is_off_for_every_row(users: Interactions) -> None:
    training, made = _asleep(users, 12)
    apart = made["embedding"][1] - made["embedding"][0]
    adds = torch.einsum("d,dih->ih", apart.double(), made["cells"].double())
    always = torch.einsum("d,dih->h", made["embedding"][0].double(), made["cells"].double())
    x = torch.from_numpy(users.binarized().matrix.toarray()).double()
    first = x @ adds + always + made["cell_bias"]
    assert (first[:, training.order[training.awake :]] < 0).all()


def test_units_wake_when_the_embedding_moves(users: Interactions) -> None:
    training, before = _asleep(users, 12)
    slept = training.order[training.awake :].tolist()
    training.embedding.value.neg_()  # what kept them off now turns them on
    training._wake()
    woken = [unit for unit in slept if unit in training.order[: training.awake].tolist()]
    assert woken
    assert sorted(training.order.tolist()) == list(range(48))
    after = training.weights()
    for name in ("cells", "cell_bias", "weights.0"):
        assert torch.equal(after[name], before[name]), name
    training.update(torch.arange(16), torch.Generator().manual_seed(0))
    assert not torch.equal(training.weights()["cells"][:, :, woken], before["cells"][:, :, woken])


def test_a_loss_that_is_not_finite_is_an_error(users: Interactions) -> None:
    learner = RowLearner(SPEC, users, 5, CPU)
    training = RowTraining(learner.network, learner.rows, 1e30)
    with pytest.raises(DivergedTraining, match="must be finite"):
        trained_weights(
            training, epochs=5, batch_size=16, seed=5, patience=None, judged=None, progress=silent
        )


def test_only_what_stands_still_without_a_gradient_may_sleep() -> None:
    assert units_may_sleep(RowMLP(), CPU)
    assert units_may_sleep(RowMLP(dropout_after="each", dropout=0.0), CPU)
    assert not units_may_sleep(RowMLP(dropout_after="each"), CPU)
    assert not units_may_sleep(RowMLP(dims=(8,)), CPU)
    for other in (Optimizer(name="adam", weight_decay=0.1), Optimizer(name="sgd"), Optimizer(clip_norm=1.0)):
        assert not units_may_sleep(RowMLP(optimizer=other), CPU)
