"""From columns as a file holds them to labels, weights and times."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from unblur.errors import DataError

Labels: TypeAlias = Literal["auto", "int", "str"]


def labels_of(column: pl.Series, labels: Labels, role: str, *, typed: bool) -> pl.Series:
    """User or item labels as integers or strings; `typed` says that the file knows which its columns are.

    ``"auto"`` keeps the type of a typed column; text becomes integers when every value is one (``007`` is
    not, it would lose its zeros), else it stays as it is. ``"int"`` and ``"str"`` say which. Raises
    `DataError` for text that only looks like integers (``12.0``), and under ``"int"`` for text that is none.
    """
    if labels not in ("auto", "int", "str"):
        raise DataError(f'`labels` must be "auto", "int" or "str"; saw {labels!r}.')
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        column = column.cast(pl.String)
    if labels == "str":
        if column.dtype == pl.String or column.dtype.is_integer():
            return column.cast(pl.String)
        raise DataError(
            f"{role}s must be integers or strings to be labels; saw {column.dtype}. Convert the column first."
        )
    if column.dtype != pl.String or (typed and labels == "auto"):
        if labels == "int" and not column.dtype.is_integer():
            raise DataError(
                f'{role}s must be integers under labels="int"; saw {column.dtype}. Convert the column first.'
            )
        return column
    stripped = column.str.strip_chars()
    integers = stripped.cast(pl.Int64, strict=False)
    bad = integers.is_null() & column.is_not_null()
    if labels == "int":
        if bad.any():
            at = _first(bad)
            raise DataError(
                f'{role}s must be integers below 2**63 under labels="int"; saw {column[at]!r} in row {at}. '
                'Correct the file, or pass labels="str".'
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
                f'{at}. Correct them, or pass labels="str" to take them as they are written.'
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
                f"{role}s must be numbers; saw {column[at]!r} in row {at}. Correct it, or name another "
                "column."
            )
    elif column.dtype == pl.Boolean:
        numbers = column.cast(pl.UInt8)
    elif not column.dtype.is_numeric():
        raise DataError(
            f"{role}s must be numbers; saw {column.dtype}. Convert the column, or name another one."
        )
    _without_nulls(numbers, role)
    if numbers.dtype.is_float() and not numbers.is_finite().all():
        at = _first(~numbers.is_finite())
        raise DataError(
            f"{role}s must be finite; saw {numbers[at]} in row {at}. Drop such rows or correct them."
        )
    return numbers


def seconds_of(column: pl.Series) -> NDArray[np.int64]:
    """Times as int64. Integers stay in their own unit; floats are rounded down; dates become seconds since
    1970 (UTC).

    Text may hold integers, floats or ISO 8601 dates, one kind a column. A time without a zone counts as UTC.
    """
    _without_nulls(column, "timestamp", ', or leave all times out with timestamp="ignore"')
    times = _parsed(column) if column.dtype == pl.String else column
    if isinstance(times.dtype, pl.Datetime | pl.Date):
        return times.dt.epoch("s").cast(pl.Int64).to_numpy()
    if times.dtype.is_float():
        numbers = numbers_of(times, "timestamp").floor()
        if len(numbers) and not bool(((numbers >= -(2.0**63)) & (numbers < 2.0**63)).all()):
            raise DataError(f"Timestamps must fit in 64 bits; saw {numbers.max()!r}. Rescale them.")
        return numbers.cast(pl.Int64).to_numpy()
    if times.dtype.is_integer():
        try:
            return times.cast(pl.Int64).to_numpy()
        except pl.exceptions.PolarsError:
            raise DataError(f"Timestamps must lie below 2**63; saw {times.max()!r}. Rescale them.") from None
    raise DataError(
        f"Timestamps must be integers, floats or dates; saw {times.dtype}. Convert them, or pass "
        'timestamp="ignore".'
    )


def _parsed(column: pl.Series) -> pl.Series:
    stripped = column.str.strip_chars()
    kept: pl.Series | None = None
    for kind in (pl.Int64, pl.Float64):
        kept = stripped.cast(kind, strict=False)
        if not kept.null_count():
            return kept
    try:
        kept = stripped.str.to_datetime(strict=False, time_unit="us")
    except pl.exceptions.PolarsError:
        kept = pl.Series([None] * min(1, len(column)), dtype=pl.Datetime("us"))
    if kept.null_count():
        at = _first(kept.is_null())
        raise DataError(
            f"Timestamps must be integers, floats or ISO 8601 dates, one kind a column; saw {column[at]!r} "
            f"in row {at}. "
            'Correct it, or pass timestamp="ignore".'
        )
    return kept


def _without_nulls(column: pl.Series, role: str, otherwise: str = "") -> None:
    if column.null_count():
        raise DataError(
            f"{role}s must have no nulls; {column.null_count():,} of {len(column):,} are null, the first in "
            f"row {_first(column.is_null())}. Drop those rows or fill them in{otherwise}."
        )


def _first(mask: pl.Series) -> int:
    """The first row where `mask` holds."""
    return mask.arg_max() or 0
