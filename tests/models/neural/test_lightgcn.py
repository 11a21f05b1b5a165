"""LightGCN against dense propagation in float64, and the fold-in of histories."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.models.diffusion.generated import communities
from tests.models.diffusion.trainable import same_bytes
from unblur.data.splits import Random
from unblur.models.neural.lightgcn import (
    ROWS_TOGETHER,
    GraphLearner,
    LightGCN,
    interaction_graph,
    log_partition,
    pairwise_loss,
    propagate,
    propagate_layers,
)
from unblur.progress import Run
from unblur.training.loop import Moment
from unblur.training.settings import Optimizer, Stopping

DATA = communities()
X = DATA.matrix.toarray().astype(np.float64)
SPEC = LightGCN(
    embedding_size=8,
    epochs=8,
    batch_size=200,
    optimizer=Optimizer(name="adam", learning_rate=0.02),
    stopping=Stopping(every=2, patience=20, metric="recall@10"),
)


def normalized() -> np.ndarray:
    return X / np.sqrt(np.maximum(X.sum(axis=1, keepdims=True), 1) * np.maximum(X.sum(axis=0), 1))


def dense_layers(users: np.ndarray, items: np.ndarray, layers: int) -> list[tuple[np.ndarray, np.ndarray]]:
    states = [(users, items)]
    for _ in range(layers):
        users, items = normalized() @ states[-1][1], normalized().T @ states[-1][0]
        states.append((users, items))
    return states


def learner(spec: LightGCN) -> GraphLearner:
    return GraphLearner(spec, DATA, DATA.item_degrees, 7, torch.device("cpu"))


@settings(max_examples=10)
@given(st.integers(1, 4), st.sampled_from(["embedded", "from-items"]))
def test_histories_are_folded_in_through_the_items_layers(layers: int, users: str) -> None:
    spec = LightGCN(embedding_size=5, layers=layers, users=users)
    trained = learner(spec)
    start = {
        name: value.detach().numpy().astype(np.float64) for name, value in trained.module.named_parameters()
    }
    user_start = start.get("user_start", np.zeros((len(X), 5)))
    steps = dense_layers(user_start, start["item_start"], layers)
    user_final = sum(step[0] for step in steps[1:]) / (layers + 1)  # e⁰ of the user left out
    item_final = sum(step[1] for step in steps) / (layers + 1)
    known = DATA.user_degrees > 0
    expected = np.sqrt(X.sum(axis=1, keepdims=True)) * (user_final @ item_final.T)
    scores = trained.fitted(trained.module.state_dict()).score(DATA)
    np.testing.assert_allclose(scores[known], expected[known], rtol=1e-3, atol=1e-5)


def test_propagation_is_the_mean_of_its_layers() -> None:
    start = torch.randn(sum(X.shape), 4, generator=torch.Generator().manual_seed(0))
    graph = interaction_graph(DATA)
    steps = dense_layers(start[: len(X)].double().numpy(), start[len(X) :].double().numpy(), 2)
    for layer, step in zip(propagate_layers(graph, start, 2), steps, strict=True):
        np.testing.assert_allclose(layer.numpy(), np.concatenate(step), atol=1e-5)
    mean = sum(np.concatenate(step) for step in steps) / 3
    np.testing.assert_allclose(propagate(graph, start, 2).numpy(), mean, atol=1e-5)


def test_gradients_go_through_the_graph() -> None:
    graph = interaction_graph(DATA)
    dense = torch.zeros(sum(X.shape), sum(X.shape), dtype=torch.float32)
    dense[: len(X), len(X) :] = torch.from_numpy(normalized()).float()
    dense[len(X) :, : len(X)] = dense[: len(X), len(X) :].T
    start = torch.randn(sum(X.shape), 4, generator=torch.Generator().manual_seed(0))
    who, liked, other = (torch.tensor(places) for places in ([0, 1], [130, 140], [150, 179]))
    gradients = []
    for final in (lambda e: propagate(graph, e, 2), lambda e: (e + dense @ e + dense @ (dense @ e)) / 3):
        leaf = start.clone().requires_grad_()
        pairwise_loss(final(leaf), leaf, who, liked, other, 0.1).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_the_loss_of_equal_scores_is_log_two() -> None:
    level = torch.zeros(sum(X.shape), 3)
    places = torch.tensor([0, 1, 2])
    assert float(pairwise_loss(level, level, places, places, places, 1.0)) == pytest.approx(np.log(2))


def test_the_loss_falls_and_communities_are_learned() -> None:
    split = Random(fraction=0.3).apply(DATA, rng=0)
    run = SPEC.training(split.train, rng=1)
    losses = [report.loss for report in run.epochs()]
    assert losses[-1] < 0.8 * losses[0]
    ranking = run.fitted().recommend(split.histories, k=10)
    hits = split.held_out.contains(np.repeat(np.arange(split.train.n_users), 10), ranking.positions.ravel())
    assert hits.sum() > 2 * 10 * split.held_out.n_interactions / DATA.n_items


def test_a_users_own_items_are_seldom_drawn_as_negatives() -> None:
    """Negatives that are the user's own items are redrawn once, so their share is about the square of the density."""
    sampler = learner(SPEC)
    shares: list[float] = []

    def record_share(
        final: torch.Tensor, start: torch.Tensor, who: torch.Tensor, *rest: object
    ) -> torch.Tensor:
        other = rest[1]
        assert isinstance(other, torch.Tensor)
        shares.append(float(DATA.contains(who.numpy(), other.numpy() - len(X)).mean()))
        return final.sum()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unblur.models.neural.lightgcn.pairwise_loss", record_share)
        sampler.loss(torch.arange(sampler.n_rows), Moment(1, 0), torch.Generator().manual_seed(0))
    share = DATA.user_degrees / DATA.n_items
    expected = float((DATA.user_degrees * share**2).sum() / DATA.n_interactions)
    assert shares[0] == pytest.approx(expected, abs=0.04)
    assert shares[0] < (DATA.user_degrees * share).sum() / DATA.n_interactions


