"""The reverse chain folded into the network's first hidden layer.

Without L2 normalisation and without sampling noise a row only ever enters the network through its first
linear layer, z = x·W_in, and a reverse step is linear: x ← a·(h·W_outᵀ + b_out) + b·x. So z follows by
itself, ``z ← a·(h·F + f) + b·z`` with F = W_outᵀ·W_in and f = b_out·W_in computed once, and items appear only
at the two ends: a sparse product to begin with and one dense product in the end, however many steps lie
between.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unblur.diffusion.denoiser import DenoisingNetwork
from unblur.diffusion.sampling import ReverseChain


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

    def hidden(self, first: Tensor) -> Tensor:
        """From z of the start, (n, first width), to Σ_k weight_k·h_k, (n, last width), over the steps'
        answers."""
        chain, weights = self.chain, self.chain.answer_weights
        z, earlier, total = first, first, None
        for place in range(len(chain)):
            h = self.network.hidden(z + self.step_inputs[place])
            if weights[place]:
                total = (
                    h * float(weights[place]) if total is None else total.add_(h, alpha=float(weights[place]))
                )
            if place == len(chain) - 1:
                break
            a, b, c = (
                float(part[place]) for part in (chain.from_answer, chain.from_state, chain.from_earlier)
            )
            both = h.add(earlier, alpha=c / a) if c else h
            z = torch.addmm(z, both, self.fold, beta=b, alpha=a).add_(self.fold_bias, alpha=a + c)
            earlier = h
        assert total is not None
        return total

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
