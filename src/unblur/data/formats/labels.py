"""Labels of users or items, batch by batch: an event takes four bytes, whatever its labels are."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from unblur.data.formats.columns import Role
from unblur.data.vocabulary import Codes, label_series, refuse_where
from unblur.errors import Argument, DataError, Row, check_word, rows_named, some

if TYPE_CHECKING:
    import pyarrow as pa

Labels: TypeAlias = Literal["auto", "int", "str"]

NULL_WORDS = r"^\s*(?i:-?nan|nat|\(?null\)?|none|#?na|#?n/a|<na>|undefined|\\n)?\s*$"
"""Text that stands for a missing value: in files of pandas, of R, of JavaScript, of spreadsheets, and MySQL's ``\\N``."""
_WHOLE_FLOAT = r"^\s*[0-9]+\.0*\s*$"
"""A whole number with a decimal point, as pandas writes integers of a column with gaps."""
_UUID_BYTES = 16  # of 128 bits, by RFC 9562


class LabelColumn:
    """The labels of users or items, as far as they are read.

    Only distinct values are kept, so that whatever is asked of labels (are they all integers?) is asked of few.
    """

    def __init__(self, role: Role) -> None:
        self.role = role
        self._values: pa.Array | None = None  # distinct, in the order of their first events
        self._positions: list[NDArray[np.int32]] = []

    def add(self, column: pl.Series) -> None:
        """Read on: the values of the next events, in the type of their file."""
        import pyarrow as pa
        from pyarrow import compute

        encoding = comparable(column, self.role).to_arrow().dictionary_encode()
        values = encoding.dictionary
        if self._values is None or not len(self._values):
            self._values, places = values, np.arange(len(values), dtype=np.int32)
        elif len(values):
            DataError.unless(
                values.type == self._values.type,
                f"{self.role}s must be of one type in all rows; saw {self._values.type} and {values.type}. Convert the one or "
                "the other.",
            )
            known = compute.index_in(values, value_set=self._values).fill_null(-1).to_numpy()
            new = known < 0
            places = np.where(new, len(self._values) - 1 + np.cumsum(new, dtype=np.int32), known)
            self._values = pa.concat_arrays([self._values, values.filter(pa.array(new))])
        else:
            places = np.empty(0, dtype=np.int32)
        positions = encoding.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32, copy=False)
        # The place −1 of a null is looked up as the last one, which is −1 itself.
        self._positions.append(np.append(places, np.int32(-1))[positions])

    def codes(
        self, labels: Labels, name: Callable[[int], str], *, typed: bool
    ) -> tuple[Codes, NDArray[np.bool_], tuple[str, ...]]:
        """The labels of all events, the events without one, and remarks on what was made of the values.

        `labels` as in `Interactions.read`; `typed` if the file's format has column types; `name` puts the row of an event in
        words, for errors.
        """
        positions = np.concatenate(self._positions)
        self._positions.clear()
        values = pl.Series(self.role, self._values)
        with rows_named(lambda value: name(int(np.argmax(positions == value)))):
            texts, remarks = labels_of(values, labels, self.role, typed=typed)
            gaps = texts.is_null().to_numpy()
            missing = np.append(gaps, True)[positions]
            label_series(texts.fill_null(0 if texts.dtype != pl.String else ""), f"{self.role}s")
        return Codes(texts.alias("label"), positions), missing, remarks


def without_null_words(column: pl.Series) -> pl.Series:
    """The column with nulls for text that stands for a missing value."""
    if column.dtype != pl.String:
        return column
    # Most text is integers, and quicker read as such than searched for words.
    if column.str.strip_chars().cast(pl.Int64, strict=False).null_count() == column.null_count():
        return column
    return pl.select(pl.when(~column.str.contains(NULL_WORDS)).then(column)).to_series()


