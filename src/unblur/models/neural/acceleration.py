"""The one place that knows of `unblur.models.neural.fast`, which may be deleted."""

from __future__ import annotations

from contextlib import nullcontext

try:
    from unblur.models.neural.fast import faster as faster
except ModuleNotFoundError:
    # Without the folder each step is that of autograd and torch's Adam, several times slower.
    faster = nullcontext  # type: ignore[assignment]
