"""From a noisy row back to a clean one, step by step (paper, section 3.3). Pure functions.

Every reverse step is linear in the network's answer and in the row it started from: ``x_{t−1} =
from_answer[t]·answer + from_state[t]·x_t (+ deviation[t]·ε)``, whichever of x_0 and ε the network guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unblur.diffusion.denoiser import DenoisingNetwork
from unblur.diffusion.schedule import NoiseSchedule, Schedule, evenly_spread, noise_schedule

RowNoise = Callable[[int], Tensor]
"""Standard normal noise of the rows in hand, (n, width), for the k-th draw, k = 0, 1, …"""


@dataclass(frozen=True, eq=False)
class ReverseChain:
    """The reverse steps in the order they are taken, noisiest first; float64 arrays (K,)."""

    steps: NDArray[np.intp]
    """The step number that the network is told."""
    from_answer: NDArray[np.float64]
    from_state: NDArray[np.float64]
    deviation: NDArray[np.float64]
    """√ of the posterior variance, 0 at the last step."""

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def answer_weights(self) -> NDArray[np.float64]:
        """What the answer of each step counts for in the final row, (K,), when no noise is added."""
        after = np.concatenate((np.cumprod(self.from_state[:0:-1])[::-1], [1.0]))
        made: NDArray[np.float64] = self.from_answer * after
        return made

    @property
    def start_weight(self) -> float:
        """What the row at the start counts for in the final row."""
        return float(np.prod(self.from_state))


def reverse_chain(
    schedule: Schedule, *, predicts: Literal["x0", "eps"] = "x0", most_steps: int | None = None
) -> ReverseChain:
    """The reverse steps of a schedule: posterior means (paper, section 3.1), or plain answers without
    noise.

    `most_steps` caps their number: that many, evenly spread over all T, the first and the last among them,
    each with the posterior of the longer stride.
    """
    count = min(schedule.steps, most_steps or schedule.steps)
    if schedule.noiseless:
        steps = evenly_spread(schedule.steps, count)[::-1].copy()
        return ReverseChain(steps, np.ones(count), np.zeros(count), np.zeros(count))
    chosen, thinned = noise_schedule(schedule).thinned(count)
    clean, state = thinned.posterior_clean, thinned.posterior_noisy
    if predicts == "eps":  # x_0 = (x_t − noise·answer) / signal
        clean, state = -clean * thinned.noise / thinned.signal, state + clean / thinned.signal
    deviation = np.sqrt(thinned.posterior_variance)
    return ReverseChain(chosen[::-1].copy(), clean[::-1].copy(), state[::-1].copy(), deviation[::-1].copy())


def noised(clean: Tensor, schedule: NoiseSchedule, steps: int, noise: Tensor) -> Tensor:
    """A draw from q(x_steps | x_0): clean rows after `steps` ≥ 1 noise steps; `noise` is standard normal."""
    return clean * float(schedule.signal[steps - 1]) + noise * float(schedule.noise[steps - 1])


def denoising_path(
    network: DenoisingNetwork, chain: ReverseChain, start: Tensor, noise: RowNoise | None = None
) -> Iterator[Tensor]:
    """The rows (n, width) after each reverse step from `start` (n, width); the last is the answer.

    `noise` supplies the posterior's noise, one draw for each step but the last; without it each step takes
    the mean.
    """
    rows = start
    for place, step in enumerate(chain.steps):
        steps = torch.full((len(rows),), int(step), dtype=torch.int64, device=rows.device)
        answer = network(rows, steps)
        rows = answer * float(chain.from_answer[place]) + rows * float(chain.from_state[place])
        if noise is not None and chain.deviation[place] > 0:
            rows = rows + noise(place) * float(chain.deviation[place])
        yield rows


def denoise(
    network: DenoisingNetwork, chain: ReverseChain, start: Tensor, noise: RowNoise | None = None
) -> Tensor:
    """The last rows of `denoising_path`, (n, width)."""
    rows = start
    for rows in denoising_path(network, chain, start, noise):  # noqa: B007
        pass
    return rows
