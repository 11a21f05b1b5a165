"""Models for the caller's own data: fit and save one, load and measure one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unblur.data.formats.events import unread_columns
from unblur.data.formats.opening import is_file
from unblur.data.interactions import Interactions, Unknown
from unblur.data.output import OutputFolder
from unblur.data.side import read_side, side_of
from unblur.data.splits import Files, Split
from unblur.data.vocabulary import Vocabulary
from unblur.errors import CapabilityError, DataError, RecipeError, some
from unblur.evaluation.groups import by_group, with_extra_metrics
from unblur.evaluation.report import Report
from unblur.experiment.provenance import trained_on
from unblur.experiment.ranking import LISTS, PreparedSplit, fingerprints_of, ranking_task
from unblur.experiment.reading import WHOLE, read_parts, read_train
from unblur.experiment.recipe.parts import Data
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.recipe.toml import all_values
from unblur.experiment.running import check_resumable, reported
from unblur.experiment.task import Clock, Summary
from unblur.experiment.validation import default_split
from unblur.progress import Progress, Run, silent
from unblur.randomness import streams
from unblur.recommender import Recommender
from unblur.saving import models as artifact


@dataclass(frozen=True, eq=False)
class SavedModel:
    """A fitted model that was saved."""

    model: Recommender
    train: Interactions
    """The training data."""
    notes: tuple[str, ...]
    seconds: float
    """The time of the fit."""
    statistics_bytes: int
    """The size of the statistics that the model keeps for updates."""


def fit(
    recipe: Recipe,
    data: str | Path,
    *,
    out: str | Path,
    device: str = "cpu",
    overwrite: bool = False,
    checkpoints: str | Path | None = None,
    updatable: bool = False,
    items: str | Path | None = None,
    progress: Progress = silent,
) -> SavedModel:
    """Fit the model of a recipe to the file at `data`, or to the train file of the folder there, and save it
    to `out`.

    Split and protocol of the recipe are not used. An `out` that exists raises `ArtifactError` before anything is computed,
    unless `overwrite`. `checkpoints` is a folder for the state of the training: after an interrupt the same call resumes
    there. `items` is a table of items, labels first; the model keeps it as their side. An `updatable` model keeps its
    statistics too (`Recommender.keeping_statistics`); kinds that must be refitted raise `CapabilityError`.
    """
    task = ranking_task(
        recipe, "A synthesizer is fitted and saved by unblur synthesize DATA --save-synthesizer."
    )
    run = Run(device, progress, None if checkpoints is None else Path(checkpoints))
    check_resumable(recipe.model, run)
    CapabilityError.unless(
        not updatable or task.model.refit_reason is None,
        f"A model of kind {task.model.kind} must be refitted when its log changes: {task.model.refit_reason}. Leave --updatable out, or "
        "fit another, such as item-knn or ease.",
    )
    place = OutputFolder(
        out, artifact.MODEL, overwrite=overwrite, inputs=(data, checkpoints, items)
    ).checked()
    table = None if items is None else read_side(items)
    train, unused_parts = read_train(recipe.data, data, progress)
    clock, rng = Clock(), streams(recipe.seed, "fit")["fit"]
    with clock("fit"):
        model = task.model.fit_in(run.inside(f"seed-{recipe.seed}"), train, rng=rng)
    if updatable:
        model = model.keeping_statistics(train)
    notes = [f"fitted to the train file alone; {some(unused_parts)} not used"] if unused_parts else []
    if table is not None:
        side, remarks = side_of(table, model.items)
        model, notes = replace(model, side=side), [*notes, *remarks]
    provenance = {**trained_on(train, recipe), "fit_seconds": round(clock.seconds["fit"], 3)}
    artifact.save(model, place, provenance=provenance)
    statistics_bytes = np.asarray(model.tensors().get("gram", ())).nbytes
    notes += task.model.notes_on(train)
    return SavedModel(model, train, tuple(notes), clock.seconds["fit"], statistics_bytes)


def kept_reading(path: str | Path, said: Mapping[str, Any], data: Path | None = None) -> dict[str, Any]:
    """What was said about reading the training data of the model saved at `path`, unless something else is `said`.

    Both are settings of a recipe, such as ``{"data.read.user": "uid"}``. Which files of a folder were read is not kept. A
    file `data` without the columns that were named is another file, of which nothing was said. Raises `ArtifactError` as
    `unblur.load`.
    """
    read = artifact.read_manifest(path)["provenance"].get("read", {})
    before = {f"data.read.{name}": value for name, value in read.items() if name != "parts"}
    if not said.keys().isdisjoint(_BY_RATING):  # two ways to say which ratings count
        before = {setting: value for setting, value in before.items() if setting not in _BY_RATING}
    reading = {**before, **said}
    if before and data is not None and is_file(data):
        names = {name.removeprefix("data.read."): value for name, value in reading.items()}
        by_rating = {name.removeprefix("data.read.") for name in _BY_RATING}
        try:
            unread = unread_columns(data, **names)
            every = unread_columns(
                data, **{name: value for name, value in names.items() if name not in by_rating}
            )
        except DataError:
            return dict(said)
        # A choice by rating reads no more columns only if there is no column of ratings: nothing can be chosen by it then.
        if unread == every:
            reading = {
                name: value for name, value in reading.items() if name in said or name not in _BY_RATING
            }
    return reading


_BY_RATING = ("data.read.min_rating", "data.read.ratings", "data.read.event_weights")


def evaluate_saved(
    path: str | Path,
    recipe: Recipe,
    data: str | Path,
    *,
    histories: str | Path | None = None,
    hold_out: float | None = None,
    unknown_items: Unknown = "raise",
    device: str = "cpu",
    progress: Progress = silent,
) -> Report:
    """Measure the model saved at `path` on the data at `data`, split and measured as `recipe` says.

    - `histories`: the log that users are recommended from; `data` is then what they did after it, such as the next week,
      and counts as the part ``test`` of the recipe's split.
    - `hold_out`: the fraction of a log without parts that is held out, by `validation.default_split`.
    - `unknown_items`: items that the model does not know raise `VocabularyMismatch`; with ``"ignore"`` they are left out of
      histories and held-out items and counted in a note.

    The model of the recipe is not used. The report has figures by group too (`unblur.evaluation.groups`). Raises
    `RecipeError` if the data are the training data themselves, split anew: nothing in them is held out.
    """
    RecipeError.unless(
        recipe.protocol.kind != "strict",
        "A saved model must be measured as it is; the strict protocol chooses its hyper-parameters "
        "anew. Use: unblur run.",
    )
    task = ranking_task(recipe, "Give the recipe of a recommender.")
    start = time.perf_counter()
    model, manifest = artifact.load_with_manifest(Recommender, path, device=device)  # type: ignore[type-abstract]
    origin = manifest["provenance"]
    recipe = replace(recipe, name=str(origin.get("recipe", model.spec.kind)))
    parts = read_parts(recipe.data, data, progress=progress)
    RecipeError.unless(
        (histories is None and hold_out is None) or list(parts) == [WHOLE],
        f"Parts that are given are measured as they are; saw {some(parts)}. Leave histories and a share to hold out away.",
    )
    remarks: tuple[str, ...] = ()
    if histories is not None:
        parts = {"train": read_train(recipe.data, histories, progress)[0], "test": parts[WHOLE]}
    elif hold_out is not None:
        splitting, remark = default_split(parts[WHOLE], hold_out)
        task, remarks = replace(task, split=splitting), (remark,)
    RecipeError.unless(
        not isinstance(task.split, Files) or list(parts) != [WHOLE],
        "Held-out items are needed to measure on; saw one file. Give the log before it as well (--histories log.csv), "
        "a folder with train and test files, or hold items out: --hold-out 0.2.",
    )
    RecipeError.unless(
        isinstance(task.split, Files)
        or all(part.fingerprint() != origin.get("train") for part in parts.values()),
        "Held-out items must not have been in the training data; the model was fitted to all of these. "
        "Give other data, or split before fitting: unblur run RECIPE --data PATH.",
    )
    split = _over_items(
        task.split.apply(parts, streams(recipe.seed, "split")["split"]), model.items, unknown_items
    )
    if recipe.data.read.selects:
        log, in_one_log = histories or data, not isinstance(task.split, Files)
        split = _with_low_rated(split, recipe.data, log, in_one_log=in_one_log, progress=progress)
    fingerprints = fingerprints_of(parts, split)
    notes = (
        "it was not checked that the held-out items were not in the training data",
        *remarks,
        *split.notes,
    )
    recipe = recipe.with_protocol(with_extra_metrics(recipe.protocol))
    clock = Clock({"read": time.perf_counter() - start})
    prepared = PreparedSplit(
        recipe=recipe,
        split=split,
        fingerprints=fingerprints,
        notes=notes,
        read_seconds=clock.seconds["read"],
    )
    evaluation = prepared.measure(LISTS, model, recipe.seed, Run(device, progress), clock)
    groups = by_group(evaluation, split, recipe.protocol.resamples, recipe.seed)
    summary = Summary(
        (*evaluation.measurements, *groups), (*notes, *evaluation.notes), all_values(model.spec)
    )
    return reported(recipe, summary, fingerprints, (recipe.seed,), clock, device)


def _with_low_rated(
    split: Split, data: Data, path: str | Path, *, in_one_log: bool, progress: Progress
) -> Split:
    """The split with the pairs of the histories' log that a choice by rating leaves out: they are seen, so lists exclude them.

    Of one log that was split, with times, those before the first held-out item of their user: the others were not known yet.
    """
    read = data.read.unselected
    # Rows that are not selected may lack times.
    read = (
        replace(read, on_null="drop")
        if in_one_log
        else replace(read, timestamp="ignore", time_format=None, time_unit=None)
    )
    log = read_train(replace(data, read=read, k_core=None), path, progress)[0]
    log = log.onto(users=split.histories.users, items=split.histories.items, unknown="ignore")
    rows, columns = log.rows(), log.matrix.indices
    parts = [part for part in (split.histories, split.held_out, split.validation) if part is not None]
    low = ~np.any([part.contains(rows, columns) for part in parts], axis=0)
    if in_one_log and log.timestamps is not None and split.held_out.timestamps is not None:
        first = np.full(log.n_users, np.iinfo(np.int64).max)
        np.minimum.at(first, split.held_out.rows(), split.held_out.timestamps)
        low &= log.timestamps < first[rows]
    low_rated = log.keep(low)
    note = f"{low_rated.n_interactions:,} pairs of the histories that are rated low count as seen, and lists exclude them"
    return replace(split, low_rated=low_rated, notes=(*split.notes, note)) if low.any() else split


def _over_items(split: Split, items: Vocabulary, unknown: Unknown) -> Split:
    """The split over the items of a model, with a note on interactions that were left out."""
    histories = split.histories.onto(items=items, unknown=unknown)
    held_out = split.held_out.onto(items=items, unknown=unknown)
    dropped = {
        part: (before.n_interactions - after.n_interactions, before.n_interactions)
        for part, before, after in (
            ("histories", split.histories, histories),
            ("held-out items", split.held_out, held_out),
        )
    }
    notes = [
        f"{count:,} of {total:,} interactions of the {part} are with items unknown to the model and were left out"
        for part, (count, total) in dropped.items()
        if count
    ]
    DataError.unless(
        held_out.n_interactions,
        "Some held-out items must be known to the model; none is. Give the data that the model is for.",
    )
    left_out = None
    if split.validation is not None and split.excluded != "history":
        left_out = split.validation.onto(items=items, unknown=unknown)
    return replace(
        split,
        train=histories,
        histories=histories,
        held_out=held_out,
        notes=(*split.notes, *notes),
        validation=left_out,
    )
