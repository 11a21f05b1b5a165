"""From parallel columns of events to canonical `Interactions`: the one place where pairs are indexed and sorted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from unblur.data.interactions import Duplicates, Interactions, Unknown
from unblur.data.vocabulary import Vocabulary, label_series
from unblur.errors import DataError, VocabularyMismatch, some

if TYPE_CHECKING:
    import polars as pl


def assemble(
    users: ArrayLike | pl.Series,
    items: ArrayLike | pl.Series,
    weights: ArrayLike | pl.Series | None,
    timestamps: ArrayLike | pl.Series | None,
    min_rating: float | None,
    duplicates: Duplicates,
    user_vocabulary: Vocabulary | None,
    item_vocabulary: Vocabulary | None,
    unknown_items: Unknown,
) -> Interactions:
    """`Interactions.from_pairs`, which says what each argument means and what is refused."""
    if duplicates not in ("raise", "sum", "first", "last"):
        raise DataError(f'`duplicates` must be "raise", "sum", "first" or "last"; saw {duplicates!r}.')
    if unknown_items not in ("raise", "ignore"):
        raise DataError(f'`unknown_items` must be "raise" or "ignore"; saw {unknown_items!r}.')
    user_labels, item_labels = label_series(users, "users"), label_series(items, "items")
    values = None if weights is None else _numbers(weights, "weights", np.float32)
    times = None if timestamps is None else _numbers(timestamps, "timestamps", np.int64)
    lengths = {
        name: len(column)
        for name, column in {
            "users": user_labels,
            "items": item_labels,
            "weights": values,
            "timestamps": times,
        }.items()
        if column is not None
    }
    if len(set(lengths.values())) > 1:
        seen = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise DataError(
            f"All columns must have the same length; saw {seen}. Check that they come from the same rows."
        )
    if min_rating is not None:
        if values is None:
            raise DataError(
                "`min_rating` needs weights to compare with; none were given. Name the rating column."
            )
        liked = values >= min_rating
        user_labels, item_labels = user_labels.filter(liked), item_labels.filter(liked)
        times = None if times is None else times[liked]
        values = None
    if values is not None and not (values > 0).all():
        bad = int(np.argmin(values > 0))
        raise DataError(
            f"weights must be positive (and not vanish in float32); saw {values[bad]} in row {bad}. "
            "Drop such rows, or give `min_rating` to turn ratings into likes."
        )

    row_names, rows = _indexed(user_labels, user_vocabulary, "users", "raise")
    column_names, columns = _indexed(item_labels, item_vocabulary, "items", unknown_items)
    known = columns >= 0
    if not known.all():
        rows, columns = rows[known], columns[known]
        values = None if values is None else values[known]
        times = None if times is None else times[known]
    data = np.ones(len(rows), dtype=np.float32) if values is None else values

    key = rows * max(1, len(column_names)) + columns
    order = np.argsort(key)
    ranked = key[order]
    repeats = ranked[1:] == ranked[:-1]
    if repeats.any():
        order = _resolved(key, order, times, duplicates, row_names, column_names)
        ranked = key[order]
        starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
        ends = np.concatenate((starts[1:], [len(ranked)])) - 1
        kept = order[starts if duplicates == "first" else ends]
        with np.errstate(over="ignore"):
            data = np.add.reduceat(data[order], starts) if duplicates == "sum" else data[kept]
        order = kept
    else:
        data = data[order]
    counts = np.bincount(rows[order], minlength=len(row_names))
    indptr = np.concatenate(([0], np.cumsum(counts)))
    small = np.int32 if max(len(column_names), len(order)) < 2**31 else np.int64
    matrix = sparse.csr_array(
        (data, columns[order].astype(small), indptr.astype(small)), shape=(len(row_names), len(column_names))
    )
    return Interactions(matrix, row_names, column_names, None if times is None else times[order])


def _numbers(column: ArrayLike | pl.Series, name: str, kind: type[np.generic]) -> NDArray[Any]:
    """A numeric column as an array of `kind`. NaN, infinite, null and too large entries are refused."""
    import polars as pl

    if isinstance(column, pl.Series) and column.null_count():
        raise DataError(
            f"{name} must have no nulls; {column.null_count():,} of {len(column):,} are null, the first in row "
            f"{column.is_null().arg_max()}. Drop those rows or fill them in."
        )
    array = column.to_numpy() if isinstance(column, pl.Series) else np.asarray(column)
    if array.dtype.kind not in "iufb" or array.ndim != 1:
        raise DataError(
            f"{name} must be a column of numbers; saw {array.dtype} {array.shape}. Convert it first."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(np.argmin(np.isfinite(array)))
        raise DataError(
            f"{name} must be finite; saw {array[bad]} in row {bad}. Drop such rows or correct them."
        )
    if kind is np.int64 and array.dtype.kind == "f" and not (array == np.floor(array)).all():
        raise DataError(
            f"{name} must be whole numbers; saw {array[array != np.floor(array)][0]}. Round or rescale them."
        )
    limit = 2.0**63 if kind is np.int64 else float(np.finfo(np.float32).max)
    if len(array) and (array.max() >= limit or array.min() < -limit):
        raise DataError(
            f"{name} must lie within ±{limit:.3g}; saw {array.min()} … {array.max()}. Rescale them."
        )
    return array.astype(kind, copy=False)


def _indexed(
    labels: pl.Series, vocabulary: Vocabulary | None, axis: str, unknown: Unknown
) -> tuple[Vocabulary, NDArray[np.int64]]:
    """A vocabulary (sorted labels, unless one is given) and the position of each label in it."""
    if vocabulary is None:
        if str(labels.dtype) != "String":
            return _indexed_integers(labels.to_numpy())
        vocabulary = Vocabulary(labels.unique().sort())
    found = vocabulary.positions_or_missing(labels).astype(np.int64)
    if unknown == "raise" and len(found) and found.min() < 0:
        strangers = labels.filter(found < 0).unique(maintain_order=True)
        raise VocabularyMismatch(
            f"All {axis} must be in the given vocabulary; {len(strangers):,} are not: {some(strangers.to_list())}. "
            + (
                'Pass `unknown_items="ignore"` to leave them out.'
                if axis == "items"
                else "Leave them out beforehand."
            )
        )
    return vocabulary, found


def _indexed_integers(labels: NDArray[np.int64]) -> tuple[Vocabulary, NDArray[np.int64]]:
    """Integer labels in ascending order: by counting where they are dense, by sorting where they are not."""
    highest = int(labels.max()) if len(labels) else -1
    if highest >= 4 * len(labels) + 1_000_000:
        distinct, found = np.unique(labels, return_inverse=True)
        return Vocabulary(distinct), found.astype(np.int64)
    present = np.zeros(highest + 1, dtype=bool)
    present[labels] = True
    if present.all():
        return Vocabulary.range(highest + 1), labels
    return Vocabulary(np.flatnonzero(present)), (np.cumsum(present) - 1)[labels]


def _resolved(
    key: NDArray[np.int64],
    order: NDArray[np.intp],
    times: NDArray[np.int64] | None,
    duplicates: Duplicates,
    users: Vocabulary,
    items: Vocabulary,
) -> NDArray[np.intp]:
    """The order by pair, and within a pair by time (or position); or the refusal of duplicates."""
    if duplicates != "raise":
        return np.lexsort((key,) if times is None else (times, key)).astype(np.intp)
    ranked = key[order]
    repeated = np.unique(ranked[1:][ranked[1:] == ranked[:-1]])
    width = max(1, len(items))
    shown = [
        (users.take([pair // width]).to_list()[0], items.take([pair % width]).to_list()[0])
        for pair in repeated[:5]
    ]
    raise DataError(
        f"Each user-item pair must occur once; {len(repeated):,} occur more often, such as (user, item) "
        f'{some(shown)}. Pass `duplicates="sum"`, "first" or "last" to say what they mean.'
    )
