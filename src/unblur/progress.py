"""Progress reaches the caller through an observer; the library itself never prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One step of something long."""

    stage: str
    """What is under way, in words for a person: ``score users``, ``train``."""
    done: int
    """How many units are finished."""
    total: int | None = None
    """Out of how many, or `None` where that is not known beforehand."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Figures worth showing beside it: loss, metric, residual."""


class Progress(Protocol):
    """An observer of progress. An exception that it raises (an interrupt, say) ends the work."""

    def __call__(self, event: ProgressEvent, /) -> None:
        """Take note of an event."""
        ...


def silent(event: ProgressEvent, /) -> None:
    """The observer that ignores everything."""
