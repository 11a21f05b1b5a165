"""Validation data for early stopping, and their evaluation."""

from __future__ import annotations

import numpy as np

from unblur.data.interactions import Interactions
from unblur.data.splits import Split, hold_out_last
from unblur.errors import DataError, SpecError
from unblur.evaluation.metrics import per_user
from unblur.randomness import RNG
from unblur.recommender import Recommender
from unblur.training.settings import Stopping, check_metric


def hold_out(train: Interactions, stopping: Stopping, rng: RNG | None) -> Split:
    """Set aside a fraction of each user's interactions, at random or the last in time, always leaving one.

    Where that is less than half an interaction of every user, as with histories of a few items, each user gives one up.
    Raises `DataError` when the last in time are wanted and there are no timestamps, or when nobody has two interactions.
    """
    in_time = stopping.hold_out == "last"
    DataError.unless(
        train.timestamps is not None or not in_time,
        "Setting aside the last interactions in time needs timestamps; these have none. Use `hold_out` "
        '"random", or read the data with its time column.',
    )
    DataError.unless(
        bool((train.user_degrees > 1).any()),
        "Some user must have two interactions, for one to be set aside to stop by; nobody has. Pass `validation`, or train "
        'without `stopping` ("off" in a recipe and in `--set model.stopping=off`).',
    )
    n = np.round(train.user_degrees * stopping.fraction)
    if not (np.minimum(n, train.user_degrees - 1) > 0).any():
        n = np.ones_like(n)
    method = f"held out of train: {stopping.hold_out}, {stopping.fraction:.0%}"
    return hold_out_last(train, n, "time" if in_time else "random", rng, method)


class Judge:
    """Measures a recommender on held-out interactions, over the users who have some."""

    def __init__(self, split: Split, name: str) -> None:
        """Judge by a metric such as ``recall@20``."""
        self.metric, self.cutoff = check_metric(name)
        if self.cutoff > split.histories.n_items:
            raise SpecError(
                f"The cut-off of `stopping.metric` must not exceed the {split.histories.n_items:,} items; "
                f"saw {name!r}. Lower it, such as to {f'{self.metric}@{max(1, split.histories.n_items // 2)}'!r}."
            )
        rows = np.flatnonzero(split.held_out.user_degrees)
        self.histories, self.held_out = split.histories.take_users(rows), split.held_out.take_users(rows)

    def __call__(self, recommender: Recommender) -> float:
        """Return the mean of the metric over the users; items of the history are not recommended."""
        ranking = recommender.recommend(self.histories, k=self.cutoff, batch_size=1024)
        values = per_user(ranking.positions, self.held_out.matrix, [self.metric], [self.cutoff])
        return float(values.values.mean())
