"""The reverse chain folded into the network's first hidden layer.

Without L2 normalisation and without sampling noise a row only ever enters the network through its first
linear layer, z = x·W_in, and a reverse step is linear: x ← a·(h·W_outᵀ + b_out) + b·x. So z follows by
itself, ``z ← a·(h·F + f) + b·z`` with F = W_outᵀ·W_in and f = b_out·W_in computed once, and items appear only
at the two ends: a sparse product to begin with and one dense product in the end, however many steps lie
between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unblur.models.diffusion.denoiser import DenoisingNetwork
from unblur.models.diffusion.sampling import ReverseChain

BLOCK = 512
"""Rows that are run together, at most, so that their answers stay in the cache; their memory is used again, since to
get memory anew for each layer costs about as much as the layers do when several threads ask for it."""


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
        made = first.new_empty(len(first), len(self.fold))
        room, z = self.room(len(blocks[0])), torch.empty_like(blocks[0])
        for block, out in zip(blocks, even_blocks(made), strict=True):
            size = len(block)
            self._steps(z[:size].copy_(block), [part[:size] for part in room], out.zero_())
        return made

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

    def room(self, n_rows: int) -> list[Tensor]:
        """Memory for the values of each hidden layer, (n_rows, width)."""
        biases = [self.network.bias_in, *self.network.hidden_biases]
        return [self.fold.new_empty(n_rows, len(bias)) for bias in biases]

    def rows(self, hidden: Tensor, start: Tensor | None = None) -> Tensor:
        """The final rows, (n, width), from what `hidden` gave; `start` is needed where it still counts."""
        weights = self.chain.answer_weights
        made = torch.addmm(self.network.bias_out, hidden, self.network.item_out.T, beta=float(weights.sum()))
        if start is not None and self.chain.start_weight:
            made.add_(start, alpha=self.chain.start_weight)
        return made

    def __call__(self, start: Tensor) -> Tensor:
        """The final rows for dense starting rows, (n, width) → (n, width)."""
        return self.rows(self.hidden(start @ self.network.item_in), start)


def foldable(network: DenoisingNetwork, *, sampling_noise: bool) -> bool:
    """Whether a chain can be folded: rows enter the network as they are, and no noise is added on the way."""
    return not network.settings.normalize and not sampling_noise


def even_blocks(rows: Tensor) -> tuple[Tensor, ...]:
    """Views of rows, at most `BLOCK` each and the first no smaller than any, since a handful takes other routes."""
    return rows.tensor_split(max(1, -(-len(rows) // BLOCK)))
