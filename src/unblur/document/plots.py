"""Plots as SVG text: lines, points, bars, and dots with intervals. Colours come from the page, so they follow light and dark.

Each function returns a `Plot`. Text is escaped. Raises `DataError` for values that are not finite. Sizes are in units of
the plot, chosen by eye on a screen and a phone.
"""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from unblur.document.blocks import Plot
from unblur.document.text import one_line
from unblur.errors import DataError

Series: TypeAlias = Mapping[str, Sequence[tuple[float, float]]]
"""(x, y) of the points of each series, by its name in the legend."""

WIDTH, HEIGHT = 440, 290
"""The size of a plot in its own units; small, so that its 13-unit text is readable on a phone."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 24, 14, 46
"""Margins around the plotting area, with room for ticks and axis names on the left and below."""
_END, _FLOOR = WIDTH - _RIGHT, HEIGHT - _BOTTOM
"""The right and the lower end of the plotting area."""
_COLOURS = 6
"""Number of colours in the page's style sheet; further series start again with the first."""
_EDGE, _BELOW = 24, 48
"""Margins of plots without a vertical axis: half of a tick's text at the sides; ticks and the axis name below."""
_LETTER, _LINE = 7.1, 14.0
"""Approximate width of a letter and height of a line of the plots' text."""

_Box: TypeAlias = tuple[float, float, float, float]
"""(left, top, right, bottom)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis. Ends that are left out come from the data."""

    label: str
    """The quantity, with its unit."""
    low: float | None = None
    high: float | None = None
    logarithmic: bool = False
    percent: bool = False
    """Whether 0.1 is written as 10 %."""
    names: Sequence[str] = ()
    """Labels at 0, 1, 2 … instead of numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """A figure with its interval, if it has one."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    series: int = 0
    """The index of its series in the legend."""


def line_plot(
    series: Series, *, x: Axis, y: Axis, caption: str, dots: Collection[str] = (), diagonal: str = ""
) -> Plot:
    """Draw a line per series through its points, in their order; the series that `dots` names as single points.

    On a logarithmic axis points below its low end are left out. diagonal: the meaning of a dashed line x = y, which is
    drawn unless it is empty.
    """
    margin = 8 if dots else 0  # a dot at an end of the axis stays whole, with some room
    x_scale = _Scale(x, [at for points in series.values() for at, _ in points], _LEFT + margin, _END - margin)
    y_scale = _Scale(y, [at for points in series.values() for _, at in points], _FLOOR, _TOP)
    elements = _frame(x_scale, y_scale)
    if diagonal:
        low, high = max(x_scale.low, y_scale.low), min(x_scale.high, y_scale.high)
        elements.append(_line("limit", x_scale.at(low), y_scale.at(low), x_scale.at(high), y_scale.at(high)))
        caption = f"{caption} The dashed straight line: {diagonal}."
    for index, (name, points) in enumerate(series.items()):
        visible = [(x_scale.at(a), y_scale.at(b)) for a, b in points if x_scale.holds(a) and y_scale.holds(b)]
        if name in dots:
            # Smaller than other dots, since a search has hundreds of trials.
            elements += [_dot(index, *point, radius=3.5) for point in visible]
        else:
            path = " ".join(f"{left:.1f},{top:.1f}" for left, top in visible)
            elements.append(f'<polyline class="line {_colour(index)}" points="{path}"/>')
    return _plot(elements, HEIGHT, caption, series)


def named_dot_plot(dots: Sequence[tuple[float, Dot]], *, x: Axis, y: Axis, caption: str) -> Plot:
    """Draw dots at (x, value) with vertical intervals, and their names next to them.

    Names are placed so that they do not cover each other, if possible.
    """
    # Room for whole dots at the ends, and above the highest one for a name.
    x_scale = _Scale(x, [left for left, _ in dots], _LEFT + 14, _END - 14)
    y_scale = _Scale(y, _values(dot for _, dot in dots), _FLOOR - 8, _TOP + 12)
    elements = _frame(x_scale, y_scale)
    points = [(x_scale.at(left), y_scale.at(dot.value), dot) for left, dot in dots]
    # A dot with its radius of 4.5, and 1.5 between it and a name.
    occupied = [(left - 6, top - 6, left + 6, top + 6) for left, top, _ in points]
    for left, top, dot in points:
        if dot.low is not None and dot.high is not None:
            elements.append(_line("span s0", left, y_scale.at(dot.low), left, y_scale.at(dot.high)))
        elements.append(_dot(0, left, top))
    for left, top, dot in points:
        box = _free_box(left, top, len(dot.label) * _LETTER, occupied)
        occupied.append(box)
        elements.append(
            _text(box[0], box[3] - 3, dot.label)
        )  # the baseline is 3 above the lower end of a line
    return _plot(elements, HEIGHT, caption)


