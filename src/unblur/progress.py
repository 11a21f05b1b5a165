"""Progress reaches the caller through an observer; the library itself never prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeAlias

Kind: TypeAlias = Literal["step", "epoch", "batch", "trial"]
"""What a unit of work is: an epoch of a training, a batch within one epoch, a trial of a search, or any other step."""


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One step of something long."""

    stage: str
    """What is under way, in words for a person: ``score users``, ``train``. No code reads them."""
    done: int
    """How many units are finished."""
    total: int | None = None
    """Out of how many, or `None` where that is not known beforehand."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Figures worth showing next to it: loss, metric, residual."""
    kind: Kind = "step"
    part: str = ""
    """Which part of a model an epoch or a batch trains, in words; empty for the model itself."""
    metric: str = ""
    """Which of `values` is the metric that training stops by; empty for an epoch that was not judged by one."""

    @property
    def label(self) -> str:
        """The stage, named after the part that it works on: one bar of a display."""
        return f"{self.part}: {self.stage}" if self.part else self.stage


class Progress(Protocol):
    """An observer of progress. An exception that it raises (an interrupt, say) ends the work."""

    def __call__(self, event: ProgressEvent, /) -> None:
        """Take note of an event."""
        ...


def silent(event: ProgressEvent, /) -> None:
    """The observer that ignores everything."""


def of_part(progress: Progress, part: str) -> Progress:
    """An observer that passes every event on as one of `part`."""

    def observe(event: ProgressEvent, /) -> None:
        progress(replace(event, part=part))

    return observe
