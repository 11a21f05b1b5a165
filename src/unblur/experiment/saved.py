"""Models of the caller's own data: fitted and saved, loaded and measured."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from unblur.data import files as sources
from unblur.data.interactions import Interactions, Unknown
from unblur.data.splits.sets import Split
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, RecipeError, some
from unblur.evaluation.report import Report
from unblur.experiment.folder import check_above
from unblur.experiment.measuring import Clock, reported
from unblur.experiment.preparation import WHOLE, read_parts
from unblur.experiment.provenance import trained_on
from unblur.experiment.recipe.parts import Files, Reading
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.resuming import kept_in
from unblur.progress import Progress, silent
from unblur.randomness import streams
from unblur.recommender import Recommender
from unblur.saving import models as artifact


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model that was fitted and saved."""

    model: Recommender
    train: Interactions
    """What it was fitted to."""
    notes: tuple[str, ...]
    seconds: float
    """How long the fit took."""


def fit(
    recipe: Recipe,
    data: str | Path,
    *,
    out: str | Path,
    device: str = "cpu",
    overwrite: bool = False,
    checkpoints: str | Path | None = None,
    progress: Progress = silent,
) -> Fitted:
    """Fit the model of a recipe to the file at `data`, or to the train file of the folder there, and save it
    to `out`.

    Split and protocol of the recipe have no say. An `out` that exists raises `ArtifactError` before anything
    is computed, unless `overwrite`. `checkpoints` is a folder to keep the state of the training in: the same call,
    after an interrupt, goes on from there.
    """
    if recipe.utility is not None:
        raise RecipeError(
            f"A recommender is fitted and saved; {recipe.model.kind} is a synthesizer, which samples users. Use: unblur "
            "synthesize DATA --keep-synthesizer."
        )
    kept = kept_in(checkpoints, recipe.model, recipe.seed)
    check_above(Path(out))
    artifact.check_new(out, overwrite=overwrite)
    parts = read_parts(recipe.data, data, progress=progress)
    train = parts.get("train") or next(iter(parts.values()))
    unused = [name for name, part in parts.items() if part is not train]
    start = time.perf_counter()
    model = recipe.model.fit(
        train, rng=streams(recipe.seed, "fit")["fit"], device=device, progress=progress, **kept
    )
    seconds = time.perf_counter() - start
    artifact.save(model, out, overwrite=overwrite, provenance=trained_on(train, recipe))
    notes = (f"fitted to the train file alone; {some(unused)} not used",) if unused else ()
    return Fitted(model, train, notes, seconds)


def evaluate_saved(
    path: str | Path,
    recipe: Recipe,
    data: str | Path,
    *,
    unknown_items: Unknown = "raise",
    device: str = "cpu",
    progress: Progress = silent,
) -> Report:
    """Measure the model saved at `path` on the data at `data`, split and measured as `recipe` says.

    The model of the recipe has no say. Items that the model never saw raise `VocabularyMismatch`, or with
    ``unknown_items="ignore"`` are left out of histories and held-out items and counted in a note. Raises
    `RecipeError` where the data are the very ones that the model was fitted to and are split anew: nothing in
    them is held out.
    """
    if recipe.protocol.kind == "strict":
        raise RecipeError(
            "A saved model is measured as it is; the strict protocol chooses its hyper-parameters "
            "anew. Use: unblur run."
        )
    start = time.perf_counter()
    model = artifact.load(path, device=device)
    origin = artifact.read_manifest(path).get("provenance", {})
    recipe = replace(recipe, name=str(origin.get("recipe", model.spec.kind)), model=model.spec)
    parts = read_parts(recipe.data, data, progress=progress)
    fingerprints = {name: part.fingerprint() for name, part in parts.items()}
    if isinstance(recipe.split, Files) and list(parts) == [WHOLE]:
        raise RecipeError(
            "Something must be held out to measure on; one file was given. Give a folder with train "
            "and test files, or "
            "hold items out: --hold-out 0.2."
        )
    if not isinstance(recipe.split, Files) and origin.get("train") in fingerprints.values():
        raise RecipeError(
            "What is held out must not have been in the training data; the model was fitted to all of these. "
            "Give other data, or split first and fit then: unblur run RECIPE --data PATH."
        )
    given = recipe.split.apply(parts, streams(recipe.seed, "split")["split"])
    split = _over_items(given, model.items, unknown_items)
    notes = ["nobody has checked that the held-out items were not in the training data", *split.notes]
    clock = Clock(time.perf_counter() - start)
    with clock("score"):
        ranking = recipe.protocol.rank(
            model, replace(split, notes=()), exclude=split.excluded, progress=progress
        )
    with clock("evaluate"):
        evaluation = recipe.protocol.measure(ranking, replace(split, notes=()), rng=recipe.seed)
    return reported(
        recipe,
        evaluation.measurements,
        notes=[*notes, *evaluation.notes],
        fingerprints=fingerprints,
        seeds=(recipe.seed,),
        clock=clock,
        device=device,
    )


def read_histories(
    path: str | Path, reading: Reading, items: Vocabulary, *, progress: Progress = silent
) -> Interactions:
    """Histories from a file, with labels of the kind that `items` has."""
    given = sources.read(path, **reading.options(), progress=progress)
    if given.items.kind == items.kind or items.kind == "int" or reading.labels is not None:
        return given
    return sources.read(path, **reading.options(), labels="str", progress=progress)


def _over_items(split: Split, items: Vocabulary, unknown: Unknown) -> Split:
    """The split over a model's items, with a note on what was left out."""
    histories = split.histories.onto(items=items, unknown=unknown)
    held_out = split.held_out.onto(items=items, unknown=unknown)
    lost = [
        (split.histories.n_interactions - histories.n_interactions, "histories"),
        (split.held_out.n_interactions - held_out.n_interactions, "held-out items"),
    ]
    notes = [
        f"{count:,} interactions of the {what} are with items unknown to the model and were left out"
        for count, what in lost
        if count
    ]
    if not held_out.n_interactions:
        raise DataError(
            "Some held-out items must be known to the model; none is. Is it a model of other data?"
        )
    aside = None
    if split.validation is not None and split.excluded != "history":
        aside = split.validation.onto(items=items, unknown=unknown)
    return Split(histories, histories, held_out, split.method, (*split.notes, *notes), aside)
