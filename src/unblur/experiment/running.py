"""Running a recipe from its data to its report: fit its model and measure it arm by arm, once per seed.

Seeds run one after the other or, with several workers, in parallel processes; the figures are the same.
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

from unblur.data.formats.opening import open_regular
from unblur.data.output import OutputFile, sealed, system_errors, unsealed
from unblur.document.html import as_html
from unblur.errors import ArtifactError, RecipeError
from unblur.evaluation.report import Provenance, Report, Timings, with_expected
from unblur.experiment.folder import check_place, write_folder
from unblur.experiment.provenance import machine, peak_rss_mb, trained_on
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.searching import chooses, with_chosen_model
from unblur.experiment.task import ArmT, Clock, Epoch, ModelT, Prepared, Summary, TrainingLog
from unblur.fitted import FittedSpec
from unblur.parallel.threads import limited, n_threads
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.saving import models as artifact
from unblur.saving.container import versions
from unblur.tuning.results import Study

STAGES = ("read", "fit", "score", "evaluate")
"""The stages whose seconds a report has."""
INTERRUPT_CHECK_SECONDS = 0.5
"""Time between two checks for an interrupt: short for whoever pressed Ctrl-C, rare next to a training."""


@dataclass(frozen=True, eq=False)
class Outcome(Generic[ModelT, ArmT]):
    """The outcome of a recipe: its report, and the fitted model."""

    prepared: Prepared[ModelT, ArmT]
    """The recipe with its data."""
    recipe: Recipe
    """The recipe as it ran; under the strict protocol with the chosen hyper-parameters."""
    report: Report
    model: ModelT
    """The model of the first seed."""
    runs: tuple[Mapping[str, ArmT], ...]
    """The results of each seed by arm."""
    training: tuple[Epoch, ...] = ()
    """The epochs of the first training of this call, if the model is trained by epochs.

    Epochs that were trained before the training was resumed are missing, and seeds that were finished before are passed
    over: their checkpoints keep no history.
    """

    @property
    def evaluations(self) -> tuple[ArmT, ...]:
        """The result of the first arm of each seed; for a recommender its lists and their metrics per user."""
        return tuple(next(iter(arms.values())) for arms in self.runs)

    def page(self, study: Study[Any] | None = None) -> str:
        """The run as one HTML page, with the plots of the search that chose its settings, if there was one."""
        return as_html(self.prepared.page(self.report, self.runs, self.training, study))

    def save(self, folder: Path) -> None:
        """Save the fitted model in a folder within `folder`, ``model`` or ``synthesizer``."""
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
    """Fit the recipe's model to prepared data and measure it, once per seed.

    Under the strict protocol the hyper-parameters are chosen first, unless `chosen` is the result of a search. Under the
    paper's protocol a model that trains until a metric stops rising uses the validation part of the split, if there is
    one.
    """
    run = Run(device, progress, None if checkpoints is None else Path(checkpoints))
    check_resumable(prepared.recipe.model, run)
    return fit_and_measure(prepared, run, seeds, notes, chosen=chosen)


def fit_and_measure(
    prepared: Prepared[ModelT, ArmT],
    run: Run,
    seeds: int = 1,
    notes: Sequence[str] = (),
    earlier_seconds: Mapping[str, float] | None = None,
    chosen: FittedSpec | None = None,
) -> Outcome[ModelT, ArmT]:
    """Fit and measure with the hyper-parameters that the protocol requires, or with those that are `chosen` already.

    `earlier_seconds` went into the run's checkpoints before, by stage.
    """
    RecipeError.unless(seeds >= 1, f"There must be at least 1 seed; saw {seeds}. Leave it out to run once.")
    clock, all_notes = Clock({"read": prepared.read_seconds, **(earlier_seconds or {})}), [*notes]
    if chosen is not None:
        prepared = prepared.with_model(chosen)
    else:
        with clock("fit"):
            prepared, remarks = with_chosen_model(prepared, run)
        all_notes += remarks
    all_notes += prepared.notes
    recipe = prepared.recipe
    if seeds > 1 and not prepared.stochastic:
        all_notes.append(f"{recipe.model.kind} is deterministic, so one seed was run instead of {seeds}")
        seeds = 1
    if recipe.model.private and (seeds > 1 or chosen is not None):
        all_notes.append(
            "No guarantee of differential privacy: several models were trained on the same users, and a budget is that of one"
        )
    seeds_used = tuple(range(recipe.seed, recipe.seed + seeds))
    models: list[ModelT] = []
    runs: list[Mapping[str, ArmT]] = []
    training: tuple[Epoch, ...] = ()
    model_notes: list[str] = []
    for index, seed in enumerate(seeds_used):
        log = TrainingLog(run.progress)
        stage = "measure" if seeds == 1 else f"measure, run {index + 1} of {seeds}"
        model, arms = run_of_seed(prepared, seed, run.watched(log), clock, stage)
        models, training = models or [model], training or tuple(log.epochs)
        runs.append(arms)
        model_notes += model.notes
    with clock("evaluate"):
        summary = prepared.summary(runs, clock)
    model_notes += [
        f"{name} measured before: {number.value} ({number.source})"
        for name, number in recipe.verified.items()
    ]
    summary = replace(summary, notes=(*all_notes, *summary.notes, *model_notes))
    return Outcome(
        prepared,
        recipe,
        reported(recipe, summary, prepared.fingerprints, seeds_used, clock, run.device),
        models[0],
        tuple(runs),
        training,
    )


def check_resumable(model: FittedSpec, run: Run) -> None:
    """Raise `RecipeError` if there is a folder for checkpoints and the model is not trained epoch by epoch."""
    RecipeError.unless(
        run.checkpoints is None or model.plans(),
        f"Checkpoints need a model that is trained by epochs; {model.kind} is not. Leave --checkpoints out.",
    )


def run_of_seed(
    prepared: Prepared[ModelT, ArmT], seed: int, run: Run, clock: Clock, stage: str = "measure"
) -> tuple[ModelT, Mapping[str, ArmT]]:
    """Fit with one seed and measure arm by arm; what `run` has kept of the seed is neither trained nor measured again."""
    seed_run = run.inside(f"seed-{seed}")
    with clock("fit"):
        model = prepared.fit(seed, seed_run)
    kept_arms = KeptArms(seed_run, {**prepared.identity, "seed": seed, "device": run.device})
    arms: dict[str, ArmT] = {}
    for index, arm in enumerate(prepared.arms):
        if len(prepared.arms) > 1:
            run.progress(ProgressEvent(stage, index, len(prepared.arms)))
        arms[arm] = kept_arms.kept_or_new(
            arm, prepared, partial(prepared.measure, arm, model, seed, seed_run, clock)
        )
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
    """The report of a run: measurements with the recipe's published numbers, distinct notes, timings, provenance."""
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
    """The results of one seed's arms, in ``CHECKPOINTS/seed-N/arms-….json``; a checksum in the name identifies the run.

    Each result is kept as soon as it is measured: a training within one arm can take an hour.
    """

    def __init__(self, run: Run, identity: Mapping[str, Any]) -> None:
        """Nothing is kept without checkpoints. Raises `ArtifactError` for a damaged file."""
        name = sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()[:16]
        self._file = None if run.checkpoints is None else run.checkpoints / f"arms-{name}.json"
        self._results: dict[str, Any] = {}
        if self._file is not None and self._file.is_file():
            with self._readable(), open_regular(self._file) as stream:
                self._results = unsealed(stream.read())["arms"]

    def kept_or_new(self, arm: str, prepared: Prepared[Any, ArmT], measure: Callable[[], ArmT]) -> ArmT:
        """Return the kept result of an arm; otherwise `measure` it now, and keep that."""
        if arm in self._results:
            with self._readable():
                return prepared.from_plain(self._results[arm])
        result = measure()
        if self._file is None:
            return result
        self._results[arm] = prepared.to_plain(result)
        with system_errors(f"Results must be kept; {self._file.parent}"):
            self._file.parent.mkdir(parents=True, exist_ok=True)
        with OutputFile(self._file, overwrite=True).written() as stream:
            stream.write(sealed({"schema": 1, "arms": self._results}))
        return result

    @contextmanager
    def _readable(self) -> Generator[None]:
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise ArtifactError(
                f"The results of earlier calls must be readable; {self._file} is damaged ({problem}). Delete it to "
                "measure again."
            ) from problem


