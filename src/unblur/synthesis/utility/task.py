"""The task of synthesizers: the utility of their users for a downstream recommender, measured on real users."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from unblur.data.interactions import Interactions
from unblur.data.splits import joined_items
from unblur.document.blocks import Document
from unblur.errors import RecipeError, some
from unblur.evaluation.metrics import PerUser
from unblur.evaluation.report import Report
from unblur.experiment.page import run_page
from unblur.experiment.reading import OWN_DATA, read_parts
from unblur.experiment.recipe.parts import Protocol
from unblur.experiment.recipe.toml import all_values, read_kind, read_spec
from unblur.experiment.searching import metric_of
from unblur.experiment.task import Clock, Epoch, Prepared, Summary, Task
from unblur.fitted import FittedSpec
from unblur.models.linear.ease import EASE
from unblur.models.linear.factors import TruncatedSVD
from unblur.progress import Progress, Run, silent
from unblur.randomness import streams
from unblur.recommender import RecommenderSpec
from unblur.registry import SYNTHESIZERS, recommender_spec, synthesizer_spec
from unblur.synthesis.discretization import Discretization
from unblur.synthesis.synthesizer import Synthesizer, SynthesizerSpec
from unblur.synthesis.utility.protocol import (
    Departures,
    Measured,
    Rated,
    UserGroups,
    Utility,
    grouped,
    measure_arm,
    measurements_of,
    stacked,
    training_rows,
)
from unblur.tuning.engine import Judgement, Watch
from unblur.tuning.results import Study
from unblur.tuning.settings import Search, Validation

if TYPE_CHECKING:
    from unblur.experiment.recipe.schema import Recipe

NO_SYNTHETIC, EASE_ARM = "no-synthetic", "ease"
"""The arms without synthetic users: the downstream recommender, and EASE, on the real ones."""


@dataclass(frozen=True, kw_only=True)
class UtilityTask(Task):
    """Fit a synthesizer, train a downstream recommender on its sample, and measure that on other real users.

    There is no split: `utility` divides the users into groups.
    """

    sections: ClassVar[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
        "model": partial(read_kind, synthesizer_spec, section="model"),
        "downstream": partial(read_kind, recommender_spec, section="downstream", default=TruncatedSVD.kind),
        "utility": partial(read_spec, Utility, section="utility"),
        "protocol": partial(read_spec, Protocol, section="protocol"),
    }
    purpose: ClassVar[str] = "A synthesizer is measured on groups of users"
    kinds: ClassVar[Mapping[str, str]] = SYNTHESIZERS
    chosen_anew: ClassVar[bool] = False
    model: SynthesizerSpec
    downstream: RecommenderSpec = field(default_factory=TruncatedSVD)
    """The downstream recommender."""
    utility: Utility = field(default_factory=Utility)
    """The groups of users, and the training data of the downstream recommender."""

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms of the synthesizer; then no synthetic users, and EASE."""
        return (*self.model.arms, NO_SYNTHETIC, EASE_ARM)

    @property
    def measured(self) -> tuple[str, ...]:
        """The names of all measurements of one run; several runs add best run and deviation of those compared."""
        names = [f"{arm} {name}" for arm in self.arms for name in self.protocol.names]
        pairs = [
            f"{left} − {right} {name}"
            for name in self.utility.metrics
            if name in self.protocol.names
            for left, right in combinations(self.arms, 2)
        ]
        return (*names, *pairs)

    @property
    def departures(self) -> Departures:
        """The departures in force: those of `utility` under the paper's protocol, none under strict."""
        return self.utility.departures if self.protocol.kind == "paper" else Departures()

    def searched_by(self, settings: Search) -> str:
        """See `Task.searched_by`: the first compared metric if none is named.

        The users to search by are those of `utility`, and a pruner ends settings between trainings.
        """
        RecipeError.unless(
            settings.users is None and settings.validation == Validation(),
            "A search of synthesizers judges by the users that utility.search_users sets apart; saw search.users or "
            "search.validation. Leave them out.",
        )
        RecipeError.unless(
            settings.pruner != "median",
            "The pruner of a search of synthesizers must be halving, which ends settings between trainings; saw median, "
            "which needs epochs. Give --pruner halving.",
        )
        RecipeError.unless(
            settings.pruner == "none" or settings.trainings > 1,
            f"--pruner {settings.pruner} ends settings between trainings; with --trainings 1 there is only one. Give "
            "more trainings, or leave the pruner out.",
        )
        return metric_of(self.protocol, settings.metric or self.utility.metrics[0], measured=True)

    def prepare(
        self, recipe: Recipe, data: str | Path | None = None, progress: Progress = silent
    ) -> PreparedUsers:
        """Read the data of a synthesizer's recipe, or the data at `data`, and divide their users into groups.

        The caller's own data are one file, whose users are divided, or parts that share no user. Raises `RecipeError` for
        parts that are missing or share users, `DataError` for data that cannot be read.
        """
        start = time.perf_counter()
        notes: list[str] = []
        if self.protocol.kind == "strict":
            recipe = recipe.with_model(self.model.without_departures())
            notes.append(
                "no departure of the authors' code is in force: likes only, separate groups of users"
            )
        if data is not None:
            notes.append(OWN_DATA)
            recipe = recipe.without_numbers()
        departures, utility = self.departures, self.utility
        liked = observed = read_parts(recipe.data, data, progress=progress)
        fingerprints = {name: part.fingerprint() for name, part in liked.items()}
        disliked = departures.dislikes_are_positives or departures.dislikes_are_held_out
        if disliked and utility.observed is not None:
            # The same data with every rating as an interaction.
            all_ratings = (
                replace(recipe.data, reading=utility.observed)
                if data is None
                else replace(
                    recipe.data,
                    read=replace(recipe.data.read, min_rating=None, ratings=None, rating="ignore"),
                )
            )
            observed = read_parts(all_ratings, data, progress=progress)
            fingerprints |= {
                f"{name} ({utility.observed})": part.fingerprint() for name, part in observed.items()
            }
        if departures.in_force():
            notes.append(f"departures of the authors' code in force: {', '.join(departures.in_force())}")
        learnable, reported = _two_sets(_rated(liked, observed), utility)
        return PreparedUsers(
            recipe=recipe,
            learnable=learnable,
            reported=reported,
            groups=grouped(learnable, reported, utility, departures),
            fingerprints=fingerprints,
            notes=tuple(notes),
            read_seconds=time.perf_counter() - start,
        ).with_model(recipe.model)


