"""Where numbers came from: versions and the machine, without any name that would tell whose it is."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import unblur
from unblur.data.interactions import Interactions
from unblur.experiment.recipe.schema import Recipe

_LIBRARIES = ("numpy", "scipy", "torch", "polars")


def versions() -> dict[str, str]:
    """The versions of Python, of this library, and of those that its numbers depend on."""
    return {
        "python": platform.python_version(),
        "unblur": unblur.__version__,
        **{name: metadata.version(name) for name in _LIBRARIES},
    }


def machine(device: str = "cpu") -> dict[str, Any]:
    """What timings depend on: processor, cores, memory, device. Nothing that names the machine."""
    facts: dict[str, Any] = {
        "cpu": _fact("/proc/cpuinfo", "model name") or platform.processor() or None,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device,
    }
    if device.startswith("cuda"):
        import torch

        facts["gpu"] = torch.cuda.get_device_name(device)
    return {name: value for name, value in facts.items() if value is not None}


def trained_on(train: Interactions, recipe: Recipe) -> dict[str, Any]:
    """What a saved model remembers of its training: a fingerprint, sizes, seed and recipe."""
    return {
        "train": train.fingerprint(),
        "n_users": train.n_users,
        "n_items": train.n_items,
        "n_interactions": train.n_interactions,
        "seed": recipe.seed,
        "recipe": recipe.name,
    }


def peak_rss_mb() -> float:
    """The largest resident memory of this process so far, in MB (10**6 bytes); 0 where not known."""
    peak = _fact("/proc/self/status", "VmHWM")
    if peak is not None:
        return _bytes(peak) / 1e6
    try:
        import resource
    except ImportError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def rss_mb() -> float:
    """The resident memory of this process now, in MB (10**6 bytes); the peak where that is not known."""
    held = _fact("/proc/self/status", "VmRSS")
    return peak_rss_mb() if held is None else _bytes(held) / 1e6


def forget_peak_rss() -> bool:
    """Let the system measure the largest resident memory anew; whether it did (Linux only)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5: the peak alone
    except OSError:
        return False
    return True


def _memory_gb() -> float | None:
    total = _fact("/proc/meminfo", "MemTotal")
    return None if total is None else round(_bytes(total) / 1e9, 1)


def _bytes(kilobytes: str) -> int:
    """``"812 kB"``, as Linux writes it, in bytes."""
    return int(kilobytes.split()[0]) * 1024


def _fact(path: str, name: str) -> str | None:
    """What a file of lines ``name: value`` says of `name`; `None` if there is no such file or line."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    facts = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in facts if key.strip() == name), None)
