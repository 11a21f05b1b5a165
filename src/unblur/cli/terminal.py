"""Output of commands: results and tables go to stdout, everything else, progress included, to stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from rich import box, progress, table as rich_table
from rich.console import Console
from rich.text import Text

from unblur.document.blocks import Table
from unblur.document.text import visible
from unblur.errors import LONGEST, shortened
from unblur.progress import ProgressEvent

if TYPE_CHECKING:
    from unblur.data.output import Inputs, OutputFile
    from unblur.evaluation.report import Report
    from unblur.tuning.results import Study


FAILED = 1
"""The exit code if an expected number, a gate, a copy or a model failed; the others are in `main`."""
_WIDTH = 140
"""Width in letters of a table that does not go to a terminal, chosen by hand."""
_LONGEST_WORD = 5 * LONGEST
"""Letters of a word in one: longer than most paths, which somebody may want to copy."""
_LONGEST_REMARK = 20 * LONGEST
"""Letters of an error or a note: a screen full, twice as long as any that the library itself words."""


@dataclass
class Style:
    """How the results of a command are given."""

    json: bool = False
    """One JSON document on stdout, instead of tables and lines."""
    quiet: bool = False
    """No progress and no notes on stderr; errors remain."""
    debug: bool = False
    """Tracebacks of errors."""
    has_output: bool = False
    """Stdout holds what the command has written, and nothing else."""
    document: dict[str, Any] = field(default_factory=dict)
    """What the document has so far."""

    def add(self, key: str, values: Sequence[Any]) -> None:
        """Add to a list of the document."""
        self.document.setdefault(key, []).extend(values)


style = Style()
"""The style of the running command; `main` sets it anew."""


def print_document() -> None:
    """Print the JSON document of the command, if it is asked for and nothing else was written to stdout.

    Notes alone are no result: the command was refused after them.
    """
    if style.json and style.document.keys() - {"notes"}:
        print(json.dumps(style.document, indent=2, default=str))  # in ASCII, which steers no terminal


def out() -> Console:
    """The console for results: stdout."""
    return _console(sys.stdout)


def err() -> Console:
    """The console for progress, notes and errors: stderr."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    """A console with colours on a terminal only."""
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDTH
    return _Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `main` what to do once nobody reads on."""
        raise


def silence() -> None:
    """Drop what stdout holds and cannot be written, so that the interpreter does not try again at its end."""
    with suppress(OSError):
        sys.stdout.flush()
        return
    with suppress(OSError, ValueError):  # ValueError: a stream without a file
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)


def note(*remarks: str) -> None:
    """Print remarks to stderr, each as one line, which is plain text if stderr is not a terminal."""
    if style.json and remarks:
        style.add("notes", [remark.removeprefix("note: ") for remark in remarks])
    if not style.quiet:
        for remark in remarks:
            _say(remark, "dim")


def notes(remarks: Iterable[str]) -> None:
    """Print the notes of a result."""
    note(*(f"note: {remark}" for remark in remarks))


def failure(remark: str) -> None:
    """Print a remark on what failed to stderr, in red."""
    _say(remark, "red")


def error(text: str) -> None:
    """Print an error to stderr, as one red line."""
    _say(text, "red", "error: ")


def _say(text: str, colour: str, head: str = "") -> None:
    """Print a text as one line, long words of which are shortened, and the line as well if there are many."""
    words = (shortened(word, _LONGEST_WORD) for word in text.split())
    line = shortened(visible(" ".join(words)), _LONGEST_REMARK)
    err().print(Text.assemble((head, f"bold {colour}"), (line, colour)), soft_wrap=True)


def in_document(**facts: Any) -> bool:
    """Put the facts of a result into the JSON document, if one is asked for; return whether it is."""
    if style.json:
        style.document.update(facts)
    return style.json


