"""Search spaces of specs, specs at points of them, and which points a search tries."""

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
from unblur.spec import Choice, Dimension, Point, Spec, set_path, spec_from_dict, spec_to_dict
from unblur.tuning.settings import SamplerName

SpecT = TypeVar("SpecT", bound=Spec)

LARGEST_PERMUTATION = 1_000_000
"""Spaces of up to so many points are drawn from without repeats. A permutation of a million takes 30 ms; in a larger
space a thousand independent draws repeat a point in less than one search of two."""


def space_of(
    base: Spec, changes: Mapping[str, Sequence[Any]] | None = None, *, largest_rank: int | None = None
) -> tuple[Dimension, ...]:
    """The search space of a spec, empty if there is nothing to choose.

    - `changes`: values to try, by dotted path, in place of the spec's own or in addition to them.
    - `largest_rank`: the smaller side of the matrix; larger ranks are left out, and it is tried itself if none is left.

    Paths inside a part that the spec leaves out (no sharpening, no low-pass) are not searched. Raises `SpecError` for
    an unknown path, a path to a whole part and an empty list of values.
    """
    tree = spec_to_dict(base)
    plain = dict(_leaves(tree))
    known = {dimension.name: dimension for dimension in base.space()}
    elsewhere = {dimension.name for dimension in type(base)().space()}
    for path, values in (changes or {}).items():
        SpecError.unless(
            values,
            f"Each searched path must have values to try; {path} has none. Give some, or leave it out.",
        )
        if path in elsewhere and not inside(tree, path):
            continue
        if path not in known and path not in plain:
            hint = nearest(path, {**known, **plain})
            raise SpecError(f"{path} is not a hyper-parameter of {type(base).__name__}.{hint}")
        distinct = [value for place, value in enumerate(values) if value not in values[:place]]
        known[path] = Dimension(path, choice(distinct), (path,))
    inner = [dimension for dimension in known.values() if inside(tree, dimension.name)]
    return tuple(
        dimension if largest_rank is None else _limited(dimension, largest_rank) for dimension in inner
    )


def _limited(dimension: Dimension, largest: int) -> Dimension:
    """The dimension without ranks above the largest."""
    if not _is_rank(dimension) or not isinstance(dimension.values, Choice):
        return dimension
    values = dimension.values.values
    fitting = tuple(value for value in values if value <= largest) or (min(values[0], largest),)
    return Dimension(dimension.name, Choice(fitting), dimension.paths, dimension.convert)


def _is_rank(dimension: Dimension) -> bool:
    return dimension.name.rpartition(".")[2] == "rank"


def fits(base: Spec, space: Sequence[Dimension], largest_rank: int) -> bool:
    """Whether the searched ranks of a spec, as it stands, are no larger than the smaller side of the matrix."""
    ranks = [value_at(base, dimension.paths[0]) for dimension in space if _is_rank(dimension)]
    return all(rank <= largest_rank for rank in ranks)


def choice(values: Sequence[Any]) -> Choice:
    """One of the values as JSON has them: tuples become lists."""
    return Choice(tuple(json.loads(json.dumps(list(values)))))


def size_of(space: Sequence[Dimension]) -> int | None:
    """The number of points; `None` if it is infinite."""
    sizes = [dimension.all() for dimension in space]
    return None if any(values is None for values in sizes) else prod(len(values or ()) for values in sizes)


def point_at(space: Sequence[Dimension], number: int) -> dict[str, Any]:
    """The point with that number, from 0, in a finite space, the last dimension running fastest."""
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
    """A copy of the spec with a point's values in it. Raises `SpecError` for values that do not go together."""
    tree = spec_to_dict(base)
    for dimension in space:
        for path in dimension.paths:
            tree = set_path(tree, path, dimension.convert(point[dimension.name]))
    return spec_from_dict(type(base), tree)


def point_of(base: Spec, space: Sequence[Dimension]) -> dict[str, Any]:
    """The point of a spec's own values, which need not be among those that are tried."""
    point = {}
    for dimension in space:
        own = value_at(base, dimension.paths[0])
        # As the dimension has it: 1 is the same value as 1.0, and is not tried twice.
        point[dimension.name] = next((value for value in dimension.all() or () if value == own), own)
    return point


def value_at(base: Spec, path: str) -> Any:
    """The plain value at a dotted path of a spec; `None` inside a part that is left out."""
    return entry_at(spec_to_dict(base), path.split("."))


def inside(tree: Mapping[str, Any], path: str) -> bool:
    """Whether nested tables have the table that a dotted path points into."""
    return isinstance(entry_at(tree, path.split(".")[:-1]), Mapping)


def entry_at(tree: Any, names: Sequence[str]) -> Any:
    """What stands in nested tables under these names, from the outermost; `None` inside a part that is left out."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted path and value of each entry in nested tables that is not a table itself."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


@dataclass(frozen=True)
class Points:
    """Which point each trial of a search tries, as a function of the seed and its number.

    A sampler with a generator of its own begins anew in every process, and draws some points of a finite space twice.
    Here it does not matter in which process, or after which interruption, a trial comes.
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
            f"An exhaustive search needs a list of values for everything; {', '.join(endless)} has no end of "
            "them. Search at random, or give choices.",
        )

    def count(self, most: int) -> int:
        """The number of trials: no more than there are points, but for ``bayes``, which may repeat some."""
        outside = self.first is not None and self._number_of_first is None
        return most if self._size is None else min(most, self._size + outside)

    def at(self, number: int) -> dict[str, Any] | None:
        """The point of a trial; `None` if it depends on the results of others."""
        if number == 0 and self.first is not None:
            return dict(self.first)
        turn = self._turn(number)
        if self._size is not None:
            return point_at(self.space, turn if self._order is None else int(self._order[turn]))
        if self.sampler == "bayes":
            return None
        places = streams(self.seed, f"point {turn}")[f"point {turn}"].random(len(self.space))
        return {
            dimension.name: dimension.values.at(float(place))
            for dimension, place in zip(self.space, places, strict=True)
        }

    def seed_at(self, number: int) -> int:
        """The seed of whatever draws the point of a trial from the results of others."""
        turn = self._turn(number)
        return int(streams(self.seed, f"point {turn}")[f"point {turn}"].integers(0, 2**31))

    def _turn(self, number: int) -> int:
        """The place of a trial in the order of drawn points, in which the first is passed over."""
        turn = number if self.first is None else number - 1
        own = self._number_of_first
        if own is not None and self._order is not None:
            own = int(np.flatnonzero(self._order == own)[0])
        return turn + (own is not None and self._size is not None and turn >= own)

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
        """The numbers of all points in the order of their turns; `None` if they are in order, or not numbered."""
        if self._size is None or self.sampler == "exhaustive":
            return None
        return streams(self.seed, "points")["points"].permutation(self._size)
