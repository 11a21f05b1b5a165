"""The folder of a run: resolved recipe, report and fitted model, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from unblur.data.output import MANIFEST, FolderKind, Inputs, OutputFolder, write_parquet
from unblur.saving.container import TENSORS

if TYPE_CHECKING:
    from unblur.experiment.running import Outcome
    from unblur.tuning.results import Study

RUN = FolderKind(
    "unblur-run",
    (
        *("recipe.toml", "report.json", "report.md", "report.html", "trials.parquet", "recbole.json"),
        *(
            f"{part}/{name}"
            for part in ("model", "synthesizer")
            for name in (MANIFEST, TENSORS, "items.parquet")
        ),
    ),
    ("report.json", '"measurements"'),
)
"""The folder of a run or a search."""


def check_place(path: str | Path, *, overwrite: bool = False, inputs: Inputs = ()) -> OutputFolder:
    """Return the place at `path` for the folder of a run, which `write_folder` takes. Raise `ArtifactError` if it cannot be written.

    It may exist already if it is empty or, with `overwrite`, if a run wrote it and nothing else is in it, above all none of
    the `inputs` that the run reads.
    """
    return OutputFolder(path, RUN, overwrite=overwrite, inputs=tuple(inputs)).checked()


def write_folder(
    path: str | Path | OutputFolder,
    outcome: Outcome[Any, Any],
    *,
    study: Study[Any] | None = None,
    overwrite: bool = False,
    more: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write the outcome of a recipe to a new folder, by way of a sibling that is renamed at the end.

    The trials of the `study` that chose its settings are drawn on the page, and written next to it as
    ``trials.parquet``. `more` are further texts by file name.
    """
    place = path if isinstance(path, OutputFolder) else OutputFolder(path, RUN, overwrite=overwrite)
    with place.written() as folder:
        texts = {
            "recipe.toml": outcome.recipe.to_toml(),
            "report.json": outcome.report.to_json(),
            "report.md": outcome.report.to_markdown(),
            "report.html": outcome.page(study),
            **more,
        }
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        if study is not None:
            write_parquet(study.to_frame(), folder / "trials.parquet")
        outcome.save(folder)
