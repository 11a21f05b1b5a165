"""The parts of latent diffusion against independent implementations: schedules, losses, the reverse chain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from unblur.models.diffusion.denoiser import step_embedding
from unblur.synthesis.latent_diffusion import (
    CodesLearner,
    DivergedSampling,
    LatentDenoiser,
    LatentDiffusion,
    LatentSampler,
    latent_schedule,
    noise_levels,
    score_matching,
    sloped,
    step_counts,
)
from unblur.training.loop import Moment, Training
from unblur.training.settings import Optimizer, Plan


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


PAPER: dict[str, Any] = {
    "beta_min": 1e-4,
    "beta_max": 0.02,
    "objective": "sdrm",
    "output": "tanh",
    "dropout": 0.5,
    "standardized": False,
}


def network(width: int = 6, **settings: Any) -> LatentDenoiser:
    diffusion = LatentDiffusion(**{"steps": 7, **PAPER, **settings})
    return LatentDenoiser(width, diffusion, generator()).requires_grad_(False)


def test_the_schedule_is_that_of_diffusers() -> None:
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(num_train_timesteps=84, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
    ours = latent_schedule(LatentDiffusion(steps=83, **PAPER))
    np.testing.assert_allclose(ours.betas, theirs.betas.numpy(), rtol=1e-5)
    np.testing.assert_allclose(ours.alpha_bar, theirs.alphas_cumprod.numpy(), rtol=1e-5)
    signal, level = noise_levels(LatentDiffusion(steps=83, **PAPER))
    x, noise, steps = torch.randn(5, 4), torch.randn(5, 4), torch.tensor([1, 20, 40, 60, 83])
    np.testing.assert_allclose(
        x * signal[steps, None] + noise * level[steps, None],
        theirs.add_noise(x, noise, steps),
        atol=1e-5,
    )
    _, without = noise_levels(LatentDiffusion(steps=83, noise_without_root=True, **PAPER))
    np.testing.assert_allclose(without, level**2, rtol=1e-5)


def ddpm(**settings: Any) -> Any:
    """The scheduler of diffusers with the variance β_t and no clipping, for seven steps."""
    from diffusers import DDPMScheduler

    betas = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
    return DDPMScheduler(8, **betas, variance_type="fixed_large", clip_sample=False, **settings)


def test_a_reverse_step_is_that_of_diffusers() -> None:
    """Theirs first computes x_0."""
    denoiser = network()
    theirs = ddpm()
    sampler = LatentSampler(denoiser)
    x = torch.randn(9, 6, generator=generator(1))
    for step in (7, 4, 2):
        answer = sampler.predict_noise(x, step)
        expected = theirs.step(answer, step, x, generator=generator(2)).prev_sample
        z = torch.randn(9, 6, generator=generator(2))
        ours = (x - answer * sampler._noise_factor[step]) * sampler._scale[step] + sampler._deviation[
            step
        ] * z
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_the_velocity_is_that_of_diffusers() -> None:
    """The target of training, and the reverse step that follows from a prediction of it."""
    settings = LatentDiffusion(
        **{**PAPER, "steps": 7, "objective": "velocity", "output": "identity", "dropout": 0.0}
    )
    clean = torch.randn(9, 6, generator=generator(5))
    learner = CodesLearner(settings, clean, 0)
    denoiser = learner.network.requires_grad_(False)
    theirs = ddpm(prediction_type="v_prediction")
    steps, noise, noisy = learner.draw(clean, generator(6))
    expected = theirs.get_velocity(clean, noise, steps)
    errors = (denoiser(noisy, steps) - expected).square().mean(1)
    np.testing.assert_allclose(learner.losses(torch.arange(9), Moment(1, 0), generator(6)), errors, rtol=1e-4)
    sampler = LatentSampler(denoiser)
    for step in (7, 4, 2):
        velocity = denoiser(noisy, torch.full((9,), step))
        expected = theirs.step(velocity, step, noisy, generator=generator(2)).prev_sample
        z = torch.randn(9, 6, generator=generator(2))
        answer = sampler.predict_noise(noisy, step)
        ours = (noisy - answer * sampler._noise_factor[step]) * sampler._scale[step] + sampler._deviation[
            step
        ] * z
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_codes_are_standardized_and_restored() -> None:
    codes = (
        torch.randn(400, 6, generator=generator(1)) * torch.arange(6) + 3
    )  # the first column is the same for all
    denoiser = network(standardized=True)
    denoiser.fit_scale(codes)
    scaled = denoiser.standardized(codes)
    np.testing.assert_allclose(scaled.mean(0), np.zeros(6), atol=1e-5)
    np.testing.assert_allclose(scaled.std(0, correction=0), [0, 1, 1, 1, 1, 1], atol=1e-5)
    np.testing.assert_allclose(denoiser.restored(scaled), codes, atol=1e-5)
    plain = network()
    plain.fit_scale(codes)
    assert plain.standardized(codes) is codes
    assert plain.restored(codes) is codes
    assert set(denoiser.state_dict()) - set(plain.state_dict()) == {"center", "spread"}


def test_a_chain_on_standardized_codes_ends_in_their_distribution() -> None:
    """Without standardizing it ends near N(0, I) for any codes."""
    settings = LatentDiffusion(hidden_layers=1, epochs=60)
    codes = torch.randn(1000, 4, generator=generator()) * 0.2 + torch.tensor([5.0, -5.0, 9.0, 0.0])
    learner = CodesLearner(settings, codes, 1)
    run = Training(learner, Plan(settings.epochs, settings.batch_size, decay=settings.decay), seed=1)
    for _ in run.epochs():
        pass
    fitted = run.fitted()
    sampled = fitted.restored(LatentSampler(fitted).sample(np.full(4000, settings.steps), generator(2)))
    np.testing.assert_allclose(sampled.mean(0), codes.mean(0), atol=0.05)
    np.testing.assert_allclose(sampled.std(0), codes.std(0), rtol=0.2)


@pytest.mark.parametrize("tied", [False, True])
def test_the_network_is_the_one_described(tied: bool) -> None:
    """Against torch's own layers."""
    denoiser = network(tied_hidden_layers=tied, hidden_layers=3)
    assert len(denoiser.hidden_weights) == (1 if tied else 3)

    def linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        return layer

    x, steps = torch.randn(11, 6, generator=generator(1)), torch.arange(11) % 7 + 1
    embedded = linear(denoiser.embedding_weight, denoiser.embedding_bias)(step_embedding(steps, 7))
    h = linear(torch.cat((denoiser.first_weight, denoiser.step_weight), 1), denoiser.first_bias)(
        torch.cat((x, embedded), 1)
    )
    h = functional.prelu(h, denoiser.first_slope)
    for number in range(3):
        place = 0 if tied else number
        h = linear(denoiser.hidden_weights[place], denoiser.hidden_biases[place])(h)
        h = functional.prelu(h, denoiser.hidden_slopes[place])
    expected = torch.tanh(linear(denoiser.last_weight, denoiser.last_bias)(h)).detach()
    np.testing.assert_allclose(denoiser.bounded(denoiser(x, steps)), expected, atol=1e-6)
    sampler = LatentSampler(denoiser)
    np.testing.assert_allclose(sampler.predict_noise(x[:1], 1), expected[:1], atol=1e-6)


