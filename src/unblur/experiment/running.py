"""Running a recipe from its data to its report: its model fitted and measured arm by arm, once a seed.

Seeds come one after the other or, with several workers, beside each other; both ways end in the same figures.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from multiprocessing import active_children, get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Generic

from unblur.data.files import replacing
from unblur.document.html import as_html
from unblur.errors import ArtifactError, RecipeError
from unblur.evaluation.report import Provenance, Report, Timings, with_expected
from unblur.experiment.folder import check_place, write_folder
from unblur.experiment.provenance import machine, peak_rss_mb, trained_on, versions
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.searching import chooses, with_chosen_model
from unblur.experiment.task import ArmT, Clock, Epoch, ModelT, Prepared, Summary, TrainingLog
from unblur.fitted import FittedSpec
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.saving import models as artifact
from unblur.tuning.results import Study

STAGES = ("read", "fit", "score", "evaluate")
"""What the seconds of a report are of."""
HEARD_EVERY = 0.5
"""Seconds between two looks for an interrupt."""


@dataclass(frozen=True, eq=False)
class Outcome(Generic[ModelT, ArmT]):
    """What came of a recipe."""

    prepared: Prepared[ModelT, ArmT]
    """The data it was fitted to."""
    recipe: Recipe
    """As it ran; under the strict protocol with the hyper-parameters that were chosen."""
    report: Report
    model: ModelT
    """Fitted with the first seed."""
    runs: tuple[Mapping[str, ArmT], ...]
    """What was measured with each seed, by arm."""
    training: tuple[Epoch, ...] = ()
    """The epochs of the first seed's training, where the model is trained."""

    @property
    def evaluations(self) -> tuple[ArmT, ...]:
        """The first arm of each seed; of a recommender: its lists and the values of each user."""
        return tuple(next(iter(run.values())) for run in self.runs)

    def page(self, study: Study[Any] | None = None) -> str:
        """The run as one HTML page, with the plots of the search that it came of."""
        return as_html(self.prepared.page(self.report, self.runs, self.training, study))

    def save(self, folder: Path) -> None:
        """Write what was fitted into a folder within `folder`, ``model`` or ``synthesizer``."""
        origin = trained_on(self.prepared.learned_from, self.recipe)
        artifact.save(self.model, folder / self.model.noun, provenance=origin)


def measure(
    prepared: Prepared[ModelT, ArmT],
    *,
    chosen: FittedSpec | None = None,
    seeds: int = 1,
    device: str = "cpu",
    checkpoints: str | Path | None = None,
    notes: Sequence[str] = (),
    progress: Progress = silent,
) -> Outcome[ModelT, ArmT]:
    """Fit the recipe's model to prepared data and measure it, once a seed.

    Under the strict protocol the hyper-parameters are chosen first, unless `chosen` is what a search came to. Under the
    paper's the validation part of the split, where it has one, is given to a model that trains until a metric on it stops
    rising.
    """
    where = Run(device, progress, None if checkpoints is None else Path(checkpoints))
    check_resumable(prepared.recipe.model, where)
    return measured(prepared, where, seeds, notes, chosen=chosen)


def measured(
    prepared: Prepared[ModelT, ArmT],
    run: Run,
    seeds: int = 1,
    notes: Sequence[str] = (),
    spent: Mapping[str, float] | None = None,
    chosen: FittedSpec | None = None,
) -> Outcome[ModelT, ArmT]:
    """Fit and measure with the hyper-parameters that the protocol asks for, or with those that are `chosen` already.

    `spent` are seconds that went into the run's checkpoints before, by stage.
    """
    RecipeError.unless(seeds >= 1, f"There must be at least 1 seed; saw {seeds}. Leave it out to run once.")
    clock, said = Clock({"read": prepared.read_seconds, **(spent or {})}), [*notes]
    if chosen is not None:
        prepared = prepared.with_model(chosen)
    else:
        with clock("fit"):
            prepared, remarks = with_chosen_model(prepared, run)
        said += remarks
    said += prepared.notes
    recipe = prepared.recipe
    if seeds > 1 and not prepared.stochastic:
        said.append(f"{recipe.model.kind} is deterministic, so one seed was run in place of {seeds}")
        seeds = 1
    used = tuple(range(recipe.seed, recipe.seed + seeds))
    models: list[ModelT] = []
    runs: list[Mapping[str, ArmT]] = []
    training: tuple[Epoch, ...] = ()
    fitted: list[str] = []
    for place, seed in enumerate(used):
        log = TrainingLog(run.progress)
        which = "measure" if seeds == 1 else f"measure, run {place + 1} of {seeds}"
        model, arms = run_of_seed(prepared, seed, run.watched(log), clock, which)
        models, training = models or [model], training or tuple(log.epochs)
        runs.append(arms)
        fitted += model.notes
    with clock("evaluate"):
        summary = prepared.summary(runs, clock)
    fitted += [
        f"{name} measured before: {number.value} ({number.source})"
        for name, number in recipe.verified.items()
    ]
    summary = replace(summary, notes=(*said, *summary.notes, *fitted))
    return Outcome(
        prepared,
        recipe,
        reported(recipe, summary, prepared.fingerprints, used, clock, run.device),
        models[0],
        tuple(runs),
        training,
    )


