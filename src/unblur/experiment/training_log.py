"""The epochs of a training, kept for the report."""

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
        if event.kind == "epoch" and not event.part:
            if self.epochs and event.done <= self.epochs[-1][0]:  # a training begins
                self.epochs.clear()
            metric = float(event.values[event.metric]) if event.metric else None
            self.epochs.append((float(event.done), float(event.values["loss"]), metric))
        self.progress(event)
