"""Running a recipe from its data to its report, with seeds one after the other or beside each other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from unblur.evaluation.report import Report
from unblur.experiment.folder import check_place, write_folder
from unblur.experiment.measuring import Outcome, measure
from unblur.experiment.preparation import prepare
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.resuming import kept_in
from unblur.experiment.workers import check_workers, trained_beside
from unblur.progress import Progress, silent
from unblur.synthesis.utility.rated_users import prepare_users
from unblur.synthesis.utility.running import UtilityOutcome, measure_utility


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
    """Data, split, fit, evaluation, report; and, with `out`, a folder that keeps recipe, report and model.

    - `data`: a file or a folder of the caller's in place of the recipe's data (see `prepare`).
    - `seeds`: how many seeds a stochastic model is fitted with, from the recipe's on; others run once.
    - `out`: a folder to make. It appears whole at the end or, after an error or an interrupt, not at all. One
      that exists raises `ArtifactError` before anything is computed, unless `overwrite`.
    - `checkpoints`: a folder to keep the state of each training in (one folder a seed). The same call, after an
      interrupt, goes on from there and comes to the same; what was trained to its end is not trained again.
      Raises `RecipeError` for a model that is not trained by epochs.
    - `workers`: how many seeds are trained at a time, each in a process of its own with its part of the threads; a script
      that asks for them must begin its work under ``if __name__ == "__main__":``. Raises `RecipeError` where there are no
      several trainings.
    - `notes`: what the report's reader must know beside what the run finds out by itself.
    """
    if out is not None:
        check_place(out, overwrite=overwrite)
    outcome = outcome_of(
        recipe,
        data=data,
        seeds=seeds,
        device=device,
        checkpoints=checkpoints,
        workers=workers,
        notes=notes,
        progress=progress,
    )
    if out is not None:
        write_folder(out, outcome, overwrite=overwrite)
    return outcome.report


def outcome_of(
    recipe: Recipe,
    *,
    data: str | Path | None = None,
    seeds: int = 1,
    device: str = "cpu",
    checkpoints: str | Path | None = None,
    workers: int = 1,
    notes: Sequence[str] = (),
    progress: Progress = silent,
) -> Outcome | UtilityOutcome:
    """`run` without its folder, which `write_folder` makes of what comes back: a report, and what was fitted."""
    check_workers(recipe, workers, seeds)
    kept_in(checkpoints, recipe.model, recipe.seed)
    with _trained_first(recipe, data, seeds, workers, device, checkpoints, progress) as (folder, spent, said):
        told = (*notes, *said)
        if recipe.utility is not None:
            users = prepare_users(recipe, data=data, progress=progress)
            return measure_utility(
                users,
                seeds=seeds,
                device=device,
                checkpoints=folder,
                notes=told,
                spent=spent,
                progress=progress,
            )
        return measure(
            prepare(recipe, data=data, progress=progress),
            seeds=seeds,
            device=device,
            checkpoints=folder,
            notes=told,
            spent=spent,
            progress=progress,
        )


@contextmanager
def _trained_first(
    recipe: Recipe,
    data: str | Path | None,
    seeds: int,
    workers: int,
    device: str,
    checkpoints: str | Path | None,
    progress: Progress,
) -> Iterator[tuple[str | Path | None, Mapping[str, float], tuple[str, ...]]]:
    """Where checkpoints are, the seconds that went into them, and a note: with one worker nothing went there yet.

    Without a folder of the caller's that of several workers is gone afterwards.
    """
    if workers == 1:
        yield checkpoints, {}, ()
        return
    with TemporaryDirectory(prefix="unblur-") if checkpoints is None else nullcontext(checkpoints) as folder:
        start = time.perf_counter()
        spent = trained_beside(
            recipe,
            data=data,
            seeds=range(recipe.seed, recipe.seed + seeds),
            workers=workers,
            device=device,
            checkpoints=Path(folder),
            progress=progress,
        )
        seconds = time.perf_counter() - start
        said = f"{min(workers, seeds)} seeds were trained at a time, in {seconds:.0f} seconds"
        yield folder, spent, (f"{said}; fit_seconds and score_seconds are sums",)
