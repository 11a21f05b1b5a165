"""Progress on stderr: bars on a terminal, now and then a line elsewhere, and nothing for what is quick."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from unblur.cli import terminal
from unblur.progress import ProgressEvent

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

QUIET_SECONDS = 2.0
"""A stage shorter than this leaves no trace."""
LINE_SECONDS = 15.0
"""The time between two lines about one stage where stderr is no terminal."""


class ProgressDisplay:
    """An observer of progress that draws, to be used in a ``with`` statement."""

    def __init__(self) -> None:
        self._drawn: Progress | None = None
        self._bars: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}

    def __enter__(self) -> ProgressDisplay:
        if sys.stderr.isatty():
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                SpinnerColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._drawn = Progress(
                SpinnerColumn(finished_text="✓"),
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[values]}"),
                console=terminal.err(),
                redirect_stdout=False,
            )
            self._drawn.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawn is not None:
            for stage in list(self._bars):
                self._forget_if_quick(stage)
            self._drawn.stop()

    def __call__(self, event: ProgressEvent, /) -> None:
        """Show one step."""
        now = time.monotonic()
        self._started.setdefault(event.label, now)
        if self._drawn is None:
            self._say(event, now)
        else:
            self._draw(event)
        if event.total is not None and event.done >= event.total:
            self._forget_if_quick(event.label)
            self._started.pop(event.label, None)
            self._said.pop(event.label, None)
            self._bars.pop(event.label, None)

    def _draw(self, event: ProgressEvent) -> None:
        assert self._drawn is not None
        if event.label not in self._bars:
            self._bars[event.label] = self._drawn.add_task(event.label, total=event.total, values="")
        self._drawn.update(
            self._bars[event.label], completed=event.done, total=event.total, values=_figures(event)
        )

    def _forget_if_quick(self, stage: str) -> None:
        quick = time.monotonic() - self._started.get(stage, 0.0) < QUIET_SECONDS
        if self._drawn is not None and stage in self._bars and quick:
            self._drawn.remove_task(self._bars.pop(stage))

    def _say(self, event: ProgressEvent, now: float) -> None:
        """A line when a stage has lasted a while, and one more when it ends."""
        since = now - self._started[event.label]
        finished = event.total is not None and event.done >= event.total
        due = now - self._said.get(event.label, self._started[event.label] - LINE_SECONDS + QUIET_SECONDS)
        if since >= QUIET_SECONDS and (due >= LINE_SECONDS or finished):
            self._said[event.label] = now
            of = f" of {event.total:,}" if event.total is not None else ""
            terminal.note(f"{event.label}: {event.done:,}{of}, {since:.0f} s{_figures(event, ', ')}")


def _figures(event: ProgressEvent, lead: str = "") -> str:
    return (
        lead + ", ".join(f"{name} {value:.4g}" for name, value in event.values.items())
        if event.values
        else ""
    )
