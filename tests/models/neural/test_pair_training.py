"""NeuMF trained on the rows that a batch needs ends with the weights of autograd and torch's Adam on all rows."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scipy import stats

from unblur.data.catalogue.generation import generated
from unblur.data.interactions import Interactions
from unblur.models.neural.fast import compiled as compiled_kernels
from unblur.models.neural.fast.pair_training import DeferredAdam, PairStepper, deferred_sums
from unblur.models.neural.neumf import Choose, NeuMF, PairLearner
from unblur.spec import replace_field
from unblur.training.loop import DivergedTraining, Training
from unblur.training.networks import least_kept
from unblur.training.settings import Optimizer, Plan

CPU = torch.device("cpu")
SPEC = NeuMF(factors=4, batch_size=64, optimizer=Optimizer(name="adam", learning_rate=3e-3))


@pytest.fixture(scope="module")
def users() -> Interactions:
    return generated(240, 60, 2000, rng=0)


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    kernels = compiled_kernels()
    assert kernels is not None
    return kernels


def stepper(spec: NeuMF, users: Interactions, compiled: ModuleType) -> PairStepper:
    return PairStepper(PairLearner(spec, users, 5, CPU), compiled)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropout", 0.5),
        ("dropout", 0.0),
        ("layers", 1),
        ("layers", 4),
        ("negatives", 3),
        ("batch_size", 7),
        ("optimizer.epsilon", 1e-5),
    ],
)
def test_the_weights_are_those_of_autograd_and_adam(
    users: Interactions, compiled: ModuleType, name: str, value: object
) -> None:
    spec = replace_field(SPEC, name, value)
    learners = [stepper(spec, users, compiled), PairLearner(spec, users, 5, CPU)]
    losses = [
        [report.loss for report in Training(learner, Plan(6, spec.batch_size), seed=5).epochs()]
        for learner in learners
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert losses[0][-1] < losses[0][0] - 0.01
    weights, expected = (learner.module.state_dict() for learner in learners)
    assert weights.keys() == expected.keys()
    for part, tensor in expected.items():
        np.testing.assert_allclose(weights[part], tensor, atol=2e-3 * float(tensor.abs().max()), err_msg=part)


@pytest.mark.parametrize(
    ("scale", "epsilon"), [(1.0, 1e-8), (1e-4, 1e-7), (1e-4, 1e-5), (1e-8, 1e-8), (1e-3, 1e-2)]
)
def test_idle_rows_end_where_adam_would_put_them(compiled: ModuleType, scale: float, epsilon: float) -> None:
    """Rows have a gradient often, seldom, once or never; gradients are above ε, about ε and below."""
    random, settings = (
        np.random.default_rng(1),
        Optimizer(name="adam", learning_rate=0.01, epsilon=epsilon),
    )
    values = random.standard_normal((60, 5)).astype(np.float32)
    expected = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([expected], lr=0.01, eps=epsilon)
    ours = DeferredAdam(values, settings, compiled)
    for step in range(1200):
        chosen = np.unique(random.integers(0, 50, 2) if step % 3 else random.integers(0, 6, 4))
        chosen = chosen[(chosen < 40) | (step < 520)]
        requested = np.tile(chosen, 2)
        rows, places = ours.ask(requested)
        np.testing.assert_array_equal(rows[places], requested)
        assert len(rows) == len(chosen)
        gradients = (scale * random.standard_normal((len(rows), 5))).astype(np.float32)
        expected.grad = torch.zeros_like(expected)
        expected.grad[torch.from_numpy(rows)] = torch.from_numpy(gradients).double()
        adam.step()
        ours.step(rows, gradients)
    change = expected.detach().numpy() - values
    assert (change[55:] == 0).all()
    rounding = 40 * np.finfo(np.float32).eps * np.abs(values).max()
    np.testing.assert_allclose(ours.values() - values, change, atol=1e-4 * np.abs(change).max() + rounding)
    assert np.abs(change[:6]).max() > 1e-3 or scale < epsilon


@pytest.mark.parametrize("epsilon", [1e-8, 1e-3])
def test_rows_may_be_idle_for_any_number_of_steps(compiled: ModuleType, epsilon: float) -> None:
    """Beyond the end of the table of sums, and until every moment has decayed to nothing."""
    random = np.random.default_rng(2)
    values = random.standard_normal((4, 5)).astype(np.float32)
    expected = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    expected.grad = torch.zeros_like(expected)
    adam = torch.optim.Adam([expected], lr=0.01, eps=epsilon)
    ours = DeferredAdam(values, Optimizer(name="adam", learning_rate=0.01, epsilon=epsilon), compiled)
    requested = {0: [0, 1, 2], 3: [0], 700: [0], 3000: [0, 1], 3001: [1], 24_000: [0, 1, 2]}
    for step in range(24_001):
        rows, _ = ours.ask(np.array(requested.get(step, [3]), dtype=np.int64))
        gradients = (1e-3 * random.standard_normal((len(rows), 5))).astype(np.float32)
        expected.grad.zero_()
        expected.grad[torch.from_numpy(rows)] = torch.from_numpy(gradients).double()
        adam.step()
        ours.step(rows, gradients)
    change = expected.detach().numpy()[:3] - values[:3]
    rounding = 10 * np.finfo(np.float32).eps * np.abs(values).max()
    np.testing.assert_allclose(
        (ours.values() - values)[:3], change, atol=1e-4 * np.abs(change).max() + rounding
    )


@given(since=st.integers(0, 30_000), idle=st.integers(1, 3000))
def test_deferred_steps_add_up_to_their_sum(since: int, idle: int) -> None:
    sums, powers = deferred_sums()
    end = sums.shape[1] - 1
    steps = np.arange(since + 1, since + idle + 1)
    b = np.sqrt(1 - 0.999**steps)
    terms = b / (1 - 0.9**steps) * (0.9 / np.sqrt(0.999)) ** (steps - since)
    tempered = terms * b / np.sqrt(0.999) ** (steps - since)
    for place, expected in enumerate((terms.sum(), tempered.sum())):
        result = (
            sums[place, min(since, end)] - powers[place, min(idle, end)] * sums[place, min(since + idle, end)]
        )
        assert result == pytest.approx(expected, rel=1e-6)


def test_moments_are_never_denormal(compiled: ModuleType) -> None:
    values = np.zeros((3, 4), dtype=np.float32)
    ours = DeferredAdam(values, Optimizer(name="adam"), compiled)
    rows, _ = ours.ask(np.arange(3))
    ours.step(rows, np.full((3, 4), [1e-15, 1e-19, 1e-30, 1e-3], dtype=np.float32))
    for step in range(1200):
        ours.step(ours.ask(np.array([step % 2]))[0], np.zeros((1, 4), dtype=np.float32))
        ours.ask(np.arange(3 if step % 300 == 0 else 1))
        moments = ours.table[:, 1:]
        assert not ((moments != 0) & (np.abs(moments) < np.finfo(np.float32).tiny)).any()
    assert (ours.table[:, 2, 3] > 0).all()


def batches(learner: PairLearner, epochs: int, choose: Choose | None = None) -> list[tuple[np.ndarray, ...]]:
    generator, order = torch.Generator().manual_seed(5), np.arange(learner.n_rows)
    return [
        learner.batch(rows, generator, choose) for _ in range(epochs) for rows in np.array_split(order, 9)
    ]


@pytest.mark.parametrize("negatives", [1, 4])
def test_a_batch_is_the_same_whatever_draws_it(
    users: Interactions, compiled: ModuleType, negatives: int
) -> None:
    side_by_side = Interactions.from_matrix(np.tile(np.eye(6, 9, dtype=np.float32), (20, 1)))
    for train in (users, side_by_side):  # in the second, the next user's first item follows this user's last
        learner = PairLearner(replace(SPEC, negatives=negatives), train, 5, CPU)
        for one, other in zip(
            batches(learner, 2, PairStepper(learner, compiled)._choose), batches(learner, 2), strict=True
        ):
            for part, other_part in zip(one, other, strict=True):
                np.testing.assert_array_equal(part, other_part)


def test_all_random_numbers_of_a_batch_come_from_the_generator(
    users: Interactions, compiled: ModuleType
) -> None:
    trained = stepper(SPEC, users, compiled)
    (_, items, words), (_, items_again, words_again), (_, other_items, other_words) = (
        trained.learner.batch(np.arange(64), torch.Generator().manual_seed(seed), trained._choose)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(items, items_again)
    np.testing.assert_array_equal(words, words_again)
    assert (items[64:] != other_items[64:]).any()
    assert (words != other_words).mean() > 0.99


def test_negatives_are_drawn_uniformly_from_items_the_user_does_not_have(users: Interactions) -> None:
    owned, row = users.matrix.toarray() > 0, int(users.user_degrees.argmax())
    counts, dropout_words = np.zeros(owned.shape, dtype=np.int64), []
    spec = NeuMF(factors=1, layers=2, negatives=3)
    for owners, items, words in batches(PairLearner(spec, users, 5, CPU), 40):
        n = len(owners) // 4
        assert owned[owners[:n], items[:n]].all()
        np.add.at(counts, (owners[n:], items[n:]), 1)
        dropout_words.append(words)
    np.testing.assert_array_equal(counts.sum(1), 3 * 40 * users.user_degrees)
    assert counts[owned].sum() < 1e-3 * counts.sum()
    assert stats.chisquare(counts[row][~owned[row]]).pvalue > 1e-3
    share = np.concatenate(dropout_words) >= least_kept(0.3)
    assert share.mean() == pytest.approx(0.7, abs=4 * np.sqrt(0.21 / share.size))
    assert np.abs(np.corrcoef(share.T) - np.eye(share.shape[1])).max() < 6 / np.sqrt(len(share))


def test_a_user_with_all_items_is_no_obstacle(compiled: ModuleType) -> None:
    x = np.eye(6, 9, dtype=np.float32)
    x[2] = 1
    full = Interactions.from_matrix(x)
    learner = PairLearner(SPEC, full, 5, CPU)
    for choose in (PairStepper(learner, compiled)._choose, None):
        items = np.concatenate([sampled for _, sampled, _ in batches(learner, 1, choose)])
        assert ((items >= 0) & (items < 9)).all()
    assert np.isfinite(SPEC.fit(full, rng=0).score(full)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["a user's vector", "a user's mean", "a weight"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_values_that_are_not_finite_end_the_training(
    users: Interactions, compiled: ModuleType, bad: float, place: str, dropout: float
) -> None:
    trained = stepper(replace_field(SPEC, "dropout", dropout), users, compiled)
    run = Training(trained, Plan(4, SPEC.batch_size), seed=5)
    for _ in run.epochs():
        table = trained._tables[0].table
        if place == "a weight":
            trained._network[0][1][0, 0] = bad
        else:
            table[users.user_degrees.argmax(), 0 if place == "a user's vector" else 1, -1] = bad
        break
    with pytest.raises(DivergedTraining, match="must be finite"):
        list(run.epochs())


FITTED = """
import threading
import numpy as np
import torch
from threadpoolctl import threadpool_info
from unblur.data.catalogue import generated
from unblur.models.neural.neumf import NeuMF

