"""Plots as SVG text: lines, points, bars, and dots with intervals. Colours come from the page, so they follow light and dark.

Each function gives a `Plot`. Text is escaped. A value that is not finite is refused.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

from unblur.document.blocks import Plot
from unblur.errors import DataError

Series: TypeAlias = Mapping[str, Sequence[tuple[float, float]]]
"""(x, y) of the points of each series, by its name in the legend."""

WIDTH, HEIGHT = 440, 290
"""Of a plot in its own units; small, so that its 13-unit text is readable on a phone."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 24, 14, 46
"""Room around what is plotted: for the ticks and the name of the axis on the left and below."""
_END, _FLOOR = WIDTH - _RIGHT, HEIGHT - _BOTTOM
"""The right and the lower end of what is plotted."""
_COLOURS = 6
"""How many the page's style sheet has; further series begin with the first again."""
_LETTER, _LINE = 7.1, 14.0
"""About how wide a letter and how high a line of the plots' text is."""

_Box: TypeAlias = tuple[float, float, float, float]
"""(left, top, right, bottom)."""


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
    names: Sequence[str] = ()
    """What stands at the places 0, 1, 2 …, instead of numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A figure with its interval, if it has one."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    series: int = 0
    """Which entry of the legend it belongs to."""


def line_plot(
    series: Series, *, x: Axis, y: Axis, caption: str, dots: Collection[str] = (), diagonal: str = ""
) -> Plot:
    """One line a series through its points, in the given order; the series that `dots` names as single points.

    On a logarithmic axis points below its low end are left out. diagonal: what the dashed line x = y means; none if empty.
    """
    margin = 8 if dots else 0  # half a dot lies beyond its point
    across = _Scale(x, [at for points in series.values() for at, _ in points], _LEFT + margin, _END - margin)
    up = _Scale(y, [at for points in series.values() for _, at in points], _FLOOR, _TOP)
    drawn = _frame(across, up)
    if diagonal:
        low, high = max(across.low, up.low), min(across.high, up.high)
        drawn.append(_line("limit", across.at(low), up.at(low), across.at(high), up.at(high)))
        caption = f"{caption} The dashed straight line: {diagonal}."
    for place, (name, points) in enumerate(series.items()):
        shown = [(across.at(a), up.at(b)) for a, b in points if across.holds(a) and up.holds(b)]
        if name in dots:
            drawn += [_dot(place, *point, radius=3.5) for point in shown]
        else:
            path = " ".join(f"{left:.1f},{top:.1f}" for left, top in shown)
            drawn.append(f'<polyline class="line {_colour(place)}" points="{path}"/>')
    return _plot(drawn, HEIGHT, caption, series)


def named_dot_plot(dots: Sequence[tuple[float, Dot]], *, x: Axis, y: Axis, caption: str) -> Plot:
    """Dots with their intervals upright at (x, value), their names next to them.

    Names are placed so that they do not cover one another if that can be.
    """
    across = _Scale(x, [left for left, _ in dots], _LEFT + 14, _END - 14)
    up = _Scale(y, _ends(dot for _, dot in dots), _FLOOR - 8, _TOP + 12)
    drawn = _frame(across, up)
    placed = [(across.at(left), up.at(dot.value), dot) for left, dot in dots]
    taken = [(left - 6, top - 6, left + 6, top + 6) for left, top, _ in placed]
    for left, top, dot in placed:
        if dot.low is not None and dot.high is not None:
            drawn.append(_line("span s0", left, up.at(dot.low), left, up.at(dot.high)))
        drawn.append(_dot(0, left, top))
    for left, top, dot in placed:
        box = _free_box(left, top, len(dot.label) * _LETTER, taken)
        taken.append(box)
        drawn.append(_text(box[0], box[3] - 3, dot.label))
    return _plot(drawn, HEIGHT, caption)


def interval_plot(
    dots: Sequence[Dot],
    *,
    axis: Axis,
    caption: str,
    marks: Mapping[str, float] | None = None,
    legend: Sequence[str] = (),
) -> Plot:
    """One row a dot, its interval as a line, with its label above; rows of one label share it.

    marks: dashed vertical lines, by what they mean.
    """
    marks = marks or {}
    across = _Scale(axis, [*_ends(dots), *marks.values()], 24, WIDTH - 24)
    drawn: list[str] = []
    top, label = float(_TOP + 6), None
    for dot in dots:
        if dot.label != label:
            top += 16 if label is None else 27
            drawn.append(_text(24, top - 4, dot.label))
        top += 13 if dot.label == label else 8
        label = dot.label
        if dot.low is not None and dot.high is not None:
            ends = across.at(dot.low), top, across.at(dot.high), top
            drawn.append(_line(f"span {_colour(dot.series)}", *ends))
        drawn.append(_dot(dot.series, across.at(dot.value), top))
    floor = top + 16
    dashes = [_line("limit", at, _TOP, at, floor) for at in map(across.at, marks.values())]
    meaning = "".join(f" Dashed: {name}." for name in marks)
    return _plot(_below(across, floor) + dashes + drawn, floor + 48, caption + meaning, legend)


def bar_plot(bars: Mapping[str, float], *, axis: Axis, caption: str) -> Plot:
    """Bars from 0, each below its label."""
    across = _Scale(axis, [0.0, *bars.values()], 24, WIDTH - 24)
    drawn: list[str] = []
    top = float(_TOP)
    for label, value in bars.items():
        start, stop = sorted((across.at(0.0), across.at(value)))
        drawn += [
            _text(24, top + 12, label),
            f'<rect class="bar s0" x="{start:.1f}" y="{top + 18:.1f}" width="{stop - start:.1f}" height="9"/>',
        ]
        top += 38
    return _plot(_below(across, top) + drawn, top + 48, caption)


# ------------------------------------------------------------------------------------------------ axes


class _Scale:
    """From values to places."""

    def __init__(self, axis: Axis, values: Sequence[float], start: float, stop: float) -> None:
        DataError.unless(
            all(map(math.isfinite, values)),
            f"Values to plot must be finite; some of “{axis.label}” are not. Leave them out.",
        )
        usable = [value for value in values if value > 0 or not axis.logarithmic]
        DataError.unless(
            usable or (axis.low is not None and axis.high is not None),
            f"There must be values to plot; there are none of “{axis.label}”. Leave the plot out.",
        )
        self.axis, self.start, self.stop = axis, start, stop
        self.low = min(usable) if axis.low is None else axis.low
        self.high = max(usable) if axis.high is None else axis.high
        if self.high <= self.low:  # one value: some room on both sides of it
            room = abs(self.low) * 0.1 or 1.0
            self.low, self.high = (
                (self.low / 2, self.low * 2) if axis.logarithmic else (self.low - room, self.high + room)
            )
        elif not axis.logarithmic:  # a little room beyond the outermost values, but not below 0
            room = (self.high - self.low) * 0.04
            self.low -= room if axis.low is None and self.low != 0 else 0
            self.high += room if axis.high is None else 0

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
        if self.axis.names:
            return [(float(place), name) for place, name in enumerate(self.axis.names)]
        values = self._decades() if self.axis.logarithmic else self._steps()
        return [(value, self._written(value)) for value in values]

    def _decades(self) -> list[float]:
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        values = [10.0**power for power in range(first, last + 1)]
        if len(values) < 3:
            fine = [size * 10.0**power for power in range(first - 1, last + 1) for size in (1, 2, 5)]
            values = [value for value in fine if self.low * 0.999 <= value <= self.high * 1.001]
        return values if len(values) > 1 else [self.low, self.high]

    def _steps(self) -> list[float]:
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [step * at for at in range(first, last + 1)]

    def _written(self, value: float) -> str:
        if self.axis.percent:
            return f"{value * 100:.6g} %"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _ends(dots: Iterable[Dot]) -> list[float]:
    """All values that an axis must reach."""
    return [end for dot in dots for end in (dot.value, dot.low, dot.high) if end is not None]


def _below(across: _Scale, floor: float) -> list[str]:
    """The upright lines of the grid, down to `floor`; below them the ticks and the name of the axis."""
    drawn = []
    for value, text in across.ticks():
        place = across.at(value)
        drawn += [_line("grid", place, _TOP, place, floor), _text(place, floor + 16, text, "soft", "middle")]
    middle = (across.start + across.stop) / 2
    return [*drawn, _text(middle, floor + 36, across.axis.label, "soft", "middle")]


def _frame(across: _Scale, up: _Scale) -> list[str]:
    """Grid, ticks and the names of both axes."""
    drawn = _below(across, _FLOOR)
    for value, text in up.ticks():
        place = up.at(value)
        drawn += [_line("grid", _LEFT, place, _END, place), _text(_LEFT - 5, place + 4, text, "soft", "end")]
    return [
        *drawn,
        _line("axis", _LEFT, _TOP, _LEFT, _FLOOR),
        _line("axis", _LEFT, _FLOOR, _END, _FLOOR),
        (
            f'<text class="soft" text-anchor="middle" transform="translate(13 {(_FLOOR + _TOP) / 2}) rotate(-90)">'
            f"{escape(up.axis.label)}</text>"
        ),
    ]


# ------------------------------------------------------------------------------------------------- SVG


def _plot(drawn: Iterable[str], height: float, caption: str, legend: Iterable[str] = ()) -> Plot:
    svg = (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{escape(caption)}</title>{''.join(drawn)}</svg>"
    )
    names = tuple(legend)
    return Plot(svg, caption, names if len(names) > 1 else ())


def _colour(series: int) -> str:
    return f"s{series % _COLOURS}"


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _dot(series: int, x: float, y: float, radius: float = 4.5) -> str:
    return f'<circle class="dot {_colour(series)}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    style = f' class="{kind}" text-anchor="{anchor}"' if kind else ""
    return f'<text{style} x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


# ----------------------------------------------------------------------------------------------- names


def _free_box(left: float, top: float, width: float, taken: Sequence[_Box]) -> _Box:
    """Where a name goes: the first place around its point that covers nothing, else the one that covers least."""
    sides = (left + 8, left - width - 8, left - width / 2)
    rises = (0.0, -15.0, 15.0, -29.0, 29.0, -43.0, 43.0, -57.0, 57.0)  # about one line, two, three, four
    boxes = [
        (start, top + rise - _LINE / 2, start + width, top + rise + _LINE / 2)
        for rise in rises
        for start in (sides if rise else sides[:2])  # a name in the middle would lie on its own point
    ]
    fitting = [
        box
        for box in boxes
        if box[0] >= _LEFT + 2 and box[2] <= WIDTH - 2 and box[1] >= 2 and box[3] <= _FLOOR
    ]
    if not fitting:
        start = min(max(left - width / 2, _LEFT + 2), WIDTH - width - 2)
        return (start, top - _LINE, start + width, top)
    return min(fitting, key=lambda box: sum(_overlap(box, other) for other in taken))


def _overlap(one: _Box, other: _Box) -> float:
    wide, high = (min(one[end], other[end]) - max(one[end - 2], other[end - 2]) for end in (2, 3))
    return max(0.0, wide) * max(0.0, high)
