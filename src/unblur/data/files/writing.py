"""Files and folders that appear whole or not at all, and interactions written so."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
from scipy import sparse

from unblur.data.formats.opening import FORMATS, SUFFIXES, FileFormat
from unblur.data.interactions import Interactions
from unblur.errors import ArtifactError, DataError, nearest, some

_TYPED_NAMES = {
    "user": "user_id:token",
    "item": "item_id:token",
    "weight": "weight:float",
    "timestamp": "timestamp:float",
}
"""The columns in the header of a file for RecBole."""


@contextmanager
def replacing(path: str | Path) -> Iterator[BinaryIO]:
    """A binary stream whose content takes the place of `path` when the block ends well, and leaves nothing
    when not.

    The content goes to a temporary sibling, reaches the disk, and is renamed. Raises `DataError` where there
    is no folder to write into or a folder of that name is in the way.
    """
    target = Path(path)
    if target.is_dir():
        raise DataError(f"A file to write must not be a folder; {target} is one. Give a file name inside it.")
    if not target.absolute().parent.is_dir():
        raise DataError(
            f"The folder of a file to write must exist; {target.absolute().parent} does not. Make it first."
        )
    partial = _sibling(target, "part")
    try:
        with partial.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    _flush(target.absolute().parent)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """A new folder whose content takes the place of `path` when the block ends well, and leaves nothing when not.

    It is a hidden sibling until all of it has reached the disk. What was there before is then moved aside, put back
    if the last step fails, and removed once the new folder is in place. Raises `ArtifactError` where it cannot be
    written.
    """
    target = Path(path).absolute()
    partial, earlier = _sibling(target, "partial"), _sibling(target, "earlier")
    try:
        partial.mkdir(parents=True)
        yield partial
        for written in (*partial.rglob("*"), partial):
            _flush(written)
        try:
            if target.exists():
                target.rename(earlier)
            partial.rename(target)
        except BaseException:
            if earlier.exists() and not target.exists():
                earlier.rename(target)
            raise
        _flush(target.parent)
        shutil.rmtree(earlier, ignore_errors=True)
    except OSError as problem:
        raise ArtifactError(
            f"The output folder must be written whole; {path}: {problem.strerror or problem}. Nothing was left "
            "behind. Make room, or give another path."
        ) from problem
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sibling(target: Path, purpose: str) -> Path:
    """A hidden name next to `target` that nothing has yet."""
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.{purpose}")


def _flush(path: Path) -> None:
    """See to it that a file or, on POSIX, the entries of a folder have reached the disk."""
    if os.name != "posix" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_parquet(frame: pl.DataFrame, path: str | Path) -> None:
    """Write a table to a Parquet file (zstd), whole or not at all, over one that is there."""
    with replacing(path) as stream:
        frame.write_parquet(stream, compression="zstd")


def write(
    data: Interactions, path: str | Path, *, format: FileFormat | None = None, delimiter: str | None = None
) -> None:
    """Write interactions so that `read` gives the same pairs, weights and times back.

    The format is told from the ending: ``.parquet``, ``.csv``, ``.tsv``, ``.inter``, ``.npz``, ``.npy``, or
    ``.txt`` for an adjacency list. Columns are user, item and, where there are any, weight and timestamp.
    Rows stand in the order of the source, where it is known; but for ``npz``, which alone keeps users and items
    without interactions. Raises `DataError` when a format cannot hold the data.
    """
    target = Path(path)
    chosen = (
        format or SUFFIXES.get(target.suffix.lower()) or ("adjacency" if target.suffix == ".txt" else None)
    )
    if chosen not in FORMATS:
        raise DataError(
            f"The format to write must be one of {', '.join(FORMATS)}; {format or target.name!r} tells "
            f"none.{nearest(str(format), FORMATS)} Pass `format=`."
        )
    if not data.n_interactions:
        raise DataError(f"There must be interactions to write; {data!r} has none.")
    if chosen == "npz":
        _write_matrix(data, target)
        return
    frame = data.to_frame()
    if data.order is not None:
        frame = frame[np.argsort(data.order, kind="stable")]
    if bool((data.matrix.data == 1).all()):
        frame = frame.drop("weight")
    if chosen == "parquet":
        write_parquet(frame, target)
    elif chosen == "npy":
        _holds(chosen, frame, [])
        if "str" in (data.users.kind, data.items.kind):
            raise DataError(
                "An .npy file holds integer labels only; some are strings. Write Parquet instead."
            )
        with replacing(target) as stream:
            np.save(stream, frame.select("user", "item").to_numpy().astype(np.int64), allow_pickle=False)
    else:
        table, options = _as_text(
            frame, chosen, delimiter or ("\t" if target.suffix.lower() == ".tsv" else ",")
        )
        with replacing(target) as stream:
            table.write_csv(stream, **options)


def _as_text(frame: pl.DataFrame, chosen: FileFormat, delimiter: str) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The table that is written as delimited text, and how."""
    if chosen == "adjacency":
        _holds(chosen, frame, [" ", "\t", "\n", "\r"])
        lists = frame.cast(pl.String).group_by("user", maintain_order=True).agg(pl.col("item").str.join(" "))
        lines = lists.select(pl.concat_str("user", "item", separator=" "))
        return lines, {"include_header": False, "quote_style": "never"}
    if chosen == "recbole":
        _holds(chosen, frame, ["\t", "\n", "\r"])
        named = frame.rename({name: _TYPED_NAMES[name] for name in frame.columns})
        return named, {"separator": "\t", "quote_style": "never"}
    if len(delimiter.encode()) == 1:
        return frame, {"separator": delimiter}
    _holds(chosen, frame, [delimiter, "\n", "\r", "\x1f"])
    header = delimiter.join(frame.columns)
    return frame.select(pl.concat_str(pl.all().cast(pl.String), separator=delimiter).alias(header)), {
        "quote_style": "never"
    }


def _write_matrix(data: Interactions, target: Path) -> None:
    if not (data.users.is_range and data.items.is_range) or data.timestamps is not None:
        raise DataError(
            "An .npz matrix holds neither labels nor times; these interactions have labels other than 0, 1, "
            "2, … or timestamps. Write Parquet instead."
        )
    with replacing(target) as stream:
        sparse.save_npz(stream, data.matrix)


def _holds(chosen: str, frame: pl.DataFrame, marks: list[str]) -> None:
    """Refuse what would be lost, or read back as something else."""
    lost = [name for name in ("weight", "timestamp") if name in frame.columns]
    if chosen in ("adjacency", "npy") and lost:
        raise DataError(
            f"The format {chosen} holds pairs only; these have {some(lost)} too. Write Parquet instead."
        )
    for name in ("user", "item"):
        labels = frame[name]
        if labels.dtype != pl.String:
            continue
        if marks and (labels.str.contains_any(marks).any() or (labels == "").any()):
            raise DataError(
                f"Labels must not be empty nor hold {some(marks)} to be written as {chosen}; some {name}s "
                "do. Write Parquet instead."
            )
