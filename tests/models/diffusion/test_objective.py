from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np
import pytest
import torch

from unblur.errors import SpecError
from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.objective import DenoisingLoss, TimestepSampler, mean_squares, step_weights
from unblur.models.diffusion.schedule import Schedule, noise_schedule
from unblur.models.diffusion.settings import Denoiser, Objective

STEPS = 6
NOISY = Schedule(name="linear", steps=STEPS, scale=1.0, noise_min=0.01, noise_max=0.2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_weights_for_the_clean_row_are_differences_of_the_signal_to_noise_ratio() -> None:
    schedule = noise_schedule(NOISY)
    weights = step_weights(schedule, Objective(prediction="x0"))
    ratio = schedule.alpha_bar / (1 - schedule.alpha_bar)
    assert weights.tolist() == pytest.approx([1, *(a - b for a, b in pairwise(ratio))])


def test_weights_for_the_noise() -> None:
    schedule = noise_schedule(NOISY)
    weights = step_weights(schedule, Objective(prediction="eps"))
    bar, beta = schedule.alpha_bar, schedule.betas
    expected = [(1 - bar[t]) / ((1 - bar[t - 1]) ** 2 * (1 - beta[t])) for t in range(1, STEPS)]
    assert weights.tolist() == pytest.approx([1, *expected])


def test_weights_can_be_left_out() -> None:
    assert step_weights(noise_schedule(NOISY), Objective(reweight=False)).tolist() == [1] * STEPS


def test_history_equals_a_queue_for_each_step() -> None:
    choice, length = TimestepSampler(STEPS, Objective(history=4)), 4
    queues = [deque[float](maxlen=length) for _ in range(STEPS)]
    random = np.random.default_rng(0)
    for size in (1, 3, 40, 7, 25):
        steps, losses = random.integers(0, STEPS, size), random.random(size)
        choice.remember(torch.from_numpy(steps), torch.from_numpy(losses).float())
        for step, loss in zip(steps, losses.astype(np.float32), strict=True):
            queues[step].append(float(loss))
    assert [sorted(row) for row in choice.losses.tolist()] == [sorted(queue) for queue in queues]
    size = np.sqrt([np.mean(np.square(queue)) for queue in queues])
    expected = size / size.sum() * (1 - 0.001) + 0.001 / STEPS
    assert choice.probabilities().tolist() == pytest.approx(expected.tolist())


def test_steps_are_uniform_until_every_history_is_full() -> None:
    choice = TimestepSampler(3, Objective(history=2))
    choice.remember(torch.tensor([0, 0, 1, 1, 2]), torch.tensor([5.0, 5, 1, 1, 1]))
    assert choice.probabilities().tolist() == pytest.approx([1 / 3] * 3)
    choice.remember(torch.tensor([2]), torch.tensor([1.0]))
    assert choice.probabilities().tolist() == pytest.approx(
        [5 / 7 * 0.999 + 0.001 / 3] + [1 / 7 * 0.999 + 0.001 / 3] * 2
    )


def test_a_uniform_sampler_never_learns() -> None:
    choice = TimestepSampler(3, Objective(history=1, timestep_sampler="uniform"))
    choice.remember(torch.tensor([0, 1, 2]), torch.tensor([9.0, 1, 1]))
    assert choice.probabilities().tolist() == pytest.approx([1 / 3] * 3)


def test_steps_without_a_loss_stay_uniform() -> None:
    choice = TimestepSampler(2, Objective(history=1))
    choice.remember(torch.tensor([0, 1]), torch.zeros(2))
    assert choice.probabilities().tolist() == [0.5, 0.5]


def test_steps_are_drawn_with_their_probabilities() -> None:
    choice = TimestepSampler(4, Objective(history=1))
    choice.remember(torch.arange(4), torch.tensor([1.0, 2, 3, 4]))
    steps, scaled = choice.draw(40_000, generator())
    shares = np.bincount(steps.numpy(), minlength=4) / 40_000
    assert shares == pytest.approx(choice.probabilities().numpy(), abs=0.01)
    assert scaled.numpy() == pytest.approx(4 * choice.probabilities().numpy()[steps.numpy()], rel=1e-5)


class Recorded(DenoisingNetwork):
    """A network that records its last input and output."""

    def forward(
        self, noisy: torch.Tensor, steps: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        answer = super().forward(noisy, steps)
        self.seen = (noisy.detach(), steps, answer.detach())
        return answer


@pytest.mark.parametrize("reweight", [True, False])
@pytest.mark.parametrize("prediction", ["x0", "eps"])
def test_loss_by_hand(prediction: str, reweight: bool) -> None:
    objective = Objective(prediction=prediction, reweight=reweight, history=1)
    loss_of, schedule = DenoisingLoss(NOISY, objective), noise_schedule(NOISY)
    network = Recorded(15, Denoiser(dims=(7,)), generator())
    clean = (torch.rand(64, 15, generator=generator(1)) < 0.3).float()
    loss_of.choice.remember(torch.arange(STEPS), torch.arange(1.0, STEPS + 1))
    chances = loss_of.choice.probabilities().numpy()
    loss, guess = loss_of(network, clean, generator(2))
    noisy, steps, answer = (part.double().numpy() for part in network.seen)
    t, x0 = steps.astype(int), clean.double().numpy()
    epsilon = (noisy - schedule.signal[t, None] * x0) / schedule.noise[t, None]
    if prediction == "x0":
        guessed, errors = answer, ((answer - x0) ** 2).mean(1)
    else:
        guessed = (noisy - schedule.noise[t, None] * answer) / schedule.signal[t, None]
        errors = ((answer - epsilon) ** 2).mean(1)
    errors = errors * step_weights(schedule, objective)[t]
    if prediction == "eps" and reweight:
        errors = np.where(t == 0, ((guessed - x0) ** 2).mean(1) / 2, errors)
    assert float(loss.detach()) == pytest.approx(float((errors / (STEPS * chances[t])).mean()), rel=1e-4)
    np.testing.assert_allclose(guess.detach().numpy(), guessed, rtol=1e-3, atol=1e-4)
    assert set(t.tolist()) == set(range(STEPS))


def test_without_noise_the_network_gets_the_clean_row() -> None:
    loss_of = DenoisingLoss(Schedule(scale=0.0, steps=3), Objective())
    network = Recorded(5, Denoiser(dims=(4,)), generator())
    clean = torch.ones(6, 5)
    loss, _ = loss_of(network, clean, generator())
    assert torch.equal(network.seen[0], clean)
    assert float(loss.detach()) == pytest.approx(float((network.seen[2] - clean).square().mean()))


def test_noise_cannot_be_predicted_without_noise() -> None:
    with pytest.raises(SpecError, match="noise"):
        DenoisingLoss(Schedule(scale=0.0), Objective(prediction="eps"))


def test_mean_squares_and_their_gradient() -> None:
    answer, target = (
        torch.randn(5, 7, generator=generator(seed)).double().requires_grad_() for seed in (0, 1)
    )
    torch.testing.assert_close(mean_squares(answer, target), (answer - target).square().mean(1))
    assert torch.autograd.gradcheck(mean_squares, (answer, target))
