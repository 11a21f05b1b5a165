"""The plots of a search: how it went on, which hyper-parameters mattered, and what each value came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unblur.document.blocks import Block, Paragraph, Section, Table
from unblur.document.markdown import figure
from unblur.document.plots import Axis, bar_plot
from unblur.document.points import cloud_plot

if TYPE_CHECKING:
    import polars as pl

_BINS = 4
_MOST_SLICES = 8


def trials_sections(trials: pl.DataFrame) -> list[Section]:
    """Sections on a table of trials: ``trial``, a column for each searched path, the metric (``recall@20``), and more."""
    metric = next(name for name in trials.columns if "@" in name and " on " not in name)
    paths = trials.columns[1 : trials.columns.index(metric)]
    good = trials.filter(trials[metric].is_not_null()).sort("trial")
    if not len(good):
        return []
    values = good[metric].to_numpy().astype(np.float64)
    numbers = good["trial"].to_numpy().astype(np.float64)
    pruned = int(trials["pruned"].sum()) if "pruned" in trials.columns else 0
    failed = len(trials) - len(good) - pruned
    lost = f" {pruned} more were ended early." if pruned else ""
    lost += f" {failed} more could not be fitted." if failed else ""
    best = np.maximum.accumulate(values)
    history = cloud_plot(
        {
            "a trial": list(zip(numbers, values, strict=True)),
            "the best so far": list(zip(numbers, best, strict=True)),
        },
        x=Axis(label="trial"),
        y=Axis(label=f"{metric} on validation data"),
        caption=f"History: {len(good)} trials.{lost}",
        lines=("the best so far",),
    )
    shares = {path: importance(good[path].to_list(), values) for path in paths}
    slices: list[Block] = [
        _slice(path, good[path].to_list(), values, metric)
        for path in sorted(paths, key=lambda path: -shares[path])[:_MOST_SLICES]
    ]
    left_out = len(paths) - len(slices)
    if left_out > 0:
        slices.append(Paragraph(f"{left_out} less important hyper-parameters are not drawn."))
    ordered = dict(sorted(shares.items(), key=lambda entry: -entry[1]))
    shown: list[Block] = [history]
    if paths and len(good) > 2:
        shown.append(
            bar_plot(
                {path: {"share": share} for path, share in ordered.items()},
                axis=Axis(label=f"share of the variance of {metric}", percent=True, low=0.0),
                caption=f"Importance: how much of the variance over {len(good)} trials the values of one hyper-parameter "
                "explain by themselves beyond what chance does (ε², the adjusted correlation ratio; numbers with many values "
                "in quarters). Few trials say little.",
            )
        )
    top = good.sort(metric, descending=True, maintain_order=True).head(10)
    rows = tuple(
        (str(row["trial"]), *(_plain(row[path]) for path in paths), figure(row[metric]))
        for row in top.iter_rows(named=True)
    )
    table = Table(("trial", *paths, metric), rows, "The best settings on validation data.")
    return [Section("Search", (*shown, table)), *([Section("Slices", tuple(slices))] if slices else [])]


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


def _groups(values: Sequence[object]) -> list[object]:
    """Values as they are, or which quarter a number is in where there are many."""
    distinct = len(set(map(str, values)))
    few = distinct <= 12 and distinct <= max(_BINS, len(values) / 3)
    if few or not all(_is_number(value) for value in values):
        return [str(value) for value in values]
    numbers = np.array(values, dtype=np.float64)
    edges = np.quantile(numbers, np.linspace(0, 1, _BINS + 1)[1:-1])
    return [int(place) for place in np.searchsorted(edges, numbers)]


def _slice(path: str, values: Sequence[object], metric: NDArray[np.float64], name: str) -> Block:
    """The metric of each trial over one hyper-parameter."""
    y = Axis(label=f"{name} on validation data")
    caption = f"{path}: {len(metric)} trials."
    numbers = [float(str(value)) for value in values if _is_number(value)]
    if len(numbers) == len(values) and len(set(numbers)) > min(8, len(numbers) / 2):
        low, high = min(numbers), max(numbers)
        x = Axis(label=path, logarithmic=low > 0 and high / low > 50)
        return cloud_plot({"trial": list(zip(numbers, metric, strict=True))}, x=x, y=y, caption=caption)
    keys = sorted(set(numbers)) if len(numbers) == len(values) else sorted({str(value) for value in values})
    place = {_plain(key): at for at, key in enumerate(keys)}
    points = [
        (float(place[_plain(value)]), float(height)) for value, height in zip(values, metric, strict=True)
    ]
    x = Axis(label=path, low=-0.5, high=len(keys) - 0.5)
    return cloud_plot({"trial": points}, x=x, y=y, caption=caption, ticks=[_plain(key) for key in keys])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: object) -> str:
    return f"{value:.4g}" if _is_number(value) else str(value)
