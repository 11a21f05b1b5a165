"""From a noisy row back to a clean one, step by step (paper, section 3.3), folded where that is exact.

Every reverse step is linear in the network's output and in the row it started from, ``x_{t−1} = a_t·output +
b_t·x_t (+ σ_t·ε)``, whichever of x_0 and ε the network predicts. Therefore steps can be merged without a network
evaluation for each: a cap on evaluations does so, with the outputs in between extrapolated.

The paper is Wang et al., Diffusion Recommender Model, SIGIR 2023, arXiv 2304.04971.

Without L2 normalisation and without sampling noise a row only ever enters the network through its first
linear layer, z = x·W_in. So z has a recurrence of its own, ``z ← a·(h·F + f) + b·z`` with F = W_outᵀ·W_in and
f = b_out·W_in computed once, and items appear only at the two ends: a sparse product at the start and one dense product
at the end, however many steps lie between. That is `FoldedChain`; `Inference` uses it wherever it can.
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
"""Standard normal noise of the current rows, (n, width), for the k-th draw, k = 0, 1, …"""
Keys: TypeAlias = NDArray[np.uint64]
"""A 64-bit word for each row."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2⁶⁴ over the golden ratio, by whose multiples SplitMix64 walks: they are spread evenly over all words."""
BLOCK = 512
"""The most rows that are run together, so that their hidden layers stay in the cache."""


@dataclass(frozen=True, eq=False)
class ReverseChain:
    """The reverse steps at which the network is evaluated; arrays (K,), float64 but for `steps`.

    They run from the noisiest step to the cleanest, whereas those of `NoiseSchedule` begin with the cleanest.

    After the k-th evaluation the rows are ``from_output·output_k + from_previous·output_{k−1} + from_state·rows``.
    """

    steps: NDArray[np.intp]
    """The step number of each evaluation."""
    from_output: Floats
    from_previous: Floats
    """0 if the network is evaluated at every step."""
    from_state: Floats
    deviation: Floats
    """√ of the posterior variance, 0 at the last step."""

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def output_weights(self) -> Floats:
        """The weight of each output in the final rows, (K,), without noise."""
        # An output enters its own evaluation's rows, and by extrapolation those of the next. Each later one scales what is
        # there: after[k] = Π_{j > k} from_state_j is the weight of the rows after evaluation k in the final ones.
        after = np.concatenate((np.cumprod(self.from_state[:0:-1])[::-1], [1.0]))
        later = np.append(self.from_previous[1:] * after[1:], 0.0)
        return np.asarray(self.from_output * after + later)

    @property
    def start_weight(self) -> float:
        """The weight of the starting rows in the final rows."""
        return float(np.prod(self.from_state))


def reverse_chain(
    schedule: Schedule, *, prediction: Literal["x0", "eps"] = "x0", most_steps: int | None = None
) -> ReverseChain:
    """Return the reverse steps of a schedule: posterior means (paper, section 3.1), or plain outputs without noise.

    `most_steps` caps the network evaluations, which are then spread evenly over all T steps, the first (noisiest) and,
    if there are two or more, the last among them. The steps in between are taken all the same, with the output
    extrapolated linearly through the last two (a method of order two, like DPM-Solver++ 2M; Lu et al., 2022). Without
    noise they are left out.
    """
    total = schedule.steps
    count = min(total, most_steps or total)
    evaluated = np.unique(np.round(np.linspace(0, total - 1, count)).astype(np.intp))
    if schedule.noiseless:
        ones, zeros = np.ones(len(evaluated)), np.zeros(len(evaluated))
        return ReverseChain(total - 1 - evaluated, ones, zeros, zeros, zeros)
    levels = noise_schedule(schedule)
    clean, state = levels.posterior_clean, levels.posterior_noisy
    if prediction == "eps":  # x_0 = (x_t − noise·output) / signal
        clean, state = -clean * levels.noise / levels.signal, state + clean / levels.signal
    a, b, sigma = clean[::-1], state[::-1], np.sqrt(levels.posterior_variance)[::-1]  # noisiest first
    rows = [_merge_steps(a, b, sigma, evaluated, index) for index in range(len(evaluated))]
    return ReverseChain(total - 1 - evaluated, *(np.array(column) for column in zip(*rows, strict=True)))