def utility_task(recipe: Recipe, advice: str) -> UtilityTask:
    """The task of a synthesizer's recipe. Raises `RecipeError`, with `advice`, for the recipe of a recommender."""
    if not isinstance(recipe.task, UtilityTask):
        raise RecipeError(f"There must be a synthesizer; {recipe.model.kind} is a recommender. {advice}")
    return recipe.task


@dataclass(frozen=True, eq=False, kw_only=True)
class PreparedUsers(Prepared[Synthesizer, Measured, UtilityTask]):
    """A synthesizer's recipe with its data read and its users grouped."""

    learnable: Rated
    """The users that may be learned from."""
    reported: Rated
    """The users that metrics are reported on."""
    groups: UserGroups
    """Both, each user in one role."""
    shortened: tuple[str, ...] = ()
    """Notes on settings that were lowered for these users."""

    def with_model(self, model: FittedSpec) -> Self:
        """See `Prepared.with_model`: batches are cut to the number of training users."""
        assert isinstance(model, SynthesizerSpec)
        within, remarks = model.within(self.groups.learned.liked, all_teach=True)
        return replace(self, recipe=self.recipe.with_model(within), shortened=remarks)

    def searching(self) -> Self:
        """A copy that evaluates on the users to search by, who are neither learned from nor reported on."""
        task = self.task
        groups = grouped(self.learnable, self.reported, task.utility, task.departures, judged="searching")
        return replace(self, groups=groups).with_model(task.model)

    @property
    def learned_from(self) -> Interactions:
        """The likes of the training users."""
        return self.groups.learned.liked

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms of the task, but for multi-resolution sampling if it is measured on the sample of full resolution."""
        left_out = "multi-resolution" if self.task.departures.one_sample else ""
        return tuple(arm for arm in self.task.arms if arm != left_out)

    def fit(self, seed: int, run: Run) -> Synthesizer:
        """See `Prepared.fit`; a synthesizer that stops early gets the group of users to stop by."""
        model, rng = self.task.model, streams(seed, "fit")["fit"]
        validation = self.groups.stopping if model.stops_by_users else None
        return model.fit_in(run, self.learned_from, rng=rng, validation=validation)

    def measure(self, arm: str, model: Synthesizer, seed: int, run: Run, clock: Clock) -> Measured:
        """Sample by the arm, and measure the downstream recommender."""
        task, sample = self.task, None
        with clock("score"):
            if arm in task.model.arms:
                with clock("sample"):
                    sample = self.sample(model, arm, seed)
            return measure_arm(
                EASE() if arm == EASE_ARM else task.downstream,
                training_rows(self.groups, sample, task.utility, task.departures),
                self.groups,
                task.protocol,
                task.departures,
                rng=streams(seed, "downstream")["downstream"],
                run=Run(
                    run.device, run.progress
                ),  # no checkpoints: finished arms are stored, not their trainings
            )

    def sample(self, model: Synthesizer, arm: str, seed: int) -> Interactions:
        """As many synthetic users as there are training users, sampled by the arm."""
        rule = Discretization(rule="zero-threshold") if self.task.departures.zero_threshold else None
        random = streams(seed, f"sample {arm}")[f"sample {arm}"]
        return model.arm(arm, rule).sample(self.learned_from.n_users, rng=random)

    @property
    def stochastic(self) -> bool:
        """True: every sample is random."""
        return True

    def judge(self, settings: Search, seed: int, run: Run) -> UtilityJudge:
        """See `Prepared.judge`: on users who neither stop a training nor are reported on."""
        metric = self.task.searched_by(settings)
        return UtilityJudge(self.searching(), metric, settings.trainings, seed, run)

    def value(self, metric: str, seed: int, run: Run) -> float:
        """The mean of a metric of the spec's own arm, for one training: the objective of a search."""
        result = self.measure(self.task.model.arm, self.fit(seed, run), seed, run, Clock())
        return float(result.values[metric].mean())

    def summary(self, runs: Sequence[Mapping[str, Measured]], clock: Clock) -> Summary:
        """Means over runs, the best run, the spread, and paired differences with intervals."""
        task, n_runs = self.task, len(runs)
        first, seed = task.arms[0], self.recipe.seed
        measurements = measurements_of(
            [{arm: run.get(arm, run[first]).values for arm in task.arms} for run in runs],
            compared=task.utility.metrics,
            resamples=task.protocol.resamples,
            rng=streams(seed, "bootstrap")["bootstrap"],
        )
        notes = [*self.shortened, *self.groups.notes]
        unmeasured = [name for name in task.utility.metrics if name not in task.protocol.names]
        if unmeasured:
            notes.append(
                "not compared, because they are not in protocol.metrics and protocol.cutoffs: "
                f"{', '.join(unmeasured)}"
            )
        notes += [note for run in runs for note in run[NO_SYNTHETIC].notes]
        fit, score, sample = (clock.seconds[stage] / n_runs for stage in ("fit", "score", "sample"))
        # The clock of "score" runs while an arm is sampled.
        notes.append(
            f"seconds a run: training {fit:.1f}, sampling {sample:.1f}, downstream recommenders {score - sample:.1f}"
        )
        if n_runs > 1:
            notes.append(
                f"means over {n_runs} runs; intervals are over users and runs; the saved one has seed {seed}"
            )
        spec = {**all_values(task.model), **{name: task.facts()[name] for name in ("downstream", "utility")}}
        return Summary(measurements, tuple(notes), spec)

    def to_plain(self, result: Measured) -> dict[str, Any]:
        """See `Prepared.to_plain`."""
        return {
            "names": list(result.values.names),
            "values": result.values.values.tolist(),
            "notes": list(result.notes),
        }

    def from_plain(self, values: Mapping[str, Any]) -> Measured:
        """See `Prepared.from_plain`."""
        figures = np.array(values["values"], dtype=np.float64).reshape(-1, len(values["names"]))
        return Measured(PerUser(tuple(values["names"]), figures), tuple(values["notes"]))

    def page(
        self,
        report: Report,
        runs: Sequence[Mapping[str, Measured]],
        training: Sequence[Epoch],
        study: Study[Any] | None,
    ) -> Document:
        """See `Prepared.page`: the report, and the search if there was one."""
        return run_page(report, study=study)


