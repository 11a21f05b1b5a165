"""What a search may try: dimensions, each with the values it may take and where in a spec they go."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from unblur.errors import SpecError

Point: TypeAlias = Mapping[str, Any]
"""A value for each dimension, by name."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise SpecError("A choice must have values to try; there are none. Give some.")

    def at(self, place: float) -> Any:
        """The value at a place between 0 and 1."""
        return self.values[min(int(place * len(self.values)), len(self.values) - 1)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values that say what it is."""
        return {"choice": list(self.values)}


@dataclass(frozen=True, slots=True)
class Range:
    """A number between two: even, in steps, or even in its logarithm."""

    low: float
    high: float
    """Not below `low`; both are exponents of e where `logarithmic`."""
    step: float | None = None
    """Round to multiples of this, as hyperopt's quniform does."""
    logarithmic: bool = False

    def __post_init__(self) -> None:
        ends = math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high
        if not ends or (self.step is not None and not 0 < self.step < math.inf):
            raise SpecError(
                f"A range must run from a number up to another, in steps above 0; saw {self.low}, {self.high}, "
                f"{self.step}. Correct it."
            )

    def at(self, place: float) -> float:
        """The value at a place between 0 and 1."""
        value = self.low + place * (self.high - self.low)
        return math.exp(value) if self.logarithmic and self.step is None else self.snapped(value)

    def snapped(self, value: float) -> float:
        """A number as the range has it: a multiple of the step if there is one."""
        # Twelve digits: what a multiple of a decimal step loses in binary comes after them.
        return value if self.step is None else float(round(round(value / self.step) * self.step, 12))

    def values(self) -> tuple[float, ...] | None:
        """All values, in order; `None` where there is no end of them."""
        if self.low == self.high:
            return (self.at(0),)
        if self.step is None:
            return None
        first, last = round(self.low / self.step), round(self.high / self.step)
        return tuple(float(round(at * self.step, 12)) for at in range(first, last + 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values that say what it is."""
        name = "loguniform" if self.logarithmic else "uniform" if self.step is None else "quniform"
        return {name: [self.low, self.high, *([] if self.step is None else [self.step])]}


def _unchanged(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Dimension:
    """One thing that is searched."""

    name: str
    """What reports call it: a path of the spec, or the name that another program has for it."""
    values: Choice | Range
    paths: tuple[str, ...]
    """The dotted paths in the spec that take the value."""
    convert: Callable[[Any], Any] = field(default=_unchanged, compare=False)
    """From the value to what stands at the paths."""

    def all(self) -> tuple[Any, ...] | None:
        """All values, in order; `None` where there is no end of them."""
        return self.values.values if isinstance(self.values, Choice) else self.values.values()

    def to_dict(self) -> dict[str, Any]:
        """Plain values that say what it is."""
        return {"name": self.name, **self.values.to_dict(), "paths": list(self.paths)}


def choices(**values: tuple[Any, ...]) -> tuple[Dimension, ...]:
    """A dimension for each path; ``__`` in a keyword stands for the dot: ``choices(low_pass__rank=(64, 128))``.

    Tuples among the values become lists, as JSON and TOML have them.
    """
    return tuple(
        Dimension(path, Choice(tuple(list(v) if isinstance(v, tuple) else v for v in tried)), (path,))
        for path, tried in ((name.replace("__", "."), tried) for name, tried in values.items())
    )


def whole(path: str, low: int, high: int, step: int = 1) -> Dimension:
    """Whole numbers from `low` to `high` in steps."""
    return Dimension(path, Range(low, high, step), (path,), round)


def rate(path: str, low: float, high: float) -> Dimension:
    """A number between two above 0, even in its logarithm."""
    return Dimension(path, Range(math.log(low), math.log(high), logarithmic=True), (path,))
