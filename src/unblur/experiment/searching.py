"""The hyper-parameter search of a recipe: one engine and one section of settings for every command."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.data.splits import Split
from unblur.errors import DataError, RecipeError, SpecError, nearest
from unblur.evaluation.metrics import LIST_METRICS, parse_metric, per_user
from unblur.evaluation.protocol import RankingProtocol
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.task import ArmT, ModelT, Prepared
from unblur.experiment.validation import HoldOuts, stops_by_interactions
from unblur.progress import ProgressEvent, Run
from unblur.randomness import streams
from unblur.recommender import RecommenderSpec
from unblur.spec import Dimension
from unblur.tuning.engine import Judgement, SearchRequest, Watch
from unblur.tuning.points import fits, space_of
from unblur.tuning.settings import Database, Search

NOT_ACCURACY = (*LIST_METRICS, "mean_popularity")
"""Metrics that do not measure how good a user's list is."""
REJUDGED = 8
"""Number of best settings of a shared pass that are judged once more. The pass ranks exactly up to 8 settings at a time, and
more of them approximately (see `unblur.models.spectral.shared_pass`), so the choice among the best is exact."""


class _TrainingEnded(Exception):
    """Raised to end a training whose watch says so."""


def _for_users(split: Split, n_users: int | None, seed: int) -> Split:
    """The split for all users with held-out items, or for `n_users` of them."""
    rows = np.flatnonzero(split.held_out.user_degrees)
    DataError.unless(
        len(rows) >= 2,
        f"Settings must be judged on at least 2 users with held-out items; saw {len(rows)}. Hold out a larger "
        "fraction, or give more data.",
    )
    if n_users is not None and len(rows) > n_users:
        rows = np.sort(streams(seed, "users")["users"].choice(rows, size=n_users, replace=False))
    return replace(split, histories=split.train.take_users(rows), held_out=split.held_out.take_users(rows))


