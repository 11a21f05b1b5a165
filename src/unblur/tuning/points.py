"""Search spaces of specs, specs at their points, and the points that a search tries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unblur.errors import SpecError, nearest
from unblur.randomness import streams
from unblur.spec import Choice, Dimension, Point, Spec, path_today, set_path, spec_from_dict, spec_to_dict
from unblur.tuning.settings import SamplerName

SpecT = TypeVar("SpecT", bound=Spec)

LARGEST_PERMUTATION = 1_000_000
"""The size of the largest space whose points are drawn without repeats. A permutation of a million takes 30 ms; in a
larger space, a thousand independent draws repeat a point in fewer than half of all searches."""


def space_of(
    base: Spec, changes: Mapping[str, Sequence[Any]] | None = None, *, largest_rank: int | None = None
) -> tuple[Dimension, ...]:
    """The search space of a spec, empty if there is nothing to choose.

    - `changes`: values to try, by dotted path, in place of the spec's own or in addition to them.
    - `largest_rank`: the smaller side of the matrix; larger ranks are left out, and if none remains it is tried itself.

    Paths inside a part that the spec leaves out (no sharpening, no low-pass) are not searched. Raises `SpecError` for
    an unknown path, a path to a whole part and an empty list of values.
    """
    tree = spec_to_dict(base)
    changes = {path_today(type(base), path): values for path, values in (changes or {}).items()}
    plain = dict(leaves(tree))
    dimensions = {dimension.name: dimension for dimension in base.space()}
    names = {dimension.name for dimension in type(base)().space()}
    for path, values in changes.items():
        SpecError.unless(
            values,
            f"Each searched path must have values to try; {path} has none. Give some, or leave the path out.",
        )
        if path in names and not inside(tree, path):
            continue
        if path not in dimensions and path not in plain:
            hint = nearest(path, {**dimensions, **plain})
            raise SpecError(f"{path} is not a hyper-parameter of {type(base).__name__}.{hint}")
        distinct = [value for index, value in enumerate(values) if value not in values[:index]]
        dimensions[path] = Dimension(path, choice(distinct), (path,))
    searched = [dimension for dimension in dimensions.values() if inside(tree, dimension.name)]
    return tuple(
        dimension if largest_rank is None else _limited(dimension, largest_rank) for dimension in searched
    )


def _limited(dimension: Dimension, largest: int) -> Dimension:
    """The dimension without ranks above `largest`."""
    if not _is_rank(dimension) or not isinstance(dimension.values, Choice):
        return dimension
    values = dimension.values.values
    fitting = tuple(value for value in values if value <= largest) or (min(values[0], largest),)
    return Dimension(dimension.name, Choice(fitting), dimension.paths, dimension.convert)


def _is_rank(dimension: Dimension) -> bool:
    return dimension.name.rpartition(".")[2] == "rank"


def fits(base: Spec, space: Sequence[Dimension], largest_rank: int) -> bool:
    """Return whether the spec's own values of the searched ranks are no larger than the smaller side of the matrix."""
    ranks = [value_at(base, dimension.paths[0]) for dimension in space if _is_rank(dimension)]
    return all(rank <= largest_rank for rank in ranks)


def choice(values: Sequence[Any]) -> Choice:
    """A choice of these values, in the form that JSON gives them: tuples become lists."""
    return Choice(tuple(json.loads(json.dumps(list(values)))))


def size_of(space: Sequence[Dimension]) -> int | None:
    """The number of points; `None` if it is infinite."""
    sizes = [dimension.all() for dimension in space]
    return None if any(values is None for values in sizes) else prod(len(values or ()) for values in sizes)


def point_at(space: Sequence[Dimension], number: int) -> dict[str, Any]:
    """The point with that number, from 0, in a finite space, where the last dimension changes fastest."""
    grid = [dimension.all() or () for dimension in space]
    indices = np.unravel_index(number, [len(values) for values in grid])
    return {
        dimension.name: values[int(index)]
        for dimension, values, index in zip(space, grid, indices, strict=True)
    }


def number_of(space: Sequence[Dimension], point: Point) -> int | None:
    """The number of a point (see `point_at`); `None` if it is not in the space, or the space is infinite."""
    number = 0
    for dimension in space:
        values = dimension.all()
        if values is None or point[dimension.name] not in values:
            return None
        number = number * len(values) + values.index(point[dimension.name])
    return number


