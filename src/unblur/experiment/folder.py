"""The folder of a run: resolved recipe, report and fitted model, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unblur.data.files import replacing_folder, write_parquet
from unblur.errors import ArtifactError

if TYPE_CHECKING:
    from unblur.experiment.running import Outcome
    from unblur.tuning.results import Study

MARKER_FILE = "report.json"
"""The file by which the folder of a run is recognised."""


def check_place(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise `ArtifactError` if the folder of a run cannot be written at `path`.

    It may exist already if it is empty or, with `overwrite`, if a run wrote it.
    """
    folder = Path(path)
    ArtifactError.unless(
        folder.is_dir() or not folder.exists(),
        f"The output must be a folder; {folder} is a file. Give another path.",
    )
    if folder.is_dir() and any(folder.iterdir()):
        ArtifactError.unless(
            overwrite,
            f"The output folder must be new or empty; {folder} is not. Give another path, or --overwrite.",
        )
        ArtifactError.unless(
            (folder / MARKER_FILE).is_file(),
            f"Only the folder of a run can be overwritten; {folder} has no {MARKER_FILE}, so it holds something else. "
            "Give another path.",
        )
    check_parent_writable(folder)


def check_parent_writable(output: Path) -> None:
    """Raise `ArtifactError` if the folder that `output` is to be in cannot be written to."""
    parent = next(folder for folder in output.absolute().parents if folder.exists())
    ArtifactError.unless(
        parent.is_dir() and os.access(parent, os.W_OK | os.X_OK),
        f"The output must be in a folder that can be written to; {parent} is not one. Give another path.",
    )


def write_folder(
    path: str | Path,
    outcome: Outcome[Any, Any],
    *,
    study: Study[Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the outcome of a recipe to a new folder, by way of a sibling that is renamed at the end.

    The trials of the `study` that chose its settings are drawn on the page, and written next to it as
    ``trials.parquet``.
    """
    check_place(path, overwrite=overwrite)
    texts = {
        "recipe.toml": outcome.recipe.to_toml(),
        MARKER_FILE: outcome.report.to_json(),
        "report.md": outcome.report.to_markdown(),
        "report.html": outcome.page(study),
    }
    with replacing_folder(path) as folder:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        if study is not None:
            write_parquet(study.to_frame(), folder / "trials.parquet")
        outcome.save(folder)
