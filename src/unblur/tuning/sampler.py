"""Which point each trial tries, as a function of the seed and its number.

A sampler with a generator of its own begins anew in every process, and draws some points of a finite space twice. Here
the point of a trial follows from its number, so it does not matter in which process, or after which interruption, the
trial comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.errors import SpecError
from unblur.randomness import streams
from unblur.tuning.points import number_of, point_at, size_of
from unblur.tuning.settings import SamplerName
from unblur.tuning.space import Dimension, Point

LARGEST_PERMUTATION = 1_000_000
"""Spaces of up to so many points are drawn from without repeats. A permutation of a million takes 30 ms; in a larger
space a thousand independent draws repeat a point in less than one search of two."""


@dataclass(frozen=True)
class Points:
    """The points of a search by number."""

    space: tuple[Dimension, ...]
    sampler: SamplerName
    seed: int
    first: Point | None = None
    """The point of trial 0, in the space or outside; `None` draws it as well."""

    def __post_init__(self) -> None:
        """Raises `SpecError` for an exhaustive search of an infinite space."""
        if self.sampler == "exhaustive" and size_of(self.space) is None:
            endless = [dimension.name for dimension in self.space if dimension.all() is None]
            raise SpecError(
                f"An exhaustive search needs a list of values for everything; {', '.join(endless)} has no end of "
                "them. Search at random, or give choices."
            )

    def count(self, most: int) -> int:
        """The number of trials: no more than there are points, but for ``bayes``, which may repeat some."""
        if self._size is None:
            return most
        outside = self.first is not None and self._number_of_first is None
        return min(most, self._size + outside)

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
        """The place of a trial in the order of drawn points."""
        turn = number if self.first is None else number - 1
        skipped = self._turn_of_first
        return turn + (skipped is not None and turn >= skipped)

    @cached_property
    def _number_of_first(self) -> int | None:
        return None if self.first is None else number_of(self.space, self.first)

    @cached_property
    def _size(self) -> int | None:
        """The number of points, if each is drawn once; else `None`."""
        size = None if self.sampler == "bayes" else size_of(self.space)
        return None if size is None or (size > LARGEST_PERMUTATION and self.sampler == "random") else size

    @cached_property
    def _turn_of_first(self) -> int | None:
        """The turn of the first point among the drawn ones, where it is not tried again."""
        number = self._number_of_first
        if self._size is None or number is None:
            return None
        return number if self._order is None else int(np.flatnonzero(self._order == number)[0])

    @cached_property
    def _order(self) -> NDArray[np.int64] | None:
        """The numbers of all points in the order of their turns; `None` if it is theirs, or if they are not numbered."""
        if self._size is None or self.sampler == "exhaustive":
            return None
        return streams(self.seed, "points")["points"].permutation(self._size)


def snapped(dimension: Dimension, value: float) -> float:
    """A number as a dimension has it: a multiple of its step."""
    step = getattr(dimension.values, "step", None)
    # Twelve digits: what a multiple of a decimal step loses in binary comes after them.
    return value if step is None else float(round(round(value / step) * step, 12))
