"""From a noisy row back to a clean one, step by step (paper, section 3.3), folded where that is exact.

Every reverse step is linear in the network's answer and in the row it started from, ``x_{t−1} = a_t·answer +
b_t·x_t (+ σ_t·ε)``, whichever of x_0 and ε the network guesses. Therefore steps can be merged without asking
the network each time: a cap on reverse steps does so, with the answers in between extrapolated.

Without L2 normalisation and without sampling noise a row only ever enters the network through its first
linear layer, z = x·W_in. So z follows by itself, ``z ← a·(h·F + f) + b·z`` with F = W_outᵀ·W_in and f = b_out·W_in
computed once, and items appear only at the two ends: a sparse product to begin with and one dense product in the
end, however many steps lie between. That is `FoldedChain`; `Inference` takes it wherever it can.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.schedule import Floats, NoiseSchedule, Schedule, noise_schedule
from unblur.models.diffusion.settings import Objective, Sampling
from unblur.training.rows import RowBatch

RowNoise: TypeAlias = Callable[[int], Tensor]
"""Standard normal noise of the rows in hand, (n, width), for the k-th draw, k = 0, 1, …"""
Keys: TypeAlias = NDArray[np.uint64]
"""One word for each row."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2⁶⁴ over the golden ratio, by whose multiples SplitMix64 walks: they are spread evenly over all words."""
BLOCK = 512
"""Rows that are run together, at most, so that their answers stay in the cache."""


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
        return np.asarray(self.from_answer * after + later)

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
    count = min(total, most_steps or total)
    asked = np.unique(np.round(np.linspace(0, total - 1, count)).astype(np.intp))
    if schedule.noiseless:
        ones, zeros = np.ones(len(asked)), np.zeros(len(asked))
        return ReverseChain(total - 1 - asked, ones, zeros, zeros, zeros)
    noisy = noise_schedule(schedule)
    clean, state = noisy.posterior_clean, noisy.posterior_noisy
    if predicts == "eps":  # x_0 = (x_t − noise·answer) / signal
        clean, state = -clean * noisy.noise / noisy.signal, state + clean / noisy.signal
    a, b, sigma = clean[::-1], state[::-1], np.sqrt(noisy.posterior_variance)[::-1]
    rows = [_merged(a, b, sigma, asked, place) for place in range(len(asked))]
    return ReverseChain(total - 1 - asked, *(np.array(column) for column in zip(*rows, strict=True)))


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
    return deque(denoising_path(network, chain, start, noise), maxlen=1).pop()


@dataclass(frozen=True, eq=False)
class FoldedChain:
    """A network and a reverse chain, ready to run in the hidden space."""

    network: DenoisingNetwork
    chain: ReverseChain
    fold: Tensor
    """F, (last hidden width, first hidden width)."""
    fold_bias: Tensor
    """f, (first hidden width,)."""
    step_inputs: Tensor
    """(K, first hidden width): what each step's embedding adds, first bias included."""

    @classmethod
    @torch.no_grad()
    def of(cls, network: DenoisingNetwork, chain: ReverseChain) -> FoldedChain:
        """Fold: one product (last width × n) · (n × first width), n the width of the rows."""
        steps = torch.as_tensor(chain.steps, dtype=torch.int64, device=network.item_in.device)
        return cls(
            network,
            chain,
            fold=network.item_out.T @ network.item_in,
            fold_bias=network.bias_out @ network.item_in,
            step_inputs=network.step_inputs(steps),
        )

    @torch.no_grad()
    def hidden(self, first: Tensor) -> Tensor:
        """From z of the start, (n, first width), to Σ_k weight_k·h_k, (n, last width), over the steps'
        answers."""
        blocks = even_blocks(first)
        totals = first.new_empty(len(first), len(self.fold))
        biases = [self.network.bias_in, *self.network.hidden_biases]
        # Memory for each hidden layer's values, used again by all blocks: to get it anew costs about as much as the
        # layers do when several threads ask for it.
        room = [self.fold.new_empty(len(blocks[0]), len(bias)) for bias in biases]
        z = torch.empty_like(blocks[0])
        for block, total in zip(blocks, even_blocks(totals), strict=True):
            size = len(block)
            self._steps(z[:size].copy_(block), [layer[:size] for layer in room], total.zero_())
        return totals

    def _steps(self, z: Tensor, layers: Sequence[Tensor], total: Tensor) -> None:
        """Take all steps from z, which is overwritten, and add up the answers."""
        chain, weights = self.chain, self.chain.answer_weights
        kept, earlier = bool(chain.from_earlier.any()), None
        for place in range(len(chain)):
            torch.add(z, self.step_inputs[place], out=layers[0])
            h = self.network.hidden_in_place(layers)
            if weights[place]:
                total.add_(h, alpha=float(weights[place]))
            if place == len(chain) - 1:
                break
            a, b, c = (
                float(part[place]) for part in (chain.from_answer, chain.from_state, chain.from_earlier)
            )
            both = h if earlier is None or not c else h.add(earlier, alpha=c / a)
            torch.addmm(z, both, self.fold, beta=b, alpha=a, out=z).add_(self.fold_bias, alpha=a + c)
            if kept:
                earlier = h.clone()

    def rows(self, hidden: Tensor, start: Tensor | None = None) -> Tensor:
        """The final rows, (n, width), from what `hidden` gave; `start` is needed where it still counts."""
        weights = self.chain.answer_weights
        rows = torch.addmm(self.network.bias_out, hidden, self.network.item_out.T, beta=float(weights.sum()))
        if start is not None and self.chain.start_weight:
            rows.add_(start, alpha=self.chain.start_weight)
        return rows

    def __call__(self, start: Tensor) -> Tensor:
        """The final rows for dense starting rows, (n, width) → (n, width)."""
        return self.rows(self.hidden(start @ self.network.item_in), start)


