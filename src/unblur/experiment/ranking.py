"""The task of recommenders: fit to one part of the data, rank the items that were held out of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from unblur.data.interactions import Interactions
from unblur.data.splits import SPLITTINGS, Files, Split, Splitting
from unblur.document.blocks import Document
from unblur.errors import RecipeError, SpecError, nearest, some
from unblur.evaluation.metrics import PerUser, exposure
from unblur.evaluation.protocol import Evaluation
from unblur.evaluation.report import Measurement, Report
from unblur.experiment import validation
from unblur.experiment.page import concentration, filter_response, run_page
from unblur.experiment.reading import OWN_DATA, WHOLE, read_parts
from unblur.experiment.recipe.parts import Protocol
from unblur.experiment.recipe.toml import all_values, read_kind, read_spec
from unblur.experiment.searching import RankingJudge, metric_of
from unblur.experiment.task import Clock, Epoch, Prepared, Summary, Task
from unblur.fitted import FittedSpec
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.randomness import streams
from unblur.ranking import BY_SCORE, Ranking, Selection
from unblur.recommender import Recommender, RecommenderSpec
from unblur.registry import RECOMMENDERS, recommender_spec
from unblur.tuning.results import Study
from unblur.tuning.settings import Search

if TYPE_CHECKING:
    from unblur.experiment.recipe.schema import Recipe

LISTS = "lists"
"""The first arm of a recommender, and the only one of a run: its lists for the users that count."""


def _splitting(kind: str) -> type[Splitting]:
    SpecError.unless(
        kind in SPLITTINGS,
        f"kind must be one of {', '.join(SPLITTINGS)}; saw {kind!r}.{nearest(kind, SPLITTINGS)}",
    )
    return SPLITTINGS[kind]


@dataclass(frozen=True, kw_only=True)
class RankingTask(Task):
    """Fit a recommender to one part of the data, and measure how high the held-out items are in its lists."""

    sections: ClassVar[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
        "split": partial(read_kind, _splitting, section="split", default=Files.kind),
        "model": partial(read_kind, recommender_spec, section="model"),
        "protocol": partial(read_spec, Protocol, section="protocol"),
    }
    purpose: ClassVar[str] = "A recommender is measured on a split of its data"
    kinds: ClassVar[Mapping[str, str]] = RECOMMENDERS
    chosen_anew: ClassVar[bool] = True
    model: RecommenderSpec
    split: Splitting = field(default_factory=Files)

    @property
    def measured(self) -> tuple[str, ...]:
        """Every metric of the protocol at every cut-off."""
        return self.protocol.names

    def searched_by(self, settings: Search) -> str:
        """See `Task.searched_by`: the protocol's first metric if none is named."""
        return metric_of(self.protocol, settings.metric)

    def prepare(
        self, recipe: Recipe, data: str | Path | None = None, progress: Progress = silent
    ) -> PreparedSplit:
        """Read and split the data; see the function `prepare`."""
        start = time.perf_counter()
        parts = read_parts(recipe.data, data, progress=progress)
        task, notes = self, []
        if data is not None:
            notes.append(OWN_DATA)
            recipe = recipe.without_numbers()
            if isinstance(task.split, Files) and list(parts) == [WHOLE]:
                of_files = [
                    f"split.{name}"
                    for name in ("without_history", "new_items", "repeats")
                    if getattr(task.split, name) != getattr(Files, name)
                ]
                RecipeError.unless(
                    not of_files,
                    f"{some(of_files)} must go with a split by files; the data are one file, which is split by time or at "
                    "random. Give a folder with a train and a test file, or leave this out.",
                )
                splitting, note = validation.default_split(parts[WHOLE])
                task = replace(task, split=splitting)
                notes.append(f"one file has no test part, so {note}")
            if isinstance(task.split, Files) and task.split.validation not in (None, *parts):
                notes.append(f"there is no part {task.split.validation!r}, so no validation part was used")
                task = replace(task, split=replace(task.split, validation=None, histories="train"))
        progress(ProgressEvent("split", 0, 1))
        strict = task.protocol.kind == "strict"
        split, share = validation.split_for(task.split, parts, strict, streams(recipe.seed, "split")["split"])
        progress(ProgressEvent("split", 1, 1))
        n_new = int(split.held_out.item_degrees[split.train.item_degrees == 0].sum())
        if data is not None and n_new:
            notes.append(
                f"{n_new:,} of {split.held_out.n_interactions:,} held-out interactions are with items that nobody has in train, "
                "which most models cannot find"
            )
        return PreparedSplit(
            recipe=replace(recipe, task=task),
            split=split,
            stopping_share=share,
            fingerprints=fingerprints_of(parts, split),
            notes=tuple(notes),
            read_seconds=time.perf_counter() - start,
        ).with_model(task.model)


