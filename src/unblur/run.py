"""Where and how watched a piece of work runs: nothing in it changes a figure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from unblur.progress import Progress, silent


@dataclass(frozen=True)
class Run:
    """Handed down behind the public doors, in place of four keywords at every storey."""

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
