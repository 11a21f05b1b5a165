"""One measurement in a process of its own: its figures, its wall seconds and its peak memory.

`python -m benchmarks.measuring MODULE FUNCTION JSON` calls the function with the JSON's keywords and prints what it
returns, as JSON.
"""

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def measured(module: str, function: str, **arguments: Any) -> dict[str, Any]:
    """The figures that ``benchmarks.module.function(**arguments)`` returns, with `wall_seconds` and `peak_rss_gb`."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.measuring", module, function, json.dumps(arguments)]
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}  # as the command line does
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{module}.{function}({arguments}) failed:\n{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**figures, "wall_seconds": time.perf_counter() - start}


def machine() -> str:
    """The machine in words: processor, cores, memory."""
    with Path("/proc/cpuinfo").open() as facts:
        model = next(
            (line.split(":")[1].strip() for line in facts if line.startswith("model name")), "processor"
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, no GPU used"


def _peak_rss_gb() -> float:
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) * 1024 / 1e9 for line in status if line.startswith("VmHWM"))


if __name__ == "__main__":
    figures = getattr(import_module(f"benchmarks.{sys.argv[1]}"), sys.argv[2])(**json.loads(sys.argv[3]))
    print(json.dumps({**figures, "peak_rss_gb": _peak_rss_gb()}))
