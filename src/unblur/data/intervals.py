"""Intervals of numbers as text: ``[4,inf)``, ``(3,5]``, or several, ``[1,2);[4,5]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.errors import DataError

_NUMBER = r"\s*([-+]?(?:inf|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?))\s*"
_INTERVAL = re.compile(rf"\s*([\[(]){_NUMBER},{_NUMBER}([\])])\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Intervals:
    """A union of intervals."""

    parts: tuple[tuple[str, float, float, str], ...]
    """The left bracket, both ends and the right bracket of each interval."""

    @classmethod
    def parse(cls, text: str) -> Intervals:
        """Read intervals that are separated by semicolons. Raises `DataError` for any other text, and for an interval
        whose ends are swapped."""
        parts = []
        for part in text.split(";"):
            match = _INTERVAL.fullmatch(part)
            DataError.unless(
                match is not None and float(match[2]) <= float(match[3]),
                f"Intervals must be written as [4,inf), (3,5] or [1,2);[4,5], the lower end first; saw {text!r}. Correct it.",
            )
            if match is not None:
                parts.append((match[1], float(match[2]), float(match[3]), match[4]))
        return cls(tuple(parts))

    @classmethod
    def from_least(cls, least: float) -> Intervals:
        """All numbers from `least` on."""
        return cls((("[", least, np.inf, "]"),))

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return ";".join(f"{left}{low:g},{high:g}{right}" for left, low, high, right in self.parts)

    def contain(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each value lies in one of the intervals. NaN lies in none."""
        inside = np.zeros(len(values), dtype=bool)
        for left, low, high, right in self.parts:
            above = values >= low if left == "[" else values > low
            inside |= above & (values <= high if right == "]" else values < high)
        return inside
