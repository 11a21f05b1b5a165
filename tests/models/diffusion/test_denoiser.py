from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from unblur.errors import SpecError
from unblur.models.diffusion.denoiser import DenoisingNetwork, hidden_widths, step_embedding
from unblur.models.diffusion.settings import Denoiser
from unblur.training.networks import ACTIVATIONS, dropped, keep_mask, least_kept


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_step_embedding_is_the_sinusoid_of_the_paper() -> None:
    embedding = step_embedding(torch.tensor([0, 3]), 7)
    rates = [10000 ** (-i / 3) for i in range(3)]
    expected = [math.cos(3 * rate) for rate in rates] + [math.sin(3 * rate) for rate in rates] + [0]
    assert embedding[1].tolist() == pytest.approx(expected, abs=1e-6)
    assert embedding[0].tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert step_embedding(torch.tensor([2]), 1).tolist() == [[0]]


@pytest.mark.parametrize(
    ("layout", "dims", "widths"),
    [
        ("hourglass", (200, 600), (600, 200, 600)),
        ("straight", (200, 600), (200, 600)),
        ("hourglass", (300,), (300,)),
        ("straight", (300,), (300,)),
        ("hourglass", (1, 2, 3), (3, 2, 1, 2, 3)),
    ],
)
def test_layouts(layout: str, dims: tuple[int, ...], widths: tuple[int, ...]) -> None:
    assert hidden_widths(Denoiser(dims=dims, layout=layout)) == widths


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("layout", ["hourglass", "straight"])
def test_forward_is_the_textbook_network(layout: str, activation: str) -> None:
    """The row and the embedded step, concatenated, through linear layers with an activation after each but the last."""
    settings = Denoiser(dims=(5, 8), layout=layout, activation=activation, embedding_size=6, normalize=True)
    network = DenoisingNetwork(12, settings, generator())
    x, steps = torch.randn(4, 12, generator=generator(1)), torch.tensor([0, 1, 2, 7])
    act = ACTIVATIONS[activation]
    embedded = step_embedding(steps, 6) @ network.embedding_weight.T + network.embedding_bias
    h = torch.cat((x / x.norm(dim=1, keepdim=True), embedded), 1)
    first = torch.cat((network.item_in, network.step_in.T))
    h = act(h @ first + network.bias_in)
    for weight, bias in zip(network.hidden_weights, network.hidden_biases, strict=True):
        h = act(h @ weight.T + bias)
    expected = h @ network.item_out.T + network.bias_out
    torch.testing.assert_close(network(x, steps), expected)


def test_weights_begin_with_the_deviations_of_the_paper() -> None:
    network = DenoisingNetwork(900, Denoiser(dims=(300, 500), embedding_size=40), generator())
    assert hidden_widths(network.settings) == (500, 300, 500)
    for weight, fans in (
        (network.item_in, 900 + 40 + 500),
        (network.step_in, 900 + 40 + 500),
        (network.hidden_weights[0], 800),
        (network.item_out, 1400),
        (network.embedding_weight, 80),
    ):
        assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / fans), rel=0.05)
    for bias in (network.bias_in, network.bias_out, network.hidden_biases[1]):
        assert float(bias.detach().std()) == pytest.approx(0.001, rel=0.1)


def test_the_same_generator_gives_the_same_weights() -> None:
    one, two, three = (DenoisingNetwork(9, Denoiser(dims=(4,)), generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(one.item_in, two.item_in)
    assert not torch.equal(one.item_in, three.item_in)


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(dropout: float) -> None:
    mask = keep_mask((300, 401), dropout, generator())
    assert mask.dtype == torch.bool
    assert float(mask.float().mean()) == pytest.approx(1 - dropout, abs=0.005)
    assert np.abs(np.corrcoef(mask[:, :-1].flatten(), mask[:, 1:].flatten())[0, 1]) < 0.02
    x, factor = dropped(torch.ones(300, 401), dropout, generator())
    assert x.unique().tolist() == [0, 1]
    assert factor == pytest.approx(1 / (1 - dropout))
    assert dropped(x, dropout, None) == (x, 1.0)


def test_dropout_keeps_its_share_of_all_16_bit_numbers() -> None:
    every = np.arange(-32768, 32768)
    for dropout in (0.0, 0.25, 0.5, 0.99):
        assert (every >= least_kept(dropout)).mean() == pytest.approx(1 - dropout, abs=1 / 65536)
    assert (every >= least_kept(1 - 1e-9)).sum() == 1  # and not all of them


def test_dropout_needs_a_generator_and_leaves_the_global_one_alone() -> None:
    network = DenoisingNetwork(30, Denoiser(dims=(8,), dropout=0.5), generator())
    x, steps = torch.ones(3, 30), torch.zeros(3, dtype=torch.int64)
    before = torch.get_rng_state()
    assert torch.equal(network(x, steps), network(x, steps))
    assert torch.equal(network(x, steps, generator(1)), network(x, steps, generator(1)))
    assert not torch.equal(network(x, steps, generator(1)), network(x, steps, generator(2)))
    assert torch.equal(torch.get_rng_state(), before)


def test_any_depth_can_learn() -> None:
    for dims in ((4,), (4, 6), (4, 6, 8)):
        network = DenoisingNetwork(20, Denoiser(dims=dims), generator())
        network(torch.ones(2, 20), torch.tensor([0, 1])).square().sum().backward()
        assert all(isinstance(p, nn.Parameter) and p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(
    "bad", [{"dims": ()}, {"dims": (0,)}, {"dropout": 1.0}, {"activation": "tan"}, {"embedding_size": 0}]
)
def test_bad_settings_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(SpecError, match=next(iter(bad))):
        Denoiser(**bad)  # type: ignore[arg-type]
