"""The denoising network: a noisy row and its step in, the clean row (or the noise) out (paper, section 3.1).

Weights have one row an item (`item_in`, `item_out`), so that a sparse history gathers the rows of its
items, and so that the last layer times the first is one small matrix (see `unblur.models.diffusion.sampling.FoldedChain`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from unblur.models.diffusion.settings import Denoiser
from unblur.training.networks import ACTIVATIONS, IN_PLACE, dropped, xavier_normal

BIAS_DEVIATION = 0.001
"""The standard deviation of initial biases, as in the authors' code."""


def step_embedding(steps: Tensor, width: int) -> Tensor:
    """Return sinusoids of the step numbers, (n,) → (n, width) float32: cosines, then sines, of t / 10000^(i/half).

    Vaswani et al., NeurIPS 2017, as diffusion models use it; an odd `width` ends with a zero.
    """
    half = width // 2
    rates = torch.exp(
        -math.log(10000) * torch.arange(half, dtype=torch.float32, device=steps.device) / max(half, 1)
    )
    angles = steps.to(torch.float32)[:, None] * rates
    waves = torch.cat((torch.cos(angles), torch.sin(angles)), dim=1)
    return functional.pad(waves, (0, width - 2 * half))


def hidden_widths(settings: Denoiser) -> tuple[int, ...]:
    """Return the widths of the hidden layers: (200, 600) is (600, 200, 600) as an hourglass."""
    if settings.layout == "straight":
        return settings.dims
    return (*reversed(settings.dims), *settings.dims[1:])


class DenoisingNetwork(nn.Module):
    """Linear layers with an activation between, the step's embedding added before the first activation.

    The first layer acts on the row and the embedding, concatenated in the paper: its weights are `item_in`
    for the row and `step_in` for the embedding. Initial weights are normal with variance 2/(fan_in + fan_out), biases
    normal with standard deviation 0.001.
    """

    def __init__(self, width: int, settings: Denoiser, generator: torch.Generator | None = None) -> None:
        """`width`: of the rows (items, or latent). Without a generator weights are left uninitialised, to be loaded."""
        super().__init__()
        self.settings = settings
        self.activation = ACTIVATIONS[settings.activation]
        widths, embedding = hidden_widths(settings), settings.embedding_size
        self.item_in = nn.Parameter(torch.empty(width, widths[0]))
        self.step_in = nn.Parameter(torch.empty(widths[0], embedding))
        self.bias_in = nn.Parameter(torch.empty(widths[0]))
        self.embedding_weight = nn.Parameter(torch.empty(embedding, embedding))
        self.embedding_bias = nn.Parameter(torch.empty(embedding))
        self.hidden_weights = nn.ParameterList(
            [torch.empty(after, before) for before, after in pairwise(widths)]
        )
        self.hidden_biases = nn.ParameterList([torch.empty(after) for after in widths[1:]])
        self.item_out = nn.Parameter(torch.empty(width, widths[-1]))
        self.bias_out = nn.Parameter(torch.empty(width))
        if generator is not None:
            # The row's part of the first layer and the step's are one layer in the paper, with one fan-in.
            deviation = math.sqrt(2 / (width + embedding + widths[0]))
            with torch.no_grad():
                for weight in (self.item_in, self.step_in):
                    weight.normal_(0, deviation, generator=generator)
            weights = (self.embedding_weight, *self.hidden_weights, self.item_out)
            biases = (self.bias_in, self.embedding_bias, *self.hidden_biases, self.bias_out)
            xavier_normal((*weights, *biases), generator, bias_deviation=BIAS_DEVIATION)

    @property
    def width(self) -> int:
        """The width of the rows."""
        return len(self.item_in)

    def step_inputs(self, steps: Tensor) -> Tensor:
        """Return the summand of step numbers, (n,), before the first activation, bias included: (n, first width)."""
        embedded = step_embedding(steps, self.settings.embedding_size)
        embedded = functional.linear(embedded, self.embedding_weight, self.embedding_bias)
        return functional.linear(embedded, self.step_in, self.bias_in)

    def hidden(self, first: Tensor) -> Tensor:
        """From the first layer's sums, (n, first width), to the last hidden layer's values, (n, last width)."""
        h = self.activation(first)
        for weight, bias in zip(self.hidden_weights, self.hidden_biases, strict=True):
            h = self.activation(functional.linear(h, weight, bias))
        return h

    def hidden_in_place(self, layers: Sequence[Tensor]) -> Tensor:
        """The same as `hidden`, without memory of its own and without gradients.

        `layers`, (n, width) each, begin with the first layer's sums, and are overwritten with the layers' values.
        """
        h = self._activate(layers[0])
        for weight, bias, out in zip(self.hidden_weights, self.hidden_biases, layers[1:], strict=True):
            h = self._activate(torch.addmm(bias, h, weight.T, out=out))
        return h

    def _activate(self, sums: Tensor) -> Tensor:
        """Apply the activation, overwriting its sums."""
        in_place = IN_PLACE.get(self.settings.activation)
        return sums.copy_(self.activation(sums)) if in_place is None else in_place(sums)

    def forward(self, noisy: Tensor, steps: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the output for rows (n, width) at steps (n,) int64: (n, width). Dropout needs the generator."""
        x = functional.normalize(noisy) if self.settings.normalize else noisy
        x, scale = dropped(x, self.settings.dropout, generator)
        h = self.hidden((x @ self.item_in) * scale + self.step_inputs(steps))
        return functional.linear(h, self.item_out, self.bias_out)
