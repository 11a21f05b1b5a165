"""A search as tables and plots: how it went, which hyper-parameters mattered, and what each value reached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
from numpy.typing import NDArray

from unblur.document.blocks import DocumentBlock, Paragraph, Plot, Section, Table, number
from unblur.document.plots import Axis, bar_plot, line_plot

if TYPE_CHECKING:
    import polars as pl

_BINS = 4
"""Into how many parts a number with many values is cut: quarters still hold a few trials each in a search of twenty."""
_MOST_SLICES = 8
"""How many hyper-parameters are drawn one by one; a page of more is not looked at."""
_SHOWN = 10
"""How many of the best trials a table shows."""


_INNER = ("standard_error_to_best", "problem")
"""Columns of trials that the table of the best leaves out."""


def best_trials(trials: pl.DataFrame) -> Table:
    """The trials that reached most, the best first.

    `trials` has the columns ``trial``, one for each searched path, the metric (``recall@20``), and more.
    """
    metric = _metric(trials)
    columns = [name for name in trials.columns if " on " not in name and name not in _INNER]
    good = trials.filter(trials[metric].is_not_null()).sort(metric, descending=True, maintain_order=True)
    rows = [
        [number(row[name]) if name == metric else _written(row[name]) for name in columns]
        for row in good.head(_SHOWN).iter_rows(named=True)
    ]
    return Table(columns, rows, "The best settings on validation data.")


def trials_sections(trials: pl.DataFrame) -> list[Section]:
    """The history, importance and slices of a table of trials (see `best_trials`); nothing if all trials failed."""
    metric, paths = _metric(trials), _paths(trials)
    good = trials.filter(trials[metric].is_not_null()).sort("trial")
    if not len(good):
        return []
    values = good[metric].to_numpy().astype(np.float64)
    shares = {path: importance(good[path].to_list(), values) for path in paths}
    ranked = sorted(paths, key=lambda path: -shares[path])
    blocks: list[DocumentBlock] = [_history(trials, metric, good["trial"].to_list(), values)]
    if paths and len(good) > 2:
        blocks.append(
            bar_plot(
                {path: shares[path] for path in ranked},
                axis=Axis(label=f"share of the variance of {metric}", percent=True, low=0.0),
                caption=f"Importance: how much of the variance over {len(good)} trials the values of one hyper-parameter "
                "explain by themselves beyond what chance does (ε², the adjusted correlation ratio; numbers with many values "
                "in quarters). Few trials say little.",
            )
        )
    slices: list[DocumentBlock] = [
        _slice(path, good[path].to_list(), values, metric) for path in ranked[:_MOST_SLICES]
    ]
    if len(ranked) > _MOST_SLICES:
        slices.append(
            Paragraph(f"{len(ranked) - _MOST_SLICES} less important hyper-parameters are not drawn.")
        )
    sections = [Section("Search", (*blocks, best_trials(trials))), Section("Slices", slices)]
    return sections if slices else sections[:1]


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


def _metric(trials: pl.DataFrame) -> str:
    """The column of the metric; those of single hold-outs are ``recall@20 on random 0``."""
    return next(name for name in trials.columns if "@" in name and " on " not in name)


def _paths(trials: pl.DataFrame) -> list[str]:
    """The searched paths: the columns between the trial's number and the metric."""
    return trials.columns[1 : trials.columns.index(_metric(trials))]


def _history(trials: pl.DataFrame, metric: str, numbers: Sequence[int], values: NDArray[np.float64]) -> Plot:
    """Each trial in its order, and the best so far."""
    pruned = int(trials["pruned"].sum()) if "pruned" in trials.columns else 0
    failed = len(trials) - len(values) - pruned
    lost = f" {pruned} more were ended early." if pruned else ""
    lost += f" {failed} more could not be fitted." if failed else ""
    best = np.maximum.accumulate(values)
    return line_plot(
        {
            "a trial": list(zip(numbers, values, strict=True)),
            "the best so far": list(zip(numbers, best, strict=True)),
        },
        x=Axis(label="trial"),
        y=Axis(label=f"{metric} on validation data"),
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
