"""Where a piece of work runs, and who is told how far it is: an observer, since the library itself never prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
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


@dataclass(frozen=True)
class Run:
    """Where and how watched work runs; nothing in it changes a figure.

    Handed down behind the public doors, in place of four keywords at every storey.
    """

    device: str = "cpu"
    """Where tensors are computed, as torch names it."""
    progress: Progress = silent
    """Who is told how far the work is."""
    checkpoints: Path | None = None
    """The folder that keeps the state of trainings; `None` keeps none."""
    events: Path | None = None
    """The folder for TensorBoard's event files; `None` writes none."""

    def inside(self, *names: str) -> Run:
        """The same run with its folders one level further down for each name: ``run.inside("seed-3")``."""
        return replace(
            self,
            checkpoints=None if self.checkpoints is None else self.checkpoints.joinpath(*names),
            events=None if self.events is None else self.events.joinpath(*names),
        )

    def watched(self, progress: Progress) -> Run:
        """The same run with another observer."""
        return replace(self, progress=progress)
