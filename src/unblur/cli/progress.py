"""Progress on stderr: bars on a terminal, now and then a line elsewhere, and nothing for what is quick."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
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


@dataclass
class _Stage:
    """A stage that is under way."""

    label: str
    started: float
    told: float | None = None
    """When its last line was printed."""
    bar: TaskID | None = None


class ProgressDisplay:
    """An observer of progress that draws, to be used in a ``with`` statement."""

    def __init__(self) -> None:
        self._drawn: Progress | None = None
        self._stages: dict[str, _Stage] = {}

    def __enter__(self) -> ProgressDisplay:
        if sys.stderr.isatty():
            from rich import progress

            self._drawn = progress.Progress(
                progress.SpinnerColumn(finished_text="✓"),
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.fields[values]}"),
                console=terminal.err(),
                redirect_stdout=False,
            )
            self._drawn.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stage in self._stages.values():
            self._forget_if_quick(stage)
        if self._drawn is not None:
            self._drawn.stop()

    def __call__(self, event: ProgressEvent, /) -> None:
        """Show one step."""
        now = time.monotonic()
        # The batches of one epoch after the other share a bar: an epoch's last event seldom is its last batch, so that
        # bars of their own would stay and pile up.
        key = event.part if event.kind == "batch" else event.label
        stage = self._stages.get(key)
        if stage is None or stage.label != event.label:
            stage = _Stage(event.label, now, bar=stage.bar if stage else None)
            self._stages[key] = stage
        finished = event.total is not None and event.done >= event.total
        if self._drawn is None:
            self._tell(event, stage, now, finished)
        else:
            if stage.bar is None:
                stage.bar = self._drawn.add_task(event.label, total=event.total, values="")
            self._drawn.update(
                stage.bar,
                description=event.label,
                completed=event.done,
                total=event.total,
                values=_figures(event),
            )
        if finished:
            self._forget_if_quick(stage)
            del self._stages[key]

    def _forget_if_quick(self, stage: _Stage) -> None:
        quick = time.monotonic() - stage.started < QUIET_SECONDS
        if self._drawn is not None and stage.bar is not None and quick:
            self._drawn.remove_task(stage.bar)

    def _tell(self, event: ProgressEvent, stage: _Stage, now: float, finished: bool) -> None:
        """A line when a stage has lasted a while, and one more when it ends."""
        since = now - stage.started
        due = stage.told is None or now - stage.told >= LINE_SECONDS
        if since >= QUIET_SECONDS and (due or finished):
            stage.told = now
            of = f" of {event.total:,}" if event.total is not None else ""
            figures = f", {_figures(event)}" if event.values else ""
            terminal.note(f"{event.label}: {event.done:,}{of}, {since:.0f} s{figures}")


def _figures(event: ProgressEvent) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in event.values.items())
