"""The device, folders and observer of a run. Progress goes to an observer, since the library itself never prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

Kind: TypeAlias = Literal["step", "epoch", "batch", "trial", "note"]
"""The unit of work: an epoch of a training, a batch within one epoch, a trial of a search, or any other step; a note is no work,
but a remark, as its `stage`, on what was guessed or left out."""


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One step of a long piece of work."""

    stage: str
    """The current work, in words for a person: ``score users``, ``train``. No code reads them."""
    done: int
    """The number of units that are finished."""
    total: int | None = None
    """The number of all units, `None` if unknown beforehand."""
    values: Mapping[str, float] = field(default_factory=dict)
    """Figures worth showing next to it: loss, metric, residual."""
    kind: Kind = "step"
    part: str = ""
    """The part of a model that an epoch or a batch trains, in words; empty for the model itself."""
    metric: str = ""
    """The name in `values` of the metric that training stops by; empty for an epoch without one."""

    @property
    def label(self) -> str:
        """The stage, named after the part that it works on: one bar of a display."""
        return f"{self.part}: {self.stage}" if self.part else self.stage


class Progress(Protocol):
    """An observer of progress. An exception that it raises (an interrupt, say) ends the work."""

    def __call__(self, event: ProgressEvent, /) -> None:
        """Observe an event."""
        ...


def silent(event: ProgressEvent, /) -> None:
    """The observer that ignores everything."""


def of_part(progress: Progress, part: str) -> Progress:
    """Return an observer that passes every event on as one of `part`."""

    def observe(event: ProgressEvent, /) -> None:
        progress(replace(event, part=part))

    return observe


@dataclass(frozen=True)
class Run:
    """Device, observer and folders of a piece of work; none of them changes a figure.

    Public functions take these as keywords; behind them one `Run` is passed down.
    """

    device: str = "cpu"
    """The device of tensors, as torch names it."""
    progress: Progress = silent
    """The observer of progress."""
    checkpoints: Path | None = None
    """The folder for checkpoints of trainings; `None` writes none."""
    events: Path | None = None
    """The folder for TensorBoard's event files; `None` writes none."""

    def inside(self, *names: str) -> Run:
        """Return the same run with its folders one level further down for each name: ``run.inside("seed-3")``."""
        return replace(
            self,
            checkpoints=None if self.checkpoints is None else self.checkpoints.joinpath(*names),
            events=None if self.events is None else self.events.joinpath(*names),
        )

    def watched(self, progress: Progress) -> Run:
        """Return the same run with another observer."""
        return replace(self, progress=progress)
