"""Training in few passes changes nothing but the time that it takes: against the general training loop."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from unblur.data.catalogue.generation import generated
from unblur.data.interactions import Interactions
from unblur.models.neural.fast import compiled as compiled_kernels
from unblur.models.neural.fast.adam import plain_adam
from unblur.models.neural.fast.row_training import (
    SETTLE_EVERY,
    FirstInOnePass,
    LastInOnePass,
    RowStepper,
    Threads,
)
from unblur.models.neural.row_mlp import ErrorJudge, RowLearner, RowMLP
from unblur.parallel.threads import libraries_at_rest
from unblur.progress import ProgressEvent
from unblur.spec import replace_field
from unblur.training.loop import DivergedTraining, Moment, Training
from unblur.training.settings import Optimizer, Plan

CPU = torch.device("cpu")
SPEC = RowMLP(embedding_size=4, dims=(48, 16), optimizer=Optimizer(name="adam", learning_rate=3e-3))


@pytest.fixture(scope="module")
def users() -> Interactions:
    return generated(240, 60, 2000, rng=0)


def require_kernels() -> ModuleType:
    kernels = compiled_kernels()
    assert kernels is not None
    return kernels


@pytest.fixture(params=["one pass", "torch alone"])
def compiled(request: pytest.FixtureRequest) -> ModuleType | None:
    """The kernels of numba, and none."""
    return require_kernels() if request.param == "one pass" else None


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
def test_the_weights_are_those_of_the_general_loop(
    users: Interactions, compiled: ModuleType | None, name: str, value: object
) -> None:
    spec = replace_field(SPEC, name, value)
    stepper = RowStepper(RowLearner(spec, users, 5, CPU), compiled)
    for _ in Training(stepper, Plan(12, 16), seed=5).epochs():
        pass
    weights = stepper.module.state_dict()
    learner = RowLearner(spec, users, 5, CPU)
    run = Training(learner, Plan(12, 16), seed=5)
    losses = [report.loss for report in run.epochs()]
    assert losses[-1] < losses[0]
    expected = learner.module.state_dict()
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(weights[name], tensor, rtol=0.02, atol=2e-3, err_msg=name)
    judge = ErrorJudge(users, users.items, CPU)
    assert judge(learner.fitted(weights)) == pytest.approx(judge(learner.fitted(expected)), abs=1e-4)


def test_moments_of_idle_units_are_never_denormal(users: Interactions, compiled: ModuleType | None) -> None:
    learner = RowLearner(SPEC, users, 5, CPU)
    with torch.no_grad():
        learner.module.cell_bias[:40] = -100.0  # off for every row
    training = RowStepper(learner, compiled)
    idle, generator = slice(0, 40), torch.Generator().manual_seed(0)
    first: Any = training._first
    if compiled is None:
        means, squares = ([getattr(adam, name)[0] for adam in first.adams] for name in ("means", "squares"))
    else:
        means, squares = [first.means, first.common_mean], [first.squares, first.common_square]
    for mean in means:
        mean[..., idle] = 1e-34  # as after some hundreds of updates without a gradient
    for _ in range(3 * SETTLE_EVERY):
        training.loss(torch.arange(16), Moment(1, 0), generator)
    least = torch.finfo(torch.float32).tiny
    last: Any = training._last
    adams = (training._small_adam, *last.adams)
    others = [moment for adam in adams for moment in (*adam.means, *adam.squares)]
    if compiled is not None:
        others += [last.mean, last.square]
    for moment in (*means, *squares, *others):
        assert not ((moment != 0) & (moment.abs() < least)).any()


def test_a_batch_may_be_of_users_without_items(users: Interactions, compiled: ModuleType | None) -> None:
    """Sampled users can have none."""
    matrix = users.binarized().matrix.tolil()
    matrix[:16] = 0
    empty = Interactions.from_matrix(matrix.tocsr())
    learner, other = RowLearner(SPEC, empty, 5, CPU), RowLearner(SPEC, empty, 5, CPU)
    training = RowStepper(learner, compiled)
    loss = training.loss(torch.arange(16), Moment(1, 0), torch.Generator().manual_seed(0))
    adam = torch.optim.Adam(other.module.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    expected = other.loss(torch.arange(16), Moment(1, 0), generator)
    expected.backward()
    adam.step()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    for name, tensor in other.module.state_dict().items():
        np.testing.assert_allclose(training.module.state_dict()[name], tensor, atol=1e-5, err_msg=name)


def test_a_loss_that_is_not_finite_is_an_error(users: Interactions, compiled: ModuleType | None) -> None:
    steep = replace_field(SPEC, "optimizer.learning_rate", 1e30)
    run = Training(RowStepper(RowLearner(steep, users, 5, CPU), compiled), Plan(5, 16), seed=5)
    with pytest.raises(DivergedTraining, match="must be finite"):
        list(run.epochs())


@pytest.mark.parametrize("keep", ["best", "last"])
def test_training_stops_by_the_error_and_keeps_the_best_or_last_weights(
    users: Interactions, keep: str
) -> None:
    """It is the error on other users' rows, which rises once the network overfits."""
    others, epochs = generated(80, 60, 700, rng=1), 60
    spec = replace_field(replace_field(SPEC, "keep", keep), "epochs", epochs)
    spec = replace_field(spec, "patience", 2)
    values: list[float] = []

    def record(event: ProgressEvent) -> None:
        if event.stage == "train":
            values.append(event.values["minus the error"])

    model = spec.fit(users, rng=0, validation=others, progress=record)
    best = int(np.argmax(values))
    assert 0 < best < len(values) - 1 < epochs - 1
    assert len(values) - 1 - best == 2
    error = ErrorJudge(others, users.items, CPU)(model.network)
    assert error == pytest.approx(values[best if keep == "best" else -1], abs=1e-6)


