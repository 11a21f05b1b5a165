"""Open a file: a regular one only; find its format and its columns' names; read them batch by batch.

Formats that name their columns (Parquet, Arrow, NumPy's) come first, then text: JSON lines, delimited columns with or without
a header, adjacency lists, RecBole's typed header.
"""

from __future__ import annotations

import codecs
import csv
import errno
import io
import os
import re
import stat
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast, get_args

import numpy as np
import polars as pl
from scipy import sparse

from unblur.data.formats.columns import usual_role
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
"""The errors that NumPy, SciPy and zipfile raise for damaged files and for files of another format."""


@dataclass(frozen=True)
class Opened:
    """A file with its columns' names, before its rows are read."""

    format: FileFormat
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
    layout: str = ""
    """What was found out about a text file, in words: its delimiter, and whether it has a header."""

    def load(self, positions: list[int]) -> pl.DataFrame:
        """Read the columns at these positions (ascending)."""
        return pl.concat(self.batches(positions))


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
            return io.BufferedReader(_Unpacked(stream, compression), SAMPLE_BYTES)
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
        wanted = [names[at] for at in positions]
        return (
            batch.select(wanted) for batch in file.iter_batches(BATCH_ROWS, columns=wanted, use_threads=False)
        )

    def batches(positions: list[int]) -> Iterator[pl.DataFrame]:
        with _whole_file(stream, "Parquet", b"PAR1"):
            yield from _in_batches(pieces(positions))

    return Opened("parquet", _distinct(names, stream), True, batches, n_rows=file.metadata.num_rows)


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
        return iter(ipc.open_stream(stream, options=options))

    def batches(positions: list[int]) -> Iterator[pl.DataFrame]:
        with _whole_file(stream, "Arrow", b"ARROW1" if in_file else b""):
            yield from _in_batches(pieces(positions))

    return Opened("arrow", _distinct(names, stream), True, batches)


def _distinct(names: tuple[str, ...], stream: BinaryIO) -> tuple[str, ...]:
    DataError.unless(
        len(set(names)) == len(names),
        f"Columns must have different names; those of {stream.name} are {some(names, 12)}. Rename them.",
    )
    return names


def _in_batches(pieces: Iterator[Any]) -> Iterator[pl.DataFrame]:
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
            f"{article} {noun} file must be whole; {stream.name} is not: {seen}. Copy or write it again."
        ) from None


def open_matrix(stream: BinaryIO) -> Opened:
    """A users × items matrix as `scipy.sparse.save_npz` writes it; labels are positions, values weights."""
    with _numpy_file(stream, "a sparse matrix of numbers, saved by scipy.sparse.save_npz"):
        matrix: Any = sparse.load_npz(stream)  # one of many classes; the stubs know `check_format` of few
        if matrix.format not in ("csr", "csc", "coo") or matrix.ndim != 2:
            raise ValueError(f"it is in {matrix.format} form; csr, csc and coo matrices are read")
        if matrix.format != "coo":  # whose indices are checked when it is made; those of the others are not
            matrix.check_format(full_check=True)
        if matrix.dtype.kind not in "biuf":
            raise ValueError(f"it has values of type {matrix.dtype}")
        matrix = sparse.coo_array(matrix)
    frame = pl.DataFrame({"user": matrix.row, "item": matrix.col, "weight": matrix.data})
    return Opened(
        "npz", tuple(frame.columns), True, lambda positions: iter([frame[:, positions]]), matrix.shape
    )


def open_pairs(stream: BinaryIO) -> Opened:
    """A NumPy array of integers, one (user, item) pair per row."""
    with _numpy_file(stream, "integers of shape (n, 2), a user and an item a row"):
        pairs = np.load(stream, allow_pickle=False)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise ValueError(f"it holds {pairs.dtype} of shape {pairs.shape}")
    frame = pl.DataFrame({"user": pairs[:, 0], "item": pairs[:, 1]})
    return Opened("npy", ("user", "item"), True, lambda positions: iter([frame[:, positions]]))


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