class RankingJudge:
    """Fit settings of a recommender and judge them; the value of a setting is its mean over the hold-outs."""

    def __init__(
        self, metric: str, hold_outs: HoldOuts, users: int | None, seed: int, run: Run, *, shares: bool
    ) -> None:
        """`metric` is that of `tuning.engine.SettingJudge`, `users` the number of judged users of each hold-out."""
        self.metric, self.how, self.shares = metric, hold_outs.how, shares
        self._name, self._cutoff = parse_metric(metric)
        self._seed, self._run, self._users = seed, run, users
        self._splits = hold_outs.splits
        self._judged = [_for_users(split, users, seed) for split in hold_outs.splits]
        n_items = self._judged[0].train.n_items
        DataError.unless(
            self._cutoff <= n_items,
            f"The cut-off of the metric must be at most the number of items, {n_items:,}; saw {metric}. Choose by a "
            "lower cut-off.",
        )

    @property
    def n_users(self) -> int:
        """The number of judged users, over all hold-outs."""
        return sum(judged.histories.n_users for judged in self._judged)

    @property
    def n_fits(self) -> int:
        """See `tuning.engine.SettingJudge`."""
        return len(self._splits)

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `tuning.engine.SettingJudge`."""
        return {
            "train": [split.train.fingerprint() for split in self._splits],
            "validation": [split.held_out.fingerprint() for split in self._splits],
            "users": self._users,
        }

    def __call__(self, spec: RecommenderSpec, training: int, watch: Watch) -> Judgement:
        """Fit a setting to the train part of each hold-out and judge it; the training on the first is watched."""
        values: list[float] = []
        epochs: dict[int, float] = {}

        # Only the training on the first hold-out is watched: pruners compare the n-th evaluations of trials, and those of a
        # second training would be counted as later ones of the first.
        def observe(event: ProgressEvent, /) -> None:
            self._run.progress(event)
            if event.kind == "epoch" and event.metric and not event.part and not values:
                epochs[event.done] = event.values[event.metric]
                if watch(event.done, epochs[event.done]):
                    raise _TrainingEnded

        run = Run(self._run.device, observe)
        for split, judged in zip(self._splits, self._judged, strict=True):
            # Early stopping uses all held-out items, even if settings are judged on fewer users: it is part of the fit.
            validation = split.held_out if stops_by_interactions(spec) else None
            rng = streams(self._seed + training, "fit")["fit"]
            try:
                model = spec.fit_in(run, split.train, rng=rng, validation=validation)
            except _TrainingEnded:
                return Judgement(None)
            ranking = model.recommend(judged.histories, k=self._cutoff)
            values.append(float(self._values(judged, ranking.positions).mean()))
        return Judgement(float(np.mean(values)), max(epochs, key=epochs.__getitem__) if epochs else None)

    def together(self, specs: Sequence[RecommenderSpec]) -> Sequence[float]:
        """Fit all settings in one pass, and judge the best once more, exactly."""
        values: list[float] = np.mean(
            [self._shared_values(judged, specs) for judged in self._judged], axis=0
        ).tolist()
        return values

    def _shared_values(self, judged: Split, specs: Sequence[RecommenderSpec]) -> NDArray[np.float64]:
        pass_of = specs[0].shared()
        assert pass_of is not None  # implied by `shares`
        shared = pass_of(specs, judged.train, rng=streams(self._seed, "fit")["fit"], run=self._run)

        def means(settings: Sequence[int]) -> NDArray[np.float64]:
            lists = np.empty((len(settings), judged.histories.n_users, self._cutoff), dtype=np.int32)
            for rows, positions in shared.rankings(
                judged.histories, k=self._cutoff, settings=settings, progress=self._run.progress
            ):
                lists[:, rows] = positions
            return np.array([self._values(judged, positions).mean() for positions in lists])

        values = means(range(len(specs)))
        best = np.sort(np.argsort(-values, kind="stable")[:REJUDGED])
        values[best] = means(best.tolist())
        return values

    def _values(self, judged: Split, positions: NDArray[np.int32]) -> NDArray[np.float64]:
        """The metric of each judged user, (n_users,)."""
        return per_user(positions, judged.held_out.matrix, [self._name], [self._cutoff])[self.metric]


def metric_of(protocol: RankingProtocol, requested: str | None, *, measured: bool = False) -> str:
    """The metric that settings are chosen by: the requested one, else the first accuracy metric of the protocol.

    Raises `RecipeError` for a metric without a cut-off and, if it has to be `measured`, for one that the protocol does
    not measure; `SpecError` for one that is unknown, or that does not measure how good each user's list is.
    """
    names = [name for name in protocol.names if name.partition("@")[0] not in NOT_ACCURACY]
    metric = (names[0] if names else "recall@20") if requested is None else requested
    RecipeError.unless(
        metric.partition("@")[2],
        f"A metric must have a cut-off, such as recall@20; saw {metric!r}.{nearest(metric, names)}",
    )
    RecipeError.unless(
        metric in names or not measured,
        f"The metric to choose by must be measured; {metric} is not.{nearest(metric, names)} Measured: "
        f"{', '.join(names) or 'none'}. Add it with --set protocol.metrics=[…] and protocol.cutoffs=[…].",
    )
    name, cutoff = parse_metric(metric)
    SpecError.unless(
        name not in NOT_ACCURACY,
        f"Settings must be chosen by how good each user's list is; {name} does not measure that. "
        f"Choose by another metric, such as recall@{cutoff}.",
    )
    return metric


def chooses(recipe: Recipe) -> bool:
    """Return whether a run of the recipe searches hyper-parameters: under the strict protocol, if any are searched."""
    return (
        recipe.protocol.kind == "strict"
        and recipe.task.chosen_anew
        and recipe.search.trials > 1
        and bool(space_of(recipe.model))
    )


def with_chosen_model(
    prepared: Prepared[ModelT, ArmT], run: Run
) -> tuple[Prepared[ModelT, ArmT], tuple[str, ...]]:
    """The prepared recipe with the hyper-parameters that its protocol measures, and notes on their origin."""
    recipe = prepared.recipe
    if recipe.protocol.kind != "strict" or not recipe.task.chosen_anew:
        return prepared, ()
    if not chooses(recipe):
        reason = "search.trials is 1" if space_of(recipe.model) else f"{recipe.model.kind} has none to search"
        return prepared, (
            f"the hyper-parameters are the recipe's, since {reason}; held-out train interactions chose the epoch at most",
        )
    study = search_of(prepared, run, store=run.inside("search").checkpoints).run()
    return prepared.with_model(study.spec), (
        *study.notes(),
        *prepared.after_choice,
        "hyper-parameters were chosen on held-out train interactions; fit_seconds includes the search",
    )


def search_of(
    prepared: Prepared[Any, Any],
    run: Run,
    settings: Search | None = None,
    *,
    space: Sequence[Dimension] | None = None,
    seed: int | None = None,
    store: Path | Database | None = None,
    include_base: bool = True,
) -> SearchRequest[Any]:
    """A search of `space`, by default that of the recipe's model, with `settings`, by default the recipe's section ``search``.

    With `include_base` trial 0 is the model as the recipe has it, provided that it can be fitted to these data. `seed`
    is the recipe's by default.
    """
    recipe = prepared.recipe
    settings, seed = settings or recipe.search, recipe.seed if seed is None else seed
    space = space_for(prepared) if space is None else space
    return SearchRequest(
        recipe.model,
        space,
        prepared.judge(settings, seed, run),
        settings,
        seed=seed,
        store=store,
        include_base=include_base and fits(recipe.model, space, largest_rank(prepared)),
        progress=run.progress,
    )


def space_for(
    prepared: Prepared[Any, Any],
    changes: Mapping[str, Sequence[Any]] | None = None,
    fixed: Collection[str] = (),
) -> tuple[Dimension, ...]:
    """The search space of the recipe's model on these data, without the `fixed` paths.

    Raises `RecipeError` if all dimensions are fixed.
    """
    return without_fixed(space_of(prepared.recipe.model, changes, largest_rank=largest_rank(prepared)), fixed)


def without_fixed(space: Sequence[Dimension], fixed: Collection[str]) -> tuple[Dimension, ...]:
    """The dimensions that are not fixed. Raises `RecipeError` if all are fixed."""
    remaining = tuple(dimension for dimension in space if dimension.name not in fixed)
    RecipeError.unless(
        remaining or not space,
        "A search needs at least one free setting; --set fixes all of them: "
        f"{', '.join(dimension.name for dimension in space)}. Leave one out.",
    )
    return remaining


def largest_rank(prepared: Prepared[Any, Any]) -> int:
    """The smaller side of the training matrix."""
    return min(prepared.learned_from.n_users, prepared.learned_from.n_items)