def fingerprints_of(parts: Mapping[str, Interactions], split: Split) -> dict[str, str]:
    """The fingerprint of each part and, if the split rests on it, the digest of the order of the rows."""
    fingerprints = {name: part.fingerprint() for name, part in parts.items()}
    return fingerprints if split.row_order is None else {**fingerprints, "order of rows": split.row_order}


def ranking_task(recipe: Recipe, advice: str) -> RankingTask:
    """The task of a recipe, if it is that of a recommender. Raises `RecipeError`, with `advice`, otherwise."""
    if not isinstance(recipe.task, RankingTask):
        raise RecipeError(
            f"The model must be a recommender; {recipe.model.kind} is a synthesizer, which samples users. {advice}"
        )
    return recipe.task


def prepare(recipe: Recipe, *, data: str | Path | None = None, progress: Progress = silent) -> PreparedSplit:
    """Read the data of a recommender's recipe, or those at `data` instead, and split them as the recipe says.

    With `data` the settings stay, and the numbers that the recipe expects are dropped. A single file has no parts:
    if the recipe's split is by files, it is split by `validation.default_split`, by time if it has times, with a note; a
    missing validation part is noted as well. For the parts under the strict protocol see `unblur.experiment.validation`.
    """
    return ranking_task(
        recipe,
        "A synthesizer is measured on groups of users, without a split: unblur run, unblur tune, or unblur synthesize.",
    ).prepare(recipe, data, progress)


