"""The search of a recipe: one engine and one section of settings, whoever asks for it."""

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
from unblur.tuning.engine import Judgement, Watch, search
from unblur.tuning.points import fits, space_of
from unblur.tuning.results import Study
from unblur.tuning.settings import Database, Search

NOT_QUALITY = (*LIST_METRICS, "mean_popularity")
"""Metrics that do not say whether a user's list is right."""
EXACT = 8
"""How many of the best settings of a shared pass are judged once more, exactly: as many as it ranks at a time."""


class _Ended(Exception):
    """A training was watched, and others did better by then."""


def _judged_on(split: Split, users: int | None, seed: int) -> Split:
    """The split for all users with something held out, or for so many of them."""
    rows = np.flatnonzero(split.held_out.user_degrees)
    DataError.unless(
        len(rows) >= 2,
        f"Settings are judged on at least 2 users with something held out; saw {len(rows)}. Hold out a larger "
        "share, or more data.",
    )
    if users is not None and len(rows) > users:
        rows = np.sort(streams(seed, "users")["users"].choice(rows, size=users, replace=False))
    return replace(split, histories=split.train.take_users(rows), held_out=split.held_out.take_users(rows))


class RankingJudge:
    """Fits settings of a recommender and judges them; a setting is worth the mean over hold-outs."""

    def __init__(
        self, metric: str, held: HoldOuts, users: int | None, seed: int, run: Run, *, shares: bool
    ) -> None:
        """`metric` is that of `tuning.engine.SettingJudge`, `users` on how many users of each hold-out settings are judged."""
        self.metric, self.how, self.shares = metric, held.how, shares
        self._name, self._cutoff = parse_metric(metric)
        self._seed, self._run, self._users = seed, run, users
        self._whole = held.splits
        self._judged = [_judged_on(split, users, seed) for split in held.splits]
        n_items = self._judged[0].train.n_items
        DataError.unless(
            self._cutoff <= n_items,
            "The metric must not look at more places than there are items, "
            f"{n_items:,}; saw {metric}. Choose by a lower cut-off.",
        )

    @property
    def n_users(self) -> int:
        """Over all hold-outs."""
        return sum(judged.histories.n_users for judged in self._judged)

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `tuning.engine.SettingJudge`."""
        return {
            "train": [split.train.fingerprint() for split in self._whole],
            "validation": [split.held_out.fingerprint() for split in self._whole],
            "users": self._users,
        }

    def __call__(self, spec: RecommenderSpec, training: int, watch: Watch) -> Judgement:
        """Fit a setting to each hold-out; the training on the first is watched."""
        values: list[float] = []
        epochs: dict[int, float] = {}

        def observe(event: ProgressEvent, /) -> None:
            self._run.progress(event)
            if event.kind == "epoch" and event.metric and not event.part and not values:
                epochs[event.done] = event.values[event.metric]
                if watch(event.done, epochs[event.done]):
                    raise _Ended

        run = Run(self._run.device, observe)
        for whole, judged in zip(self._whole, self._judged, strict=True):
            # A training stops by all that was held out, whoever is judged.
            validation = whole.held_out if stops_by_interactions(spec) else None
            rng = streams(self._seed + training, "fit")["fit"]
            try:
                model = spec.fit_in(run, whole.train, rng=rng, validation=validation)
            except _Ended:
                return Judgement(None)
            ranking = model.recommend(judged.histories, k=self._cutoff)
            values.append(float(self._values(judged, ranking.positions).mean()))
        return Judgement(float(np.mean(values)), max(epochs, key=epochs.__getitem__) if epochs else None)

    def together(self, specs: Sequence[RecommenderSpec]) -> Sequence[float]:
        """Fit all settings at once, and judge the best once more, exactly."""
        values: list[float] = np.mean(
            [self._shared(judged, specs) for judged in self._judged], axis=0
        ).tolist()
        return values

    def _shared(self, judged: Split, specs: Sequence[RecommenderSpec]) -> NDArray[np.float64]:
        share = specs[0].shared()
        assert share is not None  # `shares` says so
        shared = share(specs, judged.train, rng=streams(self._seed, "fit")["fit"], run=self._run)

        def means(settings: Sequence[int]) -> NDArray[np.float64]:
            lists = np.empty((len(settings), judged.histories.n_users, self._cutoff), dtype=np.int32)
            for rows, positions in shared.rankings(
                judged.histories, k=self._cutoff, settings=settings, progress=self._run.progress
            ):
                lists[:, rows] = positions
            return np.array([self._values(judged, positions).mean() for positions in lists])

        values = means(range(len(specs)))
        best = np.sort(np.argsort(-values, kind="stable")[:EXACT])
        values[best] = means(best.tolist())
        return values

    def _values(self, judged: Split, positions: NDArray[np.int32]) -> NDArray[np.float64]:
        """(n_users,) the metric of each judged user."""
        return per_user(positions, judged.held_out.matrix, [self._name], [self._cutoff])[self.metric]


def metric_of(protocol: RankingProtocol, asked: str | None, *, measured: bool = False) -> str:
    """The metric that settings are chosen by: the one asked for, else the first that the protocol measures.

    Raises `RecipeError` for one without a cut-off and, if it has to be `measured`, for one that the protocol does not
    measure; `SpecError` for one that is unknown, or that does not say how good each user's list is.
    """
    names = [name for name in protocol.names if name.partition("@")[0] not in NOT_QUALITY]
    metric = (names[0] if names else "recall@20") if asked is None else asked
    RecipeError.unless(
        metric.partition("@")[2],
        f"A metric must have a cut-off, such as recall@20; saw {metric!r}.{nearest(metric, names)}",
    )
    RecipeError.unless(
        metric in names or not measured,
        f"What is chosen by must be measured; {metric} is not.{nearest(metric, names)} Measured: "
        f"{', '.join(names) or 'none'}. Add it with --set protocol.metrics=[…] and protocol.cutoffs=[…].",
    )
    name, cutoff = parse_metric(metric)
    SpecError.unless(
        name not in NOT_QUALITY,
        f"Settings are chosen by how good each user's list is; {name} does not say that. "
        f"Choose by another metric, such as recall@{cutoff}.",
    )
    return metric


def chooses(recipe: Recipe) -> bool:
    """Whether a run of the recipe chooses hyper-parameters: under the strict protocol, if there is anything to choose."""
    return (
        recipe.protocol.kind == "strict"
        and recipe.task.chosen_anew
        and recipe.search.trials > 1
        and bool(space_of(recipe.model))
    )


def settled(prepared: Prepared[ModelT, ArmT], run: Run) -> tuple[Prepared[ModelT, ArmT], tuple[str, ...]]:
    """The same with the hyper-parameters that the protocol measures, and notes on where they come from."""
    recipe = prepared.recipe
    if recipe.protocol.kind != "strict" or not recipe.task.chosen_anew:
        return prepared, ()
    if not chooses(recipe):
        why = "search.trials is 1" if space_of(recipe.model) else f"{recipe.model.kind} has none to search"
        return prepared, (
            f"the hyper-parameters are the recipe's, since {why}; interactions held out of train chose the epoch at most",
        )
    found = searched(prepared, run, store=run.inside("search").checkpoints)
    return prepared.with_model(found.spec), (
        *found.notes(),
        *prepared.after_choice,
        "hyper-parameters were chosen on interactions held out of train; fit_seconds includes the search",
    )


def searched(
    prepared: Prepared[Any, Any],
    run: Run,
    settings: Search | None = None,
    *,
    space: Sequence[Dimension] | None = None,
    seed: int | None = None,
    store: Path | Database | None = None,
    given: bool = True,
) -> Study[Any]:
    """Search the space of the recipe's model, or another, as the recipe's section ``search`` says, or `settings`.

    If `given`, trial 0 is the model as the recipe has it, provided that it can be fitted to these data. `seed` is the
    recipe's if left out.
    """
    recipe = prepared.recipe
    settings, seed = settings or recipe.search, recipe.seed if seed is None else seed
    space = space_for(prepared) if space is None else space
    return search(
        recipe.model,
        space,
        prepared.judge(settings, seed, run),
        settings,
        seed=seed,
        store=store,
        given=given and fits(recipe.model, space, largest_rank(prepared)),
        progress=run.progress,
    )


def space_for(
    prepared: Prepared[Any, Any],
    changes: Mapping[str, Sequence[Any]] | None = None,
    fixed: Collection[str] = (),
) -> tuple[Dimension, ...]:
    """What is searched of the recipe's model on these data, without the `fixed` paths.

    Raises `RecipeError` where all of a space is fixed.
    """
    return free(space_of(prepared.recipe.model, changes, largest_rank=largest_rank(prepared)), fixed)


def free(space: Sequence[Dimension], fixed: Collection[str]) -> tuple[Dimension, ...]:
    """The dimensions that are not fixed. Raises `RecipeError` where none is left of some."""
    left = tuple(dimension for dimension in space if dimension.name not in fixed)
    RecipeError.unless(
        left or not space,
        "A search needs a setting that is free; --set gives all that there are: "
        f"{', '.join(dimension.name for dimension in space)}. Leave one out.",
    )
    return left


def largest_rank(prepared: Prepared[Any, Any]) -> int:
    """The smaller side of the matrix that is learned from."""
    return min(prepared.learned_from.n_users, prepared.learned_from.n_items)