def of_softmax(**changes: object) -> LightGCN:
    softmax = {"loss": "softmax", "users": "from-items", "batch_size": 32}
    return replace(SPEC, **{**softmax, **changes})


@settings(max_examples=15)
@given(
    st.integers(1, 4),
    st.sampled_from(["embedded", "from-items"]),
    st.sampled_from([0.05, 0.3, 2.0]),
    st.sampled_from([0.0, 0.1]),
)
def test_the_softmax_over_all_items_is_the_multinomial_likelihood_of_cosines(
    layers: int, users: str, temperature: float, ridge: float
) -> None:
    trained = learner(
        of_softmax(layers=layers, users=users, temperature=temperature, ridge=ridge, negatives=DATA.n_items)
    )
    rows = torch.tensor([0, 5, 17, 3])
    who = np.flatnonzero(DATA.user_degrees)[rows.numpy()]
    loss = trained.loss(rows, Moment(1, 0), torch.Generator().manual_seed(0))
    loss.backward()
    leaves = {
        name: value.detach().double().requires_grad_() for name, value in trained.module.named_parameters()
    }
    user_start, graph = (
        leaves.get("user_start", torch.zeros(len(X), 8).double()),
        torch.from_numpy(normalized()),
    )
    steps = [(user_start, leaves["item_start"])]
    for _ in range(layers):
        steps.append((graph @ steps[-1][1], graph.T @ steps[-1][0]))
    unit = [sum(step[side] for step in steps) for side in (0, 1)]
    unit = [table / table.norm(dim=1, keepdim=True) for table in unit]
    logits = unit[0][who] @ unit[1].T / temperature
    liked = torch.from_numpy(X[who])
    expected = -(liked * logits.log_softmax(1)).sum() / liked.sum()
    squares = (liked @ leaves["item_start"].square()).sum()
    if users == "embedded":
        squares = squares + (liked.sum(1) * user_start[who].square().sum(1)).sum()
    expected = expected + ridge * squares / (2 * liked.sum())
    expected.backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    for name, value in trained.module.named_parameters():
        torch.testing.assert_close(value.grad.double(), leaves[name].grad, rtol=2e-3, atol=2e-5)


def test_the_sampled_softmax_runs_over_the_given_number_of_items() -> None:
    """With all items alike the sum over N items is N·exp(1/τ), and the liked item's part exp(1/τ): log N is left."""
    trained = learner(of_softmax(negatives=7, ridge=0.0, temperature=0.5))
    with torch.no_grad():
        trained.module.get_parameter("item_start").fill_(0.3)
    loss = trained.loss(torch.arange(20), Moment(1, 0), torch.Generator().manual_seed(0))
    assert float(loss.detach()) == pytest.approx(np.log(7), rel=1e-4)


