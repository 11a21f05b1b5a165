"""Reading the data of a recipe, or the caller's own data instead."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import polars as pl

from unblur.data import catalogue as datasets, files as sources
from unblur.data.formats.columns import usual_role
from unblur.data.interactions import Interactions
from unblur.data.splits import k_core
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, RecipeError, some
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
    if path is not None and data.read.parts is not None:
        parts = {WHOLE: sources.read(path, **data.read.options(), progress=progress)}
    elif path is not None:
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


@dataclass(frozen=True, eq=False)
class Histories:
    """The histories of users to recommend to, over the items of their file."""

    rows: Interactions
    """The items that a user is recommended by."""
    seen: Interactions
    """The items that a user has, low-rated ones as well, for the same users."""

    def of(self, users: Vocabulary) -> Histories:
        """The histories of these users alone, in that order; those that the file does not have are empty."""
        return Histories(
            self.rows.onto(users=users, unknown="ignore"), self.seen.onto(users=users, unknown="ignore")
        )


def read_histories(
    path: str | Path, reading: Reading, items: Vocabulary, *, timed: bool = True, progress: Progress = silent
) -> Histories:
    """Read histories from a file, with labels of the same type as those of `items`, and the type alone.

    Times are left out unless `timed`, or one row of each pair is chosen by them. Rows that a choice by rating leaves out are
    among the items that a user has.
    """

    def read(options: Reading, progress: Progress = progress) -> Interactions:
        data = sources.read(path, **options.options(), progress=progress)
        if data.items.kind == items.kind or reading.labels is not None:
            return data
        if items.kind == "str":
            return sources.read(path, **replace(options, labels="str").options(), progress=progress)
        typed = items.typed(data.items.series)
        # Text that is no label of an integer vocabulary gets a number beyond it: unknown, and counted as such.
        free = int(np.max([items.labels.max(initial=0), typed.fill_null(0).to_numpy().max(initial=0)])) + 1
        labels = typed.zip_with(typed.is_not_null(), pl.int_range(free, free + len(typed), eager=True))
        return replace(data, items=Vocabulary(labels))

    untimed = replace(reading, timestamp="ignore", time_format=None, time_unit=None)
    rows = read(reading if timed or reading.duplicates in ("first", "last") else untimed)
    if not reading.selects:
        return Histories(rows, rows)
    # The same file a second time: what is to be said about it has been said.
    seen = read(untimed.unselected, lambda event: None if event.kind == "note" else progress(event))
    return Histories(rows.onto(users=seen.users), seen)


Again: TypeAlias = Literal["nothing", "liked", "all"]
"""The items of a history that may be recommended."""


@dataclass(frozen=True, eq=False)
class Limits:
    """What may be recommended to users, in the words of `Recommender.recommend`."""

    excluded: Interactions | None
    candidates: Interactions | pl.Series | None
    notes: tuple[str, ...]

    def of(self, users: Vocabulary) -> Limits:
        """The limits of these users alone, in that order."""
        excluded, candidates = (
            limit.onto(users=users, unknown="ignore") if isinstance(limit, Interactions) else limit
            for limit in (self.excluded, self.candidates)
        )
        return Limits(excluded, candidates, self.notes)  # type: ignore[arg-type]


def limits_of(
    asked: Histories,
    items: Vocabulary,
    reading: Reading,
    *,
    again: Again = "nothing",
    exclude: Path | None = None,
    candidates: Path | None = None,
) -> Limits:
    """What may be recommended to these users of the items of a model.

    - `again`: of the items that they have, nothing may be recommended again; what they liked, but not what they rated too low to
      be learned from; or all.
    - `exclude`, `candidates`: files with items, one a line, or with pairs of a user and an item.
    """
    users = asked.rows.users
    seen = None if again == "all" else asked.seen.onto(items=items, unknown="ignore")
    if seen is not None and again == "liked":
        seen = seen.without(asked.rows.onto(items=items, unknown="ignore"))
    allowed: Interactions | pl.Series | None = None
    notes: tuple[str, ...] = ()
    if candidates is not None:
        allowed, notes = _read_choice(candidates, reading, users, items)
    if exclude is None:
        return Limits(seen, allowed, notes)
    excluded, more_notes = _read_choice(exclude, reading, users, items)
    if isinstance(excluded, Interactions):
        matrix = excluded.matrix if seen is None else excluded.matrix + seen.matrix
        seen = Interactions.from_matrix(matrix, users=users, items=items)
    elif isinstance(allowed, Interactions):
        columns = items.positions(excluded)
        allowed = allowed.keep(np.isin(allowed.matrix.indices, columns, invert=True))
    else:
        choice = items.series if allowed is None else allowed
        allowed = choice.filter(~choice.is_in(excluded.implode()))
    return Limits(seen, allowed, (*notes, *more_notes))


def items_in(
    file: Path, items: Vocabulary, column: str | int | None = None
) -> tuple[pl.Series, tuple[str, ...]] | None:
    """The labels in a file of one column that are among `items`, and a note on the others; `None` for a file of more columns.

    A first line that is no item but the name of the column, `column` or a usual one, is a header.
    """
    labels = sources.read_column(file)
    if labels is None:
        return None
    whole = labels if labels.dtype.is_integer() else labels.cast(pl.String)
    typed = items.typed(whole).drop_nulls()
    known = typed.filter(items.positions_or_missing(typed) >= 0)
    first = str(whole[0])
    has_header = (first == column or usual_role(first) == "item") and first not in map(str, known.head(1))
    n_labels = len(whole) - has_header
    note = (
        f"{n_labels - len(known):,} of {n_labels:,} items in {file} are unknown to the model and were ignored"
    )
    return known.unique(maintain_order=True), (note,) * (len(known) < n_labels)


def _read_choice(
    file: Path, reading: Reading, users: Vocabulary, items: Vocabulary
) -> tuple[Interactions | pl.Series, tuple[str, ...]]:
    """The items of a file, as labels, or its pairs over `users` and `items`; unknown ones are ignored, with a note.

    It is a file of pairs if it has more than one column: those of the histories, or by the usual names.
    """
    if (choice := items_in(file, items, reading.item)) is not None:
        return choice
    plain = Reading(rating="ignore", timestamp="ignore", duplicates="first")
    kept = {name: getattr(reading, name) for name in ("format", "user", "item", "delimiter", "header")}
    # The file of pairs may be laid out as the histories, or by the usual names: in a header too where the histories have none.
    for layout in ({"header": True}, kept) if reading.header is False else (kept,):
        with suppress(DataError):
            sources.unread_columns(file, **layout)
            plain = replace(plain, **layout)
            break
    pairs = read_histories(file, plain, items).rows
    if pairs.users.kind != users.kind:
        pairs = read_histories(file, replace(plain, labels="str"), items).rows
    known = pairs.onto(users=users, items=items, unknown="ignore")
    n_unknown = pairs.n_interactions - known.n_interactions
    words = f"{n_unknown:,} of {pairs.n_interactions:,} pairs in {file} are of other users or items and were ignored"
    return known, (words,) * (n_unknown > 0)
