"""The ways in which a recipe splits its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, PositiveInt

from unblur.data import splits as splitting
from unblur.data.interactions import Interactions
from unblur.data.splits.sets import Split
from unblur.errors import RecipeError, nearest, some
from unblur.randomness import RNG
from unblur.spec import spec

Fraction: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
"""A share strictly between 0 and 1."""


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


@spec
class Ratio:
    """Train, validation and test part by shares, as RecBole's ratio split makes them."""

    kind: ClassVar[str] = "ratio"
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """The share that training stops by and lists leave out; with 0 there is no such part."""
    held_out: Fraction = 0.1
    """The share to recover; the rest is train."""
    order: splitting.Order = "random"
    """``random``, or ``time``: train is the earliest, the held-out part the latest."""
    by: Literal["user", "all"] = "user"
    """Whether shares are of each user's interactions or of the whole log."""
    part: str | None = None
    """Which part of the data is split; may be left out where there is just one."""

    def apply(self, parts: Mapping[str, Interactions], rng: RNG) -> Split:
        """The split, drawn from `rng` where the order is random."""
        return splitting.by_ratio(
            _only(parts, self.part),
            validation=self.validation,
            held_out=self.held_out,
            order=self.order,
            by=self.by,
            rng=rng,
        )


@spec
class LeaveOneOut:
    """The last interaction of each user is held out, and the one before it left to validation."""

    kind: ClassVar[str] = "leave-one-out"
    order: splitting.Order = "time"
    """What is last: in ``time``, or in a ``random`` order."""
    validation: bool = True
    """Whether there is a validation part."""
    part: str | None = None
    """Which part of the data is split; may be left out where there is just one."""

    def apply(self, parts: Mapping[str, Interactions], rng: RNG) -> Split:
        """The split, drawn from `rng` where the order is random."""
        data = _only(parts, self.part)
        return splitting.leave_one_out(data, order=self.order, validation=self.validation, rng=rng)


Splitting: TypeAlias = Files | Random | Block | LeaveLast | Time | Users | Ratio | LeaveOneOut
SPLITTINGS: Mapping[str, type[Splitting]] = {
    made.kind: made for made in (Files, Random, Block, LeaveLast, Time, Users, Ratio, LeaveOneOut)
}
"""The ways to split, by the kind that a recipe names."""


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
