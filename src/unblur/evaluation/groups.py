"""Measures beyond accuracy, and accuracy by group: users by the length of their history, items by popularity.

A report of a saved model and the page of a comparison show the same figures, by these functions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from unblur.data.splits import Split
from unblur.data.vocabulary import Vocabulary
from unblur.evaluation.metrics import (
    PerUser,
    diversity,
    head_of,
    metric_at,
    novelty,
    parse_metric,
    popularity_lift,
    recall_within,
)
from unblur.evaluation.protocol import Evaluation, RankingProtocol
from unblur.evaluation.report import Measurement
from unblur.evaluation.significance import bootstrap_interval
from unblur.randomness import RNG, streams
from unblur.ranking import Ranking

EXTRA_METRICS = ("coverage", "gini", "mean_popularity")
"""Metrics beyond accuracy that a protocol measures itself, at every cut-off."""
HEAD_RECALL, TAIL_RECALL = "recall of popular items", "recall of rare items"
ProtocolT = TypeVar("ProtocolT", bound=RankingProtocol)


def with_extra_metrics(protocol: ProtocolT) -> ProtocolT:
    """The protocol with `EXTRA_METRICS`."""
    return replace(protocol, metrics=tuple(dict.fromkeys((*protocol.metrics, *EXTRA_METRICS))))


def by_group(
    evaluation: Evaluation, split: Split, resamples: int, rng: RNG | None
) -> tuple[Measurement, ...]:
    """Each metric of an evaluation for each of the `user_groups`, then `list_measures` at the cut-off of the first.

    Nothing if no metric has a value for each user. The value of a group is the mean over its users.
    """
    table = evaluation.per_user
    if not table.names:
        return ()
    generator, members_of = (
        streams(rng, "intervals")["intervals"],
        user_groups(split, evaluation.ranking.users),
    )
    groups = {
        f"{metric} of {label}": means(
            metric, table[metric][:, None], members, resamples=resamples, rng=generator
        )
        for metric in table.names
        for label, members in members_of.items()
    }
    extra = list_measures(evaluation.ranking, split, parse_metric(table.names[0])[1])
    groups |= {
        name: means(name, extra[name][:, None], resamples=resamples, rng=generator) for name in extra.names
    }
    return tuple(replace(entry, name=name) for name, entries in groups.items() for entry in entries)


def list_measures(ranking: Ranking, split: Split, k: int) -> PerUser:
    """Measures of each list, cut at k: popularity lift, novelty, diversity (`metrics.MEANINGS` defines them), and the recall
    of the held-out items among the popular fifth of the catalogue and among the others.

    Popularity is counted in `split.train`. A user without a value has NaN: an empty history, or nothing held out in a group.
    """
    rows = split.held_out.users.positions_or_missing(ranking.users)
    histories, held_out = split.histories.take_users(rows), split.held_out.take_users(rows)
    positions, degrees = ranking.positions[:, :k], split.train.item_degrees
    head = head_of(degrees)
    columns = {
        "popularity_lift": popularity_lift(positions, histories, degrees),
        "novelty": novelty(positions, degrees, split.train.n_users),
        "diversity": diversity(positions, split.train),
        HEAD_RECALL: recall_within(positions, held_out, head, k),
        TAIL_RECALL: recall_within(positions, held_out, ~head, k),
    }
    return PerUser(tuple(metric_at(name, k) for name in columns), np.stack(list(columns.values()), axis=1))


def user_groups(split: Split, users: Vocabulary) -> dict[str, NDArray[np.bool_]]:
    """Thirds of the users by the length of their history, (n_users,) masks by the group's name.

    Users with equally long histories stay in one group, so one may be empty; it is left out.
    """
    degrees = split.histories.user_degrees[split.histories.users.positions_or_missing(users)]
    first, second = np.quantile(degrees, [1 / 3, 2 / 3], method="higher")
    thirds = {
        "few": degrees <= first,
        "some": (degrees > first) & (degrees <= second),
        "many": degrees > second,
    }
    return {
        f"users with {word} interactions ({degrees[members].min():,}–{degrees[members].max():,})": members
        for word, members in thirds.items()
        if members.any()
    }


def means(
    name: str,
    table: NDArray[np.float64],
    members: NDArray[np.bool_] | None = None,
    *,
    resamples: int,
    rng: np.random.Generator,
) -> tuple[Measurement, ...]:
    """The mean of each column, a model's values of one measure, over the users (of a group) with a value in every column.

    With the bootstrap interval over these users, if there are `resamples`; nothing if there are no such users.
    """
    has_value = np.isfinite(table).all(axis=1) & (True if members is None else members)
    if not has_value.any():
        return ()
    rows = table[has_value]
    intervals = (
        np.stack(bootstrap_interval(rows, resamples=resamples, rng=rng), axis=1).tolist()
        if resamples
        else [(None, None)] * rows.shape[1]
    )
    return tuple(
        Measurement(name=name, value=mean, low=low, high=high, n_users=len(rows))
        for mean, (low, high) in zip(rows.mean(axis=0).tolist(), intervals, strict=True)
    )
