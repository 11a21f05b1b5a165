"""Which column is which: named by the caller, or told from the usual names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from unblur.errors import Argument, DataError, nearest, some

Role: TypeAlias = Literal["user", "item", "rating", "weight", "timestamp"]
IGNORE = "ignore"
"""The value of `rating` and `timestamp` that leaves such a column out."""

USUAL_NAMES: dict[Role, tuple[str, ...]] = {
    "user": ("user", "user_id", "uid", "user_name", "reviewer_id", "customer_id", "visitor_id", "member_id"),
    "item": (
        *(
            "item",
            "item_id",
            "iid",
            "movie_id",
            "book_id",
            "isbn",
            "asin",
            "parent_asin",
            "product_id",
            "sku",
        ),
        *("track_id", "song_id", "artist_id", "business_id", "article_id", "video_id", "game_id", "news_id"),
        *("venue_id", "location_id"),
    ),
    "rating": ("rating", "ratings", "score", "stars", "overall", "label"),
    "weight": ("weight",),
    "timestamp": (
        *("timestamp", "time", "datetime", "date", "ts", "unix_time", "unix_timestamp", "unix_review_time"),
        *("event_time", "created_at", "rated_at"),
    ),
}
"""Names that are recognised in any spelling: ``user_id``, ``userId``, ``User ID`` and ``USERID`` are one
name."""

_ROLES = {_role_name.replace("_", ""): role for role, names in USUAL_NAMES.items() for _role_name in names}
_POSITIONAL: tuple[Role, ...] = ("user", "item", "rating", "timestamp")


def usual_role(name: str) -> Role | None:
    """The role that a column of this name usually has."""
    return _ROLES.get(re.sub(r"[^a-z0-9]", "", name.lower()))


def choose_columns(
    names: Sequence[str], named: bool, asked: Mapping[Role, str | int | None], file: str
) -> dict[Role, int]:
    """The position of each role's column, by what the caller asked for, then by name; without names, by position.

    A role's own name (``rating="rating"``) asks for the column that would be guessed. A file without names
    holds user, item, rating and timestamp, in that order, unless positions are given: then only what was
    given is read. Raises `DataError` for a column that is not there and where two could be meant.
    """
    columns: dict[Role, int] = {}
    for role, wanted in asked.items():
        if wanted not in (None, IGNORE) and (wanted != role or wanted in names):
            columns[role] = _position(wanted, role, names, named, file)
    if named:
        _by_name(columns, asked, names, file)
    else:
        _by_position(columns, asked, names, file)
    for role, wanted in asked.items():
        if role not in columns and wanted not in (None, IGNORE):
            raise _missing(str(wanted), role, names, file)
    owners: dict[int, Role] = {}
    for role, position in columns.items():
        if owners.setdefault(position, role) != role:
            raise DataError(
                f"Each column must have one meaning; {names[position]!r} of {file} was given as ",
                Argument(role),
                " and as ",
                Argument(owners[position]),
                ". Name two different columns.",
            )
    return columns


def described(columns: Mapping[Role, int], names: Sequence[str]) -> str:
    """Which column was taken for what, in words."""
    return ", ".join(f"{role}s from {names[columns[role]]!r}" for role in USUAL_NAMES if role in columns)


def _by_name(
    columns: dict[Role, int], asked: Mapping[Role, str | int | None], names: Sequence[str], file: str
) -> None:
    taken = set(columns.values())
    for role in USUAL_NAMES:
        passed_over = role == "weight" and asked["rating"] is not None
        if role in columns or passed_over or asked.get(role) == IGNORE:
            continue
        usual = [at for at, name in enumerate(names) if at not in taken and usual_role(name) == role]
        if len(usual) > 1:
            option: Role = "rating" if role == "weight" else role
            left_out = (
                () if role in ("user", "item") else (", or leave all out with ", Argument(option, IGNORE))
            )
            raise DataError(
                f"{file} must have one column that is the {role}; {some([names[at] for at in usual])} all "
                "could be. Name the one that is meant with ",
                Argument(option),
                *left_out,
                ".",
            )
        if usual:
            columns[role] = usual[0]
        elif role in ("user", "item"):
            raise DataError(
                f"{file} must have a column of {role}s; none of its columns ({some(names, 12)}) has a usual "
                f"name such as {', '.join(USUAL_NAMES[role][:4])}. Name it with ",
                Argument(role),
                ".",
            )


def _position(wanted: str | int | None, role: Role, names: Sequence[str], named: bool, file: str) -> int:
    if isinstance(wanted, bool) or not isinstance(wanted, str | int):
        raise DataError(Argument(role), f" must be a column's name or its position from 0; saw {wanted!r}.")
    if isinstance(wanted, int):
        if not 0 <= wanted < len(names):
            raise DataError(
                f"{file} must have a column at position {wanted} for ",
                Argument(role),
                f"; it has {len(names)} columns, 0 to {len(names) - 1}: {some(names, 12)}. Correct the position, or "
                "the delimiter.",
            )
        return wanted
    if not named:
        raise DataError(
            f"{file} must have a header to name ",
            Argument(role),
            f" {wanted!r}; it was read as having none. Give positions from 0, or pass ",
            Argument("header", True),
            ".",
        )
    if wanted not in names:
        raise _missing(wanted, role, names, file)
    return list(names).index(wanted)


def _by_position(
    columns: dict[Role, int], asked: Mapping[Role, str | int | None], names: Sequence[str], file: str
) -> None:
    if "user" in columns and "item" in columns:
        return
    if "user" in columns or "item" in columns:
        raise DataError(
            f"{file} has no header, so both ",
            Argument("user"),
            " and ",
            Argument("item"),
            " must be given by position or neither; one was. Give both.",
        )
    if not 2 <= len(names) <= 4:
        raise DataError(
            "A file without header must have 2 to 4 columns (user, item, rating, timestamp) to be read "
            f"unasked; {file} has {len(names)}. Say which columns are meant by position (",
            Argument("user", 0),
            ", ",
            Argument("item", 1),
            ", …), or correct ",
            Argument("delimiter"),
            ".",
        )
    taken = set(columns.values())
    for position, role in enumerate(_POSITIONAL[: len(names)]):
        if role not in columns and position not in taken and asked[role] != IGNORE:
            columns[role] = position


def _missing(wanted: str, role: Role, names: Sequence[str], file: str) -> DataError:
    return DataError(
        f"{file} must have the column {wanted!r} that was named as ",
        Argument(role),
        f"; its columns are {some(names, 12)}.{nearest(wanted, names)} Correct the name.",
    )
