"""Running a synthesizer's recipe: train it, sample it, and measure what its users are worth."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unblur.data.interactions import Interactions
from unblur.document.html import as_html
from unblur.errors import RecipeError
from unblur.evaluation.metrics import PerUser
from unblur.evaluation.report import Report
from unblur.experiment.measuring import Clock, reported
from unblur.experiment.page import run_page
from unblur.experiment.provenance import trained_on
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.recipe.synthesis import REFERENCES, samples_of
from unblur.experiment.resuming import kept_in
from unblur.models.linear.ease import EASE
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import streams
from unblur.saving import models as artifact
from unblur.spec import spec_to_dict
from unblur.synthesis.settings import Discretization
from unblur.synthesis.synthesizer import Synthesizer
from unblur.synthesis.utility.arms import Measured, measure_arm, training_rows
from unblur.synthesis.utility.kept_arms import KeptArms
from unblur.synthesis.utility.rated_users import PreparedUsers
from unblur.synthesis.utility.runs import UtilityRun, measurements_of

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, eq=False)
class UtilityOutcome:
    """What came of a synthesizer's recipe."""

    recipe: Recipe
    report: Report
    synthesizer: Synthesizer
    """Fitted with the first seed."""
    train: Interactions
    """What it was fitted to."""
    runs: tuple[UtilityRun, ...]

    def page(self, trials: pl.DataFrame | None = None) -> str:
        """The report as one HTML page."""
        return as_html(run_page(self.report, trials=trials))

    def save(self, folder: Path) -> None:
        """The synthesizer, in `folder`/synthesizer."""
        place = folder / "synthesizer"
        artifact.save_synthesizer(self.synthesizer, place, provenance=trained_on(self.train, self.recipe))


def measure_utility(
    prepared: PreparedUsers,
    *,
    seeds: int = 1,
    device: str = "cpu",
    checkpoints: str | Path | None = None,
    notes: Sequence[str] = (),
    spent: Mapping[str, float] | None = None,
    progress: Progress = silent,
) -> UtilityOutcome:
    """Train the synthesizer once a seed, sample it in all its ways, and measure the downstream recommender.

    Beside them, always: the downstream recommender without synthetic users, and EASE on the real ones.
    """
    if seeds < 1:
        raise RecipeError(f"There must be at least 1 seed; saw {seeds}. Leave it out to run once.")
    recipe = prepared.recipe
    assert recipe.utility is not None  # `prepare_users` has seen to it
    clock = Clock(prepared.read_seconds, spent)
    runs: list[UtilityRun] = []
    first: Synthesizer | None = None
    said: list[str] = [*notes, *prepared.notes]
    unmeasured = [name for name in recipe.utility.compared if name not in recipe.protocol.names]
    if unmeasured:
        said.append(
            f"not compared, since protocol.metrics and protocol.cutoffs do not have it: {', '.join(unmeasured)}"
        )
    ease: Measured | None = None
    used = range(recipe.seed, recipe.seed + seeds)
    sampling = clock.seconds.pop("sampling", 0.0)
    for place, seed in enumerate(used):
        with clock("fit"):
            synthesizer = fitted_synthesizer(prepared, seed, device, progress, checkpoints)
        first = first or synthesizer
        with clock("score"):
            which = f"measure, run {place + 1} of {seeds}"
            found = measured_arms(prepared, synthesizer, seed, device, progress, checkpoints, which)
            sampling += found.sampling_seconds
            ease = ease or _measured(prepared, EASE(), None, seed, device, progress)
            arms = {**found.values, REFERENCES[1]: ease.values}
        runs.append(UtilityRun(seed, arms))
        said += [*found.notes, *synthesizer.notes]
    assert first is not None  # there is at least one seed
    with clock("evaluate"):
        measurements = measurements_of(
            runs,
            compared=recipe.utility.compared,
            resamples=recipe.protocol.resamples,
            rng=streams(recipe.seed, "bootstrap")["bootstrap"],
        )
    seconds = clock.seconds
    said.append(
        f"seconds a run: training {seconds['fit_seconds'] / seeds:.1f}, sampling {sampling / seeds:.1f}, downstream "
        f"recommenders {(seconds['score_seconds'] - sampling) / seeds:.1f}"
    )
    if seeds > 1:
        said.append(
            f"means over {seeds} runs; intervals are over users and runs; the saved one has seed {used[0]}"
        )
    report = reported(
        recipe,
        measurements,
        notes=said,
        fingerprints=prepared.fingerprints,
        seeds=tuple(used),
        clock=clock,
        device=device,
    )
    spec = {
        **report.provenance.spec,
        "downstream": {"kind": recipe.downstream.kind, **spec_to_dict(recipe.downstream)},
        "utility": spec_to_dict(recipe.utility),
    }
    report = replace(report, provenance=replace(report.provenance, spec=spec))
    return UtilityOutcome(recipe, report, first, prepared.groups.learned.liked, tuple(runs))


