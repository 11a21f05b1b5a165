"""Plots as SVG text: lines, bars, and dots with intervals. Colours come from the page, so they follow light and dark.

Each function gives a `Figure`. Text is escaped. A value that is not finite is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from unblur.document.blocks import Figure
from unblur.errors import DataError

WIDTH, HEIGHT = 440, 290
"""Of a plot in its own units; small, so that its 13-unit text is readable on a phone."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 24, 14, 46
_SERIES = 6
"""How many colours there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What an axis shows. Ends that are left out come from the data."""

    label: str
    """What is measured, with its unit."""
    low: float | None = None
    high: float | None = None
    logarithmic: bool = False
    percent: bool = False
    """Whether 0.1 is written 10 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A figure with its interval."""

    label: str
    value: float
    low: float
    high: float
    series: int = 0
    """Which entry of the legend it belongs to."""


def line_plot(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x: Axis,
    y: Axis,
    caption: str,
    diagonal: str = "",
) -> Figure:
    """One line a series through its points, in the given order. On a logarithmic axis points below its low end are
    left out. diagonal: what the dashed line x = y means; none where empty."""
    across = _Scale(x, [point[0] for points in lines.values() for point in points], _LEFT, WIDTH - _RIGHT)
    up = _Scale(y, [point[1] for points in lines.values() for point in points], HEIGHT - _BOTTOM, _TOP)
    drawn = [*_frame(across, up)]
    if diagonal:
        ends = max(across.low, up.low), min(across.high, up.high)
        start, stop = ((across.at(end), up.at(end)) for end in ends)
        drawn.append(
            f'<line class="limit" x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{stop[0]:.1f}" y2="{stop[1]:.1f}"/>'
        )
    for series, points in enumerate(lines.values()):
        shown = [point for point in points if across.holds(point[0]) and up.holds(point[1])]
        path = " ".join(f"{across.at(left):.1f},{up.at(height):.1f}" for left, height in shown)
        drawn.append(f'<polyline class="line s{series % _SERIES}" points="{path}"/>')
    described = f"{caption} The dashed straight line: {diagonal}." if diagonal else caption
    return Figure(_svg(drawn, HEIGHT, caption), described, tuple(lines) if len(lines) > 1 else ())


def interval_plot(
    dots: Sequence[Dot],
    *,
    axis: Axis,
    caption: str,
    marks: Mapping[str, float] | None = None,
    legend: Sequence[str] = (),
) -> Figure:
    """One row a dot, its interval as a line, with its label above; rows of one label share it.

    marks: dashed vertical lines, by what they mean.
    """
    values = [end for dot in dots for end in (dot.value, dot.low, dot.high)]
    across = _Scale(axis, [*values, *(marks or {}).values()], 24, WIDTH - 24)
    drawn: list[str] = []
    height, label = float(_TOP + 6), None
    rows: list[tuple[float, Dot]] = []
    for dot in dots:
        if dot.label != label:
            height += 16 if label is None else 27
            drawn.append(f'<text x="24" y="{height - 4:.1f}">{escape(dot.label)}</text>')
            label = dot.label
            height += 8
        else:
            height += 13
        rows.append((height, dot))
    bottom = height + 16
    lines = []
    for tick, text in across.ticks():
        place = across.at(tick)
        lines.append(f'<line class="grid" x1="{place:.1f}" y1="{_TOP}" x2="{place:.1f}" y2="{bottom:.1f}"/>')
        lines.append(
            f'<text class="soft" text-anchor="middle" x="{place:.1f}" y="{bottom + 16:.1f}">{text}</text>'
        )
    for mark in (marks or {}).values():
        place = across.at(mark)
        lines.append(f'<line class="limit" x1="{place:.1f}" y1="{_TOP}" x2="{place:.1f}" y2="{bottom:.1f}"/>')
    for height, dot in rows:
        series = dot.series % _SERIES
        drawn.append(
            f'<line class="span s{series}" x1="{across.at(dot.low):.1f}" y1="{height:.1f}" '
            f'x2="{across.at(dot.high):.1f}" y2="{height:.1f}"/>'
            f'<circle class="dot s{series}" cx="{across.at(dot.value):.1f}" cy="{height:.1f}" r="4.5"/>'
        )
    drawn.append(
        f'<text class="soft" text-anchor="middle" x="{WIDTH / 2}" y="{bottom + 36:.1f}">{escape(axis.label)}</text>'
    )
    meaning = "".join(f" Dashed: {name}." for name in (marks or {}))
    return Figure(_svg(lines + drawn, int(bottom + 48), caption), caption + meaning, tuple(legend))


