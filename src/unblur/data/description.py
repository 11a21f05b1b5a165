"""What a log holds, what is doubtful about it, and how to go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unblur.data.formats.columns import Role, usual_role
from unblur.data.formats.events import Events, RequestedColumns, read_events
from unblur.data.formats.meaning import Meaning
from unblur.data.interactions import Interactions, selection
from unblur.data.splits import Time
from unblur.data.vocabulary import Vocabulary, indexed
from unblur.errors import DataError, shortened
from unblur.progress import Progress, silent

_ROBOT = 10.0
"""A user with more than ten times the events of 99 of 100 others is hardly a person; chosen by hand, far from the tail of people in the
public data sets."""
_MANY = 0.5
"""The share of rows, users or items from which a column is doubtful: most of them."""
_FEW = 10
"""Of so few items one may well have most rows."""
_WEB_BEGAN = 694_224_000
"""1992-01-01 in seconds: earlier events are no clicks."""
_LIKED = 0.8
"""The place of the rating to select from between the lowest and the highest: 4 of 1 to 5, as most papers have it."""


@dataclass(frozen=True, eq=False)
class Description:
    """What a log holds."""

    facts: Mapping[str, Any]
    """Plain values by name; what a log has not is left out."""
    doubts: tuple[str, ...]
    """What may be wrong, each with what to do about it."""
    options: Mapping[str, str | float]
    """The options of reading, by keyword, that the log needs next to those that were given."""

    def rows(self) -> list[tuple[str, str]]:
        """The facts in words."""
        return [(name.replace("_", " "), _worded(name, value)) for name, value in self.facts.items()]


def describe(
    path: str | Path,
    *,
    progress: Progress = silent,
    format: Any = None,
    delimiter: str | None = None,
    header: bool | None = None,
    parts: str | None = None,
    min_rating: float | None = None,
    ratings: str | None = None,
    duplicates: Any = None,
    **options: Any,
) -> Description:
    """Describe a log; the options are those of `Interactions.read`.

    Nothing of what `read` asks about must be said: ratings are taken as they are, repeats are counted, and so are rows that
    lack a value. Raises `DataError` as `read` does for the rest.
    """
    requested: RequestedColumns = {
        role: options.pop(role, None) for role in ("user", "item", "rating", "timestamp")
    }
    meaning = Meaning(**{**options, "on_null": "drop"}, any_ratings=True)
    events = read_events(
        path,
        requested,
        meaning,
        format=format,
        delimiter=delimiter,
        header=header,
        parts=parts,
        progress=progress,
    )
    values: NDArray[Any] | None = events.columns.pop("weights", None)
    selected = selection(min_rating, ratings)
    facts: dict[str, Any] = {"rows": len(events.columns["users"].positions)}
    doubts: list[str] = []
    needed: dict[str, str | float] = {}
    if events.n_nulls:
        facts["rows_without_a_value"] = events.n_nulls
        if options.get("on_null") != "drop":
            needed["on_null"] = "drop"
    (users, rows), (items, columns) = (
        indexed(events.columns[axis], None, axis, "raise") for axis in ("users", "items")
    )
    facts.update(users=len(users), items=len(items))
    if values is not None and not (values == 1).all():
        if selected is None:
            _describe_ratings(values, events.roles, requested, facts, needed)
        else:
            facts["rows_selected_by_rating"] = int(selected.contain(values).sum())
    times = events.columns.get("timestamps")
    _doubt_columns(rows, columns, len(users), len(items), doubts)
    doubts += [
        f"the column {column!r} was not read; if it says what happened, say what each word counts: --event-weights view=1,buy=5"
        for column in events.unread
        if usual_role(column) == "event"
    ]
    if times is not None and len(times):
        _describe_times(times, events, facts, doubts)
    by_user, by_item = np.bincount(rows), np.bincount(columns)
    # Of a hundred million events: the split by time, below, takes most memory.
    del rows, columns, times, values
    data = Interactions.from_events(events, Meaning(), "last", (None, None), "raise")
    _describe_pairs(data, facts, doubts)
    if data.n_interactions < facts["rows"] and duplicates is None:
        # Events of a pair add up: what was seen and bought counts for both.
        needed["duplicates"] = "last" if meaning.event_weights is None else "sum"
    for name, degrees in (("user", by_user), ("item", by_item)):
        facts[f"rows_of_{name}s"] = {
            "median": float(np.median(degrees)),
            "mean": float(degrees.mean()),
            "most": int(degrees.max()),
        }
    _doubt_robots(by_user, users, doubts, facts)
    if data.timestamps is not None:
        facts["split_by_time"] = _split_by_time(data)
    return Description(facts, tuple(doubts), needed)


def _describe_pairs(data: Interactions, facts: dict[str, Any], doubts: list[str]) -> None:
    facts["pairs"] = data.n_interactions
    facts["rows_that_repeat_a_pair"] = facts["rows"] - data.n_interactions
    facts["density"] = data.density
    facts["share_of_items_seen_once"] = float((data.item_degrees == 1).mean())
    facts["share_of_users_seen_once"] = float((data.user_degrees == 1).mean())
    if facts["share_of_users_seen_once"] > _MANY:
        doubts.append(
            f"{facts['share_of_users_seen_once']:.0%} of users have one item alone, from which nothing is learned; is the column of users one "
            "of sessions or orders?"
        )


def _describe_ratings(
    values: NDArray[Any],
    roles: Mapping[Role, str],
    requested: RequestedColumns,
    facts: dict[str, Any],
    needed: dict[str, str | float],
) -> None:
    lowest, highest = float(values.min()), float(values.max())
    facts["ratings"] = {"lowest": lowest, "mean": float(values.mean()), "highest": highest}
    if "rating" in roles and requested["rating"] is None:
        least = lowest + _LIKED * (highest - lowest) if lowest < highest else lowest
        needed["min_rating"] = float(np.floor(least)) if highest - lowest > 1 else round(least, 2)


def _describe_times(
    times: NDArray[np.int64], events: Events, facts: dict[str, Any], doubts: list[str]
) -> None:
    first, last = int(times.min()), int(times.max())
    if events.per_second is None:
        facts["times"] = {"first": first, "last": last}
        return
    seconds = first // events.per_second, last // events.per_second
    facts["times"] = {name: _moment(value) for name, value in zip(("first", "last"), seconds, strict=True)}
    if seconds[0] < _WEB_BEGAN or seconds[1] > datetime.now(UTC).timestamp() + 86_400:
        doubts.append(
            f"times from {facts['times']['first']} to {facts['times']['last']} are before 1992 or in the future; is the unit another one?"
        )
    _, counts = np.unique(times, return_counts=True)
    if len(times) > 1 and counts.max() > _MANY * len(times):
        doubts.append(
            f"{counts.max() / len(times):.0%} of rows are of one moment, so their order is that of the log; is the column one of an import?"
        )


def _doubt_columns(
    rows: NDArray[np.int32], columns: NDArray[np.int32], n_users: int, n_items: int, doubts: list[str]
) -> None:
    n_rows, top = len(rows), int(np.bincount(columns).max())
    possible = (
        (
            n_users == n_rows > 1,
            "each row has a user of its own; is the column of users one of rows or of orders?",
        ),
        (
            n_items == n_rows > 1,
            "each row has an item of its own; is the column of items one of rows or of events?",
        ),
        (n_users == 1, "there is one user alone; is the column of users the right one?"),
        (n_items == 1, "there is one item alone; is the column of items the right one?"),
        (
            n_items > _FEW and top > _MANY * n_rows,
            f"one item has {top / n_rows:.0%} of all rows; is it a word for no item?",
        ),
    )
    doubts += [doubt for holds, doubt in possible if holds]


def _doubt_robots(
    degrees: NDArray[np.int64], users: Vocabulary, doubts: list[str], facts: dict[str, Any]
) -> None:
    limit = _ROBOT * float(np.quantile(degrees, 0.99))
    robots = np.flatnonzero(degrees > limit)
    facts["users_like_robots"] = len(robots)
    if len(robots):
        largest = users.take(robots[np.argsort(-degrees[robots])[:3]]).to_list()
        doubts.append(
            f"{len(robots):,} users have more than {limit:,.0f} rows, ten times those of 99 of 100 users, and "
            f"{degrees[robots].sum() / degrees.sum():.1%} of all: {', '.join(shortened(repr(label)) for label in largest)}; are they "
            "robots, or users without a name?"
        )


def _split_by_time(data: Interactions) -> dict[str, Any] | str:
    """What a split by time leaves: the latest fifth held out."""
    try:
        split = Time().apply(data)
    except DataError as problem:
        return f"impossible: {problem}"
    known = split.train.item_degrees > 0
    n_held_out = split.held_out.n_interactions
    return {
        "train_pairs": split.train.n_interactions,
        "held_out_pairs": n_held_out,
        "held_out_users": int((split.held_out.user_degrees > 0).sum()),
        "users_without_history": data.n_users - split.train.n_users,
        "share_of_new_items": float(split.held_out.item_degrees[~known].sum() / max(1, n_held_out)),
    }


def _moment(seconds: int) -> str:
    """A time in words; as a number if no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def _worded(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(
            f"{part.replace('_', ' ')} {_worded(part, number)}" for part, number in value.items()
        )
    if isinstance(value, float):
        return f"{value:.2%}" if name.startswith("share") or name == "density" else f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
