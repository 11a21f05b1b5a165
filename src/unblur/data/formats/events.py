"""From a file to events: users, items, weights and times in parallel columns, in the order of the file's rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, get_args

import polars as pl

from unblur.data.formats.opening import (
    FORMATS,
    IGNORE,
    FileFormat,
    Opened,
    Role,
    choose_columns,
    described,
    guess_format,
    is_adjacency,
    open_adjacency,
    open_data,
    open_delimited,
    open_matrix,
    open_pairs,
    open_parquet,
    open_recbole,
    sample_of,
)
from unblur.data.vocabulary import refuse_nulls
from unblur.errors import Argument, DataError, about, check_word, some
from unblur.progress import Progress, ProgressEvent

Labels: TypeAlias = Literal["auto", "int", "str"]


RequestedColumns: TypeAlias = Mapping[Role, str | int | None]
"""The columns of users, items, ratings and timestamps as the caller named them, by name or position."""


@dataclass(frozen=True, eq=False)
class Events:
    """The rows of a file that are interactions."""

    columns: Mapping[str, Any]
    """Parallel columns, by the keywords of `Interactions.from_pairs`: users, items, the row of the file of each event
    (``order``), weights unless all are equal, and timestamps if there are any."""
    shape: tuple[int, int] | None
    """(n_users, n_items) if labels are the positions in a matrix."""
    source: str
    """The file and the roles of its columns, for errors."""


def read_events(
    path: str | Path,
    requested: RequestedColumns,
    *,
    format: FileFormat | None,
    delimiter: str | None,
    header: bool | None,
    min_rating: float | None,
    labels: Labels,
    progress: Progress,
) -> Events:
    """Read the events of one file; the options are those of `Interactions.read`.

    Raises `DataError` for a file or a value that cannot be used.
    """
    file = Path(path)
    with open_data(file) as stream:
        DataError.unless(
            stream.seek(0, io.SEEK_END),
            f"A file must hold data; {file} is empty (0 bytes). Write or copy it again.",
        )
        opened = _opened(stream, requested, format, delimiter, header)
        columns = choose_columns(opened.names, opened.named, requested, str(file))
        positions = sorted(set(columns.values()))
        progress(ProgressEvent(f"read {file.name}", 0, 1))
        frame = opened.load(positions)
    DataError.unless(frame.height, f"A file must hold interactions; {file} has none. Write or copy it again.")
    progress(ProgressEvent(f"read {file.name}", 1, 1))
    source = str(file)
    if opened.format != "adjacency":
        source += f" ({described(columns, opened.names)}; rows count from 0)"
    with about(source):
        at = dict(zip(positions, frame.get_columns(), strict=True))
        table = {role: at[position] for role, position in columns.items()}
        events = _events(table, opened, requested["rating"], min_rating, labels)
    return Events(events.to_dict(), None if labels == "str" else opened.shape, source)


_WITHOUT_SAMPLE: dict[FileFormat | None, Callable[[BinaryIO], Opened]] = {
    "parquet": open_parquet,
    "npz": open_matrix,
    "npy": open_pairs,
}
"""Functions that open files of the formats that need no sample of lines."""


def _opened(
    stream: BinaryIO,
    requested: RequestedColumns,
    format: FileFormat | None,
    delimiter: str | None,
    header: bool | None,
) -> Opened:
    """The file, opened in `format`, or in the format found by its first bytes and its name."""
    unspecified = delimiter is None and header is None
    if format is not None:
        check_word("format", format, FORMATS)
    else:
        stream.seek(0)
        format = guess_format(stream, stream.read(4096))
        if format is None and not unspecified:
            format = "csv"
    if format in _WITHOUT_SAMPLE:
        stream.seek(0)
        return _WITHOUT_SAMPLE[format](stream)
    sample = sample_of(stream)
    if format is None or (format == "csv" and unspecified):
        if sample.typed:
            format = "recbole"
        elif format is None:
            format = "adjacency" if is_adjacency(sample, stream) else "csv"
    if format == "adjacency":
        return open_adjacency(stream)
    if format == "recbole":
        return open_recbole(stream, sample)
    names = any(isinstance(name, str) and name not in (role, IGNORE) for role, name in requested.items())
    return open_delimited(stream, sample, delimiter, header, names)


def _events(
    table: Mapping[Role, pl.Series],
    opened: Opened,
    rating: str | int | None,
    min_rating: float | None,
    labels: Labels,
) -> pl.DataFrame:
    """Labels, weights and times from the column of each role, and the row of the file of each event."""
    typed = opened.format not in ("csv", "recbole", "adjacency")
    labels = "int" if opened.format == "adjacency" and labels == "auto" else labels
    columns = {
        "users": labels_of(table["user"], labels, "user", typed=typed),
        "items": labels_of(table["item"], labels, "item", typed=typed),
        "weights": _weights(table, opened, rating, min_rating),
        "timestamps": table.get("timestamp"),
        "order": pl.int_range(len(table["user"]), eager=True),
    }
    events = pl.DataFrame({name: column for name, column in columns.items() if column is not None})
    if min_rating is not None:
        events = events.filter(events["weights"] >= min_rating).drop("weights")
        DataError.unless(
            events.height,
            f"Some row must be rated at least {min_rating}; none is. Lower ",
            Argument("min_rating"),
            ".",
        )
    if "timestamps" in events.columns:
        events = events.with_columns(timestamps=times_of(events["timestamps"]))
    return events


def _weights(
    table: Mapping[Role, pl.Series], opened: Opened, rating: str | int | None, min_rating: float | None
) -> pl.Series | None:
    """The weights (or, under `min_rating`, the ratings), or `None` if all weights are 1."""
    role: Role = "rating" if "rating" in table else "weight"
    if role not in table:
        if min_rating is None:
            return None
        DataError.unless(
            rating != IGNORE,
            Argument("min_rating"),
            " needs ratings to compare with; ",
            Argument("rating", IGNORE),
            " leaves them out. Drop one of the two.",
        )
        raise DataError(
            Argument("min_rating"),
            f" needs a column of ratings; none of {some(opened.names, 12)} has a usual name for one. Name it with ",
            Argument("rating"),
            ".",
        )
    values = numbers_of(table[role], role)
    if min_rating is not None:
        return values
    lowest, highest = float(values.min() or 0), float(values.max() or 0)  # type: ignore[arg-type]
    if lowest == highest == 1:
        return None
    as_interactions = (", or ", Argument("rating", IGNORE), " to count every row as an interaction")
    if role == "rating" and rating is None:
        name = table[role].name if opened.named else opened.names.index(table[role].name)
        raise DataError(
            f"What a rating means must be said; the column {name!r} holds values from {lowest:g} to {highest:g}. Pass ",
            Argument("min_rating"),
            " to keep those from a value on as likes, ",
            Argument("rating", name),
            " to take it as weights",
            *as_interactions,
            *(["."] if opened.named else ["; or ", Argument("timestamp", name), ", if it is a time."]),
        )
    if lowest <= 0:
        n_bad = int((values <= 0).sum())
        raise DataError(
            f"Weights must be positive; {n_bad:,} of {len(values):,} rows hold {lowest:g} or more up to 0. Pass ",
            Argument("min_rating"),
            " to keep rows from a value on",
            *as_interactions,
            ".",
        )
    return values


# ------------------------------------------------------------------------------------------ values of one column


def labels_of(column: pl.Series, labels: Labels, role: str, *, typed: bool) -> pl.Series:
    """User or item labels as integers or strings; `typed` if the file's format has column types.

    ``"auto"`` keeps the type of a typed column; text becomes integers if every value is an integer (``007`` is not, because
    it would lose its zeros), else it stays text. ``"int"`` and ``"str"`` set the type. Raises `DataError` for text that
    only looks like integers (``12.0``), and under ``"int"`` for text that is no integer.
    """
    check_word("labels", labels, get_args(Labels))
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if labels == "str":
        DataError.unless(
            column.dtype == pl.String or column.dtype.is_integer(),
            f"{role}s must be integers or strings to be labels; saw {column.dtype}. Convert the column first.",
        )
        return column.cast(pl.String)
    if column.dtype != pl.String or (typed and labels == "auto"):
        DataError.unless(
            labels != "int" or column.dtype.is_integer(),
            f"{role}s must be integers under ",
            Argument("labels", "int"),
            f"; saw {column.dtype}. Convert the column first.",
        )
        return column
    stripped = column.str.strip_chars()
    integers = stripped.cast(pl.Int64, strict=False)
    bad = integers.is_null() & column.is_not_null()
    if labels == "int":
        if bad.any():
            at = _first(bad)
            raise DataError(
                f"{role}s must be integers below 2**63 under ",
                Argument("labels", "int"),
                f"; saw {column[at]!r} in row {at}. Correct the file, or pass ",
                Argument("labels", "str"),
                ".",
            )
        return integers
    if not bad.any():
        padded = stripped.str.contains(r"^(?:\+|-?0[0-9]|-0$)").any()
        return column if padded else integers
    numbers = column.drop_nulls()
    for pattern, what in (
        (
            r"^\s*[0-9]+\.0*\s*$",
            "whole numbers written with a decimal point (usually a column that once had gaps)",
        ),
        (r"^\s*[+-]?[0-9]+\s*$", "integers of which some are not below 2**63"),
    ):
        if numbers.str.contains(pattern).all():
            at = _first(bad)
            raise DataError(
                f"{role}s must be integers below 2**63 or strings; saw {what}, such as {column[at]!r} in row "
                f"{at}. Correct them, or pass ",
                Argument("labels", "str"),
                " to take them as they are written.",
            )
    return column


def numbers_of(column: pl.Series, role: str) -> pl.Series:
    """Ratings or weights as numbers. Raises `DataError` for other text, for nulls, NaN and infinities."""
    numbers = column
    if column.dtype == pl.String:
        numbers = column.str.strip_chars().cast(pl.Float64, strict=False)
        bad = numbers.is_null() & column.is_not_null()
        if bad.any():
            at = _first(bad)
            raise DataError(
                f"{role}s must be numbers; saw {column[at]!r} in row {at}. Correct it, or name another column."
            )
    elif column.dtype == pl.Boolean:
        numbers = column.cast(pl.UInt8)
    elif not column.dtype.is_numeric():
        raise DataError(
            f"{role}s must be numbers; saw {column.dtype}. Convert the column, or name another one."
        )
    refuse_nulls(numbers, f"{role}s")
    if numbers.dtype.is_float() and not numbers.is_finite().all():
        at = _first(~numbers.is_finite())
        raise DataError(
            f"{role}s must be finite; saw {numbers[at]} in row {at}. Drop such rows or correct them."
        )
    return numbers


def times_of(column: pl.Series) -> pl.Series:
    """Times as whole numbers. Integers stay in their own unit; floats are rounded down; dates become seconds since
    1970 (UTC).

    Text may hold integers, floats or ISO 8601 dates, one kind per column. A time without a zone counts as UTC.
    """
    refuse_nulls(column, "timestamps", ", or leave all times out with ", Argument("timestamp", IGNORE))
    times = _parsed(column) if column.dtype == pl.String else column
    if isinstance(times.dtype, pl.Datetime | pl.Date):
        return times.dt.epoch("s")
    # `Interactions.from_pairs` checks that they are finite and fit in 64 bits.
    DataError.unless(
        times.dtype.is_float() or times.dtype.is_integer(),
        f"Timestamps must be integers, floats or dates; saw {times.dtype}. Convert them, or pass ",
        Argument("timestamp", IGNORE),
        ".",
    )
    return times.floor()


def _parsed(column: pl.Series) -> pl.Series:
    """Text as integers, else as floats, else as dates, whichever fits all of it."""
    stripped = column.str.strip_chars()
    for kind in (pl.Int64, pl.Float64):
        numbers = stripped.cast(kind, strict=False)
        if not numbers.null_count():
            return numbers
    try:
        dates = stripped.str.to_datetime(strict=False, time_unit="us")
    except pl.exceptions.PolarsError:  # no format fits the first of them
        dates = pl.Series([None] * min(1, len(column)), dtype=pl.Datetime("us"))
    if dates.null_count():
        at = _first(dates.is_null())
        raise DataError(
            f"Timestamps must be integers, floats or ISO 8601 dates, one kind a column; saw {column[at]!r} in row "
            f"{at}. Correct it, or pass ",
            Argument("timestamp", IGNORE),
            ".",
        )
    return dates


def _first(mask: pl.Series) -> int:
    """The first row where `mask` holds."""
    return mask.arg_max() or 0