def fitted_synthesizer(
    prepared: PreparedUsers,
    seed: int,
    device: str,
    progress: Progress,
    checkpoints: str | Path | None = None,
) -> Synthesizer:
    """The recipe's synthesizer, fitted to the likes of those who are learned from.

    One that stops early is given the group of users that is there for it.
    """
    model = prepared.recipe.model
    options: dict[str, Any] = {**kept_in(checkpoints, model, seed)}
    if getattr(getattr(model, "vae", None), "stopping", None) is not None:
        options["validation"] = prepared.groups.stopping
    fitted: Synthesizer = model.fit(
        prepared.groups.learned.liked,
        rng=streams(seed, "fit")["fit"],
        device=device,
        progress=progress,
        **options,
    )
    return fitted


@dataclass(frozen=True, eq=False)
class MeasuredArms:
    """What came of the synthetic users of one training, and of none."""

    values: Mapping[str, PerUser]
    """By the name of the arm; without EASE's, which no seed changes."""
    notes: tuple[str, ...]
    sampling_seconds: float


def measured_arms(
    prepared: PreparedUsers,
    synthesizer: Synthesizer,
    seed: int,
    device: str,
    progress: Progress,
    checkpoints: str | Path | None = None,
    stage: str = "measure",
) -> MeasuredArms:
    """Each way of sampling, and no synthetic users; what `checkpoints` keep is neither sampled nor measured anew."""
    kept = KeptArms.of(checkpoints, prepared, seed, device)
    names = samples_of(prepared.recipe.model.kind)
    arms: dict[str, PerUser] = {}
    sampling = 0.0

    def measured(arm: str | None) -> Measured:
        nonlocal sampling
        start = time.perf_counter()
        sample = None if arm is None else _sample(prepared, synthesizer, arm, seed)
        sampling += time.perf_counter() - start
        return _measured(prepared, prepared.recipe.downstream, sample, seed, device, progress)

    for number, arm in enumerate(names):
        progress(ProgressEvent(stage, number, len(names) + 1))
        if arm == "multi-resolution" and prepared.departures.one_sample:
            arms[arm] = arms["full"]  # the same rows and the same seed come to the same end
        else:
            arms[arm] = kept.measured(arm, partial(measured, arm)).values
    progress(ProgressEvent(stage, len(names), len(names) + 1))
    plain = kept.measured(REFERENCES[0], partial(measured, None))
    progress(ProgressEvent(stage, len(names) + 1, len(names) + 1))
    return MeasuredArms({**arms, REFERENCES[0]: plain.values}, plain.notes, sampling)


def values_of_setting(
    prepared: PreparedUsers, metric: str, seeds: Iterable[int], device: str, progress: Progress
) -> Iterator[float]:
    """A metric of the spec's way of sampling, for one training after the other: what a search maximises."""
    recipe = prepared.recipe
    for seed in seeds:
        synthesizer = fitted_synthesizer(prepared, seed, device, progress)
        sample = _sample(prepared, synthesizer, searched_arm(recipe.model), seed)
        found = _measured(prepared, recipe.downstream, sample, seed, device, progress)
        yield float(found.values[metric].mean())


def searched_arm(model: Any) -> str:
    """The way of sampling that a search judges by: the spec's own, where it has several."""
    known = samples_of(model.kind)
    own = getattr(model, "sampling", None)
    return own if own in known else known[0]


def _sample(prepared: PreparedUsers, synthesizer: Any, arm: str, seed: int) -> Interactions:
    """As many synthetic users as there are real ones, sampled as an arm has it."""
    source = synthesizer
    if arm in ("full", "multi-resolution"):
        source = synthesizer.with_settings(sampling=arm)
    elif arm == "plain-vae":
        source = synthesizer.plain
    if prepared.departures.zero_threshold and hasattr(source, "with_settings"):
        source = source.with_settings(discretization=Discretization(rule="zero-threshold"))
    made: Interactions = source.sample(
        prepared.groups.learned.liked.n_users, rng=streams(seed, f"sample {arm}")[f"sample {arm}"]
    )
    return made


def _measured(
    prepared: PreparedUsers,
    spec: Any,
    sample: Interactions | None,
    seed: int,
    device: str,
    progress: Progress,
) -> Measured:
    utility = prepared.recipe.utility
    assert utility is not None
    return measure_arm(
        spec,
        training_rows(prepared.groups, sample, utility, prepared.departures),
        prepared.groups,
        prepared.recipe.protocol,
        prepared.departures,
        rng=streams(seed, "downstream")["downstream"],
        device=device,
        progress=progress,
    )
