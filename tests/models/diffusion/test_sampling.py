from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.sampling import (
    FoldedChain,
    Inference,
    add_noise,
    denoise,
    denoise_by_steps,
    reverse_chain,
    row_keys,
    row_normals,
)
from unblur.models.diffusion.schedule import Schedule, noise_schedule
from unblur.models.diffusion.settings import Denoiser, Objective, Sampling
from unblur.training.rows import SparseRows

WIDTH = 40
NOISY = Schedule(name="linear-var", steps=8, scale=1.0, noise_min=0.01, noise_max=0.4)


def network(**settings: object) -> DenoisingNetwork:
    denoiser = DenoisingNetwork(
        WIDTH, Denoiser(**{"dims": (6, 9), **settings}), torch.Generator().manual_seed(0)
    )
    return denoiser.requires_grad_(False)


def rows(n: int = 11, seed: int = 1) -> sparse.csr_array:
    return sparse.csr_array((np.random.default_rng(seed).random((n, WIDTH)) < 0.2).astype(np.float32))


@pytest.mark.parametrize("prediction", ["x0", "eps"])
def test_reverse_steps_take_posterior_means(prediction: str) -> None:
    schedule, net = noise_schedule(NOISY), network()
    x = torch.from_numpy(rows().toarray())
    chain = reverse_chain(NOISY, prediction=prediction)
    for step, after in zip(range(7, -1, -1), denoise_by_steps(net, chain, x), strict=True):
        answer = net(x, torch.full((len(x),), step))
        clean = answer
        if prediction == "eps":
            clean = (x - schedule.noise[step] * answer) / schedule.signal[step]
        x = schedule.posterior_clean[step] * clean + schedule.posterior_noisy[step] * x
        torch.testing.assert_close(after, x.float(), rtol=1e-4, atol=1e-5)


def test_without_noise_the_network_is_applied_again_and_again() -> None:
    net, x = network(), torch.from_numpy(rows().toarray())
    chain = reverse_chain(Schedule(scale=0.0, steps=3))
    expected = x
    for step in (2, 1, 0):
        expected = net(expected, torch.full((len(x),), step))
    torch.testing.assert_close(denoise(net, chain, x), expected)


@pytest.mark.parametrize("most_steps", [None, 1, 3, 100])
@pytest.mark.parametrize("prediction", ["x0", "eps"])
@pytest.mark.parametrize("schedule", [NOISY, Schedule(scale=0.0, steps=8), Schedule(name="cosine", steps=5)])
@pytest.mark.parametrize("settings", [{}, {"layout": "straight", "activation": "relu"}, {"dims": (5,)}])
def test_folded_equals_step_by_step(
    schedule: Schedule, prediction: str, most_steps: int | None, settings: dict[str, object]
) -> None:
    if schedule.noiseless and prediction == "eps":
        return
    net, x = network(**settings), torch.from_numpy(rows().toarray())
    chain = reverse_chain(schedule, prediction=prediction, most_steps=most_steps)
    expected = denoise(net, chain, x)
    scale = float(expected.abs().max())
    torch.testing.assert_close(FoldedChain.of(net, chain)(x), expected, rtol=0, atol=1e-5 * scale)
    inference = Inference(
        net, schedule, Objective(prediction=prediction), Sampling(inference_steps=most_steps)
    )
    batch = SparseRows.of(rows()).all()
    torch.testing.assert_close(inference.sparse(batch), expected, rtol=0, atol=1e-5 * scale)


def test_a_cap_spreads_its_steps_over_all() -> None:
    assert reverse_chain(NOISY, most_steps=3).steps.tolist() == [7, 3, 0]
    assert reverse_chain(NOISY, most_steps=99).steps.tolist() == list(range(7, -1, -1))
    assert reverse_chain(NOISY, most_steps=1).steps.tolist() == [7]
    assert reverse_chain(Schedule(scale=0.0, steps=9), most_steps=2).steps.tolist() == [8, 0]
    assert not reverse_chain(NOISY).from_previous.any()


