"""Specs and the points of their search spaces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, TypeVar

import numpy as np

from unblur.errors import SpecError, nearest
from unblur.spec import set_path, spec_from_dict, spec_to_dict
from unblur.tuning.space import SPACES, Choice, Dimension, Point

T = TypeVar("T")


def space_of(
    base: Any, changes: Mapping[str, Sequence[Any]] | None = None, *, largest_rank: int | None = None
) -> tuple[Dimension, ...]:
    """The search space of a spec, empty if there is nothing to choose.

    - `changes`: values to try, by dotted path, in place of the spec's own or in addition to them.
    - `largest_rank`: the smaller side of the matrix; larger ranks are left out, and it is tried itself if none is left.

    Paths inside a part that the spec leaves out (no sharpening, no low-pass) are not searched. Raises `SpecError` for
    an unknown path, a path to a whole part and an empty list of values.
    """
    tree = spec_to_dict(base)
    plain = dict(_leaves(tree))
    known = {dimension.name: dimension for dimension in _own_space(base)}
    elsewhere = {dimension.name for dimension in _own_space(type(base)())}
    for path, values in (changes or {}).items():
        if not values:
            raise SpecError(
                f"Each searched path must have values to try; {path} has none. Give some, or leave it out."
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


def _own_space(base: Any) -> tuple[Dimension, ...]:
    own: tuple[Dimension, ...] = base.space()
    values = {} if own else SPACES.get(base.kind, {})  # of kinds that do not yet say it themselves
    return own or tuple(Dimension(path, choice(tried), (path,)) for path, tried in values.items())


def _limited(dimension: Dimension, largest: int) -> Dimension:
    """The dimension without ranks above the largest."""
    if not _is_rank(dimension) or not isinstance(dimension.values, Choice):
        return dimension
    values = dimension.values.values
    fitting = tuple(value for value in values if value <= largest) or (min(values[0], largest),)
    return Dimension(dimension.name, Choice(fitting), dimension.paths, dimension.convert)


def _is_rank(dimension: Dimension) -> bool:
    return dimension.name.rpartition(".")[2] == "rank"


def fits(base: Any, space: Sequence[Dimension], largest_rank: int) -> bool:
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


def set_point(base: T, space: Sequence[Dimension], point: Point) -> T:
    """A copy of the spec with a point's values in it. Raises `SpecError` for values that do not go together."""
    tree = spec_to_dict(base)
    for dimension in space:
        for path in dimension.paths:
            tree = set_path(tree, path, dimension.convert(point[dimension.name]))
    return spec_from_dict(type(base), tree)


def point_of(base: Any, space: Sequence[Dimension]) -> dict[str, Any]:
    """The point of a spec's own values, which need not be among those that are tried."""
    return {dimension.name: value_at(base, dimension.paths[0]) for dimension in space}


def value_at(base: Any, path: str) -> Any:
    """The plain value at a dotted path of a spec; `None` inside a part that is left out."""
    here: Any = spec_to_dict(base)
    for part in path.split("."):
        here = here.get(part) if isinstance(here, dict) else None
    return here


def inside(tree: Mapping[str, Any], path: str) -> bool:
    """Whether nested tables have the table that a dotted path points into."""
    here: Any = tree
    for part in path.split(".")[:-1]:
        here = here.get(part) if isinstance(here, dict) else None
    return isinstance(here, dict)


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted path and value of each entry in nested tables that is not a table itself."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
