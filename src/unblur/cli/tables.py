"""Reports and lists as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from unblur.evaluation.report import Report


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> Table:
    """A plain table; the first `left` columns are text, the others figures."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(columns):
        made.add_column(column, justify="left" if place < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*(Text.from_ansi(cell) if "\x1b" in cell else Text(cell) for cell in row))
    return made


def report_table(report: Report) -> Table:
    """Published beside measured, each with its interval and the users it rests on."""
    from unblur.document.markdown import figure

    published = any(entry.expected is not None for entry in report.measurements)
    columns = ["measurement", "measured", "95 % interval", "users"]
    columns += ["published", "difference", "within", "reproduced"] if published else []
    rows = []
    for entry in report.measurements:
        interval = "–"
        if entry.low is not None and entry.high is not None:
            interval = f"{figure(entry.low)} … {figure(entry.high)}"
        row = [entry.name, figure(entry.value), interval, f"{entry.n_users:,}"]
        if entry.expected is not None:
            row += [
                figure(entry.expected.value),
                figure(entry.value - entry.expected.value, signed=True),
                figure(entry.expected.within),
                "yes" if entry.reproduced else "no",
            ]
        elif published:
            row += [""] * 4
        rows.append(row)
    return table(f"{report.recipe} · protocol: {report.protocol}", columns, rows)


def report_lines(report: Report) -> list[str]:
    """What stands below the table: sources, notes, timings."""
    sources = dict.fromkeys(
        entry.expected.source for entry in report.measurements if entry.expected is not None
    )
    timings = report.timings
    seconds = ", ".join(
        f"{name} {value:.1f} s"
        for name, value in (
            ("read", timings.read_seconds),
            ("fit", timings.fit_seconds),
            ("score", timings.score_seconds),
            ("evaluate", timings.evaluate_seconds),
        )
    )
    return [
        *(f"published: {source}" for source in sources),
        *(f"note: {text}" for text in report.notes),
        f"{seconds}; peak memory {timings.peak_rss_mb:,.0f} MB",
    ]
