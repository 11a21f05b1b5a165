"""Fit the model of a prepared recipe and measure it arm by arm, once a seed; and the report of that."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from unblur.data.files import replacing
from unblur.data.interactions import Interactions
from unblur.document.html import as_html
from unblur.errors import ArtifactError, RecipeError
from unblur.evaluation.report import Provenance, Report, Timings, with_expected
from unblur.experiment.provenance import machine, peak_rss_mb, trained_on, versions
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.searching import settled
from unblur.experiment.task import ArmT, Clock, ModelT, Prepared, Summary
from unblur.experiment.training_log import Epoch, TrainingLog
from unblur.fitted import FittedSpec
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.saving import models as artifact

if TYPE_CHECKING:
    from unblur.tuning.results import Study

STAGES = ("read", "fit", "score", "evaluate")
"""What the seconds of a report are of."""


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

    @property
    def train(self) -> Interactions:
        """What the model was fitted to."""
        return self.prepared.learned_from

    def page(self, study: Study[Any] | None = None) -> str:
        """The run as one HTML page, with the plots of the search that it came of."""
        return as_html(self.prepared.page(self.report, self.runs, self.training, study))

    def save(self, folder: Path) -> None:
        """Write what was fitted into a folder within `folder`, ``model`` or ``synthesizer``."""
        artifact.save(self.model, folder / self.model.noun, provenance=trained_on(self.train, self.recipe))


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
    if chosen is not None:
        return _measured(
            prepared.with_model(chosen), where, seeds, notes, Clock({"read": prepared.read_seconds})
        )
    return measured(prepared, where, seeds, notes)


def measured(
    prepared: Prepared[ModelT, ArmT],
    run: Run,
    seeds: int = 1,
    notes: Sequence[str] = (),
    spent: Mapping[str, float] | None = None,
) -> Outcome[ModelT, ArmT]:
    """Fit and measure with the hyper-parameters that the protocol asks for.

    `spent` are seconds that went into the run's checkpoints before, by stage.
    """
    clock = Clock({"read": prepared.read_seconds, **(spent or {})})
    with clock("fit"):
        ready, said = settled(prepared, run)
    return _measured(ready, run, seeds, (*notes, *said), clock)


def _measured(
    prepared: Prepared[ModelT, ArmT], run: Run, seeds: int, notes: Sequence[str], clock: Clock
) -> Outcome[ModelT, ArmT]:
    if seeds < 1:
        raise RecipeError(f"There must be at least 1 seed; saw {seeds}. Leave it out to run once.")
    recipe, said = prepared.recipe, [*notes, *prepared.notes]
    if seeds > 1 and not prepared.stochastic:
        said.append(f"{recipe.model.kind} is deterministic, so one seed was run in place of {seeds}")
        seeds = 1
    used = tuple(range(recipe.seed, recipe.seed + seeds))
    models: list[ModelT] = []
    runs: list[Mapping[str, ArmT]] = []
    training: tuple[Epoch, ...] = ()
    remarks: tuple[str, ...] = ()
    for place, seed in enumerate(used):
        log = TrainingLog(run.progress)
        which = "measure" if seeds == 1 else f"measure, run {place + 1} of {seeds}"
        model, arms = run_of_seed(prepared, seed, run.watched(log), clock, which)
        models, training = models or [model], training or tuple(log.epochs)
        runs.append(arms)
        remarks += model.notes
    with clock("evaluate"):
        summary = prepared.summary(runs, clock)
    before = (
        f"{name} measured before: {number.value} ({number.source})"
        for name, number in recipe.verified.items()
    )
    summary = replace(summary, notes=(*said, *summary.notes, *remarks, *before))
    report = reported(recipe, summary, prepared.fingerprints, used, clock, run.device)
    return Outcome(prepared, recipe, report, models[0], tuple(runs), training)


def check_resumable(model: FittedSpec, run: Run) -> None:
    """Raise `RecipeError` where checkpoints are asked for and the model is not trained epoch by epoch."""
    if run.checkpoints is not None and not model.plans():
        raise RecipeError(
            f"Checkpoints keep the state of a training by epochs; {model.kind} has none. Leave --checkpoints out."
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
    seconds = {f"{stage}_seconds": clock.seconds[stage] for stage in STAGES}
    return Report(
        recipe=recipe.name,
        protocol=recipe.protocol.kind,
        measurements=with_expected(
            summary.measurements, {name: number.expected() for name, number in recipe.expected.items()}
        ),
        timings=Timings(peak_rss_mb=peak_rss_mb(), **seconds),
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
        self._file: Path | None = None
        self._known: dict[str, Any] = {}
        if run.checkpoints is None:
            return
        name = sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()[:16]
        self._file = run.checkpoints / f"arms-{name}.json"
        if self._file.is_file():
            try:
                self._known = json.loads(self._file.read_text(encoding="utf-8"))["arms"]
            except (OSError, ValueError, KeyError, TypeError) as problem:
                raise self._damaged(problem) from problem

    def measured(self, arm: str, prepared: Prepared[Any, ArmT], measure: Callable[[], ArmT]) -> ArmT:
        """What was kept of an arm, or what `measure` gives now, which then is kept."""
        if arm in self._known:
            try:
                return prepared.measured(self._known[arm])
            except (ValueError, KeyError, TypeError, AttributeError) as problem:
                raise self._damaged(problem) from problem
        found = measure()
        if self._file is not None:
            self._known[arm] = prepared.plain(found)
            self._write(self._file)
        return found

    def _write(self, file: Path) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as stream:
                stream.write(json.dumps({"schema": 1, "arms": self._known}).encode())
        except OSError as problem:
            raise ArtifactError(
                f"What was measured must be kept; {file}: {problem.strerror or problem}. What was kept before is "
                "whole. Make room, or give another folder."
            ) from problem

    def _damaged(self, problem: Exception) -> ArtifactError:
        return ArtifactError(
            f"What earlier calls measured must be readable; {self._file} is damaged ({problem}). Delete it to measure anew."
        )
