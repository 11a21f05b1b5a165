"""The denoising network: a noisy row and its step in, the clean row (or the noise) out (paper, section 3.1).

Weights lie with one row an item (`item_in`, `item_out`), so that a sparse history gathers the rows of its
items, and so that the last layer times the first is one small matrix (see `unblur.models.diffusion.folding`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional

from unblur.models.diffusion.settings import Denoiser
from unblur.training.dropout import dropped

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "tanh": torch.tanh,
        "relu": functional.relu,
        "sigmoid": torch.sigmoid,
        "leaky_relu": functional.leaky_relu,
        "elu": functional.elu,
        "gelu": functional.gelu,
        "silu": functional.silu,
        "softplus": functional.softplus,
        "identity": lambda x: x,
    }
)
"""The non-linearities by the names that the settings use."""

IN_PLACE: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "tanh": torch.tanh_,
        "relu": torch.relu_,
        "sigmoid": torch.sigmoid_,
        "leaky_relu": functional.leaky_relu_,
        "elu": functional.elu_,
        "identity": lambda x: x,
    }
)
"""Those that can overwrite what they are given."""

BIAS_DEVIATION = 0.001
"""The deviation that biases begin with."""


def step_embedding(steps: Tensor, width: int) -> Tensor:
    """Sinusoids of the step numbers, (n,) → (n, width) float32: cosines, then sines, of t / 10000^(i/half).

    Vaswani et al., NeurIPS 2017, as diffusion models use it; an odd `width` ends with a zero.
    """
    half = width // 2
    rates = torch.exp(
        -math.log(10000) * torch.arange(half, dtype=torch.float32, device=steps.device) / max(half, 1)
    )
    angles = steps.to(torch.float32)[:, None] * rates
    made = torch.cat((torch.cos(angles), torch.sin(angles)), dim=1)
    return functional.pad(made, (0, width - 2 * half))


def hidden_widths(settings: Denoiser) -> tuple[int, ...]:
    """The widths between the row and the answer: (200, 600) is (600, 200, 600) as an hourglass."""
    if settings.layout == "straight":
        return settings.dims
    return (*reversed(settings.dims), *settings.dims[1:])


class DenoisingNetwork(nn.Module):
    """Linear layers with an activation between, the step's embedding added before the first activation.

    The first layer acts on the row beside the embedding, concatenated in the paper: its weights are `item_in`
    for the row and `step_in` for the embedding. Every weight begins normal with variance 2/(fan_in +
    fan_out), every bias normal with deviation 0.001.
    """

    def __init__(self, width: int, settings: Denoiser, generator: torch.Generator | None = None) -> None:
        """`width`: of the rows (items, or latent); without a generator the weights are left to be loaded."""
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
            self._initialize(generator)

    @torch.no_grad()
    def _initialize(self, generator: torch.Generator) -> None:
        width, first = self.item_in.shape
        beside = self.settings.embedding_size
        for weight in (self.item_in, self.step_in):
            weight.normal_(0, math.sqrt(2 / (width + beside + first)), generator=generator)
        for weight in (self.embedding_weight, *self.hidden_weights, self.item_out):
            weight.normal_(0, math.sqrt(2 / sum(weight.shape)), generator=generator)
        for bias in (self.bias_in, self.embedding_bias, *self.hidden_biases, self.bias_out):
            bias.normal_(0, BIAS_DEVIATION, generator=generator)

    @property
    def width(self) -> int:
        """Of the rows."""
        return len(self.item_in)

    def step_inputs(self, steps: Tensor) -> Tensor:
        """What each step number, (n,), adds before the first activation, bias included: (n, first width)."""
        embedded = step_embedding(steps, self.settings.embedding_size)
        embedded = functional.linear(embedded, self.embedding_weight, self.embedding_bias)
        return functional.linear(embedded, self.step_in, self.bias_in)

    def hidden(self, first: Tensor) -> Tensor:
        """From the first layer's sums, (n, first width), to the last hidden layer's values, (n, last
        width)."""
        return self.hidden_layers(first)[-1]

    def hidden_layers(self, first: Tensor) -> list[Tensor]:
        """The same for all hidden layers."""
        made = [self.activation(first)]
        for weight, bias in zip(self.hidden_weights, self.hidden_biases, strict=True):
            made.append(self.activation(functional.linear(made[-1], weight, bias)))
        return made

    def hidden_in_place(self, layers: Sequence[Tensor]) -> Tensor:
        """`hidden`, without memory of its own and without gradients: `layers`, (n, width) each, begin with the
        first layer's sums, and are overwritten with values."""
        h = self.activate(layers[0])
        for weight, bias, out in zip(self.hidden_weights, self.hidden_biases, layers[1:], strict=True):
            h = self.activate(torch.addmm(bias, h, weight.T, out=out))
        return h

    def activate(self, sums: Tensor) -> Tensor:
        """The activation, overwriting its sums."""
        overwriting = IN_PLACE.get(self.settings.activation)
        return sums.copy_(self.activation(sums)) if overwriting is None else overwriting(sums)

    def forward(self, noisy: Tensor, steps: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The answer for rows (n, width) at steps (n,) int64: (n, width). Dropout needs the generator."""
        x = functional.normalize(noisy) if self.settings.normalize else noisy
        x, scale = dropped(x, self.settings.dropout, generator)
        h = self.hidden((x @ self.item_in) * scale + self.step_inputs(steps))
        return functional.linear(h, self.item_out, self.bias_out)
