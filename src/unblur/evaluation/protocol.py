"""The measurement of a ranking: its users, metrics and intervals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator

from unblur.data.interactions import Interactions
from unblur.data.splits import Split
from unblur.errors import DataError, VocabularyMismatch, some
from unblur.evaluation.metrics import LIST_METRICS, PerUser, check_metric, exposure, metric_at, per_user
from unblur.evaluation.report import Measurement, find_measurement
from unblur.evaluation.significance import bootstrap_interval
from unblur.progress import Progress, silent
from unblur.randomness import RNG, streams
from unblur.ranking import (
    BY_SCORE,
    Chooser,
    Excluded,
    Ranking,
    Selection,
    excluded_rows,
    rank_rows,
    tie_ranks,
)
from unblur.recommender import Recommender, Scorer
from unblur.spec import Count, spec

_BATCH = 1024
"""Number of users to rank at a time: 8 MB of scores for each thousand items. No figure depends on it."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The measurements of a protocol on one split."""

    measurements: tuple[Measurement, ...]
    """One for each metric at each cut-off, ordered by metric."""
    per_user: PerUser
    """The values behind the means, with a row for each list of `ranking`, for paired comparisons."""
    ranking: Ranking
    """The lists that were measured."""
    split_notes: tuple[str, ...]
    """Notes for the report about the split."""
    list_notes: tuple[str, ...]
    """Notes for the report about the users that were measured, and about short lists."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the report about split and lists."""
        return (*self.split_notes, *self.list_notes)

    def __getitem__(self, name: str) -> Measurement:
        """The measurement called `name`. Raises `DataError`, with the nearest name, if there is none."""
        return find_measurement(self.measurements, name)

    def to_frame(self) -> pl.DataFrame:
        """A polars table with a row per user: ``user``, and a column for each per-user measurement."""
        table = {name: self.per_user[name] for name in self.per_user.names}
        return pl.DataFrame({"user": self.ranking.users.series, **table})