SAMPLE_BYTES = 1 << 18
"""The number of bytes from which the format of a text file is found: some thousands of lines, read in a millisecond."""
DELIMITERS = ("\t", "::", ",", ";", "|", " ")
_STAND_IN = "\x1f"  # takes the place of a delimiter of several bytes; the "unit separator" of ASCII
_TYPED = re.compile(r"^[^\t:]+:(?:token|float|token_seq|float_seq)$")


@dataclass(frozen=True)
class Sample:
    """The beginning of a text file, as whole lines."""

    lines: list[str]
    """Lines that are not blank, without their ends."""
    skipped: int
    """The number of blank lines before the first of them."""

    @property
    def typed(self) -> bool:
        """True if the first line is a header of RecBole's."""
        return all(_TYPED.match(field) for field in self.lines[0].split("\t"))


def sample_of(stream: BinaryIO) -> Sample:
    """The first lines of a text file. Raises `DataError` when it is not UTF-8 text or has only blank lines."""
    stream.seek(0)
    start = stream.read(SAMPLE_BYTES)
    _refuse_zeros(start, 0, stream)
    complete = not stream.read(1)
    if not complete:
        start = start[: start.rfind(b"\n") + 1] or start
    lines = _lines(_decoded(start, stream, complete))
    filled = [line for line in lines if line.strip()]
    DataError.unless(
        filled, f"A file must hold data; {stream.name} has only blank lines. Write or copy it again."
    )
    return Sample(filled, lines.index(filled[0]))


def _refuse_zeros(content: bytes, place: int, stream: BinaryIO) -> None:
    """Raise `DataError` if this part of a text file, from byte `place` on, has a zero byte."""
    DataError.unless(
        b"\x00" not in content,
        f"A text file must hold no zero bytes; {stream.name} has one {place + content.find(0):,} bytes from "
        "its beginning. It is damaged, or no text: copy or write it again.",
    )


def is_adjacency(sample: Sample, stream: BinaryIO) -> bool:
    """Return whether the lines are ``user item item …``. Raises `DataError` if they could also be columns."""
    numbers = all(re.fullmatch(r"[0-9]+(?: +[0-9]+)* *", line) for line in sample.lines)
    widths = {len(line.split()) for line in sample.lines} if numbers else set()
    if data_suffix(stream.name) == ".txt" and len(widths) == 1 and max(widths) > 2:
        raise DataError(
            f"The format must be clear; every line of {stream.name} has {max(widths)} numbers, which could be a user and "
            "items or columns. Pass ",
            Argument("format", "adjacency"),
            " or ",
            Argument("format", "csv"),
            ".",
        )
    return len(widths) > 1


def open_delimited(
    stream: BinaryIO,
    sample: Sample,
    delimiter: str | None,
    header: bool | None,
    wants_names: bool,
) -> Opened:
    """Delimited text. `delimiter` may have several characters; a `header` of `None` is found from the lines."""
    separator = delimiter or _delimiter(sample, stream)
    rows = [_fields(line, separator) for line in sample.lines[:2]]
    if header is None:
        header = wants_names or _has_header(rows, stream)
    names = tuple(field.strip() if header else f"column {at}" for at, field in enumerate(rows[0]))
    return _in_columns("csv", stream, sample, names, separator, header)


def open_recbole(stream: BinaryIO, sample: Sample) -> Opened:
    """RecBole's atomic ``.inter``: tabs, no quotes, and a header of ``name:type``."""
    fields = sample.lines[0].split("\t")
    for field in fields:
        DataError.unless(
            _TYPED.match(field),
            "Each field of a RecBole header must be name:type, the type token, float, token_seq or "
            f"float_seq; {stream.name} has {field!r}. Correct the header, or pass ",
            Argument("format", "csv"),
            ".",
        )
    names = tuple(field.rpartition(":")[0] for field in fields)
    return _in_columns("recbole", stream, sample, names, "\t", True)