def set_point(base: SpecT, space: Sequence[Dimension], point: Point) -> SpecT:
    """A copy of the spec with the values of a point. Raises `SpecError` for values that do not go together."""
    tree = spec_to_dict(base)
    for dimension in space:
        for path in dimension.paths:
            tree = set_path(tree, path, dimension.convert(point[dimension.name]))
    return spec_from_dict(type(base), tree)


def point_of(base: Spec, space: Sequence[Dimension]) -> dict[str, Any]:
    """The point with a spec's own values, which need not be in the space."""
    point = {}
    for dimension in space:
        own = value_at(base, dimension.paths[0])
        # Take the dimension's form of an equal value: 1 and 1.0 are one point, and must not be tried twice.
        point[dimension.name] = next((value for value in dimension.all() or () if value == own), own)
    return point


def value_at(base: Spec, path: str) -> Any:
    """The plain value at a dotted path of a spec; `None` inside a part that is left out."""
    return entry_at(spec_to_dict(base), path.split("."))


def inside(tree: Mapping[str, Any], path: str) -> bool:
    """Return whether nested tables have the table that a dotted path points into."""
    return isinstance(entry_at(tree, path.split(".")[:-1]), Mapping)


def entry_at(tree: Any, names: Sequence[str]) -> Any:
    """The entry of nested tables under these names, the outermost first; `None` inside a part that is left out."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted path and value of each entry in nested tables that is not a table itself."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


@dataclass(frozen=True)
class Points:
    """The point of each trial of a search, as a function of the seed and the trial's number.

    A sampler with a generator of its own starts anew in every process, and draws some points of a finite space twice.
    Here a trial has the same point in whichever process, and after whichever interruption, it runs.
    """

    space: tuple[Dimension, ...]
    sampler: SamplerName
    seed: int
    first: Point | None = None
    """The point of trial 0, in the space or outside; `None` draws it as well."""

    def __post_init__(self) -> None:
        """Raises `SpecError` for an exhaustive search of an infinite space."""
        endless = [dimension.name for dimension in self.space if dimension.all() is None]
        SpecError.unless(
            self.sampler != "exhaustive" or not endless,
            f"An exhaustive search needs a list of values for each dimension; {', '.join(endless)} is a range without "
            "a step. Search at random, or list its values.",
        )

    def count(self, most: int) -> int:
        """The number of trials, at most `most`: no more than there are points, except for ``bayes``, which may repeat some."""
        outside = self.first is not None and self._number_of_first is None
        return most if self._size is None else min(most, self._size + outside)

    def at(self, number: int) -> dict[str, Any] | None:
        """The point of a trial; `None` if it depends on the results of other trials."""
        if number == 0 and self.first is not None:
            return dict(self.first)
        turn = self._turn(number)
        if self._size is not None:
            return point_at(self.space, turn if self._order is None else int(self._order[turn]))
        if self.sampler == "bayes":
            return None
        uniforms = streams(self.seed, f"point {turn}")[f"point {turn}"].random(len(self.space))
        return {
            dimension.name: dimension.values.at(float(uniform))
            for dimension, uniform in zip(self.space, uniforms, strict=True)
        }

    def seed_at(self, number: int) -> int:
        """The seed of the estimator that draws the point of a trial from the results of other trials."""
        turn = self._turn(number)
        return int(streams(self.seed, f"point {turn}")[f"point {turn}"].integers(0, 2**31))

    def _turn(self, number: int) -> int:
        """The position of a trial in the order of drawn points, which skips `first`.

        For 5 points of which `first` has turn 2, trials 1, 2, 3, 4 have turns 0, 1, 3, 4.
        """
        turn = number if self.first is None else number - 1
        turn_of_first = self._number_of_first
        if turn_of_first is not None and self._order is not None:
            turn_of_first = int(np.flatnonzero(self._order == turn_of_first)[0])
        return turn + (turn_of_first is not None and self._size is not None and turn >= turn_of_first)

    @cached_property
    def _number_of_first(self) -> int | None:
        return None if self.first is None else number_of(self.space, self.first)

    @cached_property
    def _size(self) -> int | None:
        """The number of points, if each is drawn once; else `None`."""
        size = size_of(self.space)
        endless = size is None or (self.sampler == "random" and size > LARGEST_PERMUTATION)
        return None if endless or self.sampler == "bayes" else size

    @cached_property
    def _order(self) -> NDArray[np.int64] | None:
        """The numbers of all points in the order of their turns; `None` if they ascend, or points have no numbers."""
        if self._size is None or self.sampler == "exhaustive":
            return None
        return streams(self.seed, "points")["points"].permutation(self._size)
