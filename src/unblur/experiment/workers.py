"""Seeds beside each other: each in a process of its own, which keeps what comes of it in the folder of checkpoints.

Small networks gain little from a second thread, so on the same cores several seeds at a time, with fewer threads each, are
done sooner than one after the other.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from inspect import signature
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from unblur.errors import ArtifactError, RecipeError
from unblur.experiment.recipe.schema import Recipe
from unblur.progress import Progress, ProgressEvent

HEARD_EVERY = 0.5
"""Seconds between two looks for an interrupt."""


@dataclass(frozen=True)
class Share:
    """What one process is given."""

    recipe: str
    """As TOML."""
    data: str | None
    seed: int
    device: str
    checkpoints: str
    threads: int


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
    elif "checkpoints" not in signature(recipe.model.fit).parameters:
        why = f"{kind} is not trained by epochs"
    elif getattr(recipe.model, "privacy", None) is not None:
        why = "a private training keeps nothing that a second process could read"
    elif recipe.protocol.kind == "strict" and getattr(type(recipe.model), "search_space", {}):
        why = f"the strict protocol first searches hyper-parameters of {kind}"
    if why:
        raise RecipeError(
            f"Workers train seeds of one setting beside each other; {why}. Leave --workers out, or give more --seeds."
        )


def trained_beside(
    recipe: Recipe,
    *,
    data: str | Path | None,
    seeds: Sequence[int],
    workers: int,
    device: str,
    checkpoints: Path,
    progress: Progress,
) -> Mapping[str, float]:
    """Train each seed, and measure its arms where it is a synthesizer's; gives the seconds of each stage, added up.

    A run with these checkpoints then finds all of it done. Threads are divided among the processes, of which there are no
    more than seeds. Errors of a process are raised here, and the others are ended; what they kept stays. Raises
    `ArtifactError` where a process is gone without a word.
    """
    import torch

    beside = min(workers, len(seeds))
    threads = max(1, torch.get_num_threads() // beside)
    place = None if data is None else str(data)
    shares = [Share(recipe.to_toml(), place, seed, device, str(checkpoints), threads) for seed in seeds]
    spent: Counter[str] = Counter()
    progress(ProgressEvent("seeds", 0, len(shares)))
    pool = ProcessPoolExecutor(beside, mp_context=get_context("spawn"))
    try:
        left = {pool.submit(_worked, share) for share in shares}
        while left:
            # Not without end: where another library handles signals, an interrupt is seen only between two waits.
            finished, left = wait(left, timeout=HEARD_EVERY, return_when=FIRST_COMPLETED)
            for one in finished:
                spent.update(one.result())
            if finished:
                progress(ProgressEvent("seeds", len(shares) - len(left), len(shares)))
    except BrokenProcessPool:
        raise ArtifactError(
            f"Every process must live until its seed is done; one has ended before. What was kept in {checkpoints} is whole. "
            "Give fewer --workers if memory was short; a script of your own that asks for workers must begin its work under "
            '`if __name__ == "__main__":`.'
        ) from None
    except BaseException:
        for process in list(
            (pool._processes or {}).values()
        ):  # what `terminate_workers` does from Python 3.14 on
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return spent


def _worked(share: Share) -> dict[str, float]:
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(share.threads)
    with threadpool_limits(share.threads):
        recipe = Recipe.from_toml(share.recipe)
        return (_one_of_users if recipe.utility is not None else _one_of_interactions)(recipe, share)


def _one_of_interactions(recipe: Recipe, share: Share) -> dict[str, float]:
    from unblur.experiment.measuring import fitted
    from unblur.experiment.preparation import prepare

    prepared = prepare(recipe, data=share.data)
    start = time.perf_counter()
    fitted(prepared.recipe, prepared.split, share.seed, share.device, share.checkpoints)
    return {"fit_seconds": time.perf_counter() - start}


def _one_of_users(recipe: Recipe, share: Share) -> dict[str, float]:
    from unblur.progress import silent
    from unblur.synthesis.utility.rated_users import prepare_users
    from unblur.synthesis.utility.running import fitted_synthesizer, measured_arms

    prepared: Any = prepare_users(recipe, data=share.data)
    start = time.perf_counter()
    made = fitted_synthesizer(prepared, share.seed, share.device, silent, share.checkpoints)
    middle = time.perf_counter()
    arms = measured_arms(prepared, made, share.seed, share.device, silent, share.checkpoints)
    return {
        "fit_seconds": middle - start,
        "score_seconds": time.perf_counter() - middle,
        "sampling": arms.sampling_seconds,
    }
