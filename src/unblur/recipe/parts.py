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
    validation: str | None = None
    """The part that training stops by, where there is one; lists leave its items out as well as the history's.
    Under the strict protocol, which wants timestamps then, it and `held_out` are put in the order of time, and
    the earlier of the two is learned from."""
    histories: Literal["train", "train-and-validation"] = "train"
    """What the recommender is shown at evaluation under the paper's protocol."""

    def apply(self, parts: Mapping[str, Interactions], rng: RNG) -> Split:
        """The split of the named parts. Raises `RecipeError` for a part that is not there."""
        train, held_out, validation = self._named(parts)
        shown = self.histories == "train-and-validation"
        if shown and validation is None:
            raise RecipeError(
                'split.histories = "train-and-validation" needs a validation part; none is named. Name it with '
                "split.validation=NAME."
            )
        return splitting.from_files(train, held_out, validation=validation, validation_in_histories=shown)

    def in_order(self, parts: Mapping[str, Interactions]) -> Split:
        """The split in the order of time: the later of validation and held-out part is recovered, the earlier is
        learned from together with train.

        The later part is the one in which most users' mean time is later. Raises `RecipeError` where no validation
        part is named, and for a part that is not there or has no times.
        """
        train, held_out, validation = self._named(parts)
        if validation is None:
            raise RecipeError(
                "Parts are put in order where there is a validation part; none is named. Name it with "
                "split.validation=NAME."
            )
        if any(part.timestamps is None for part in (train, held_out, validation)):
            raise RecipeError(
                "The strict protocol puts validation and held-out part in the order of time, so all parts need "
                "timestamps; some have none. Choose a reading that has them (data.reading=NAME), or leave "
                "validation out: split.validation=off."
            )
        given = splitting.from_files(train, held_out, validation=validation)
        assert given.validation is not None  # it was given
        first, last = (f"{self.validation}", given.validation), (self.held_out, given.held_out)
        after = splitting.later_share(first[1], last[1])
        if after < 0.5:
            first, last, after = last, first, 1 - after
        known, late = splitting.together(given.train, first[1]), last[1]
        note = (
            f"in the order of time: {self.train} and {first[0]} are learned from, {last[0]} is held out, which "
            f"is later for {after:.0%} of the users with both"
        )
        return Split(known, known, late, "given files, in the order of time", (note,))

    def _named(
        self, parts: Mapping[str, Interactions]
    ) -> tuple[Interactions, Interactions, Interactions | None]:
        """Train, held-out and validation part."""
        aside = None if self.validation is None else _part(parts, self.validation, "validation")
        return _part(parts, self.train, "train"), _part(parts, self.held_out, "held_out"), aside


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
