"""The page of a run: published against measured, cut-offs, popularity, and what the model does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from unblur.document.blocks import Block, Cell, Listing, Paragraph, Section, Table, page
from unblur.document.markdown import figure
from unblur.document.plots import Axis, Dot, interval_plot, line_plot
from unblur.evaluation.metrics import LIST_METRICS
from unblur.evaluation.report import Measurement, Report

if TYPE_CHECKING:
    import polars as pl

Points = Sequence[tuple[float, float]]
_COUNTS = ("mean_popularity", *LIST_METRICS)


def report_page(
    report: Report,
    *,
    concentration: Mapping[str, Points] | None = None,
    response: Mapping[str, Points] | None = None,
    training: Sequence[tuple[float, float, float | None]] = (),
    trials: pl.DataFrame | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The report as one HTML page. Raises `CapabilityError` where jinja2 is missing.

    - `concentration`: (share of the catalogue, share of interactions or places), most popular first, by what of.
    - `response`: (eigenvalue, factor) of a filter, by what it is a factor of.
    - `training`: (epoch, loss, metric or `None`).
    - `trials`: the table of a search (see `Search.to_frame`), whose plots are then shown.
    """
    sections = [Section("Measured", _measured(report))]
    if concentration:
        sections.append(Section("Popularity", (popularity_plot(concentration, _users(report)),)))
    if response:
        sections.append(Section("What the filter does", response_blocks(response)))
    if training:
        sections.append(Section("Training", training_blocks(training)))
    if trials is not None:
        from unblur.experiment.trials_page import trials_sections

        sections.extend(trials_sections(trials))
    said = (*report.notes, *notes)
    if said:
        sections.append(Section("Notes", (Listing(tuple((Cell("note"), _sentence(note)) for note in said)),)))
    sections.append(Section("Settings", (_settings(report),)))
    lead = f"Protocol: {report.protocol}. {_users(report):,} users."
    return page(report.recipe, sections, lead=lead, footer=footer(report))


def popularity_plot(curves: Mapping[str, Points], n_users: int) -> Block:
    """How much of train, and of what is recommended, falls on the most popular items."""
    return line_plot(
        curves,
        x=Axis(label="share of the catalogue, most popular first", percent=True, low=0.0, high=1.0),
        y=Axis(label="share of interactions or places", percent=True, low=0.0, high=1.0),
        caption=f"Popularity bias: a line above that of train recommends popular items more than people took them. "
        f"{n_users:,} users.",
    )


def response_blocks(response: Mapping[str, Points]) -> tuple[Block, ...]:
    """A filter over eigenvalues."""
    return (
        Paragraph(
            "The model multiplies each eigenvector of the item-item matrix by a factor that depends on its eigenvalue. Near 1 "
            "lies what nearly all users share, near 0 what few do, or chance. Blurring keeps the former, the low-pass lifts "
            "what lies within it, and sharpening takes from the top."
        ),
        line_plot(
            response,
            x=Axis(label="eigenvalue", low=0.0, high=1.0),
            y=Axis(label="factor"),
            caption="The filter's response. It follows from the settings alone, so no users are counted.",
        ),
    )


def training_blocks(training: Sequence[tuple[float, float, float | None]]) -> tuple[Block, ...]:
    """Loss, and the metric that training stops by, over epochs."""
    epochs = Axis(label="epoch")
    drawn: list[Block] = [
        line_plot(
            {"loss": [(epoch, loss) for epoch, loss, _ in training]},
            x=epochs,
            y=Axis(label="loss, mean over rows"),
            caption=f"Training loss of {len(training)} epochs.",
        )
    ]
    judged = [(epoch, metric) for epoch, _, metric in training if metric is not None]
    if judged:
        drawn.append(
            line_plot(
                {"metric": judged},
                x=epochs,
                y=Axis(label="metric on validation users"),
                caption="What training stops by, on interactions set aside of train.",
            )
        )
    return tuple(drawn)


