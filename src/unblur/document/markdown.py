"""A report as Markdown: published beside measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unblur.evaluation.report import Measurement, Report


def report_as_markdown(report: Report) -> str:
    """The report for a person: the table of measurements, then notes, timings and provenance.

    The columns of published numbers are there only where a measurement has one. There is no overall score.
    """
    origin = {
        "spec": report.provenance.spec,
        "data": report.provenance.data,
        "seeds": report.provenance.seeds,
        "versions": report.provenance.versions,
        "machine": report.provenance.machine,
    }
    parts = [
        f"# {report.recipe}",
        f"Protocol: {report.protocol}.",
        measurements_as_markdown(report.measurements),
        _section("Notes", report.notes),
        _section("Timings", _timings(asdict(report.timings))),
        _section("Provenance", (f"{name}: {_inline(value)}" for name, value in origin.items() if value)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def measurements_as_markdown(measurements: Sequence[Measurement]) -> str:
    """A table with one row a measurement."""
    published = any(measurement.expected is not None for measurement in measurements)
    head = ["measurement", "measured", "95 % interval", "users"]
    head += ["published", "difference", "within", "reproduced", "source"] if published else []
    rows = [_cells(measurement, published) for measurement in measurements]
    align = ["---", *["---:"] * (len(head) - 1)]
    if published:
        align[-2:] = ["---", "---"]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, align, *rows))


def figure(value: float, *, signed: bool = False) -> str:
    """A number as reports print it: four decimals, one from 100 on."""
    digits = 4 if abs(value) < 100 else 1
    return f"{value:{'+' if signed else ''},.{digits}f}"


def _cells(measurement: Measurement, published: bool) -> list[str]:
    interval = "–"
    if measurement.low is not None and measurement.high is not None:
        interval = f"{figure(measurement.low)} … {figure(measurement.high)}"
    cells = [measurement.name, figure(measurement.value), interval, f"{measurement.n_users:,}"]
    known = measurement.expected
    if known is not None:
        cells += [
            figure(known.value),
            figure(measurement.value - known.value, signed=True),
            figure(known.within),
            "yes" if measurement.reproduced else "**no**",
            known.source.replace("|", "\\|"),
        ]
    elif published:
        cells += [""] * 5
    return cells


def _timings(timings: Mapping[str, float]) -> Iterable[str]:
    for name, value in timings.items():
        if value:
            what, unit = name.rsplit("_", 1)
            yield f"{what.replace('_', ' ')}: {value:,.1f} {unit.replace('mb', 'MB')}"


def _section(title: str, lines: Iterable[str]) -> str:
    listed = [f"- {line}" for line in lines]
    return "\n".join([f"## {title}", "", *listed]) if listed else ""


def _inline(value: Any) -> str:
    plain = dict(value) if isinstance(value, Mapping) else list(value)
    return f"`{json.dumps(plain, ensure_ascii=False)}`"
