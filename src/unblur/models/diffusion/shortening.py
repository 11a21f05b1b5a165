"""Coefficients for a folded chain that asks the network less often, fitted to the whole chain.

A folded chain is an initial value problem, ``z ← a·(h·F + f) + b·z`` with h = hidden(z + step input), whose right
side has a slow part, by z, and a fast one, by the step's embedding. It is solved as by an explicit Runge-Kutta
method for the mean over the fast part (Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, chapter
II; averaging: Sanders, Verhulst, Murdock, Averaging Methods in Nonlinear Dynamical Systems, chapter 2). The network
is asked at some of the steps only, and each time z is a linear combination of where it began and of all earlier
answers, ``z_j = w_{j0}·z_0 + Σ_{i<j} w_{j,i+1}·h_i·F + v_j``; the scalars w and the vectors v are those that come
closest to the whole chain's z, in least squares over a sample of rows. Each answer but the last stands for the mean
of those that the steps around it would have given at z_j: it takes the mean of their step inputs, and what the mean
of a non-linear layer is more or less than the layer of the mean is made up for by a factor and a shift of each
hidden unit, fitted to the same rows.

What all that costs in accuracy is measured on other rows, and the fewest answers that keep within the tolerance are
taken; where none do, the whole chain stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.folding import FoldedChain, even_blocks
from unblur.models.diffusion.sampling import ReverseChain
from unblur.models.diffusion.shortened import ShortenedChain, ShortenedRun, identity

ANSWERS = (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 24, 28, 32)
"""How many answers may be tried; they are searched by halves."""
FEWEST_STEPS = 12
"""Shorter chains are left whole: there is too little to save."""
MOST_SHARE = 0.6
"""No more than this share of the chain's steps is worth a shortened one."""
FIT_ROWS = 1024
"""Rows that coefficients are fitted to."""
CHECK_ROWS = 4096
"""Other rows, on which the difference is measured."""
MOST_NUMBERS = 2**27
"""Fewer rows are fitted to where all their z, before each step, would be more numbers than this."""
CORRECTIONS = 3
"""Gauss-Newton steps for a layer's factors and shifts."""
RIDGE = 1e-10
"""What keeps least squares of columns that are nearly alike well posed, relative to their squares."""

Scores = Callable[[Tensor], Tensor]
"""From the last hidden layer's values, (n, last width), to scores, (n, n_items)."""


