from __future__ import annotations

import warnings

import numpy as np
import pytest

from unblur.errors import SpecError
from unblur.models.diffusion.schedule import NoiseSchedule, Schedule, noise_schedule
from unblur.spec import spec_from_dict

NAMES = ["linear", "linear-var", "cosine", "binomial"]


def schedule_of(name: str, steps: int, *, fixed_first: bool = False, scale: float = 0.1) -> NoiseSchedule:
    return noise_schedule(
        Schedule(
            name=name, steps=steps, scale=scale, noise_min=0.001, noise_max=0.05, fixed_first=fixed_first
        )
    )


def test_linear_betas_run_evenly_between_the_scaled_bounds() -> None:
    assert schedule_of("linear", 5).betas == pytest.approx(np.linspace(0.0001, 0.005, 5))


def test_equal_bounds_give_constant_betas_under_linear() -> None:
    schedule = Schedule(steps=4, scale=0.1, noise_min=0.02, noise_max=0.02, fixed_first=False)
    assert noise_schedule(schedule).betas == pytest.approx(np.full(4, 0.002))


def test_linear_variances_run_evenly_between_the_scaled_bounds() -> None:
    schedule = schedule_of("linear-var", 7)
    assert 1 - schedule.alpha_bar == pytest.approx(np.linspace(0.0001, 0.005, 7))
    assert schedule.betas[0] == pytest.approx(0.0001)


def test_cosine_follows_its_closed_form_until_the_cap() -> None:
    schedule = schedule_of("cosine", 20)
    share = np.cos((np.arange(1, 21) / 20 + 0.008) / 1.008 * np.pi / 2) ** 2
    at_zero = np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    assert schedule.alpha_bar[:-1] == pytest.approx(share[:-1] / at_zero)
    assert schedule.betas[-1] == 0.999


def test_binomial_betas_end_at_one_half() -> None:
    assert schedule_of("binomial", 4).betas == pytest.approx([1 / 5, 1 / 4, 1 / 3, 1 / 2])


@pytest.mark.parametrize("name", NAMES)
def test_the_first_beta_can_be_fixed(name: str) -> None:
    free, fixed = schedule_of(name, 6), schedule_of(name, 6, fixed_first=True)
    assert fixed.betas[0] == 1e-5
    assert np.array_equal(fixed.betas[1:], free.betas[1:])


@pytest.mark.parametrize("name", NAMES)
def test_posterior_by_bayes_rule(name: str) -> None:
    """The product of q(x_t | x_{t-1}) and q(x_{t-1} | x_0), with the square completed by hand."""
    schedule = schedule_of(name, 9)
    beta, before = schedule.betas[1:], schedule.alpha_bar_before[1:]
    precision = (1 - beta) / beta + 1 / (1 - before)
    assert schedule.posterior_variance[1:] == pytest.approx(1 / precision)
    assert schedule.posterior_noisy[1:] == pytest.approx(np.sqrt(1 - beta) / beta / precision)
    assert schedule.posterior_clean[1:] == pytest.approx(np.sqrt(before) / (1 - before) / precision)
    assert schedule.posterior_clean[0] == pytest.approx(1)
    assert schedule.posterior_noisy[0] == schedule.posterior_variance[0] == 0


@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize("name", NAMES)
def test_arrays_are_whole_read_only_and_consistent(name: str, steps: int) -> None:
    schedule = schedule_of(name, steps)
    assert schedule.steps == steps
    assert schedule.signal**2 + schedule.noise**2 == pytest.approx(1)
    assert schedule.signal_to_noise == pytest.approx(schedule.signal**2 / schedule.noise**2)
    assert (np.diff(schedule.alpha_bar) < 0).all()
    for array in (schedule.betas, schedule.alpha_bar, schedule.posterior_clean):
        assert array.dtype == np.float64
        assert not array.flags.writeable


def test_against_the_schedulers_of_diffusers() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        diffusers = pytest.importorskip("diffusers")
    import torch

    theirs = diffusers.DDPMScheduler(12, beta_schedule="squaredcos_cap_v2")
    ours = schedule_of("cosine", 12)
    assert ours.betas == pytest.approx(theirs.betas.numpy(), rel=1e-5)
    for name in NAMES:
        ours = schedule_of(name, 12, scale=1.0)
        theirs = diffusers.DDPMScheduler(
            12, trained_betas=ours.betas, prediction_type="sample", clip_sample=False
        )
        theirs.set_timesteps(12)
        assert ours.alpha_bar == pytest.approx(theirs.alphas_cumprod.numpy(), rel=1e-4)
        clean, noise = torch.randn(2, 1, 5, generator=torch.Generator().manual_seed(0)).double()
        for step in (1, 5, 11):
            noisy = theirs.add_noise(clean, noise, torch.tensor(step))
            assert noisy.numpy() == pytest.approx(
                ours.signal[step] * clean.numpy() + ours.noise[step] * noise.numpy(), rel=1e-4
            )
            stepped = theirs.step(clean, step, noisy, generator=torch.Generator().manual_seed(1)).prev_sample
            draw = torch.randn(1, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            mean = ours.posterior_clean[step] * clean + ours.posterior_noisy[step] * noisy
            expected = mean + np.sqrt(ours.posterior_variance[step]) * draw
            assert stepped.numpy() == pytest.approx(expected.numpy(), rel=1e-3, abs=1e-4)


def test_bounds_in_the_wrong_order_are_refused() -> None:
    for name, noise_min in (("linear", 0.006), ("linear-var", 0.006), ("linear-var", 0.005)):
        with pytest.raises(SpecError, match=r"noise_min.*below.*noise_max"):
            Schedule(name=name, noise_min=noise_min, noise_max=0.005)
    Schedule(name="cosine", noise_min=0.006, noise_max=0.005)  # which does not use them


def test_betas_outside_their_range_are_refused() -> None:
    with pytest.raises(SpecError, match=r"\(0, 1\]"):
        Schedule(scale=300, noise_min=0.001, noise_max=0.005)
    with pytest.raises(SpecError, match=r"\(0, 1\]"):
        Schedule(noise_min=0.0, fixed_first=False)
    with pytest.raises(SpecError, match=r"\(0, 1\]"):
        NoiseSchedule(np.array([0.1, 1.5]))


def test_bad_fields_are_refused_by_name() -> None:
    with pytest.raises(SpecError, match="steps"):
        Schedule(steps=0)
    with pytest.raises(SpecError, match="name"):
        Schedule(name="sine")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="steps"):
        spec_from_dict(Schedule, {"step": 3})


def test_no_noise_is_a_schedule_without_arrays() -> None:
    assert Schedule(scale=0.0).noiseless
    with pytest.raises(SpecError, match="scale"):
        noise_schedule(Schedule(scale=0.0))