def interval_plot(
    dots: Sequence[Dot],
    *,
    axis: Axis,
    caption: str,
    marks: Mapping[str, float] | None = None,
    legend: Sequence[str] = (),
) -> Plot:
    """Draw a row per dot, its interval as a line, with its label above; consecutive rows with the same label share it.

    marks: the values of dashed vertical lines, by their meaning.
    """
    marks = marks or {}
    x_scale = _Scale(axis, [*_values(dots), *marks.values()], _EDGE, WIDTH - _EDGE)
    elements: list[str] = []
    top, label = float(_TOP + 6), None
    for dot in dots:
        if dot.label != label:
            top += 16 if label is None else 27  # a line of text; below another row, some room as well
            elements.append(_text(_EDGE, top - 4, dot.label))
        top += (
            13 if dot.label == label else 8
        )  # dots of one label do not touch; the first is close to its label
        label = dot.label
        if dot.low is not None and dot.high is not None:
            ends = x_scale.at(dot.low), top, x_scale.at(dot.high), top
            elements.append(_line(f"span {_colour(dot.series)}", *ends))
        elements.append(_dot(dot.series, x_scale.at(dot.value), top))
    floor = top + 16  # as much room below the last dot as above the first label
    dashes = [_line("limit", at, _TOP, at, floor) for at in map(x_scale.at, marks.values())]
    meaning = "".join(f" Dashed: {name}." for name in marks)
    return _plot(_x_axis(x_scale, floor) + dashes + elements, floor + _BELOW, caption + meaning, legend)


def bar_plot(bars: Mapping[str, float], *, axis: Axis, caption: str) -> Plot:
    """Draw bars from 0, each below its label."""
    x_scale = _Scale(axis, [0.0, *bars.values()], _EDGE, WIDTH - _EDGE)
    elements: list[str] = []
    top = float(_TOP)
    for label, value in bars.items():
        start, stop = sorted((x_scale.at(0.0), x_scale.at(value)))
        elements += [
            _text(_EDGE, top + 12, label),  # a line of text, below it a bar of 9, in rows of 38
            f'<rect class="bar s0" x="{start:.1f}" y="{top + 18:.1f}" width="{stop - start:.1f}" height="9"/>',
        ]
        top += 38
    return _plot(_x_axis(x_scale, top) + elements, top + _BELOW, caption)


# ------------------------------------------------------------------------------------------------ axes


