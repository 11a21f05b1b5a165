"""What commands print: results and tables go to stdout, everything else, progress included, to stderr."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from rich import box, progress, table as rich_table
from rich.console import Console
from rich.text import Text

from unblur.document.blocks import Table
from unblur.progress import ProgressEvent

if TYPE_CHECKING:
    from unblur.evaluation.report import Report
    from unblur.tuning.results import Study


FAILED = 1
"""The exit code where an expected number, a gate, a copy or a model failed; the others are in `main`."""
_WIDTH = 140
"""Columns of a table that does not go to a terminal."""


def out() -> Console:
    """The console for results: stdout."""
    return _console(sys.stdout)


def err() -> Console:
    """The console for progress, notes and errors: stderr."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    """A console with colours on a terminal only."""
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDTH
    return Console(file=stream, width=width, highlight=False)


def note(*remarks: str) -> None:
    """Remarks on stderr, each in one line of plain text where that is no terminal."""
    for remark in remarks:
        err().print(remark, style="dim", markup=False, soft_wrap=True)


def error(text: str) -> None:
    """An error in one red line on stderr."""
    line = Text("error: ", style="bold red").append(" ".join(text.split()), style="red")
    err().print(line, soft_wrap=True)


def print_table(table: Table, title: str = "") -> None:
    """Print a table below a title, its caption unless given."""
    printed = rich_table.Table(
        title=title or table.caption or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for place, column in enumerate(table.columns):
        printed.add_column(column, justify="right" if table.is_figure(place) else "left", overflow="fold")
    for row in table.cells():
        printed.add_row(*(Text.from_ansi(cell.text) for cell in row))
    out().print(printed)


def print_lines(*lines: str) -> None:
    """Print plain lines, each of them whole however long it is."""
    for line in lines:
        out().print(line, markup=False, soft_wrap=True)


def print_report(report: Report) -> None:
    """Print what was measured next to what was published; below it sources, notes, timings."""
    from unblur.evaluation.report import measurement_table, sources

    title = f"{report.recipe} · protocol: {report.protocol}"
    print_table(measurement_table(report.measurements, brief=True), title)
    print_lines(
        *(f"published: {source}" for source in sources(report.measurements)),
        *(f"note: {note}" for note in report.notes),
        str(report.timings),
    )


def print_trials(study: Study[Any]) -> None:
    """Print the best trials of a search."""
    from unblur.experiment.page import best_trials

    table = best_trials(study)
    of_all = f"{len(study.trials)} settings on validation data ({study.n_users:,} users)"
    print_table(table, f"the best {len(table.rows)} of {of_all}")


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
    bar: progress.TaskID | None = None


class ProgressDisplay:
    """An observer of progress that draws, to be used in a ``with`` statement."""

    def __init__(self) -> None:
        self._drawn: progress.Progress | None = None
        self._stages: dict[str, _Stage] = {}

    def __enter__(self) -> ProgressDisplay:
        if sys.stderr.isatty():
            self._drawn = progress.Progress(
                progress.SpinnerColumn(finished_text="✓"),
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.fields[values]}"),
                console=err(),
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
            note(f"{event.label}: {event.done:,}{of}, {since:.0f} s{figures}")


def _figures(event: ProgressEvent) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in event.values.items())
