"""The folder of a run: resolved recipe, report and what was fitted, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unblur.data.files import replacing_folder, write_parquet
from unblur.errors import ArtifactError

if TYPE_CHECKING:
    from unblur.experiment.running import Outcome
    from unblur.tuning.results import Study

MARK = "report.json"
"""The file by which a folder is known to be that of a run."""


def check_place(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise `ArtifactError` where a run's folder cannot be made at `path`.

    It may be there already when it is empty, or with `overwrite` when a run wrote it.
    """
    place = Path(path)
    ArtifactError.unless(
        place.is_dir() or not place.exists(),
        f"The output must be a folder; {place} is a file. Give another path.",
    )
    if place.is_dir() and any(place.iterdir()):
        ArtifactError.unless(
            overwrite,
            f"The output folder must be new or empty; {place} is not. Give another, or --overwrite.",
        )
        ArtifactError.unless(
            (place / MARK).is_file(),
            f"Only the folder of a run can be overwritten; {place} has no {MARK}, so it holds something else. "
            "Give another path.",
        )
    check_above(place)


def check_above(place: Path) -> None:
    """Raise `ArtifactError` where nothing can be made at `place`, since the folder above it cannot be written."""
    above = next(folder for folder in place.absolute().parents if folder.exists())
    ArtifactError.unless(
        above.is_dir() and os.access(above, os.W_OK | os.X_OK),
        f"The output folder must be in a place that can be written; {above} is not. Give another path.",
    )


def write_folder(
    path: str | Path,
    outcome: Outcome[Any, Any],
    *,
    study: Study[Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write what came of a recipe to a new folder, by way of a sibling that is renamed at the end.

    The trials of the `study` that it came of are drawn on the page, and written next to it as ``trials.parquet``.
    """
    check_place(path, overwrite=overwrite)
    texts = {
        "recipe.toml": outcome.recipe.to_toml(),
        MARK: outcome.report.to_json(),
        "report.md": outcome.report.to_markdown(),
        "report.html": outcome.page(study),
    }
    with replacing_folder(path) as folder:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        if study is not None:
            write_parquet(study.to_frame(), folder / "trials.parquet")
        outcome.save(folder)
