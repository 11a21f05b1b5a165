"""Read text, batch by batch: delimited columns with or without a header, RecBole's typed header, JSON lines, adjacency lists."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import polars as pl

from unblur.data.formats.columns import LOOKS_LIKE_TIME, usual_role
from unblur.data.formats.labels import NULL_WORDS
from unblur.data.formats.opening import FileFormat, data_suffix
from unblur.data.formats.tables import Opened, distinct, in_batches
from unblur.errors import Argument, DataError, some

SAMPLE_BYTES = 1 << 18
"""The number of bytes from which the format of a text file is found: some thousands of lines, read in a millisecond."""
LONGEST_ROW = 1 << 24
"""Bytes of a line of a table that is read whole at most: the longest descriptions of items take a megabyte."""
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
    cut: bool
    """True if the first line, or the one below, is longer than the beginning that was read."""
    n_bytes: int
    """The number of bytes to which the beginning was read."""

    @property
    def typed(self) -> bool:
        """True if the first line is a header of RecBole's."""
        return all(_TYPED.match(field) for field in self.lines[0].split("\t"))


def sample_of(stream: BinaryIO, n_bytes: int = SAMPLE_BYTES) -> Sample:
    """The first lines of a text file, so many bytes of them. Raises `DataError` when it is not UTF-8 text or has only blank lines."""
    stream.seek(0)
    start = stream.read(n_bytes)
    _refuse_zeros(start, 0, stream)
    complete = not stream.read(1)
    if not complete:
        start = start[: start.rfind(b"\n") + 1] or start
    lines = _lines(_decoded(start, stream, complete=complete))
    filled = [line for line in lines if line.strip()]
    DataError.unless(
        filled, f"A file must hold data; {stream.name} has only blank lines. Write or copy it again."
    )
    return Sample(filled, lines.index(filled[0]), not complete and len(filled) == 1, n_bytes)


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
    if header and len(separator) == 1 and sample.lines[0].count('"') % 2:
        raise _unclosed(stream)
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
    if sample.cut:
        # Blanks are the marks of adjacency lists.
        lists = (" If its lines are a user and items each, pass ", Argument("format", "adjacency"), ".")
        raise DataError(*_too_long(stream, sample.n_bytes).args, *(lists if separator == " " else ()))
    DataError.unless(
        len(sample.lines) > header,
        f"A file must hold data; {stream.name} has a header and no rows. Write or copy it again.",
    )
    remarks: list[str] = []

    def batches(positions: list[int]) -> Iterator[pl.DataFrame]:
        return _columns(
            stream,
            names,
            positions,
            separator,
            sample.skipped + header,
            format != "recbole",
            # Rows of a log are short: a block of a megabyte, the parser's usual one, has thousands.
            max(1 << 20, sample.n_bytes),
            remarks,
        )

    rows = [_fields(line, separator) for line in sample.lines[header : header + _ROWS_LOOKED_AT]]
    kind = "a file of RecBole's" if format == "recbole" else "delimited text"
    mark = _MARKS.get(separator, f"delimiter {separator!r}")
    layout = f"{kind} ({mark}, {'header' if header else 'no header'})"
    return Opened(format, layout, names, header, batches, sample=rows, remarks=remarks)


_ROWS_LOOKED_AT = 200  # as many lines as tell the delimiter
_MARKS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars", " ": "blanks"}


def open_json_lines(stream: BinaryIO, *, whole: bool = False) -> Opened:
    """An object a line; its columns are the names in the first lines, or, if the `whole` file is looked at, in any line."""

    def table(lines: bytes) -> pl.DataFrame:
        try:
            if any(len(line) > _SHORT and _depth(line) > _DEEPEST for line in lines.split(b"\n")):
                raise pl.exceptions.ComputeError(f"a line has more than {_DEEPEST} levels")
            return pl.read_ndjson(lines, infer_schema_length=None)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as problem:
            raise DataError(
                f"Each line must be a JSON object; {stream.name} is not so: {str(problem).partition(chr(10))[0][:200]}. Write "
                "one object a line, without commas between them."
            ) from None

    first = next(_blocks(stream, SAMPLE_BYTES), b"")
    looked_at = _blocks(stream, _BLOCK_BYTES) if whole else [first]
    # A dictionary keeps the order in which names appear.
    names = tuple(dict.fromkeys(name for block in looked_at for name in table(block).columns))
    # Of two values of one name the parser takes one.
    first_names = json.loads(
        first.lstrip().split(b"\n")[0],
        object_pairs_hook=lambda pairs: [name for name, _ in pairs],
        parse_int=str,
    )
    distinct(first_names)
    remarks: list[str] = []

    def batches(positions: list[int]) -> Iterator[pl.DataFrame]:
        unread: set[str] = set()
        for block in _blocks(stream, _BLOCK_BYTES):
            frame = table(block)
            unread.update(frame.columns)
            # A name that no object of a block has: each is without it.
            frame = frame.select(
                names[at] if names[at] in frame.columns else pl.lit(None).alias(names[at]) for at in positions
            )
            yield frame
        if unread := unread.difference(names):
            remarks.append(
                f"not read: {some(sorted(unread), 8)}, which the first lines of {stream.name} lack"
            )

    return Opened("jsonl", "JSON lines", names, True, batches, remarks=remarks)


