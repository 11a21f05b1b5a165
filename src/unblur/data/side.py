"""The side of items: what is known of each beyond who had it, such as title, category, price and stock."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from unblur.data.formats.any_format import open_table
from unblur.data.formats.opening import data_suffix, open_data, read_parquet
from unblur.data.formats.times import iso_dates
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, some

TITLES = ("title", "name")
"""Columns that hold titles, the first that is there."""


def read_side(path: str | Path) -> pl.DataFrame:
    """Read a table of items, Parquet, Arrow, CSV (also .tsv) or JSON lines, whose first column has the labels.

    In text, columns are numbers, truth values or dates of ISO 8601 if all of their values are; labels stay as they are written:
    007 is not 7. Raises `DataError` for a file that cannot be read as that, or has one column alone.
    """
    file = Path(path)
    with open_data(file) as stream:
        opened = open_table(
            stream, delimiter="\t" if data_suffix(file) == ".tsv" else ",", header=True, whole=True
        )
        DataError.unless(
            opened.format in ("parquet", "arrow", "jsonl", "csv"),
            f"A table of items must be Parquet, Arrow, CSV or JSON lines; {file} is {opened.layout}. Write it as one of these.",
        )
        try:
            # A table is read whole, so it is bounded, as logs, which are read in batches, are not.
            is_parquet = opened.format == "parquet"
            table = read_parquet(stream) if is_parquet else opened.load(list(range(len(opened.names))))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as problem:
            raise DataError(
                f"A table of items must be of columns that can be read; {file}: {str(problem).splitlines()[0]}. Correct it."
            ) from None
    if not opened.typed:
        table = table.with_columns(_read_as_values(column) for column in table.get_columns()[1:])
    DataError.unless(
        table.width > 1,
        f"A table of items must have labels in its first column and something in others; {file} has the columns "
        f"{some(table.columns)}. Add some.",
    )
    return table


def _read_as_values(text: pl.Series) -> pl.Series:
    """Text as numbers, truth values or times, whichever fits all of it; else as it is."""
    if text.null_count() == len(text):
        return text
    for values in (
        text.cast(pl.Int64, strict=False),
        text.cast(pl.Float64, strict=False),
        text.str.to_lowercase().replace_strict(_TRUTH, default=None, return_dtype=pl.Boolean),
        text.str.to_date("%Y-%m-%d", strict=False),
        # Other forms of dates have two readings, 1 February and 2 January.
        iso_dates(text).dt.replace_time_zone(None),
    ):
        if values.null_count() == text.null_count():
            return (values.fill_nan(None) if values.dtype.is_float() else values).alias(text.name)
    return text


_TRUTH = {"true": True, "false": False}


def side_of(table: pl.DataFrame, items: Vocabulary) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The columns of a table of items but its first, which has the labels: a row for each of `items`, in their order.

    An item without a row has nulls; rows of other items are left out, as are columns that are not numbers, text, truth values or
    times. All of this is in the notes. Raises `DataError` for labels that are missing or occur twice.
    """
    name = table.columns[0]
    labels = table[name]
    DataError.unless(
        labels.dtype == pl.String
        or labels.dtype.is_integer()
        or isinstance(labels.dtype, pl.Categorical | pl.Enum),
        f"The first column of a table of items must have their labels, integers or text; {name} is {labels.dtype}. Put the "
        "labels first.",
    )
    typed = items.typed(labels.cast(pl.String) if not labels.dtype.is_integer() else labels)
    known = pl.DataFrame({"row": pl.int_range(len(typed), eager=True), "label": typed}).drop_nulls()
    positions = items.positions_or_missing(known["label"].unique(maintain_order=True))
    twice = known["label"].filter(known["label"].is_duplicated()).unique(maintain_order=True)
    DataError.unless(
        not len(twice),
        f"Each item must have one row in a table of items; these have more: {some(twice.to_list())}. Keep one of each.",
    )
    columns = {column.name: _plain(column) for column in table.get_columns()[1:]}
    side = pl.DataFrame([column for column in columns.values() if column is not None])
    row_of = (
        pl.DataFrame({"position": positions, "row": known["row"]})
        .filter(pl.col("position") >= 0)
        .sort("position")
    )
    rows = pl.select(pl.repeat(None, len(items), dtype=pl.Int64)).to_series()
    rows = rows.scatter(row_of["position"], row_of["row"]) if len(row_of) else rows
    notes = []
    if dropped := [column for column, plain in columns.items() if plain is None]:
        notes.append(
            f"columns of items that are not numbers, text, truth values or times are left out: {some(dropped)}"
        )
    if n_without := len(items) - len(row_of):
        notes.append(f"{n_without:,} of {len(items):,} items have no row in the table of items")
    return side.select(pl.all().gather(rows)), tuple(notes)  # a null gives nulls


def check_side(side: pl.DataFrame, items: Vocabulary) -> pl.DataFrame:
    """Raise `ValueError` for a side that `side_of` cannot have made."""
    if len(side) != len(items) or any(_plain(column) is None for column in side.get_columns()):
        raise ValueError(
            f"the side has {len(side)} rows for {len(items)} items, or columns of a foreign type"
        )
    return side


def title_column(side: pl.DataFrame | None) -> str | None:
    """The name of the column that holds titles, if there is one."""
    names = (
        []
        if side is None
        else [name for name in TITLES if name in side.columns and side[name].dtype == pl.String]
    )
    return names[0] if names else None


def _plain(column: pl.Series) -> pl.Series | None:
    """The column as numbers, text, truth values or times; `None` for anything else."""
    if isinstance(column.dtype, pl.Categorical | pl.Enum):
        return column.cast(pl.String)
    if column.dtype.is_decimal():
        return column.cast(pl.Float64)
    is_plain = (
        column.dtype in (pl.String, pl.Boolean, pl.Date)
        or column.dtype.is_numeric()
        or isinstance(column.dtype, pl.Datetime)
    )
    return column if is_plain else None
