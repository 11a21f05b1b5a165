"""A folded chain that asks the network less often, with coefficients fitted to the whole chain.

A folded chain is an initial value problem, ``z ← a·(h·F + f) + b·z`` with h = hidden(z + step input), whose
right side changes slowly. It is solved as by an explicit Runge-Kutta method (Hairer, Nørsett, Wanner, Solving
Ordinary Differential Equations I, chapter II): the network is asked at some of the steps only, and each time z
is a linear combination of where it began and of all earlier answers,
``z_j = w_{j0}·z_0 + Σ_{i<j} w_{j,i+1}·h_i·F + v_j``. The scalars w and the vectors v are those that come closest
to the whole chain's z, in least squares over a sample of rows. A step input is the mean of those of the steps
that an answer stands for. What that costs in accuracy is measured on other rows, and the fewest answers that
keep within the tolerance are taken; where none do, the whole chain stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unblur.diffusion.folding import FoldedChain
from unblur.diffusion.sampling import ReverseChain

ANSWERS = (4, 6, 8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 24, 28, 32)
"""How many answers may be tried; they are searched by halves."""
FEWEST_STEPS = 12
"""Shorter chains are left whole: there is too little to save."""
MOST_SHARE = 0.6
"""No more than this share of the chain's steps is worth a shortened one."""
MARGIN = 0.5
"""Which share of the tolerance the rows that were measured may use up, since other rows may err more."""
FIT_ROWS = 256
"""Rows that coefficients are fitted to."""
CHECK_ROWS = 768
"""Other rows, on which the difference is measured."""
BLOCK = 256
"""Rows that are run together, so that their answers stay in the cache."""
PREFIX = "shortened."
"""What the names of its saved arrays begin with."""

Scores = Callable[[Tensor], Tensor]
"""From the last hidden layer's values, (n, last width), to scores, (n, n_items)."""


@dataclass(frozen=True, eq=False)
class ShortenedChain:
    """Which combinations of answers stand for a whole chain; (E,) answers, the last at the chain's last step."""

    weights: NDArray[np.float64]
    """w, (E, E): row j weighs z_0 and the j answers before; zeros follow."""
    inputs: Tensor
    """v, (E, first hidden width) float32, the step's embedding and the first bias included."""
    error: float
    """The largest difference of a score to the whole chain's, on the rows that it was measured on."""
    chain: NDArray[np.float64]
    """(3, K): `steps`, `from_answer` and `from_state` of the chain that it stands for."""

    def __len__(self) -> int:
        return len(self.weights)

    def suits(self, chain: ReverseChain, tolerance: float) -> bool:
        """Whether it stands for this chain, and was measured to be close enough."""
        return self.error <= MARGIN * tolerance and np.array_equal(self.chain, _identity(chain))

    def hidden(self, folded: FoldedChain, first: Tensor) -> Tensor:
        """What `FoldedChain.hidden` gives, but for the error: (n, first width) → (n, last width)."""
        return torch.cat([self._block(folded, block) for block in first.split(BLOCK)])

    def _block(self, folded: FoldedChain, first: Tensor) -> Tensor:
        known = first.new_empty(len(self), *first.shape)
        known[0] = first
        flat = known.view(len(self), -1)
        weights = torch.as_tensor(self.weights, dtype=first.dtype, device=first.device)
        for place in range(len(self)):
            z = torch.mv(flat[: place + 1].T, weights[place, : place + 1]).view_as(first)
            h = folded.network.hidden(z.add_(self.inputs[place]))
            if place + 1 < len(self):
                torch.mm(h, folded.fold, out=known[place + 1])
        return h

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What `from_tensors` reads."""
        return {
            f"{PREFIX}weights": self.weights,
            f"{PREFIX}inputs": self.inputs.detach().cpu().numpy(),
            f"{PREFIX}error": np.array([self.error]),
            f"{PREFIX}chain": self.chain,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], device: torch.device) -> ShortenedChain | None:
        """The one whose arrays are among `tensors`, if any."""
        if f"{PREFIX}weights" not in tensors:
            return None
        arrays = {
            name: np.asarray(tensors[PREFIX + name]) for name in ("weights", "inputs", "error", "chain")
        }
        inputs = torch.from_numpy(arrays["inputs"]).to(device)
        return cls(arrays["weights"], inputs, float(arrays["error"][0]), arrays["chain"])


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
    share = min(FIT_ROWS, len(first) // 2)
    if share < 1:
        return None
    path, final = _whole(folded, first)
    expected = scores(final[share:])
    counts = [count for count in ANSWERS if count <= MOST_SHARE * len(folded.chain)]
    best: ShortenedChain | None = None
    low, high = 0, len(counts)
    while low < high:
        middle = (low + high) // 2
        weights, inputs, h = _fitted(folded, path, counts[middle], share)
        error = float((scores(h[share:]) - expected).abs().max())
        found = ShortenedChain(weights, inputs, error, _identity(folded.chain))
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


def _whole(folded: FoldedChain, first: Tensor) -> tuple[list[Tensor], Tensor]:
    """z before each step, K times (n, first width), and the last answer's hidden values."""
    chain, z, path = folded.chain, first, [first]
    for place in range(len(chain) - 1):
        h = folded.network.hidden(z + folded.step_inputs[place])
        a, b = float(chain.from_answer[place]), float(chain.from_state[place])
        z = torch.addmm(z, h, folded.fold, beta=b, alpha=a).add_(folded.fold_bias, alpha=a)
        path.append(z)
    return path, folded.network.hidden(z + folded.step_inputs[-1])


