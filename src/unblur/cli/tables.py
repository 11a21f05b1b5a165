"""Documents on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unblur.cli import terminal

if TYPE_CHECKING:
    from unblur.document.blocks import Table
    from unblur.evaluation.report import Report
    from unblur.tuning.results import Study


def print_table(table: Table, title: str = "") -> None:
    """Print a table below a title, its caption unless given."""
    from rich import box
    from rich import table as rich_table
    from rich.text import Text

    printed = rich_table.Table(
        title=title or table.caption or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for place, column in enumerate(table.columns):
        printed.add_column(column, justify="right" if table.is_figure(place) else "left", overflow="fold")
    for row in table.cells():
        printed.add_row(*(Text.from_ansi(cell.text) for cell in row))
    terminal.out().print(printed)


def print_lines(*lines: str) -> None:
    """Print plain lines, each of them whole however long it is."""
    for line in lines:
        terminal.out().print(line, markup=False, soft_wrap=True)


def print_report(report: Report) -> None:
    """Print what was measured next to what was published; below it sources, notes, timings."""
    from unblur.evaluation.report import measurement_table, sources

    table = measurement_table(report.measurements, brief=True)
    print_table(table, f"{report.recipe} · protocol: {report.protocol}")
    print_lines(
        *(f"published: {source}" for source in sources(report.measurements)),
        *(f"note: {note}" for note in report.notes),
        str(report.timings),
    )


def print_trials(study: Study[Any]) -> None:
    """Print the best trials of a search."""
    from unblur.experiment.study_page import best_trials

    table = best_trials(study)
    of_all = f"{len(study.trials)} settings on validation data ({study.n_users:,} users)"
    print_table(table, f"the best {len(table.rows)} of {of_all}")
