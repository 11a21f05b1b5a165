"""Times, batch by batch: numbers, or dates, which become seconds since 1970."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date, datetime
from typing import Literal, TypeAlias, get_args

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from unblur.data.formats.columns import IGNORE
from unblur.data.formats.numbers import as_array, in_numpy
from unblur.data.vocabulary import refuse_where
from unblur.errors import Argument, DataError, Row

TimeUnit: TypeAlias = Literal["s", "ms", "us", "ns"]
UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)
"""Seconds, milliseconds, microseconds and nanoseconds since 1970."""
_EPOCHS = {
    "seconds": (1e8, 1e11),
    "milliseconds": (1e11, 1e14),
    "microseconds": (1e14, 1e17),
    "nanoseconds": (1e17, 2.0**63),
}
"""Between these bounds lie 1973 to 5138 in one unit each; smaller numbers may be anything."""


class TimeColumn:
    """The times of events, as far as they are read: the options are those of `Interactions.read`."""

    def __init__(self, time_format: str | None, time_unit: TimeUnit | None) -> None:
        self._format, self._unit = time_format, time_unit
        self._values: list[NDArray[np.int64]] = []
        self._kinds: list[str] = []  # of each batch: integers, floats or dates

    def add(self, column: pl.Series) -> None:
        """Read on: the times of the next events, without nulls."""
        if column.is_empty():  # no rows of a batch are left, so none tells what the times are
            return
        times = column.str.strip_chars() if column.dtype == pl.String else in_numpy(column)
        if self._format is not None:
            times = _formatted(times, self._format)
        elif times.dtype == pl.String:
            times = _parsed(times)
        if isinstance(times.dtype, pl.Datetime | pl.Date):
            kind, times = "dates", times.dt.epoch("s")
        else:
            DataError.unless(
                times.dtype.is_float() or times.dtype.is_integer(),
                f"Timestamps must be integers, floats or dates; saw {times.dtype}. Convert them, or pass ",
                Argument("timestamp", IGNORE),
                ".",
            )
            kind = "floats" if times.dtype.is_float() else "integers"
        self._kinds.append(kind)
        self._values.append(as_array(times.floor(), "timestamps", np.int64))

    def values(self) -> tuple[NDArray[np.int64], str, int | None]:
        """The times of all events, what nobody said of them in words, and how many are a second, if it is known.

        Integers of 8 digits are dates if all of them can be, from 1900 to 2100. Raises `DataError` for dates and other numbers in
        one column, for seconds, milliseconds and other units in one, and for dates with a unit.
        """
        if not self._values:
            return np.zeros(0, dtype=np.int64), "numbers of no known unit", None
        if "floats" not in self._kinds:
            self._read_digits("dates" in self._kinds)
        is_date = set(self._kinds) == {"dates"}
        DataError.unless(is_date or "dates" not in self._kinds, *self._other_kind())
        values = self._values[0] if len(self._values) == 1 else np.concatenate(self._values)
        self._values.clear()
        if is_date:
            DataError.unless(
                self._unit is None,
                Argument("time_unit"),
                " is for times that are numbers; these are dates. Leave it out.",
            )
            return values, "" if self._format else "dates, which become seconds since 1970", 1
        unit = _unit_of(values) if self._unit is None else list(_EPOCHS)[UNITS.index(self._unit)]
        if unit is None:
            return values, "numbers of no known unit", None
        start, end = _EPOCHS[unit]
        odd = (values < start) | (values >= end)
        doubt = f", {odd.sum():,} of them before 1973 or after 5138, such as {values[odd.argmax()]}"
        per_second = 1000 ** list(_EPOCHS).index(unit)
        if self._unit is None:
            return values, f"{unit} since 1970, by their size{doubt if odd.any() else ''}", per_second
        return values // per_second, f"{unit} since 1970{doubt}" if odd.any() else "", 1

    def _read_digits(self, as_others: bool) -> None:
        """Take integers for dates if each is the eight digits of one from 1900 to 2100; if others are, as far as they are."""
        lowest, highest = 1900_01_01, 2100_12_31
        numbers = [at for at, kind in enumerate(self._kinds) if kind == "integers"]
        dates = {}
        for at in numbers:
            values = self._values[at]
            if self._unit is None and len(values) and lowest <= values.min() <= values.max() <= highest:
                read = iso_dates(pl.Series(values).cast(pl.String))
                if not read.null_count():
                    dates[at] = read.dt.epoch("s").to_numpy()
        if as_others or len(dates) == len(numbers):
            for at, seconds in dates.items():
                self._values[at], self._kinds[at] = seconds, "dates"

    def _other_kind(self) -> tuple[object, ...]:
        """The message on the first time that is no date."""
        at = next((at for at, kind in enumerate(self._kinds) if kind != "dates"), 0)
        return _not_one_kind(str(self._values[at][0]), sum(map(len, self._values[:at])))


def moments(times: ArrayLike | pl.Series | None) -> ArrayLike | pl.Series | None:
    """Dates and times as seconds since 1970; anything else as it is."""
    if times is None or (isinstance(times, pl.Series) and not isinstance(times.dtype, pl.Datetime | pl.Date)):
        return times
    if not isinstance(times, pl.Series):
        array = np.asarray(times)
        is_date = array.dtype.kind == "O" and len(array) and isinstance(array.ravel()[0], date)
        if array.dtype.kind != "M" and not is_date:
            return times
        # Arrays of NumPy may be in units that polars does not know, such as minutes.
        times = pl.Series("timestamps", array.tolist() if is_date else array.astype("datetime64[us]"))
    return times.dt.epoch("s")


def _not_one_kind(text: str, row: int) -> tuple[object, ...]:
    """The message on a time that is of another kind than the others."""
    return (
        f"Timestamps must be integers, floats or ISO 8601 dates, one kind a column; saw {text!r} in ",
        Row(row),
        ". Correct it",
        *_readings(text),
        ", or pass ",
        Argument("timestamp", IGNORE),
        ".",
    )


def _formatted(times: pl.Series, time_format: str) -> pl.Series:
    """Text or integers as dates in a format of `strftime`."""
    DataError.unless(
        times.dtype == pl.String or times.dtype.is_integer(),
        Argument("time_format"),
        f" is for times that are text or integers; saw {times.dtype}. Leave it out.",
    )
    text = times.cast(pl.String)
    dates = text.str.to_datetime(time_format, strict=False, time_unit="us")
    refuse_where(
        dates.is_null(),
        lambda at: (
            "Timestamps must be in the format that is given, ",
            Argument("time_format", time_format),
            f"; saw {text[at]!r} in ",
            Row(at),
            ". Correct the one or the other.",
        ),
    )
    return dates


def _parsed(text: pl.Series) -> pl.Series:
    """Text as integers, else as floats, else as dates, whichever fits all of it."""
    for kind in (pl.Int64, pl.Float64):
        numbers = text.cast(kind, strict=False)
        if not numbers.null_count():
            return numbers
    dates = iso_dates(text)
    refuse_where(dates.is_null(), lambda at: _not_one_kind(text[at], at))
    return dates


_ISO_DATE = (
    r"^(\d{4})-?(\d\d)-?(\d\d)"
    r"(?:[Tt ](\d\d):?(\d\d)(?::?(\d\d)(?:[.,]\d+)?)? ?(?:UTC|[Zz]|([+-]\d\d)(?::?(\d\d))?)?)?$"
)
"""Year, month, day; hours, minutes, seconds, whose fraction is dropped; hours and minutes of the zone."""


def iso_dates(text: pl.Series) -> pl.Series:
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


def _unit_of(times: NDArray[np.int64]) -> str | None:
    """The unit of epoch times, if it can be told. Raises `DataError` for two, such as seconds and milliseconds."""
    low, high = int(times.min()), int(times.max())
    first = {}
    for unit, (start, end) in _EPOCHS.items():
        if high >= start and low < end and (within := (times >= start) & (times < end)).any():
            first[unit] = int(np.argmax(within))
    examples: list[object] = []
    for unit, at in list(first.items())[:2]:
        examples += [" and " if examples else "", str(times[at]), " in ", Row(at), f" ({unit} since 1970)"]
    DataError.unless(
        len(first) <= 1,
        "Timestamps must be in one unit; saw ",
        *examples,
        ". Convert them, or pass ",
        Argument("timestamp", IGNORE),
        ".",
    )
    return next(iter(first), None)
