"""The interface of a task, the only one that runs, searches and workers use.

An arm is one of the conditions that a fitted model is measured under, side by side: the lists of a recommender are its only
one, while a synthesizer is measured by what recommenders learn from different samples. Also the `Clock` and the
`TrainingLog` with which a run follows the work of a task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeAlias, cast

from typing_extensions import TypeVar

from unblur.data.interactions import Interactions
from unblur.experiment.recipe.parts import Protocol
from unblur.experiment.recipe.toml import all_values, first_values, recipe_table
from unblur.fitted import Fitted, FittedSpec
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.tuning.engine import SettingJudge
from unblur.tuning.results import Study
from unblur.tuning.settings import Search

if TYPE_CHECKING:
    from unblur.document.blocks import Document
    from unblur.evaluation.report import Measurement, Report
    from unblur.experiment.recipe.schema import Recipe

ModelT = TypeVar("ModelT", bound=Fitted)
"""A fitted model: a recommender or a synthesizer."""
ArmT = TypeVar("ArmT")
"""The result of measuring one arm of a run."""
Epoch: TypeAlias = tuple[float, float, float | None]
"""(number, loss, metric that training stops by, `None` if it was not evaluated)."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A spec of the task of a recipe: the model, the settings around it, and the measurements."""

    sections: ClassVar[Mapping[str, Callable[[Mapping[str, Any]], Any]]]
    """The sections of a recipe that are fields of the task, in the order of writing, and the reader of each."""
    purpose: ClassVar[str]
    """The task in words, for a message about a section that it does not have."""
    kinds: ClassVar[Mapping[str, str]]
    """The registry's table of the kinds of models that the task is for."""
    chosen_anew: ClassVar[bool]
    """True if the strict protocol chooses hyper-parameters anew (see `unblur.experiment.validation`)."""
    model: FittedSpec
    protocol: Protocol = field(default_factory=Protocol)

    @classmethod
    def from_tables(cls, tables: Mapping[str, Mapping[str, Any]]) -> Self:
        """The task that these sections of a recipe describe; a missing section has its defaults.

        Raises `RecipeError`, naming the section, for an entry that the section cannot have.
        """
        return cls(**{section: read(tables.get(section, {})) for section, read in cls.sections.items()})

    def tables(self) -> dict[str, dict[str, Any]]:
        """The sections in the form of a recipe, every hyper-parameter included."""
        return {section: recipe_table(getattr(self, section)) for section in self.sections}

    def facts(self) -> dict[str, dict[str, Any]]:
        """Plain values of every section, which must match for kept results to be used again."""
        return {section: all_values(getattr(self, section)) for section in self.sections}

    @property
    @abstractmethod
    def measured(self) -> tuple[str, ...]:
        """The names of all measurements of a run."""

    @abstractmethod
    def searched_by(self, settings: Search) -> str:
        """The metric that a search with these settings maximises; known before any data are read.

        Raises `RecipeError` or `SpecError` for settings that do not apply to the task.
        """

    @abstractmethod
    def prepare(
        self, recipe: Recipe, data: str | Path | None = None, progress: Progress = silent
    ) -> Prepared[Any, Any]:
        """Read the data of `recipe`, whose task this is, or those at `data`, and prepare them for a run."""

    def with_model(self, model: FittedSpec) -> Self:
        """A copy with another spec of the model."""
        return replace(self, model=model)

    @property
    def subject(self) -> tuple[object, ...]:
        """The values, apart from data and hyper-parameters, that must stay for published numbers to apply."""
        return (
            self.model.kind,
            self.protocol.kind,
            self.protocol.averaging,
            *(getattr(self, name) for name in self.sections if name not in ("model", "protocol")),
        )