class _Scale:
    """The map from values of an axis to coordinates of the plot."""

    def __init__(self, axis: Axis, values: Sequence[float], start: float, stop: float) -> None:
        DataError.unless(
            all(map(math.isfinite, values)),
            f"Values to plot must be finite; some of “{axis.label}” are not. Leave these out.",
        )
        usable = [value for value in values if value > 0 or not axis.logarithmic]
        DataError.unless(
            usable or (axis.low is not None and axis.high is not None),
            f"There must be values to plot; there are none of “{axis.label}”. Leave the plot out.",
        )
        self.axis, self.start, self.stop = axis, start, stop
        self.low = min(usable) if axis.low is None else axis.low
        self.high = max(usable) if axis.high is None else axis.high
        if self.high <= self.low:  # a single value, which gets a tenth on both sides, or a factor of two
            room = abs(self.low) * 0.1 or 1.0
            self.low, self.high = (
                (self.low / 2, self.low * 2) if axis.logarithmic else (self.low - room, self.high + room)
            )
        elif not axis.logarithmic:  # 4 %, about a dot, beyond the outermost values, except below 0
            room = (self.high - self.low) * 0.04
            self.low -= room if axis.low is None and self.low != 0 else 0
            self.high += room if axis.high is None else 0

    def holds(self, value: float) -> bool:
        """Return whether a value can be drawn."""
        # 1e-9 allows for rounding in the end of the axis.
        return not self.axis.logarithmic or value >= self.low * (1 - 1e-9)

    def at(self, value: float) -> float:
        """The coordinate of a value; for values beyond the ends, that of the end."""
        clipped = min(max(value, self.low), self.high)
        if self.axis.logarithmic:
            fraction = math.log(clipped / self.low) / math.log(self.high / self.low)
        else:
            fraction = (clipped - self.low) / (self.high - self.low)
        return self.start + fraction * (self.stop - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values between the ends, with their texts."""
        if self.axis.names:
            return [(float(index), name) for index, name in enumerate(self.axis.names)]
        values = self._decades() if self.axis.logarithmic else self._steps()
        return [(value, self._tick_text(value)) for value in values]

    def _decades(self) -> list[float]:
        # 1e-9, and 0.999 and 1.001 below, allow for rounding in the ends of the axis.
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        values = [10.0**power for power in range(first, last + 1)]
        if len(values) < 3:  # too few to read values between them
            fine = [size * 10.0**power for power in range(first - 1, last + 1) for size in (1, 2, 5)]
            values = [value for value in fine if self.low * 0.999 <= value <= self.high * 1.001]
        return values if len(values) > 1 else [self.low, self.high]

    def _steps(self) -> list[float]:
        rough = (self.high - self.low) / 5  # so at most about five ticks, whose texts do not touch on a phone
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(size * power for size in (1, 2, 2.5, 5, 10) if size * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [step * multiple for multiple in range(first, last + 1)]

    def _tick_text(self, value: float) -> str:
        if self.axis.percent:
            return f"{value * 100:.6g} %"
        # Ticks are round, so that four digits are enough; large ones are whole and get a thousands separator.
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _values(dots: Iterable[Dot]) -> list[float]:
    """All values that an axis must include: those of the dots and the ends of their intervals."""
    return [end for dot in dots for end in (dot.value, dot.low, dot.high) if end is not None]


def _x_axis(x_scale: _Scale, floor: float) -> list[str]:
    """The vertical grid lines down to `floor`, and below them the ticks and the name of the axis."""
    elements = []
    for value, text in x_scale.ticks():
        left = x_scale.at(value)
        # Baselines: ticks a line of text below the axis, its name a line and a half below these.
        elements += [_line("grid", left, _TOP, left, floor), _text(left, floor + 16, text, "soft", "middle")]
    middle = (x_scale.start + x_scale.stop) / 2
    return [*elements, _text(middle, floor + 36, x_scale.axis.label, "soft", "middle")]


def _frame(x_scale: _Scale, y_scale: _Scale) -> list[str]:
    """Grid, ticks and names of both axes."""
    elements = _x_axis(x_scale, _FLOOR)
    for value, text in y_scale.ticks():
        top = y_scale.at(value)
        # 5 between text and axis; a baseline 4 below a line centres text of this size on it.
        elements += [_line("grid", _LEFT, top, _END, top), _text(_LEFT - 5, top + 4, text, "soft", "end")]
    return [
        *elements,
        _line("axis", _LEFT, _TOP, _LEFT, _FLOOR),
        _line("axis", _LEFT, _FLOOR, _END, _FLOOR),
        (
            f'<text class="soft" text-anchor="middle" transform="translate(13 {(_FLOOR + _TOP) / 2}) rotate(-90)">'
            f"{_escaped(y_scale.axis.label)}</text>"
        ),
    ]


# ------------------------------------------------------------------------------------------------- SVG


def _plot(elements: Iterable[str], height: float, caption: str, legend: Iterable[str] = ()) -> Plot:
    svg = (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" xmlns="http://www.w3.org/2000/svg">'
        f"<title>{_escaped(caption)}</title>{''.join(elements)}</svg>"
    )
    names = tuple(legend)
    return Plot(svg, caption, names if len(names) > 1 else ())


def _escaped(text: str) -> str:
    return html.escape(one_line(text))


def _colour(series: int) -> str:
    return f"s{series % _COLOURS}"


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _dot(series: int, x: float, y: float, radius: float = 4.5) -> str:
    return f'<circle class="dot {_colour(series)}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    style = f' class="{kind}" text-anchor="{anchor}"' if kind else ""
    return f'<text{style} x="{x:.1f}" y="{y:.1f}">{_escaped(text)}</text>'


# ----------------------------------------------------------------------------------------------- names


def _free_box(left: float, top: float, width: float, occupied: Sequence[_Box]) -> _Box:
    """The box of a name: the first around its point that covers nothing, else the one that covers least."""
    sides = (left + 8, left - width - 8, left - width / 2)  # 8 from the point clears its dot
    # Nearest first: level with the point, then up and down by about one, two, three and four lines.
    rises = (
        0.0,
        -15.0,
        15.0,
        -29.0,
        29.0,
        -43.0,
        43.0,
        -57.0,
        57.0,
    )
    boxes = [
        (start, top + rise - _LINE / 2, start + width, top + rise + _LINE / 2)
        for rise in rises
        for start in (
            sides if rise else sides[:2]
        )  # a centred name at the height of its point would cover it
    ]
    # Inside by 2, so that no name touches the axis or the border.
    inside = [
        box
        for box in boxes
        if box[0] >= _LEFT + 2 and box[2] <= WIDTH - 2 and box[1] >= 2 and box[3] <= _FLOOR
    ]
    if not inside:
        start = min(max(left - width / 2, _LEFT + 2), WIDTH - width - 2)
        return (start, top - _LINE, start + width, top)
    return min(inside, key=lambda box: sum(_overlap(box, other) for other in occupied))


def _overlap(one: _Box, other: _Box) -> float:
    wide, high = (min(one[end], other[end]) - max(one[end - 2], other[end - 2]) for end in (2, 3))
    return max(0.0, wide) * max(0.0, high)
