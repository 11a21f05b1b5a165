"""Interactions of users with items: a canonical sparse matrix with the labels of both axes and, if known, times."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from unblur.data.formats.events import Events, RequestedColumns, frame_events, read_events
from unblur.data.formats.labels import Labels
from unblur.data.formats.meaning import Meaning, OnNull
from unblur.data.formats.numbers import as_array
from unblur.data.formats.opening import FileFormat
from unblur.data.formats.times import TimeUnit, moments
from unblur.data.intervals import Intervals
from unblur.data.vocabulary import (
    Codes,
    Unknown as Unknown,
    Vocabulary,
    encoded,
    indexed,
    label_series,
    not_in_vocabulary,
)
from unblur.errors import Argument, DataError, Row, VocabularyMismatch, about, check_word, rows_named, some
from unblur.progress import Progress, ProgressEvent, silent

Duplicates: TypeAlias = Literal["raise", "sum", "first", "last"]


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """A users × items matrix with the labels of both axes.

    The matrix is canonical (rows sorted, no duplicates, no stored zeros, float32) and read-only. A weight is a
    positive finite number, 1 for plain implicit feedback. Build one with `from_pairs`, `from_matrix` or `read`.
    """

    matrix: sparse.csr_array
    """(n_users, n_items) float32, read-only."""
    users: Vocabulary
    """The label of each row."""
    items: Vocabulary
    """The label of each column."""
    timestamps: NDArray[np.int64] | None = None
    """The time of each interaction, aligned with `matrix.data`; `None` if unknown."""
    order: NDArray[np.int64] | None = None
    """The row of each pair in its source, from 0, aligned with `matrix.data`; `None` if the source had no rows. Ties in time
    keep this order. It is not part of the content: the fingerprint leaves it out."""

    def __post_init__(self) -> None:
        matrix, times, order = _canonical(self.matrix, self.timestamps, self.order)
        DataError.unless(
            matrix.shape == (len(self.users), len(self.items)),
            f"The matrix must have one row per user and one column per item; it is {matrix.shape} for "
            f"{len(self.users):,} users and {len(self.items):,} items. Pass vocabularies of the matrix's size.",
        )
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "timestamps", times)
        object.__setattr__(self, "order", order)

    # ------------------------------------------------------------------------------------------ making

    @classmethod
    def from_pairs(
        cls,
        users: ArrayLike | pl.Series,
        items: ArrayLike | pl.Series,
        *,
        weights: ArrayLike | pl.Series | None = None,
        timestamps: ArrayLike | pl.Series | None = None,
        order: ArrayLike | None = None,
        min_rating: float | None = None,
        ratings: str | None = None,
        duplicates: Duplicates = "raise",
        user_vocabulary: Vocabulary | None = None,
        item_vocabulary: Vocabulary | None = None,
        unknown_items: Unknown = "raise",
    ) -> Interactions:
        """Interactions from parallel columns, one entry per event.

        - `users`, `items`: labels, integers (not negative) or strings. Rows and columns are in sorted order of the labels
          unless a vocabulary sets the order.
        - `weights`: positive finite numbers; `timestamps`: integers in any unit, which is not converted, or dates and times,
          which become whole seconds since 1970 (UTC).
        - `order`: the row of each event in its source; 0, 1, 2, … if `None`.
        - `min_rating`: select events with at least this weight, and set their weights to 1.
        - `duplicates`: the handling of repeated pairs: ``raise``; ``sum`` the weights (with the last time); take the
          ``first`` or the ``last`` (by time, if there are times; ties, and events without times, by `order`).
        - `unknown_items`: with `item_vocabulary`, raise for items outside it or leave them out.

        Raises `DataError` for nulls, unequal lengths, negative ids, bad weights and duplicates, and `VocabularyMismatch`
        for labels outside a given vocabulary.
        """
        selected = selection(min_rating, ratings)
        columns: dict[str, Any] = {
            "users": label_series(users, "users"),
            "items": label_series(items, "items"),
        }
        kinds = {
            "weights": np.float32 if selected is None else None,
            "timestamps": np.int64,
            "order": np.int64,
        }
        for name, numbers in {"weights": weights, "timestamps": moments(timestamps), "order": order}.items():
            if numbers is not None:
                columns[name] = as_array(numbers, name, kinds[name])
        if len({len(column) for column in columns.values()}) > 1:
            seen = ", ".join(f"{name} {len(column):,}" for name, column in columns.items())
            raise DataError(
                f"All columns must have the same length; saw {seen}. Check that they come from the same rows."
            )
        DataError.unless(
            selected is None or weights is not None,
            Argument("min_rating"),
            " needs weights to compare with; none were given. Name the rating column.",
        )
        columns.update({axis: encoded(columns[axis]) for axis in ("users", "items")})
        return cls._of_events(
            columns, selected, duplicates, (user_vocabulary, item_vocabulary), unknown_items
        )

    @classmethod
    def _of_events(
        cls,
        columns: dict[str, Any],
        selected: Intervals | None,
        duplicates: Duplicates,
        vocabularies: tuple[Vocabulary | None, Vocabulary | None],
        unknown_items: Unknown,
    ) -> Interactions:
        """Interactions from parallel columns, checked one by one, with users and items as codes; see `from_pairs`.

        `selected` are the ratings to select by, if `columns` has them as weights. The dictionary is emptied on the way, so
        that of many millions of events no column is in memory twice.
        """
        check_word("duplicates", duplicates, get_args(Duplicates))
        check_word("unknown_items", unknown_items, get_args(Unknown))
        if selected is not None:
            if duplicates in ("first", "last"):
                columns = _without_repeats(columns, duplicates)
            columns = _filtered(columns, selected.contain(columns.pop("weights")))
        values = columns.get("weights")
        if values is not None and not (values > 0).all():
            bad = int(np.argmin(values > 0))
            raise DataError(
                f"weights must be positive (and not vanish in float32); saw {values[bad]} in ",
                Row(bad),
                ". Drop such rows, or give ",
                Argument("min_rating"),
                " to turn ratings into likes.",
            )
        row_names, columns["users"] = indexed(columns["users"], vocabularies[0], "users", "raise")
        column_names, columns["items"] = indexed(columns["items"], vocabularies[1], "items", unknown_items)
        in_vocabulary = columns["items"] >= 0
        if not in_vocabulary.all():
            columns = _filtered(columns, in_vocabulary)
        del in_vocabulary, values
        indptr, indices, chosen, values = _distinct_pairs(columns, duplicates, row_names, column_names)
        times = columns.pop("timestamps")[chosen] if "timestamps" in columns else None
        order = columns.pop("order")[chosen] if "order" in columns else chosen.astype(np.int64)
        matrix = sparse.csr_array((values, indices, indptr), shape=(len(row_names), len(column_names)))
        return cls(matrix, row_names, column_names, times, order)

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        user: str | int | None = None,
        item: str | int | None = None,
        weight: str | int | None = None,
        timestamp: str | int | None = None,
        time_format: str | None = None,
        time_unit: TimeUnit | None = None,
        on_null: OnNull = "raise",
        min_rating: float | None = None,
        ratings: str | None = None,
        event_weights: str | Mapping[str, float] | None = None,
        duplicates: Duplicates = "raise",
        labels: Labels = "auto",
        user_vocabulary: Vocabulary | None = None,
        item_vocabulary: Vocabulary | None = None,
        unknown_items: Unknown = "raise",
    ) -> Interactions:
        """Interactions from a data frame of pandas, polars, pyarrow or another library that narwhals knows, a row an event.

        - `user`, `item`, `weight`, `timestamp`: the columns, by name or by position from 0; found by usual names if `None`.
          ``"ignore"`` leaves `weight` or `timestamp` out.
        - Everything else is as in `Interactions.read`, whose `rating` is `weight` here.

        Raises `DataError` for anything but a frame, for columns that are missing or ambiguous, and for invalid values.
        """
        meaning = Meaning(
            selection(min_rating, ratings),
            duplicates in ("first", "last"),
            labels,
            time_format,
            time_unit,
            on_null,
            event_weights,
        )
        vocabularies = (user_vocabulary, item_vocabulary)
        try:
            requested: RequestedColumns = {
                "user": user,
                "item": item,
                "rating": weight,
                "timestamp": timestamp,
            }
            events = frame_events(frame, requested, meaning)
            return cls.from_events(events, meaning, duplicates, vocabularies, unknown_items)
        except DataError as problem:
            raise type(problem)(
                *(
                    Argument("weight", part.value)
                    if isinstance(part, Argument) and part.name == "rating"
                    else part
                    for part in problem.args
                )
            ) from None

    @classmethod
    def from_matrix(
        cls,
        matrix: sparse.sparray | sparse.spmatrix | NDArray[Any] | Any,
        *,
        users: Vocabulary | ArrayLike | None = None,
        items: Vocabulary | ArrayLike | None = None,
    ) -> Interactions:
        """Interactions from a users × items matrix, copied; labels are 0, 1, 2, … unless given. Zeros are dropped.

        Of a data frame, the names of the columns are the items, and pandas' index the users, unless they are given; missing
        values are dropped as zeros are.
        """
        untyped: Any = matrix  # scipy's stubs have neither `ndim` nor `shape` for this union
        if hasattr(untyped, "columns") and hasattr(untyped, "shape"):
            try:
                # Tables of pyarrow have rows of numbers only by way of another frame.
                frame: Any = pl.from_arrow(untyped) if hasattr(untyped, "column_names") else untyped
                untyped = np.nan_to_num(np.asarray(frame.to_numpy(), dtype=np.float64), posinf=np.inf)
            except (TypeError, ValueError, pl.exceptions.PolarsError) as problem:
                raise DataError(
                    f"A frame that is a matrix must hold numbers alone, users in its rows and items in its columns; {problem}. Leave "
                    "other columns out, labels of users go to `users`; a frame of events is read by `Interactions.from_frame`."
                ) from None
            items = list(frame.columns) if items is None else items
            users = list(frame.index) if users is None and hasattr(frame, "index") else users
        DataError.unless(
            hasattr(untyped, "ndim") and hasattr(untyped, "shape"),
            f"A matrix must be one of SciPy or NumPy, or a data frame; saw {type(untyped).__name__}. For events use "
            "`Interactions.from_pairs` or `from_frame`.",
        )
        DataError.unless(
            untyped.ndim == 2,
            f"A matrix must have users × items; saw shape {untyped.shape}. Give one row per user.",
        )
        rows = sparse.csr_array(untyped, copy=True)
        return cls(rows, _vocabulary(users, rows.shape[0]), _vocabulary(items, rows.shape[1]))

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        format: FileFormat | None = None,
        user: str | int | None = None,
        item: str | int | None = None,
        rating: str | int | None = None,
        timestamp: str | int | None = None,
        time_format: str | None = None,
        delimiter: str | None = None,
        header: bool | None = None,
        min_rating: float | None = None,
        ratings: str | None = None,
        event_weights: str | Mapping[str, float] | None = None,
        time_unit: TimeUnit | None = None,
        parts: str | None = None,
        on_null: OnNull = "raise",
        duplicates: Duplicates = "raise",
        labels: Labels = "auto",
        user_vocabulary: Vocabulary | None = None,
        item_vocabulary: Vocabulary | None = None,
        unknown_items: Unknown = "raise",
        progress: Progress = silent,
    ) -> Interactions:
        """Read interactions from a file, or from the part files in a folder.

        - `path`: a file, also compressed (gzip, zstd) if it is text; or a folder, of which all files of a known format are
          read, in the order of their names, below folders ``name=value`` as well, whose names are columns.
        - `parts`: the files of the folder instead, as a pattern of names such as ``"*.csv"``.
        - `format`: ``parquet``; ``arrow`` (IPC, Feather); ``csv`` (any delimited text: CSV, TSV, MovieLens' ``u.data``,
          ``ratings.dat`` and ``ratings.csv``); ``jsonl`` (an object a line); ``adjacency`` (LightGCN's ``user item item …``);
          ``recbole`` (``.inter``); ``npz`` (a SciPy matrix: labels are positions, values weights); ``npy`` (integer pairs).
          Found by name and content if `None`.
        - `user`, `item`, `rating`, `timestamp`: column names, or positions from 0. Found by usual names if `None`; a file
          without header holds user, item, rating, timestamp in that order, or user, item, timestamp if the third looks like
          times. A column of lists of items (baskets) gives an event for each.
        - `rating`: the column of weights, which must be positive. A column called ``weight`` is used by default. A column
          called ``rating`` or the like that is not all ones needs a meaning: name it here (weights), give `min_rating`
          (likes), or pass ``"ignore"`` (every row is an interaction).
        - `min_rating`, `ratings`: select rows rated at least this, or within intervals such as ``"[1,2);[4,5]"``, each
          with weight 1; repeats are handled before.
        - `event_weights`: the weights of events in words, such as ``{"view": 1, "cart": 3, "buy": 5}`` or ``"view=1,cart=3,buy=5"``.
          The words stand in the column `rating`, or in one called ``event_type``, ``action`` or the like. Rows of a word of
          weight 0 are left out; so are those of other words, which are counted.
        - `on_null`: ``"drop"`` leaves out rows without a value in a column that is read, and counts them; ``"raise"`` refuses
          them. ``NULL``, ``NA``, ``nan``, ``\\N`` and the like are no values, unless they are labels under ``labels="str"``.
        - `timestamp`: integers stay in their own unit, floats are rounded down, dates become whole seconds since 1970
          (UTC). Text holds integers, floats or ISO 8601 dates; integers of 8 digits are dates if all can be, from 1900 to
          2100. ``"ignore"`` leaves times out.
        - `time_format`: of dates in any other form, as `strftime` has it: ``"%d/%m/%Y"``, ``"%m/%d/%Y %H:%M"``.
        - `time_unit`: of times that are numbers: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"`` since 1970; they become whole seconds, as
          dates do.
        - `delimiter`, `header`: of delimited text; found from the first lines if `None`. A delimiter may be ``"::"``.
        - `labels`: ``"auto"`` reads text as integers if all of it is integers without leading zeros, else as strings;
          ``"int"`` and ``"str"`` set the type. ``"auto"`` refuses text that is hardly a label, such as one with a
          line end; ``"str"`` takes it. Floats and decimals that are whole numbers become integers, bytes text or UUIDs.
        - `duplicates`, `user_vocabulary`, `item_vocabulary`, `unknown_items`: as in `Interactions.from_pairs`.

        What was guessed, left out or doubtful is told to `progress`, in events of the kind ``note``. The log is read in
        batches: 100 million rows of Parquet take 7 GB at most. Raises `DataError` for a file that is missing, empty, damaged
        or ambiguous, and for invalid values.
        """
        meaning = Meaning(
            selection(min_rating, ratings),
            duplicates in ("first", "last"),
            labels,
            time_format,
            time_unit,
            on_null,
            event_weights,
        )
        events = read_events(
            path,
            {"user": user, "item": item, "rating": rating, "timestamp": timestamp},
            meaning,
            format=format,
            delimiter=delimiter,
            header=header,
            parts=parts,
            progress=progress,
        )
        progress(ProgressEvent("index", 0, 1))
        vocabularies = (user_vocabulary, item_vocabulary)
        data = cls.from_events(events, meaning, duplicates, vocabularies, unknown_items)
        progress(ProgressEvent("index", 1, 1))
        return data

    @classmethod
    def from_events(
        cls,
        events: Events,
        meaning: Meaning,
        duplicates: Duplicates,
        vocabularies: tuple[Vocabulary | None, Vocabulary | None],
        unknown_items: Unknown,
    ) -> Interactions:
        """Interactions from the events of a log, read with this meaning of their values; their columns are taken."""
        if events.shape is not None:
            users, items = (
                Vocabulary.range(size) if vocabulary is None else vocabulary
                for size, vocabulary in zip(events.shape, vocabularies, strict=True)
            )
            vocabularies = (users, items)
        with about(events.source), rows_named(events.name):
            data = cls._of_events(
                events.columns,
                meaning.selected if meaning.repeats_first else None,
                duplicates,
                vocabularies,
                unknown_items,
            )
            DataError.unless(
                meaning.selected is None or data.n_interactions,
                f"Some row must be rated within {meaning.selected}; none is. Lower ",
                Argument("min_rating"),
                ".",
            )
        return data

    # ------------------------------------------------------------------------------------------ facts

    @property
    def n_users(self) -> int:
        """The number of users, including users without interactions."""
        return int(self.matrix.shape[0])

    @property
    def n_items(self) -> int:
        """The number of items, including items without interactions."""
        return int(self.matrix.shape[1])

    @property
    def n_interactions(self) -> int:
        """The number of user-item pairs with an interaction."""
        return int(self.matrix.nnz)

    @property
    def density(self) -> float:
        """The share of all user-item pairs that have an interaction."""
        return self.n_interactions / max(1, self.n_users * self.n_items)

    @cached_property
    def user_degrees(self) -> NDArray[np.int64]:
        """The number of items of each user, (n_users,)."""
        return _read_only(np.diff(self.matrix.indptr).astype(np.int64))

    @cached_property
    def item_degrees(self) -> NDArray[np.int64]:
        """The number of users of each item, (n_items,)."""
        return _read_only(np.bincount(self.matrix.indices, minlength=self.n_items).astype(np.int64))

    @cached_property
    def item_ranks(self) -> NDArray[np.int64]:
        """The rank of each item among equals, (n_items,), from 0: by its count, largest first, then by its first row in the
        source, if rows have an order, then by position. So a choice among equals does not rest on labels.
        """
        first_row = np.full(self.n_items, np.iinfo(np.int64).max)
        if self.order is not None:
            np.minimum.at(first_row, self.matrix.indices, self.order)
        ranks = np.empty(self.n_items, dtype=np.int64)
        ranks[np.lexsort((first_row, -self.item_degrees))] = np.arange(self.n_items)
        return _read_only(ranks)

    def __repr__(self) -> str:
        times = ", with timestamps" if self.timestamps is not None else ""
        return f"Interactions({self.n_users:,} users × {self.n_items:,} items, {self.n_interactions:,} pairs{times})"

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(b"unblur interactions 1")
        for vocabulary in (self.users, self.items):
            vocabulary.update_digest(digest)
        for array in (self.matrix.indptr, self.matrix.indices, self.matrix.data, self.timestamps):
            if array is not None:
                stored = "<f4" if array is self.matrix.data else "<i8"
                digest.update(np.ascontiguousarray(array, dtype=stored).data)
        return f"sha256:{digest.hexdigest()}"

    def fingerprint(self) -> str:
        """``sha256:…`` of the content: labels, pairs, weights and times, but not their order in a file."""
        return self._fingerprint

    def order_digest(self) -> str | None:
        """``sha256:…`` of the order of the source's rows; `None` if there were none."""
        if self.order is None:
            return None
        return f"sha256:{hashlib.sha256(np.argsort(self.order).astype('<i8').data).hexdigest()}"

    # ------------------------------------------------------------------------------------------ views

    def select_users(self, labels: Iterable[int] | Iterable[str] | ArrayLike) -> Interactions:
        """The rows of the users named by `labels`, in that order. Raises `VocabularyMismatch` for an unknown one."""
        return self.take_users(self.users.positions(labels))

    def take_users(self, rows: ArrayLike | slice) -> Interactions:
        """The rows at the given positions (or slice, or boolean mask), in that order."""
        if isinstance(rows, slice) and range(self.n_users)[rows] == range(self.n_users):
            return self
        picked = np.arange(self.n_users)[rows] if isinstance(rows, slice) else np.asarray(rows)
        if picked.dtype == bool and picked.shape == (self.n_users,):
            picked = np.flatnonzero(picked)
        if picked.size and (
            picked.dtype.kind not in "iu" or picked.min() < 0 or picked.max() >= self.n_users
        ):
            raise DataError(
                f"Rows must be whole numbers from 0 to {self.n_users - 1:,}, a slice, or one bool a row; "
                f"saw {some(picked.ravel().tolist())}. Use `select_users` to pick users by label."
            )
        picked = picked.astype(np.intp)
        lengths = self.user_degrees[picked]
        indptr = np.concatenate(([0], np.cumsum(lengths)))
        entries = np.repeat(self.matrix.indptr[picked] - indptr[:-1], lengths) + np.arange(indptr[-1])
        return self._arranged(
            entries, self.matrix.indices[entries], indptr, self.users.take(picked), self.items
        )

    def keep(self, mask: NDArray[np.bool_]) -> Interactions:
        """The pairs where `mask` (aligned with `matrix.data`) holds, on the same users and items."""
        DataError.unless(
            mask.dtype == bool and mask.shape == self.matrix.data.shape,
            f"`mask` must have one bool a pair, {self.n_interactions:,}; saw {mask.dtype} {mask.shape}.",
        )
        indptr = np.concatenate(([0], np.cumsum(mask)))[self.matrix.indptr]
        return self._arranged(mask, self.matrix.indices[mask], indptr, self.users, self.items)

    def binarized(self) -> Interactions:
        """The same pairs, each with weight 1."""
        if bool((self.matrix.data == 1).all()):
            return self
        ones = sparse.csr_array(
            (np.ones_like(self.matrix.data), self.matrix.indices, self.matrix.indptr), shape=self.matrix.shape
        )
        return Interactions(ones, self.users, self.items, self.timestamps, self.order)

    def without(self, other: Interactions) -> Interactions:
        """The pairs that are not in `other`, which must have the same users and items."""
        VocabularyMismatch.unless(
            self.users == other.users and self.items == other.items,
            "Both interactions must have the same users and items to be subtracted; they differ. "
            "Bring one onto the other's vocabularies with `.onto(users=…, items=…)`.",
        )
        return self.keep(~other.contains(self.rows(), self.matrix.indices))

    def contains(self, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
        """A mask of the pairs (row position, column position) that are interactions here, (n_pairs,)."""
        # Keys of a canonical matrix are sorted, so membership is a binary search.
        keys = self.rows().astype(np.int64) * self.n_items + self.matrix.indices
        queries = np.asarray(rows, dtype=np.int64) * self.n_items + np.asarray(columns)
        if not len(keys):
            return np.zeros(len(queries), dtype=bool)
        present: NDArray[np.bool_] = (
            keys[np.minimum(np.searchsorted(keys, queries), len(keys) - 1)] == queries
        )
        return present

    def rows(self) -> NDArray[np.int32]:
        """The row position of each pair, aligned with `matrix.data` and `matrix.indices`."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), self.user_degrees)

    def onto(
        self, *, users: Vocabulary | None = None, items: Vocabulary | None = None, unknown: Unknown = "raise"
    ) -> Interactions:
        """The same pairs over other vocabularies; pairs with a label outside them raise or are ignored."""
        check_word("unknown", unknown, get_args(Unknown))
        to_users, to_items = self.users if users is None else users, self.items if items is None else items
        if to_users == self.users and to_items == self.items:
            return self
        row_of = _moved(self.users, to_users, self.user_degrees, "users", unknown)
        column_of = _moved(self.items, to_items, self.item_degrees, "items", unknown)
        rows, columns = row_of[self.rows()], column_of[self.matrix.indices]
        inside = (rows >= 0) & (columns >= 0)
        entries: NDArray[Any] | slice = slice(None) if inside.all() else inside
        if not (_ascends(row_of) and _ascends(column_of)):
            entries = np.flatnonzero(inside)
            sizes = (len(to_users), len(to_items))
            entries = entries[_sorted_by_pair(rows[entries], columns[entries], sizes)]
        indptr = np.searchsorted(rows[entries], np.arange(len(to_users) + 1, dtype=np.int32))
        # Where all pairs stay in place, weights, times and order are shared, not copied.
        return self._arranged(entries, columns[entries], indptr, to_users, to_items)

    def _arranged(
        self,
        entries: NDArray[Any] | slice,
        columns: NDArray[Any],
        indptr: NDArray[Any],
        users: Vocabulary,
        items: Vocabulary,
    ) -> Interactions:
        """The pairs at `entries` (positions, a mask or a slice) of ``matrix.data``, with new columns and rows."""
        return Interactions(
            sparse.csr_array((self.matrix.data[entries], columns, indptr), shape=(len(users), len(items))),
            users,
            items,
            None if self.timestamps is None else self.timestamps[entries],
            None if self.order is None else self.order[entries],
        )

    def to_frame(self) -> pl.DataFrame:
        """A polars table with the columns user, item, weight and, if there are times, timestamp."""
        columns: dict[str, Any] = {
            "user": self.users.take(self.rows()).series,
            "item": self.items.take(self.matrix.indices).series,
            "weight": self.matrix.data,
        }
        if self.timestamps is not None:
            columns["timestamp"] = self.timestamps
        return pl.DataFrame(columns)


def _vocabulary(labels: Vocabulary | ArrayLike | None, size: int) -> Vocabulary:
    if isinstance(labels, Vocabulary):
        return labels
    return Vocabulary.range(size) if labels is None else Vocabulary(labels)


def _moved(
    old: Vocabulary, new: Vocabulary, degrees: NDArray[np.int64], axis: str, unknown: Unknown
) -> NDArray[np.int32]:
    """The position in `new` of each label of `old`; of labels outside `new`, those that occur raise or are −1."""
    if new == old:
        return np.arange(len(old), dtype=np.int32)
    moved = new.positions_or_missing(old).astype(np.int32)
    missing = (moved < 0) & (degrees > 0)
    if unknown == "raise" and missing.any():
        raise not_in_vocabulary(
            axis,
            old.take(np.flatnonzero(missing)).series,
            "Use that vocabulary when reading, or pass ",
            Argument("unknown", "ignore"),
            " to leave them out.",
        )
    return moved


def _ascends(positions: NDArray[np.int32]) -> bool:
    """Whether the positions that are not −1 ascend: then what is sorted by the old ones is by the new ones."""
    return bool((np.diff(positions[positions >= 0]) > 0).all())


def check_interactions(value: object, call: str) -> None:
    """Raise `DataError`, with the call that makes them, unless the argument of a call is interactions."""
    if isinstance(value, Interactions):
        return
    kind = type(value).__name__
    if hasattr(value, "columns"):
        advice = "Make them of it: `Interactions.from_frame(frame, user=…, item=…)`."
    elif hasattr(value, "ndim") and hasattr(value, "shape") and value.ndim == 2:
        advice = "Make them of it: `Interactions.from_matrix(matrix)`."
    elif isinstance(value, Path):
        advice = "Read it: `Interactions.read(path)`."
    elif isinstance(value, str | int | np.integer | list | tuple | np.ndarray):
        advice = (
            "Users are given as their rows: `data.select_users(labels)`, or `Interactions.from_pairs(users, items)` for new ones; "
            "a file is read by `Interactions.read(path)`."
        )
    else:
        advice = (
            "Take the part that is meant, such as `split.train`."
            if hasattr(value, "train")
            else "Make them by `Interactions.read`."
        )
    raise DataError(f"{call} takes Interactions; saw {kind}. {advice}")


def check_train(train: Interactions) -> None:
    """Raise `DataError` for interactions that nothing can be learned from: no pair, or every pair."""
    DataError.unless(
        0 < train.density < 1,
        "The density of interactions to learn from must lie strictly between 0 and 1; "
        f"{train!r} has density {train.density:g}. Check what was read, and what counts as an interaction.",
    )


def chronology(times: NDArray[Any] | None, rows: NDArray[Any]) -> NDArray[np.int64]:
    """The place of each event in the order of time, from 0; those of one moment, or without times, are in that of `rows`."""
    places = np.empty(len(rows), dtype=np.int64)
    places[np.lexsort((rows,) if times is None else (rows, times))] = np.arange(len(rows))
    return places


def _canonical(
    matrix: sparse.csr_array, timestamps: NDArray[Any] | None, order: NDArray[Any] | None
) -> tuple[sparse.csr_array, NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """The matrix in canonical form, and times and order of its pairs; sorted arrays are not copied.

    Both are aligned with ``matrix.data``. Raises `DataError` for repeated pairs, weights that are not positive and finite,
    and times or an order that are not aligned.
    """
    matrix = sparse.csr_array(matrix)
    aligned = {
        noun: np.asarray(array, dtype=np.int64)
        for noun, array in (("timestamp", timestamps), ("place in the order", order))
        if array is not None
    }
    for noun, array in aligned.items():
        DataError.unless(
            len(array) == matrix.nnz,
            f"There must be one {noun} for each of the {matrix.nnz:,} pairs; saw {len(array):,}. Align.",
        )
    if not matrix.has_sorted_indices:
        # scipy sorts data along with indices: entry numbers as data give the permutation for all arrays.
        entries = sparse.csr_array(
            (np.arange(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape
        ).copy()
        entries.sort_indices()
        matrix = sparse.csr_array(
            (matrix.data[entries.data], entries.indices, entries.indptr), shape=matrix.shape
        )
        aligned = {noun: array[entries.data] for noun, array in aligned.items()}
    # Indices must ascend within rows; the steps from one row to the next are set to 1, which passes.
    steps = np.diff(matrix.indices)
    steps[matrix.indptr[1:-1][(matrix.indptr[1:-1] > 0) & (matrix.indptr[1:-1] < matrix.nnz)] - 1] = 1
    DataError.unless(
        (steps > 0).all(),
        "Each user-item pair must occur once in a matrix; some occur twice. "
        "Call `sum_duplicates()` on it, or use `Interactions.from_pairs(…, duplicates=…)`.",
    )
    with np.errstate(over="ignore"):
        data = np.asarray(matrix.data, dtype=np.float32)
    if bool((data == 0).any()):
        nonzero = data != 0
        indptr = np.concatenate(([0], np.cumsum(nonzero)))[matrix.indptr]
        matrix = sparse.csr_array((data[nonzero], matrix.indices[nonzero], indptr), shape=matrix.shape)
        data, aligned = matrix.data, {noun: array[nonzero] for noun, array in aligned.items()}
    if not bool((data > 0).all()) or not bool(np.isfinite(data).all()):
        raise DataError(
            f"Weights must be positive finite numbers; saw {data[~((data > 0) & np.isfinite(data))][0]}. "
            "Drop or rescale such rows, or give ",
            Argument("min_rating"),
            " to turn ratings into likes.",
        )
    small = np.int32 if max(matrix.nnz, *matrix.shape) < 2**31 else np.int64
    parts = (data, matrix.indices.astype(small, copy=False), matrix.indptr.astype(small, copy=False))
    matrix = sparse.csr_array(tuple(map(_read_only, parts)), shape=matrix.shape)
    matrix.has_sorted_indices = True
    matrix.has_canonical_format = True
    times, order = (
        _read_only(aligned[noun]) if noun in aligned else None for noun in ("timestamp", "place in the order")
    )
    return matrix, times, order


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view of the array that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def selection(min_rating: float | None, ratings: str | None) -> Intervals | None:
    """The ratings of the events to select; `None` for all events. Raises `DataError` if both arguments are given."""
    DataError.unless(
        min_rating is None or ratings is None,
        Argument("min_rating"),
        " and ",
        Argument("ratings"),
        " both say which ratings count. Give one of them.",
    )
    if ratings is not None:
        return Intervals.parse(ratings)
    return None if min_rating is None else Intervals.from_least(min_rating)


def _without_repeats(columns: dict[str, Any], duplicates: Literal["first", "last"]) -> dict[str, Any]:
    """The events but for those that repeat a pair, of which the first or the last in time remains."""
    users, items = (indexed(columns[axis], None, axis, "raise") for axis in ("users", "items"))
    in_time = _in_time(columns, len(users[1]))
    sizes = (len(users[0]), len(items[0]))
    events = in_time[_sorted_by_pair(users[1][in_time], items[1][in_time], sizes)]
    starts, ends = _bounds(_repeats(users[1], items[1], events))
    remaining = np.zeros(len(events), dtype=bool)
    remaining[events[starts if duplicates == "first" else ends]] = True
    return _filtered(columns, remaining)


def _filtered(columns: dict[str, Any], mask: NDArray[np.bool_]) -> dict[str, Any]:
    """The entries of parallel columns, codes or arrays, where `mask` holds; their order is that of the events."""
    columns.setdefault("order", np.arange(len(mask)))
    return {
        name: column.filter(mask) if isinstance(column, Codes) else column[mask]
        for name, column in columns.items()
    }


def _distinct_pairs(
    columns: dict[str, Any], duplicates: Duplicates, users: Vocabulary, items: Vocabulary
) -> tuple[NDArray[np.integer[Any]], NDArray[np.int32], NDArray[np.integer[Any]], NDArray[np.float32]]:
    """The distinct pairs, sorted by row and column: the pointers of rows, the columns, the event and the weight of each.

    Columns of users and items hold positions, and are taken out of `columns`.
    """
    rows, column_of, weights = columns.pop("users"), columns.pop("items"), columns.pop("weights", None)

    def weights_of(events: NDArray[Any]) -> NDArray[np.float32]:
        return np.ones(len(events), dtype=np.float32) if weights is None else weights[events]

    sizes = (len(users), len(items))
    events = _sorted_by_pair(rows, column_of, sizes)
    repeated = _repeats(rows, column_of, events)
    if not repeated.any():
        chosen, values = events, weights_of(events)
    elif duplicates == "raise":
        again = events[repeated]
        pairs = np.unique(np.stack((rows[again], column_of[again])), axis=1)
        examples = zip(users.take(pairs[0, :5]).to_list(), items.take(pairs[1, :5]).to_list(), strict=True)
        raise DataError(
            f"Each user-item pair must occur once; {pairs.shape[1]:,} occur more often, such as (user, item) "
            f"{some(examples)}. Pass ",
            Argument("duplicates", "sum"),
            ', "first" or "last" to say what they mean.',
        )
    else:
        in_time = _in_time(columns, len(rows))
        events = in_time[_sorted_by_pair(rows[in_time], column_of[in_time], sizes)]
        starts, ends = _bounds(repeated)
        chosen = events[starts if duplicates == "first" else ends]
        with np.errstate(over="ignore"):  # a sum that is not finite is refused as a weight
            values = (
                np.add.reduceat(weights_of(events), starts) if duplicates == "sum" else weights_of(chosen)
            )
    indptr = np.searchsorted(rows[chosen], np.arange(len(users) + 1, dtype=np.int32))
    return indptr.astype(chosen.dtype), column_of[chosen], chosen, values


def _in_time(columns: dict[str, Any], n_events: int) -> NDArray[np.int64]:
    """The events in the order of time; those of one moment, or without times, in that of their rows."""
    order = columns.get("order", np.arange(n_events))
    times = columns.get("timestamps")
    return np.lexsort((order,) if times is None else (order, times))


def _bounds(repeated: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last event of each pair, among sorted events."""
    starts = np.flatnonzero(~repeated)
    return starts, np.append(starts, len(repeated))[1:] - 1


def _sorted_by_pair(
    rows: NDArray[np.int32], columns: NDArray[np.int32], sizes: tuple[int, int]
) -> NDArray[np.integer[Any]]:
    """The events by row, then by column, then as they are: two counting sorts, which are stable.

    They take 14 bytes an event of memory; a sort of (row, column) as one number takes 16 and twice the time.
    """
    by_column = _counting_sort(columns, sizes[1])
    events: NDArray[np.integer[Any]] = by_column[_counting_sort(rows[by_column], sizes[0])]
    return events


def _counting_sort(keys: NDArray[np.int32], size: int) -> NDArray[np.integer[Any]]:
    """The permutation that sorts keys below `size`; equal ones stay in order."""
    # From rows to columns scipy sorts by counting: one row for each key, in whose columns the rows then stand in order.
    pointers = np.arange(len(keys) + 1, dtype=np.int32 if len(keys) < 2**31 - 1 else np.int64)
    table: Any = (np.empty(len(keys), dtype=np.int8), keys, pointers)
    table = sparse.csr_array(table, shape=(len(keys), size))
    ordered: NDArray[np.integer[Any]] = table.tocsc().indices
    return ordered


def _repeats(
    rows: NDArray[np.int32], columns: NDArray[np.int32], events: NDArray[np.integer[Any]]
) -> NDArray[np.bool_]:
    """Whether each of the sorted events is of the same pair as the one before."""
    again = np.zeros(len(events), dtype=bool)
    for values in (rows, columns):
        ordered = values[events]
        same = ordered[1:] == ordered[:-1]
        again[1:] = same if values is rows else again[1:] & same
    return again
