"""Weights, batch by batch: of a column of them, or of events in words; or ratings, by which events are selected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from unblur.data.formats.columns import IGNORE, Role
from unblur.data.formats.labels import without_null_words
from unblur.data.formats.meaning import Meaning
from unblur.data.formats.numbers import as_array, numbers_of
from unblur.errors import Argument, DataError, shortened, some


class WeightColumn:
    """The weights of events or, if events are selected by them, the ratings, as far as they are read."""

    def __init__(self, role: Role, column: str | int, meaning: Meaning, *, asked: bool) -> None:
        """`column` is its name, or its position in a file without names; `asked` if the caller named it."""
        self.role, self._column, self._meaning = role, column, meaning
        self._words = {} if meaning.event_weights is None else event_weights_of(meaning.event_weights)
        self._is_clear = asked or role != "rating" or meaning.any_ratings
        self._values: list[NDArray[Any]] = []
        self._n_unknown = 0  # rows of words that have no weight
        self._unknown: dict[str, None] = {}  # such words

    def read(self, column: pl.Series) -> pl.Series:
        """The numbers of a batch: of words their weights, 0 for one that has none, which is counted; null for a missing value.

        Raises `DataError` for other values.
        """
        if not self._words:
            return numbers_of(column, self.role)
        DataError.unless(
            not column.dtype.is_nested() and column.dtype != pl.Binary,
            f"Events must be words; saw {column.dtype}. Convert the column, or name another one.",
        )
        words = without_null_words(column.cast(pl.String).str.strip_chars())
        unknown = words.filter(~words.is_in(list(self._words)))
        self._n_unknown += len(unknown)
        if len(self._unknown) <= _EXAMPLES:
            self._unknown |= dict.fromkeys(unknown.unique(maintain_order=True).head(_EXAMPLES + 1))
        weights = words.replace_strict(self._words, default=0.0, return_dtype=pl.Float64)
        return pl.select(pl.when(words.is_not_null()).then(weights)).to_series()

    def counting(self, values: pl.Series) -> NDArray[np.bool_]:
        """The events of a batch that count, by their numbers."""
        if self._words:
            return (values > 0).to_numpy()
        if self._meaning.selected is not None and not self._meaning.repeats_first:
            return self._meaning.selected.contain(values.to_numpy())
        return np.ones(len(values), dtype=bool)

    def add(self, values: pl.Series) -> None:
        """Read on: the numbers of the next events. Raises `DataError` for ratings without a meaning."""
        if self._meaning.selected is not None and not self._meaning.repeats_first:
            return
        if self._meaning.selected is not None or self._meaning.any_ratings:
            self._values.append(values.to_numpy())
            return
        self._values.append(as_array(values, "weights", np.float32))
        if not self._is_clear and (self._values[-1] != 1).any():
            raise self._unclear()

    def _unclear(self) -> DataError:
        values = np.concatenate(self._values)
        return DataError(
            f"What a rating means must be said; the column {self._column!r} holds values from {values.min():g} to {values.max():g}. Pass ",
            Argument("min_rating"),
            " to keep those from a value on as likes, ",
            Argument("rating", self._column),
            " to take it as weights",
            *_AS_INTERACTIONS,
            *(
                ("; or ", Argument("timestamp", self._column), ", if it is a time.")
                if isinstance(self._column, int)
                else (".",)
            ),
        )

    def values(self) -> NDArray[Any] | None:
        """The weights or ratings of all events; `None` if all weights are 1, or events are selected already."""
        values: NDArray[Any] = np.concatenate(self._values or [np.zeros(0)])
        DataError.unless(
            len(values) or not self._words,
            f"Some event must have a weight; the words are {some(self._unknown)}, and ",
            Argument("event_weights"),
            f" has {some(self._words)}. Correct the words, or name another column with ",
            Argument("rating"),
            ".",
        )
        if self._meaning.selected is not None or self._meaning.any_ratings:
            return values if self._values else None
        DataError.unless(
            (values > 0).all(),
            f"Weights must be positive; {(values <= 0).sum():,} of {len(values):,} rows hold {values.min(initial=1):g} or more up to 0. "
            "Pass ",
            Argument("min_rating"),
            " to keep rows from a value on",
            *_AS_INTERACTIONS,
            ".",
        )
        return None if (values == 1).all() else values

    def remarks(self) -> list[str]:
        """What was left out."""
        text = f"{self._n_unknown:,} rows of events without a weight ({some(self._unknown)}) were left out"
        return [text] if self._n_unknown else []


_AS_INTERACTIONS = (", or ", Argument("rating", IGNORE), " to count every row as an interaction")
_EXAMPLES = 5
"""Words that a message names; a column of something else may have millions."""


def event_weights_of(event_weights: str | Mapping[str, float]) -> dict[str, float]:
    """The weight of each word of a text such as ``view=1,cart=3,buy=5``, or of a mapping; 0 leaves out the rows of a word.

    Raises `DataError` for other text, for weights that are negative or not finite, and if none is positive.
    """
    if isinstance(event_weights, str):
        pairs = [part.rpartition("=")[::2] for part in event_weights.split(",")]
    else:
        pairs = [(word, str(weight)) for word, weight in event_weights.items()]
    weights = {word.strip(): _NUMBER.fullmatch(weight.strip()) for word, weight in pairs}
    DataError.unless(
        len(weights) == len(pairs) and all(word and weight for word, weight in weights.items()),
        Argument("event_weights"),
        f" must give each word its weight once, 0 or more, as in view=1,cart=3,buy=5; saw {shortened(str(event_weights))!r}. Correct it.",
    )
    numbers = {word: float(weight[0]) for word, weight in weights.items() if weight}
    DataError.unless(
        any(numbers.values()),
        Argument("event_weights"),
        " must give some word a weight above 0; all are 0. Leave out those that do not count.",
    )
    return numbers


_NUMBER = re.compile(r"(?:\d{1,30}(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d)?")
"""A number of 0 or more, far from the limits of float32."""
