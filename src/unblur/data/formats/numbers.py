"""Numbers of a column: weights, ratings and times, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from unblur.data.formats.labels import without_null_words
from unblur.data.vocabulary import refuse_nulls, refuse_where
from unblur.errors import DataError, Row


def as_array(column: ArrayLike | pl.Series, name: str, kind: type[np.generic] | None) -> NDArray[Any]:
    """A numeric column as an array of `kind`, or as it is. NaN, infinite, null and too large entries are refused."""
    if isinstance(column, pl.Series):
        column = in_numpy(column)
        refuse_nulls(column, name)
    array = column.to_numpy() if isinstance(column, pl.Series) else np.asarray(column)
    DataError.unless(
        array.dtype.kind in "iufb" and array.ndim == 1,
        f"{name} must be a column of numbers; saw {array.dtype} {array.shape}. Convert it first.",
    )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(np.argmin(np.isfinite(array)))
        raise DataError(
            f"{name} must be finite; saw {array[bad]} in ", Row(bad), ". Drop such rows or correct them."
        )
    if kind is np.int64 and array.dtype.kind == "f" and not (array == np.floor(array)).all():
        raise DataError(
            f"{name} must be whole numbers; saw {array[array != np.floor(array)][0]}. Round or rescale them."
        )
    limit = 2.0**63 if kind is np.int64 else float(np.finfo(np.float32).max)
    if len(array) and (array.max() >= limit or array.min() < -limit):
        raise DataError(
            f"{name} must lie within ±{limit:.3g}; saw {array.min()} … {array.max()}. Rescale them."
        )
    return array if kind is None else array.astype(kind, copy=False)


_INTEGERS = {pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64}


def in_numpy(column: pl.Series) -> pl.Series:
    """The column, as floats if it holds numbers that NumPy has not: decimals, and integers of 128 bits."""
    is_wide = column.dtype.is_integer() and column.dtype not in _INTEGERS
    return column.cast(pl.Float64) if is_wide or column.dtype.is_decimal() else column


def numbers_of(column: pl.Series, role: str) -> pl.Series:
    """Ratings or weights as numbers, null for a missing one. Raises `DataError` for other text, for NaN and infinities."""
    numbers = column = in_numpy(column)
    if column.dtype == pl.String:
        column = without_null_words(column)
        numbers = column.str.strip_chars().cast(pl.Float64, strict=False)
        refuse_where(
            numbers.is_null() & column.is_not_null(),
            lambda at: (
                f"{role}s must be numbers; saw {column[at]!r} in ",
                Row(at),
                ". Correct it, or name another column.",
            ),
        )
    elif column.dtype == pl.Boolean:
        numbers = column.cast(pl.UInt8)
    elif not column.dtype.is_numeric() and column.dtype != pl.Null:
        raise DataError(
            f"{role}s must be numbers; saw {column.dtype}. Convert the column, or name another one."
        )
    if numbers.dtype.is_float():
        refuse_where(
            ~numbers.is_finite().fill_null(True),
            lambda at: (
                f"{role}s must be finite; saw {numbers[at]} in ",
                Row(at),
                ". Drop such rows or correct them.",
            ),
        )
    return numbers