def bar_plot(bars: Mapping[str, Mapping[str, float]], *, axis: Axis, caption: str) -> Figure:
    """Bars from 0, one group a label with one bar a series: ``{"recall": {"real": 0.2, "synthetic": 0.18}}``."""
    names = list(dict.fromkeys(series for group in bars.values() for series in group))
    values = [value for group in bars.values() for value in group.values()]
    across = _Scale(axis, [0.0, *values], 24, WIDTH - 24)
    drawn: list[str] = []
    height = float(_TOP)
    for label, group in bars.items():
        drawn.append(f'<text x="24" y="{height + 12:.1f}">{escape(label)}</text>')
        height += 18
        for series, value in group.items():
            start, stop = sorted((across.at(0.0), across.at(value)))
            drawn.append(
                f'<rect class="bar s{names.index(series) % _SERIES}" x="{start:.1f}" y="{height:.1f}" '
                f'width="{stop - start:.1f}" height="9"/>'
            )
            height += 12
        height += 8
    lines = []
    for tick, text in across.ticks():
        place = across.at(tick)
        lines.append(f'<line class="grid" x1="{place:.1f}" y1="{_TOP}" x2="{place:.1f}" y2="{height:.1f}"/>')
        lines.append(
            f'<text class="soft" text-anchor="middle" x="{place:.1f}" y="{height + 16:.1f}">{text}</text>'
        )
    drawn.append(
        f'<text class="soft" text-anchor="middle" x="{WIDTH / 2}" y="{height + 36:.1f}">{escape(axis.label)}</text>'
    )
    return Figure(
        _svg(lines + drawn, int(height + 48), caption), caption, tuple(names) if len(names) > 1 else ()
    )


class _Scale:
    """From values to places."""

    def __init__(self, axis: Axis, values: Sequence[float], start: float, stop: float) -> None:
        if not all(math.isfinite(value) for value in values):
            raise DataError(f"Values to plot must be finite; some of “{axis.label}” are not. Leave them out.")
        usable = [value for value in values if value > 0] if axis.logarithmic else list(values)
        if not usable and (axis.low is None or axis.high is None):
            raise DataError(
                f"There must be values to plot; there are none of “{axis.label}”. Leave the plot out."
            )
        self.axis, self.start, self.stop = axis, start, stop
        self.low = min(usable) if axis.low is None else axis.low
        self.high = max(usable) if axis.high is None else axis.high
        if self.high <= self.low:
            pad = abs(self.low) * 0.1 or 1.0
            self.low, self.high = (
                (self.low / 2, self.low * 2) if axis.logarithmic else (self.low - pad, self.high + pad)
            )
        elif not axis.logarithmic:
            pad = (self.high - self.low) * 0.04
            self.low -= pad if axis.low is None and self.low != 0 else 0
            self.high += pad if axis.high is None else 0

    def holds(self, value: float) -> bool:
        """Whether a value can be shown."""
        return not self.axis.logarithmic or value >= self.low * (1 - 1e-9)

    def at(self, value: float) -> float:
        """The place of a value; beyond the ends, the end."""
        kept = min(max(value, self.low), self.high)
        if self.axis.logarithmic:
            share = math.log(kept / self.low) / math.log(self.high / self.low)
        else:
            share = (kept - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values between the ends, and how they are written."""
        if self.axis.logarithmic:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            values = [10.0**power for power in range(first, last + 1)]
            if len(values) < 3:
                fine = [size * 10.0**power for power in range(first - 1, last + 1) for size in (1, 2, 5)]
                values = [value for value in fine if self.low * 0.999 <= value <= self.high * 1.001]
            if len(values) < 2:
                values = [self.low, self.high]
        else:
            rough = (self.high - self.low) / 5
            power = 10.0 ** math.floor(math.log10(rough))
            step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
            values = [
                step * at
                for at in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)
            ]
        return [(value, self._written(value)) for value in values]

    def _written(self, value: float) -> str:
        if self.axis.percent:
            return f"{value * 100:.6g} %"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _frame(across: _Scale, up: _Scale) -> list[str]:
    """Grid, ticks and the names of both axes."""
    drawn = []
    for tick, text in across.ticks():
        place = across.at(tick)
        drawn.append(
            f'<line class="grid" x1="{place:.1f}" y1="{_TOP}" x2="{place:.1f}" y2="{HEIGHT - _BOTTOM}"/>'
            f'<text class="soft" text-anchor="middle" x="{place:.1f}" y="{HEIGHT - _BOTTOM + 17}">{text}</text>'
        )
    for tick, text in up.ticks():
        place = up.at(tick)
        drawn.append(
            f'<line class="grid" x1="{_LEFT}" y1="{place:.1f}" x2="{WIDTH - _RIGHT}" y2="{place:.1f}"/>'
            f'<text class="soft" text-anchor="end" x="{_LEFT - 5}" y="{place + 4:.1f}">{text}</text>'
        )
    drawn.append(f'<line class="axis" x1="{_LEFT}" y1="{_TOP}" x2="{_LEFT}" y2="{HEIGHT - _BOTTOM}"/>')
    drawn.append(
        f'<line class="axis" x1="{_LEFT}" y1="{HEIGHT - _BOTTOM}" x2="{WIDTH - _RIGHT}" y2="{HEIGHT - _BOTTOM}"/>'
    )
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    drawn.append(
        f'<text class="soft" text-anchor="middle" x="{middle}" y="{HEIGHT - 9}">{escape(across.axis.label)}</text>'
    )
    height = (HEIGHT - _BOTTOM + _TOP) / 2
    drawn.append(
        f'<text class="soft" text-anchor="middle" transform="translate(13 {height}) rotate(-90)">'
        f"{escape(up.axis.label)}</text>"
    )
    return drawn


def _svg(drawn: Sequence[str], height: int, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(title)}</title>{''.join(drawn)}</svg>"
    )