def footer(report: Report) -> list[str]:
    """Small print: data, seeds, time, versions, machine."""
    origin, times = report.provenance, report.timings
    lines = [f"{name}: {value}" for name, value in origin.data.items()]
    lines.append(f"seeds: {', '.join(str(seed) for seed in origin.seeds)}")
    lines.append(
        f"time: read {times.read_seconds:.1f} s, fit {times.fit_seconds:.1f} s, score {times.score_seconds:.1f} s, evaluate "
        f"{times.evaluate_seconds:.1f} s; peak memory {times.peak_rss_mb:,.0f} MB"
    )
    for name in ("versions", "machine"):
        values = getattr(origin, name)
        if values:
            lines.append(f"{name}: " + ", ".join(f"{key} {value}" for key, value in values.items()))
    return lines


def _measured(report: Report) -> tuple[Block, ...]:
    blocks: list[Block] = [_table(report)]
    known = [entry for entry in report.measurements if entry.low is not None or entry.expected is not None]
    plain = [entry for entry in known if entry.name.partition("@")[0] not in _COUNTS]
    if plain:
        blocks.append(_intervals(plain, _users(report)))
    curves = _cutoff_curves(report.measurements)
    if curves:
        blocks.append(
            line_plot(
                curves,
                x=Axis(label="length of the list, k"),
                y=Axis(label="mean over users", low=0.0),
                caption=f"Measures by cut-off, {_users(report):,} users.",
            )
        )
    return tuple(blocks)


def _table(report: Report) -> Table:
    published = any(entry.expected is not None for entry in report.measurements)
    columns = ["measurement", "measured", "95 % interval", "users"]
    columns += ["published", "difference", "within", "reproduced"] if published else []
    rows = []
    for entry in report.measurements:
        row: list[str | Cell] = [entry.name, figure(entry.value), _interval(entry), f"{entry.n_users:,}"]
        if entry.expected is not None:
            done = Cell("yes", "good") if entry.reproduced else Cell("no", "bad")
            row += [figure(entry.expected.value), figure(entry.value - entry.expected.value, signed=True)]
            row += [figure(entry.expected.within), done]
        elif published:
            row += [""] * 4
        rows.append(tuple(row))
    sources = dict.fromkeys(
        entry.expected.source for entry in report.measurements if entry.expected is not None
    )
    caption = f"Published: {'; '.join(sources)}." if sources else ""
    return Table(tuple(columns), tuple(rows), caption)


def _intervals(entries: Sequence[Measurement], n_users: int) -> Block:
    dots = []
    published = False
    for entry in entries:
        low, high = entry.low, entry.high
        dots.append(
            Dot(
                label=entry.name,
                value=entry.value,
                low=entry.value if low is None else low,
                high=entry.value if high is None else high,
            )
        )
        if entry.expected is not None:
            published, value, within = True, entry.expected.value, entry.expected.within
            dots.append(Dot(label=entry.name, value=value, low=value - within, high=value + within, series=1))
    return interval_plot(
        dots,
        axis=Axis(label="mean over users"),
        caption=f"Measured with 95 % bootstrap intervals over {n_users:,} users"
        + (", and published with the tolerance of the recipe." if published else "."),
        legend=("measured", "published") if published else (),
    )


def _cutoff_curves(entries: Sequence[Measurement]) -> dict[str, list[tuple[float, float]]]:
    """The measures that are there at two cut-offs or more."""
    found: dict[str, list[tuple[float, float]]] = {}
    for entry in entries:
        name, _, cutoff = entry.name.partition("@")
        if cutoff.isdigit() and name not in _COUNTS:
            found.setdefault(name, []).append((float(cutoff), entry.value))
    return {name: sorted(points) for name, points in found.items() if len(points) > 1}


def _settings(report: Report) -> Table:
    rows = tuple(
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in report.provenance.spec.items()
    )
    return Table(("hyper-parameter", "value"), rows, left=2)


def _users(report: Report) -> int:
    return max((entry.n_users for entry in report.measurements), default=0)


def _interval(entry: Measurement) -> str:
    return "–" if entry.low is None or entry.high is None else f"{figure(entry.low)} … {figure(entry.high)}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