def check_resumable(model: FittedSpec, run: Run) -> None:
    """Raise `RecipeError` where checkpoints are asked for and the model is not trained epoch by epoch."""
    RecipeError.unless(
        run.checkpoints is None or model.plans(),
        f"Checkpoints keep the state of a training by epochs; {model.kind} has none. Leave --checkpoints out.",
    )


def run_of_seed(
    prepared: Prepared[ModelT, ArmT], seed: int, run: Run, clock: Clock, stage: str = "measure"
) -> tuple[ModelT, Mapping[str, ArmT]]:
    """Fit with one seed and measure arm by arm; what `run` keeps of the seed is neither trained nor measured again."""
    own = run.inside(f"seed-{seed}")
    with clock("fit"):
        model = prepared.fit(seed, own)
    kept = KeptArms(own, {**prepared.identity, "seed": seed, "device": run.device})
    arms: dict[str, ArmT] = {}
    for place, arm in enumerate(prepared.arms):
        if len(prepared.arms) > 1:
            run.progress(ProgressEvent(stage, place, len(prepared.arms)))
        arms[arm] = kept.measured(arm, prepared, partial(prepared.measure, arm, model, seed, own, clock))
    if len(prepared.arms) > 1:
        run.progress(ProgressEvent(stage, len(prepared.arms), len(prepared.arms)))
    return model, arms


def reported(
    recipe: Recipe,
    summary: Summary,
    fingerprints: Mapping[str, str],
    seeds: tuple[int, ...],
    clock: Clock,
    device: str,
) -> Report:
    """The report of a run: measurements beside the recipe's published numbers, notes once each, timings,
    provenance."""
    return Report(
        recipe=recipe.name,
        protocol=recipe.protocol.kind,
        measurements=with_expected(
            summary.measurements, {name: number.expected() for name, number in recipe.expected.items()}
        ),
        timings=Timings(
            peak_rss_mb=peak_rss_mb(), **{f"{stage}_seconds": clock.seconds[stage] for stage in STAGES}
        ),
        provenance=Provenance(
            spec=dict(summary.spec),
            data=fingerprints,
            seeds=seeds,
            versions=versions(),
            machine=machine(device),
        ),
        notes=tuple(dict.fromkeys(summary.notes)),
    )


class KeptArms:
    """The measured arms of one seed, in ``CHECKPOINTS/seed-N/arms-….json``; the name says whose they are.

    They are kept as each is measured: a training within one can take an hour.
    """

    def __init__(self, run: Run, identity: Mapping[str, Any]) -> None:
        """Without checkpoints nothing is kept. Raises `ArtifactError` for a file that is damaged."""
        name = sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()[:16]
        self._file = None if run.checkpoints is None else run.checkpoints / f"arms-{name}.json"
        self._known: dict[str, Any] = {}
        if self._file is not None and self._file.is_file():
            with self._readable():
                self._known = json.loads(self._file.read_text(encoding="utf-8"))["arms"]

    def measured(self, arm: str, prepared: Prepared[Any, ArmT], measure: Callable[[], ArmT]) -> ArmT:
        """What was kept of an arm, or what `measure` gives now, which then is kept."""
        if arm in self._known:
            with self._readable():
                return prepared.measured(self._known[arm])
        found = measure()
        if self._file is None:
            return found
        self._known[arm] = prepared.plain(found)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._file) as stream:
                stream.write(json.dumps({"schema": 1, "arms": self._known}).encode())
        except OSError as problem:
            raise ArtifactError(
                f"What was measured must be kept; {self._file}: {problem.strerror or problem}. What was kept before is "
                "whole. Make room, or give another folder."
            ) from problem
        return found

    @contextmanager
    def _readable(self) -> Generator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise ArtifactError(
                f"What earlier calls measured must be readable; {self._file} is damaged ({problem}). Delete it to "
                "measure anew."
            ) from problem


# ----------------------------------------------------------------------------------------- several workers


def check_workers(recipe: Recipe, workers: int, seeds: int) -> None:
    """Raise `RecipeError` where there is nothing that several processes could do."""
    RecipeError.unless(
        min(workers, seeds) >= 1,
        f"There must be at least 1 seed and 1 worker; saw {seeds} and {workers}. Leave them out to run once.",
    )
    if workers == 1:
        return
    kind = recipe.model.kind
    obstacles = {
        "one seed was asked for": seeds == 1,
        f"{kind} is not trained by epochs": not recipe.model.plans(),
        "a private training keeps nothing that a second process could read": recipe.model.private,
        f"the strict protocol first searches hyper-parameters of {kind}": chooses(recipe),
    }
    for why, holds in obstacles.items():
        RecipeError.unless(
            not holds,
            f"Workers train seeds of one setting beside each other; {why}. Leave --workers out, or give more --seeds.",
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


# ------------------------------------------------------------------------------------- from data to report


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
        return measured(recipe.task.prepare(recipe, data, run.progress), kept, seeds, (*notes, said), spent)
