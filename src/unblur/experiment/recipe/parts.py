"""The sections of a recipe: where data come from, how they are split, what is measured and expected."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from unblur.data.formats.events import Labels
from unblur.data.formats.opening import FileFormat
from unblur.data.interactions import Duplicates
from unblur.evaluation.protocol import RankingProtocol
from unblur.evaluation.report import Expected
from unblur.spec import spec


@spec
class Reading:
    """How the caller's own files are read; `unblur.data.files.read` says more."""

    format: FileFormat | None = None
    """The file's format; told from its name and content when left out."""
    user: str | NonNegativeInt | None = None
    """The column of users, by name or by place from 0."""
    item: str | NonNegativeInt | None = None
    """The column of items."""
    rating: str | NonNegativeInt | None = None
    """The column of ratings or weights; ``"ignore"`` leaves them out."""
    timestamp: str | NonNegativeInt | None = None
    """The column of times; ``"ignore"`` leaves them out."""
    min_rating: float | None = None
    """Keep rows rated at least this, each with weight 1."""
    delimiter: str | None = None
    """What parts the columns of a text file."""
    header: bool | None = None
    """Whether a text file begins with the names of its columns."""
    labels: Labels | None = None
    """What labels are; integers where all of them are when left out."""
    duplicates: Duplicates | None = None
    """What a user-item pair that occurs twice means; refused when left out."""

    def options(self) -> dict[str, Any]:
        """What was set, as keywords of `unblur.data.files.read`."""
        return {
            name: value
            for name, value in vars(self).items()
            if value is not None and not name.startswith("_")
        }


@spec
class KCore:
    """How many interactions users and items must have to stay (see `unblur.data.splits.k_core`)."""

    users: PositiveInt = 1
    """The fewest items of a user."""
    items: PositiveInt = 1
    """The fewest users of an item."""


@spec
class Data:
    """Which interactions a recipe runs on."""

    name: str = ""
    """A public data set by name (`unblur datasets` lists them); empty for the caller's own."""
    reading: str | None = None
    """Which of the data set's ways to make interactions of its files (`unblur datasets`); the first one when
    left out."""
    read: Reading = Reading()
    """How the caller's own files are read."""
    k_core: KCore | None = None
    """Drop rare users and items first; `None` keeps all. Only for data that are not split by files."""


@spec
class Protocol(RankingProtocol):
    """What is measured, and how the hyper-parameters came about."""

    kind: Literal["paper", "strict"] = "paper"
    """``paper``: as the recipe gives them, whatever data they were chosen on. ``strict``: chosen anew on
    interactions held out of train, then fitted to all of train and tested once; a trained model that has no
    search space chooses its epoch so. Parts with times are put in their order (`Files.validation`)."""


@spec
class Published:
    """A number of somebody else that the recipe must reproduce."""

    value: float
    within: NonNegativeFloat
    """The largest difference that still counts as reproduced."""
    source: str
    """Where the number stands."""

    def expected(self) -> Expected:
        """The same, as reports carry it."""
        return Expected(value=self.value, within=self.within, source=self.source)


@spec
class Verified:
    """A number that this library measured."""

    value: float
    source: str
    """With which version, on what machine."""
