"""A stream of synthetic users to one Parquet file, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from unblur.data.files.writing import replacing
from unblur.data.interactions import Interactions


def write_batches(batches: Iterable[Interactions], path: str | Path) -> int:
    """Write batches, as `Synthesizer.sample_batches` gives them, to a Parquet file (zstd), whole or not at all.

    Columns are user, item and, where one of the first batch that has pairs is not 1, weight; one row group a batch. An
    existing file is replaced. Returns how many pairs were written; users without items leave no trace. Raises
    `DataError` where there is no folder to write into.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_pairs = 0
    with replacing(path) as stream:
        writer = None
        try:
            for batch in _with_pairs(batches):
                table = batch.to_frame().to_arrow()
                if writer is None:
                    weighted = bool((batch.matrix.data != 1).any())
                    names = ["user", "item", *(["weight"] if weighted else [])]
                    fields = [pa.field(name, _plain(pa, table.schema.field(name).type)) for name in names]
                    writer = pq.ParquetWriter(stream, pa.schema(fields), compression="zstd")
                writer.write_table(table.select(writer.schema.names).cast(writer.schema))
                n_pairs += batch.n_interactions
        finally:
            if writer is not None:
                writer.close()
    return n_pairs


def _with_pairs(batches: Iterable[Interactions]) -> Iterator[Interactions]:
    """Batches that have pairs; where none has, the last one, whose columns have types."""
    batch, told = None, False
    for batch in batches:
        if batch.n_interactions:
            told = True
            yield batch
    if batch is not None and not told:
        yield batch


def _plain(pa: object, kind: object) -> object:
    """The type that every reader of Parquet knows: strings and not string views."""
    name = str(kind)
    return pa.large_string() if "string" in name else kind  # type: ignore[attr-defined]
