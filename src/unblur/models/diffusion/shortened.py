"""A folded chain that asks the network less often, as `unblur.models.diffusion.shortening` fits it.

z, what the first hidden layer is given, is each time a linear combination of where it began and of all earlier
answers, ``z_j = w_{j0}·z_0 + Σ_{i<j} w_{j,i+1}·h_i·F + v_j``; the sums of each hidden layer have a factor and a shift.

Where the processor multiplies matrices of float16, an answer's products, but those of its first layer, are those of
the answer before and the product of the difference in float16: it is small, and so is what rounding does to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unblur.models.diffusion.folding import FoldedChain, even_blocks
from unblur.models.diffusion.sampling import ReverseChain
from unblur.training.devices import multiplies_halves

MARGIN = 0.9
"""Which share of the tolerance the rows that were measured may use up, since other rows may err more."""
PREFIX = "shortened."
"""What the names of its saved arrays begin with."""


@dataclass(frozen=True, eq=False)
class ShortenedChain:
    """Which combinations of answers stand for a whole chain; (E,) answers, the last at the chain's last step."""

    weights: NDArray[np.float64]
    """w, (E, E): row j weighs z_0 and the j answers before; zeros follow."""
    gains: tuple[Tensor, ...]
    """For each hidden layer, (E, width) float32: what its units' sums are multiplied by."""
    shifts: tuple[Tensor, ...]
    """For each, (E, width): what is added after that. Of the first layer with v, the step input and the bias."""
    chain: NDArray[np.float64]
    """(3, K): `steps`, `from_answer` and `from_state` of the chain that it stands for."""
    error: float = math.inf
    """The largest difference of a score to the whole chain's, on the rows that it was measured on."""

    def __len__(self) -> int:
        return len(self.weights)

    def suits(self, chain: ReverseChain, tolerance: float) -> bool:
        """Whether it stands for this chain, and was measured to be close enough."""
        return self.error <= MARGIN * tolerance and np.array_equal(self.chain, identity(chain))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """What `from_tensors` reads."""
        made = {"weights": self.weights, "error": np.array([self.error]), "chain": self.chain}
        for name, layers in (("gains", self.gains), ("shifts", self.shifts)):
            for place, layer in enumerate(layers):
                made[f"{name}.{place}"] = layer.detach().cpu().numpy()
        return {PREFIX + name: array for name, array in made.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Any], device: torch.device) -> ShortenedChain | None:
        """The one whose arrays are among `tensors`, if any."""
        if f"{PREFIX}gains.0" not in tensors:
            return None

        def layers(name: str) -> tuple[Tensor, ...]:
            count = sum(each.startswith(f"{PREFIX}{name}.") for each in tensors)
            arrays = (np.asarray(tensors[f"{PREFIX}{name}.{place}"]) for place in range(count))
            return tuple(torch.from_numpy(array).to(device) for array in arrays)

        weights, chain = (np.asarray(tensors[PREFIX + name]) for name in ("weights", "chain"))
        error = float(np.asarray(tensors[f"{PREFIX}error"])[0])
        return cls(weights, layers("gains"), layers("shifts"), chain, error)


