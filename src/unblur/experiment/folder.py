"""The folder of a run: resolved recipe, report and model, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unblur import artifact
from unblur.errors import ArtifactError, CapabilityError
from unblur.experiment.provenance import trained_on
from unblur.sources import write_parquet
from unblur.sources.folders import replacing_folder

if TYPE_CHECKING:
    import polars as pl

    from unblur.experiment.measuring import Outcome

MARK = "report.json"
"""The file by which a folder is known to be that of a run."""


def check_place(path: str | Path, *, overwrite: bool = False) -> None:
    """Raise `ArtifactError` where a run's folder cannot be made at `path`.

    It may be there already when it is empty, or with `overwrite` when a run wrote it.
    """
    place = Path(path)
    if place.exists():
        if not place.is_dir():
            raise ArtifactError(f"The output must be a folder; {place} is a file. Give another path.")
        if any(place.iterdir()):
            if not overwrite:
                raise ArtifactError(
                    f"The output folder must be new or empty; {place} is not. Give another, or --overwrite."
                )
            if not (place / MARK).is_file():
                raise ArtifactError(
                    f"Only the folder of a run can be overwritten; {place} has no {MARK}, so it holds "
                    "something else. "
                    "Give another path."
                )
    check_above(place)


def check_above(place: Path) -> None:
    """Raise `ArtifactError` where nothing can be made at `place`, since the folder above it cannot be written."""
    above = next(folder for folder in place.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ArtifactError(
            f"The output folder must be in a place that can be written; {above} is not. Give another path."
        )


def write_folder(
    path: str | Path,
    outcome: Outcome,
    *,
    tables: Mapping[str, pl.DataFrame] | None = None,
    overwrite: bool = False,
) -> None:
    """Write what came of a recipe to a new folder, by way of a sibling that is renamed at the end.

    `tables` are written beside it as Parquet files of these names.
    """
    check_place(path, overwrite=overwrite)
    with replacing_folder(path) as folder:
        for name, text in _texts(outcome, (tables or {}).get("trials.parquet")).items():
            (folder / name).write_text(text, encoding="utf-8")
        for name, table in (tables or {}).items():
            write_parquet(table, folder / name)
        artifact.save(outcome.model, folder / "model", provenance=trained_on(outcome.train, outcome.recipe))


def _texts(outcome: Outcome, trials: pl.DataFrame | None = None) -> dict[str, str]:
    """The text files of the folder by name; without jinja2 the page is left out, and a note in the report says so."""
    report, page = outcome.report, {}
    try:
        page = {"report.html": _page(outcome, trials)}
    except CapabilityError as problem:
        report = replace(report, notes=(*report.notes, f"there is no report.html: {problem}"))
    return {
        "recipe.toml": outcome.recipe.to_toml(),
        MARK: report.to_json(),
        "report.md": report.to_markdown(),
        **page,
    }


def _page(outcome: Outcome, trials: pl.DataFrame | None) -> str:
    """The run as a page: the report, where recommendations fall, and what the filter does where the model is one."""
    from unblur.evaluation.metrics import exposure
    from unblur.pages import report_page
    from unblur.pages.curves import concentration, filter_response

    degrees, ranking = outcome.train.item_degrees, outcome.evaluations[0].ranking
    order = np.argsort(-degrees, kind="stable")
    curves = {
        "train": concentration(degrees, order),
        f"the first {ranking.k} recommended": concentration(
            exposure(ranking.positions, len(order), ranking.k), order
        ),
    }
    return report_page(
        report=outcome.report,
        concentration=curves,
        response=filter_response(outcome.recipe.model),
        training=outcome.training,
        trials=trials,
    )