class UtilityJudge:
    """Train settings of a synthesizer and judge them by the utility of their users."""

    shares = False
    n_fits = 1

    def __init__(self, prepared: PreparedUsers, metric: str, trainings: int, seed: int, run: Run) -> None:
        """`prepared` evaluates on the users to search by; a setting's value is the mean of `trainings` trainings."""
        self.metric = metric
        self.n_users = int((prepared.groups.held_out.user_degrees > 0).sum())
        mean = f", the mean of {trainings} trainings" if trainings > 1 else ""
        self.how = f"users who neither stop a training nor are reported on{mean}"
        self.identity = {name: value for name, value in prepared.identity.items() if name != "model"}
        self._prepared, self._seed, self._run = prepared, seed, run

    def __call__(self, spec: SynthesizerSpec, training: int, watch: Watch) -> Judgement:
        """The value of one training of a setting."""
        prepared = self._prepared.with_model(spec)
        return Judgement(prepared.value(self.metric, self._seed + training, self._run))

    def together(self, specs: Sequence[SynthesizerSpec]) -> Sequence[float]:
        """See `tuning.engine.SettingJudge`: nothing is shared."""
        raise NotImplementedError


def _rated(liked: Mapping[str, Interactions], observed: Mapping[str, Interactions]) -> dict[str, Rated]:
    """The parts over one item vocabulary, with the users of their observed pairs."""
    items, rated = joined_items(*observed.values()), {}
    for name, part in observed.items():
        pairs = part.onto(items=items).binarized()
        rated[name] = Rated(liked[name].binarized().onto(users=pairs.users, items=items), pairs)
    return rated


