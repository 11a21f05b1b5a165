"""The page of a comparison."""

from __future__ import annotations

from unblur.document.blocks import Block, Cell, Listing, Paragraph, Section, Table, page
from unblur.document.plots import Axis, Dot, interval_plot, line_plot
from unblur.document.points import Point, named_point_plot
from unblur.evaluation.beyond_accuracy import MEANINGS
from unblur.evaluation.metrics import parse_metric
from unblur.experiment.comparison.summary import Comparison
from unblur.experiment.comparison.tables import (
    Rows,
    beyond_accuracy,
    costs,
    groups,
    leaderboard,
    method,
    pairs,
    settings,
)
from unblur.experiment.page import popularity_plot, response_blocks, training_blocks

_MOST_LINES = 6


def comparison_page(found: Comparison, *, title: str = "Comparison of recommenders") -> str:
    """The comparison as one HTML page. Raises `CapabilityError` where jinja2 is missing."""
    size = found.size
    lead = (
        f"{found.verdict()} {size['users']:,} users, {size['items']:,} items, {size['interactions']:,} interactions to "
        f"learn from; protocol: {found.protocol}."
    )
    sections = [
        Section("Accuracy", (_table(leaderboard(found)), _intervals(found), *_curves(found))),
        Section("Accuracy against cost", (*_accuracy_against_cost(found), _table(costs(found)))),
        Section("Beyond accuracy", (_table(beyond_accuracy(found)), *_popularity(found), _meanings())),
        *(
            [Section("Groups of users and items", (_table(groups(found)), *_groups(found)))]
            if found.groups
            else []
        ),
        *([Section("Every pair", (_table(pairs(found)),))] if found.differences else []),
        Section("Settings", (_table(settings(found)),)),
        *_inside(found),
        Section("How this was measured", (*(Paragraph(line) for line in method(found)),)),
    ]
    if found.failures:
        lines = tuple((Cell(name, "bad"), reason) for name, reason in found.failures.items())
        sections.insert(1, Section("Did not get through", (Listing(lines),)))
    if found.notes:
        sections.append(
            Section("Notes", (Listing(tuple((Cell("note"), f"{note}.") for note in found.notes)),))
        )
    return page(title, sections, lead=lead, footer=_footer(found))


def _table(rows: Rows) -> Table:
    return Table(rows.columns, rows.rows, left=rows.left)


def _intervals(found: Comparison) -> Block:
    dots = []
    for result in found.results:
        entry = found.figures[result.name][found.metric]
        dots.append(Dot(label=result.name, value=entry.value, low=entry.low, high=entry.high))
    return interval_plot(
        dots,
        axis=Axis(label=f"{found.metric}, mean over users"),
        caption=f"Means with 95 % bootstrap intervals over {found.size['counted']:,} users. Intervals may overlap where a "
        "paired test tells two models apart: users differ more than models do.",
    )


def _curves(found: Comparison) -> list[Block]:
    shown = found.results[:_MOST_LINES]
    if len(shown[0].curve) < 2:
        return []
    name, _ = parse_metric(found.metric)
    which = "" if len(shown) == len(found.results) else f" The first {len(shown)} models are drawn."
    return [
        line_plot(
            {result.name: result.curve for result in shown},
            x=Axis(label="length of the list, k"),
            y=Axis(label=f"{name}@k, mean over users", low=0.0),
            caption=f"{name} at every cut-off, {found.size['counted']:,} users.{which}",
        )
    ]


def _accuracy_against_cost(found: Comparison) -> list[Block]:
    points = []
    for result in found.results:
        entry = found.figures[result.name][found.metric]
        seconds = max(result.costs.fit_seconds, 1e-3)
        points.append(Point(label=result.name, x=seconds, y=entry.value, low=entry.low, high=entry.high))
    scored = [
        Point(
            label=point.label,
            x=max(result.costs.milliseconds_a_user, 1e-4),
            y=point.y,
            low=point.low,
            high=point.high,
        )
        for point, result in zip(points, found.results, strict=True)
    ]
    users = f"{found.size['counted']:,} users; bars are 95 % intervals."
    y = Axis(label=found.metric)
    return [
        named_point_plot(
            points,
            x=Axis(label="seconds to fit once (logarithmic)", logarithmic=True),
            y=y,
            caption=f"Accuracy against the time to fit the chosen setting. {users}",
        ),
        named_point_plot(
            scored,
            x=Axis(label="milliseconds to score and rank a user (logarithmic)", logarithmic=True),
            y=y,
            caption=f"Accuracy against the time to serve. {users}",
        ),
    ]


def _popularity(found: Comparison) -> list[Block]:
    shown = found.results[: _MOST_LINES - 1]
    curves = {"train": found.popularity, **{result.name: result.exposure for result in shown}}
    return [popularity_plot(curves, found.size["counted"])]


def _groups(found: Comparison) -> list[Block]:
    users = [label for label in found.groups if label.startswith("users")]
    shown = found.results[:4]
    dots = [
        Dot(label=label, value=entry.value, low=entry.low, high=entry.high, series=series)
        for label in users
        for series, result in enumerate(shown)
        for entry in (found.groups[label][result.name],)
    ]
    sizes = ", ".join(f"{next(iter(found.groups[label].values())).n_users:,}" for label in users)
    return [
        interval_plot(
            dots,
            axis=Axis(label=f"{found.metric}, mean over users"),
            caption=f"The first {len(shown)} models for users with few and with many interactions, 95 % intervals; {sizes} "
            "users.",
            legend=tuple(result.name for result in shown),
        )
    ]


def _meanings() -> Table:
    rows = tuple((name.replace("_", " "), said) for name, said in MEANINGS.items())
    return Table(("measure", "what it is"), rows, left=2)


def _inside(found: Comparison) -> list[Section]:
    """What filters do, and how training went, for the models that have such a thing."""
    filters = [
        Section(f"The filter of {result.name}", response_blocks(result.response))
        for result in found.results
        if result.response
    ]
    trainings = [
        Section(f"The training of {result.name}", training_blocks(result.training))
        for result in found.results
        if len(result.training) > 1
    ]
    return filters + trainings


def _footer(found: Comparison) -> list[str]:
    lines = [f"{name}: {value}" for name, value in found.data.items()]
    for name in ("versions", "machine"):
        values = getattr(found, name)
        if values:
            lines.append(f"{name}: " + ", ".join(f"{key} {value}" for key, value in values.items()))
    return lines