def comparable(column: pl.Series, role: str) -> pl.Series:
    """The values in a type that is the same in all batches and files: text, bytes, or numbers."""
    kind = column.dtype
    if isinstance(kind, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if kind == pl.Null:
        return column.cast(pl.String)
    if kind.is_integer():
        return column if kind == pl.Int64 else _signed(column, role)
    DataError.unless(
        kind in (pl.String, pl.Binary) or kind.is_float() or kind.is_decimal(),
        f"{role}s must be integers or strings; saw {kind} such as {some(column.head(1).to_list())}. Convert them to one of the two.",
    )
    return column.cast(pl.Float64).fill_nan(None) if kind.is_float() else column


def _signed(column: pl.Series, role: str) -> pl.Series:
    signed = column.cast(pl.Int64, strict=False)
    refuse_where(
        signed.is_null() & column.is_not_null(),
        lambda at: (
            f"Integer {role}s must lie in 0 … 2**63 − 1; saw {column[at]}. Correct the ids, or write them as strings.",
        ),
    )
    return signed


def labels_of(
    values: pl.Series, labels: Labels, role: str, *, typed: bool
) -> tuple[pl.Series, tuple[str, ...]]:
    """User or item labels as integers or strings, null for a missing one, and remarks; `typed` if the format has column types.

    ``"auto"`` keeps the type of a typed column; text becomes integers if every value is an integer (``007`` is not, because
    it would lose its zeros) or a whole number with a decimal point, else it stays text. ``"int"`` and ``"str"`` set the type.
    Whole numbers that are floats or decimals become integers, bytes text: UTF-8, or else UUIDs. Raises `DataError` for text
    with a line end, for fractions, and under ``"int"`` for text that is no integer.
    """
    check_word("labels", labels, get_args(Labels))
    if values.dtype == pl.Binary:
        values = _text_of(values, role)
    elif values.dtype.is_float() or values.dtype.is_decimal():
        values = _whole(values, role)
    if labels == "str":
        return values.cast(pl.String), ()
    if values.dtype != pl.String:
        return values, ()
    text = without_null_words(values)
    if typed and labels == "auto":
        return _plain(text, role)
    stripped = text.str.strip_chars()
    integers = stripped.cast(pl.Int64, strict=False)
    bad = integers.is_null() & text.is_not_null()
    if labels == "int":
        refuse_where(
            bad,
            lambda at: (
                f"{role}s must be integers below 2**63 under ",
                Argument("labels", "int"),
                f"; saw {text[at]!r} in ",
                Row(at),
                ". Correct the file, or pass ",
                Argument("labels", "str"),
                ".",
            ),
        )
        return integers, ()
    if not bad.any():
        padded = stripped.str.contains(r"^(?:\+|-?0[0-9]|-0$)").any()
        return _plain(text, role) if padded else (integers, ())
    whole = text.str.contains(_WHOLE_FLOAT) | ~bad
    if whole.all():
        digits = stripped.str.extract(r"^([0-9]+)").cast(pl.Int64, strict=False)
        if digits.null_count() == text.null_count():
            return digits, (
                f"{role}s are whole numbers written with a decimal point, such as {text[bad.arg_max() or 0]!r}, and read as integers",
            )
    if text.drop_nulls().str.contains(r"^\s*[+-]?[0-9]+(?:\.0*)?\s*$").all():
        refuse_where(
            bad,
            lambda at: (
                (
                    f"{role}s must be integers below 2**63 or strings; saw integers of which some are not below 2**63, such as "
                    f"{text[at]!r} in "
                ),
                Row(at),
                ". Correct them, or pass ",
                Argument("labels", "str"),
                " to take them as they are written.",
            ),
        )
    return _plain(text, role)


def _plain(text: pl.Series, role: str) -> tuple[pl.Series, tuple[str, ...]]:
    """Text as labels, and a remark if some have blanks around them."""
    broken = text.str.contains(r"[\r\n\x00\x{FEFF}]")
    refuse_where(
        broken,
        lambda at: (
            (
                f"{role}s must be integers or strings; {broken.sum():,} are strings with a line end, as a quote that is not closed "
                f"makes them, a zero byte or a byte order mark, such as {str(text[at])[:80]!r} in "
            ),
            Row(at),
            ". Correct them, or pass ",
            Argument("labels", "str"),
            " to take them as they are written.",
        ),
    )
    around = text.filter(text.str.contains(r"^\s|\s$"))
    if not len(around):
        return text, ()
    return text, (
        f"{len(around):,} {role}s have blanks around them, such as {around[0]!r}, and are taken as they are",
    )


def _whole(numbers: pl.Series, role: str) -> pl.Series:
    """Floats or decimals that are whole numbers, as integers."""
    # From 2**53 on neighbours among integers are one float.
    within = numbers.cast(pl.Float64).abs() < 2.0**53 if numbers.dtype.is_float() else numbers.is_not_null()
    integers = numbers.cast(pl.Int64, strict=False)
    is_whole = (within & (integers.cast(numbers.dtype, strict=False) == numbers)).fill_null(False)
    refuse_where(
        numbers.is_not_null() & ~is_whole,
        lambda at: (
            f"{role}s must be integers or strings; saw {numbers.dtype} such as {numbers[at]} in ",
            Row(at),
            ", which is no whole number below 2**53. Convert them to one of the two.",
        ),
    )
    return integers


def _text_of(values: pl.Series, role: str) -> pl.Series:
    """Bytes as text: UTF-8 if all are, else UUIDs if all have 16 bytes."""
    listed: list[Any] = values.to_list()
    try:
        return pl.Series(role, [None if each is None else each.decode() for each in listed], dtype=pl.String)
    except UnicodeDecodeError:
        pass
    DataError.unless(
        all(each is None or len(each) == _UUID_BYTES for each in listed),
        f"{role}s that are bytes must be text in UTF-8, or UUIDs of 16 bytes; some are neither. Write them as strings.",
    )
    return pl.Series(
        role, [None if each is None else str(uuid.UUID(bytes=each)) for each in listed], dtype=pl.String
    )
