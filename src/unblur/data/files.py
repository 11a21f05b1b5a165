"""Read and write interactions: Parquet, delimited text, adjacency lists, RecBole atomic files, matrices.

`read` takes one file, `read_split_folder` a folder with one file per part; `write` and `write_parquet` replace a file as a
whole or not at all. Files that could run code are never opened: no pickles, and NumPy files only without them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy import sparse

from unblur.data.formats.any_format import open_table
from unblur.data.formats.events import unread_columns as unread_columns
from unblur.data.formats.labels import comparable, labels_of
from unblur.data.formats.opening import (
    FORMATS,
    SUFFIXES,
    FileFormat,
    contents_of,
    data_stem,
    data_suffix,
    is_file,
    is_folder,
    names_in,
    open_data,
    unpacked,
)
from unblur.data.formats.parts import SPLIT_PARTS
from unblur.data.formats.text import lines_of
from unblur.data.interactions import Interactions
from unblur.data.output import OutputFile, write_parquet as write_parquet
from unblur.data.vocabulary import Vocabulary, refuse_where
from unblur.errors import DataError, about, nearest, some

read = Interactions.read
"""Read interactions from one file, in any format."""


def read_split_folder(folder: str | Path, **options: Any) -> dict[str, Interactions]:
    """Read the parts ``train``, ``valid`` and ``test`` of a folder, all with the same options of `read`.

    A part is a file of that name with a supported suffix (``train.parquet``; also ``validation`` and ``val``). Raises
    `DataError` if there is no train file, or two files for one part.
    """
    path = Path(folder)
    DataError.unless(
        not is_file(path),
        f"A folder with train, valid and test files must be given; {path} is a file. Use `read`.",
    )
    parent = path.absolute().parent
    if is_folder(parent) and not is_folder(path):
        hint = nearest(path.name, names_in(parent))
        raise DataError(f"A folder must be there to be read; {path} is not.{hint} Correct the path.")
    parts = split_files(path)
    DataError.unless(
        "train" in parts,
        f"A split folder must hold a train file (train.parquet, say); {path} holds "
        f"{contents_of(path)}. Name the files train, valid and test, or read them one by one.",
    )
    return {part: Interactions.read(file, **options) for part, file in parts.items()}


def read_lines(path: str | Path) -> pl.Series:
    """The lines of a text file without blanks around them and without a byte order mark; empty lines are skipped.

    Raises `DataError` for a file that is not UTF-8 text.
    """
    with open_data(path) as stream:
        labels = [line.strip() for lines in lines_of(unpacked(stream)) for line in lines if line.strip()]
    return pl.Series("label", labels, dtype=pl.String)


def read_column(path: str | Path) -> pl.Series | None:
    """The only column of a table, or the lines of a text file as `read_lines` has them, without quotes around them; `None` if there are more columns."""
    file = Path(path)
    form = SUFFIXES.get(data_suffix(file))
    if form in ("npz", "npy"):
        return None
    if form in ("parquet", "arrow", "jsonl"):
        with open_data(file) as stream:
            opened = open_table(stream, form)
            if len(opened.names) > 1:
                return None
            labels = labels_of(comparable(opened.load([0]).to_series(), "item"), "auto", "item", typed=True)[
                0
            ]
        return _filled(labels, file)
    lines = _filled(read_lines(file), file)
    quoted = lines.str.contains(_QUOTED)
    if _BETWEEN_COLUMNS.search(lines[0]) and not quoted[0]:
        return None
    refuse_where(
        lines.str.starts_with('"') & (lines.str.count_matches('"') % 2 == 1),
        lambda at: (
            f"A quote that opens a label must be closed; {file} has {lines[at][:80]!r}. Close or remove it.",
        ),
    )
    unquoted = lines.str.slice(1, lines.str.len_chars() - 2).str.replace_all('""', '"', literal=True)
    return unquoted.zip_with(quoted, lines)


_QUOTED = r'^"(?:[^"]|"")*"$'
"""A line that is one quoted field of a CSV file, with quotes inside doubled (RFC 4180)."""
_BETWEEN_COLUMNS = re.compile(r"[,;\t|]|::")
"""Separators by which a line has two columns, unless it is quoted whole; a blank is part of many labels."""


def read_labels(path: str | Path) -> Vocabulary:
    """The labels of a text file, one per line; empty lines are skipped.

    They are integers if all of them are, else strings. Raises `DataError` for a file that is not UTF-8 text, has no label, or
    has one twice.
    """
    lines = _filled(read_lines(path), path)
    with about(str(path)):
        return Vocabulary(labels_of(lines, "auto", "item", typed=False)[0])


def _filled(labels: pl.Series, path: str | Path) -> pl.Series:
    """The labels. Raises `DataError` if there are none."""
    DataError.unless(len(labels), f"A list of labels must have one; {path} has none. Write one per line.")
    return labels


def split_files(folder: Path) -> dict[str, Path]:
    """The files of the parts in a folder, by part."""
    parts: dict[str, Path] = {}
    for part, stems in SPLIT_PARTS.items():
        files = [
            entry
            for entry in map(folder.joinpath, names_in(folder))
            if is_file(entry) and data_suffix(entry) in SUFFIXES and data_stem(entry).lower() in stems
        ]
        DataError.unless(
            len(files) <= 1,
            f"A folder must hold one file for {part}; {folder} holds "
            f"{some([file.name for file in files])}. Remove those that are not meant.",
        )
        if files:
            parts[part] = files[0]
    return parts


# ------------------------------------------------------------------------------------------- files as a whole


_TYPED_NAMES = {
    "user": "user_id:token",
    "item": "item_id:token",
    "weight": "weight:float",
    "timestamp": "timestamp:float",
}
"""The columns in the header of a file for RecBole."""


def write(
    data: Interactions, path: str | Path, *, format: FileFormat | None = None, delimiter: str | None = None
) -> None:
    """Write interactions so that `read` returns the same pairs, weights and times; under ``labels="str"`` if labels are text.

    The suffix decides the format: ``.parquet``, ``.csv``, ``.tsv``, ``.inter``, ``.npz``, ``.npy``, or ``.txt`` for an
    adjacency list. Columns are user, item and, if there are any, weight and timestamp. Rows are in the order of the source,
    if that is known, except in ``npz``, which alone keeps users and items without interactions. Raises `DataError` if the
    format cannot hold the data.
    """
    target = Path(path)
    ending = target.suffix.lower()
    chosen = format or SUFFIXES.get(ending) or ("adjacency" if target.suffix == ".txt" else None)
    if chosen not in FORMATS:
        raise DataError(
            f"The format to write must be one of {', '.join(FORMATS)}; {format or target.name!r} tells "
            f"none.{nearest(str(format), FORMATS)} Pass `format=`."
        )
    DataError.unless(data.n_interactions, f"There must be interactions to write; {data!r} has none.")
    frame = data.to_frame()
    if data.order is not None:
        frame = frame[np.argsort(data.order, kind="stable")]
    if bool((data.matrix.data == 1).all()):
        frame = frame.drop("weight")
    mark = delimiter or ("\t" if ending == ".tsv" else ",")
    _refuse_what_would_be_lost(data, frame, chosen, mark)
    with OutputFile(target, overwrite=True).written() as stream:
        match chosen:
            case "npz":
                sparse.save_npz(stream, data.matrix)
            case "parquet":
                frame.write_parquet(stream, compression="zstd")
            case "jsonl":
                frame.write_ndjson(stream)
            case "arrow":
                frame.write_ipc(stream, compression="zstd")
            case "npy":
                pairs = frame.select("user", "item").to_numpy().astype(np.int64)
                np.save(stream, pairs, allow_pickle=False)
            case "adjacency":
                lists = frame.cast(pl.String).group_by("user", maintain_order=True)
                lines = lists.agg(pl.col("item").str.join(" ")).select(
                    pl.concat_str("user", "item", separator=" ")
                )
                lines.write_csv(stream, include_header=False, quote_style="never")
            case "recbole":
                typed = {name: _TYPED_NAMES[name] for name in frame.columns}
                frame.rename(typed).write_csv(stream, separator="\t", quote_style="never")
            case "csv" if len(mark.encode()) == 1:
                frame.write_csv(stream, separator=mark)
            case "csv":
                line = pl.concat_str(pl.all().cast(pl.String), separator=mark)
                frame.select(line.alias(mark.join(frame.columns))).write_csv(stream, quote_style="never")


def _refuse_what_would_be_lost(
    data: Interactions, frame: pl.DataFrame, chosen: FileFormat, delimiter: str
) -> None:
    """Raise `DataError` for labels, weights or times that the format cannot hold, or that would be read back as
    something else."""
    lost = [name for name in ("weight", "timestamp") if name in frame.columns]
    DataError.unless(
        chosen not in ("adjacency", "npy") or not lost,
        f"The format {chosen} holds pairs only; these have {some(lost)} too. Write Parquet instead.",
    )
    DataError.unless(
        chosen != "npy" or data.users.kind == data.items.kind == "int",
        "An .npy file holds integer labels only; some are strings. Write Parquet instead.",
    )
    DataError.unless(
        chosen != "npz" or (data.users.is_range and data.items.is_range and data.timestamps is None),
        "An .npz matrix holds neither labels nor times; these interactions have labels other than 0, 1, "
        "2, … or timestamps. Write Parquet instead.",
    )
    marks = {
        "adjacency": [" ", "\t", "\n", "\r"],
        "recbole": ["\t", "\n", "\r"],
        "csv": [delimiter, "\n", "\r", "\x1f"] if len(delimiter.encode()) > 1 else [],
    }.get(chosen, [])
    for name in ("user", "item"):
        labels = frame[name]
        DataError.unless(
            not marks
            or labels.dtype != pl.String
            or not (labels.str.contains_any(marks) | (labels == "")).any(),
            f"Labels must not be empty nor hold {some(marks)} to be written as {chosen}; some {name}s "
            "do. Write Parquet instead.",
        )
