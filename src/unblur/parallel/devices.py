"""The device that arrays are computed on."""

from __future__ import annotations

import re
from typing import Literal

from unblur.errors import CapabilityError, needing_torch


def check_device(device: str, precision: Literal["float32", "bfloat16"] = "float32") -> str:
    """Return the name of a device that is available: "cpu", "cuda", or "cuda:1" and so on. A GPU needs torch.

    Raises `CapabilityError` for one that is unknown, unavailable, or without bfloat16 if that is the precision.
    """
    CapabilityError.unless(
        re.fullmatch(r"cpu|cuda(:[0-9]+)?", device) is not None,
        f'The device must be "cpu" or "cuda" (or "cuda:0" and so on); saw {device!r}.',
    )
    if device == "cpu":
        return device
    with needing_torch("A GPU"):
        import torch
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    CapabilityError.unless(
        (torch.device(device).index or 0) < n_gpus,
        f'Device "{device}" is unavailable: torch finds {n_gpus} GPUs here. Use "cpu", another number, or a torch build with CUDA.',
    )
    CapabilityError.unless(
        precision == "float32" or torch.cuda.is_bf16_supported(),
        f'Precision "bfloat16" needs a GPU that supports it; {device!r} does not. Use "float32".',
    )
    return device