def _two_sets(parts: Mapping[str, Rated], utility: Utility) -> tuple[Rated, Rated]:
    """Users that may be learned from, and users to report on, each labelled 0, 1, 2, …."""
    if len(parts) == 1:
        (users,) = parts.values()
        order = streams(utility.hold_out_seed, "own users")["own users"].permutation(users.liked.n_users)
        size = max(1, round(utility.report_users * len(order)))
        return _stacked([users.take(np.sort(order[size:]))]), _stacked([users.take(np.sort(order[:size]))])
    names = (*utility.learn, utility.report)
    RecipeError.unless(
        parts.keys() >= set(names),
        f"The data must have the parts {', '.join(names)}; saw {some(sorted(parts))}. Name others in "
        "utility.learn and utility.report, or give one file.",
    )
    for left, right in combinations((parts[name].liked.users for name in names), 2):
        RecipeError.unless(
            left.kind != right.kind or (left.positions_or_missing(right) < 0).all(),
            "Utility must be measured on users that no model learned from; the parts of these data share users. "
            "Give all interactions in one file: its users are divided.",
        )
    return _stacked([parts[name] for name in utility.learn]), _stacked([parts[utility.report]])


def _stacked(parts: list[Rated]) -> Rated:
    return Rated(stacked([part.liked for part in parts]), stacked([part.observed for part in parts]))
