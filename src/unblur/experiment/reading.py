"""Reading the data of a recipe, or the caller's own data instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from unblur.data import catalogue as datasets, files as sources
from unblur.data.interactions import Interactions
from unblur.data.splits import k_core
from unblur.data.vocabulary import Vocabulary
from unblur.errors import RecipeError, some
from unblur.experiment.recipe.parts import Data, Reading
from unblur.progress import Progress, silent

WHOLE = "all"
"""The name of the only part of data that are not split yet."""
OWN_DATA = "the data are the caller's own: no fingerprint was checked, and no published number applies"
"""The note of a report on the caller's own data."""


def read_parts(
    data: Data, path: str | Path | None = None, *, progress: Progress = silent
) -> dict[str, Interactions]:
    """The parts of a data set by name, or of the file or folder at `path`: ``train``, ``test`` …, or a single one.

    Raises `RecipeError` if there is neither a name nor a path, and `DataError` if the files cannot be read.
    """
    if path is not None:
        parts = {
            name: sources.read(file, **data.read.options(), progress=progress)
            for name, file in datasets.locate(data.name or None, path).items()
        }
    else:
        RecipeError.unless(
            data.name,
            "A recipe without a data set runs on data of your own; there are none. Give them: --data PATH.",
        )
        RecipeError.unless(
            data.read == Reading(),
            "data.read is for files of your own; there are none. Give --data PATH, or leave data.read out.",
        )
        parts = datasets.load(data.name, reading=data.reading, progress=progress)
    if data.k_core is not None:
        RecipeError.unless(
            len(parts) == 1,
            f"A k-core must be taken before the split; the data are split into {some(parts)}. Leave k_core out.",
        )
        parts = {
            name: k_core(part, users=data.k_core.users, items=data.k_core.items)
            for name, part in parts.items()
        }
    return {name: merged_moments(part) for name, part in parts.items()} if data.times == "float32" else parts


def merged_moments(data: Interactions) -> Interactions:
    """The same interactions, with one time for all moments that are equal after RecBole's normalization.

    It turns times into ``(t − min)/(max − min)``, computed in double precision and kept as float32; of moments that are
    equal then the earliest stands for all. Interactions without times, or of one moment, stay as they are.
    """
    if data.timestamps is None:
        return data
    moments, moment = np.unique(data.timestamps, return_inverse=True)
    span = max(1, int(moments[-1]) - int(moments[0]))
    _, first, merged = np.unique(
        ((moments - moments[0]) / span).astype(np.float32), return_index=True, return_inverse=True
    )
    return replace(data, timestamps=moments[first][merged][moment])


def read_train(data: Data, path: str | Path, progress: Progress) -> tuple[Interactions, list[str]]:
    """The file at `path`, or the train file of the folder there, and the names of the other parts in it."""
    parts = read_parts(data, path, progress=progress)
    train = parts.get("train") or next(iter(parts.values()))
    return train, [name for name, part in parts.items() if part is not train]


def read_histories(
    path: str | Path, reading: Reading, items: Vocabulary, *, progress: Progress = silent
) -> Interactions:
    """Read histories from a file, with labels of the same type as those of `items`."""
    histories = sources.read(path, **reading.options(), progress=progress)
    if histories.items.kind == items.kind or items.kind == "int" or reading.labels is not None:
        return histories
    return sources.read(path, **reading.options(), labels="str", progress=progress)