@dataclass(frozen=True, eq=False, kw_only=True)
class PreparedSplit(Prepared[Recommender, Evaluation, RankingTask]):
    """A recommender's recipe with its data read and split."""

    split: Split
    stopping_share: float | None = None
    """The fraction of each user's interactions that training stops by under the strict protocol; `None`: the spec's."""
    selections: Mapping[str, Selection] = field(default_factory=dict)
    """Re-ranked lists of the same fitted model that are measured as well, by the name of their arm."""

    def with_model(self, model: FittedSpec) -> Self:
        """See `Prepared.with_model`; under the strict protocol training stops by the last interactions."""
        if self.recipe.protocol.kind == "strict":
            model = validation.with_stopping_in_time(model, self.split.train, self.stopping_share)
        return super().with_model(model)

    @property
    def learned_from(self) -> Interactions:
        """The train part."""
        return self.split.train

    @property
    def arms(self) -> tuple[str, ...]:
        """The lists for all users that count, then the re-ranked ones."""
        return (LISTS, *self.selections)

    @property
    def identity(self) -> dict[str, Any]:
        """See `Prepared.identity`; the parts are named as well, since a split may be random."""
        return {
            **super().identity,
            "train": self.split.train.fingerprint(),
            "held_out": self.split.held_out.fingerprint(),
        }

    def judge(self, settings: Search, seed: int, run: Run) -> RankingJudge:
        """See `Prepared.judge`; settings are judged on the split's validation part, or on items held out of train."""
        recipe, strict = self.recipe, self.recipe.protocol.kind == "strict"
        return RankingJudge(
            recipe.task.searched_by(settings),
            validation.hold_outs(self.split, settings.validation, strict, seed),
            settings.users,
            seed,
            run,
            shares=recipe.model.shared() is not None,
        )

    def fit(self, seed: int, run: Run) -> Recommender:
        """See `Prepared.fit`; under the paper's protocol training stops by the validation part, if there is one."""
        rng = streams(seed, "fit")["fit"]
        return self.task.model.fit_in(run, self.split.train, rng=rng, validation=self._stopping_data)

    @property
    def _stopping_data(self) -> Interactions | None:
        """The validation part, if protocol and model stop training by it; else `None`."""
        stops = validation.stops_by_interactions(self.recipe.model)
        return self.split.validation if stops and self.recipe.protocol.kind == "paper" else None

    def measure(self, arm: str, model: Recommender, seed: int, run: Run, clock: Clock) -> Evaluation:
        """Recommend to all users that count, and evaluate the lists."""
        # The time to score is that of the lists by score alone: re-ranking has a stage of its own.
        with clock("score" if arm == LISTS else "re-rank"):
            ranking = self.recipe.protocol.rank(
                model,
                self.split,
                exclude=self.split.excluded,
                selection=self.selections.get(arm, BY_SCORE),
                progress=run.progress,
            )
        with clock("evaluate"):
            return self._evaluation(ranking)

    def _evaluation(self, ranking: Ranking) -> Evaluation:
        return self.recipe.protocol.measure(ranking, self.split, rng=self.recipe.seed)

    def summary(self, runs: Sequence[Mapping[str, Evaluation]], clock: Clock) -> Summary:
        """The measurements of the only seed, or the means over seeds and their standard deviations."""
        evaluations = [run[LISTS] for run in runs]
        notes = []
        if self._stopping_data is not None:
            notes.append(
                "the validation part decided when training stopped, and its items were left out of the lists"
            )
        measurements = evaluations[0].measurements
        if len(runs) > 1:
            measurements = _over_seeds(evaluations, self.recipe.protocol, self.recipe.seed)
            notes.append(
                f"means over {len(runs)} seeds; intervals are over users; the saved model has seed {self.recipe.seed}"
            )
        notes += [note for evaluation in evaluations for note in evaluation.notes]
        notes += self.task.model.notes_on(self.split.train)
        return Summary(measurements, tuple(notes), all_values(self.recipe.model))

    def to_plain(self, result: Evaluation) -> dict[str, Any]:
        """The lists alone, since `from_plain` evaluates them again."""
        ranking = result.ranking
        return {
            "positions": ranking.positions.tolist(),
            "scores": ranking.scores.tolist(),
            "fallback": ranking.fallback.tolist(),
            "notes": list(ranking.notes),
        }

    def from_plain(self, values: Mapping[str, Any]) -> Evaluation:
        """See `Prepared.from_plain`."""
        users = self.split.held_out.users.take(np.flatnonzero(self.recipe.protocol.counted(self.split)))
        return self._evaluation(
            Ranking(
                users,
                self.split.train.items,
                np.array(values["positions"], dtype=np.int32).reshape(len(users), -1),
                np.array(values["scores"], dtype=np.float32).reshape(len(users), -1),
                np.array(values["fallback"], dtype=bool),
                tuple(values["notes"]),
            )
        )

    @property
    def after_choice(self) -> tuple[str, ...]:
        """The item dispersion of the test set, which shows how far it is from a random draw."""
        value = validation.dispersion(self.split.train, self.split.held_out)
        return (f"item dispersion of the test set, looked at after the choice: {value:.2f}",)

    def page(
        self,
        report: Report,
        runs: Sequence[Mapping[str, Evaluation]],
        training: Sequence[Epoch],
        study: Study[Any] | None,
    ) -> Document:
        """The report, the popularity of recommended items and, for a graph filter, its response."""
        degrees, ranking = self.split.train.item_degrees, runs[0][LISTS].ranking
        recommended = exposure(ranking.positions, len(degrees), ranking.k)
        return run_page(
            report,
            concentration={
                "train": concentration(degrees, degrees),
                f"the first {ranking.k} recommended": concentration(recommended, degrees),
            },
            response=filter_response(self.recipe.model),
            training=training,
            study=study,
        )


def _over_seeds(evaluations: Sequence[Evaluation], protocol: Protocol, seed: int) -> tuple[Measurement, ...]:
    """The mean of each measurement over seeds, and its standard deviation over seeds as a further measurement.

    Intervals are bootstrapped over users, from each user's mean over seeds.
    """
    first = evaluations[0]
    values = np.mean([evaluation.per_user.values for evaluation in evaluations], axis=0)
    intervals = protocol.intervals(PerUser(first.per_user.names, values), seed)
    means, deviations = [], []
    for entry in first.measurements:
        values_of_seeds = [evaluation[entry.name].value for evaluation in evaluations]
        low, high = intervals.get(entry.name, (None, None))
        means.append(replace(entry, value=float(np.mean(values_of_seeds)), low=low, high=high))
        name, deviation = f"{entry.name} deviation over seeds", float(np.std(values_of_seeds, ddof=1))
        deviations.append(Measurement(name=name, value=deviation, n_users=entry.n_users))
    return (*means, *deviations)
