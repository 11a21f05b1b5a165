"""Running a recipe from its data to its report, with seeds one after the other or beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from unblur.evaluation.report import Report
from unblur.experiment.folder import check_place, write_folder
from unblur.experiment.measuring import Outcome, check_resumable, measured
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.workers import check_workers, trained_beside
from unblur.progress import Progress, silent
from unblur.run import Run


def run(
    recipe: Recipe,
    *,
    data: str | Path | None = None,
    seeds: int = 1,
    device: str = "cpu",
    out: str | Path | None = None,
    overwrite: bool = False,
    checkpoints: str | Path | None = None,
    workers: int = 1,
    notes: Sequence[str] = (),
    progress: Progress = silent,
) -> Report:
    """Data, fit, evaluation, report; and, with `out`, a folder that keeps recipe, report and model.

    - `data`: a file or a folder of the caller's in place of the recipe's data (see `prepare`).
    - `seeds`: how many seeds a stochastic model is fitted with, from the recipe's on; others run once.
    - `out`: a folder to make. It appears whole at the end or, after an error or an interrupt, not at all. One
      that exists raises `ArtifactError` before anything is computed, unless `overwrite`.
    - `checkpoints`: a folder to keep the state of each training in, and what was measured (one folder a seed). The same
      call, after an interrupt, resumes there and comes to the same; what was trained to its end is not trained again.
      Raises `RecipeError` for a model that is not trained by epochs.
    - `workers`: how many seeds are run at a time, each in a process of its own with its part of the threads; a script
      that asks for them must begin its work under ``if __name__ == "__main__":``. Raises `RecipeError` where there are no
      several trainings.
    - `notes`: what the report's reader must know beside what the run finds out by itself.
    """
    if out is not None:
        check_place(out, overwrite=overwrite)
    where = Run(device, progress, None if checkpoints is None else Path(checkpoints))
    outcome = outcome_of(recipe, where, data=data, seeds=seeds, workers=workers, notes=notes)
    if out is not None:
        write_folder(out, outcome, overwrite=overwrite)
    return outcome.report


def outcome_of(
    recipe: Recipe,
    run: Run,
    *,
    data: str | Path | None = None,
    seeds: int = 1,
    workers: int = 1,
    notes: Sequence[str] = (),
) -> Outcome[Any, Any]:
    """`run` without its folder, which `write_folder` makes of what comes back: a report, and what was fitted."""
    check_workers(recipe, workers, seeds)
    check_resumable(recipe.model, run)
    if workers == 1:
        return measured(recipe.task.prepare(recipe, data, run.progress), run, seeds, notes)
    with TemporaryDirectory(prefix="unblur-") as spare:
        # Without a folder of the caller's what the workers keep is gone afterwards.
        kept = run if run.checkpoints is not None else Run(run.device, run.progress, Path(spare))
        start = perf_counter()
        used = range(recipe.seed, recipe.seed + seeds)
        spent = trained_beside(recipe, used, kept, data=data, workers=workers)
        said = (
            f"{min(workers, seeds)} seeds were trained at a time, in {perf_counter() - start:.0f} seconds; "
            "fit_seconds and score_seconds are sums"
        )
        prepared = recipe.task.prepare(recipe, data, run.progress)
        return measured(prepared, kept, seeds, (*notes, said), spent)