_SHORT, _DEEPEST = 1000, 100
"""Bytes of a line that need no look at its depth, and levels of a longer one: over 600 levels polars ends the process, and they
take 3,000 bytes. Columns lie in the first two."""
_NO_BRACKETS = bytes({*range(256)} - {*b"{}[]"})


def _depth(line: bytes) -> int:
    """The most brackets that are open at once; those in texts count as well."""
    brackets = np.frombuffer(line.translate(None, _NO_BRACKETS), dtype=np.uint8)
    # The bit of 4 tells } and ] from { and [.
    return int(np.cumsum(np.where(brackets & 4, -1, 1)).max(initial=0))


def open_adjacency(stream: BinaryIO) -> Opened:
    """``user item item …`` per line; users without items are dropped, and a user may have several lines."""

    def batches(positions: list[int]) -> Iterator[pl.DataFrame]:
        for lines in lines_of(stream):
            series = pl.Series("line", lines, dtype=pl.String)
            tokens = series.str.strip_chars(" \t").str.replace_all(r"[ \t]+", " ").str.split(" ")
            table = pl.DataFrame({"user": tokens.list.first(), "item": tokens.list.slice(1)})
            DataError.unless(
                not table["user"].str.contains(r"[,;|]").any(),
                f'An adjacency list must be separated by blanks ("user item item …"); {stream.name} has a line that begins with '
                f"{lines[0][:80]!r}. Pass ",
                Argument("format", "csv"),
                " if these are columns.",
            )
            yield table.filter(pl.col("item").list.len() > 0).explode("item")[:, positions]

    return Opened("adjacency", "adjacency lists", ("user", "item"), True, batches)


def lines_of(stream: BinaryIO) -> Iterator[list[str]]:
    """The lines of a text, without their ends and without a byte order mark, some megabytes at a time."""
    n_before = 0
    for block in _blocks(stream, _BLOCK_BYTES):
        yield _lines(_decoded(block, stream, n_before))
        n_before += block.count(b"\n")


_BLOCK_BYTES = 1 << 26
"""Bytes of JSON or adjacency lines that are read at a time: half a million rows or ten million numbers, which take a gigabyte at most
while they are parsed."""
_LONGEST_LINE = 1 << 28
"""Bytes of a line at most: a user with thirty million items. Without a bound a few compressed kilobytes may take all memory."""


