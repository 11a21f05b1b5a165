"""The time and memory to read a Parquet log into Interactions: target 20 s and 4 GB for 20 M rows, 8 GB for 100 M; and of whole
ways from a log to lists.

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


def command(words: list[str]) -> dict[str, Any]:
    """Run a command of `unblur`, the import of the library included."""
    start = time.perf_counter()
    from unblur.cli.main import main

    if main(words):
        raise RuntimeError(f"unblur {' '.join(words)} failed")
    return {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time()}


def write_csv(parquet: str, path: str) -> dict[str, Any]:
    """Write a log of Parquet as gzip CSV."""
    import pyarrow as pa
    from pyarrow import csv, parquet as files

    with pa.CompressedOutputStream(path, "gzip") as stream:
        csv.write_csv(files.read_table(parquet), stream)
    return {}


def implicit(path: str, out: str, neighbours: int, k: int) -> dict[str, Any]:
    """The same by pandas and implicit: read a CSV, fit item neighbours by the cosine, write lists of all users."""
    start = time.perf_counter()
    import numpy as np
    import pandas as pd
    from implicit.nearest_neighbours import CosineRecommender
    from scipy import sparse

    log = pd.read_csv(path)
    (rows, users), (columns, items) = pd.factorize(log["user"]), pd.factorize(log["item"])
    matrix = sparse.csr_matrix((np.ones(len(log), dtype=np.float32), (rows, columns)))
    read = time.perf_counter()
    model = CosineRecommender(K=neighbours)
    model.fit(matrix, show_progress=False)
    fitted = time.perf_counter()
    best, scores = model.recommend(np.arange(len(users)), matrix, N=k)
    frame = {
        "user": np.repeat(users, k),
        "item": np.asarray(items)[best.ravel()],
        "score": scores.ravel(),
    }
    pd.DataFrame(frame).to_parquet(out)
    seconds = {"read": read - start, "fit": fitted - read, "recommend": time.perf_counter() - fitted}
    return {**seconds, "cpu_seconds": time.process_time()}


def a_million_users(folder: Path) -> dict[str, Any]:
    """Lists of a million users, 40,000 items and 20 million pairs, with popularity: what all but the model takes."""
    log, model = str(folder / "log.parquet"), str(folder / "model")
    sizes = {"n_rows": 20_000_000, "n_users": 1_000_000, "n_items": 40_000}
    measured("read_parquet", "write", path=log, labels="int", **sizes)
    fit = ["fit", log, "--model", "popularity", "--out", model]
    recommend = ["recommend", model, "--histories", log, "--out", str(folder / "lists.parquet")]
    return {
        name: measured("read_parquet", "command", words=words)
        for name, words in (("fit", fit), ("recommend", recommend))
    }


def from_a_log(folder: Path, n_rows: int = 10_000_000, neighbours: int = 100, k: int = 20) -> dict[str, Any]:
    """From a gzip log to lists of all users: describe, fit item-knn, recommend; and implicit on the same log."""
    parquet, log, model = str(folder / "log.parquet"), str(folder / "log.csv.gz"), str(folder / "model")
    measured("read_parquet", "write", path=parquet, n_rows=n_rows, labels="int")
    measured("read_parquet", "write_csv", parquet=parquet, path=log)
    kind = ["--model", "item-knn", "--set", f"model.neighbours={neighbours}"]
    lists = str(folder / "lists.parquet")
    commands = {
        "describe": ["describe", log],
        "fit": ["fit", log, *kind, "--out", model],
        "recommend": ["recommend", model, "--histories", log, "--k", str(k), "--out", lists],
    }
    ours = {name: measured("read_parquet", "command", words=words) for name, words in commands.items()}
    theirs = measured(
        "read_parquet",
        "implicit",
        path=log,
        out=str(folder / "theirs.parquet"),
        neighbours=neighbours,
        k=k,
    )
    return {**ours, "implicit": theirs}


def measure(n_rows: int, labels: str = "int") -> dict[str, Any]:
    """`seconds`, `peak_rss_gb`, `n_interactions` and `file_mb` of a log of `n_rows` rows that is written and read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        measured("read_parquet", "write", path=str(path), n_rows=n_rows, labels=labels)
        return {**measured("read_parquet", "read", path=str(path)), "file_mb": path.stat().st_size / 1e6}
