"""The recommenders of the utility protocol, against independent implementations; the contract runs elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.linalg import svd

from unblur.data.interactions import Interactions
from unblur.data.splits import Split
from unblur.errors import SpecError
from unblur.models.linear.factors import TruncatedSVD
from unblur.models.neural.neumf import NeuMF, PairNetwork, _SplitNetwork
from unblur.models.neural.row_mlp import ErrorJudge, RowMLP, RowNetwork
from unblur.training.rows import SparseRows
from unblur.training.settings import Optimizer


@pytest.mark.parametrize("algorithm", ["arpack", "randomized"])
def test_truncated_svd_is_the_projection_on_singular_vectors(log: Interactions, algorithm: str) -> None:
    model = TruncatedSVD(rank=5, algorithm=algorithm).fit(log, rng=1)  # type: ignore[arg-type]
    x = log.matrix.toarray().astype(np.float64)
    _, _, right = svd(x)
    expected = x @ right[:5].T @ right[:5]
    expected[log.user_degrees == 0] = log.item_degrees / log.item_degrees.max()
    np.testing.assert_allclose(model.score(log), expected, atol=1e-4 if algorithm == "arpack" else 0.05)
    with pytest.raises(SpecError, match=r"`rank` must be below the numbers of users and items, 51 and 31"):
        TruncatedSVD(rank=31).fit(log)


def test_the_embedded_row_is_a_linear_map() -> None:
    """Against the layers written out: an embedding of each cell, flattened, then dense layers."""
    network = RowNetwork(31, RowMLP(dims=(12, 7)), torch.Generator().manual_seed(0))
    x = (torch.rand(9, 31, generator=torch.Generator().manual_seed(1)) < 0.3).to(torch.int64)
    embedded = torch.nn.functional.embedding(x, network.embedding).flatten(1)
    h = torch.relu(embedded @ network.cells.permute(1, 0, 2).reshape(31 * 8, 12) + network.cell_bias)
    h = torch.relu(h @ network.weights[0].T + network.biases[0])
    expected = h @ network.weights[1].T + network.biases[1]
    from scipy import sparse

    rows = SparseRows.of(sparse.csr_array(x.numpy().astype(np.float32))).all()
    ours = network(rows)
    np.testing.assert_allclose(ours.detach(), expected.detach(), atol=1e-5)
    parameters = list(network.parameters())
    for one, other in zip(
        torch.autograd.grad(ours.square().sum(), parameters),
        torch.autograd.grad(expected.square().sum(), parameters),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("initialization", ["fan-in", "glorot"])
def test_weights_are_initialized_as_in_torch_or_keras(initialization: str) -> None:
    spec = RowMLP(dims=(60, 40), initialization=initialization)  # type: ignore[arg-type]
    network = RowNetwork(90, spec, torch.Generator().manual_seed(0)).requires_grad_(False)
    glorot = initialization == "glorot"
    for weight, before, after in (
        (network.cells, 8 * 90, 60),
        (network.weights[0], 60, 40),
        (network.weights[1], 40, 90),
    ):
        expected = torch.nn.Linear(before, after).weight.detach()
        if glorot:
            torch.nn.init.xavier_uniform_(expected)
        assert float(weight.abs().max()) == pytest.approx(float(expected.abs().max()), rel=0.02)
        assert float(weight.std()) == pytest.approx(float(expected.std()), rel=0.05)
    for bias in (network.cell_bias, *network.biases):
        assert bool((bias != 0).any()) != glorot
    assert (float(network.embedding.abs().max()) <= 0.05) == glorot


@pytest.mark.parametrize("after", ["each", "last"])
def test_dropout_follows_the_given_layers(log: Interactions, after: str) -> None:
    from unblur.training.networks import dropped

    network = RowNetwork(31, RowMLP(dims=(12, 7), dropout_after=after), torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    rows = SparseRows.of(log.binarized().matrix).all()
    generator = torch.Generator().manual_seed(1)
    adds, always = network.table()
    h = torch.relu(torch.tensor(log.binarized().matrix.toarray()) @ adds + always)
    if after == "each":
        h = torch.mul(*dropped(h, 0.5, generator))
    h = torch.relu(h @ network.weights[0].T + network.biases[0])
    expected = torch.mul(*dropped(h, 0.5, generator)) @ network.weights[1].T + network.biases[1]
    ours = network(rows, torch.Generator().manual_seed(1))
    np.testing.assert_allclose(ours.detach(), expected.detach(), atol=1e-4)


def test_the_row_mlp_learns_and_stops(log: Interactions) -> None:
    epochs: list[int] = []
    fast = Optimizer(name="adam", learning_rate=0.01)
    spec = RowMLP(dims=(32,), epochs=200, patience=3, dropout=0.0, optimizer=fast)
    model = spec.fit(log, rng=1, progress=lambda event: epochs.append(event.done))
    assert epochs[-1] < 200
    scores = model.score(log)
    x = log.matrix.toarray() > 0
    assert scores[x].mean() > scores[~x].mean()
    stopped = RowMLP(dims=(8,), epochs=2).fit(log, rng=1, validation=log.take_users(np.arange(10)))
    assert np.isfinite(stopped.score(log)).all()


@pytest.fixture
def halves(log: Interactions) -> Split:
    """Training users, and others with every second item held out and at least one not."""
    known = np.flatnonzero(log.user_degrees > 2)
    teaching, others = log.take_users(known[:-11]), log.take_users(known[-11:])
    rows, columns = others.matrix.nonzero()
    parts = []
    for start in range(2):
        x = np.zeros(others.matrix.shape, dtype=np.float32)
        x[rows[start::2], columns[start::2]] = 1
        parts.append(Interactions(sparse.csr_array(x), others.users, others.items))
    return Split(teaching, parts[0], parts[1], "halves")


def test_the_error_of_held_out_items_is_that_of_the_scores(halves: Split) -> None:
    model = RowMLP(dims=(8,), epochs=2, patience=None).fit(halves.train, rng=1)
    error = ErrorJudge(halves, halves.train.items, torch.device("cpu"))(model.network)
    probabilities = 1 / (1 + np.exp(-model.score(halves.histories).astype(np.float64)))
    expected = np.sqrt(((probabilities - halves.held_out.matrix.toarray()) ** 2).mean())
    assert error == pytest.approx(-expected, rel=1e-6)


@pytest.mark.parametrize("clip", [None, 1e6])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_weights_of_the_best_or_the_last_epoch_are_kept(
    halves: Split, keep: Literal["best", "last"], clip: float | None
) -> None:
    """The error of held-out items rises while the network overfits; with a clipped norm the general loop trains."""
    adam = Optimizer(name="adam", learning_rate=0.01, clip_norm=clip)
    spec = RowMLP(dims=(32,), epochs=60, patience=4, dropout=0.0, optimizer=adam, keep=keep)
    last: dict[str, int] = {}
    stopped = spec.fit(
        halves.train,
        rng=1,
        validation=halves,
        progress=lambda event: last.update({event.stage: event.done}),
    )
    trained = last["train"]
    assert 4 < trained < 60
    epochs = trained - 4 if keep == "best" else trained
    expected = replace(spec, epochs=epochs, patience=None).fit(halves.train, rng=1).tensors()
    for name, tensor in stopped.tensors().items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)


def test_neumf_in_two_halves_is_the_network(log: Interactions) -> None:
    spec = NeuMF(factors=3, layers=3)
    network = PairNetwork(5, 31, spec, torch.Generator().manual_seed(0)).requires_grad_(False)
    network.users.normal_(generator=torch.Generator().manual_seed(1))
    network.items.normal_(generator=torch.Generator().manual_seed(2))
    expected = network(network.users.repeat_interleave(31, 0), network.items.repeat(5, 1)).view(5, 31)
    np.testing.assert_allclose(_SplitNetwork(network).scores(network.users.double()), expected, atol=1e-5)


def test_neumf_folds_in_a_history_and_may_remember_its_users(log: Interactions) -> None:
    fast = Optimizer(name="adam", learning_rate=0.01)
    spec = NeuMF(factors=4, epochs=30, batch_size=32, dropout=0.0, optimizer=fast)
    model = spec.fit(log, rng=1)
    x = log.matrix.toarray() > 0
    scores = model.score(log)
    margin = np.mean([scores[row][x[row]].mean() - scores[row][~x[row]].mean() for row in range(50)])
    assert margin > 0.1
    assert len(model.keys) == 0
    remembering = replace(spec, remember_users=True).fit(log, rng=1)
    assert len(remembering.keys) >= 40
    learned = remembering.score(log)
    margin = np.mean([learned[row][x[row]].mean() - learned[row][~x[row]].mean() for row in range(50)])
    assert margin > 0.1
    assert not np.allclose(learned, scores)