def _in_columns(
    format: FileFormat,
    stream: BinaryIO,
    sample: Sample,
    names: tuple[str, ...],
    separator: str,
    header: bool,
) -> Opened:
    """A text file of these columns, below a header or from its first line on."""
    DataError.unless(
        len(sample.lines) > header,
        f"A file must hold data; {stream.name} has a header and no rows. Write or copy it again.",
    )
    skip, quoted = sample.skipped + header, format != "recbole"
    heading = _fields(sample.lines[0], separator)

    def batches(positions: list[int]) -> Iterator[pl.DataFrame]:
        n_before = 0
        for frame in _columns(stream, names, positions, separator, skip, quoted):
            if header:  # as after `cat one.csv two.csv`
                repeated = pl.select(
                    pl.all_horizontal(
                        column == heading[at]
                        for column, at in zip(frame.iter_columns(), positions, strict=True)
                    )
                ).to_series()
                DataError.unless(
                    not repeated.any(),
                    f"A header must be the first line and no other; {stream.name} has it again as row "
                    f"{n_before + (repeated.arg_max() or 0):,}, counted from 0. Remove it there.",
                )
            n_before += frame.height
            yield frame

    rows = [_fields(line, separator) for line in sample.lines[header : header + _ROWS_LOOKED_AT]]
    mark = _MARKS.get(separator, f"delimiter {separator!r}")
    layout = f"{mark}, {'header' if header else 'no header'}"
    return Opened(format, names, header, batches, sample=rows, layout=layout)


_ROWS_LOOKED_AT = 200  # as many lines as tell the delimiter
_MARKS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", " ": "blanks"}


def open_json_lines(stream: BinaryIO) -> Opened:
    """An object a line; its columns are the names in the first lines."""

    def table(lines: bytes) -> pl.DataFrame:
        _refuse_zeros(lines, 0, stream)
        try:
            return pl.read_ndjson(lines, infer_schema_length=None)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as problem:
            raise DataError(
                f"Each line must be a JSON object; {stream.name} is not so: {str(problem).partition(chr(10))[0][:200]}. Write "
                "one object a line, without commas between them."
            ) from None

    def blocks(size: int) -> Iterator[bytes]:
        stream.seek(0)
        while lines := stream.readlines(size):
            yield b"".join(lines)

    names = tuple(table(next(blocks(SAMPLE_BYTES))).columns)

    def batches(positions: list[int]) -> Iterator[pl.DataFrame]:
        for block in blocks(_JSON_BYTES):
            if block.strip():
                frame = table(block)
                # A name that no object of a block has: each is without it.
                yield frame.select(
                    names[at] if names[at] in frame.columns else pl.lit(None).alias(names[at])
                    for at in positions
                )

    return Opened("jsonl", names, True, batches)


_JSON_BYTES = 1 << 26
"""Bytes of JSON lines that are read at a time: half a million rows or so, which take a gigabyte at most while they are
parsed."""


def open_adjacency(stream: BinaryIO) -> Opened:
    """``user item item …`` per line; users without items are dropped, and a user may have several lines."""
    stream.seek(0)
    content = stream.read()
    _refuse_zeros(content, 0, stream)
    lines = pl.Series("line", _lines(_decoded(content, stream)), dtype=pl.String)
    tokens = lines.str.strip_chars(" \t\r").str.replace_all(r"[ \t]+", " ").str.split(" ")
    table = pl.DataFrame({"user": tokens.list.first(), "item": tokens.list.slice(1)})
    frame = table.filter(pl.col("item").list.len() > 0).explode("item")
    DataError.unless(
        not table["user"].str.contains(r"[,;|]").any(),
        f'An adjacency list must be separated by blanks ("user item item …"); {stream.name} begins with '
        f"{lines[0][:80]!r}. Pass ",
        Argument("format", "csv"),
        " if these are columns.",
    )
    return Opened("adjacency", ("user", "item"), True, lambda positions: iter([frame[:, positions]]))


