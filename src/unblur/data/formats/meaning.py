"""What the values of a log mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from unblur.data.formats.labels import Labels
from unblur.data.formats.times import UNITS, TimeUnit
from unblur.data.intervals import Intervals
from unblur.errors import Argument, DataError, check_word

OnNull: TypeAlias = Literal["raise", "drop"]


@dataclass(frozen=True)
class Meaning:
    """What values mean; the options are those of `Interactions.read`."""

    selected: Intervals | None = None
    """The ratings by which rows are selected; `None` for all rows."""
    repeats_first: bool = False
    """True if one row of each pair is chosen by its time before rows are selected, so that all times are needed."""
    labels: Labels = "auto"
    time_format: str | None = None
    time_unit: TimeUnit | None = None
    on_null: OnNull = "raise"
    event_weights: str | Mapping[str, float] | None = None
    any_ratings: bool = False
    """True if ratings are taken as they are, whatever they mean: to describe them."""

    def __post_init__(self) -> None:
        check_word("labels", self.labels, get_args(Labels))
        check_word("on_null", self.on_null, get_args(OnNull))
        if self.time_unit is not None:
            check_word("time_unit", self.time_unit, UNITS)
        DataError.unless(
            self.event_weights is None or self.selected is None,
            Argument("event_weights"),
            " and ",
            Argument("min_rating"),
            " must not both choose rows; both are given. Leave one out: a weight of 0 leaves out the rows of a word.",
        )
