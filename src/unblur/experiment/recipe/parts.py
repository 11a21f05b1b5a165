"""Sections of a recipe: its data, its protocol, and the numbers that it expects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import NonNegativeFloat

from unblur.data.formats.labels import Labels
from unblur.data.formats.meaning import OnNull
from unblur.data.formats.opening import FileFormat
from unblur.data.formats.times import TimeUnit
from unblur.data.interactions import Duplicates
from unblur.evaluation.protocol import RankingProtocol
from unblur.evaluation.report import Expected
from unblur.spec import Count, CountOrZero, spec


@spec
class Reading:
    """Options for reading the caller's own files; see `unblur.data.files.read`."""

    format: FileFormat | None = None
    """The file's format; if left out, it follows from name and content."""
    user: str | CountOrZero | None = None
    """The column of users, by name or by index from 0."""
    item: str | CountOrZero | None = None
    """The column of items."""
    rating: str | CountOrZero | None = None
    """The column of ratings or weights; ``"ignore"`` leaves them out."""
    timestamp: str | CountOrZero | None = None
    """The column of times; ``"ignore"`` leaves them out."""
    time_format: str | None = None
    """The form of dates that are not ISO 8601, such as ``"%d/%m/%Y"``."""
    time_unit: TimeUnit | None = None
    """The unit of times that are numbers; they become seconds since 1970. If left out, they stay as they are."""
    parts: str | None = None
    """The files of the log, as a pattern of names in its folder, such as ``"*.csv"``."""
    min_rating: float | None = None
    """Keep rows rated at least this, each with weight 1."""
    ratings: str | None = None
    """Keep rows rated within these intervals, such as ``"[1,2);[4,5]"``, each with weight 1."""
    event_weights: str | None = None
    """The weights of events in words, such as ``"view=1,cart=3,buy=5"``; the words stand in the column of ratings."""
    on_null: OnNull | None = None
    """``"drop"`` leaves out rows without a user, an item, a rating or a time, and counts them; if left out, they are refused."""
    delimiter: str | None = None
    """The separator between the columns of a text file."""
    header: bool | None = None
    """True if a text file begins with the names of its columns."""
    labels: Labels | None = None
    """The type of labels; if left out, integers if all of them are integers, else text."""
    duplicates: Duplicates | None = None
    """The meaning of a user-item pair that occurs twice; if left out, such pairs are refused."""

    @property
    def unselected(self) -> Reading:
        """The same, but for all rows, whatever they are rated: the items that users have seen."""
        return replace(
            self, min_rating=None, ratings=None, rating="ignore", duplicates=self.duplicates or "first"
        )

    @property
    def selects(self) -> bool:
        """True if rows are chosen by their ratings."""
        return self.min_rating is not None or self.ratings is not None

    def options(self) -> dict[str, Any]:
        """The options that are set, as keywords of `unblur.data.files.read`."""
        return {
            name: value
            for name, value in vars(self).items()
            if value is not None and not name.startswith("_")
        }


@spec
class KCore:
    """The numbers of interactions that users and items must have to stay (see `unblur.data.splits.k_core`)."""

    users: Count | str = 1
    """The smallest number of items of a user, or intervals such as ``"[5,100]"``."""
    items: Count | str = 1
    """The smallest number of users of an item, or intervals."""


@spec
class Data:
    """The interactions that a recipe runs on."""

    name: str = ""
    """A public data set by name (`unblur datasets` lists them); empty for the caller's own."""
    reading: str | None = None
    """The data set's way to turn its files into interactions, by name (`unblur datasets`); the first if left out."""
    read: Reading = Reading()
    """Options for reading the caller's own files."""
    k_core: KCore | None = None
    """Drop rare users and items first; `None` keeps all. Only for data that are not split into files."""
    times: Literal["exact", "float32"] = "exact"
    """The precision of times. ``float32``: moments that RecBole's normalization cannot tell apart become one (see
    `unblur.experiment.reading.merged_moments`)."""


@spec
class Protocol(RankingProtocol):
    """The metrics, and the origin of the hyper-parameters."""

    kind: Literal["paper", "strict"] = "paper"
    """The origin of the hyper-parameters. ``paper``: the recipe gives them, whatever data they were chosen on.
    ``strict``: they are chosen anew on interactions held out of train, then the model is fitted to all of train and
    tested once; a trained model without a search space chooses its epoch in this way. Parts with times are put in the
    order of time (`Files.validation`)."""


@spec
class Published:
    """A published number that the recipe must reproduce."""

    value: float
    within: NonNegativeFloat
    """The largest difference that still counts as reproduced."""
    source: str
    """The publication, and the table in it."""

    def expected(self) -> Expected:
        """The number in the form that reports have it."""
        return Expected(value=self.value, within=self.within, source=self.source)


@spec
class Verified:
    """A number that this library measured."""

    value: float
    source: str
    """The version and the machine that it was measured with."""
