"""The norm of each user's gradient without the gradients themselves ("ghost clipping").

The gradient of a linear layer for one row is g·aᵀ, the outer product of the gradient of its output and its
input, so its norm is ‖g‖·‖a‖ (Goodfellow, arXiv 1510.01799). A layer that a row passes several times has
the sum of such products, whose squared norm is Σ_uv (g_u·g_v)(a_u·a_v). A second backward pass, with each
row's loss multiplied by its factor, then gives the sum of the clipped gradients.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Uses:
    """The inputs and outputs of every layer with weights in a forward pass, row by row."""

    def __init__(self) -> None:
        self._layers: dict[str, list[tuple[Tensor, Tensor]]] = {}
        self._first: list[tuple[Tensor, Tensor]] = []
        self._slopes: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def layer(self, name: str, inputs: Tensor, outputs: Tensor) -> None:
        """Record a linear layer with a bias, from (n, width) to (n, other width)."""
        self._layers.setdefault(name, []).append((inputs.detach(), outputs))

    def first_layer(self, outputs: Tensor, squares: Tensor) -> None:
        """Record a linear layer with a bias on rows with these sums of squares, (n,), to (n, width)."""
        self._first.append((squares, outputs))

    def slope(self, name: str, inputs: Tensor, outputs: Tensor) -> None:
        """Record a PReLU with one slope, from (n, width) to (n, width)."""
        self._slopes.setdefault(name, []).append((inputs.detach(), outputs))

    def squared_norms(self, losses: Tensor) -> Tensor:
        """Return the squared L2 norm of each row's gradient, (n,), for losses (n,) that each depend on one row."""
        all_uses = (*self._layers.values(), self._first, *self._slopes.values())
        outputs = [output for uses in all_uses for _, output in uses]
        gradients = iter(torch.autograd.grad(losses.sum(), outputs, retain_graph=True))
        total = torch.zeros_like(losses)
        for uses in self._layers.values():
            output_gradients = torch.stack([next(gradients) for _ in uses], 1).float()
            inputs = torch.stack([layer_inputs for layer_inputs, _ in uses], 1).float()
            input_products = inputs @ inputs.transpose(1, 2) + 1  # the bias is a weight of an input that is 1
            total = total + ((output_gradients @ output_gradients.transpose(1, 2)) * input_products).sum(
                (1, 2)
            )
        for squares, _ in self._first:
            total = total + next(gradients).float().square().sum(1) * (squares + 1)
        for uses in self._slopes.values():
            slopes = torch.stack(
                [(next(gradients).float() * inputs.float().clamp_max(0)).sum(1) for inputs, _ in uses]
            )
            total = total + slopes.sum(0).square()
        return total


def clipped_gradients(
    parameters: Sequence[nn.Parameter], losses: Tensor, uses: Uses, clip_norm: float
) -> list[Tensor]:
    """Return the sum over rows of their gradients, each scaled down to the norm `clip_norm` if it is longer."""
    norms = uses.squared_norms(losses).sqrt()
    # A gradient of 0 has any factor; the bound only avoids a division by 0.
    factors = (clip_norm / norms.clamp_min(1e-12)).clamp_max(1).detach()
    return list(torch.autograd.grad((losses * factors).sum(), parameters))
