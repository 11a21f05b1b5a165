"""Provenance of numbers: versions and the machine, without names that identify the machine or its owner."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from unblur.data.interactions import Interactions
from unblur.experiment.recipe.schema import Recipe
from unblur.parallel.memory import bytes_of, proc_value


def machine(device: str = "cpu") -> dict[str, Any]:
    """The facts that timings depend on: processor, cores, memory, system, device."""
    facts: dict[str, Any] = {
        "cpu": proc_value("/proc/cpuinfo", "model name") or platform.processor() or None,
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
    """The provenance of a saved model: fingerprint and sizes of its training data, what was said about reading them, seed and
    recipe."""
    read = recipe.data.read.options()
    return {**sizes_of(train), "read": read, "seed": recipe.seed, "recipe": recipe.name}


def sizes_of(train: Interactions) -> dict[str, Any]:
    """The fingerprint and the sizes of training data."""
    return {
        "train": train.fingerprint(),
        "n_users": train.n_users,
        "n_items": train.n_items,
        "n_interactions": train.n_interactions,
    }


def peak_rss_mb() -> float:
    """The largest resident memory of this process so far, in MB (10**6 bytes); 0 if unknown."""
    peak = proc_value("/proc/self/status", "VmHWM")
    if peak is not None:
        return bytes_of(peak) / 1e6
    try:
        import resource
    except ImportError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes, others in kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def rss_mb() -> float:
    """The current resident memory of this process, in MB (10**6 bytes); the peak if that is unknown."""
    resident = proc_value("/proc/self/status", "VmRSS")
    return peak_rss_mb() if resident is None else bytes_of(resident) / 1e6


def reset_peak_rss() -> bool:
    """Reset the peak of the resident memory to its current value; return whether that worked (Linux only)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc(5): 5 resets VmHWM alone
    except OSError:
        return False
    return True


def _memory_gb() -> float | None:
    total = proc_value("/proc/meminfo", "MemTotal")
    return None if total is None else round(bytes_of(total) / 1e9, 1)
