"""The role of each column: named by the caller, or found by the usual names, or by its place in a file without names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from unblur.data.formats.tables import Opened
from unblur.errors import Argument, DataError, nearest, some

Role: TypeAlias = Literal["user", "item", "rating", "weight", "event", "timestamp"]
IGNORE = "ignore"
"""The value of `rating` and `timestamp` that leaves such a column out."""

USUAL_NAMES: dict[Role, tuple[str, ...]] = {
    "user": (
        *(
            "user",
            "user_id",
            "uid",
            "user_name",
            "reviewer_id",
            "customer",
            "customer_id",
            "visitor_id",
            "member_id",
        ),
        *("client_id", "account_id", "person_id"),
    ),
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
        *("venue_id", "location_id", "stock_code", "product", "article", "movie", "content_id"),
    ),
    "rating": ("rating", "ratings", "score", "stars", "overall", "label", "book_rating"),
    "weight": ("weight",),
    "event": (
        *(
            "event",
            "event_type",
            "event_name",
            "action",
            "action_type",
            "behavior",
            "behaviour",
            "behavior_type",
        ),
        *("interaction", "interaction_type", "activity"),
    ),
    "timestamp": (
        *("timestamp", "time", "datetime", "date", "ts", "unix_time", "unix_timestamp", "unix_review_time"),
        *("event_time", "created_at", "rated_at", "invoice_date", "order_date", "purchase_date", "t_dat"),
    ),
}
"""Names recognised in any spelling: ``user_id``, ``userId``, ``User ID`` and ``USERID`` are one name."""

_ROLES = {_role_name.replace("_", ""): role for role, names in USUAL_NAMES.items() for _role_name in names}


def _option(role: Role, value: str | None = None) -> Argument:
    """The argument that names the column of a role: weights, and events in words, stand in that of ratings."""
    return Argument("rating" if role in ("weight", "event") else role, value)


def usual_role(name: str) -> Role | None:
    """The role that a column of this name usually has."""
    return _ROLES.get(re.sub(r"[^a-z0-9]", "", name.lower()))


def are_names(labels: pl.Series, role: Role, column: str) -> NDArray[np.bool_]:
    """Which labels are the name of their column, in any spelling, or one that a column of this role usually has."""
    names = [re.sub(r"[\W_]", "", column.lower()), *(name for name, usual in _ROLES.items() if usual == role)]
    if labels.dtype != pl.String:
        return np.zeros(len(labels), dtype=bool)
    return labels.str.to_lowercase().str.replace_all(_NO_LETTER, "").is_in(names).fill_null(False).to_numpy()


_NO_LETTER = r":(?:token|float)(?:_seq)?$|[^\p{L}\p{N}]"
"""What names are compared without: a type as in RecBole's headers, blanks, dashes, a byte order mark."""


def choose_columns(
    opened: Opened, keys: Sequence[str], requested: Mapping[Role, str | int | None], file: str
) -> dict[Role, int]:
    """The position of each role's column: as requested, else by usual names, or by order in a file without names.

    `keys` are the names that the folders of a file give values to; they come after its own columns, and by usual names only
    if none of these has the role. A role's own name (``rating="rating"``) requests the column that would be found anyway. A
    file without names holds user, item, rating and timestamp, in that order, unless positions are requested: then only these
    are read; of three columns the last is the time if it looks like one. Events in words, if they are requested, stand for
    ratings. Raises `DataError` for a missing column, and if two columns could have one role.
    """
    names, named = (*opened.names, *keys), opened.named
    columns: dict[Role, int] = {}
    for role, column in requested.items():
        if column not in (None, IGNORE) and (column != role or column in names):
            columns[role] = _position(column, role, names, named, file)
    if named:
        _by_name(columns, requested, names, len(keys), file)
    else:
        _by_position(columns, requested, opened, file)
    for role, column in requested.items():
        if role not in columns and column not in (None, IGNORE):
            columns[role] = _position(column, role, names, True, file)  # refused: no column has the name
    owners: dict[int, Role] = {}
    for role, position in columns.items():
        if owners.setdefault(position, role) != role:
            raise DataError(
                f"Each column must have one meaning; {names[position]!r} of {file} was given as ",
                _option(role),
                " and as ",
                _option(owners[position]),
                ". Name two different columns.",
            )
    return columns