def threads():
    return {part["num_threads"] for part in threadpool_info() if part["user_api"] == "blas"}

def fit(before, after):
    def look(event):
        before.set()
        assert after.wait(60)
        inside.append((torch.get_num_threads(), threads()))
    made.append(NeuMF(epochs=2).fit(users, rng=0, progress=look))

inside, made, users = [], [], generated(40, 30, 300, rng=0)
torch.set_num_threads(3)
given = threads()
one, other, done = threading.Event(), threading.Event(), threading.Event()
done.set()
fit(one, done)
assert inside and all(seen == (1, {1}) for seen in inside), inside
assert torch.get_num_threads() == 3 and threads() == given, (torch.get_num_threads(), threads())
one.clear()
both = [threading.Thread(target=fit, args=events) for events in ((one, other), (other, one))]
for thread in both:
    thread.start()
for thread in both:
    thread.join()
assert torch.get_num_threads() == 3 and threads() == given, (torch.get_num_threads(), threads())
assert len(made) == 3
for name, tensor in made[0].tensors().items():
    for again in made[1:]:
        np.testing.assert_array_equal(again.tensors()[name], tensor)
print(sorted(given))
"""


def test_small_products_are_not_shared_among_threads() -> None:
    """In the first training of a process, before numba's BLAS is loaded, and in two trainings at once."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2")
    process = subprocess.run(
        [sys.executable, "-c", FITTED],
        env={**os.environ, **threads},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() in ("[2]", "[1]")  # one processor gives one thread


def test_without_numba_and_with_other_optimizers_scores_are_the_same(
    users: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace_field(SPEC, "epochs", 4)
    expected = spec.fit(users, rng=0).score(users)
    clipped = replace_field(spec, "optimizer.clip_norm", 1e6)
    np.testing.assert_allclose(clipped.fit(users, rng=0).score(users), expected, atol=2e-2 * np.ptp(expected))
    monkeypatch.delitem(sys.modules, "unblur.models.neural.fast.kernels")
    monkeypatch.setitem(sys.modules, "numba", None)
    assert compiled_kernels() is None
    np.testing.assert_allclose(spec.fit(users, rng=0).score(users), expected, atol=2e-2 * np.ptp(expected))
