"""What one arm of synthetic users is worth, and what several runs say of all arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.data.splits import Split
from unblur.errors import DataError
from unblur.evaluation.metrics import PerUser, discount, metric_at
from unblur.evaluation.protocol import RankingProtocol
from unblur.evaluation.report import Measurement
from unblur.progress import Run
from unblur.randomness import RNG, generator
from unblur.recommender import RecommenderSpec
from unblur.spec import replace_field, spec_to_dict
from unblur.synthesis.utility.settings import Departures, Utility
from unblur.synthesis.utility.users import UserGroups, stacked


@dataclass(frozen=True, eq=False)
class Measured:
    """What a recommender came to."""

    values: PerUser
    """One row a user with something relevant held out (or every user, as the protocol averages)."""
    notes: tuple[str, ...]


def training_rows(
    groups: UserGroups, synthetic: Interactions | None, utility: Utility, departures: Departures
) -> Interactions:
    """What a downstream recommender learns from: [real; histories; synthetic] or [synthetic; histories].

    Without synthetic users: [real; histories].
    """
    histories = groups.histories.chosen(departures.dislikes_are_positives)
    real = groups.learned.chosen(
        departures.dislikes_are_positives and not departures.learned_dislikes_are_negatives
    )
    if synthetic is None:
        return stacked([real, histories])
    alone = utility.mode == "replace" or departures.augment_is_replace
    return stacked([synthetic, histories] if alone else [real, histories, synthetic])


def measure_arm(
    spec: RecommenderSpec,
    rows: Interactions,
    groups: UserGroups,
    protocol: RankingProtocol,
    departures: Departures,
    *,
    rng: RNG | None = None,
    run: Run | None = None,
) -> Measured:
    """Fit `spec` to `rows`, recommend to the judged users, and compare with what was held out of them.

    Items of the history are left out of the lists: all observed ones where dislikes were held out as well. A
    recommender with a `patience` is given what was held out of the users to stop by.
    """
    if departures.first_epoch and "epochs" in spec_to_dict(spec):
        spec = replace_field(spec, "epochs", 1)
    shown = groups.histories.chosen(departures.dislikes_are_positives)
    relevant = groups.held_out_observed if departures.dislikes_are_relevant else groups.held_out
    split = Split(shown, shown, relevant, "utility")
    by_users = spec.stops and not spec.plans()  # by what is held out of some, and no metric of its own rows
    validation = (split if groups.judged_stop else groups.stopping) if by_users else None
    model = spec.fit_in(run or Run(), rows, rng=rng, validation=validation)
    known = groups.histories.chosen(departures.dislikes_are_held_out)
    ranking = protocol.rank(model, split, exclude=known)
    found = replace(protocol, resamples=0).measure(ranking, split)
    values = found.per_user
    if departures.ideal_counts_dislikes:
        counted = protocol.counted(split)
        counts, all_counts = (part.user_degrees[counted] for part in (relevant, groups.held_out_observed))
        values = with_longer_ideal(values, counts, all_counts, protocol.cutoffs)
    return Measured(values, found.list_notes)


def with_longer_ideal(
    values: PerUser, relevant: NDArray[np.int64], counted: NDArray[np.int64], cutoffs: tuple[int, ...]
) -> PerUser:
    """NDCG whose ideal list holds `counted` items, (n_users,), in place of the `relevant` ones."""
    table = values.values.copy()
    for k in cutoffs:
        name = metric_at("ndcg", k)
        if name in values.names:
            ideal = np.concatenate(([0.0], np.cumsum(discount(k))))
            right, wrong = ideal[np.minimum(relevant, k)], ideal[np.minimum(counted, k)]
            table[:, values.names.index(name)] *= np.divide(
                right, wrong, out=np.zeros_like(right), where=wrong > 0
            )
    return PerUser(values.names, table)


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
