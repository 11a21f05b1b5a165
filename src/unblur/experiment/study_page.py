"""A search as tables and plots: how it went, which hyper-parameters mattered, and what each value reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from unblur.document.blocks import DocumentBlock, Paragraph, Plot, Section, Table, number
from unblur.document.plots import Axis, bar_plot, line_plot
from unblur.tuning.results import Study

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
    rows = [
        (
            str(trial.number),
            *(_written(trial.point[name]) for name in names),
            number(trial.value or 0.0),
            *(_written(trial.epoch) for _ in epochs),
            f"{trial.seconds:,.1f}",
        )
        for trial in shown
    ]
    columns = ("trial", *names, study.metric, *epochs, "seconds")
    return Table(columns, rows, "The best settings on validation data.")


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
    total, groups = float(np.var(metric)), _groups(values)
    n_trials, n_groups = len(groups), len(set(groups))
    if total == 0.0 or n_trials == n_groups:
        return 0.0
    means = np.zeros(len(metric))
    for group in set(groups):
        members = np.array([other == group for other in groups])
        means[members] = metric[members].mean()
    left_over = (1 - float(np.var(means)) / total) * (n_trials - 1) / (n_trials - n_groups)
    return max(0.0, 1 - left_over)


def _history(study: Study[Any], numbers: Sequence[int], values: NDArray[np.float64]) -> Plot:
    """Each trial in its order, and the best so far."""
    pruned = sum(trial.pruned for trial in study.trials)
    failed = len(study.trials) - len(values) - pruned
    lost = f" {pruned} more were ended early." if pruned else ""
    lost += f" {failed} more could not be fitted." if failed else ""
    best = np.maximum.accumulate(values)
    return line_plot(
        {
            "a trial": list(zip(numbers, values, strict=True)),
            "the best so far": list(zip(numbers, best, strict=True)),
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