def _decoded(content: bytes, stream: BinaryIO, complete: bool = True) -> str:
    """UTF-8 text without its byte order mark; unless `complete`, the last character may be cut off."""
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(content, final=complete)
    except UnicodeDecodeError as problem:
        line = content[: problem.start].count(b"\n") + 1
        raise DataError(
            f"A text file must be UTF-8; {stream.name} has the byte 0x{content[problem.start]:02x} in line {line}, "
            "which is not. Convert it, for example with `iconv -f latin1 -t utf-8`."
        ) from None


def _lines(text: str) -> list[str]:
    """Lines without their ends. `str.splitlines` would also split at form feeds and Unicode separators inside labels."""
    return text.replace("\r\n", "\n").split("\n")


def _fields(line: str, separator: str) -> list[str]:
    if len(separator) > 1 or '"' not in line:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator))


def _delimiter(sample: Sample, stream: BinaryIO) -> str:
    """The first delimiter that splits every line into the same number of fields, at least two."""
    preferred = {".tsv": "\t", ".csv": ","}.get(data_suffix(stream.name))
    ordered = sorted(DELIMITERS, key=lambda mark: mark != preferred)
    counts = {mark: [len(_fields(line, mark)) for line in sample.lines[:200]] for mark in ordered}
    splitting = [mark for mark in ordered if counts[mark][0] > 1]
    if splitting:  # if none is regular, reading with the first reports the line at fault
        return next((mark for mark in splitting if len(set(counts[mark])) == 1), splitting[0])
    raise DataError(
        f"Lines must have at least a user and an item; {stream.name} begins with {sample.lines[0][:80]!r}, in which "
        f"none of {some(DELIMITERS, 6)} stands. Pass its ",
        Argument("delimiter"),
        ".",
    )


def _has_header(rows: list[list[str]], stream: BinaryIO) -> bool:
    if {"user", "item"} <= {usual_role(field) for field in rows[0]}:
        return True
    if any(_is_number(field) for field in rows[0]):
        return False
    if len(rows) > 1 and any(_is_number(field) for field in rows[1]):
        return True
    raise DataError(
        f"It must be clear whether the first line is a header; {stream.name} begins with {some(rows[0])}, which "
        "could be names or labels. Pass ",
        Argument("header", True),
        " or ",
        Argument("header", False),
        ".",
    )


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", text) is not None


