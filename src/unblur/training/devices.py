"""What training and scoring may be computed on."""

from __future__ import annotations

import torch

from unblur.errors import CapabilityError
from unblur.training.settings import Precision


def check_device(device: str, precision: Precision = "float32") -> torch.device:
    """The device by name. Raises `CapabilityError` for one that is not here, or that lacks bfloat16 where it
    is wanted."""
    try:
        wanted = torch.device(device)
    except RuntimeError as problem:
        raise CapabilityError(
            f'The device must be one that torch knows, such as "cpu" or "cuda"; {problem}.'
        ) from None
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise CapabilityError(f'Device {device!r} needs a GPU that torch can use; there is none. Use "cpu".')
    if wanted.type == "cuda" and precision == "bfloat16" and not torch.cuda.is_bf16_supported():
        raise CapabilityError(
            f'Precision "bfloat16" needs a GPU that has it; {device!r} has not. Use "float32".'
        )
    return wanted