def test_the_softmax_draws_anew_from_its_generator() -> None:
    sampler = learner(of_softmax(negatives=7))
    losses = [
        float(sampler.loss(torch.arange(20), Moment(1, 0), torch.Generator().manual_seed(seed)).detach())
        for seed in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


@given(st.integers(1, 2 * ROWS_TOGETHER + 5), st.integers(1, 9), st.sampled_from([0.1, 30.0]))
def test_log_partition_and_its_gradient_in_blocks(n: int, m: int, size: float) -> None:
    generator = torch.Generator().manual_seed(n)
    rows, columns, weights = (torch.randn(shape, generator=generator) for shape in ((n, 3), (m, 3), (n,)))
    ours, expected = [], []
    for kind, results in ((torch.float32, ours), (torch.float64, expected)):
        leaves = [table.detach().clone().to(kind).requires_grad_() for table in (rows * size, columns)]
        result = (
            (leaves[0] @ leaves[1].T).exp().sum(1).log() if kind == torch.float64 else log_partition(*leaves)
        )
        (result * weights.to(kind)).sum().backward()
        results += [result.detach(), *(leaf.grad for leaf in leaves)]
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-3, atol=1e-3 * max(1.0, size))


@pytest.mark.parametrize("users", ["embedded", "from-items"])
def test_scores_after_the_softmax_rank_as_the_trained_cosines(users: str) -> None:
    trained = learner(of_softmax(layers=3, users=users))
    model = trained.fitted(trained.module.state_dict())
    np.testing.assert_allclose(np.linalg.norm(model.outward, axis=1), 1, rtol=1e-5)


def test_one_layer_of_users_from_items_is_matrix_factorization_with_the_softmax() -> None:
    """Items are what was learned of them, unsmoothed, and a user is the sum of his items' vectors, over the roots of their degrees."""
    trained = learner(of_softmax(layers=1, users="from-items", temperature=0.2, negatives=DATA.n_items))
    model = trained.fitted(trained.module.state_dict())
    items = trained.module.state_dict()["item_start"].double().numpy()
    unit = items / np.linalg.norm(items, axis=1, keepdims=True)
    np.testing.assert_allclose(model.outward, unit, rtol=1e-5, atol=1e-6)
    liked = X > 0
    users = (liked / np.sqrt(np.maximum(liked.sum(0), 1))) @ items
    cosines = users / np.maximum(np.linalg.norm(users, axis=1, keepdims=True), 1e-30) @ unit.T
    scores = model.score(DATA)[liked.any(1)].astype(np.float64)
    scale = (scores * cosines[liked.any(1)]).sum(1) / (cosines[liked.any(1)] ** 2).sum(1)
    np.testing.assert_allclose(scores, scale[:, None] * cosines[liked.any(1)], rtol=1e-4, atol=1e-6)
    rows = np.flatnonzero(liked.any(1))
    logits = cosines[rows] / 0.2
    textbook = logits[liked[rows]].sum() - (liked[rows].sum(1) * np.log(np.exp(logits).sum(1))).sum()
    loss = trained.loss(torch.arange(len(rows)), Moment(1, 0), torch.Generator().manual_seed(0))
    ridge = trained.spec.ridge * (liked[rows] @ (items**2).sum(1)).sum() / (2 * liked.sum())
    assert float(loss.detach()) == pytest.approx(-textbook / liked.sum() + ridge, rel=1e-4)


def test_the_learning_rate_falls_in_a_line() -> None:
    spec = replace(SPEC, decay="linear", epochs=4, stopping=None)
    run = spec.training(DATA, rng=1)
    rates = [run._optimizers[0].param_groups[0]["lr"] for _ in run.epochs()]
    assert rates == pytest.approx([0.02 * share for share in (1, 0.75, 0.5, 0.25)])
    constant = replace(spec, decay="none").fit(DATA, rng=1)
    assert not np.array_equal(constant.outward, run.fitted().outward)


def test_the_softmax_learns_communities() -> None:
    split = Random(fraction=0.3).apply(DATA, rng=0)
    run = of_softmax(negatives=30).training(split.train, rng=1)
    losses = [report.loss for report in run.epochs()]
    assert losses[-1] < losses[0]
    ranking = run.fitted().recommend(split.histories, k=10)
    hits = split.held_out.contains(np.repeat(np.arange(split.train.n_users), 10), ranking.positions.ravel())
    assert hits.sum() > 2 * 10 * split.held_out.n_interactions / DATA.n_items


@pytest.mark.parametrize("loss", ["bpr", "softmax"])
@pytest.mark.parametrize("users", ["embedded", "from-items"])
def test_a_seed_gives_the_same_bytes_and_an_interrupted_run_ends_in_them(
    loss: str, users: str, tmp_path: Path
) -> None:
    spec = of_softmax(users=users, negatives=30) if loss == "softmax" else replace(SPEC, users=users)
    run = spec.training(DATA, rng=5, run=Run(checkpoints=tmp_path))
    for report in run.epochs():
        if report.epoch == 4:
            break
    uninterrupted = spec.fit(DATA, rng=5)
    assert same_bytes(spec.fit(DATA, rng=5, checkpoints=tmp_path), uninterrupted)
    assert not same_bytes(spec.fit(DATA, rng=6), uninterrupted)
