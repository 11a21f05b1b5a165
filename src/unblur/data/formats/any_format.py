"""Open a file of any format as columns: as it is said, or as its first bytes, its name and its first lines show."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO

from unblur.data.formats.opening import FORMATS, FileFormat, guess_format, unpacked
from unblur.data.formats.tables import Opened, open_arrow, open_matrix, open_pairs, open_parquet
from unblur.data.formats.text import (
    LONGEST_ROW,
    SAMPLE_BYTES,
    is_adjacency,
    open_adjacency,
    open_delimited,
    open_json_lines,
    open_recbole,
    sample_of,
)
from unblur.errors import DataError, check_word

_WITHOUT_SAMPLE: dict[FileFormat | None, Callable[[BinaryIO], Opened]] = {
    "parquet": open_parquet,
    "arrow": open_arrow,
    "adjacency": open_adjacency,
    "npz": open_matrix,
    "npy": open_pairs,
}
"""Functions that open files of the formats that need neither a sample of lines nor a look at all of them."""


def open_table(
    packed: io.BufferedReader,
    format: FileFormat | None = None,
    *,
    delimiter: str | None = None,
    header: bool | None = None,
    has_names: bool = False,
    whole: bool = False,
) -> Opened:
    """Open a file; `format`, `delimiter` and `header` are those of `Interactions.read`.

    `has_names` says that columns were named, so that the first line of a text is a header; `whole`, that all of a table will be
    read at once, so that its lines may be long, and each has a say in the names of JSON lines. Raises `DataError` for a file that is
    empty, damaged or ambiguous.
    """
    DataError.unless(
        packed.peek(1), f"A file must hold data; {packed.name} is empty (0 bytes). Write or copy it again."
    )
    stream = unpacked(packed)
    is_plain = delimiter is None and header is None
    if format is not None:
        check_word("format", format, FORMATS)
    else:
        stream.seek(0)
        format = guess_format(stream, stream.read(4096)) or (None if is_plain else "csv")
    sample = None
    if format in (None, "csv", "recbole"):
        sample = sample_of(stream, LONGEST_ROW if whole else SAMPLE_BYTES)
        # A header of RecBole's is told by itself, whatever the file is called.
        if sample.typed and is_plain:
            format = "recbole"
        elif format is None:
            format = "adjacency" if is_adjacency(sample, stream) else "csv"
    if sample is not None and format == "recbole":
        return open_recbole(stream, sample)
    if sample is not None and format == "csv":
        return open_delimited(stream, sample, delimiter, header, has_names)
    DataError.unless(
        format in ("jsonl", "adjacency") or stream is packed,
        f"A compressed file must hold text to be read; {stream.name} holds {format}. Unpack it first.",
    )
    if format == "jsonl":
        return open_json_lines(stream, whole=whole)
    stream.seek(0)
    return _WITHOUT_SAMPLE[format](stream)
