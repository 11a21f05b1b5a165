"""One arm of the comparison: a recommender trained on some rows, measured on the users that are judged."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.data.splits.sets import Split
from unblur.evaluation.metrics import PerUser, discount, metric_at
from unblur.evaluation.protocol import RankingProtocol
from unblur.randomness import RNG
from unblur.recommender import RecommenderSpec
from unblur.run import Run
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
