"""What a recipe is for: the protocol by which runs, searches and workers know a task, and nothing else of it.

A run watches the work of a task by a `Clock` and a `TrainingLog`.
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
from unblur.experiment.recipe.toml import described, plain
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
"""What is fitted: a recommender, or a synthesizer."""
ArmT = TypeVar("ArmT")
"""What one arm of a run is measured to be."""
Epoch: TypeAlias = tuple[float, float, float | None]
"""The epoch's number, its loss, and the metric that training stops by where it was judged."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A spec of what is done with the data of a recipe: the model, what else takes part, and what is measured."""

    sections: ClassVar[Mapping[str, Callable[[Mapping[str, Any]], Any]]]
    """The sections of a recipe that are its fields, in the order in which they are written, and what reads each."""
    purpose: ClassVar[str]
    """What it does, for a message about a section that it does not have."""
    kinds: ClassVar[Mapping[str, str]]
    """The kinds of models that it is for, as the registry has them."""
    chosen_anew: ClassVar[bool]
    """Whether the strict protocol chooses hyper-parameters anew (see `unblur.experiment.validation`)."""
    model: FittedSpec
    protocol: Protocol = field(default_factory=Protocol)

    @classmethod
    def from_tables(cls, tables: Mapping[str, Mapping[str, Any]]) -> Self:
        """The task that these sections of a recipe describe; one that is left out is empty.

        Raises `RecipeError`, naming the section, where there is anything that a section cannot hold.
        """
        return cls(**{section: read(tables.get(section, {})) for section, read in cls.sections.items()})

    def tables(self) -> dict[str, dict[str, Any]]:
        """The sections as a recipe has them, every hyper-parameter included."""
        return {section: plain(getattr(self, section)) for section in self.sections}

    def facts(self) -> dict[str, dict[str, Any]]:
        """Plain values of every section: what kept results must agree in."""
        return {section: described(getattr(self, section)) for section in self.sections}

    @property
    @abstractmethod
    def measured(self) -> tuple[str, ...]:
        """The names of all that one run measures."""

    @abstractmethod
    def searched_by(self, settings: Search) -> str:
        """The metric that a search with these settings maximises, before any data are read.

        Raises `RecipeError` or `SpecError` for settings that do not apply to the task.
        """

    @abstractmethod
    def prepare(
        self, recipe: Recipe, data: str | Path | None = None, progress: Progress = silent
    ) -> Prepared[Any, Any]:
        """Read the data of `recipe`, whose task this is, or those at `data`, and make them ready to be run on."""

    def with_model(self, model: FittedSpec) -> Self:
        """The same task for another spec."""
        return replace(self, model=model)

    @property
    def subject(self) -> tuple[object, ...]:
        """What published numbers speak of, next to data and hyper-parameters."""
        return (
            self.model.kind,
            self.protocol.kind,
            self.protocol.averaging,
            *(getattr(self, name) for name in self.sections if name not in ("model", "protocol")),
        )


TaskT_co = TypeVar("TaskT_co", bound=Task, covariant=True, default=Task)


@dataclass(frozen=True, eq=False, kw_only=True)
class Prepared(ABC, Generic[ModelT, ArmT, TaskT_co]):
    """A recipe with its data read: what fits its model, and measures it arm by arm."""

    recipe: Recipe
    """As it will run: without the published numbers where the data are the caller's."""
    fingerprints: Mapping[str, str]
    """``sha256:…`` of each part of the data."""
    notes: tuple[str, ...]
    """Notes for the report about the data."""
    read_seconds: float
    """How long it took to read and check the data."""

    @property
    def task(self) -> TaskT_co:
        """That of the recipe."""
        return cast("TaskT_co", self.recipe.task)

    @property
    @abstractmethod
    def learned_from(self) -> Interactions:
        """What the model is fitted to."""

    @property
    @abstractmethod
    def arms(self) -> tuple[str, ...]:
        """The names of what is measured of each fitted model, one after the other."""

    @abstractmethod
    def fit(self, seed: int, run: Run) -> ModelT:
        """The recipe's model, fitted with one seed."""

    @abstractmethod
    def measure(self, arm: str, model: ModelT, seed: int, run: Run, clock: Clock) -> ArmT:
        """One arm of a model that was fitted with `seed`."""

    @abstractmethod
    def summary(self, runs: Sequence[Mapping[str, ArmT]], clock: Clock) -> Summary:
        """The measurements of all seeds together; `clock` holds the seconds that they took."""

    @abstractmethod
    def plain(self, measured: ArmT) -> dict[str, Any]:
        """A measured arm as JSON values, to be kept."""

    @abstractmethod
    def measured(self, plain: Mapping[str, Any]) -> ArmT:
        """The arm that `plain` was made of. Raises `KeyError`, `TypeError` or `ValueError` for other values."""

    @property
    def after_choice(self) -> tuple[str, ...]:
        """Notes on the test data that may be read once a setting is chosen."""
        return ()

    @property
    def stochastic(self) -> bool:
        """Whether another seed can come to another result."""
        return self.recipe.model.stochastic

    @abstractmethod
    def page(
        self,
        report: Report,
        runs: Sequence[Mapping[str, ArmT]],
        training: Sequence[Epoch],
        study: Study[Any] | None,
    ) -> Document:
        """The report as a page, with what the arms have to show, and the plots of a search that it came of."""

    @abstractmethod
    def judge(self, settings: Search, seed: int, run: Run) -> SettingJudge[Any]:
        """What a search judges settings of the model by: validation data alone."""

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values in which kept arms must agree."""
        return {**self.task.facts(), "data": dict(self.fingerprints)}

    def with_model(self, model: FittedSpec) -> Self:
        """The same data, made ready for another spec."""
        return replace(self, recipe=self.recipe.with_model(model))


@dataclass(frozen=True)
class Summary:
    """What came of all seeds of a run."""

    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...]
    spec: Mapping[str, Any]
    """The settings that the report states."""


class Clock:
    """Seconds of each stage, added up: ``with clock("fit"): …``."""

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        """`seconds` are those from before, by stage."""
        self.seconds: defaultdict[str, float] = defaultdict(float, seconds or {})

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count what happens inside."""
        start = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += perf_counter() - start


class TrainingLog:
    """An observer that passes events on, and keeps the epochs of the last training it saw."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.epochs: list[Epoch] = []
        self.raised: BaseException | None = None
        """What the observer behind it raised, which is no failure of the work."""

    def __call__(self, event: ProgressEvent, /) -> None:
        """Keep the event where it is an epoch, and pass it on."""
        if event.kind == "epoch" and not event.part:
            if self.epochs and event.done <= self.epochs[-1][0]:  # a training begins
                self.epochs.clear()
            metric = float(event.values[event.metric]) if event.metric else None
            self.epochs.append((float(event.done), float(event.values["loss"]), metric))
        try:
            self.progress(event)
        except BaseException as problem:
            self.raised = problem
            raise
