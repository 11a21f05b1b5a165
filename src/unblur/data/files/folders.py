"""Folders that appear whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unblur.errors import ArtifactError


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """A new folder whose content takes the place of `path` when the block ends well, and leaves nothing when not.

    It is a sibling until it is renamed; what was there before goes then, and not earlier. Raises `ArtifactError`
    where it cannot be written.
    """
    place = Path(path).absolute()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{place.name}-", dir=place.parent, ignore_cleanup_errors=True
        ) as folder:
            made = Path(folder) / place.name
            made.mkdir()
            yield made
            replaced = Path(folder) / "replaced"
            try:
                if place.exists():
                    place.rename(replaced)
                made.rename(place)
            except BaseException:
                if replaced.exists() and not place.exists():
                    replaced.rename(place)
                raise
    except OSError as problem:
        raise ArtifactError(
            f"The output folder must be written whole; {path}: {problem.strerror or problem}. Nothing was left "
            "behind. Make room, or give another path."
        ) from problem