TaskT_co = TypeVar("TaskT_co", bound=Task, covariant=True, default=Task)


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared(ABC, Generic[ModelT, ArmT, TaskT_co]):
    """A recipe with its data read, ready to fit its model and measure it arm by arm."""

    recipe: Recipe
    """The recipe as it will run: without the published numbers if the data are the caller's own."""
    fingerprints: Mapping[str, str]
    """``sha256:…`` of each part of the data."""
    notes: tuple[str, ...]
    """Notes for the report about the data."""
    read_seconds: float
    """The time to read and check the data."""

    @property
    def task(self) -> TaskT_co:
        """The task of the recipe."""
        return cast("TaskT_co", self.recipe.task)

    @property
    @abstractmethod
    def learned_from(self) -> Interactions:
        """The data that the model is fitted to."""

    @property
    @abstractmethod
    def arms(self) -> tuple[str, ...]:
        """The names of the arms, in the order in which each fitted model is measured."""

    @abstractmethod
    def fit(self, seed: int, run: Run) -> ModelT:
        """Fit the recipe's model with one seed."""

    @abstractmethod
    def measure(self, arm: str, model: ModelT, seed: int, run: Run, clock: Clock) -> ArmT:
        """Measure one arm of a model that was fitted with `seed`."""

    @abstractmethod
    def summary(self, runs: Sequence[Mapping[str, ArmT]], clock: Clock) -> Summary:
        """Summarise the measurements of all seeds; `clock` has the seconds that they took."""

    @abstractmethod
    def to_plain(self, result: ArmT) -> dict[str, Any]:
        """The result of an arm as JSON values, to be kept."""

    @abstractmethod
    def from_plain(self, values: Mapping[str, Any]) -> ArmT:
        """The result of an arm from its JSON values. Raises `KeyError`, `TypeError` or `ValueError` for other values."""

    @property
    def after_choice(self) -> tuple[str, ...]:
        """Notes about the test data, which may be looked at only after a setting is chosen."""
        return ()

    @property
    def stochastic(self) -> bool:
        """True if another seed can give another result."""
        return self.recipe.model.stochastic

    @abstractmethod
    def page(
        self,
        report: Report,
        runs: Sequence[Mapping[str, ArmT]],
        training: Sequence[Epoch],
        study: Study[Any] | None,
    ) -> Document:
        """The page of the report, with plots of the arms' results, of the training and, if there was one, of the search."""

    @abstractmethod
    def judge(self, settings: Search, seed: int, run: Run) -> SettingJudge[Any]:
        """The judge of a search over settings of the model, which uses validation data alone."""

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values that must match for kept results of arms to be used again."""
        sections = {section: first_values(getattr(self.task, section)) for section in self.task.sections}
        return {**sections, "data": dict(self.fingerprints)}

    def with_model(self, model: FittedSpec) -> Self:
        """A copy with another spec of the model, for the same data."""
        return replace(self, recipe=self.recipe.with_model(model))


@dataclass(frozen=True)
class Summary:
    """The results of a run over all its seeds."""

    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...]
    spec: Mapping[str, Any]
    """The settings for the report."""


class Clock:
    """A stopwatch that adds up the seconds of each stage: ``with clock("fit"): …``."""

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        """`seconds` are earlier ones to add to, by stage."""
        self.seconds: defaultdict[str, float] = defaultdict(float, seconds or {})

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += perf_counter() - start


class TrainingLog:
    """An observer that passes events on and records the epochs of the last training."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.epochs: list[Epoch] = []
        self.raised: BaseException | None = None
        """The exception of the observer behind it, which is not a failure of the training."""

    def __call__(self, event: ProgressEvent, /) -> None:
        """Record the event if it is an epoch, and pass it on."""
        if event.kind == "epoch" and not event.part:
            if self.epochs and event.done <= self.epochs[-1][0]:  # another training has begun
                self.epochs.clear()
            metric = float(event.values[event.metric]) if event.metric else None
            self.epochs.append((float(event.done), float(event.values["loss"]), metric))
        try:
            self.progress(event)
        except BaseException as problem:
            self.raised = problem
            raise
