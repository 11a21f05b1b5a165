"""The page of a run: its curves, and the sections about the trials of a search."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from unblur.document.blocks import Document, DocumentBlock, Listing, Paragraph, Plot, Section, Table, number
from unblur.document.plots import Axis, Dot, Series, bar_plot, interval_plot, line_plot
from unblur.evaluation.metrics import LIST_METRICS
from unblur.evaluation.report import Measurement, Report, measurement_table
from unblur.models.spectral.polynomial_filter import FilterSpec
from unblur.spec import Spec
from unblur.tuning.results import Study

Curve: TypeAlias = tuple[tuple[float, float], ...]


def concentration(counts: NDArray[Any], degrees: NDArray[Any], points: int = 40) -> Curve:
    """The curve (share of the catalogue, share of `counts` on it), items with the largest `degrees` first.

    It has at most `points` points; 40 look smooth at the width of a plot.
    """
    summed = np.concatenate(([0.0], np.cumsum(counts[np.argsort(-degrees, kind="stable")])))
    # Most interactions are with the first items, so the spacing of points grows with the square of their index.
    counts_of_items = np.unique(np.round(np.linspace(0, 1, points) ** 2 * len(counts)).astype(int))
    total = summed[-1] or 1.0
    return tuple(
        (float(n_items / len(counts)), float(summed[n_items] / total)) for n_items in counts_of_items
    )


def filter_response(spec: Spec) -> dict[str, Curve]:
    """The factors of a spectral filter over eigenvalues 0 … 1, by the name of the curve; empty for any other model."""
    if not isinstance(spec, FilterSpec):
        return {}
    eigenvalues = np.linspace(
        0.0, 1.0, 81
    )  # steps of 1/80: smooth at the width of a plot, also for high degrees
    outside, extra = spec.response(eigenvalues)
    within = {"within the low-pass": outside + extra} if spec.rank else {}
    factors = {**within, "outside the low-pass": outside}
    return {
        name: tuple((float(x), float(y)) for x, y in zip(eigenvalues, factor, strict=True))
        for name, factor in factors.items()
    }


_BINS = 4
"""Number of groups of a hyper-parameter with many values: in a search of 20 trials a quarter still has a few."""
_MOST_GROUPS, _TRIALS_PER_GROUP = 12, 3
"""A hyper-parameter has a group for each of its values if there are no more, with so many trials each on average (chosen by
hand: fewer trials than three say little of a group)."""
_FEW_VALUES, _WIDE = 8, 50
"""Up to so many numbers stand at equal distances on a plot, each with its text, which more would not have room for. If the
largest is more than so many times the smallest, the axis is logarithmic: on a linear one most values would touch."""
_MAX_SLICES = 8
"""Largest number of hyper-parameters with a plot of their own; nobody looks at more."""
_TABLE_TRIALS = 10
"""Number of best trials in the table, which is read at one glance."""


def best_trials(study: Study[Any]) -> Table:
    """A table of the best trials, the best first."""
    names = [dimension.name for dimension in study.space]
    trials = study.ranked[:_TABLE_TRIALS]
    epochs = ["best epoch"] if any(trial.epoch is not None for trial in trials) else []
    return Table(
        ("trial", *names, study.metric, *epochs, "seconds"),
        [
            (
                str(trial.number),
                *(_text(trial.point[name]) for name in names),
                number(trial.value or 0.0),
                *(_text(trial.epoch) for _ in epochs),
                f"{trial.seconds:,.1f}",
            )
            for trial in trials
        ],
        "The best settings on validation data.",
    )


def study_sections(study: Study[Any]) -> list[Section]:
    """The history of a search, the importance of each hyper-parameter, and the metric over each of them.

    Empty if all trials failed.
    """
    trials = sorted(study.ranked, key=lambda trial: trial.number)
    if not trials:
        return []
    metric = np.array([trial.value for trial in trials], dtype=np.float64)
    points = {dimension.name: [trial.point[dimension.name] for trial in trials] for dimension in study.space}
    importances = {name: importance(values, metric) for name, values in points.items()}
    ranked = sorted(points, key=lambda name: -importances[name])
    blocks: list[DocumentBlock] = [_history(study, [trial.number for trial in trials], metric)]
    if points and len(trials) > 2:  # with one or two trials every importance is 0
        blocks.append(
            bar_plot(
                {name: importances[name] for name in ranked},
                axis=Axis(label=f"share of the variance of {study.metric}", percent=True, low=0.0),
                caption=f"Importance: the share of the variance over {len(trials)} trials that one hyper-parameter alone "
                "explains beyond chance (ε², the adjusted correlation ratio; hyper-parameters with many values in quarters). "
                "With few trials it is unreliable.",
            )
        )
    slices: list[DocumentBlock] = [
        _slice(name, points[name], metric, study.metric) for name in ranked[:_MAX_SLICES]
    ]
    if len(ranked) > _MAX_SLICES:
        slices.append(
            Paragraph(f"{len(ranked) - _MAX_SLICES} less important hyper-parameters are not drawn.")
        )
    return [Section("Search", (*blocks, best_trials(study))), Section("Slices", slices)]


def importance(values: Sequence[object], metric: NDArray[np.float64]) -> float:
    """ε² (Kelley, PNAS 21, 1935): the correlation ratio, the variance between groups of equal values over the total variance,
    adjusted for what so few members explain by chance; 0 … 1, and 0 if each group has a single member."""
    total, groups = float(np.var(metric)), np.array(_groups(values))
    n_trials, n_groups = len(groups), len(set(groups.tolist()))
    if total == 0.0 or n_trials == n_groups:
        return 0.0
    means = [metric[groups == group].mean() for group in groups]
    unexplained = (1 - float(np.var(means)) / total) * (n_trials - 1) / (n_trials - n_groups)
    return max(0.0, 1 - unexplained)


def _history(study: Study[Any], numbers: Sequence[int], values: NDArray[np.float64]) -> Plot:
    """A plot of each trial in order, and of the best so far."""
    pruned = sum(trial.pruned for trial in study.trials)
    failed = len(study.trials) - len(values) - pruned
    remainder = f" {pruned} more were ended early." if pruned else ""
    remainder += f" {failed} more failed." if failed else ""
    return line_plot(
        {
            "a trial": list(zip(numbers, values, strict=True)),
            "the best so far": list(zip(numbers, np.maximum.accumulate(values), strict=True)),
        },
        x=Axis(label="trial"),
        y=Axis(label=f"{study.metric} on validation data"),
        caption=f"History: {len(values)} trials.{remainder}",
        dots=("a trial",),
    )


def _slice(path: str, values: Sequence[object], metric: NDArray[np.float64], name: str) -> Plot:
    """A plot of the metric of each trial over one hyper-parameter."""
    numbers = [float(value) for value in values if _is_number(value)]
    numeric = len(numbers) == len(values)
    if numeric and len(set(numbers)) > min(_FEW_VALUES, len(numbers) / 2):  # or if few values repeat
        low, high = min(numbers), max(numbers)
        abscissae = numbers
        x = Axis(label=path, logarithmic=low > 0 and high / low > _WIDE)
    else:  # few values, or words: at equal distances
        labels = [_text(value) for value in values]
        names = [_text(value) for value in sorted(set(numbers))] if numeric else sorted(set(labels))
        abscissae = [float(names.index(value)) for value in labels]
        x = Axis(label=path, low=-0.5, high=len(names) - 0.5, names=names)
    return line_plot(
        {"trial": list(zip(abscissae, metric, strict=True))},
        x=x,
        y=Axis(label=f"{name} on validation data"),
        caption=f"{path}: {len(metric)} trials.",
        dots=("trial",),
    )


def _groups(values: Sequence[object]) -> list[object]:
    """The group of each value: the value itself, or the quarter that it is in if there are many numbers."""
    distinct = len(set(map(str, values)))
    has_few_values = distinct <= min(_MOST_GROUPS, max(_BINS, len(values) / _TRIALS_PER_GROUP))
    if has_few_values or not all(_is_number(value) for value in values):
        return [str(value) for value in values]
    numbers = np.array(values, dtype=np.float64)
    quartiles = np.quantile(numbers, np.linspace(0, 1, _BINS + 1)[1:-1])
    return [int(quarter) for quarter in np.searchsorted(quartiles, numbers)]


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: object) -> str:
    return "–" if value is None else f"{value:.4g}" if _is_number(value) else str(value)


_NOT_FRACTIONS = ("mean_popularity", *LIST_METRICS)
"""Metrics that are not fractions of hits, and therefore not drawn on one axis with those that are."""


def run_page(
    report: Report,
    *,
    concentration: Series | None = None,
    response: Series | None = None,
    training: Sequence[tuple[float, float, float | None]] = (),
    study: Study[Any] | None = None,
) -> Document:
    """The document of a report with its plots.

    - `concentration`: (share of the catalogue, share of interactions or list entries), most popular first, by curve.
    - `response`: (eigenvalue, factor) of a graph filter, by curve.
    - `training`: (epoch, loss, metric or `None`).
    - `study`: the search that chose the settings.
    """
    n_users = max((entry.n_users for entry in report.measurements), default=0)
    provenance = report.provenance
    settings = [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in provenance.spec.items()
    ]
    sections = [
        Section("Measured", _measured(report, n_users)),
        Section("Popularity", (popularity_plot(concentration, n_users),) if concentration else ()),
        Section("Filter response", response_blocks(response) if response else ()),
        Section("Training", training_plots(training) if training else ()),
        *(study_sections(study) if study is not None else ()),
        Section("Notes", (Listing(report.notes),)),
        Section("Settings", (Table(("hyper-parameter", "value"), settings, left=2),)),
    ]
    return Document(
        report.recipe,
        sections,
        f"Protocol: {report.protocol}. {n_users:,} users.",
        (
            *(f"{name}: {value}" for name, value in provenance.data.items()),
            f"seeds: {', '.join(str(seed) for seed in provenance.seeds)}",
            f"time: {report.timings}",
            *environment_lines(provenance.versions, provenance.machine),
        ),
    )


def dot(entry: Measurement, label: str, series: int = 0) -> Dot:
    """A measurement as a dot with its interval."""
    return Dot(label=label, value=entry.value, low=entry.low, high=entry.high, series=series)


def popularity_plot(curves: Series, n_users: int) -> Plot:
    """The share of train interactions, and of recommendations, on the most popular items."""
    return line_plot(
        curves,
        x=Axis(label="share of the catalogue, most popular first", percent=True, low=0.0, high=1.0),
        y=Axis(label="share of interactions or list entries", percent=True, low=0.0, high=1.0),
        caption=f"Popularity bias: a model whose line is above that of train recommends popular items more often than users "
        "chose them. "
        f"{n_users:,} users.",
    )


def response_blocks(response: Series) -> tuple[DocumentBlock, ...]:
    """An explanation and a plot of a filter's response over eigenvalues."""
    return (
        Paragraph(
            "The model multiplies each eigenvector of the item-item matrix by a factor that depends on its eigenvalue. "
            "Eigenvalues near 1 belong to patterns that nearly all users share, those near 0 to patterns of few users, or to "
            "noise. Blurring keeps the former, the low-pass amplifies the eigenvectors within it, and sharpening reduces the "
            "top ones."
        ),
        line_plot(
            response,
            x=Axis(label="eigenvalue", low=0.0, high=1.0),
            y=Axis(label="factor"),
            caption="The filter's response. It follows from the settings alone, so no users are counted.",
        ),
    )