def described(columns: Mapping[Role, str]) -> str:
    """The column of each role, in words."""
    return ", ".join(f"{role}s from {columns[role]!r}" for role in USUAL_NAMES if role in columns)


def _by_name(
    columns: dict[Role, int],
    requested: Mapping[Role, str | int | None],
    names: Sequence[str],
    n_keys: int,
    file: str,
) -> None:
    assigned = set(columns.values())
    for role in USUAL_NAMES:
        # A column of weights is taken only if nothing is said about ratings.
        skipped = (
            requested.get("rating", IGNORE) if role == "weight" else requested.get(role, IGNORE) == IGNORE
        )
        if role in columns or skipped not in (None, False):
            continue
        usual = [at for at, name in enumerate(names) if at not in assigned and usual_role(name) == role]
        usual = [at for at in usual if at < len(names) - n_keys] or usual
        if len(usual) > 1:
            left_out = () if role in ("user", "item") else (", or leave all out with ", _option(role, IGNORE))
            raise DataError(
                f"{file} must have one column that is the {role}; {some([names[at] for at in usual])} all "
                "could be. Name the one that is meant with ",
                _option(role),
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


def _position(column: str | int | None, role: Role, names: Sequence[str], named: bool, file: str) -> int:
    if isinstance(column, bool) or not isinstance(column, str | int):
        raise DataError(_option(role), f" must be a column's name or its position from 0; saw {column!r}.")
    if isinstance(column, int):
        DataError.unless(
            0 <= column < len(names),
            f"{file} must have a column at position {column} for ",
            _option(role),
            f"; it has {len(names)} columns, 0 to {len(names) - 1}: {some(names, 12)}. Correct the position, or "
            "the delimiter.",
        )
        return column
    DataError.unless(
        named,
        f"{file} must have a header to name ",
        _option(role),
        f" {column!r}; it was read as having none. Give positions from 0, or pass ",
        Argument("header", True),
        ".",
    )
    DataError.unless(
        column in names,
        f"{file} must have the column {column!r} that was named as ",
        _option(role),
        f"; its columns are {some(names, 12)}.{nearest(column, names)} Correct the name.",
    )
    return list(names).index(column)


def _by_position(
    columns: dict[Role, int], requested: Mapping[Role, str | int | None], opened: Opened, file: str
) -> None:
    if "user" in columns and "item" in columns:
        return
    names = opened.names
    DataError.unless(
        "user" not in columns and "item" not in columns,
        f"{file} has no header, so both ",
        Argument("user"),
        " and ",
        Argument("item"),
        " must be given by position or neither; one was. Give both.",
    )
    DataError.unless(
        2 <= len(names) <= 4,
        "A file without header must have 2 to 4 columns (user, item, rating, timestamp) to be read "
        f"unasked; {file} has {len(names)}. Say which columns are meant by position (",
        Argument("user", 0),
        ", ",
        Argument("item", 1),
        ", …), or correct ",
        Argument("delimiter"),
        ".",
    )
    assigned = set(columns.values())
    timed = len(names) == _TIMED and all(LOOKS_LIKE_TIME.fullmatch(row[_TIMED - 1]) for row in opened.sample)
    roles = ("user", "item", "timestamp") if timed else tuple(requested)[: len(names)]
    for position, role in enumerate(roles):
        if role not in columns and position not in assigned and requested[role] != IGNORE:
            columns[role] = position


_TIMED = 3
"""The columns of a file of users, items and times."""
LOOKS_LIKE_TIME = re.compile(
    r"\s*(?:\d{4}-\d\d-\d\d.*|\d{1,4}[/.]\d{1,2}[/.]\d{1,4}.*|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|\d{9,19}(?:\.\d+)?)\s*"
)
"""A date in any form, eight digits of one, or so many digits as seconds since 1970 have: no rating is such."""
