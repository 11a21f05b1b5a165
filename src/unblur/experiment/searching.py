"""The search of a recipe: one engine and one section of settings, whoever asks for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
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


@dataclass(frozen=True, eq=False)
class _Sample:
    """One hold-out: what is learned from, and the users that are judged."""

    train: Interactions
    validation: Interactions
    """All that was held out, which trainings stop by."""
    histories: Interactions
    held_out: Interactions

    @classmethod
    def of(cls, train: Interactions, held_out: Interactions, users: int | None, seed: int) -> _Sample:
        """All users with something held out, or so many of them."""
        rows = np.flatnonzero(held_out.user_degrees)
        if len(rows) < 2:
            raise DataError(
                f"Settings are judged on at least 2 users with something held out; saw {len(rows)}. Hold out a larger "
                "share, or more data."
            )
        if users is not None and len(rows) > users:
            random = streams(seed, "users")["users"]
            rows = np.sort(random.choice(rows, size=users, replace=False))
        return cls(train, held_out, train.take_users(rows), held_out.take_users(rows))


class RankingJudge:
    """Fits settings of a recommender and judges them; a setting is worth the mean over hold-outs."""

    def __init__(
        self, metric: str, held: HoldOuts, users: int | None, seed: int, run: Run, *, shares: bool
    ) -> None:
        """`metric` is that of `tuning.engine.SettingJudge`, `users` on how many users of each hold-out settings are judged."""
        self.metric, self.how, self.shares = metric, held.how, shares
        self._name, self._cutoff = parse_metric(metric)
        self._seed, self._run, self._users = seed, run, users
        self._samples = [_Sample.of(split.train, split.held_out, users, seed) for split in held.splits]
        if self._cutoff > self._samples[0].train.n_items:
            raise DataError(
                "The metric must not look at more places than there are items, "
                f"{self._samples[0].train.n_items:,}; saw {metric}. Choose by a lower cut-off."
            )

    @property
    def n_users(self) -> int:
        """Over all hold-outs."""
        return sum(sample.histories.n_users for sample in self._samples)

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `tuning.engine.SettingJudge`."""
        return {
            "train": [sample.train.fingerprint() for sample in self._samples],
            "validation": [sample.validation.fingerprint() for sample in self._samples],
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
        for sample in self._samples:
            validation = sample.validation if stops_by_interactions(spec) else None
            rng = streams(self._seed + training, "fit")["fit"]
            try:
                model = spec.fit_in(run, sample.train, rng=rng, validation=validation)
            except _Ended:
                return Judgement(None)
            ranking = model.recommend(sample.histories, k=self._cutoff)
            values.append(float(self._values(sample, ranking.positions).mean()))
        best = max(epochs, key=lambda epoch: epochs[epoch]) if epochs else None
        return Judgement(float(np.mean(values)), best)

    def together(self, specs: Sequence[RecommenderSpec]) -> Sequence[float]:
        """Fit all settings at once, and judge the best once more, exactly."""
        means = np.mean([self._shared(sample, specs) for sample in self._samples], axis=0)
        return [float(value) for value in means]

    def _shared(self, sample: _Sample, specs: Sequence[RecommenderSpec]) -> NDArray[np.float64]:
        share = specs[0].shared()
        assert share is not None  # `shares` says so
        shared = share(specs, sample.train, rng=streams(self._seed, "fit")["fit"], run=self._run)

        def means(settings: Sequence[int]) -> NDArray[np.float64]:
            lists = np.empty((len(settings), sample.histories.n_users, self._cutoff), dtype=np.int32)
            for rows, positions in shared.rankings(
                sample.histories, k=self._cutoff, settings=settings, progress=self._run.progress
            ):
                lists[:, rows] = positions
            return np.array([self._values(sample, positions).mean() for positions in lists])

        values = means(range(len(specs)))
        best = np.sort(np.argsort(-values, kind="stable")[:EXACT])
        values[best] = means(best.tolist())
        return values

    def _values(self, sample: _Sample, positions: NDArray[np.int32]) -> NDArray[np.float64]:
        """(n_users,) the metric of each judged user."""
        return per_user(positions, sample.held_out.matrix, [self._name], [self._cutoff])[self.metric]


def metric_of(protocol: RankingProtocol, asked: str | None, *, measured: bool = False) -> str:
    """The metric that settings are chosen by: the one asked for, else the first that the protocol measures.

    Raises `RecipeError` for one without a cut-off and, if it has to be `measured`, for one that the protocol does not
    measure; `SpecError` for one that is unknown, or that does not say how good each user's list is.
    """
    names = [name for name in protocol.names if name.partition("@")[0] not in NOT_QUALITY]
    metric = (names[0] if names else "recall@20") if asked is None else asked
    if not metric.partition("@")[2]:
        raise RecipeError(
            f"A metric must have a cut-off, such as recall@20; saw {metric!r}.{nearest(metric, names)}"
        )
    if measured and metric not in names:
        raise RecipeError(
            f"What is chosen by must be measured; {metric} is not.{nearest(metric, names)} Measured: "
            f"{', '.join(names) or 'none'}. Add it with --set protocol.metrics=[…] and protocol.cutoffs=[…]."
        )
    name, cutoff = parse_metric(metric)
    if name in NOT_QUALITY:
        raise SpecError(
            f"Settings are chosen by how good each user's list is; {name} does not say that. "
            f"Choose by another metric, such as recall@{cutoff}."
        )
    return metric


def chooses(recipe: Recipe) -> bool:
    """Whether a run of the recipe chooses hyper-parameters: under the strict protocol, if there is anything to choose."""
    strict = recipe.protocol.kind == "strict" and recipe.task.chosen_anew
    return strict and recipe.search.trials > 1 and bool(space_of(recipe.model))


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
    kept = run.inside("search").checkpoints
    found = searched(prepared, run, store=kept)
    said = "hyper-parameters were chosen on interactions held out of train; fit_seconds includes the search"
    return prepared.with_model(found.spec), (*found.notes(), *prepared.after_choice, said)


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
    judge = prepared.judge(settings, seed, run)
    space = space_for(prepared) if space is None else space
    return search(
        recipe.model,
        space,
        judge,
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
    whole = space_of(prepared.recipe.model, changes, largest_rank=largest_rank(prepared))
    return free(whole, fixed)


def free(space: Sequence[Dimension], fixed: Collection[str]) -> tuple[Dimension, ...]:
    """The dimensions that are not fixed. Raises `RecipeError` where none is left of some."""
    left = tuple(dimension for dimension in space if dimension.name not in fixed)
    if space and not left:
        raise RecipeError(
            "A search needs a setting that is free; --set gives all that there are: "
            f"{', '.join(dimension.name for dimension in space)}. Leave one out."
        )
    return left


def largest_rank(prepared: Prepared[Any, Any]) -> int:
    """The smaller side of the matrix that is learned from."""
    return min(prepared.learned_from.n_users, prepared.learned_from.n_items)