@spec
class RankingProtocol:
    """The metrics of a recommender's lists, and the users that they are averaged over.

    The result depends on the scores and on `rng` alone: not on batches, threads or the order of sums.
    """

    cutoffs: tuple[Count, ...] = (20,)
    """The lengths k at which lists are measured."""
    metrics: tuple[str, ...] = ("recall", "ndcg")
    """Names in `USER_METRICS` or `LIST_METRICS` of the metrics module, each measured at every cut-off."""
    averaging: Literal["users-with-relevant", "all-users"] = "users-with-relevant"
    """The users of a mean. Users without held-out items are left out and counted in a note, or count as 0."""
    resamples: Annotated[int, Field(ge=0, le=1_000_000)] = 1000
    """Number of bootstrap samples of users for each 95 % interval; with 0 there are no intervals."""

    @field_validator("cutoffs", "metrics")
    @classmethod
    def _distinct(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if not values or len(set(values)) < len(values):
            raise ValueError(
                f"There must be at least one, without repeats; saw {list(values)}. Name each once."
            )
        return values

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        for metric in metrics:
            check_metric(metric)
        return metrics

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all measurements in order, such as ``recall@20``, ``ndcg@20``."""
        return tuple(metric_at(metric, k) for metric in self.metrics for k in self.cutoffs)

    def evaluate(
        self,
        scorer: Scorer,
        split: Split,
        *,
        exclude: Excluded = "history",
        rng: RNG | None = None,
        batch_size: int | None = None,
        progress: Progress = silent,
    ) -> Evaluation:
        """`rank`, then `measure`, with their arguments and errors. `rng` is used for the intervals alone."""
        ranking = self.rank(scorer, split, exclude=exclude, batch_size=batch_size, progress=progress)
        return self.measure(ranking, split, rng=rng)

    def rank(
        self,
        scorer: Scorer,
        split: Split,
        *,
        exclude: Excluded = "history",
        selection: Selection = BY_SCORE,
        batch_size: int | None = None,
        progress: Progress = silent,
    ) -> Ranking:
        """The lists to measure: for each user that counts, the best items outside the history.

        scorer: a `Recommender`, or any object with `items` and `score(histories)`.
        exclude: as in `Recommender.recommend`; Interactions must have the rows of `split.histories`.
        selection: as there; lists of other scorers are by score alone.
        batch_size: the number of users to score at once; `None` leaves it to the scorer.
        Raises `DataError` for a cut-off above the number of items and for scores that are not finite, and
        `VocabularyMismatch` if the scorer's items are not the split's.
        """
        DataError.unless(
            isinstance(split, Split),
            f"Lists are measured on a split; saw {type(split).__name__}. Make one, such as `LeaveLast().apply(data)`.",
        )
        DataError.unless(
            isinstance(scorer, Scorer),
            f"A scorer must have `items` and `score(histories)`; saw {type(scorer).__name__}. "
            "Fit a spec first: `spec.fit(train)`.",
        )
        longest = max(self.cutoffs)
        DataError.unless(
            longest <= split.held_out.n_items,
            f"A cut-off must not exceed the {split.held_out.n_items:,} items; saw {longest}. Lower it.",
        )
        excluded = excluded_rows(exclude, split.histories)
        counted = self.counted(split)
        histories = _take_users(split.histories, counted)
        hidden = excluded
        if excluded is not None:
            hidden = histories if excluded is split.histories else _take_users(excluded, counted)
        if isinstance(scorer, Recommender):
            return scorer.recommend(
                histories,
                k=longest,
                exclude=hidden,
                selection=selection,
                batch_size=batch_size,
                progress=progress,
            )
        if scorer.items != histories.items:
            examples = histories.items.labels[:3].tolist()
            raise VocabularyMismatch(
                f"The scorer must have the split's {histories.n_items:,} items ({some(examples)} …); its "
                f"{len(scorer.items):,} items are others. Give it `items = split.train.items`."
            )
        positions, best = rank_rows(
            partial(_scores, scorer),
            histories,
            Chooser(k=longest, ties=tie_ranks(split.train.item_degrees), excluded=hidden),
            batch_size=_BATCH if batch_size is None else batch_size,
            progress=progress,
        )
        fallback = np.zeros(histories.n_users, dtype=bool)  # a plain scorer has no fallback to popular items
        return Ranking(histories.users, histories.items, positions, best, fallback)

    def measure(self, ranking: Ranking, split: Split, *, rng: RNG | None = None) -> Evaluation:
        """Measure lists of `rank` by every metric at every cut-off, with intervals drawn from `rng`.

        Item popularity is counted in `split.train`. `coverage` and `gini` are metrics of all lists together and have
        no interval: resampled users would cover too few items. Raises `VocabularyMismatch` if the lists are not those
        of the users that count, in their order, over the split's items.
        """
        counted = self.counted(split)
        held_out = _take_users(split.held_out, counted)
        VocabularyMismatch.unless(
            ranking.items == held_out.items and ranking.users == held_out.users,
            f"There must be one list for each of the {held_out.n_users:,} users that count, in order, "
            f"over the split's {held_out.n_items:,} items; saw {len(ranking.users):,} lists over "
            f"{len(ranking.items):,} items. Compute them with `rank`.",
        )
        table = per_user(
            ranking.positions,
            held_out.matrix,
            [metric for metric in self.metrics if metric not in LIST_METRICS],
            self.cutoffs,
            popularity=split.train.item_degrees,
        )
        return Evaluation(
            measurements=self._measurements(ranking, table, rng),
            per_user=table,
            ranking=ranking,
            split_notes=(f"split: {split.method}", *split.notes),
            list_notes=(*self._notes(ranking, split), *ranking.notes),
        )

    def counted(self, split: Split) -> NDArray[np.bool_]:
        """A mask of the rows of the split that are averaged over, (n_users,)."""
        return (split.held_out.user_degrees > 0) | (self.averaging == "all-users")

    def intervals(self, table: PerUser, rng: RNG | None) -> dict[str, tuple[float, float]]:
        """Both ends of the 95 % interval of each column's mean, drawn from `rng`; none without `resamples`."""
        if not self.resamples or not table.names:
            return {}
        generator = streams(rng, "bootstrap")["bootstrap"]
        low, high = bootstrap_interval(table.values, resamples=self.resamples, rng=generator)
        return dict(zip(table.names, zip(low.tolist(), high.tolist(), strict=True), strict=True))

    def _measurements(self, ranking: Ranking, table: PerUser, rng: RNG | None) -> tuple[Measurement, ...]:
        n_users = len(ranking.users)
        values = dict(zip(table.names, table.values.mean(axis=0).tolist(), strict=True))
        intervals = self.intervals(table, rng)
        values |= {
            metric_at(metric, k): LIST_METRICS[metric](exposure(ranking.positions, len(ranking.items), k))
            for metric in self.metrics
            if metric in LIST_METRICS
            for k in self.cutoffs
        }
        return tuple(
            Measurement(name=name, value=values[name], low=low_end, high=high_end, n_users=n_users)
            for name in self.names
            for low_end, high_end in (intervals.get(name, (None, None)),)
        )

    def _notes(self, ranking: Ranking, split: Split) -> tuple[str, ...]:
        notes = []
        n_without = int((split.held_out.user_degrees == 0).sum())
        if n_without:
            treatment = "count as users without a hit" if self.averaging == "all-users" else "were left out"
            notes.append(f"{_users(n_without)} had nothing held out and {treatment}")
        n_short = int((ranking.positions[:, : max(self.cutoffs)] < 0).any(axis=1).sum())
        if n_short:
            notes.append(f"{_users(n_short)} had fewer than {max(self.cutoffs)} items to choose from")
        return tuple(notes)


def _take_users(data: Interactions, mask: NDArray[np.bool_]) -> Interactions:
    return data if bool(mask.all()) else data.take_users(mask)


def _users(count: int) -> str:
    return f"{count:,} user{'' if count == 1 else 's'}"


def _scores(scorer: Scorer, batch: Interactions) -> NDArray[np.float32]:
    """The checked scores of a batch, in a new array."""
    scores = np.asarray(scorer.score(batch))
    DataError.unless(
        scores.shape == batch.matrix.shape,
        f"Scores must have a row per user and a column per item, {batch.matrix.shape}; "
        f"saw {scores.shape}. Correct the scorer.",
    )
    with np.errstate(over="ignore"):  # values beyond float32 become infinite, which `top_k` refuses
        return np.array(scores, dtype=np.float32, order="C")
