"""Trials of settings that share their work: fitted and judged together, kept one by one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from unblur.data.splits.sets import Split
from unblur.errors import DataError, SpecError
from unblur.models.spectral.bspm import BSPM
from unblur.progress import Progress, silent
from unblur.randomness import streams
from unblur.tuning.journal import Trial
from unblur.tuning.space import Dimension, set_point
from unblur.tuning.trials import Trials

_EXACT = 8
"""How many of the best settings are judged once more, exactly (see `Trials.values`)."""


def shares_work(base: Any) -> bool:
    """Whether many settings of a spec cost little more than one."""
    return isinstance(base, BSPM)


def tried_together(
    points: Sequence[dict[str, Any]],
    first: int,
    base: Any,
    space: Sequence[Dimension],
    given: Split,
    metric: str,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = silent,
) -> list[Trial]:
    """A trial for each point, numbered from `first`: the mean of `metric` over all users with something held out.

    Each trial is charged the same share of the time. A point that is refused becomes a failed trial.
    """
    start = time.perf_counter()
    specs, problems = {}, {}
    for place, point in enumerate(points):
        try:
            specs[place] = set_point(base, space, point)
        except SpecError as problem:
            problems[place] = str(problem)
    values: dict[int, float] = {}
    if specs:
        try:
            values = dict(
                zip(specs, _values(list(specs.values()), given, metric, seed, device, progress), strict=True)
            )
        except (SpecError, DataError, MemoryError) as problem:
            problems |= dict.fromkeys(specs, str(problem) or type(problem).__name__)
    each = (time.perf_counter() - start) / max(1, len(points))
    return [
        Trial(first + place, point, values.get(place), None, each, problems.get(place, ""))
        for place, point in enumerate(points)
    ]


def _values(
    specs: Sequence[Any], given: Split, metric: str, seed: int, device: str, progress: Progress
) -> list[float]:
    random = streams(seed, "fit")["fit"]
    trials = Trials(
        specs, given, metric, users=given.held_out.n_users, rng=random, device=device, progress=progress
    )
    means = trials.values().mean(axis=1)
    best = np.sort(np.argsort(-means, kind="stable")[:_EXACT])
    means[best] = trials.values(best.tolist()).mean(axis=1)
    return [float(value) for value in means]