@pytest.mark.parametrize("prediction", ["x0", "eps"])
@pytest.mark.parametrize("most_steps", [1, 2, 3, 5, 7])
def test_steps_between_evaluations_extrapolate_the_last_two(most_steps: int, prediction: str) -> None:
    chain, full_chain = (
        reverse_chain(NOISY, prediction=prediction, most_steps=cap) for cap in (most_steps, None)
    )
    net, x = network(), torch.from_numpy(rows().toarray())
    outputs: list[tuple[int, torch.Tensor]] = []
    expected = x
    for place, step in enumerate(full_chain.steps.tolist()):
        if step in chain.steps:
            outputs.append((place, net(expected, torch.full((len(x),), step))))
        answer = outputs[-1][1]
        if len(outputs) > 1:
            (previous, previous_output), (latest, latest_output) = outputs[-2:]
            answer = latest_output + (latest_output - previous_output) * (
                (place - latest) / (latest - previous)
            )
        expected = full_chain.from_output[place] * answer + full_chain.from_state[place] * expected
    scale = float(expected.abs().max())
    torch.testing.assert_close(denoise(net, chain, x), expected.float(), rtol=0, atol=1e-5 * scale)


def test_more_steps_come_closer_to_all_of_them() -> None:
    schedule = Schedule(name="linear-var", steps=60, scale=0.1, noise_min=0.01, noise_max=0.3)
    net, x = network(), torch.from_numpy(rows().toarray())
    net.step_in.zero_()  # the input of the step: in an untrained network the output is not smooth in it
    exact = denoise(net, reverse_chain(schedule), x)
    errors = [
        float((denoise(net, reverse_chain(schedule, most_steps=cap), x) - exact).abs().max())
        for cap in (1, 5, 20, 60)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.3 * errors[1]
    assert errors[3] == 0


def test_l2_normalised_rows_go_step_by_step() -> None:
    net = network(normalize=True)
    inference = Inference(net, NOISY, Objective(), Sampling())
    assert inference.folded is None
    batch = SparseRows.of(rows()).all()
    torch.testing.assert_close(inference.sparse(batch), denoise(net, inference.chain, batch.dense()))


@pytest.mark.parametrize(
    "sampling", [Sampling(start_steps=3), Sampling(noise=True), Sampling(start_steps=8, noise=True)]
)
def test_noise_belongs_to_the_row_and_the_seed(sampling: Sampling) -> None:
    inference, matrix = Inference(network(), NOISY, Objective(), sampling), rows()
    expected = inference.sparse(SparseRows.of(matrix).all(), row_keys(matrix, 5))
    for start, stop in ((0, 4), (4, 5), (5, 11)):
        part = sparse.csr_array(matrix[start:stop])
        own_rows = inference.sparse(SparseRows.of(part).all(), row_keys(part, 5))
        torch.testing.assert_close(own_rows, expected[start:stop], rtol=1e-5, atol=1e-6)
    other = inference.sparse(SparseRows.of(matrix).all(), row_keys(matrix, 6))
    assert float((other - expected).abs().max()) > 1e-3
    without_noise = Inference(network(), NOISY, Objective(), Sampling()).sparse(SparseRows.of(matrix).all())
    assert float((without_noise - expected).abs().max()) > 1e-3


def test_a_noisy_start_has_the_signal_and_noise_of_its_step() -> None:
    schedule = noise_schedule(NOISY)
    noisy = add_noise(torch.ones(2, 3), schedule, 4, torch.full((2, 3), 2.0))
    assert noisy.unique().item() == pytest.approx(schedule.signal[3] + 2 * schedule.noise[3])


def test_sampling_noise_is_scaled_and_left_out_at_the_end() -> None:
    net, x, chain = network(), torch.from_numpy(rows().toarray()), reverse_chain(NOISY)
    positions: list[int] = []

    def noise(position: int) -> torch.Tensor:
        positions.append(position)
        return torch.ones_like(x)

    noisy, plain = denoise_by_steps(net, chain, x, noise), denoise_by_steps(net, chain, x)
    difference = (next(noisy) - next(plain)).unique()
    assert difference.numpy() == pytest.approx(
        np.sqrt(noise_schedule(NOISY).posterior_variance[-1]), rel=1e-4
    )
    assert len(list(noisy)) == 7
    assert positions == list(range(7))


def test_row_noise_is_standard_normal_and_fresh_at_each_draw() -> None:
    matrix = sparse.csr_array((np.random.default_rng(0).random((400, 50)) < 0.2).astype(np.float32))
    keys = row_keys(matrix, 3)
    first, second = row_normals(keys, 0, 301), row_normals(keys, 1, 301)
    assert first.shape == (400, 301)
    for noise in (first, second):
        assert float(noise.mean()) == pytest.approx(0, abs=0.01)
        assert float(noise.std()) == pytest.approx(1, abs=0.01)
    flat = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in ((first, second), (first[:-1], first[1:]))]
    assert np.abs(flat).max() < 0.02
    assert np.abs(np.corrcoef(first[:, 0::2][:, :150].ravel(), first[:, 1::2].ravel())[0, 1]) < 0.02
