"""What a model costs: seconds, and the memory of the process while it was at work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unblur.experiment.provenance import peak_rss_mb


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one model took."""

    fit_seconds: float
    """To fit the chosen setting once; the mean over seeds."""
    search_seconds: float
    """All trials together."""
    milliseconds_a_user: float
    """To score and rank one user, when all are."""
    peak_mb: float
    """The largest resident memory of the process during the final fit and scoring, in 10**6 bytes."""
    before_mb: float
    """What the process held before: libraries and data."""
    peak_is_own: bool
    """Whether `peak_mb` was of this model alone; else of all that ran before it in the same process as well."""


def forget_peak() -> bool:
    """Let the system count the largest resident memory anew; whether it did (Linux only)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def held_now_mb() -> float:
    """The resident memory of this process now, in 10**6 bytes; the peak where that is not known."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return peak_rss_mb()
