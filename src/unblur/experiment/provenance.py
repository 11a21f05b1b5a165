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
    found = {"python": platform.python_version(), "unblur": unblur.__version__}
    return found | {name: metadata.version(name) for name in _LIBRARIES}


def machine(device: str = "cpu") -> dict[str, Any]:
    """What timings depend on: processor, cores, memory, device. Nothing that names the machine."""
    facts: dict[str, Any] = {
        "cpu": _processor(),
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
    for line in _lines("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _processor() -> str | None:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or None


def _memory_gb() -> float | None:
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) * 1024 / 1e9, 1)
    return None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
