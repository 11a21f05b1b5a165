"""The time and memory to read a Parquet log into Interactions: target 20 s and 4 GB for 20 M rows.

The log is generated (power-law degrees, shuffled rows, times), written to a temporary folder, and read in a
process of its own, so that the figures are those of reading alone, with its imports.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measuring import measured


def write(
    path: str, n_rows: int, labels: str, n_users: int | None = None, n_items: int | None = None
) -> dict[str, Any]:
    """Write a generated log with integer (``int``) or string (``str``) labels; by default with 80 rows a user."""
    import numpy as np
    import polars as pl

    from unblur.data.catalogue.generation import generated
    from unblur.data.files import write_parquet

    data = generated(n_users or max(10, n_rows // 80), n_items or max(400, n_rows // 400), n_rows, rng=0)
    order = np.random.default_rng(1).permutation(n_rows)
    users, items = data.rows()[order], data.matrix.indices[order]
    frame = pl.DataFrame({"user": users, "item": items, "timestamp": 1_600_000_000 + np.arange(n_rows)})
    if labels == "str":
        frame = frame.with_columns(
            pl.format("customer-{}", pl.col("user").cast(pl.String).str.zfill(9)).alias("user"),
            pl.format("article-{}", pl.col("item").cast(pl.String).str.zfill(7)).alias("item"),
        )
    write_parquet(frame, path)
    return {}


def read(path: str) -> dict[str, Any]:
    """Read a log, the import of the library included."""
    start = time.perf_counter()
    from unblur import Interactions

    data = Interactions.read(path)
    return {"seconds": time.perf_counter() - start, "n_interactions": data.n_interactions}


def recommend(path: str, model: str) -> dict[str, Any]:
    """Fit popularity, which is to say no model to speak of, to a log, or recommend to all of its users: what the rest takes."""
    import os

    from unblur.cli.main import main

    start = time.perf_counter()
    if not os.path.exists(model):  # noqa: PTH110
        code = main(["fit", path, "--model", "popularity", "--out", model])
    else:
        code = main(["recommend", model, "--histories", path, "--out", f"{model}.parquet"])
    return {"seconds": time.perf_counter() - start, "code": code}


def measure(n_rows: int, labels: str = "int") -> dict[str, Any]:
    """`seconds`, `peak_rss_gb`, `n_interactions` and `file_mb` of a log of `n_rows` rows that is written and read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        measured("read_parquet", "write", path=str(path), n_rows=n_rows, labels=labels)
        return {**measured("read_parquet", "read", path=str(path)), "file_mb": path.stat().st_size / 1e6}
