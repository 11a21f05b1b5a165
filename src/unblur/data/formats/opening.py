"""Open what has a name: regular files only, packed ones unpacked; and tell a file's format by its first bytes and its name."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, get_args

import polars as pl

from unblur.errors import Argument, DataError, nearest, reason_of, some

FileFormat: TypeAlias = Literal["parquet", "csv", "adjacency", "recbole", "npz", "npy", "jsonl", "arrow"]
FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
"""Parquet; delimited text of any kind; LightGCN's ``user item item …``; RecBole's ``.inter``; a SciPy matrix;
pairs; JSON lines; Arrow's IPC files and streams, also called Feather."""

SUFFIXES: dict[str, FileFormat | None] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".npz": "npz",
    ".npy": "npy",
    ".inter": "recbole",
    ".txt": None,
    ".csv": "csv",
    ".tsv": "csv",
    ".dat": "csv",
    ".data": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
"""Supported suffixes and their formats; `None` if the content decides."""
_COMPRESSIONS = ((b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"))
"""The first bytes of compressed files, and the names that pyarrow has for them."""
_COMPRESSED_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd")

_NOT_DATA = (
    (b"FEA1", "a Feather file of version 1", "Write it again in version 2, or as Parquet."),
    (b"PK\x03\x04", "a zip file", "Unpack it first."),
    (b"Rar!", "a RAR archive", "Unpack it first."),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it first."),
    (
        b"\x80",
        "a Python pickle",
        "Pickles are never opened; export the table to Parquet or CSV where it was made.",
    ),
    (b"\x89HDF", "an HDF5 file", "Export the table to Parquet or CSV."),
    (b"\xff\xfe", "text in UTF-16", "Save it as UTF-8."),
    (b"\xfe\xff", "text in UTF-16", "Save it as UTF-8."),
)


def open_regular(path: str | Path) -> io.BufferedReader:
    """Open a regular file for reading, and nothing else that has a name: a device may never end, a FIFO never begin.

    Readers get this stream, never the name, which many take as a pattern (``log[1].parquet``) or an address (``~``). It is
    the stream's `name`. Raises `OSError`.
    """
    try:
        # O_NONBLOCK: opening a FIFO would wait for its writer.
        stream = open(  # noqa: SIM115 – the caller closes it
            str(path), "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
        )
    except ValueError as problem:  # the name holds a zero byte
        raise OSError(errno.EINVAL, str(problem), str(path)) from None
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a regular file", stream.name)
    return stream


_UNPACKED_BYTES = 1 << 18
"""Bytes that are unpacked at a time: as many as tell the format of a text."""


class _Unpacked(io.RawIOBase):
    """The content of a compressed file. It can be gone back to the beginning of, which unpacks it again."""

    def __init__(self, packed: io.BufferedReader, compression: str) -> None:
        self.name, self._packed, self._compression = packed.name, packed, compression
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        import pyarrow

        if (offset, whence) == (0, io.SEEK_SET):
            # A stream of its own: pyarrow closes it along with the content.
            packed = os.fdopen(os.dup(self._packed.fileno()), "rb")
            packed.seek(0)
            self._content = pyarrow.CompressedInputStream(packed, self._compression)
            self._at = 0
        elif (offset, whence) != (0, io.SEEK_CUR):
            raise io.UnsupportedOperation("the beginning alone can be gone back to")
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        try:
            content = self._content.read(len(buffer))
        except (OSError, EOFError) as problem:
            raise DataError(
                f"A compressed file must be whole; {self.name} is not: {str(problem).partition(chr(10))[0]}. It is damaged or "
                "truncated: copy it again."
            ) from None
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def unpacked(stream: io.BufferedReader) -> io.BufferedReader:
    """The content of a gzip or zstd file as a stream, or the stream of any other file as it is."""
    start = stream.peek(4)
    for magic, compression in _COMPRESSIONS:
        if start.startswith(magic):
            return io.BufferedReader(_Unpacked(stream, compression), _UNPACKED_BYTES)
    return stream


def data_suffix(name: str | Path) -> str:
    """The suffix of a file's name that tells its format: ``.csv`` of ``log.csv.gz``."""
    path = Path(name)
    return (Path(path.stem) if path.suffix.lower() in _COMPRESSED_SUFFIXES else path).suffix.lower()


def data_stem(name: str | Path) -> str:
    """A file's name without that suffix, and without that of a compression: ``log`` of ``log.csv.gz``."""
    path = Path(name)
    return Path(path.stem).stem if path.suffix.lower() in _COMPRESSED_SUFFIXES else path.stem


def open_data(path: str | Path) -> io.BufferedReader:
    """Open a file of data. Raises `DataError`, with the names nearby, for anything that cannot be opened."""
    file = Path(path)
    try:
        return open_regular(file)
    except IsADirectoryError:
        readable = [name for name in names_in(file) if data_suffix(name) in SUFFIXES]
        holds = f"it holds {some(readable, 8)}" if readable else "it holds no file of a known format"
        raise DataError(
            f"A file must be given; {file} is a folder, and {holds}. Give one of its files, or read a folder "
            "with train, valid and test files with `read_split_folder`."
        ) from None
    except FileNotFoundError:
        folder = file.absolute().parent
        DataError.unless(
            folder.is_dir(),
            f"A file must be there to be read; not even the folder {folder} is. Correct the path.",
        )
        names = names_in(folder)
        stems = [name for name in names if data_stem(name) == data_stem(file)]
        hint = f" Did you mean {stems[0]!r}?" if stems else nearest(file.name, names)
        raise DataError(
            f"A file must be there to be read; {folder} holds no {file.name!r}.{hint} Correct the path."
        ) from None
    except OSError as problem:
        raise DataError(
            f"A file must be a regular one that may be read; {file}: {reason_of(problem)}. Correct the path or its "
            "permissions, or save the content to a file first."
        ) from None


def is_folder(path: str | Path) -> bool:
    """Return whether a path is a folder; it is none if nobody may look, or if no folder can have such a name."""
    return os.path.isdir(path)  # noqa: PTH112 – before Python 3.14, that of `Path` raises for such names


def is_file(path: str | Path) -> bool:
    """Return whether a path is a file, as `is_folder` does."""
    return os.path.isfile(path)  # noqa: PTH113 – as above


def names_in(folder: Path) -> list[str]:
    """The names in a folder, sorted. Raises `DataError` if they may not be listed."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError as problem:
        raise DataError(
            f"A folder must be one that may be listed; {folder}: {reason_of(problem)}. Correct the path or its permissions."
        ) from None


def contents_of(folder: Path) -> str:
    """The names of the files in a folder, shortened for an error message."""
    return some(names_in(folder), 8) or "nothing"


def guess_format(stream: BinaryIO, start: bytes) -> FileFormat | None:
    """The format by the first bytes and the suffix; `None` for text whose lines must decide."""
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    suffix = data_suffix(stream.name)
    ending = SUFFIXES.get(suffix)
    if start.startswith(b"PK\x03\x04") and ending == "npz":
        return "npz"
    for magic, kind, advice in _NOT_DATA:
        DataError.unless(
            not start.startswith(magic),
            f"A file must be in a known format ({', '.join(FORMATS)}); {stream.name} is {kind}. {advice}",
        )
    DataError.unless(
        ending not in ("parquet", "npz", "npy", "arrow"),
        f"A file that ends in {suffix} must be in that format; {stream.name} does not start as such a file "
        "does. It is damaged or of another kind: copy it again, or give its kind with ",
        Argument("format"),
        ".",
    )
    DataError.unless(
        b"\x00" not in start,
        f"A file must be in a known format ({', '.join(FORMATS)}); {stream.name} is neither text nor one of the "
        "others. Export the table to Parquet or CSV.",
    )
    return ending


_TABLE_BYTES = 1 << 26
"""Bytes that any table may unpack to."""
_TABLE_BYTES_PER_BYTE = 256
"""And for each byte on disk: titles that are all alike take fifty times as much."""


def read_parquet(stream: BinaryIO, n_rows: int | None = None) -> pl.DataFrame:
    """Read the rows of a Parquet file, or the first `n_rows`; an error of polars' for what is none.

    pyarrow looks at it first. It refuses types of a hundred levels, over which polars ends the process, and tells what the rows
    unpack to: lists, or texts, of millions of equal parts take a few bytes.
    """
    from pyarrow.parquet import ParquetFile  # late: it takes a tenth of a second

    try:
        metadata = ParquetFile(stream).metadata
    except (OSError, ValueError) as problem:
        raise pl.exceptions.ComputeError(str(problem)) from None
    n_bytes = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    unpacked = sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))
    if unpacked > _TABLE_BYTES + _TABLE_BYTES_PER_BYTE * n_bytes:
        raise pl.exceptions.ComputeError(f"{n_bytes:,} bytes unpack to {unpacked:,}")
    return pl.read_parquet(stream, n_rows=n_rows)
