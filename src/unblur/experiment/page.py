"""The page of a run: published against measured, cut-offs, popularity, what the model does, and how it was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from unblur.document.blocks import Document, DocumentBlock, Listing, Paragraph, Plot, Section, Table
from unblur.document.plots import Axis, Dot, Series, interval_plot, line_plot
from unblur.evaluation.metrics import LIST_METRICS
from unblur.evaluation.report import Measurement, Report, measurement_table
from unblur.experiment.study_page import study_sections
from unblur.tuning.results import Study

_COUNTS = ("mean_popularity", *LIST_METRICS)
"""Measures that are no shares of hits, and share no axis with those that are."""


def run_page(
    report: Report,
    *,
    concentration: Series | None = None,
    response: Series | None = None,
    training: Sequence[tuple[float, float, float | None]] = (),
    study: Study[Any] | None = None,
) -> Document:
    """The report with its plots.

    - `concentration`: (share of the catalogue, share of interactions or places), most popular first, by what of.
    - `response`: (eigenvalue, factor) of a filter, by what it is a factor of.
    - `training`: (epoch, loss, metric or `None`).
    - `study`: the search that it came of.
    """
    n_users = max((entry.n_users for entry in report.measurements), default=0)
    spec = report.provenance.spec.items()
    settings = [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in spec
    ]
    sections = [Section("Measured", _measured(report, n_users))]
    if concentration:
        sections.append(Section("Popularity", (popularity_plot(concentration, n_users),)))
    if response:
        sections.append(Section("What the filter does", response_blocks(response)))
    if training:
        sections.append(Section("Training", training_plots(training)))
    if study is not None:
        sections += study_sections(study)
    sections += [
        Section("Notes", (Listing(report.notes),)),
        Section("Settings", (Table(("hyper-parameter", "value"), settings, left=2),)),
    ]
    origin = report.provenance
    footer = (
        *(f"{name}: {value}" for name, value in origin.data.items()),
        f"seeds: {', '.join(str(seed) for seed in origin.seeds)}",
        f"time: {report.timings}",
        *made_with(origin.versions, origin.machine),
    )
    return Document(report.recipe, sections, f"Protocol: {report.protocol}. {n_users:,} users.", footer)


def dot(entry: Measurement, label: str, series: int = 0) -> Dot:
    """A measurement as a dot with its interval."""
    return Dot(label=label, value=entry.value, low=entry.low, high=entry.high, series=series)


def popularity_plot(curves: Series, n_users: int) -> Plot:
    """How much of train, and of what is recommended, falls on the most popular items."""
    return line_plot(
        curves,
        x=Axis(label="share of the catalogue, most popular first", percent=True, low=0.0, high=1.0),
        y=Axis(label="share of interactions or places", percent=True, low=0.0, high=1.0),
        caption=f"Popularity bias: a line above that of train recommends popular items more than people took them. "
        f"{n_users:,} users.",
    )


def response_blocks(response: Series) -> tuple[DocumentBlock, ...]:
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


def training_plots(training: Sequence[tuple[float, float, float | None]]) -> list[Plot]:
    """Loss, and the metric that training stops by, over epochs."""
    epochs = Axis(label="epoch")
    plots = [
        line_plot(
            {"loss": [(epoch, loss) for epoch, loss, _ in training]},
            x=epochs,
            y=Axis(label="loss, mean over rows"),
            caption=f"Training loss of {len(training)} epochs.",
        )
    ]
    judged = [(epoch, metric) for epoch, _, metric in training if metric is not None]
    if judged:
        plots.append(
            line_plot(
                {"metric": judged},
                x=epochs,
                y=Axis(label="metric on validation users"),
                caption="What training stops by, on interactions set aside of train.",
            )
        )
    return plots


def made_with(versions: Mapping[str, object], machine: Mapping[str, object]) -> list[str]:
    """Small print about versions and machine; none of what is unknown."""
    return [
        f"{name}: {', '.join(f'{key} {value}' for key, value in values.items())}"
        for name, values in {"versions": versions, "machine": machine}.items()
        if values
    ]


def _measured(report: Report, n_users: int) -> list[DocumentBlock]:
    blocks: list[DocumentBlock] = [measurement_table(report.measurements, brief=True)]
    doubted = [
        entry
        for entry in report.measurements
        if entry.name.partition("@")[0] not in _COUNTS and (entry.low is not None or entry.expected)
    ]
    if doubted:
        blocks.append(_intervals(doubted, n_users))
    curves = _cutoff_curves(report.measurements)
    if curves:
        blocks.append(
            line_plot(
                curves,
                x=Axis(label="length of the list, k"),
                y=Axis(label="mean over users", low=0.0),
                caption=f"Measures by cut-off, {n_users:,} users.",
            )
        )
    return blocks


def _intervals(entries: Sequence[Measurement], n_users: int) -> Plot:
    dots = []
    for entry in entries:
        dots.append(dot(entry, entry.name))
        if entry.expected is not None:
            value, within = entry.expected.value, entry.expected.within
            dots.append(Dot(label=entry.name, value=value, low=value - within, high=value + within, series=1))
    published = any(entry.expected for entry in entries)
    return interval_plot(
        dots,
        axis=Axis(label="mean over users"),
        caption=f"Measured with 95 % bootstrap intervals over {n_users:,} users"
        + (", and published with the tolerance of the recipe." if published else "."),
        legend=("measured", "published") if published else (),
    )


def _cutoff_curves(entries: Sequence[Measurement]) -> Series:
    """The measures that are known at two cut-offs or more."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for entry in entries:
        name, _, cutoff = entry.name.partition("@")
        if cutoff.isdigit() and name not in _COUNTS:
            curves.setdefault(name, []).append((float(cutoff), entry.value))
    return {name: sorted(points) for name, points in curves.items() if len(points) > 1}