@dataclass(frozen=True, eq=False)
class ShortenedRun:
    """A shortened chain with the network that it was fitted to."""

    folded: FoldedChain
    shorter: ShortenedChain

    @cached_property
    def _weights(self) -> Tensor:
        fold = self.folded.fold
        return torch.as_tensor(self.shorter.weights, dtype=fold.dtype, device=fold.device)

    @cached_property
    def _products(self) -> list[tuple[Tensor, Tensor | None]]:
        """What each hidden layer's values are multiplied by, (width, next width), and the bias; F comes last."""
        network = self.folded.network
        hidden = zip(network.hidden_weights, network.hidden_biases, strict=True)
        return [*((weight.T, bias) for weight, bias in hidden), (self.folded.fold, None)]

    @cached_property
    def _halves(self) -> list[Tensor | None]:
        """The same in float16 where that is worth it. The first of several is not: what its rounding does goes
        through all layers."""
        exact = 1 if len(self._products) > 1 else 0
        if not multiplies_halves(self.folded.fold.device):
            exact = len(self._products)
        later = [matrix.to(torch.float16).contiguous() for matrix, _ in self._products[exact:]]
        return [*[None] * exact, *later]

    @torch.no_grad()
    def hidden(self, first: Tensor) -> Tensor:
        """What `FoldedChain.hidden` gives, but for the error: (n, first width) → (n, last width)."""
        blocks = even_blocks(first)
        made = first.new_empty(len(first), len(self.folded.fold))
        room = _Room.of(self.folded, len(self.shorter), len(blocks[0]))
        for block, out in zip(blocks, even_blocks(made), strict=True):
            out.copy_(self._last_answer(block, room.cut(len(block))))
        return made

    def _last_answer(self, first: Tensor, room: _Room) -> Tensor:
        """The last hidden values of a block."""
        known, shorter, n_answers = room.known, self.shorter, len(self.shorter)
        flat = known.view(n_answers, -1)
        known[0] = first
        for place in range(n_answers):
            values, before = room.values[place % 2], room.values[1 - place % 2]
            last = place == n_answers - 1
            if place:
                torch.mv(flat[: place + 1].T, self._weights[place, : place + 1], out=room.sums[0].view(-1))
            else:
                room.sums[0].copy_(first)
            for layer, (sums, gain, shift) in enumerate(
                zip(room.sums, shorter.gains, shorter.shifts, strict=True)
            ):
                h = values[layer]
                self.folded.network.activate(torch.addcmul(shift[place], sums, gain[place], out=h))
                to_z = layer == len(values) - 1
                if last and to_z:
                    break
                earlier = known[place] if to_z else room.sums[layer + 1]
                after = known[place + 1] if to_z else earlier
                if last or not place or self._halves[layer] is None:
                    self._multiply(layer, h, out=after)
                else:
                    self._add_product_of_change(layer, h, before[layer], earlier, room, out=after)
        return h

    def _multiply(self, layer: int, values: Tensor, *, out: Tensor) -> None:
        matrix, bias = self._products[layer]
        if bias is None:
            torch.mm(values, matrix, out=out)
        else:
            torch.addmm(bias, values, matrix, out=out)

    def _add_product_of_change(
        self, layer: int, values: Tensor, before: Tensor, earlier: Tensor, room: _Room, *, out: Tensor
    ) -> None:
        """The product of values, from that of those before."""
        half = self._halves[layer]
        assert half is not None
        change = torch.sub(values, before, out=room.halves[layer])
        product = torch.mm(change, half, out=room.half_products[layer])
        torch.add(earlier, room.products[layer].copy_(product), out=out)


@dataclass(frozen=True, eq=False)
class _Room:
    """Memory for a block of rows; by hidden layer, (n, width)."""

    known: Tensor
    """(E, n, first width): the start, and each answer times F."""
    sums: list[Tensor]
    """What enters the layers, before their factors and shifts."""
    values: tuple[list[Tensor], list[Tensor]]
    """Theirs, of this answer and of the one before."""
    halves: list[Tensor]
    """What the values differ by, float16."""
    half_products: list[Tensor]
    """That times the layer's weights, (n, next width), float16 and below float32."""
    products: list[Tensor]

    @classmethod
    def of(cls, folded: FoldedChain, n_answers: int, n: int) -> _Room:
        sums = folded.room(n)
        after = [*sums[1:], sums[0]]
        half = torch.float16
        return cls(
            torch.empty(n_answers, *sums[0].shape, device=sums[0].device),
            sums,
            (folded.room(n), folded.room(n)),
            [torch.empty_like(part, dtype=half) for part in sums],
            [torch.empty_like(part, dtype=half) for part in after],
            [torch.empty_like(part) for part in after],
        )

    def cut(self, n: int) -> _Room:
        """For a smaller block."""
        n_answers, _, width = self.known.shape
        known = self.known.view(-1)[: n_answers * n * width].view(n_answers, n, width)
        sums, one, other, halves, half_products, products = (
            [part[:n] for part in parts]
            for parts in (self.sums, *self.values, self.halves, self.half_products, self.products)
        )
        return _Room(known, sums, (one, other), halves, half_products, products)


def identity(chain: ReverseChain) -> NDArray[np.float64]:
    """What tells a chain from others, (3, K)."""
    return np.stack((chain.steps.astype(np.float64), chain.from_answer, chain.from_state))
