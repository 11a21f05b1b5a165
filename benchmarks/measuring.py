"""One measurement in a process of its own: its figures, its wall seconds and its peak memory; and the tables of figures.

`python -m benchmarks.measuring MODULE FUNCTION JSON` calls the function with the JSON's keywords and prints what it
returns, as JSON.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib import import_module
from typing import Any

Row = tuple[str, str, str]
"""The name of a measurement, its target, and the figure."""


def measured(module: str, function: str, **arguments: Any) -> dict[str, Any]:
    """The figures that ``benchmarks.module.function(**arguments)`` returns, with `wall_seconds` and `peak_rss_gb`."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.measuring", module, function, json.dumps(arguments)]
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}  # as the command line does
    process = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if process.returncode:
        raise RuntimeError(f"{module}.{function}({arguments}) failed:\n{process.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return {**figures, "wall_seconds": time.perf_counter() - start}


def print_head() -> None:
    """Print the machine, and the head of a Markdown table of figures."""
    print(f"Machine: {machine()}\n\n| what | target | measured |\n|---|---|---|", flush=True)


def print_rows(rows: Iterable[Row]) -> None:
    """Print rows of that table."""
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def machine() -> str:
    """The machine in words: processor, cores, memory."""
    from unblur.experiment import provenance

    facts = provenance.machine()
    return f"{facts['cpu']}, {os.cpu_count()} cores, {facts['memory_gb'] * 1e9 / 2**30:.0f} GiB, no GPU used"


def _main() -> None:
    figures = getattr(import_module(f"benchmarks.{sys.argv[1]}"), sys.argv[2])(**json.loads(sys.argv[3]))
    # Imported after the measurement, whose seconds may include imports of its own.
    from unblur.experiment.provenance import peak_rss_mb

    print(json.dumps({**figures, "peak_rss_gb": peak_rss_mb() / 1e3}))


if __name__ == "__main__":
    _main()
