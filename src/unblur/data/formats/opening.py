"""Open a file: a regular one only; and find its format, its columns' names, and the role of each column.

Formats that name their columns (Parquet, NumPy's) come first, then text: delimited columns with or without a header,
adjacency lists, RecBole's typed header. Last, the roles of columns: named by the caller, or found by the usual names.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, cast, get_args

import numpy as np
import polars as pl
from scipy import sparse

from unblur.errors import Argument, DataError, nearest, reason_of, some

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
"""Supported suffixes and their formats; `None` if the content decides."""

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
"""The errors that NumPy, SciPy and zipfile raise for damaged files and for files of another format."""


@dataclass(frozen=True)
class Opened:
    """A file with its columns' names, before its rows are read."""

    format: FileFormat
    names: tuple[str, ...]
    """The columns, in order; ``column 0`` and so on if the file has no names."""
    named: bool
    """True if the names are the file's own."""
    load: Callable[[list[int]], pl.DataFrame]
    """Read the columns at these positions (ascending)."""
    shape: tuple[int, int] | None = None
    """(n_users, n_items) if labels are the positions in a matrix."""


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


def open_data(path: str | Path) -> io.BufferedReader:
    """Open a file of data. Raises `DataError`, with the names nearby, for anything that cannot be opened."""
    file = Path(path)
    try:
        return open_regular(file)
    except IsADirectoryError:
        readable = [name for name in names_in(file) if Path(name).suffix.lower() in SUFFIXES]
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
        stems = [name for name in names if Path(name).stem == file.stem]
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
    suffix = Path(stream.name).suffix.lower()
    ending = SUFFIXES.get(suffix)
    if start.startswith(b"PK\x03\x04") and ending == "npz":
        return "npz"
    for magic, kind, advice in _NOT_DATA:
        DataError.unless(
            not start.startswith(magic),
            f"A file must be in a known format ({', '.join(FORMATS)}); {stream.name} is {kind}. {advice}",
        )
    DataError.unless(
        ending not in ("parquet", "npz", "npy"),
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


def open_parquet(stream: BinaryIO) -> Opened:
    """A Parquet file; only its footer is read here."""

    def table(columns: Sequence[str] | pl.Expr, n_rows: int | None = None) -> pl.DataFrame:
        try:
            scan = pl.scan_parquet(stream, n_rows=n_rows, glob=False, hive_partitioning=False)
            return scan.select(columns).collect()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as problem:
            stream.seek(-min(4, stream.seek(0, io.SEEK_END)), io.SEEK_END)
            cut = stream.read() != b"PAR1"
            seen = "its end is missing, so it is truncated" if cut else str(problem).partition("\n")[0]
            raise DataError(
                f"A Parquet file must be whole; {stream.name} is not: {seen}. Copy or write it again."
            ) from None

    names = tuple(table(pl.all(), n_rows=0).columns)
    return Opened("parquet", names, True, lambda positions: table([names[at] for at in positions]))


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
    return Opened("npz", tuple(frame.columns), True, lambda positions: frame[:, positions], matrix.shape)


def open_pairs(stream: BinaryIO) -> Opened:
    """A NumPy array of integers, one (user, item) pair per row."""
    with _numpy_file(stream, "integers of shape (n, 2), a user and an item a row"):
        pairs = np.load(stream, allow_pickle=False)
        if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
            raise ValueError(f"it holds {pairs.dtype} of shape {pairs.shape}")
    frame = pl.DataFrame({"user": pairs[:, 0], "item": pairs[:, 1]})
    return Opened("npy", ("user", "item"), True, lambda positions: frame[:, positions])


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
    for at, block in enumerate(iter(partial(stream.read, SAMPLE_BYTES), b"")):
        DataError.unless(
            b"\x00" not in block,
            f"A text file must hold no zero bytes; {stream.name} has one {at * SAMPLE_BYTES + block.find(0):,} bytes from "
            "its beginning. It is damaged, or no text: copy or write it again.",
        )
    stream.seek(0)
    start = stream.read(SAMPLE_BYTES)
    complete = not stream.read(1)
    if not complete:
        start = start[: start.rfind(b"\n") + 1] or start
    lines = _lines(_decoded(start, stream, complete))
    filled = [line for line in lines if line.strip()]
    DataError.unless(
        filled, f"A file must hold data; {stream.name} has only blank lines. Write or copy it again."
    )
    return Sample(filled, lines.index(filled[0]))


def is_adjacency(sample: Sample, stream: BinaryIO) -> bool:
    """Return whether the lines are ``user item item …``. Raises `DataError` if they could also be columns."""
    numbers = all(re.fullmatch(r"[0-9]+(?: +[0-9]+)* *", line) for line in sample.lines)
    widths = {len(line.split()) for line in sample.lines} if numbers else set()
    if Path(stream.name).suffix.lower() == ".txt" and len(widths) == 1 and max(widths) > 2:
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

    def load(positions: list[int]) -> pl.DataFrame:
        frame = _columns(stream, names, positions, separator, skip, quoted)
        if header:  # as after `cat one.csv two.csv`
            repeated = pl.select(
                pl.all_horizontal(
                    column == heading[at] for column, at in zip(frame.iter_columns(), positions, strict=True)
                )
            ).to_series()
            DataError.unless(
                not repeated.any(),
                f"A header must be the first line and no other; {stream.name} has it again as row {repeated.arg_max() or 0:,}, "
                "counted from 0. Remove it there.",
            )
        return frame

    return Opened(format, names, header, load)


def open_adjacency(stream: BinaryIO) -> Opened:
    """``user item item …`` per line; users without items are dropped, and a user may have several lines."""
    stream.seek(0)
    lines = pl.Series("line", _lines(_decoded(stream.read(), stream)), dtype=pl.String)
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
    return Opened("adjacency", ("user", "item"), True, lambda positions: frame[:, positions])


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
    preferred = {".tsv": "\t", ".csv": ","}.get(Path(stream.name).suffix.lower())
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
) -> pl.DataFrame:
    """The columns at `positions` as text, empty fields as nulls. Every line must have as many fields as
    names."""
    import pyarrow
    from pyarrow import csv as arrow_csv

    stream.seek(0)
    source, mark = stream, separator
    if len(separator.encode()) > 1:
        content = stream.read()
        DataError.unless(
            _STAND_IN.encode() not in content,
            f"A file with a delimiter of several bytes must not hold the control character 0x1f; {stream.name} "
            "does. Write it with a delimiter of one character.",
        )
        source = io.BytesIO(content.replace(separator.encode(), _STAND_IN.encode()))
        mark, quoted = _STAND_IN, False
    keys = [f"{at} {name}" for at, name in enumerate(names)]  # distinct, whatever the header says
    try:
        table = arrow_csv.read_csv(
            source,
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
    if quoted:
        _check_quotes(stream, separator, skip > 0, table.num_rows)
    frame = cast("pl.DataFrame", pl.from_arrow(table))
    frame.columns = [names[at] for at in positions]
    return frame


def _check_quotes(stream: BinaryIO, separator: str, header: bool, n_rows: int) -> None:
    """Raise `DataError` if a quote that is not closed has taken lines into its field.

    pyarrow reads a field from a quote to the next one, or to the end of the file, and takes quotes elsewhere for letters.
    Lines that became no rows are part of such fields, which is right only if all quotes open and close fields in turn.
    """
    content = np.memmap(stream, dtype=np.uint8, mode="r")
    at = np.concatenate(
        [
            start + np.flatnonzero(content[start : start + SAMPLE_BYTES] == ord('"'))
            for start in range(0, len(content), SAMPLE_BYTES)
        ]
    )
    first = len(codecs.BOM_UTF8) if content[:3].tobytes() == codecs.BOM_UTF8 else 0
    opening, closing = at[0::2], at[1::2]
    # What stands before a quote that opens a field, and after one that closes it; two quotes within a field are a letter.
    edges = np.frombuffer(f'\r\n"{separator}'.encode(), dtype=np.uint8)
    in_turn = (
        np.isin(content[opening[opening > first] - 1], edges).all()
        and np.isin(content[closing[closing < len(content) - 1] + 1], edges).all()
    )
    stream.seek(0)
    n_lines = n_rows if in_turn else sum(bool(line.strip()) for line in stream) - header
    if n_lines > n_rows or (in_turn and len(at) % 2):
        raise _unclosed(stream)


def _unclosed(stream: BinaryIO) -> DataError:
    return DataError(
        f"A quote that opens a field must be closed; {stream.name} has one that is not, and all up to the next quote, or to "
        "the end, would be one field. Close or remove it; a quote inside a quoted field is written twice."
    )


Role: TypeAlias = Literal["user", "item", "rating", "weight", "timestamp"]
IGNORE = "ignore"
"""The value of `rating` and `timestamp` that leaves such a column out."""

USUAL_NAMES: dict[Role, tuple[str, ...]] = {
    "user": ("user", "user_id", "uid", "user_name", "reviewer_id", "customer_id", "visitor_id", "member_id"),
    "item": (
        *(
            "item",
            "item_id",
            "iid",
            "movie_id",
            "book_id",
            "isbn",
            "asin",
            "parent_asin",
            "product_id",
            "sku",
        ),
        *("track_id", "song_id", "artist_id", "business_id", "article_id", "video_id", "game_id", "news_id"),
        *("venue_id", "location_id"),
    ),
    "rating": ("rating", "ratings", "score", "stars", "overall", "label"),
    "weight": ("weight",),
    "timestamp": (
        *("timestamp", "time", "datetime", "date", "ts", "unix_time", "unix_timestamp", "unix_review_time"),
        *("event_time", "created_at", "rated_at"),
    ),
}
"""Names recognised in any spelling: ``user_id``, ``userId``, ``User ID`` and ``USERID`` are one name."""

_ROLES = {_role_name.replace("_", ""): role for role, names in USUAL_NAMES.items() for _role_name in names}
_POSITIONAL: tuple[Role, ...] = ("user", "item", "rating", "timestamp")


def usual_role(name: str) -> Role | None:
    """The role that a column of this name usually has."""
    return _ROLES.get(re.sub(r"[^a-z0-9]", "", name.lower()))


def choose_columns(
    names: Sequence[str], named: bool, requested: Mapping[Role, str | int | None], file: str
) -> dict[Role, int]:
    """The position of each role's column: as requested, else by usual names, or by order in a file without names.

    A role's own name (``rating="rating"``) requests the column that would be found anyway. A file without names holds
    user, item, rating and timestamp, in that order, unless positions are requested: then only these are read. Raises
    `DataError` for a missing column, and if two columns could have one role.
    """
    columns: dict[Role, int] = {}
    for role, column in requested.items():
        if column not in (None, IGNORE) and (column != role or column in names):
            columns[role] = _position(column, role, names, named, file)
    if named:
        _by_name(columns, requested, names, file)
    else:
        _by_position(columns, requested, names, file)
    for role, column in requested.items():
        if role not in columns and column not in (None, IGNORE):
            columns[role] = _position(column, role, names, True, file)  # refused: no column has the name
    owners: dict[int, Role] = {}
    for role, position in columns.items():
        if owners.setdefault(position, role) != role:
            raise DataError(
                f"Each column must have one meaning; {names[position]!r} of {file} was given as ",
                Argument(role),
                " and as ",
                Argument(owners[position]),
                ". Name two different columns.",
            )
    return columns


def described(columns: Mapping[Role, int], names: Sequence[str]) -> str:
    """The column of each role, in words."""
    return ", ".join(f"{role}s from {names[columns[role]]!r}" for role in USUAL_NAMES if role in columns)


def _by_name(
    columns: dict[Role, int], requested: Mapping[Role, str | int | None], names: Sequence[str], file: str
) -> None:
    assigned = set(columns.values())
    for role in USUAL_NAMES:
        skipped = role == "weight" and requested["rating"] is not None
        if role in columns or skipped or requested.get(role) == IGNORE:
            continue
        usual = [at for at, name in enumerate(names) if at not in assigned and usual_role(name) == role]
        if len(usual) > 1:
            option: Role = "rating" if role == "weight" else role
            left_out = (
                () if role in ("user", "item") else (", or leave all out with ", Argument(option, IGNORE))
            )
            raise DataError(
                f"{file} must have one column that is the {role}; {some([names[at] for at in usual])} all "
                "could be. Name the one that is meant with ",
                Argument(option),
                *left_out,
                ".",
            )
        if usual:
            columns[role] = usual[0]
        elif role in ("user", "item"):
            raise DataError(
                f"{file} must have a column of {role}s; none of its columns ({some(names, 12)}) has a usual "
                f"name such as {', '.join(USUAL_NAMES[role][:4])}. Name it with ",
                Argument(role),
                ".",
            )


def _position(column: str | int | None, role: Role, names: Sequence[str], named: bool, file: str) -> int:
    if isinstance(column, bool) or not isinstance(column, str | int):
        raise DataError(Argument(role), f" must be a column's name or its position from 0; saw {column!r}.")
    if isinstance(column, int):
        DataError.unless(
            0 <= column < len(names),
            f"{file} must have a column at position {column} for ",
            Argument(role),
            f"; it has {len(names)} columns, 0 to {len(names) - 1}: {some(names, 12)}. Correct the position, or "
            "the delimiter.",
        )
        return column
    DataError.unless(
        named,
        f"{file} must have a header to name ",
        Argument(role),
        f" {column!r}; it was read as having none. Give positions from 0, or pass ",
        Argument("header", True),
        ".",
    )
    DataError.unless(
        column in names,
        f"{file} must have the column {column!r} that was named as ",
        Argument(role),
        f"; its columns are {some(names, 12)}.{nearest(column, names)} Correct the name.",
    )
    return list(names).index(column)


def _by_position(
    columns: dict[Role, int], requested: Mapping[Role, str | int | None], names: Sequence[str], file: str
) -> None:
    if "user" in columns and "item" in columns:
        return
    DataError.unless(
        "user" not in columns and "item" not in columns,
        f"{file} has no header, so both ",
        Argument("user"),
        " and ",
        Argument("item"),
        " must be given by position or neither; one was. Give both.",
    )
    DataError.unless(
        2 <= len(names) <= 4,
        "A file without header must have 2 to 4 columns (user, item, rating, timestamp) to be read "
        f"unasked; {file} has {len(names)}. Say which columns are meant by position (",
        Argument("user", 0),
        ", ",
        Argument("item", 1),
        ", …), or correct ",
        Argument("delimiter"),
        ".",
    )
    assigned = set(columns.values())
    for position, role in enumerate(_POSITIONAL[: len(names)]):
        if role not in columns and position not in assigned and requested[role] != IGNORE:
            columns[role] = position
