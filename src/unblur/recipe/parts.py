"""The sections of a recipe: where data come from, how they are split, what is measured and expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from unblur import splitting
from unblur.errors import RecipeError, nearest, some
from unblur.evaluation.protocol import RankingProtocol
from unblur.evaluation.report import Expected
from unblur.interactions import Interactions
from unblur.randomness import RNG
from unblur.spec import spec
from unblur.splitting import Split

Fraction: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
"""A share strictly between 0 and 1."""


@spec
class Reading:
    """How the caller's own files are read; `unblur.sources.read` says more."""

    format: Literal["parquet", "csv", "adjacency", "recbole", "npz", "npy"] | None = None
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
    labels: Literal["auto", "int", "str"] | None = None
    """What labels are; integers where all of them are when left out."""
    duplicates: Literal["raise", "sum", "first", "last"] | None = None
    """What a user-item pair that occurs twice means; refused when left out."""

    def options(self) -> dict[str, Any]:
        """What was set, as keywords of `unblur.sources.read`."""
        return {
            name: value
            for name, value in vars(self).items()
            if value is not None and not name.startswith("_")
        }


@spec
class KCore:
    """How many interactions users and items must have to stay (see `unblur.splitting.k_core`)."""

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
class Files:
    """The split that the data came with."""

    kind: ClassVar[str] = "files"
    train: str = "train"
    """The part to learn from; its rows are the histories as well."""
    held_out: str = "test"
    """The part to recover."""

    def apply(self, parts: Mapping[str, Interactions], rng: RNG) -> Split:
        """The split of the named parts. Raises `RecipeError` for a part that is not there."""
        return splitting.from_files(
            _part(parts, self.train, "train"), _part(parts, self.held_out, "held_out")
        )


@spec
class Random:
    """Random items of each user are held out."""

    kind: ClassVar[str] = "random"
    fraction: Fraction = 0.2
    """The share of each user's items that is held out; one is always left."""
    n: PositiveInt | None = None
    """How many items of each user are held out, in place of a share."""
    part: str | None = None
    """Which part of the data is split; may be left out where there is just one."""

    def apply(self, parts: Mapping[str, Interactions], rng: RNG) -> Split:
        """The split, drawn from `rng`."""
        data = _only(parts, self.part)
        if self.n is not None:
            return splitting.hold_out(data, n=self.n, rng=rng)
        return splitting.hold_out(data, fraction=self.fraction, rng=rng)


@spec
class Block:
    """One contiguous run of each user's items, in label order, is held out."""

    kind: ClassVar[str] = "block"
    fraction: Fraction = 0.2
    """The share of each user's items that is held out; one is always left."""
    part: str | None = None
    """Which part of the data is split; may be left out where there is just one."""

    def apply(self, parts: Mapping[str, Interactions], rng: RNG) -> Split:
        """The split, drawn from `rng`."""
        return splitting.hold_out_block(_only(parts, self.part), fraction=self.fraction, rng=rng)


@spec
class LeaveLast:
    """The last items of each user in time are held out."""

    kind: ClassVar[str] = "leave-last"
    n: PositiveInt = 1
    """How many; one item is always left."""
    part: str | None = None
    """Which part of the data is split; may be left out where there is just one."""

    def apply(self, parts: Mapping[str, Interactions], rng: RNG) -> Split:
        """The split; there is no chance in it."""
        return splitting.leave_last(_only(parts, self.part), self.n)


@spec
class Time:
    """Everything after a moment is held out."""

    kind: ClassVar[str] = "time"
    fraction: Fraction = 0.2
    """The share of all interactions, the latest ones, that is held out."""
    after: int | None = None
    """The moment itself, in the unit of the data, in place of a share."""
    part: str | None = None
    """Which part of the data is split; may be left out where there is just one."""

    def apply(self, parts: Mapping[str, Interactions], rng: RNG) -> Split:
        """The split; there is no chance in it."""
        data = _only(parts, self.part)
        if self.after is not None:
            return splitting.by_time(data, after=self.after)
        return splitting.by_time(data, fraction=self.fraction)


@spec
class Users:
    """Some users are kept out of train; part of their items is shown, the rest held out."""

    kind: ClassVar[str] = "users"
    fraction: Fraction = 0.1
    """The share of users that is kept out of train."""
    held_out_fraction: Fraction = 0.2
    """The share of those users' items that is held out."""
    part: str | None = None
    """Which part of the data is split; may be left out where there is just one."""

    def apply(self, parts: Mapping[str, Interactions], rng: RNG) -> Split:
        """The split, drawn from `rng`."""
        data = _only(parts, self.part)
        return splitting.by_user(
            data, fraction=self.fraction, held_out_fraction=self.held_out_fraction, rng=rng
        )


Splitting: TypeAlias = Files | Random | Block | LeaveLast | Time | Users
SPLITTINGS: Mapping[str, type[Splitting]] = {
    made.kind: made for made in (Files, Random, Block, LeaveLast, Time, Users)
}
"""The ways to split, by the kind that a recipe names."""


@spec
class Protocol(RankingProtocol):
    """What is measured, and how the hyper-parameters came about."""

    kind: Literal["paper", "strict"] = "paper"
    """``paper``: as the recipe gives them, whatever data they were chosen on. ``strict``: chosen anew on
    interactions held out of train, then fitted to all of train and tested once."""


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


def _part(parts: Mapping[str, Interactions], name: str, role: str) -> Interactions:
    if name not in parts:
        raise RecipeError(
            f"The data must have a part {name!r} ({role} of the split); there is {some(sorted(parts))}."
            f"{nearest(name, parts)} Name another part, or hold interactions out with split.kind=random."
        )
    return parts[name]


def _only(parts: Mapping[str, Interactions], name: str | None) -> Interactions:
    if name is not None:
        return _part(parts, name, "part")
    if len(parts) != 1:
        raise RecipeError(
            f"One part of the data is split; there are {len(parts)}: {some(sorted(parts))}. "
            "Name one with split.part=NAME."
        )
    return next(iter(parts.values()))