# ----------------------------------------------------------------------------------------- several workers


def check_workers(recipe: Recipe, workers: int, seeds: int) -> None:
    """Raise `RecipeError` if there is no work for several processes."""
    RecipeError.unless(
        min(workers, seeds) >= 1,
        f"There must be at least 1 seed and 1 worker; saw {seeds} and {workers}. Leave them out to run once.",
    )
    if workers == 1:
        return
    kind = recipe.model.kind
    obstacles = {
        "there is only one seed": (seeds == 1, "or give more --seeds"),
        f"{kind} is not trained by epochs": (
            not recipe.model.plans(),
            "since its seeds run one after the other",
        ),
        "a private training keeps no checkpoint that another process could read": (
            recipe.model.private,
            "since its seeds run one after the other",
        ),
        f"the strict protocol first searches hyper-parameters of {kind}": (
            chooses(recipe),
            "or search first (unblur tune RECIPE --out OUT) and run OUT/recipe.toml",
        ),
    }
    for obstacle, (holds, alternative) in obstacles.items():
        RecipeError.unless(
            not holds,
            f"Several workers need several seeds of one setting to train; {obstacle}. Leave --workers out, "
            f"{alternative}.",
        )


def train_in_processes(
    recipe: Recipe, seeds: Sequence[int], run: Run, *, data: str | Path | None, workers: int
) -> Mapping[str, float]:
    """Train each seed and measure its arms in a process of its own; return the summed seconds of each stage.

    A run with the same checkpoints then finds all of it done. Threads are divided among the processes, of which there are
    no more than seeds. The error of a process is raised here, and the other processes are ended; what they have kept
    stays. Raises `ArtifactError` if a process dies without an error.
    """
    n_processes = min(workers, len(seeds))
    threads = max(1, n_threads() // n_processes)
    # The observer stays in this process: it draws on the terminal of this one.
    silent_run, text = run.watched(silent), recipe.to_toml()
    seconds: Counter[str] = Counter()
    run.progress(ProgressEvent("seeds", 0, len(seeds)))
    earlier_children = set(active_children())
    pool = ProcessPoolExecutor(n_processes, mp_context=get_context("spawn"))
    try:
        pending = {pool.submit(_run_seed_in_process, text, data, seed, silent_run, threads) for seed in seeds}
        while pending:
            # The wait has a limit: if another library handles signals, an interrupt is seen only between two waits.
            done, pending = wait(pending, timeout=INTERRUPT_CHECK_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                seconds.update(future.result())
            if done:
                run.progress(ProgressEvent("seeds", len(seeds) - len(pending), len(seeds)))
    except BrokenProcessPool:
        raise ArtifactError(
            f"Every process must live until its seed is done; one has ended earlier. Results kept in {run.checkpoints} "
            "are undamaged. Give fewer --workers if memory was short; a script of your own that uses workers must start "
            'its work under `if __name__ == "__main__":`.'
        ) from None
    except BaseException:
        # The pool's own `terminate_workers` needs Python 3.14, and its processes are not public before.
        for process in set(active_children()) - earlier_children:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return seconds


def _run_seed_in_process(
    text: str, data: str | Path | None, seed: int, run: Run, threads: int
) -> dict[str, float]:
    """Train and measure one seed of a recipe, given as TOML, in this process; return the seconds of each stage."""
    # The recipe comes first: its model imports torch if it needs it, and the limit is for what is imported.
    recipe, clock = Recipe.from_toml(text), Clock()
    with limited(threads):
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
    """Run a recipe: read data, fit, evaluate, report; with `out`, write a folder with recipe, report and model.

    - `data`: a file or folder of the caller's to use instead of the recipe's data (see `prepare`).
    - `seeds`: the number of seeds that a stochastic model is fitted with, from the recipe's on; other models run once.
    - `out`: the folder to create. It appears whole at the end or, after an error or an interrupt, not at all. If it
      exists, `ArtifactError` is raised before anything is computed, unless `overwrite`.
    - `checkpoints`: a folder for the state of each training and for results, with a folder per seed. After an interrupt
      the same call resumes there with the same result; a finished training is not repeated. Raises `RecipeError` for a
      model that is not trained by epochs.
    - `workers`: the number of seeds that run at a time, each in a process of its own with its part of the threads; a
      script that uses workers must start its work under ``if __name__ == "__main__":``. Raises `RecipeError` if there is
      only one training.
    - `notes`: further notes for the report.
    """
    place = None if out is None else check_place(out, overwrite=overwrite, inputs=(data, checkpoints))
    context = Run(device, progress, None if checkpoints is None else Path(checkpoints))
    outcome = outcome_of(recipe, context, data=data, seeds=seeds, workers=workers, notes=notes)
    if place is not None:
        write_folder(place, outcome)
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
    """Run a recipe like the function `run` of this module; return the whole outcome, which `write_folder` can write.

    The parameter `run` has the device, the observer and the folder for checkpoints.
    """
    check_workers(recipe, workers, seeds)
    check_resumable(recipe.model, run)
    if workers == 1:
        return fit_and_measure(recipe.task.prepare(recipe, data, run.progress), run, seeds, notes)
    with TemporaryDirectory(prefix="unblur-") as temporary:
        # Workers hand their results over in a folder: the caller's, else a temporary one.
        shared_run = run if run.checkpoints is not None else Run(run.device, run.progress, Path(temporary))
        start = perf_counter()
        seeds_used = range(recipe.seed, recipe.seed + seeds)
        seconds = train_in_processes(recipe, seeds_used, shared_run, data=data, workers=workers)
        note = (
            f"{min(workers, seeds)} seeds were trained at a time, in {perf_counter() - start:.0f} seconds; "
            "fit_seconds and score_seconds are sums"
        )
        return fit_and_measure(
            recipe.task.prepare(recipe, data, run.progress), shared_run, seeds, (*notes, note), seconds
        )
