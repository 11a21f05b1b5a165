"""How long a Parquet log takes to become Interactions, and how much memory: target 20 s and 4 GB for 20 M
rows.

The log is generated (power-law degrees, shuffled rows, times), written to a temporary folder, and read in a
process of its own, so that the figures are those of reading alone, with the start of Python and its imports.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

_WRITE = """
import sys
import numpy as np
import polars as pl
from unblur.data.catalogue import generated
from unblur.data.files import write_parquet

path, n_rows, labels = sys.argv[1], int(sys.argv[2]), sys.argv[3]
data = generated(max(10, n_rows // 80), max(400, n_rows // 400), n_rows, rng=0)
order = np.random.default_rng(1).permutation(n_rows)
users, items = data.rows()[order], data.matrix.indices[order]
frame = pl.DataFrame({"user": users, "item": items, "timestamp": 1_600_000_000 + np.arange(n_rows)})
if labels == "str":
    frame = frame.with_columns(
        pl.format("customer-{}", pl.col("user").cast(pl.String).str.zfill(9)).alias("user"),
        pl.format("article-{}", pl.col("item").cast(pl.String).str.zfill(7)).alias("item"),
    )
write_parquet(frame, path)
"""

_READ = """
import json, sys, time

start = time.perf_counter()
from unblur import Interactions

data = Interactions.read(sys.argv[1])
seconds = time.perf_counter() - start
peak = 0.0
with open("/proc/self/status") as status:
    peak = next(int(line.split()[1]) * 1024 / 1e9 for line in status if line.startswith("VmHWM"))
print(json.dumps({"seconds": seconds, "peak_rss_gb": peak, "n_interactions": data.n_interactions}))
"""


def measure(n_rows: int, labels: str = "int") -> dict[str, float]:
    """Generate and read `n_rows` rows with integer (``int``) or string (``str``) labels.

    Gives `seconds`, `peak_rss_gb` (Linux only), `file_mb` and `n_interactions`.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.parquet"
        subprocess.run([sys.executable, "-c", _WRITE, str(path), str(n_rows), labels], check=True)
        size = path.stat().st_size / 1e6
        read = subprocess.run(
            [sys.executable, "-c", _READ, str(path)], check=True, capture_output=True, text=True
        )
        return {**json.loads(read.stdout), "file_mb": size}


if __name__ == "__main__":
    for labels in ("int", "str"):
        figures = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000_000, labels)
        print(labels, {name: round(value, 2) for name, value in figures.items()})
