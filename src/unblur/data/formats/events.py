"""From a file to events: users, items, weights and times in parallel columns, in the order of the file's rows."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
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
from unblur.data.intervals import Intervals
from unblur.data.vocabulary import refuse_nulls
from unblur.errors import Argument, DataError, about, check_word, some
from unblur.progress import Progress, ProgressEvent

Labels: TypeAlias = Literal["auto", "int", "str"]
Missing: TypeAlias = Literal["raise", "drop"]

RequestedColumns: TypeAlias = Mapping[Role, str | int | None]
"""The columns of users, items, ratings and timestamps as the caller named them, by name or position."""


@dataclass(frozen=True)
class Meaning:
    """What values mean; the options are those of `Interactions.read`."""

    selected: Intervals | None = None
    """The ratings by which rows are selected; `None` for all rows."""
    repeats_first: bool = False
    """True if one row of each pair is chosen by its time before rows are selected, so that all times are needed."""
    labels: Labels = "auto"
    time_format: str | None = None
    missing: Missing = "raise"


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
    meaning: Meaning,
    *,
    format: FileFormat | None,
    delimiter: str | None,
    header: bool | None,
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
        order = pl.int_range(frame.height, eager=True)
        check_word("missing", meaning.missing, get_args(Missing))
        if meaning.missing == "drop":
            present = frame.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
            table = {role: column.filter(present) for role, column in table.items()}
            order = order.filter(present)
        weights = _weights(table, opened, requested["rating"], meaning.selected is not None)
        events = _events(table, order, opened, weights, meaning)
    return Events(events.to_dict(), None if meaning.labels == "str" else opened.shape, source)


def unread_columns(
    path: str | Path,
    *,
    format: FileFormat | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    min_rating: float | None = None,
    ratings: str | None = None,
    **options: Any,
) -> tuple[str, ...]:
    """The names of the columns of a file that do not reach the interactions that `Interactions.read` reads with these options.

    With `min_rating` or `ratings`, the column of ratings does not: it only selects.
    """
    requested: RequestedColumns = {
        role: options.get(role) for role in ("user", "item", "rating", "timestamp")
    }
    with open_data(path) as stream:
        opened = _opened(stream, requested, format, delimiter, header)
    columns = choose_columns(opened.names, opened.named, requested, str(path))
    selects = min_rating is not None or ratings is not None
    read = {at for role, at in columns.items() if not selects or role not in ("rating", "weight")}
    return tuple(name for at, name in enumerate(opened.names) if at not in read)


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
    order: pl.Series,
    opened: Opened,
    weights: pl.Series | None,
    meaning: Meaning,
) -> pl.DataFrame:
    """Labels, weights and times from the column of each role, and the row of the file of each event (`order`)."""
    typed = opened.format not in ("csv", "recbole", "adjacency")
    labels = "int" if opened.format == "adjacency" and meaning.labels == "auto" else meaning.labels
    if meaning.selected is not None and weights is not None and not meaning.repeats_first:
        # Rows that go need no time: in some copies of MovieLens those with low ratings have none.
        mask = pl.Series(meaning.selected.contain(weights.to_numpy()))
        table = {role: column.filter(mask) for role, column in table.items()}
        weights, order = weights.filter(mask), order.filter(mask)
    columns = {
        "users": labels_of(table["user"], labels, "user", typed=typed),
        "items": labels_of(table["item"], labels, "item", typed=typed),
        "weights": weights,
        "timestamps": times_of(table["timestamp"], meaning.time_format) if "timestamp" in table else None,
        "order": order,
    }
    DataError.unless(
        meaning.time_format is None or "timestamp" in table,
        Argument("time_format"),
        f" is for a column of times; none of {some(opened.names, 12)} was taken for one. Name it with ",
        Argument("timestamp"),
        ".",
    )
    return pl.DataFrame({name: column for name, column in columns.items() if column is not None})


def _weights(
    table: Mapping[Role, pl.Series], opened: Opened, rating: str | int | None, selects: bool
) -> pl.Series | None:
    """The weights (or, if events are selected by them, the ratings), or `None` if all weights are 1."""
    role: Role = "rating" if "rating" in table else "weight"
    if role not in table:
        if not selects:
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
    if selects:
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
    only looks like integers (``12.0``), for text that hardly is a label (a missing value in words, one with a line end), and
    under ``"int"`` for text that is no integer.
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
    if column.dtype != pl.String:
        DataError.unless(
            labels != "int" or column.dtype.is_integer(),
            f"{role}s must be integers under ",
            Argument("labels", "int"),
            f"; saw {column.dtype}. Convert the column first.",
        )
        return column
    if typed and labels == "auto":
        _refuse_doubtful(column, role)
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
    _refuse_doubtful(column, role)
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


_DOUBTFUL = {
    r"[\r\n]": "with a line end, as a quote that is not closed makes them",
    r"^\s*(?i:nan|nat|null|none|na|n/a|<na>)?\s*$": "that stand for a missing value in other files",
}
"""Text that is more often a fault than a label, and why."""


def _refuse_doubtful(column: pl.Series, role: str) -> None:
    for pattern, what in _DOUBTFUL.items():
        doubtful = column.str.contains(pattern)
        if doubtful.any():
            at = _first(doubtful)
            raise DataError(
                f"{role}s must be integers or strings; {doubtful.sum():,} are strings {what}, such as "
                f"{str(column[at])[:80]!r} in row {at}. Correct them, or pass ",
                Argument("labels", "str"),
                " to take them as they are written.",
            )


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


def times_of(column: pl.Series, time_format: str | None = None) -> pl.Series:
    """Times as whole numbers. Integers stay in their own unit; floats are rounded down; dates become seconds since
    1970 (UTC).

    Text may hold integers, floats or ISO 8601 dates, one kind per column, or dates in a `time_format`. Integers of 8 digits
    are dates if all of them can be, from 1900 to 2100. A time without a zone counts as UTC. Raises `DataError` for dates in
    another form, and for seconds, milliseconds and other units in one column.
    """
    refuse_nulls(column, "timestamps", ", or leave all times out with ", Argument("timestamp", IGNORE))
    times = column.str.strip_chars() if column.dtype == pl.String else column
    if time_format is not None:
        times = _formatted(times, time_format)
    elif times.dtype == pl.String:
        times = _parsed(times)
    if times.dtype.is_integer():
        times = _dates_of_digits(times)
    if isinstance(times.dtype, pl.Datetime | pl.Date):
        return times.dt.epoch("s")
    # `Interactions.from_pairs` checks that they are finite and fit in 64 bits.
    DataError.unless(
        times.dtype.is_float() or times.dtype.is_integer(),
        f"Timestamps must be integers, floats or dates; saw {times.dtype}. Convert them, or pass ",
        Argument("timestamp", IGNORE),
        ".",
    )
    _refuse_two_units(times)
    return times.floor()


def _formatted(times: pl.Series, time_format: str) -> pl.Series:
    """Text or integers as dates in a format of `strftime`."""
    DataError.unless(
        times.dtype == pl.String or times.dtype.is_integer(),
        Argument("time_format"),
        f" is for times that are text or integers; saw {times.dtype}. Leave it out.",
    )
    text = times.cast(pl.String)
    dates = text.str.to_datetime(time_format, strict=False, time_unit="us")
    if dates.null_count():
        at = _first(dates.is_null())
        raise DataError(
            "Timestamps must be in the format that is given, ",
            Argument("time_format", time_format),
            f"; saw {text[at]!r} in row {at}. Correct the one or the other.",
        )
    return dates


def _parsed(text: pl.Series) -> pl.Series:
    """Text as integers, else as floats, else as dates, whichever fits all of it."""
    for kind in (pl.Int64, pl.Float64):
        numbers = text.cast(kind, strict=False)
        if not numbers.null_count():
            return numbers
    dates = _iso_dates(text)
    if dates.null_count():
        at = _first(dates.is_null())
        raise DataError(
            f"Timestamps must be integers, floats or ISO 8601 dates, one kind a column; saw {text[at]!r} in row {at}. "
            "Correct it",
            *_readings(text[at]),
            ", or pass ",
            Argument("timestamp", IGNORE),
            ".",
        )
    return dates


_ISO_DATE = (
    r"^(\d{4})-?(\d\d)-?(\d\d)"
    r"(?:[Tt ](\d\d):?(\d\d)(?::?(\d\d)(?:[.,]\d+)?)? ?(?:UTC|[Zz]|([+-]\d\d)(?::?(\d\d))?)?)?$"
)
"""Year, month, day; hours, minutes, seconds, whose fraction is dropped; hours and minutes of the zone."""


def _iso_dates(text: pl.Series) -> pl.Series:
    """Dates and times of ISO 8601, and the same with ``UTC`` for the zone; null for other text."""
    year, month, day, *rest = text.str.extract_groups(_ISO_DATE).struct.unnest().get_columns()
    filled = (part.fill_null("+00" if at == 3 else "00") for at, part in enumerate(rest))  # 3: the zone
    written = pl.select(pl.concat_str(year, month, day, *filled)).to_series()
    return written.str.to_datetime("%Y%m%d%H%M%S%z", strict=False, time_unit="us")


def _readings(text: str) -> tuple[object, ...]:
    """What a date that is not of ISO 8601 can be, for an error: the day first, or the month."""
    parts = re.match(r"(\d{1,4})([/.-])(\d{1,2})\2(\d{1,4})(?!\d)", text)
    if parts is None:
        return (", give its form with ", Argument("time_format"))
    year = "%Y" if max(len(parts[1]), len(parts[4])) == 4 else "%y"
    orders = (f"{year}-%m-%d", f"{year}-%d-%m") if len(parts[1]) == 4 else (f"%d-%m-{year}", f"%m-%d-{year}")
    readings: list[object] = []
    for form in (order.replace("-", parts[2]) for order in orders):
        with suppress(ValueError):
            day = datetime.strptime(parts[0], form)
            readings += [", pass " if not readings else " or ", Argument("time_format", form)]
            readings += [f" if {parts[0]} is {day.day} {day:%B %Y}"]
    return (*readings, " (the time of day follows it, such as %H:%M:%S)") if readings else ()


def _dates_of_digits(times: pl.Series) -> pl.Series:
    """Integers as dates if each is the eight digits of one from 1900 to 2100; else as they are."""
    if not len(times) or not (times.is_between(1900_01_01, 2100_12_31)).all():
        return times
    dates = _iso_dates(times.cast(pl.String))
    return times if dates.null_count() else dates


def _refuse_two_units(times: pl.Series) -> None:
    """Raise `DataError` for epoch times in two units, such as seconds and milliseconds."""
    # Between these bounds lie 1973 to 5138 in one unit each; smaller numbers may be anything.
    units = {"seconds": (1e8, 1e11), "milliseconds": (1e11, 1e14), "microseconds": (1e14, 1e17)}
    first = {
        unit: _first(within)
        for unit, (low, high) in units.items()
        if (within := times.is_between(low, high, closed="left")).any()
    }
    DataError.unless(
        len(first) <= 1,
        "Timestamps must be in one unit; saw ",
        " and ".join(f"{times[at]} in row {at} ({unit} since 1970)" for unit, at in first.items()),
        ". Convert them, or pass ",
        Argument("timestamp", IGNORE),
        ".",
    )


def _first(mask: pl.Series) -> int:
    """The first row where `mask` holds."""
    return mask.arg_max() or 0