@torch.no_grad()
def shortened(
    folded: FoldedChain, first: Tensor, scores: Scores, *, tolerance: float
) -> ShortenedChain | None:
    """The shortened chain with the fewest answers that keeps within the tolerance, or `None`.

    `first`, (n, first width), is z of the start for a sample of rows: up to `FIT_ROWS` are fitted to, the others
    are measured on. Only chains whose last answer is the outcome are shortened, as all that predict x_0 are.
    """
    if not shortenable(folded.chain, tolerance):
        return None
    share = min(FIT_ROWS, len(first) // 2, max(1, MOST_NUMBERS // (len(folded.chain) * first.shape[1])))
    if share < 1:
        return None
    path, judged = _path(folded, first[:share]), first[share:]
    expected = folded.hidden(judged)

    def measured(count: int) -> ShortenedChain:
        found = _fitted(folded, path, count)
        made = ShortenedRun(folded, found).hidden(judged)
        parts = zip(even_blocks(made), even_blocks(expected), strict=True)
        error = max(float((scores(one) - scores(other)).abs().max()) for one, other in parts)
        return replace(found, error=error)

    counts = [count for count in ANSWERS if count <= MOST_SHARE * len(folded.chain)]
    best: ShortenedChain | None = None
    low, high = 0, len(counts)
    while low < high:
        middle = (low + high) // 2
        found = measured(counts[middle])
        if found.suits(folded.chain, tolerance):
            best, high = found, middle
        else:
            low = middle + 1
    return best


def shortenable(chain: ReverseChain, tolerance: float) -> bool:
    """Whether a chain is long enough, and its last answer alone is the outcome."""
    return (
        tolerance > 0
        and len(chain) >= FEWEST_STEPS
        and not chain.from_earlier.any()
        and not chain.answer_weights[:-1].any()
        and chain.start_weight == 0
        and bool((chain.from_state[:-1] > 0).all())
    )


def _path(folded: FoldedChain, first: Tensor) -> list[Tensor]:
    """z before each step, K times (n, first width)."""
    chain, z, path = folded.chain, first, [first]
    for place in range(len(chain) - 1):
        h = folded.network.hidden(z + folded.step_inputs[place])
        a, b = float(chain.from_answer[place]), float(chain.from_state[place])
        z = torch.addmm(z, h, folded.fold, beta=b, alpha=a).add_(folded.fold_bias, alpha=a)
        path.append(z)
    return path


def _fitted(folded: FoldedChain, path: list[Tensor], count: int) -> ShortenedChain:
    """A shortened chain of `count` answers, fitted to the rows of a path."""
    asked, means = _asked(folded.chain, count)
    count, first, inputs = len(asked), path[0], folded.step_inputs
    weights = np.zeros((count, count))
    weights[0, 0] = 1.0
    gains, shifts, known, columns = [], [], [first], [_centred(first)]
    for place in range(count):
        target = path[int(asked[place])]
        if place:
            weights[place, : place + 1] = _least_squares(columns, _centred(target))
        z = torch.zeros_like(target)
        for part, weight in zip(known, weights[place], strict=False):
            z.add_(part, alpha=float(weight))
        offset = (target - z).mean(0)
        z.add_(offset)
        if place == count - 1:
            gain, shift = _uncorrected(folded.network)
            gains.append(gain)
            shifts.append([offset + inputs[-1], *shift[1:]])
            break
        step_input = torch.as_tensor(means[place], dtype=z.dtype, device=z.device) @ inputs[:-1]
        stands_for = [(step, float(means[place, step])) for step in np.flatnonzero(means[place])]
        averages = _averages(folded.network, target, [(inputs[step], share) for step, share in stands_for])
        gain, shift, h = _corrected(folded.network, z + step_input, averages)
        gains.append(gain)
        shifts.append([gain[0] * (offset + step_input) + shift[0], *shift[1:]])
        known.append(h @ folded.fold)
        columns.append(_centred(known[-1]))
    return ShortenedChain(
        weights,
        tuple(torch.stack(layer) for layer in zip(*gains, strict=True)),
        tuple(torch.stack(layer) for layer in zip(*shifts, strict=True)),
        identity(folded.chain),
    )


def _averages(network: DenoisingNetwork, z: Tensor, inputs: Sequence[tuple[Tensor, float]]) -> list[Tensor]:
    """Each hidden layer's values, averaged over step inputs with their shares."""
    totals: list[Tensor] = []
    for step_input, share in inputs:
        layers = network.hidden_layers(z + step_input)
        totals = totals or [torch.zeros_like(layer) for layer in layers]
        for total, layer in zip(totals, layers, strict=True):
            total.add_(layer, alpha=share)
    return totals


def _uncorrected(network: DenoisingNetwork) -> tuple[list[Tensor], list[Tensor]]:
    """Factors of 1 and shifts of 0 for each hidden layer."""
    biases = [network.bias_in, *network.hidden_biases]
    return [torch.ones_like(bias) for bias in biases], [torch.zeros_like(bias) for bias in biases]


def _corrected(
    network: DenoisingNetwork, first: Tensor, averages: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Factors and shifts for each hidden layer with which it comes closest to its averages, layer upon layer, and
    the last one's values."""
    gains, shifts, x = [], [], first
    layers = [*zip(network.hidden_weights, network.hidden_biases, strict=True), None]
    for average, layer in zip(averages, layers, strict=True):
        gain, shift = _gain_and_shift(network.activation, x, average)
        gains.append(gain)
        shifts.append(shift)
        h = network.activation(gain * x + shift)
        if layer is not None:
            x = torch.addmm(layer[1], h, layer[0].T)
    return gains, shifts, h


def _gain_and_shift(
    activation: Callable[[Tensor], Tensor], x: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """g and s of each unit for which activation(g·x + s) comes closest to the target, (n, units), in least squares."""
    gain, shift = x.new_ones(x.shape[1]), x.new_zeros(x.shape[1])
    for _ in range(CORRECTIONS):
        with torch.enable_grad():
            at = (gain * x + shift).requires_grad_()
            value = activation(at)
            (slope,) = torch.autograd.grad(value.sum(), at)
        by_gain, by_shift = (slope * x).double(), slope.double()
        left = (target - value.detach()).double()
        aa, bb = by_gain.square().sum(0) * (1 + RIDGE), by_shift.square().sum(0) * (1 + RIDGE)
        ab, ra, rb = (by_gain * by_shift).sum(0), (by_gain * left).sum(0), (by_shift * left).sum(0)
        whole = (aa * bb - ab * ab).clamp_min(torch.finfo(torch.float32).tiny)
        gain = gain + ((ra * bb - rb * ab) / whole).to(x.dtype)
        shift = shift + ((rb * aa - ra * ab) / whole).to(x.dtype)
    return gain, shift


def _asked(chain: ReverseChain, count: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The places of `count` answers, evenly spread and the last step's included, and which mean of the other steps
    each but the last stands for, (count − 1, K − 1).

    Means are weighted by how much a step counts for in the end, and by hats between the places, in −log of what
    the state at the start still counts for.
    """
    last = len(chain) - 1
    passed = -np.log(np.concatenate(([1.0], np.cumprod(chain.from_state[: last - 1]))))
    asked = np.unique(np.round(np.linspace(0, last - 1, count - 1)).astype(np.intp))
    hats = np.array([np.interp(passed, passed[asked], row) for row in np.eye(len(asked))])
    counts = chain.from_answer[:last] * np.append(np.cumprod(chain.from_state[1:last][::-1])[::-1], 1.0)
    means = hats * counts
    return np.append(asked, last), means / means.sum(1, keepdims=True)


def _centred(values: Tensor) -> Tensor:
    part = values.to(torch.float64)
    return (part - part.mean(0)).flatten()


def _least_squares(columns: list[Tensor], target: Tensor) -> NDArray[np.float64]:
    """The weights of columns, (n,) each, that come closest to the target, after scaling, with a tiny ridge."""
    table = torch.stack(columns)
    scale = table.square().sum(1).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    table = table / scale[:, None]
    square = (table @ table.T).cpu().numpy() + RIDGE * np.eye(len(table))
    made: NDArray[np.float64] = np.linalg.solve(square, (table @ target).cpu().numpy()) / scale.cpu().numpy()
    return made