def print_table(table: Table, title: str = "", **facts: Any) -> None:
    """Print a table below a title, by default its caption; `facts` are what it says, with numbers as numbers, for the JSON document."""
    if facts and in_document(**facts):
        return
    if style.json:
        names = [column or f"column {index + 1}" for index, column in enumerate(table.columns)]
        rows = [dict(zip(names, (cell.text for cell in row), strict=True)) for row in table.cells()]
        style.add("tables", [{"title": title or table.caption, "rows": rows}])
        return
    rendered = rich_table.Table(
        title=_text(title or table.caption) if title or table.caption else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, column in enumerate(table.columns):
        rendered.add_column(
            _text(column), justify="right" if table.is_figure(index) else "left", overflow="fold"
        )
    for row in table.cells():
        rendered.add_row(*(_text(cell.text) for cell in row))
    out().print(rendered)


def print_lines(*lines: str, **facts: Any) -> None:
    """Print plain lines without wrapping them; `facts` are what they say, for the JSON document."""
    if style.has_output:
        note(*lines)
        return
    if in_document(**facts):
        if not facts:
            style.add("lines", lines)
        return
    for line in lines:
        out().print(Text(visible(line)), soft_wrap=True)


def print_text(text: str, key: str) -> None:
    """Print a text as it is; in the JSON document it is the value of `key`."""
    if not in_document(**{key: text}):
        print(text, end="")


def _text(text: str) -> Text:
    """Plain text for a table."""
    return Text(visible(text))


def print_report(report: Report) -> None:
    """Print measured next to published numbers, and below them sources, notes and timings."""
    from unblur.evaluation.report import measurement_table, sources

    if in_document(report=report.to_dict()):
        return
    title = f"{report.recipe} · protocol: {report.protocol}"
    print_table(measurement_table(report.measurements, brief=True), title)
    print_lines(
        *(f"published: {source}" for source in sources(report.measurements)),
        *(f"note: {note}" for note in report.notes),
        str(report.timings),
    )


def output_place(path: Path, *, overwrite: bool, inputs: Inputs = ()) -> OutputFile:
    """The place of a file to write, once nothing stands against it; ``-`` is stdout."""
    from unblur.data.output import OutputFile

    place = OutputFile(path, overwrite=overwrite, inputs=inputs)
    return place if is_stdout(path) else place.checked()


@contextmanager
def output(place: OutputFile) -> Iterator[BinaryIO]:
    """A binary stream to a file, whole or not at all, or to stdout."""
    if is_stdout(place.path):
        style.json, style.has_output = False, True
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        with place.written() as stream:
            yield stream


def is_stdout(path: str | Path | None) -> bool:
    """Return whether an option ``--out`` means stdout."""
    return str(path) == "-"


@contextmanager
def printing(show: Callable[[], None], out: Path | None = None) -> Iterator[None]:
    """Print a result after the block that writes it, which printing cannot spoil; also if it could not be written.

    The last line is the path `out` that was written.
    """
    try:
        yield
    finally:
        show()
    if out is not None:
        print_lines(f"written to {out}")


def print_trials(study: Study[Any]) -> None:
    """Print the best trials of a search."""
    from unblur.experiment.page import best_trials

    if in_document(trials=[asdict(trial) for trial in study.trials]):
        return
    table = best_trials(study)
    total = f"{len(study.trials)} settings on validation data ({study.n_users:,} users)"
    print_table(table, f"the best {len(table.rows)} of {total}")


QUIET_SECONDS = 2.0
"""Shorter stages leave no trace, so that only what somebody waited for stays on the terminal."""
LINE_SECONDS = 15.0
"""Time between two lines about a stage if stderr is not a terminal: four a minute do not flood a log."""


@dataclass
class _Stage:
    """A running stage."""

    label: str
    started: float
    last_line: float | None = None
    """The time at which its last line was printed."""
    bar: progress.TaskID | None = None


class ProgressDisplay:
    """An observer that draws progress bars, or prints lines without a terminal. A context manager."""

    def __init__(self) -> None:
        self._bars: progress.Progress | None = None
        self._stages: dict[str, _Stage] = {}
        self._notes: set[str] = set()

    def __enter__(self) -> ProgressDisplay:
        if sys.stderr.isatty() and not style.quiet:
            self._bars = progress.Progress(
                progress.SpinnerColumn(finished_text="✓"),
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
                progress.TimeRemainingColumn(),
                progress.TextColumn("{task.fields[values]}", markup=False),
                console=err(),
                redirect_stdout=False,
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stage in self._stages.values():
            self._remove_if_quick(stage)
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, event: ProgressEvent, /) -> None:
        """Show an event."""
        if event.kind == "note":
            if event.stage not in self._notes:  # the parts of one data set are read alike
                self._notes.add(event.stage)
                note(f"note: {event.stage}")
            return
        now = time.monotonic()
        # All epochs share one bar for their batches: the last event of an epoch is seldom its last batch, so bars per
        # epoch would stay and pile up.
        key = event.part if event.kind == "batch" else event.label
        stage = self._stages.get(key)
        if stage is None or stage.label != event.label:
            stage = _Stage(event.label, now, bar=stage.bar if stage else None)
            self._stages[key] = stage
        finished = event.total is not None and event.done >= event.total
        if self._bars is None:
            self._print_line(event, stage, now, finished)
        else:
            if stage.bar is None:
                stage.bar = self._bars.add_task("", total=event.total, values="")
            self._bars.update(
                stage.bar,
                description=visible(event.label),
                completed=event.done,
                total=event.total,
                values=_figures(event),
            )
        if finished:
            self._remove_if_quick(stage)
            del self._stages[key]

    def _remove_if_quick(self, stage: _Stage) -> None:
        is_quick = time.monotonic() - stage.started < QUIET_SECONDS
        if self._bars is not None and stage.bar is not None and is_quick:
            self._bars.remove_task(stage.bar)

    def _print_line(self, event: ProgressEvent, stage: _Stage, now: float, finished: bool) -> None:
        """Print a line about a stage that has lasted a while, and a last one when it ends."""
        elapsed = now - stage.started
        due = stage.last_line is None or now - stage.last_line >= LINE_SECONDS
        if elapsed >= QUIET_SECONDS and (due or finished) and not style.quiet:
            stage.last_line = now
            total = f" of {event.total:,}" if event.total is not None else ""
            figures = f", {_figures(event)}" if event.values else ""
            _say(f"{event.label}: {event.done:,}{total}, {elapsed:.0f} s{figures}", "dim")


def _figures(event: ProgressEvent) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in event.values.items())
