"""Figures of a training run for TensorBoard, where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unblur.errors import CapabilityError


class Scalars:
    """Writes figures of each epoch as TensorBoard event files."""

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as problem:
            raise CapabilityError(
                f"Writing for TensorBoard needs the extra `tensorboard`; {problem}. "
                "Install it with `pip install 'unblur[tensorboard]'`, or leave `tensorboard` out."
            ) from None
        self._writer = SummaryWriter(str(folder))

    def add(self, epoch: int, figures: Mapping[str, float | None]) -> None:
        """One point a figure; figures that are `None` have none."""
        for name, value in figures.items():
            if value is not None:
                self._writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        """Close the file; a figure that is added afterwards begins another."""
        self._writer.close()