def even_blocks(rows: Tensor) -> tuple[Tensor, ...]:
    """Views of rows, at most `BLOCK` each and the first no smaller than any, since a handful takes other routes."""
    return rows.tensor_split(max(1, -(-len(rows) // BLOCK)))


@dataclass(frozen=True, eq=False)
class Inference:
    """A trained network with the way its chain is run (paper, section 3.3)."""

    network: DenoisingNetwork
    schedule: Schedule
    objective: Objective
    sampling: Sampling

    @property
    def noisy(self) -> bool:
        """Whether rows need noise: at the start, or at each step."""
        return not self.schedule.noiseless and (self.sampling.start_steps > 0 or self.sampling.noise)

    @cached_property
    def chain(self) -> ReverseChain:
        """The reverse steps that are taken."""
        return reverse_chain(
            self.schedule, predicts=self.objective.predicts, most_steps=self.sampling.inference_steps
        )

    @cached_property
    def folded(self) -> FoldedChain | None:
        """The chain in the hidden space, where rows enter the network as they are and no noise is added on the way."""
        if self.network.settings.normalize or (self.sampling.noise and self.noisy):
            return None
        return FoldedChain.of(self.network, self.chain)

    def sparse(self, batch: RowBatch, keys: Keys | None = None) -> Tensor:
        """The clean rows, (n, width), behind sparse ones; `keys` are those of `row_keys`, needed where
        `noisy`."""
        folded = self.folded
        if folded is None or self.noisy:
            return self.dense(batch.dense(), keys)
        start = batch.dense() if self.chain.start_weight else None
        return folded.rows(folded.hidden(batch.times(self.network.item_in)), start)

    def dense(self, start: Tensor, keys: Keys | None = None) -> Tensor:
        """The clean rows, (n, width), behind dense ones."""
        noise = None if keys is None or not self.noisy else self._noise(keys)
        if noise is not None and self.sampling.start_steps:
            start = noised(start, noise_schedule(self.schedule), self.sampling.start_steps, noise(0))
        if self.folded is not None:
            return self.folded(start)
        later = noise if noise is not None and self.sampling.noise else None
        return denoise(
            self.network, self.chain, start, None if later is None else lambda place: later(place + 1)
        )

    def _noise(self, keys: Keys) -> Callable[[int], Tensor]:
        width, device = self.network.width, self.network.item_in.device
        return lambda draw: torch.from_numpy(row_normals(keys, draw, width)).to(device)


# Noise of its own for each history: a function of the row, so that the same row gets the same noise in whatever batch
# it stands.


def mixed(values: Keys) -> Keys:
    """A bijective scrambling of 64-bit words (the finaliser of SplitMix64; Steele, Lea and Flood, OOPSLA
    2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def row_keys(rows: sparse.csr_array, seed: int) -> Keys:
    """One word for each row, (n_rows,), from which columns it has and from the seed."""
    with np.errstate(over="ignore"):
        words = mixed((rows.indices.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
        sums = np.concatenate(([np.uint64(0)], np.cumsum(words, dtype=np.uint64)))
        totals = sums[rows.indptr[1:]] - sums[rows.indptr[:-1]]
        return mixed(totals + np.uint64(seed))


def row_normals(keys: Keys, draw: int, width: int) -> NDArray[np.float32]:
    """Standard normal numbers, (n_rows, width), for the `draw`-th time that the rows need some (Box and
    Muller, 1958)."""
    pairs = -(-width // 2)
    with np.errstate(over="ignore"):
        places = (np.arange(pairs, dtype=np.uint64) + np.uint64(draw + 1) * np.uint64(1 << 32)) * _GOLDEN
        words = mixed(keys[:, None] + places[None, :])
    high = ((words >> np.uint64(32)).astype(np.float64) + 0.5) / 2**32
    low = (words & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2 * np.pi / 2**32)
    radius = np.sqrt(-2 * np.log(high))
    normals = np.empty((len(keys), 2 * pairs), dtype=np.float32)
    normals[:, 0::2], normals[:, 1::2] = radius * np.cos(low), radius * np.sin(low)
    return normals[:, :width]