def test_prelu_and_its_gradient_are_torchs() -> None:
    x = torch.randn(8, 5, generator=generator(), dtype=torch.float64, requires_grad=True)
    slope = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    weights = torch.randn(8, 5, generator=generator(1), dtype=torch.float64)
    ours = torch.autograd.grad((sloped(x, slope) * weights).sum(), (x, slope))
    theirs = torch.autograd.grad((functional.prelu(x, slope) * weights).sum(), (x, slope))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_score_matching_is_the_papers_with_its_gradient() -> None:
    answers = torch.randn(12, 5, generator=generator(), dtype=torch.float64, requires_grad=True)
    clean = torch.randn(4, 5, generator=generator(1), dtype=torch.float64)

    def textbook(answers: torch.Tensor) -> torch.Tensor:
        score, moved, guess = answers.chunk(3)
        rho = guess - clean
        errors = functional.mse_loss((moved - score) / 0.1**2, rho) + functional.mse_loss(rho, score)
        return errors / 2 / (rho.var() + 1e-8)

    ours, expected = score_matching(answers, clean, 0.1), textbook(answers)
    assert float(ours.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    mine, theirs = (torch.autograd.grad(each, answers)[0] for each in (ours, expected))
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)


def test_full_and_multi_resolution_agree_if_all_rows_take_all_steps() -> None:
    sampler = LatentSampler(network(tied_hidden_layers=True))
    full = sampler.sample(np.full(200, 7), generator(3))
    assert torch.equal(
        full, sampler.sample(step_counts("full", 200, 7, np.random.default_rng(0)), generator(3))
    )