def _merge_steps(
    a: Floats, b: Floats, sigma: Floats, evaluated: NDArray[np.intp], index: int
) -> tuple[float, float, float, float]:
    """Return the coefficients of all steps from one evaluation up to the next, taken at once.

    They are those of the output, of the previous output and of the state, and the deviation of the noise.
    """
    first = int(evaluated[index])
    steps = slice(first, int(evaluated[index + 1]) if index + 1 < len(evaluated) else len(a))
    # after[i] = Π_{j > i} b_j: the weight of the rows after step i in those after the last step of the block.
    after = np.append(np.cumprod(b[steps][::-1])[::-1][1:], 1.0)
    weights = a[steps] * after
    # Step i lies distance[i] beyond this evaluation, in units of the distance between the last two evaluations; its output
    # is taken as output + distance[i]·(output − previous).
    distance = np.zeros(len(weights))
    if index:
        distance = np.arange(len(weights)) / (first - evaluated[index - 1])
    variance = float(((sigma[steps] * after) ** 2).sum())
    return (
        float((weights * (1 + distance)).sum()),
        float(-(weights * distance).sum()),
        float(np.prod(b[steps])),
        variance**0.5,
    )


def add_noise(clean: Tensor, schedule: NoiseSchedule, steps: int, noise: Tensor) -> Tensor:
    """Draw from q(x_steps | x_0): clean rows after `steps` ≥ 1 noise steps; `noise` is standard normal."""
    return clean * float(schedule.signal[steps - 1]) + noise * float(schedule.noise[steps - 1])


def denoise_by_steps(
    network: DenoisingNetwork, chain: ReverseChain, start: Tensor, noise: RowNoise | None = None
) -> Iterator[Tensor]:
    """Yield the rows (n, width) after each reverse step from `start` (n, width); the last are the denoised ones.

    `noise` supplies the posterior's noise, one draw for each step but the last; without it each step takes
    the mean.
    """
    rows, previous = start, start  # the first step never reads `previous`: its from_previous is 0
    for index, step in enumerate(chain.steps):
        steps = torch.full((len(rows),), int(step), dtype=torch.int64, device=rows.device)
        output = network(rows, steps)
        rows = output * float(chain.from_output[index]) + rows * float(chain.from_state[index])
        if chain.from_previous[index]:
            rows = rows + previous * float(chain.from_previous[index])
        previous = output
        if noise is not None and chain.deviation[index] > 0:
            rows = rows + noise(index) * float(chain.deviation[index])
        yield rows


def denoise(
    network: DenoisingNetwork, chain: ReverseChain, start: Tensor, noise: RowNoise | None = None
) -> Tensor:
    """Return the last rows of `denoise_by_steps`, (n, width)."""
    return deque(denoise_by_steps(network, chain, start, noise), maxlen=1).pop()


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
    """(K, first hidden width): the summand of each step's embedding, first bias included."""

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
        """From z of the start, (n, first width), to Σ_k weight_k·h_k, (n, last width), over the evaluations."""
        blocks = split_evenly(first)
        totals = first.new_empty(len(first), len(self.fold))
        biases = [self.network.bias_in, *self.network.hidden_biases]
        # Memory for each hidden layer's values, used again by all blocks: allocating it anew costs about as much as the
        # layers do when several threads allocate.
        layer_blocks = [self.fold.new_empty(len(blocks[0]), len(bias)) for bias in biases]
        z = torch.empty_like(blocks[0])
        for block, total in zip(blocks, split_evenly(totals), strict=True):
            n = len(block)
            self._steps(z[:n].copy_(block), [layer[:n] for layer in layer_blocks], total.zero_())
        return totals

    def _steps(self, z: Tensor, layers: Sequence[Tensor], total: Tensor) -> None:
        """Take all steps from z, which is overwritten, and add the weighted last hidden layers to `total`."""
        chain, weights = self.chain, self.chain.output_weights
        second_order, previous = bool(chain.from_previous.any()), None
        for index in range(len(chain)):
            torch.add(z, self.step_inputs[index], out=layers[0])
            h = self.network.hidden_in_place(layers)
            if weights[index]:
                total.add_(h, alpha=float(weights[index]))
            if index == len(chain) - 1:
                break
            a, b, c = (
                float(coefficients[index])
                for coefficients in (chain.from_output, chain.from_state, chain.from_previous)
            )
            # z ← a·(h·F + f) + b·z + c·(h_previous·F + f): the two products with F are one, of h + (c/a)·h_previous.
            extrapolated = h if previous is None or not c else h.add(previous, alpha=c / a)
            torch.addmm(z, extrapolated, self.fold, beta=b, alpha=a, out=z).add_(self.fold_bias, alpha=a + c)
            if second_order:  # the next step overwrites h
                previous = h.clone()

    def rows(self, hidden: Tensor, start: Tensor | None = None) -> Tensor:
        """Return the final rows, (n, width), from the result of `hidden`; `start` is needed if its weight is not 0."""
        weights = self.chain.output_weights
        rows = torch.addmm(self.network.bias_out, hidden, self.network.item_out.T, beta=float(weights.sum()))
        if start is not None and self.chain.start_weight:
            rows.add_(start, alpha=self.chain.start_weight)
        return rows

    def __call__(self, start: Tensor) -> Tensor:
        """Return the final rows for dense starting rows, (n, width) → (n, width)."""
        return self.rows(self.hidden(start @ self.network.item_in), start)


