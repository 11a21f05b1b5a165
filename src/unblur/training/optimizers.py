"""Optimizers, gradient clipping, and the state of an optimizer as plain tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from unblur.training.settings import Optimizer


def make_optimizer(parameters: Iterable[nn.Parameter], settings: Optimizer) -> torch.optim.Optimizer:
    """The optimizer that the settings name; each updates all its parameters in one fused pass."""
    trained, rate, decay = list(parameters), settings.learning_rate, settings.weight_decay
    if settings.name == "adamw":
        return torch.optim.AdamW(trained, lr=rate, weight_decay=decay, eps=settings.epsilon, fused=True)
    if settings.name == "adam":
        return torch.optim.Adam(trained, lr=rate, weight_decay=decay, eps=settings.epsilon, fused=True)
    return torch.optim.SGD(trained, lr=rate, weight_decay=decay, fused=True)


def clip(module: nn.Module, settings: Optimizer) -> None:
    """Scale the module's gradient down to the norm that the settings allow."""
    if settings.clip_norm is not None:
        nn.utils.clip_grad_norm_(module.parameters(), settings.clip_norm)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimizer remembers, as ``<parameter number>.<name>``."""
    state: Mapping[int, Mapping[str, Tensor | None]] = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": tensor
        for number, kept in state.items()
        for name, tensor in kept.items()
        if tensor is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_state` gave."""
    numbered: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        number, _, name = key.partition(".")
        numbered.setdefault(int(number), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": numbered, "param_groups": groups})
