"""Plots of single points as SVG text: named ones, and clouds with a line through the best so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from unblur.document.blocks import Figure
from unblur.document.plots import (
    _BOTTOM,
    _LEFT,
    _RIGHT,
    _SERIES,
    _TOP,
    HEIGHT,
    WIDTH,
    Axis,
    _frame,
    _Scale,
    _svg,
)

_LETTER, _LINE = 7.1, 14.0
"""About how wide a letter and how high a line of the plots' text is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A named point, with the interval of its height where there is one."""

    label: str
    x: float
    y: float
    low: float | None = None
    high: float | None = None


def named_point_plot(points: Sequence[Point], *, x: Axis, y: Axis, caption: str) -> Figure:
    """Each point with its name beside it, placed so that names do not cover one another where that can be."""
    ends = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
    across = _Scale(x, [point.x for point in points], _LEFT + 14, WIDTH - _RIGHT - 14)
    up = _Scale(y, ends, HEIGHT - _BOTTOM - 8, _TOP + 12)
    drawn = [*_frame(across, up)]
    places = [(across.at(point.x), up.at(point.y)) for point in points]
    taken = [(left - 6, height - 6, left + 6, height + 6) for left, height in places]
    for point, (left, height) in zip(points, places, strict=True):
        if point.low is not None and point.high is not None:
            drawn.append(
                f'<line class="span s0" x1="{left:.1f}" y1="{up.at(point.low):.1f}" x2="{left:.1f}" '
                f'y2="{up.at(point.high):.1f}"/>'
            )
        drawn.append(f'<circle class="dot s0" cx="{left:.1f}" cy="{height:.1f}" r="4.5"/>')
    for point, (left, height) in zip(points, places, strict=True):
        box = _free_box(left, height, len(point.label) * _LETTER, taken)
        taken.append(box)
        drawn.append(f'<text x="{box[0]:.1f}" y="{box[3] - 3:.1f}">{escape(point.label)}</text>')
    return Figure(_svg(drawn, HEIGHT, caption), caption)


def cloud_plot(
    clouds: Mapping[str, Sequence[tuple[float, float]]],
    *,
    x: Axis,
    y: Axis,
    caption: str,
    lines: Sequence[str] = (),
    ticks: Sequence[str] | None = None,
) -> Figure:
    """Points of each series as dots; the series that `lines` names as a line through them instead.

    ticks: names for the places 0, 1, 2 … of the x axis, in place of its numbers.
    """
    across = _Scale(
        x, [point[0] for points in clouds.values() for point in points], _LEFT + 8, WIDTH - _RIGHT - 8
    )
    up = _Scale(y, [point[1] for points in clouds.values() for point in points], HEIGHT - _BOTTOM, _TOP)
    if ticks is not None:
        across.ticks = lambda: [(float(place), str(name)) for place, name in enumerate(ticks)]  # type: ignore[method-assign]
    drawn = [*_frame(across, up)]
    for series, (name, points) in enumerate(clouds.items()):
        colour = f"s{series % _SERIES}"
        shown = [point for point in points if across.holds(point[0]) and up.holds(point[1])]
        if name in lines:
            path = " ".join(f"{across.at(left):.1f},{up.at(height):.1f}" for left, height in shown)
            drawn.append(f'<polyline class="line {colour}" points="{path}"/>')
        else:
            drawn.extend(
                f'<circle class="dot {colour}" cx="{across.at(left):.1f}" cy="{up.at(height):.1f}" r="3.5"/>'
                for left, height in shown
            )
    return Figure(_svg(drawn, HEIGHT, caption), caption, tuple(clouds) if len(clouds) > 1 else ())


Box = tuple[float, float, float, float]


def _free_box(left: float, height: float, width: float, taken: Sequence[Box]) -> Box:
    """Where a name goes: the first place around its point that covers nothing, else the one that covers least."""
    tried: list[Box] = []
    for rise in (0.0, -15.0, 15.0, -29.0, 29.0, -43.0, 43.0, -57.0, 57.0):
        for start in (left + 8, left - width - 8, left - width / 2):
            if start == left - width / 2 and rise == 0.0:
                continue
            middle = height + rise
            box = (start, middle - _LINE / 2, start + width, middle + _LINE / 2)
            if box[0] >= _LEFT + 2 and box[2] <= WIDTH - 2 and box[1] >= 2 and box[3] <= HEIGHT - _BOTTOM:
                tried.append(box)
    if not tried:
        start = min(max(left - width / 2, _LEFT + 2), WIDTH - width - 2)
        return (start, height - _LINE, start + width, height)
    return min(tried, key=lambda box: sum(_overlap(box, other) for other in taken))


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, wide) * max(0.0, high)