def test_only_plain_adam_uses_the_fast_steps() -> None:
    assert plain_adam(RowMLP().optimizer, CPU)
    for other in (Optimizer(name="adam", weight_decay=0.1), Optimizer(name="sgd"), Optimizer(clip_norm=1.0)):
        assert not plain_adam(other, CPU)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("n_rows", [5, 16, 203])
def test_the_first_layer_in_one_pass_follows_adam(threads: int, n_rows: int) -> None:
    """For more steps than the mean of a row's own gradients takes to decay."""
    generator, last = torch.Generator().manual_seed(n_rows), 40
    values = torch.randn(3, n_rows, 7, generator=generator)
    expected = values.clone().requires_grad_()
    adam = torch.optim.Adam([expected], lr=0.02, eps=1e-3)
    ours = FirstInOnePass(
        values, Optimizer(name="adam", learning_rate=0.02, epsilon=1e-3), require_kernels(), Threads(threads)
    )
    for step in range(260):
        rows = torch.randperm(n_rows, generator=generator)[
            : n_rows // 4 if step < last or step % 9 == 0 else 1
        ]
        common_gradient, row_gradients = (
            torch.randn(3, 7, generator=generator),
            torch.randn(len(rows), 7, generator=generator),
        )
        factors = torch.randn(3, generator=generator)
        before = expected.detach()[:, rows]
        added = ours.sum_rows(rows, factors)
        np.testing.assert_allclose(added, torch.einsum("p,prw->rw", factors, before), rtol=1e-3, atol=1e-4)
        expected.grad = common_gradient[:, None].expand_as(values).clone()
        expected.grad[:, rows] += factors[:, None, None] * row_gradients
        expected_products = torch.einsum("prw,rw->p", before, row_gradients)
        adam.step()
        sums, products = ours.update(rows, common_gradient, factors, row_gradients)
        np.testing.assert_allclose(products, expected_products, rtol=1e-3, atol=2e-3)
    assert (ours._step - ours._last_own_step > 160).any() or n_rows < 200
    np.testing.assert_allclose(values, expected.detach(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(sums, values.sum(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("n", [1, 4, 15, 1500])
def test_the_last_layer_in_one_pass_follows_adam(threads: int, n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    weights, biases = torch.randn(37, 9, generator=generator), torch.randn(37, generator=generator)
    copies = [part.clone().requires_grad_() for part in (weights, biases)]
    adam = torch.optim.Adam(copies, lr=0.02, eps=1e-3)
    settings = Optimizer(name="adam", learning_rate=0.02, epsilon=1e-3)
    ours = LastInOnePass(weights, biases, settings, require_kernels(), Threads(threads))
    for _ in range(30):
        inputs = torch.randn(n, 9, generator=generator, requires_grad=True)
        target = (torch.rand(n, 37, generator=generator) < 0.2).float()
        adam.zero_grad()
        expected = torch.nn.functional.binary_cross_entropy_with_logits(
            torch.nn.functional.linear(inputs, copies[0], copies[1]), target
        )
        expected.backward()
        adam.step()
        loss, gradient = ours.update(inputs.detach(), target)
        assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
        np.testing.assert_allclose(gradient, inputs.grad, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(weights, copies[0].detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(biases, copies[1].detach(), rtol=1e-4, atol=1e-5)


def test_training_gives_the_same_bytes_on_any_number_of_threads(users: Interactions) -> None:
    ends = []
    for threads in (1, 2, 5):
        learner = RowLearner(SPEC, users, 5, CPU)
        training = RowStepper(learner, require_kernels(), threads)
        with libraries_at_rest():
            losses = [
                float(training.loss(torch.arange(16), Moment(1, n), torch.Generator().manual_seed(n)))
                for n in range(5)
            ]
        weights = {name: value.numpy().tobytes() for name, value in training.module.state_dict().items()}
        ends.append((losses, weights))
    assert ends[0] == ends[1] == ends[2]


def test_without_numba_it_trains_without_a_warning(
    users: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "unblur.models.neural.fast.kernels", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    assert compiled_kernels() is None
    model = replace_field(SPEC, "epochs", 1).fit(users, rng=0)
    assert np.isfinite(model.score(users)).all()