def training_plots(training: Sequence[tuple[float, float, float | None]]) -> list[Plot]:
    """Plots of the loss, and of the metric that training stops by, over epochs."""
    epochs = Axis(label="epoch")
    plots = [
        line_plot(
            {"loss": [(epoch, loss) for epoch, loss, _ in training]},
            x=epochs,
            y=Axis(label="loss, mean over rows"),
            caption=f"Training loss of {len(training)} epochs.",
        )
    ]
    evaluated = [(epoch, metric) for epoch, _, metric in training if metric is not None]
    if evaluated:
        plots.append(
            line_plot(
                {"metric": evaluated},
                x=epochs,
                y=Axis(label="metric on validation users"),
                caption="The metric that training stops by, on interactions set aside from train.",
            )
        )
    return plots


def environment_lines(versions: Mapping[str, object], machine: Mapping[str, object]) -> list[str]:
    """Lines about versions and machine, without what is unknown."""
    return [
        f"{name}: {', '.join(f'{key} {value}' for key, value in values.items())}"
        for name, values in {"versions": versions, "machine": machine}.items()
        if values
    ]


def _measured(report: Report, n_users: int) -> list[DocumentBlock]:
    blocks: list[DocumentBlock] = [measurement_table(report.measurements, brief=True)]
    compared = [
        entry
        for entry in report.measurements
        if entry.name.partition("@")[0] not in _NOT_FRACTIONS and (entry.low is not None or entry.expected)
    ]
    if compared:
        blocks.append(_intervals(compared, n_users))
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
    published = len(dots) > len(entries)
    return interval_plot(
        dots,
        axis=Axis(label="mean over users"),
        caption=f"Measured with 95 % bootstrap intervals over {n_users:,} users"
        + (", and published with the tolerance of the recipe." if published else "."),
        legend=("measured", "published") if published else (),
    )


def _cutoff_curves(entries: Sequence[Measurement]) -> Series:
    """Curves of the metrics that were measured at two cut-offs or more."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for entry in entries:
        name, _, cutoff = entry.name.partition("@")
        if cutoff.isdigit() and name not in _NOT_FRACTIONS:
            curves.setdefault(name, []).append((float(cutoff), entry.value))
    return {name: sorted(points) for name, points in curves.items() if len(points) > 1}
