"""`read` and `read_split_folder`: from a file to canonical interactions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from unblur.data.files.columns import IGNORE, Columns, Role, choose_columns
from unblur.data.files.opening import (
    FORMATS,
    SUFFIXES,
    Format,
    Opened,
    checked_path,
    guess_format,
    open_matrix,
    open_pairs,
    open_parquet,
)
from unblur.data.files.text import is_adjacency, open_adjacency, open_delimited, open_recbole, sample_of
from unblur.data.files.values import Labels, labels_of, numbers_of, seconds_of
from unblur.data.interactions import Duplicates, Interactions, Unknown
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, nearest, some
from unblur.progress import Progress, ProgressEvent, silent

PARTS = {"train": ("train",), "valid": ("valid", "validation", "val", "dev"), "test": ("test",)}
"""The parts of a split folder and the file names, without endings, that they go by."""


def read(
    path: str | Path,
    *,
    format: Format | None = None,
    user: str | int | None = None,
    item: str | int | None = None,
    rating: str | int | None = None,
    timestamp: str | int | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    min_rating: float | None = None,
    duplicates: Duplicates = "raise",
    labels: Labels = "auto",
    user_vocabulary: Vocabulary | None = None,
    item_vocabulary: Vocabulary | None = None,
    unknown_items: Unknown = "raise",
    progress: Progress = silent,
) -> Interactions:
    """Interactions from one file.

    - `format`: ``parquet``; ``csv`` (any delimited text: CSV, TSV, MovieLens' ``u.data``, ``ratings.dat`` and
      ``ratings.csv``); ``adjacency`` (LightGCN's ``user item item …``); ``recbole`` (``.inter``); ``npz`` (a
      SciPy matrix: labels are positions, values weights); ``npy`` (integer pairs). Told from name and content
      when `None`.
    - `user`, `item`, `rating`, `timestamp`: column names, or positions from 0. Told from the usual names
      when `None`; a file without header holds user, item, rating, timestamp in that order.
    - `rating`: the column named here is the weight of an interaction, which must be positive. A column called
      ``weight`` is used unasked. A column called ``rating`` or alike that is not all ones is refused until it
      is clear what it means: name it (weights), give `min_rating` (likes), or pass ``"ignore"`` (every row is
      an interaction).
    - `min_rating`: keep rows rated at least this, each with weight 1.
    - `timestamp`: integers are kept in their own unit, floats are rounded down, dates become whole seconds
      since 1970 (UTC). ``"ignore"`` leaves times out.
    - `delimiter`, `header`: of delimited text; told from the first lines when `None`. A delimiter may be
      ``"::"``.
    - `labels`: ``"auto"`` keeps integers and strings apart (text is integers when all of it is, without
      leading zeros), ``"int"`` and ``"str"`` say which.
    - `duplicates`, `user_vocabulary`, `item_vocabulary`, `unknown_items`: as in `Interactions.from_pairs`.

    Raises `DataError` for a file that is missing, empty, damaged or unclear, and for values that cannot be
    used.
    """
    file = checked_path(path)
    asked: dict[Role, str | int | None] = {
        "user": user,
        "item": item,
        "rating": rating,
        "timestamp": timestamp,
    }
    try:
        opened = _opened(file, format, delimiter, header, asked)
    except PermissionError:
        raise DataError(
            f"A file must be readable; {file} may not be read by this user. Change its permissions."
        ) from None
    columns = choose_columns(opened.names, opened.named, asked, str(file))
    progress(ProgressEvent(f"read {file.name}", 0, 1))
    frame = opened.load(columns.positions)
    if not frame.height:
        raise DataError(f"A file must hold interactions; {file} has none. Write or copy it again.")
    progress(ProgressEvent(f"read {file.name}", 1, 1))
    progress(ProgressEvent("index", 0, 1))
    try:
        made = _assembled(
            frame,
            opened,
            columns,
            rating,
            min_rating,
            labels,
            duplicates,
            user_vocabulary,
            item_vocabulary,
            unknown_items,
        )
    except DataError as problem:
        told = (
            f" ({columns.described(opened.names)}; rows count from 0)" if opened.format != "adjacency" else ""
        )
        raise type(problem)(f"{file}{told}: {problem}") from None
    progress(ProgressEvent("index", 1, 1))
    return made


def read_split_folder(folder: str | Path, **options: Any) -> dict[str, Interactions]:
    """The parts ``train``, ``valid`` and ``test`` that a folder holds, each read by `read` with the same
    options.

    A part is a file of that name with an ending that is read (``train.parquet``; also ``validation`` and
    ``val``). Raises `DataError` when there is no train file, or two for one part.
    """
    place = Path(folder)
    if not place.is_dir():
        if place.exists():
            raise DataError(
                f"A folder with train, valid and test files must be given; {place} is a file. Use `read`."
            )
        names = [entry.name for entry in place.absolute().parent.glob("*")]
        raise DataError(
            f"A folder must be there to be read; {place} is not.{nearest(place.name, names)} Correct the "
            "path."
        )
    parts = split_files(place)
    if "train" not in parts:
        seen = sorted(entry.name for entry in place.iterdir())
        raise DataError(
            f"A split folder must hold a train file (train.parquet, say); {place} holds "
            f"{some(seen, 8) or 'nothing'}. Name the files train, valid and test, or read them one by one."
        )
    return {part: read(file, **options) for part, file in parts.items()}


def split_files(folder: Path) -> dict[str, Path]:
    """The file of each part in a folder, as far as there is one."""
    found: dict[str, Path] = {}
    for part, stems in PARTS.items():
        files = sorted(
            entry
            for entry in folder.iterdir()
            if entry.is_file() and entry.suffix.lower() in SUFFIXES and entry.stem.lower() in stems
        )
        if len(files) > 1:
            raise DataError(
                f"A folder must hold one file for {part}; {folder} holds "
                f"{some([file.name for file in files])}. Remove those that are not meant."
            )
        if files:
            found[part] = files[0]
    return found


def _opened(
    file: Path,
    format: Format | None,
    delimiter: str | None,
    header: bool | None,
    asked: dict[Role, str | int | None],
) -> Opened:
    if format is not None and format not in FORMATS:
        raise DataError(
            f"`format` must be one of {', '.join(FORMATS)}; saw {format!r}.{nearest(str(format), FORMATS)}"
        )
    if format is None:
        with file.open("rb") as stream:
            start = stream.read(4096)
        format = guess_format(file, start)
        if format is None and (delimiter is not None or header is not None):
            format = "csv"
    if format == "parquet":
        return open_parquet(file)
    if format == "npz":
        return open_matrix(file)
    if format == "npy":
        return open_pairs(file)
    sample = sample_of(file)
    if format is None or (format == "csv" and delimiter is None and header is None):
        if sample.typed:
            format = "recbole"
        elif format is None:
            format = "adjacency" if is_adjacency(sample, file) else "csv"
    if format == "adjacency":
        return open_adjacency(file)
    if format == "recbole":
        return open_recbole(file, sample)
    wants_names = any(isinstance(name, str) and name not in (role, IGNORE) for role, name in asked.items())
    return open_delimited(file, sample, delimiter, header, wants_names)


def _assembled(
    frame: pl.DataFrame,
    opened: Opened,
    columns: Columns,
    rating: str | int | None,
    min_rating: float | None,
    labels: Labels,
    duplicates: Duplicates,
    user_vocabulary: Vocabulary | None,
    item_vocabulary: Vocabulary | None,
    unknown_items: Unknown,
) -> Interactions:
    def column(position: int) -> pl.Series:
        return frame[:, columns.positions.index(position)]

    if opened.format == "adjacency" and labels == "auto":
        labels = "int"
    typed = opened.format not in ("csv", "recbole", "adjacency")
    users = labels_of(column(columns.user), labels, "user", typed=typed)
    items = labels_of(column(columns.item), labels, "item", typed=typed)
    times = None if columns.timestamp is None else column(columns.timestamp)
    weights = _weights(columns, column, opened, rating, min_rating)
    if min_rating is not None and weights is not None:
        liked = weights >= min_rating
        if not liked.any():
            raise DataError(f"Some row must be rated at least {min_rating}; none is. Lower `min_rating`.")
        users, items = users.filter(liked), items.filter(liked)
        times, weights = None if times is None else times.filter(liked), None
    seconds = None if times is None else seconds_of(times)
    if opened.shape is not None and labels != "str":
        n_users, n_items = opened.shape
        user_vocabulary = Vocabulary.range(n_users) if user_vocabulary is None else user_vocabulary
        item_vocabulary = Vocabulary.range(n_items) if item_vocabulary is None else item_vocabulary
    return Interactions.from_pairs(
        users,
        items,
        weights=weights,
        timestamps=seconds,
        duplicates=duplicates,
        user_vocabulary=user_vocabulary,
        item_vocabulary=item_vocabulary,
        unknown_items=unknown_items,
    )


def _weights(
    columns: Columns, column: Any, opened: Opened, rating: str | int | None, min_rating: float | None
) -> pl.Series | None:
    """The weights (or, under `min_rating`, the ratings), or `None` where every row counts the same."""
    if rating == IGNORE:
        if min_rating is not None:
            raise DataError(
                '`min_rating` needs ratings to compare with; rating="ignore" leaves them out. Drop one of '
                "the two."
            )
        return None
    position = columns.rating if columns.rating is not None else columns.weight
    if position is None:
        if min_rating is not None:
            raise DataError(
                f"`min_rating` needs a column of ratings; none of {some(opened.names, 12)} has a usual name "
                "for one. Name it with `rating=`."
            )
        return None
    values = numbers_of(column(position), "rating" if position == columns.rating else "weight")
    if min_rating is not None:
        return values
    lowest, highest = float(values.min() or 0), float(values.max() or 0)  # type: ignore[arg-type]
    if lowest == highest == 1:
        return None
    if columns.rating is not None and rating is None:
        name = opened.names[position] if opened.named else position
        raise DataError(
            f"What a rating means must be said; the column {name!r} holds values from {lowest:g} to "
            f"{highest:g}. Pass `min_rating` to keep those from a value on as likes, rating={name!r} to take "
            "it "
            'as weights, or rating="ignore" to count every row as an interaction'
            + ("." if opened.named else f"; or timestamp={name!r}, if it is a time.")
        )
    if lowest <= 0:
        n_bad = int((values <= 0).sum())
        raise DataError(
            f"Weights must be positive; {n_bad:,} of {len(values):,} rows hold {lowest:g} or more up to 0. "
            'Pass `min_rating` to keep rows from a value on, or rating="ignore" to count every row as an '
            "interaction."
        )
    return values