def _columns(
    stream: BinaryIO,
    names: tuple[str, ...],
    positions: list[int],
    separator: str,
    skip: int,
    quoted: bool,
) -> Iterator[pl.DataFrame]:
    """The columns at `positions` as text, empty fields as nulls. Every line must have as many fields as
    names."""
    import pyarrow
    from pyarrow import csv as arrow_csv

    mark = separator if len(separator.encode()) == 1 else _STAND_IN
    quoted = quoted and mark == separator
    text = _Text(stream, separator)
    keys = [f"{at} {name}" for at, name in enumerate(names)]  # distinct, whatever the header says
    n_rows = 0

    def pieces() -> Iterator[Any]:
        nonlocal n_rows
        reader = arrow_csv.open_csv(
            text,
            read_options=arrow_csv.ReadOptions(column_names=keys, skip_rows=skip),
            parse_options=arrow_csv.ParseOptions(
                delimiter=mark, quote_char='"' if quoted else False, newlines_in_values=quoted
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(keys, pyarrow.string()),
                include_columns=[keys[at] for at in positions],
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        for piece in reader:
            n_rows += piece.num_rows
            yield piece
        if quoted:
            _check_quotes(stream, text, skip > 0, n_rows)

    try:
        # A batch is handed on once the next one is read, so that faults of a file of one batch are told before those of
        # its values.
        ahead: pl.DataFrame | None = None
        for frame in _in_batches(pieces()):
            frame.columns = [names[at] for at in positions]
            if ahead is not None:
                yield ahead
            ahead = frame
        if ahead is not None:
            yield ahead
    except pyarrow.ArrowInvalid as problem:
        seen = str(problem).partition("\n")[0].replace(_STAND_IN, " | ").removeprefix("CSV parse error: ")
        if "straddling" in seen:  # a row that is longer than a block of a megabyte
            raise _unclosed(stream) from None
        if "UTF8" in seen:
            stream.seek(0)
            _decoded(stream.read(), stream)  # its error names the line; pyarrow's does not
        raise DataError(
            f"Every line must have the fields of the first; in {stream.name}: {seen}. The file is damaged or cut off, "
            "or its delimiter is another one: copy it again, or pass ",
            Argument("delimiter"),
            ".",
        ) from None


class _Text(io.RawIOBase):
    """Text on its way to the parser: zero bytes are refused, quotes are followed, and a delimiter of several bytes is
    replaced by one of a single byte, which is all that the parser takes.
    """

    def __init__(self, stream: BinaryIO, separator: str) -> None:
        stream.seek(0)
        self._stream, self._place = stream, 0
        self._long = separator.encode() if len(separator.encode()) > 1 else b""
        self._waiting = b""  # the end of the last block, which may be the beginning of a delimiter
        # What stands before a quote that opens a field, and after one that closes it; two quotes within one are a letter.
        self._edges = np.frombuffer(f'\r\n"{separator}'.encode(), dtype=np.uint8)
        self._before, self._closed = (
            b"\n",
            False,
        )  # the last byte so far, and whether it is a quote that closes a field
        self.n_quotes, self.in_turn = 0, True

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        content = self._stream.read(size)
        _refuse_zeros(content, self._place, self._stream)
        self._place += len(content)
        if self._place == len(content):
            content = content.removeprefix(codecs.BOM_UTF8)
        self._follow_quotes(content)
        return self._with_short_delimiters(content, size) if self._long else content

    def _follow_quotes(self, content: bytes) -> None:
        """See whether quotes open and close fields in turn, here as well."""
        if self._closed and content:
            self.in_turn = self.in_turn and content[0] in self._edges
        self._closed = False
        if b'"' in content:
            around = np.frombuffer(self._before + content, dtype=np.uint8)
            at = np.flatnonzero(around[1:] == ord('"')) + 1
            opening, closing = (at[0::2], at[1::2]) if self.n_quotes % 2 == 0 else (at[1::2], at[0::2])
            self._closed = bool(len(closing)) and closing[-1] == len(content)
            inside = closing[:-1] if self._closed else closing
            self.in_turn = bool(
                self.in_turn
                and np.isin(around[opening - 1], self._edges).all()
                and np.isin(around[inside + 1], self._edges).all()
            )
            self.n_quotes += len(at)
        self._before = content[-1:] or self._before

    def _with_short_delimiters(self, content: bytes, size: int) -> bytes:
        DataError.unless(
            _STAND_IN.encode() not in content,
            f"A file with a delimiter of several bytes must not hold the control character 0x1f; {self._stream.name} "
            "does. Write it with a delimiter of one character.",
        )
        short = (self._waiting + content).replace(self._long, _STAND_IN.encode())
        n_waiting = next((n for n in range(len(self._long) - 1, 0, -1) if short.endswith(self._long[:n])), 0)
        ended = not content
        self._waiting = short[len(short) - n_waiting :] if not ended else b""
        short = short[: len(short) - n_waiting] if not ended else short
        # Nothing at all would be taken for the end of the file.
        return short if short or ended else self.read(size)


def _check_quotes(stream: BinaryIO, text: _Text, header: bool, n_rows: int) -> None:
    """Raise `DataError` if a quote that is not closed has taken lines into its field.

    pyarrow reads a field from a quote to the next one, or to the end of the file, and takes quotes elsewhere for letters.
    Lines that became no rows are part of such fields, which is right only if all quotes open and close fields in turn.
    """
    if text.in_turn and text.n_quotes % 2 == 0:
        return
    stream.seek(0)
    if text.in_turn or sum(bool(line.strip()) for line in stream) - header > n_rows:
        raise _unclosed(stream)


def _unclosed(stream: BinaryIO) -> DataError:
    return DataError(
        f"A quote that opens a field must be closed; {stream.name} has one that is not, and all up to the next quote, or to "
        "the end, would be one field. Close or remove it; a quote inside a quoted field is written twice."
    )
