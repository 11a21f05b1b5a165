"""The page of a run, the curves it draws, and the sections on the trials of a search."""

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
from unblur.models.spectral.bspm import BSPM
from unblur.models.spectral.flow import response
from unblur.spec import Spec
from unblur.tuning.results import Study

Curve: TypeAlias = tuple[tuple[float, float], ...]


def concentration(counts: NDArray[Any], degrees: NDArray[Any], points: int = 40) -> Curve:
    """(share of the catalogue, share of `counts` on it): where the mass lies, the items of most `degrees` first."""
    summed = np.concatenate(([0.0], np.cumsum(counts[np.argsort(-degrees, kind="stable")])))
    # Most of the mass lies on the first items, so the points grow apart with the square of their number.
    places = np.unique(np.round(np.linspace(0, 1, points) ** 2 * len(counts)).astype(int))
    total = summed[-1] or 1.0
    return tuple((float(place / len(counts)), float(summed[place] / total)) for place in places)


def filter_response(spec: Spec) -> dict[str, Curve]:
    """What a BSPM multiplies each eigenvector by, over eigenvalues 0 … 1; empty for any other model."""
    if not isinstance(spec, BSPM):
        return {}
    eigenvalues = np.linspace(0.0, 1.0, 81)
    outside, extra = response(spec, eigenvalues)
    within = {} if spec.low_pass is None else {"within the low-pass": outside + extra}
    factors = {**within, "outside the low-pass": outside}
    return {
        name: tuple((float(x), float(y)) for x, y in zip(eigenvalues, factor, strict=True))
        for name, factor in factors.items()
    }


_BINS = 4
"""Into how many parts a number with many values is cut: quarters still hold a few trials each in a search of twenty."""
_MOST_SLICES = 8
"""How many hyper-parameters are drawn one by one; a page of more is not looked at."""
_SHOWN = 10
"""How many of the best trials a table shows."""


def best_trials(study: Study[Any]) -> Table:
    """The trials that reached most, the best first."""
    names = [dimension.name for dimension in study.space]
    shown = study.ranked[:_SHOWN]
    epochs = ["best epoch"] if any(trial.epoch is not None for trial in shown) else []
    return Table(
        ("trial", *names, study.metric, *epochs, "seconds"),
        [
            (
                str(trial.number),
                *(_written(trial.point[name]) for name in names),
                number(trial.value or 0.0),
                *(_written(trial.epoch) for _ in epochs),
                f"{trial.seconds:,.1f}",
            )
            for trial in shown
        ],
        "The best settings on validation data.",
    )


def study_sections(study: Study[Any]) -> list[Section]:
    """The history of a search, the importance of each hyper-parameter, and the metric over each of them.

    Nothing if all trials failed.
    """
    good = sorted(study.ranked, key=lambda trial: trial.number)
    if not good:
        return []
    metric = np.array([trial.value for trial in good], dtype=np.float64)
    points = {dimension.name: [trial.point[dimension.name] for trial in good] for dimension in study.space}
    shares = {name: importance(values, metric) for name, values in points.items()}
    ranked = sorted(points, key=lambda name: -shares[name])
    blocks: list[DocumentBlock] = [_history(study, [trial.number for trial in good], metric)]
    if points and len(good) > 2:
        blocks.append(
            bar_plot(
                {name: shares[name] for name in ranked},
                axis=Axis(label=f"share of the variance of {study.metric}", percent=True, low=0.0),
                caption=f"Importance: how much of the variance over {len(good)} trials the values of one hyper-parameter "
                "explain by themselves beyond what chance does (ε², the adjusted correlation ratio; numbers with many values "
                "in quarters). Few trials say little.",
            )
        )
    slices: list[DocumentBlock] = [
        _slice(name, points[name], metric, study.metric) for name in ranked[:_MOST_SLICES]
    ]
    if len(ranked) > _MOST_SLICES:
        slices.append(
            Paragraph(f"{len(ranked) - _MOST_SLICES} less important hyper-parameters are not drawn.")
        )
    return [Section("Search", (*blocks, best_trials(study))), Section("Slices", slices)]


