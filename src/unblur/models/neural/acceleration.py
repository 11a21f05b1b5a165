"""The only import of `unblur.models.neural.fast`, a folder that may be deleted."""

from __future__ import annotations

from contextlib import nullcontext

try:
    from unblur.models.neural.fast import faster as faster
except ModuleNotFoundError:
    # Without the folder training is by autograd and torch's Adam, several times slower.
    faster = nullcontext  # type: ignore[assignment]
