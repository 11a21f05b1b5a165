"""A file before its columns are read: that it is there, what format it has, and what its columns are
called."""

from __future__ import annotations

import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, TypeVar, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from unblur.errors import Argument, DataError, nearest, some

FileFormat: TypeAlias = Literal["parquet", "csv", "adjacency", "recbole", "npz", "npy"]
FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
"""Parquet; delimited text of any kind; LightGCN's ``user item item …``; RecBole's ``.inter``; a SciPy matrix;
pairs."""

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
}
"""Endings that are read, and their formats; `None` where the content decides."""

_NOT_DATA = (
    (b"\x1f\x8b", "a gzip file", "Unpack it first."),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "Unpack it first."),
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

_DAMAGE = (
    *(ValueError, KeyError, TypeError, IndexError, AttributeError, SyntaxError, OverflowError, MemoryError),
    *(
        OSError,
        EOFError,
        RuntimeError,
        Warning,
        struct.error,
        tokenize.TokenError,
        zipfile.BadZipFile,
        zlib.error,
    ),
)
"""The errors that NumPy, SciPy and zipfile raise over files that are not what they seem."""

_Loaded = TypeVar("_Loaded")


@dataclass(frozen=True)
class Opened:
    """A file whose columns are known and not yet read."""

    format: FileFormat
    names: tuple[str, ...]
    """The columns, in order; made-up names where the file has none."""
    named: bool
    """Whether the names are the file's own."""
    load: Callable[[list[int]], pl.DataFrame]
    """Read the columns at these positions (ascending) and no others."""
    shape: tuple[int, int] | None = None
    """(n_users, n_items) where the labels are the positions in a matrix."""


def checked_path(path: str | Path) -> Path:
    """The path of a file that is there, is a file and is not empty; else a `DataError` with what lies
    nearby."""
    file = Path(path)
    if file.is_dir():
        inside = sorted(entry.name for entry in file.iterdir() if entry.suffix.lower() in SUFFIXES)
        holds = f"it holds {some(inside, 8)}" if inside else "it holds no file of a known format"
        raise DataError(
            f"A file must be given; {file} is a folder, and {holds}. Give one of its files, or read a folder "
            "with train, valid and test files with `read_split_folder`."
        )
    if not file.exists():
        folder = file.absolute().parent
        if not folder.is_dir():
            raise DataError(
                f"A file must be there to be read; not even the folder {folder} is. Correct the path."
            )
        names = sorted(entry.name for entry in folder.iterdir())
        stems = [name for name in names if Path(name).stem == file.stem]
        hint = f" Did you mean {stems[0]!r}?" if stems else nearest(file.name, names)
        raise DataError(
            f"A file must be there to be read; {folder} holds no {file.name!r}.{hint} Correct the path."
        )
    if not file.is_file():
        raise DataError(
            f"A regular file must be given; {file} is a device or a pipe. Save its content to a file first."
        )
    if not file.stat().st_size:
        raise DataError(f"A file must hold data; {file} is empty (0 bytes). Write or copy it again.")
    return file


def contents_of(folder: Path) -> str:
    """The names of the files in a folder, as far as an error message has room for them."""
    return some(sorted(entry.name for entry in folder.iterdir()), 8) or "nothing"


def guess_format(file: Path, start: bytes) -> FileFormat | None:
    """The format that the first bytes and the ending tell; `None` for text whose lines must decide."""
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    ending = SUFFIXES.get(file.suffix.lower())
    if start.startswith(b"PK\x03\x04") and ending == "npz":
        return "npz"
    for magic, what, advice in _NOT_DATA:
        if start.startswith(magic):
            raise DataError(
                f"A file must be in a known format ({', '.join(FORMATS)}); {file} is {what}. {advice}"
            )
    if ending in ("parquet", "npz", "npy"):
        raise DataError(
            f"A file that ends in {file.suffix} must be in that format; {file} does not start as such a file "
            "does. It is damaged or of another kind: copy it again, or give its kind with ",
            Argument("format"),
            ".",
        )
    if b"\x00" in start:
        raise DataError(
            f"A file must be in a known format ({', '.join(FORMATS)}); {file} is neither text nor one of the "
            "others. Export the table to Parquet or CSV."
        )
    return ending


def open_parquet(file: Path) -> Opened:
    """A Parquet file; only its footer is read here."""

    def damaged(problem: BaseException) -> DataError:
        with file.open("rb") as stream:
            stream.seek(-min(4, file.stat().st_size), 2)
            cut = stream.read() != b"PAR1"
        seen = "its end is missing, so it is truncated" if cut else str(problem).partition("\n")[0]
        return DataError(f"A Parquet file must be whole; {file} is not: {seen}. Copy or write it again.")

    try:
        scan = pl.scan_parquet(file, glob=False, hive_partitioning=False)
        names = tuple(scan.collect_schema())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as problem:
        raise damaged(problem) from None

    def load(positions: list[int]) -> pl.DataFrame:
        try:
            return scan.select(names[at] for at in positions).collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as problem:
            raise damaged(problem) from None

    return Opened("parquet", names, True, load)


def open_matrix(file: Path) -> Opened:
    """A users × items matrix as `scipy.sparse.save_npz` writes it; labels are positions, values weights."""

    def load(stream: BinaryIO) -> sparse.coo_array:
        matrix: Any = sparse.load_npz(stream)  # one of many classes; the stubs know `check_format` of few
        if matrix.format not in ("csr", "csc", "coo") or matrix.ndim != 2:
            raise ValueError(f"it is in {matrix.format} form; csr, csc and coo matrices are read")
        if (
            matrix.format != "coo"
        ):  # indices are checked when a coo matrix is made, but not those of the others
            matrix.check_format(full_check=True)
        if matrix.dtype.kind not in "biuf":
            raise ValueError(f"it has values of type {matrix.dtype}")
        return sparse.coo_array(matrix)

    matrix = _loaded(file, load, "a sparse matrix of numbers, saved by scipy.sparse.save_npz")
    frame = pl.DataFrame({"user": matrix.row, "item": matrix.col, "weight": matrix.data})
    shape = (int(matrix.shape[0]), int(matrix.shape[1]))
    return Opened("npz", tuple(frame.columns), True, lambda positions: frame[:, positions], shape)


def open_pairs(file: Path) -> Opened:
    """A NumPy array of integers, one (user, item) pair a row."""

    def load(stream: BinaryIO) -> NDArray[Any]:
        pairs: NDArray[Any] = np.load(stream, allow_pickle=False)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise ValueError(f"it holds {pairs.dtype} of shape {pairs.shape}")
        return pairs

    pairs = _loaded(file, load, "integers of shape (n, 2), a user and an item a row")
    frame = pl.DataFrame({"user": pairs[:, 0], "item": pairs[:, 1]})
    return Opened("npy", ("user", "item"), True, lambda positions: frame[:, positions])


def _loaded(file: Path, load: Callable[[BinaryIO], _Loaded], what: str) -> _Loaded:
    """The value that `load` gives of a NumPy file; any error that a damaged one raises becomes a `DataError`."""
    try:
        with file.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("error")
            return load(stream)
    except _DAMAGE as problem:
        seen = " ".join(str(problem).split()) or type(problem).__name__
        raise DataError(
            f"A file of NumPy's must hold {what}, and no pickled objects: they are never opened. {file} is "
            f"not so: {seen}. Save or copy it again, or use Parquet."
        ) from None