def test_rows_may_take_different_numbers_of_steps() -> None:
    """Row by row, without noise: each row's chain from its own first step."""
    denoiser = network(noise_variance_diminisher=1e-9)
    sampler = LatentSampler(denoiser)
    counts = np.array([3, 7, 1, 5, 7, 2, 1])
    rows = sampler.sample(counts, generator(3))
    starts = torch.empty(7, 6).normal_(generator=generator(3))
    for place, row in enumerate(np.argsort(-counts, kind="stable")):
        x = starts[place : place + 1].clone()
        for step in range(counts[row], 0, -1):
            alpha, bar = 1 - sampler_betas()[step], np.cumprod(1 - sampler_betas())[step]
            x = (x - sampler.predict_noise(x, step) * float((1 - alpha) / np.sqrt(1 - bar))) / float(
                np.sqrt(alpha)
            )
        np.testing.assert_allclose(rows[row], x[0], atol=1e-5)


def sampler_betas() -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.linspace(1e-4, 0.02, 8)


def test_numbers_of_steps_are_uniform_from_1_to_t_minus_1() -> None:
    counts = step_counts("multi-resolution", 60_000, 7, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(counts)[1:], 10_000, rtol=0.05)
    assert len(np.bincount(counts)) == 7


def test_dropout_in_sampling_is_a_setting() -> None:
    still, noisy = (
        LatentSampler(network(sampling_dropout=on, noise_variance_diminisher=1e-9)) for on in (False, True)
    )
    counts = np.full(6, 3)
    assert not torch.allclose(
        still.sample(counts, generator(1)), noisy.sample(counts, generator(1)), atol=1e-3
    )


def test_latents_that_are_not_finite_are_refused() -> None:
    denoiser = network(output="identity")
    denoiser.last_bias.fill_(torch.inf)
    with pytest.raises(DivergedSampling, match=r"Latents must stay finite; 5 of 5 are not\. .* lower its"):
        LatentSampler(denoiser).sample(np.full(5, 3), generator())


def test_predicting_the_noise_of_a_gaussian_reaches_the_optimum() -> None:
    """x_0 ~ N(0, s²): the best prediction of ε is x_t·level/(signal²·s² + level²), linear in x_t, and its loss is
    signal²·s²/(signal²·s² + level²)."""
    spread = 0.5
    settings = LatentDiffusion(
        steps=4,
        beta_min=0.1,
        beta_max=0.5,
        hidden_layers=1,
        output="identity",
        dropout=0,
        objective="noise",
        standardized=False,
        optimizer=Optimizer(name="adam", learning_rate=1e-2),
    )
    clean = torch.randn(4000, 8, generator=generator()) * spread
    run = Training(CodesLearner(settings, clean, 1), Plan(100, 500, decay="linear"), seed=1)
    for _ in run.epochs():
        pass
    fitted = run.fitted()
    signals, levels = noise_levels(settings)
    x = torch.randn(500, 8, generator=generator(1))
    for step in (1, 2, 4):
        signal, level = float(signals[step]), float(levels[step])
        variance = signal**2 * spread**2 + level**2
        noisy = x * variance**0.5
        guess = fitted.bounded(fitted(noisy, torch.full((500,), step)))
        error = float((guess - noisy * level / variance).square().mean())
        assert error < 0.03 * signal**2 * spread**2 / variance + 0.004


def test_noise_is_diminished_in_training() -> None:
    clean = torch.zeros(2000, 4)
    _, every_step, _ = CodesLearner(LatentDiffusion(), clean, 0).draw(clean, generator())
    _, less, noisy = CodesLearner(LatentDiffusion(noise_variance_diminisher=0.1), clean, 0).draw(
        clean, generator()
    )
    np.testing.assert_allclose(less, every_step * 0.1, rtol=1e-6)
    assert float(noisy.abs().max()) <= float(less.abs().max())
