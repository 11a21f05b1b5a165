"""Specs: frozen, keyword-only, validated hyper-parameters, and what a search may try in their place."""

from __future__ import annotations

import json
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    dataclass_transform,
    overload,
)

import pydantic
from pydantic.dataclasses import dataclass as pydantic_dataclass

from unblur.errors import SpecError, nearest, shortened, warn_outdated

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from unblur.data.interactions import Interactions
    from unblur.progress import Progress, Run
    from unblur.randomness import RNG
    from unblur.training.settings import Plan

T = TypeVar("T")


# The whole numbers of specs. Each has an upper bound, far above what anybody uses: without one, a saved model or a recipe from
# elsewhere makes a load or a fit allocate, or loop, without end.
Count: TypeAlias = Annotated[int, pydantic.Field(gt=0, le=2**31 - 1)]
"""A number of users, items, rows or trials, of which 32-bit positions are the limit of a sparse matrix."""
CountOrZero: TypeAlias = Annotated[int, pydantic.Field(ge=0, le=2**31 - 1)]
"""A `Count`, or 0."""
Rounds: TypeAlias = Annotated[int, pydantic.Field(gt=0, le=1_000_000)]
"""What is done again and again: epochs, iterations, trainings. A million of a millisecond each take a quarter of an hour."""
Steps: TypeAlias = Annotated[int, pydantic.Field(gt=0, le=10_000)]
"""Steps of a process, with some numbers kept for each: ten times the thousand of Ho et al. (NeurIPS 2020)."""
Depth: TypeAlias = Annotated[int, pydantic.Field(gt=0, le=100)]
"""Layers one after the other: some times those of the deepest networks of this field."""
Width: TypeAlias = Annotated[int, pydantic.Field(gt=0, le=65_536)]
"""Numbers in a layer, an embedding or a latent: ten times the widest of this field, which have some thousands."""
WidthsOrNone: TypeAlias = Annotated[tuple[Width, ...], pydantic.Field(max_length=100)]
"""The widths of layers, as many as `Depth` allows; none if it is empty."""
Widths: TypeAlias = Annotated[tuple[Width, ...], pydantic.Field(min_length=1, max_length=100)]
"""The widths of at least one layer."""


