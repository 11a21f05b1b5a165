"""From a noisy row back to a clean one, step by step (paper, section 3.3). Pure functions.

Every reverse step is linear in the network's answer and in the row it started from, ``x_{t−1} = a_t·answer +
b_t·x_t (+ σ_t·ε)``, whichever of x_0 and ε the network guesses. Therefore steps can be merged without asking
the network each time: a cap on reverse steps does so, with the answers in between extrapolated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.schedule import NoiseSchedule, Schedule, noise_schedule

Floats: TypeAlias = NDArray[np.float64]
RowNoise: TypeAlias = Callable[[int], Tensor]
"""Standard normal noise of the rows in hand, (n, width), for the k-th draw, k = 0, 1, …"""


@dataclass(frozen=True, eq=False)
class ReverseChain:
    """The reverse steps at which the network is asked, noisiest first; arrays (K,), float64 but for `steps`.

    After the k-th answer the rows are ``from_answer·answer_k + from_earlier·answer_{k−1} + from_state·rows``.
    """

    steps: NDArray[np.intp]
    """The step number that the network is told."""
    from_answer: Floats
    from_earlier: Floats
    """0 where the network is asked at every step."""
    from_state: Floats
    deviation: Floats
    """√ of the posterior variance, 0 at the last step."""

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def answer_weights(self) -> Floats:
        """What each answer counts for in the final rows, (K,), when no noise is added."""
        after = np.concatenate((np.cumprod(self.from_state[:0:-1])[::-1], [1.0]))
        later = np.append(self.from_earlier[1:] * after[1:], 0.0)
        made: Floats = self.from_answer * after + later
        return made

    @property
    def start_weight(self) -> float:
        """What the rows at the start count for in the final rows."""
        return float(np.prod(self.from_state))


def reverse_chain(
    schedule: Schedule, *, predicts: Literal["x0", "eps"] = "x0", most_steps: int | None = None
) -> ReverseChain:
    """The reverse steps of a schedule: posterior means (paper, section 3.1), or plain answers without noise.

    `most_steps` caps how often the network is asked: at that many steps, spread evenly over all T, the first
    and the last among them. The steps in between are taken all the same, with the answer extrapolated in a
    line through the last two (a method of order two, as DPM-Solver++ 2M is; Lu et al., 2022). Without noise
    they are left out.
    """
    total = schedule.steps
    asked = evenly_spread(total, min(total, most_steps or total))
    if schedule.noiseless:
        ones, zeros = np.ones(len(asked)), np.zeros(len(asked))
        return ReverseChain(total - 1 - asked, ones, zeros, zeros, zeros)
    made = noise_schedule(schedule)
    clean, state = made.posterior_clean, made.posterior_noisy
    if predicts == "eps":  # x_0 = (x_t − noise·answer) / signal
        clean, state = -clean * made.noise / made.signal, state + clean / made.signal
    a, b, sigma = clean[::-1], state[::-1], np.sqrt(made.posterior_variance)[::-1]
    rows = [_merged(a, b, sigma, asked, place) for place in range(len(asked))]
    from_answer, from_earlier, from_state, deviation = (
        np.array(column) for column in zip(*rows, strict=True)
    )
    return ReverseChain(total - 1 - asked, from_answer, from_earlier, from_state, deviation)


def _merged(
    a: Floats, b: Floats, sigma: Floats, asked: NDArray[np.intp], place: int
) -> tuple[float, float, float, float]:
    """The coefficients of all steps from one answer up to the next, taken at once."""
    first = int(asked[place])
    block = slice(first, int(asked[place + 1]) if place + 1 < len(asked) else len(a))
    after = np.append(np.cumprod(b[block][::-1])[::-1][1:], 1.0)
    weights = a[block] * after
    ahead = np.zeros(len(weights))
    if place:
        ahead = np.arange(len(weights)) / (first - asked[place - 1])
    variance = float(((sigma[block] * after) ** 2).sum())
    return (
        float((weights * (1 + ahead)).sum()),
        float(-(weights * ahead).sum()),
        float(np.prod(b[block])),
        variance**0.5,
    )


def evenly_spread(total: int, count: int) -> NDArray[np.intp]:
    """`count` of the places 0 … `total` − 1, ascending: the first, the last (from two on), evenly between."""
    return np.unique(np.round(np.linspace(0, total - 1, count)).astype(np.intp))


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
    rows, earlier = start, start
    for place, step in enumerate(chain.steps):
        steps = torch.full((len(rows),), int(step), dtype=torch.int64, device=rows.device)
        answer = network(rows, steps)
        rows = answer * float(chain.from_answer[place]) + rows * float(chain.from_state[place])
        if chain.from_earlier[place]:
            rows = rows + earlier * float(chain.from_earlier[place])
        earlier = answer
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