def _fitted(
    folded: FoldedChain, path: list[Tensor], count: int, share: int
) -> tuple[NDArray[np.float64], Tensor, Tensor]:
    """Weights and inputs for `count` answers, fitted to the first `share` rows, and all rows' last answer."""
    asked, means = _asked(folded.chain, count)
    count, first = len(asked), path[0]
    towards = torch.as_tensor(means, dtype=torch.float32, device=first.device)
    inputs = torch.cat((towards @ folded.step_inputs[:-1], folded.step_inputs[-1:]))
    weights = np.zeros((count, count))
    weights[0, 0] = 1.0
    known, columns = [first], [_centred(first, share)]
    h = folded.network.hidden(first + inputs[0])
    for place in range(1, count):
        known.append(h @ folded.fold)
        columns.append(_centred(known[-1], share))
        target = path[int(asked[place])]
        weights[place, : place + 1] = _least_squares(columns, _centred(target, share))
        z = torch.zeros_like(target)
        for part, weight in zip(known, weights[place], strict=False):
            z.add_(part, alpha=float(weight))
        inputs[place] += (target[:share] - z[:share]).mean(0)
        h = folded.network.hidden(z.add_(inputs[place]))
    return weights, inputs, h


def _asked(chain: ReverseChain, count: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The places of `count` answers, the last step's included, and which mean of the other steps' inputs each
    but the last takes, (count − 1, K − 1).

    The places lie evenly in the mean of the step's number and of −log of what the state at the start still
    counts for. Means are weighted by how much a step counts for in the end, and by hats between the places.
    """
    last = len(chain) - 1
    passed = -np.log(np.concatenate(([1.0], np.cumprod(chain.from_state[: last - 1]))))
    steps = np.arange(last)
    clock = steps / steps[-1] + passed / passed[-1]
    asked = np.unique(np.round(np.interp(np.linspace(0, clock[-1], count - 1), clock, steps)).astype(np.intp))
    hats = np.array([np.interp(passed, passed[asked], row) for row in np.eye(len(asked))])
    counts = chain.from_answer[:last] * np.append(np.cumprod(chain.from_state[1:last][::-1])[::-1], 1.0)
    means = hats * counts
    return np.append(asked, last), means / means.sum(1, keepdims=True)


def _centred(values: Tensor, share: int) -> Tensor:
    part = values[:share].to(torch.float64)
    return (part - part.mean(0)).flatten()


def _least_squares(columns: list[Tensor], target: Tensor) -> NDArray[np.float64]:
    """The weights of columns, (n,) each, that come closest to the target, after scaling, with a tiny ridge."""
    table = torch.stack(columns)
    scale = table.square().sum(1).sqrt().clamp_min(torch.finfo(torch.float64).tiny)
    table = table / scale[:, None]
    square = (table @ table.T).cpu().numpy() + 1e-10 * np.eye(len(table))
    made: NDArray[np.float64] = np.linalg.solve(square, (table @ target).cpu().numpy()) / scale.cpu().numpy()
    return made


def _identity(chain: ReverseChain) -> NDArray[np.float64]:
    return np.stack((chain.steps.astype(np.float64), chain.from_answer, chain.from_state))
