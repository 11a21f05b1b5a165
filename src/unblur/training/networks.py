"""Parts of networks: non-linearities, initial weights, dropout, and recommenders that hold their weights.

All random numbers come from a generator of the caller.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import ClassVar, Generic, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from unblur.errors import some
from unblur.fitted import weights
from unblur.recommender import Recommender
from unblur.spec import Spec

NetworkSpec_co = TypeVar("NetworkSpec_co", bound=Spec, covariant=True)
Network_co = TypeVar("Network_co", bound=nn.Module, covariant=True)

Weights: TypeAlias = Mapping[str, Tensor]
"""Parameters and buffers by name, as `nn.Module.state_dict` gives them."""
Activate: TypeAlias = Callable[[Tensor], Tensor]

ACTIVATIONS: Mapping[str, Activate] = MappingProxyType(
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

IN_PLACE: Mapping[str, Activate] = MappingProxyType(
    {
        "tanh": torch.tanh_,
        "relu": torch.relu_,
        "sigmoid": torch.sigmoid_,
        "leaky_relu": functional.leaky_relu_,
        "elu": functional.elu_,
        "identity": lambda x: x,
    }
)
"""The non-linearities that can overwrite their input, where torch has such a version."""


@torch.no_grad()
def xavier_normal(
    parameters: Iterable[Tensor], generator: torch.Generator, *, bias_deviation: float = 0.0
) -> None:
    """Draw weights, in their order, with variance 2/(fan_in + fan_out), and biases with a deviation of their own.

    Glorot and Bengio, AISTATS 2010. Biases without deviation are set to 0, which draws nothing.
    """
    for parameter in parameters:
        if parameter.ndim > 1:
            parameter.normal_(0, math.sqrt(2 / sum(parameter.shape)), generator=generator)
        elif bias_deviation:
            parameter.normal_(0, bias_deviation, generator=generator)
        else:
            parameter.zero_()


def least_kept(dropout: float) -> int:
    """Return the smallest int16 number that is kept, so that a fraction of 1 − `dropout` of all 65,536 are."""
    return min(round(dropout * 65536) - 32768, 32767)


def keep_mask(shape: torch.Size | tuple[int, ...], dropout: float, generator: torch.Generator) -> Tensor:
    """Return a bool tensor that is true with probability 1 − `dropout`, on the generator's device.

    Each 64 random bits decide over four entries, so the probability is exact to 1/65,536.
    """
    size = torch.Size(shape).numel()
    words = torch.empty(-(-size // 4), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return (words.view(torch.int16)[:size] >= least_kept(dropout)).view(shape)


def dropped(x: Tensor, dropout: float, generator: torch.Generator | None) -> tuple[Tensor, float]:
    """Return `x` with entries set to zero with probability `dropout`, and the factor that keeps its mean.

    The caller multiplies by the factor, perhaps something smaller than `x`. Without a generator nothing is dropped.
    """
    if generator is None or not dropout:
        return x, 1.0
    return x * keep_mask(x.shape, dropout, generator), 1 / (1 - dropout)


def frozen(blank: Callable[[], Network_co], weights: Weights) -> Network_co:
    """Return the network of `blank` with these weights, which are not copied and no longer trained.

    Raises `ValueError` if names, shapes or types are not the network's.
    """
    with torch.device("meta"):  # no memory for weights that are replaced at once
        network = blank()
    expected = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    try:
        network.load_state_dict(dict(weights), assign=True)
    except RuntimeError as problem:
        raise ValueError(str(problem)) from None
    if wrong := [name for name, dtype in expected.items() if weights[name].dtype != dtype]:
        raise ValueError(f"weights that are not of the network's type: {some(wrong)}")
    network.requires_grad_(False).eval()
    return network


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class NetworkRecommender(Recommender[NetworkSpec_co], Generic[NetworkSpec_co, Network_co]):
    """A recommender that is a network, with its weights by name."""

    built: ClassVar[tuple[str, ...]] = ("network",)
    weights: Weights = weights()
    """The weights of `blank`, as `nn.Module.state_dict` names them."""

    @abstractmethod
    def blank(self) -> Network_co:
        """Return the network for the spec and the sizes of the arrays, with any weights."""

    @cached_property
    def network(self) -> Network_co:
        """The network, with frozen weights."""
        return frozen(self.blank, self.weights)


def below(prefix: str, weights: Weights) -> dict[str, Tensor]:
    """Return the weights whose names begin with `prefix`, by the rest of the name."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
