"""Running a recipe from its data to its report, with seeds one after the other or beside each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from unblur.errors import ArtifactError, RecipeError
from unblur.evaluation.report import Report
from unblur.experiment.folder import check_place, write_folder
from unblur.experiment.measuring import Outcome, check_resumable, measured, run_of_seed
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.searching import chooses
from unblur.experiment.task import Clock
from unblur.progress import Progress, ProgressEvent, Run, silent

HEARD_EVERY = 0.5
"""Seconds between two looks for an interrupt."""


def check_workers(recipe: Recipe, workers: int, seeds: int) -> None:
    """Raise `RecipeError` where there is nothing that several processes could do."""
    if min(workers, seeds) < 1:
        raise RecipeError(
            f"There must be at least 1 seed and 1 worker; saw {seeds} and {workers}. Leave them out to run once."
        )
    if workers == 1:
        return
    kind, why = recipe.model.kind, ""
    if seeds == 1:
        why = "one seed was asked for"
    elif not recipe.model.plans():
        why = f"{kind} is not trained by epochs"
    elif recipe.model.private:
        why = "a private training keeps nothing that a second process could read"
    elif chooses(recipe):
        why = f"the strict protocol first searches hyper-parameters of {kind}"
    if why:
        raise RecipeError(
            f"Workers train seeds of one setting beside each other; {why}. Leave --workers out, or give more --seeds."
        )


def trained_beside(
    recipe: Recipe, seeds: Sequence[int], run: Run, *, data: str | Path | None, workers: int
) -> Mapping[str, float]:
    """Train each seed and measure its arms; gives the seconds of each stage, added up.

    A run with these checkpoints then finds all of it done. Threads are divided among the processes, of which there are no
    more than seeds. Errors of a process are raised here, and the others are ended; what they kept stays. Raises
    `ArtifactError` where a process is gone without a word.
    """
    import torch

    beside = min(workers, len(seeds))
    threads = max(1, torch.get_num_threads() // beside)
    # An observer stays here: what it draws is this process's.
    quiet, text = run.watched(silent), recipe.to_toml()
    spent: Counter[str] = Counter()
    run.progress(ProgressEvent("seeds", 0, len(seeds)))
    others = set(active_children())
    pool = ProcessPoolExecutor(beside, mp_context=get_context("spawn"))
    try:
        left = {pool.submit(_worked, text, data, seed, quiet, threads) for seed in seeds}
        while left:
            # Not without end: where another library handles signals, an interrupt is seen only between two waits.
            finished, left = wait(left, timeout=HEARD_EVERY, return_when=FIRST_COMPLETED)
            for one in finished:
                spent.update(one.result())
            if finished:
                run.progress(ProgressEvent("seeds", len(seeds) - len(left), len(seeds)))
    except BrokenProcessPool:
        raise ArtifactError(
            "Every process must live until its seed is done; one has ended before. What was kept in "
            f"{run.checkpoints} is whole. "
            "Give fewer --workers if memory was short; a script of your own that asks for workers must begin its work under "
            '`if __name__ == "__main__":`.'
        ) from None
    except BaseException:
        # What the pool's `terminate_workers` does from Python 3.14 on; it has no public list of them.
        for process in set(active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return spent


def _worked(text: str, data: str | Path | None, seed: int, run: Run, threads: int) -> dict[str, float]:
    """Train and measure one seed of a recipe, which is TOML, within a process of its own; the seconds of each stage."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        recipe, clock = Recipe.from_toml(text), Clock()
        run_of_seed(recipe.task.prepare(recipe, data), seed, run, clock)
        return dict(clock.seconds)


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
