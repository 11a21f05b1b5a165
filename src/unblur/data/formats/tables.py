"""Read files that name their columns, batch by batch: Parquet, Arrow, NumPy's and SciPy's."""

from __future__ import annotations

import io
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
import polars as pl
from scipy import sparse

from unblur.data.formats.opening import FileFormat
from unblur.errors import DataError, some

_DAMAGE = (
    *(ValueError, KeyError, TypeError, IndexError, AttributeError, SyntaxError, OverflowError, MemoryError),
    *(OSError, EOFError, RuntimeError, Warning),
    *(struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""The errors that NumPy, SciPy and zipfile raise for damaged files and for files of another format."""


@dataclass(frozen=True)
class Opened:
    """A file with its columns' names, before its rows are read."""

    format: FileFormat
    layout: str
    """The format and what was found out about the file, in words: for text its delimiter, and whether it has a header."""
    names: tuple[str, ...]
    """The columns, in order; ``column 0`` and so on if the file has no names."""
    named: bool
    """True if the names are the file's own."""
    batches: Callable[[list[int]], Iterator[pl.DataFrame]]
    """Read the columns at these positions (ascending), some millions of rows at a time."""
    shape: tuple[int, int] | None = None
    """(n_users, n_items) if labels are the positions in a matrix."""
    n_rows: int | None = None
    """The number of rows, if it is known beforehand."""
    sample: Sequence[Sequence[str]] = ()
    """The fields of the first rows of a text file."""
    remarks: Sequence[str] = ()
    """What was doubtful, once its rows are read."""

    @property
    def typed(self) -> bool:
        """True if the format has types of columns; in the others all is text."""
        return self.format not in ("csv", "recbole", "adjacency")

    def load(self, positions: list[int]) -> pl.DataFrame:
        """Read the columns at these positions (ascending), under their names. Raises `DataError` for one name of two."""
        # Of a file without rows there are no batches.
        nothing = pl.DataFrame({str(at): [] for at in positions})
        frame = pl.concat([*self.batches(positions)] or [nothing], how="vertical_relaxed")
        frame.columns = list(distinct([self.names[at] for at in positions]))
        return frame


BATCH_ROWS = 1 << 20
"""Rows that are read at a time: some 100 megabytes of text labels, and so many that work on each distinct label of a batch is
small next to the reading."""


def open_parquet(stream: BinaryIO) -> Opened:
    """A Parquet file; only its footer is read here."""
    from pyarrow import parquet

    with _whole_file(stream, "Parquet", b"PAR1"):
        file = parquet.ParquetFile(stream)
        names = tuple(file.schema_arrow.names)

    def pieces(positions: list[int]) -> Iterator[Any]:
        columns = [names[at] for at in positions]
        return (
            batch.select(columns)
            for batch in file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)
        )

    def batches(positions: list[int]) -> Iterator[pl.DataFrame]:
        with _whole_file(stream, "Parquet", b"PAR1"):
            yield from in_batches(pieces(positions))

    return Opened("parquet", "Parquet", distinct(names), True, batches, n_rows=file.metadata.num_rows)


def open_arrow(stream: BinaryIO) -> Opened:
    """A file or a stream of Arrow's IPC format, such as Feather of version 2."""
    from pyarrow import ipc

    stream.seek(0)
    in_file = stream.read(6) == b"ARROW1"
    with _whole_file(stream, "Arrow", b"ARROW1" if in_file else b""):
        stream.seek(0)
        names = tuple((ipc.open_file if in_file else ipc.open_stream)(stream).schema.names)

    def pieces(positions: list[int]) -> Iterator[Any]:
        stream.seek(0)
        options = ipc.IpcReadOptions(included_fields=positions)
        if in_file:
            file = ipc.open_file(stream, options=options)
            return map(file.get_batch, range(file.num_record_batches))
        return _to_the_end(ipc.open_stream(stream, options=options), stream)

    def batches(positions: list[int]) -> Iterator[pl.DataFrame]:
        with _whole_file(stream, "Arrow", b"ARROW1" if in_file else b""):
            yield from in_batches(pieces(positions))

    return Opened("arrow", "Arrow", distinct(names), True, batches)


def _to_the_end(batches: Iterator[Any], stream: BinaryIO) -> Iterator[Any]:
    """The batches of a stream, after whose end mark nothing more may come."""
    yield from batches
    if stream.read(1):
        raise ValueError("it goes on after its end")


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names of columns. Raises `DataError` if one is that of two."""
    DataError.unless(
        len(set(names)) == len(names),
        f"Columns must have different names; saw {some(names, 12)}. Rename them.",
    )
    return tuple(names)


def in_batches(pieces: Iterator[Any]) -> Iterator[pl.DataFrame]:
    """Record batches of any size as tables of about `BATCH_ROWS` rows."""
    import pyarrow

    waiting: list[Any] = []
    for piece in pieces:
        waiting.append(piece)
        if sum(map(len, waiting)) >= BATCH_ROWS:
            yield from _tables(pyarrow.Table.from_batches(waiting))
            waiting.clear()
    if waiting:
        yield from _tables(pyarrow.Table.from_batches(waiting))


def _tables(table: Any) -> Iterator[pl.DataFrame]:
    table.validate(full=True)  # a damaged file may hold text that is not UTF-8, or positions outside of it
    for start in range(0, max(len(table), 1), BATCH_ROWS):
        yield cast("pl.DataFrame", pl.from_arrow(table.slice(start, BATCH_ROWS)))


@contextmanager
def _whole_file(stream: BinaryIO, noun: str, end: bytes) -> Iterator[None]:
    """Whatever pyarrow and polars raise in the block over a damaged file becomes a `DataError`."""
    try:
        yield
    except DataError:
        raise
    except (
        *_DAMAGE,
        NotImplementedError,
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
    ) as problem:
        stream.seek(0)
        cut = not stream.read().endswith(end)
        seen = "its end is missing, so it is truncated" if cut else str(problem).partition("\n")[0]
        if isinstance(problem, MemoryError):
            seen += ", which is too much for a file of this size, or for this machine"
        article = "An" if noun.startswith("A") else "A"
        raise DataError(
            f"{article} {noun} file must be whole, its columns of types that can be read; {stream.name} is not so: {seen}. Copy or "
            "write it again."
        ) from None


def open_matrix(stream: BinaryIO) -> Opened:
    """A users × items matrix as `scipy.sparse.save_npz` writes it; labels are positions, values weights."""
    with _numpy_file(stream, "a sparse matrix of numbers, saved by scipy.sparse.save_npz"):
        with zipfile.ZipFile(stream) as archive:
            n_bytes = sum(member.file_size for member in archive.infolist())
        if n_bytes > _ROOM + _MOST_PACKED * stream.seek(0, io.SEEK_END):
            raise ValueError(f"it unpacks to {n_bytes:,} bytes, far more than it has")
        stream.seek(0)
        matrix: Any = sparse.load_npz(stream)  # one of many classes; the stubs know `check_format` of few
        if matrix.format not in ("csr", "csc", "coo") or matrix.ndim != 2:
            raise ValueError(f"it is in {matrix.format} form; csr, csc and coo matrices are read")
        if matrix.format != "coo":  # whose indices are checked when it is made; those of the others are not
            matrix.check_format(full_check=True)
        if matrix.dtype.kind not in "biuf":
            raise ValueError(f"it has values of type {matrix.dtype}")
        if max(matrix.shape) > _ROOM / 8 + _MOST_PACKED * matrix.nnz:
            raise ValueError(f"its shape is {matrix.shape}, with {matrix.nnz:,} entries")
        matrix = sparse.coo_array(matrix)
    frame = pl.DataFrame({"user": matrix.row, "item": matrix.col, "weight": matrix.data})
    return Opened(
        "npz",
        "a sparse matrix",
        tuple(frame.columns),
        True,
        lambda positions: iter([frame[:, positions]]),
        matrix.shape,
    )


def open_pairs(stream: BinaryIO) -> Opened:
    """A NumPy array of integers, one (user, item) pair per row."""
    with _numpy_file(stream, "integers of shape (n, 2), a user and an item a row"):
        pairs = np.load(stream, allow_pickle=False)
        if stream.read(1):
            raise ValueError("it goes on after its end")
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise ValueError(f"it holds {pairs.dtype} of shape {pairs.shape}")
    frame = pl.DataFrame({"user": pairs[:, 0], "item": pairs[:, 1]})
    return Opened("npy", "pairs", ("user", "item"), True, lambda positions: iter([frame[:, positions]]))


_ROOM, _MOST_PACKED = 1 << 28, 100
"""Bytes that a matrix may always take, and how many times the bytes of its file or its entries: users or items without entries take
eight bytes each, whatever the file has of them."""


@contextmanager
def _numpy_file(stream: BinaryIO, content: str) -> Iterator[None]:
    """Errors of damaged files in the block, and warnings, become a `DataError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    except _DAMAGE as problem:
        seen = " ".join(str(problem).split()) or type(problem).__name__
        raise DataError(
            f"A file of NumPy's must hold {content}, and no pickled objects: they are never opened. {stream.name} is "
            f"not so: {seen}. Save or copy it again, or use Parquet."
        ) from None
