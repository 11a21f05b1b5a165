"""Memory of the machine and of this process, as Linux tells it."""

from __future__ import annotations

from pathlib import Path


def available_bytes() -> int | None:
    """The memory that can be taken without swapping; `None` if the system does not say (Linux does)."""
    available = proc_value("/proc/meminfo", "MemAvailable")
    return None if available is None else bytes_of(available)


def bytes_of(kilobytes: str) -> int:
    """The bytes of a text such as ``"812 kB"``, as Linux writes it."""
    return int(kilobytes.split()[0]) * 1024


def proc_value(path: str, name: str) -> str | None:
    """The value of `name` in a file of lines ``name: value``; `None` if there is no such file or line."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    facts = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in facts if key.strip() == name), None)