def importance(values: Sequence[object], metric: NDArray[np.float64]) -> float:
    """ε² (Kelley, PNAS 21, 1935): the correlation ratio, which is the variance between the groups of one value over the whole
    variance, less what groups of so few explain by chance; 0 … 1, and 0 where each group is one."""
    total, groups = float(np.var(metric)), np.array(_groups(values))
    n_trials, n_groups = len(groups), len(set(groups.tolist()))
    if total == 0.0 or n_trials == n_groups:
        return 0.0
    means = [metric[groups == group].mean() for group in groups]
    left_over = (1 - float(np.var(means)) / total) * (n_trials - 1) / (n_trials - n_groups)
    return max(0.0, 1 - left_over)


def _history(study: Study[Any], numbers: Sequence[int], values: NDArray[np.float64]) -> Plot:
    """Each trial in its order, and the best so far."""
    pruned = sum(trial.pruned for trial in study.trials)
    failed = len(study.trials) - len(values) - pruned
    lost = f" {pruned} more were ended early." if pruned else ""
    lost += f" {failed} more could not be fitted." if failed else ""
    return line_plot(
        {
            "a trial": list(zip(numbers, values, strict=True)),
            "the best so far": list(zip(numbers, np.maximum.accumulate(values), strict=True)),
        },
        x=Axis(label="trial"),
        y=Axis(label=f"{study.metric} on validation data"),
        caption=f"History: {len(values)} trials.{lost}",
        dots=("a trial",),
    )


def _slice(path: str, values: Sequence[object], metric: NDArray[np.float64], name: str) -> Plot:
    """The metric of each trial over one hyper-parameter."""
    numbers = [float(value) for value in values if _is_number(value)]
    numeric = len(numbers) == len(values)
    if numeric and len(set(numbers)) > min(8, len(numbers) / 2):
        low, high = min(numbers), max(numbers)
        places = numbers
        x = Axis(label=path, logarithmic=low > 0 and high / low > 50)
    else:  # few values, or words: side by side
        written = [_written(value) for value in values]
        names = [_written(value) for value in sorted(set(numbers))] if numeric else sorted(set(written))
        places = [float(names.index(value)) for value in written]
        x = Axis(label=path, low=-0.5, high=len(names) - 0.5, names=names)
    return line_plot(
        {"trial": list(zip(places, metric, strict=True))},
        x=x,
        y=Axis(label=f"{name} on validation data"),
        caption=f"{path}: {len(metric)} trials.",
        dots=("trial",),
    )


def _groups(values: Sequence[object]) -> list[object]:
    """Values as they are, or which quarter a number is in if there are many."""
    distinct = len(set(map(str, values)))
    few = distinct <= 12 and distinct <= max(_BINS, len(values) / 3)
    if few or not all(_is_number(value) for value in values):
        return [str(value) for value in values]
    numbers = np.array(values, dtype=np.float64)
    edges = np.quantile(numbers, np.linspace(0, 1, _BINS + 1)[1:-1])
    return [int(place) for place in np.searchsorted(edges, numbers)]


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _written(value: object) -> str:
    return "–" if value is None else f"{value:.4g}" if _is_number(value) else str(value)


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
    origin = report.provenance
    settings = [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in origin.spec.items()
    ]
    sections = [
        Section("Measured", _measured(report, n_users)),
        Section("Popularity", (popularity_plot(concentration, n_users),) if concentration else ()),
        Section("What the filter does", response_blocks(response) if response else ()),
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
            *(f"{name}: {value}" for name, value in origin.data.items()),
            f"seeds: {', '.join(str(seed) for seed in origin.seeds)}",
            f"time: {report.timings}",
            *made_with(origin.versions, origin.machine),
        ),
    )


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
    published = len(dots) > len(entries)
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
