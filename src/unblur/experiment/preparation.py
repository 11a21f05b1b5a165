"""From a recipe to the split it runs on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unblur.data import catalogue as datasets
from unblur.data import files as sources
from unblur.data.interactions import Interactions
from unblur.data.splits.sets import Split, k_core
from unblur.errors import RecipeError, some
from unblur.experiment.recipe.parts import Data, Files, Random, Reading
from unblur.experiment.recipe.schema import Recipe
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import streams
from unblur.spec import replace_field

WHOLE = "all"
"""The name of the one part of data that are not split yet."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A recipe with its data read and split."""

    recipe: Recipe
    """As it will run: without the published numbers where the data are the caller's."""
    split: Split
    fingerprints: Mapping[str, str]
    """``sha256:…`` of each part of the data."""
    notes: tuple[str, ...]
    """What a reader of the numbers must know about the data."""
    read_seconds: float
    """How long reading, checking and splitting took."""


def prepare(recipe: Recipe, *, data: str | Path | None = None, progress: Progress = silent) -> Prepared:
    """Read the data of a recipe, or those at `data` in their place, and split them as the recipe says.

    With `data` the settings stay, and the numbers that the recipe expects are left out. One file has no
    parts: where the recipe wants given files, a fifth of each user's items is held out at random, and a note
    says so; another says where there is no validation part.

    Under the strict protocol a validation part is put in the order of time and learned from (`Files.in_order`);
    a model that trains until a metric stops rising carves as much, the last in time, out of all of train.
    """
    if recipe.utility is not None:
        raise RecipeError(
            f"A split is made for recommenders; {recipe.name} is of the synthesizer {recipe.model.kind}, which is "
            "measured on groups of users. Use: unblur run, unblur tune, or unblur synthesize."
        )
    start = time.perf_counter()
    notes: list[str] = []
    parts = read_parts(recipe.data, data, progress=progress)
    if data is not None:
        notes.append(
            "the data are the caller's own: no fingerprint was checked, and no published number applies"
        )
        recipe = recipe.without_numbers()
        if isinstance(recipe.split, Files) and list(parts) == [WHOLE]:
            recipe = replace(recipe, split=Random())
            notes.append("one file has no test part, so a random fifth of each user's items was held out")
        if isinstance(recipe.split, Files) and recipe.split.validation not in (None, *parts):
            notes.append(f"there is no part {recipe.split.validation!r}, so none was used as validation")
            recipe = replace(recipe, split=replace(recipe.split, validation=None, histories="train"))
    progress(ProgressEvent("split", 0, 1))
    if recipe.protocol.kind == "strict" and isinstance(recipe.split, Files) and recipe.split.validation:
        split = recipe.split.in_order(parts)
        recipe = replace(
            recipe,
            model=_stopped_in_time(
                recipe.model, 1 - parts[recipe.split.train].n_interactions / split.train.n_interactions
            ),
        )
    else:
        split = recipe.split.apply(parts, streams(recipe.seed, "split")["split"])
    fingerprints = {name: part.fingerprint() for name, part in parts.items()}
    progress(ProgressEvent("split", 1, 1))
    return Prepared(recipe, split, fingerprints, tuple(notes), time.perf_counter() - start)


def _stopped_in_time(model: Any, fraction: float) -> Any:
    """The spec that judges training by each user's last interactions; any other spec as it is."""
    if getattr(model, "stopping", None) is None:
        return model
    return replace_field(
        replace_field(model, "stopping.carve", "last"), "stopping.fraction", round(fraction, 3)
    )


def read_parts(
    data: Data, path: str | Path | None = None, *, progress: Progress = silent
) -> dict[str, Interactions]:
    """The parts of a data set by name, or of the file or folder at `path`: ``train``, ``test``, or just one.

    Raises `RecipeError` where there is neither a name nor a path, and `DataError` where nothing can be read
    there.
    """
    if path is not None:
        files = datasets.locate(data.name or None, path)
        options = data.read.options()
        parts = {name: sources.read(file, **options, progress=progress) for name, file in files.items()}
    elif not data.name:
        raise RecipeError(
            "The recipe names no data set; it runs on data of your own. Give them: --data PATH."
        )
    elif data.read != Reading():
        raise RecipeError(
            "data.read says how files of your own are read; there are none. Give --data PATH or leave it out."
        )
    else:
        parts = datasets.load(data.name, reading=data.reading, progress=progress)
    if data.k_core is not None:
        if len(parts) != 1:
            raise RecipeError(
                f"A k-core is taken before the split; the data are split into {some(parts)}. Leave "
                "k_core out."
            )
        parts = {
            name: k_core(part, users=data.k_core.users, items=data.k_core.items)
            for name, part in parts.items()
        }
    return parts