class Spec:
    """Hyper-parameters of one kind of fitted thing, and the capabilities that follow from them.

    A search, a run or a command reads these capabilities of the instance, since they depend on values.
    """

    kind: ClassVar[str]
    """The name in recipes and saved models."""
    stochastic: ClassVar[bool] = False
    """True if another `rng` gives another result."""
    zero_without_signal: ClassVar[bool] = False
    """True if the score of an item is 0 where nothing was learned that connects it with the history."""
    personal: ClassVar[bool] = True
    """False if all users get the same scores, whatever their history."""
    fitted: ClassVar[str]
    """The class of what is fitted: ``module:Class`` of a `unblur.fitted.Fitted`."""

    def plans(self) -> Mapping[str, Plan]:
        """The plans of its trainings by epochs, by name; empty if nothing is trained by epochs."""
        return {}

    def space(self) -> tuple[Dimension, ...]:
        """The default search space; empty if there is nothing to choose."""
        return ()

    def shared(self) -> SharedSearch | None:
        """A function that fits many settings at about the cost of one; `None` if each is fitted alone."""
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle it as its plain values: a read-only table within it can be neither."""
        return spec_from_dict, (type(self), spec_to_dict(self))

    @property
    def stops(self) -> bool:
        """True if a training of it stops early by validation data."""
        return any(plan.stopping is not None for plan in self.plans().values())

    @property
    def needs_timestamps(self) -> bool:
        """True if it can be fitted only to interactions with timestamps."""
        return False

    @property
    def private(self) -> bool:
        """True if it is fitted with differential privacy."""
        return False


Point: TypeAlias = Mapping[str, Any]
"""A value for each dimension, by name."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice among values."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        SpecError.unless(self.values, "A choice must have values to try; there are none. Give some.")

    def at(self, position: float) -> Any:
        """The value at a position between 0 and 1."""
        return self.values[min(int(position * len(self.values)), len(self.values) - 1)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values of all fields."""
        return {"choice": list(self.values)}


@dataclass(frozen=True, slots=True)
class Range:
    """A number between two: uniform, in steps, or uniform in its logarithm."""

    low: float
    high: float
    """Not below `low`; both are exponents of e if `logarithmic`."""
    step: float | None = None
    """Round to multiples of this, as hyperopt's quniform does."""
    logarithmic: bool = False

    def __post_init__(self) -> None:
        ends = math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high
        SpecError.unless(
            ends and (self.step is None or 0 < self.step < math.inf),
            f"A range must run from a number up to another, in steps above 0; saw {self.low}, {self.high}, "
            f"{self.step}. Correct it.",
        )

    def at(self, position: float) -> float:
        """The value at a position between 0 and 1."""
        value = self.low + position * (self.high - self.low)
        return math.exp(value) if self.logarithmic and self.step is None else self.snapped(value)

    def snapped(self, value: float) -> float:
        """Return the nearest multiple of the step if there is one."""
        # Twelve digits: the rounding error of a multiple of a decimal step in binary comes after them.
        return value if self.step is None else float(round(round(value / self.step) * self.step, 12))

    def values(self) -> tuple[float, ...] | None:
        """All values, in order; `None` if they are infinitely many."""
        if self.low == self.high:
            return (self.at(0),)
        if self.step is None:
            return None
        first, last = round(self.low / self.step), round(self.high / self.step)
        return tuple(float(round(at * self.step, 12)) for at in range(first, last + 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values of all fields."""
        name = "loguniform" if self.logarithmic else "uniform" if self.step is None else "quniform"
        return {name: [self.low, self.high, *([] if self.step is None else [self.step])]}


def _unchanged(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Dimension:
    """One dimension of a search space."""

    name: str
    """Its name in reports: a path of the spec, or the name that another program has for it."""
    values: Choice | Range
    paths: tuple[str, ...]
    """The dotted paths in the spec that take the value."""
    convert: Callable[[Any], Any] = field(default=_unchanged, compare=False)
    """From the value of the dimension to that of the paths."""

    def all(self) -> tuple[Any, ...] | None:
        """All values, in order; `None` if they are infinitely many."""
        return self.values.values if isinstance(self.values, Choice) else self.values.values()

    def to_dict(self) -> dict[str, Any]:
        """Plain values of all fields."""
        return {"name": self.name, **self.values.to_dict(), "paths": list(self.paths)}


def choices(**values: tuple[Any, ...]) -> tuple[Dimension, ...]:
    """Return a dimension for each path; ``__`` in a keyword stands for the dot: ``choices(low_pass__rank=(64, 128))``.

    Tuples among the values become lists, as JSON and TOML have them.
    """
    return tuple(
        Dimension(
            path,
            Choice(tuple(list(value) if isinstance(value, tuple) else value for value in options)),
            (path,),
        )
        for path, options in ((name.replace("__", "."), options) for name, options in values.items())
    )


def whole(path: str, low: int, high: int, step: int = 1) -> Dimension:
    """Return a dimension of whole numbers from `low` to `high` in steps."""
    return Dimension(path, Range(low, high, step), (path,), round)


def rate(path: str, low: float, high: float) -> Dimension:
    """Return a dimension of numbers between two above 0, uniform in their logarithm."""
    return Dimension(path, Range(math.log(low), math.log(high), logarithmic=True), (path,))


class SharedRankings(Protocol):
    """Many settings of one kind, fitted together, that rank items."""

    def rankings(
        self, histories: Interactions, *, k: int, settings: Sequence[int] | None, progress: Progress
    ) -> Iterator[tuple[slice, NDArray[np.int32]]]:
        """Yield blocks of rows, each with the lists (settings, rows, k) of some settings, or of all."""
        ...


class SharedSearch(Protocol):
    """Fits many settings of one kind at about the cost of one."""

    def __call__(
        self, specs: Sequence[Spec], train: Interactions, *, rng: RNG | None, run: Run
    ) -> SharedRankings:
        """Fit all of `specs` to `train`."""
        ...


@dataclass(frozen=True)
class Migration:
    """The changes that turn a table of an earlier version into one that today's spec reads."""

    renamed: Mapping[str, str]
    """Old name → new name."""
    dropped: Mapping[str, Any]
    """Old name → the value with which it did nothing."""
    earlier: Mapping[str, Any]
    """Name → its default in recipes of schema 1, where that has changed since."""
    switches: Mapping[str, tuple[str, str]]
    """Name of a field that was true or false → the words that stand for false and for true today."""
    added: Mapping[str, Any]
    """Name of a field of a later version → the value that stands for what there was before it."""


@overload
def spec(cls: type[T], /) -> type[T]: ...
@overload
def spec(
    *,
    renamed: Mapping[str, str] = ...,
    dropped: Mapping[str, Any] = ...,
    earlier: Mapping[str, Any] = ...,
    switches: Mapping[str, tuple[str, str]] = ...,
    added: Mapping[str, Any] = ...,
) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, kw_only_default=True)
def spec(
    cls: type[T] | None = None,
    /,
    *,
    renamed: Mapping[str, str] | None = None,
    dropped: Mapping[str, Any] | None = None,
    earlier: Mapping[str, Any] | None = None,
    switches: Mapping[str, tuple[str, str]] | None = None,
    added: Mapping[str, Any] | None = None,
) -> Any:
    """Make a class of annotated fields a spec.

    A spec is frozen and takes keywords only. Types are strict (``"3"`` is not 3), unknown names are refused with
    the nearest real one, and every refusal is a `SpecError`.

    - `renamed`: old name → new name of fields, for what earlier versions wrote (see `migrated`).
    - `dropped`: fields that are gone, with the value at which they did nothing.
    - `earlier`: fields whose default has changed, with the plain value of the earlier one (see `with_earlier_defaults`).
    - `switches`: fields that were true or false, with the words for false and for true that they take now.
    - `added`: fields that came later, with the value that stands for what there was before, under which kept files are found.
    """

    def decorate(target: type[T]) -> type[T]:
        settings = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_enum_values=True)
        decorated = pydantic_dataclass(frozen=True, kw_only=True, config=settings)(target)
        construct = decorated.__init__

        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            try:
                construct(self, *args, **kwargs)
            except pydantic.ValidationError as problem:
                raise _explained(decorated, problem) from None

        decorated.__init__ = __init__  # type: ignore[method-assign]
        changes = [dict(change or {}) for change in (renamed, dropped, earlier, switches, added)]
        if any(changes):
            _MIGRATIONS[decorated] = Migration(*changes)
        return cast("type[T]", decorated)

    return decorate if cls is None else decorate(cls)


_MIGRATIONS: dict[type[Any], Migration] = {}
_UNCHANGED = Migration({}, {}, {}, {}, {})


def migrated(cls: type[Any], values: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a table that an earlier version may have written as one of today, and a sentence on each value that it loses.

    Every reader of what is kept (recipes, saved models, checkpoints, studies) comes through here; tables of today
    come back as they are. An earlier name, or a lost value, is an `OutdatedWarning`: one for the whole table.

    Raises `SpecError` for a field that is there under both names.
    """
    renamed: list[str] = []
    lost: list[str] = []
    table = _renamed(cls, values, "", renamed, lost)
    _warn(cls, *renamed, *lost)
    return table, tuple(lost)


def _renamed(
    cls: type[Any], values: Mapping[str, Any], above: str, renamed: list[str], lost: list[str]
) -> dict[str, Any]:
    """The table of today; `renamed` and `lost` take a sentence for each change, whose paths begin with `above`."""
    known = _MIGRATIONS.get(cls, _UNCHANGED)
    table: dict[str, Any] = {}
    for name, value in values.items():
        if name in known.dropped:
            if value != known.dropped[name]:
                lost.append(f"{above}{name} is gone, and its value {value!r} is left out")
            continue
        today = known.renamed.get(name, name)
        SpecError.unless(
            today == name or today not in values,
            f"{above}{name} is an earlier name of {above}{today}; both are there. Keep {today}.",
        )
        if today != name:
            renamed.append(_is_called(above + name, above + today))
        if isinstance(value, bool) and today in known.switches:
            word = known.switches[today][value]
            renamed.append(f"{above}{today} = {str(value).lower()} is {word!r} now")
            table[today] = word
            continue
        inner = _field_class(cls, today) if isinstance(value, Mapping) else None
        table[today] = value if inner is None else _renamed(inner, value, f"{above}{today}.", renamed, lost)
    return table


def with_earlier_defaults(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table of a recipe of schema 1 with the defaults of its time written out, where they have changed since.

    All that the library writes holds every value, and needs no such care.
    """
    table = {**_MIGRATIONS.get(cls, _UNCHANGED).earlier, **values}
    return {
        name: with_earlier_defaults(inner, value)
        if isinstance(value, Mapping) and (inner := _field_class(cls, name)) is not None
        else value
        for name, value in table.items()
    }


def path_today(cls: type[Any], path: str, *, warn: bool = True) -> str:
    """Return a dotted path into a spec with the names of today; an earlier name is an `OutdatedWarning`, unless not `warn`."""
    names: list[str] = []
    here: type[Any] | None = cls
    for name in path.split("."):
        known = _UNCHANGED if here is None else _MIGRATIONS.get(here, _UNCHANGED)
        names.append(known.renamed.get(name, name))
        here = None if here is None else _field_class(here, names[-1])
    today = ".".join(names)
    if warn and today != path:
        _warn(cls, _is_called(path, today))
    return today


def first_names(cls: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A table of today under the names that its fields had at first, with switches as they were, and without later fields.

    Names of kept files are digests of such tables: a renamed field must not hide what was kept.
    """
    known = _MIGRATIONS.get(cls, _UNCHANGED)
    first = {today: name for name, today in known.renamed.items()}
    table: dict[str, Any] = {}
    for name, value in values.items():
        if name in known.added and value == known.added[name]:
            continue
        inner = _field_class(cls, name) if isinstance(value, Mapping) else None
        words = known.switches.get(name, ())
        table[first.get(name, name)] = (
            first_names(inner, value)
            if inner is not None
            else bool(words.index(value))
            if value in words
            else value
        )
    return table


def _is_called(name: str, today: str) -> str:
    return f"{name} is called {today} now"


def _warn(cls: type[Any], *changes: str) -> None:
    if changes:
        warn_outdated(f"{getattr(cls, 'kind', cls.__name__)}: {'; '.join(changes)}")


def spec_from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a spec from plain values (as TOML or JSON give them); lists stand for tuples, names of earlier versions for today's.

    Raises `SpecError` for an unknown name, a wrong type or a value out of range.
    """
    try:
        return pydantic.TypeAdapter(cls).validate_json(json.dumps(migrated(cls, dict(values))[0]))
    except pydantic.ValidationError as problem:
        raise _explained(cls, problem) from None
    except SpecError:
        raise
    except (TypeError, ValueError, RecursionError) as problem:
        raise SpecError(
            f"{cls.__name__} takes plain numbers, strings, lists and tables; {problem}."
        ) from None


def spec_to_dict(value: Any) -> dict[str, Any]:
    """Return the plain values of a spec, ready for JSON or TOML; `None` stays `None`."""
    return cast(dict[str, Any], json.loads(pydantic.TypeAdapter(type(value)).dump_json(value)))


def replace_field(value: T, path: str, new: Any) -> T:
    """Return a copy of a spec with the field at a dotted `path` (``blur.duration``) set, checked by the same schema."""
    return spec_from_dict(type(value), set_path(spec_to_dict(value), path_today(type(value), path), new))


def set_path(tree: Mapping[str, Any], path: str, new: Any) -> dict[str, Any]:
    """Return a copy of nested tables with the entry at a dotted `path` replaced; missing tables are created."""
    head, _, rest = path.partition(".")
    copy = dict(tree)
    below = copy.get(head)
    copy[head] = set_path(below if isinstance(below, Mapping) else {}, rest, new) if rest else new
    return copy


_MOST_EXPLAINED = 20
"""Faults of one table that its message explains: nobody corrects more at once, and a table from elsewhere may have any number."""


def _explained(cls: type[Any], problem: pydantic.ValidationError) -> SpecError:
    lines = []
    for error in problem.errors(include_url=False)[:_MOST_EXPLAINED]:
        unknown = error["type"] in ("unexpected_keyword_argument", "extra_forbidden")
        last = len(error["loc"]) - 1
        where = ".".join(
            str(part)
            for depth, part in enumerate(error["loc"])
            if not _is_branch(part) or (unknown and depth == last)
        )
        if unknown:
            inner, name = _class_at(cls, error["loc"][:-1]), str(error["loc"][-1])
            options = [entry.name for entry in fields(inner)] if is_dataclass(inner) else []
            today = _MIGRATIONS.get(inner, _UNCHANGED).renamed.get(name)
            hint = f" It is called {today!r} now." if today else nearest(name, options)
            listed = f" Known names: {', '.join(sorted(options))}." if options and not hint else ""
            lines.append(f"{where} is not a hyper-parameter of {cls.__name__}.{hint}{listed}")
        elif error["type"] == "value_error":
            lines.append(f"{where + ': ' if where else ''}{error['ctx']['error']}")
        else:
            message = error["msg"][0].lower() + error["msg"][1:]
            lines.append(f"{where} of {cls.__name__}: {message}; saw {shortened(repr(error['input']))}.")
    return SpecError(" ".join(dict.fromkeys(lines)))


def _is_branch(part: object) -> bool:
    """Return whether a part of an error's path is pydantic's name for a branch of a union, not a field."""
    return isinstance(part, str) and (part[:1].isupper() or "[" in part or part in ("none", "json-or-python"))


def _class_at(cls: type[Any], place: tuple[int | str, ...]) -> Any:
    """The spec that sits at `place` inside `cls`; anything else if none does."""
    here: Any = cls
    for part in place:
        if is_dataclass(here) and not _is_branch(part):
            here = _field_class(here, str(part))
    return here


def _field_class(cls: Any, name: str) -> type[Any] | None:
    """Return the spec class of a field's annotation, seen through unions and aliases."""
    annotation = typing.get_type_hints(cls).get(name)
    for option in (annotation, *typing.get_args(annotation)):
        if isinstance(option, type) and is_dataclass(option):
            return option
    return None
