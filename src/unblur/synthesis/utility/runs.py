"""Several runs put together: means, the best run, the spread, and paired differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from unblur.errors import DataError
from unblur.evaluation.metrics import PerUser
from unblur.evaluation.report import Measurement
from unblur.randomness import RNG, generator


@dataclass(frozen=True, eq=False)
class UtilityRun:
    """One training of the synthesizer, and all that was measured with it."""

    seed: int
    arms: Mapping[str, PerUser]
    """The values of each user by the name of the arm; the same users and measurements in all."""


def measurements_of(
    runs: Sequence[UtilityRun],
    *,
    compared: Sequence[str],
    resamples: int = 1000,
    rng: RNG | None = None,
) -> tuple[Measurement, ...]:
    """Every measurement of every arm, ``full capped_recall@10``; then, for those `compared`, more.

    A value is the mean over runs of the mean over users. Its 95 % interval is a percentile bootstrap in which users
    are drawn anew and, where there are several, runs as well (both factors: Owen, The pigeonhole bootstrap, Annals
    of Applied Statistics 1(2), 2007). For the measurements in `compared` there are besides

    - ``… best run`` and ``… deviation over runs`` (with n − 1), of several runs,
    - ``full − plain-vae …``: the paired difference of each two arms, over the same users and runs.

    Raises `DataError` where there is no run, or where runs do not have the same arms and measurements.
    """
    if not runs:
        raise DataError("There must be at least one run to measure; there is none. Run one.")
    arms, names = list(runs[0].arms), next(iter(runs[0].arms.values())).names
    for run in runs:
        if list(run.arms) != arms or any(table.names != names for table in run.arms.values()):
            raise DataError(
                "All runs must have the same arms and measurements; these differ. Run them alike."
            )
    tables = {arm: np.stack([run.arms[arm].values for run in runs]) for arm in arms}
    n_runs, n_users, _ = next(iter(tables.values())).shape
    random = generator(rng)
    weights = _weights(n_runs, n_users, resamples, random)
    made: list[Measurement] = []
    for arm in arms:
        for column, name in enumerate(names):
            made.append(_measurement(f"{arm} {name}", tables[arm][:, :, column], weights))
    for name in compared:
        if name not in names:
            continue
        column = names.index(name)
        if n_runs > 1:
            for arm in arms:
                seen = tables[arm][:, :, column].mean(axis=1)
                for what, value in (("best run", seen.max()), ("deviation over runs", seen.std(ddof=1))):
                    made.append(Measurement(name=f"{arm} {name} {what}", value=float(value), n_users=n_users))
        for one, other in combinations(arms, 2):
            gap = tables[one][:, :, column] - tables[other][:, :, column]
            made.append(_measurement(f"{one} − {other} {name}", gap, weights))
    return tuple(made)


Weights = tuple[NDArray[np.float64], NDArray[np.float64]]


def _weights(n_runs: int, n_users: int, resamples: int, random: np.random.Generator) -> Weights | None:
    """How often each run, (resamples, n_runs), and each user, (resamples, n_users), was drawn, as shares."""
    if not resamples:
        return None
    return (
        random.multinomial(n_runs, np.full(n_runs, 1 / n_runs), resamples) / n_runs,
        random.multinomial(n_users, np.full(n_users, 1 / n_users), resamples) / n_users,
    )


def _measurement(name: str, table: NDArray[np.float64], weights: Weights | None) -> Measurement:
    """The mean of (n_runs, n_users), with its interval."""
    low = high = None
    if weights is not None:
        drawn = ((weights[0] @ table) * weights[1]).sum(axis=1)
        low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    return Measurement(name=name, value=float(table.mean()), low=low, high=high, n_users=table.shape[1])
