"""What a training said of its epochs, kept for the report."""

from __future__ import annotations

from typing import TypeAlias

from unblur.progress import Progress, ProgressEvent

Epoch: TypeAlias = tuple[float, float, float | None]
"""The epoch's number, its loss, and the metric that training stops by where it was judged."""


class TrainingLog:
    """An observer that passes events on, and keeps the epochs of the last training it saw."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.epochs: list[Epoch] = []

    def __call__(self, event: ProgressEvent, /) -> None:
        """Keep the event where it is an epoch, and pass it on."""
        if event.stage == "train" and "loss" in event.values and float(event.done).is_integer():
            if self.epochs and event.done <= self.epochs[-1][0]:
                self.epochs.clear()
            metric = next((value for name, value in event.values.items() if "@" in name), None)
            self.epochs.append((float(event.done), float(event.values["loss"]), metric))
        self.progress(event)