def split_evenly(rows: Tensor) -> tuple[Tensor, ...]:
    """Return views of at most `BLOCK` rows, of sizes that differ by at most one; the first is a largest.

    A small last block would be multiplied by other kernels, which differ in the last bits. By the first `hidden` sizes
    its buffers.
    """
    return rows.tensor_split(max(1, -(-len(rows) // BLOCK)))


@dataclass(frozen=True, eq=False)
class Inference:
    """A trained network and its reverse chain (paper, section 3.3)."""

    network: DenoisingNetwork
    schedule: Schedule
    objective: Objective
    sampling: Sampling

    @property
    def needs_noise(self) -> bool:
        """True if rows need noise, at the start or at each step."""
        return not self.schedule.noiseless and (self.sampling.start_steps > 0 or self.sampling.noise)

    @cached_property
    def chain(self) -> ReverseChain:
        """The reverse steps that are taken."""
        return reverse_chain(
            self.schedule, prediction=self.objective.prediction, most_steps=self.sampling.inference_steps
        )

    @cached_property
    def folded(self) -> FoldedChain | None:
        """The chain in the hidden space; None if rows are normalised first, or noise is added at each step."""
        if self.network.settings.normalize or (self.sampling.noise and self.needs_noise):
            return None
        return FoldedChain.of(self.network, self.chain)

    def sparse(self, batch: RowBatch, keys: Keys | None = None) -> Tensor:
        """Return the denoised rows, (n, width), of sparse ones; `keys` are those of `row_keys`, needed if `needs_noise`."""
        folded = self.folded
        if folded is None or self.needs_noise:
            return self.dense(batch.dense(), keys)
        start = batch.dense() if self.chain.start_weight else None
        return folded.rows(folded.hidden(batch.times(self.network.item_in)), start)

    def dense(self, start: Tensor, keys: Keys | None = None) -> Tensor:
        """Return the denoised rows, (n, width), of dense ones; without `keys` no noise is added and each step takes the mean."""
        noise = None if keys is None or not self.needs_noise else self._noise(keys)
        if noise is not None and self.sampling.start_steps:
            start = add_noise(start, noise_schedule(self.schedule), self.sampling.start_steps, noise(0))
        if self.folded is not None:
            return self.folded(start)
        step_noise = noise if noise is not None and self.sampling.noise else None
        return denoise(
            self.network,
            self.chain,
            start,
            None if step_noise is None else lambda index: step_noise(index + 1),
        )

    def _noise(self, keys: Keys) -> Callable[[int], Tensor]:
        width, device = self.network.width, self.network.item_in.device
        return lambda draw: torch.from_numpy(row_normals(keys, draw, width)).to(device)


# Each history's noise is a function of the row and the seed, so that a row gets the same noise in any batch. Counters
# hashed by SplitMix64 do that without a generator for each row.


def mix_words(values: Keys) -> Keys:
    """Scramble 64-bit words bijectively (the finaliser of SplitMix64; Steele, Lea and Flood, OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def row_keys(rows: sparse.csr_array, seed: int) -> Keys:
    """Return a word for each row, (n_rows,), from its columns and the seed."""
    with np.errstate(over="ignore"):
        words = mix_words((rows.indices.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
        sums = np.concatenate(([np.uint64(0)], np.cumsum(words, dtype=np.uint64)))
        totals = sums[rows.indptr[1:]] - sums[rows.indptr[:-1]]
        return mix_words(totals + np.uint64(seed))


def row_normals(keys: Keys, draw: int, width: int) -> NDArray[np.float32]:
    """Return the `draw`-th standard normal numbers of the rows, (n_rows, width) (Box and Muller, 1958)."""
    pairs = -(-width // 2)
    # Draws lie 2³² counters apart, so that they never share one, and the first begins at 2³²: counter 0 stays unused.
    with np.errstate(over="ignore"):
        counters = (np.arange(pairs, dtype=np.uint64) + np.uint64(draw + 1) * np.uint64(1 << 32)) * _GOLDEN
        words = mix_words(keys[:, None] + counters[None, :])
    uniform = ((words >> np.uint64(32)).astype(np.float64) + 0.5) / 2**32
    angle = (words & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2 * np.pi / 2**32)
    radius = np.sqrt(-2 * np.log(uniform))
    normals = np.empty((len(keys), 2 * pairs), dtype=np.float32)
    normals[:, 0::2], normals[:, 1::2] = radius * np.cos(angle), radius * np.sin(angle)
    return normals[:, :width]