def _blocks(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """The whole lines of a text, about `size` bytes at a time, without a byte order mark and without blocks of blanks alone.

    Raises `DataError` for zero bytes, and for a line that does not end.
    """
    stream.seek(0)
    place = 0
    while block := stream.read(size):
        if not block.endswith(b"\n"):
            block += stream.readline(_LONGEST_LINE)
            if len(block) >= _LONGEST_LINE:
                raise _too_long(stream, _LONGEST_LINE)
        _refuse_zeros(block, place, stream)
        content = block if place else block.removeprefix(codecs.BOM_UTF8)
        place += len(block)
        if content and not content.isspace():
            yield content


def _too_long(stream: BinaryIO, n_bytes: int) -> DataError:
    return DataError(
        f"A line must be shorter than {n_bytes:,} bytes; {stream.name} has a longer one. Shorten it; if the file is damaged, or no "
        "text, copy or write it again."
    )


def _decoded(content: bytes, stream: BinaryIO, n_before: int = 0, *, complete: bool = True) -> str:
    """UTF-8 text without its byte order mark, after so many lines; unless `complete`, the last character may be cut off."""
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(content, final=complete)
    except UnicodeDecodeError as problem:
        line = n_before + content[: problem.start].count(b"\n") + 1
        raise DataError(
            f"A text file must be UTF-8; {stream.name} has the byte 0x{content[problem.start]:02x} in line {line}, "
            "which is not. Convert it, for example with `iconv -f latin1 -t utf-8`."
        ) from None


def _lines(text: str) -> list[str]:
    """Lines without their ends, as the parser sees them. `str.splitlines` would also split at form feeds and Unicode separators
    inside labels."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _fields(line: str, separator: str) -> list[str]:
    if len(separator) > 1 or '"' not in line:
        return line.split(separator)
    # The default of 131,072 is for the whole process: it is raised, never lowered.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_ROW))
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
    if any(_is_value(field) for field in rows[0]):
        return False
    # A value below a name proves a header; not so one below an empty field: its own may be missing from the first row.
    below = zip(rows[0], rows[-1], strict=False)
    if any(_is_value(value) and not re.match(NULL_WORDS, name) for name, value in below):
        return True
    raise DataError(
        f"It must be clear whether the first line is a header; {stream.name} begins with {some(rows[0])}, which "
        "could be names or labels. Pass ",
        Argument("header", True),
        " or ",
        Argument("header", False),
        ".",
    )


def _is_value(text: str) -> bool:
    """Whether a field is a number or a date, which no column is called."""
    return LOOKS_LIKE_TIME.fullmatch(text) is not None or _is_number(text)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", text) is not None


def _columns(
    stream: BinaryIO,
    names: tuple[str, ...],
    positions: list[int],
    separator: str,
    skip: int,
    quoted: bool,
    block_bytes: int,
    remarks: list[str],
) -> Iterator[pl.DataFrame]:
    """The columns at `positions` as text, empty fields as nulls. Every line must have as many fields as names, and be shorter
    than a block.
    """
    import pyarrow
    from pyarrow import csv as arrow_csv

    mark = separator if len(separator.encode()) == 1 else _STAND_IN
    quoted = quoted and mark == separator
    text = _Text(stream, separator)
    keys = list(map(str, range(len(names))))  # distinct, whatever the header says
    n_rows = 0

    def pieces() -> Iterator[Any]:
        nonlocal n_rows
        reader = arrow_csv.open_csv(
            text,
            read_options=arrow_csv.ReadOptions(column_names=keys, skip_rows=skip, block_size=block_bytes),
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
            remarks.extend(_lines_in_quotes(stream, text, skip > 0, n_rows))

    try:
        # A batch is handed on once the next one is read, so that faults of a file of one batch are told before those of
        # its values.
        ahead: pl.DataFrame | None = None
        for frame in in_batches(pieces()):
            if ahead is not None:
                yield ahead
            ahead = frame
        if ahead is not None:
            yield ahead
    except pyarrow.ArrowInvalid as problem:
        seen = str(problem).partition("\n")[0].replace(_STAND_IN, " | ").removeprefix("CSV parse error: ")
        if "straddling" in seen:  # a row that is longer than a block: one line, or many in a quote
            raise (_too_long(stream, block_bytes) if text.in_one_line else _unclosed(stream)) from None
        if "UTF8" in seen:
            for _ in lines_of(stream):  # its error names the line; pyarrow's does not
                pass
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
        # The last byte so far, and whether it is a quote that closes a field.
        self._before, self._closed = b"\n", False
        self.n_quotes, self.in_turn, self._n_ends = 0, True, 0
        self.in_one_line = False  # whether a whole block is part of one line

    @property
    def n_lines(self) -> int:
        """The number of lines so far, the last one included if its end is missing."""
        return self._n_ends + (self._before != b"\n")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        content = self._stream.read(size)
        _refuse_zeros(content, self._place, self._stream)
        self._place += len(content)
        if self._place == len(content):
            content = content.removeprefix(codecs.BOM_UTF8)
        self.in_one_line |= len(content) == size and not (b"\n" in content or b"\r" in content)
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
        self._n_ends += content.count(b"\n")

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


def _lines_in_quotes(stream: BinaryIO, text: _Text, header: bool, n_rows: int) -> list[str]:
    """A remark on lines that became no rows: they are part of quoted fields. Raises `DataError` for a quote that is not closed.

    pyarrow reads a field from a quote to the next one, or to the end of the file, and takes quotes elsewhere for letters. That
    fields have lines in them is right only if all quotes open and close fields in turn.
    """
    DataError.unless(not (text.in_turn and text.n_quotes % 2), *_unclosed(stream).args)
    if not text.n_quotes or text.n_lines <= n_rows + header:
        return []
    stream.seek(0)
    n_inside = sum(bool(line.strip()) for line in stream) - header - n_rows
    DataError.unless(text.in_turn or n_inside <= 0, *_unclosed(stream).args)
    return [f"{n_inside:,} lines of {stream.name} are part of quoted fields"] if n_inside > 0 else []


def _unclosed(stream: BinaryIO) -> DataError:
    return DataError(
        f"A quote that opens a field must be closed; {stream.name} has one that is not, and all up to the next quote, or to "
        "the end, would be one field. Close or remove it; a quote inside a quoted field is written twice."
    )
