"""Who interacted with what: a canonical sparse matrix with the names of both axes, and times where they are known."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from unblur.data.canonical import canonical, read_only
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, VocabularyMismatch, some

if TYPE_CHECKING:
    import polars as pl

Duplicates: TypeAlias = Literal["raise", "sum", "first", "last"]
Unknown: TypeAlias = Literal["raise", "ignore"]


@dataclass(frozen=True, eq=False, repr=False)
class Interactions:
    """Users × items, with the names of both axes.

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
    """When each interaction happened, aligned with `matrix.data`; `None` where times are not known."""

    def __post_init__(self) -> None:
        matrix, times = canonical(self.matrix, self.timestamps)
        if matrix.shape != (len(self.users), len(self.items)):
            raise DataError(
                f"The matrix must have one row a user and one column an item; it is {matrix.shape} for "
                f"{len(self.users):,} users and {len(self.items):,} items. Pass vocabularies of the matrix's size."
            )
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "timestamps", times)

    # ------------------------------------------------------------------------------------------ making

    @classmethod
    def from_pairs(
        cls,
        users: ArrayLike | pl.Series,
        items: ArrayLike | pl.Series,
        *,
        weights: ArrayLike | pl.Series | None = None,
        timestamps: ArrayLike | pl.Series | None = None,
        min_rating: float | None = None,
        duplicates: Duplicates = "raise",
        user_vocabulary: Vocabulary | None = None,
        item_vocabulary: Vocabulary | None = None,
        unknown_items: Unknown = "raise",
    ) -> Interactions:
        """Interactions from parallel columns, one entry an event.

        - `users`, `items`: labels, integers (not negative) or strings. Rows and columns come in sorted order of
          the labels unless a vocabulary says otherwise.
        - `weights`: positive finite numbers; `timestamps`: integers in any unit, kept as they are.
        - `min_rating`: keep events whose weight is at least this, then give every kept one weight 1.
        - `duplicates`: what to do when a pair occurs twice: ``raise``; ``sum`` the weights (the last time is kept);
          keep the ``first`` or the ``last`` (by time where there are times, else by position).
        - `unknown_items`: with `item_vocabulary`, whether an item outside it raises or is left out.

        Raises `DataError` for nulls, unequal lengths, negative ids, bad weights and duplicates, and
        `VocabularyMismatch` for labels outside a given vocabulary.
        """
        from unblur.data.assembly import assemble

        return assemble(
            users,
            items,
            weights,
            timestamps,
            min_rating,
            duplicates,
            user_vocabulary,
            item_vocabulary,
            unknown_items,
        )

    @classmethod
    def from_matrix(
        cls,
        matrix: sparse.sparray | sparse.spmatrix | NDArray[Any],
        *,
        users: Vocabulary | ArrayLike | None = None,
        items: Vocabulary | ArrayLike | None = None,
    ) -> Interactions:
        """Interactions from a users × items matrix, copied; labels are 0, 1, 2, … unless given. Zeros are dropped."""
        given: Any = matrix
        if given.ndim != 2:
            raise DataError(
                f"A matrix must have users × items; saw shape {given.shape}. Give one row a user."
            )
        made = sparse.csr_array(given, copy=True)
        return cls(made, _vocabulary(users, made.shape[0]), _vocabulary(items, made.shape[1]))

    @classmethod
    def read(cls, path: str | Path, **options: Any) -> Interactions:
        """Interactions from a file; `unblur.data.files.read` says which formats and options there are."""
        from unblur.data import files as sources

        return sources.read(path, **options)

    # ------------------------------------------------------------------------------------------ facts

    @property
    def n_users(self) -> int:
        """How many rows there are, users without interactions included."""
        return int(self.matrix.shape[0])

    @property
    def n_items(self) -> int:
        """How many columns there are, items without interactions included."""
        return int(self.matrix.shape[1])

    @property
    def n_interactions(self) -> int:
        """How many user-item pairs are present."""
        return int(self.matrix.nnz)

    @property
    def density(self) -> float:
        """The share of user-item pairs that are present."""
        return self.n_interactions / max(1, self.n_users * self.n_items)

    @cached_property
    def user_degrees(self) -> NDArray[np.int64]:
        """How many items each user has."""
        return read_only(np.diff(self.matrix.indptr).astype(np.int64))

    @cached_property
    def item_degrees(self) -> NDArray[np.int64]:
        """How many users each item has."""
        return read_only(np.bincount(self.matrix.indices, minlength=self.n_items).astype(np.int64))

    def __repr__(self) -> str:
        times = ", with timestamps" if self.timestamps is not None else ""
        return f"Interactions({self.n_users:,} users × {self.n_items:,} items, {self.n_interactions:,} pairs{times})"

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(b"unblur interactions 1")
        for vocabulary in (self.users, self.items):
            vocabulary.update_digest(digest)
        digest.update(np.ascontiguousarray(self.matrix.indptr, dtype="<i8").data)
        digest.update(np.ascontiguousarray(self.matrix.indices, dtype="<i8").data)
        digest.update(np.ascontiguousarray(self.matrix.data, dtype="<f4").data)
        if self.timestamps is not None:
            digest.update(np.ascontiguousarray(self.timestamps, dtype="<i8").data)
        return f"sha256:{digest.hexdigest()}"

    def fingerprint(self) -> str:
        """``sha256:…`` of the content: labels, pairs, weights and times, whatever file they came from."""
        return self._fingerprint

    # ------------------------------------------------------------------------------------------ views

    def select_users(self, labels: Iterable[int] | Iterable[str] | ArrayLike) -> Interactions:
        """The rows of the users named by `labels`, in that order. Raises `VocabularyMismatch` for an unknown one."""
        return self.take_users(self.users.positions(labels))

    def take_users(self, rows: ArrayLike | slice) -> Interactions:
        """The rows at the given positions (or slice, or boolean mask), in that order."""
        if isinstance(rows, slice):
            rows = np.arange(self.n_users)[rows]
        picked = np.asarray(rows)
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
        return Interactions(
            sparse.csr_array(
                (self.matrix.data[entries], self.matrix.indices[entries], indptr),
                shape=(len(picked), self.n_items),
            ),
            self.users.take(picked),
            self.items,
            None if self.timestamps is None else self.timestamps[entries],
        )

    def keep(self, mask: NDArray[np.bool_]) -> Interactions:
        """The pairs where `mask` (aligned with `matrix.data`) holds, on the same users and items."""
        if mask.dtype != bool or mask.shape != self.matrix.data.shape:
            raise DataError(
                f"`mask` must have one bool a pair, {self.n_interactions:,}; saw {mask.dtype} {mask.shape}."
            )
        indptr = np.concatenate(([0], np.cumsum(mask)))[self.matrix.indptr]
        return Interactions(
            sparse.csr_array(
                (self.matrix.data[mask], self.matrix.indices[mask], indptr), shape=self.matrix.shape
            ),
            self.users,
            self.items,
            None if self.timestamps is None else self.timestamps[mask],
        )

    def binarized(self) -> Interactions:
        """The same pairs, each with weight 1."""
        if bool((self.matrix.data == 1).all()):
            return self
        ones = sparse.csr_array(
            (np.ones_like(self.matrix.data), self.matrix.indices, self.matrix.indptr), shape=self.matrix.shape
        )
        return Interactions(ones, self.users, self.items, self.timestamps)

    def without(self, other: Interactions) -> Interactions:
        """The pairs that are not in `other`, which must have the same users and items."""
        if self.users != other.users or self.items != other.items:
            raise VocabularyMismatch(
                "Both interactions must have the same users and items to be subtracted; they differ. "
                "Bring one onto the other's vocabularies with `.onto(users=…, items=…)`."
            )
        return self.keep(~other.contains(self.rows(), self.matrix.indices))

    def contains(self, rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each pair (row position, column position) is present here; one bool a pair asked for."""
        ours = self.rows().astype(np.int64) * self.n_items + self.matrix.indices
        asked = np.asarray(rows, dtype=np.int64) * self.n_items + np.asarray(columns)
        if not len(ours):
            return np.zeros(len(asked), dtype=bool)
        found: NDArray[np.bool_] = ours[np.minimum(np.searchsorted(ours, asked), len(ours) - 1)] == asked
        return found

    def rows(self) -> NDArray[np.int32]:
        """The row position of each pair, aligned with `matrix.data` and `matrix.indices`."""
        return np.repeat(np.arange(self.n_users, dtype=np.int32), self.user_degrees)

    def onto(
        self, *, users: Vocabulary | None = None, items: Vocabulary | None = None, unknown: Unknown = "raise"
    ) -> Interactions:
        """The same pairs over other vocabularies; pairs with a label outside them raise or are ignored."""
        if unknown not in ("raise", "ignore"):
            raise DataError(f'`unknown` must be "raise" or "ignore"; saw {unknown!r}.')
        user_map = _moved(self.users, users, unknown, "user")
        item_map = _moved(self.items, items, unknown, "item")
        if user_map is None and item_map is None:
            return self
        rows, columns = self.rows().astype(np.int64), self.matrix.indices.astype(np.int64)
        rows = rows if user_map is None else user_map[rows]
        columns = columns if item_map is None else item_map[columns]
        kept = np.flatnonzero((rows >= 0) & (columns >= 0))
        if unknown == "raise" and len(kept) < len(rows):
            raise _unknown_pairs(self, rows, columns)
        to_users, to_items = self.users if users is None else users, self.items if items is None else items
        order = kept[np.argsort(rows[kept] * len(to_items) + columns[kept])]
        indptr = np.concatenate(([0], np.cumsum(np.bincount(rows[order], minlength=len(to_users)))))
        return Interactions(
            sparse.csr_array(
                (self.matrix.data[order], columns[order], indptr), shape=(len(to_users), len(to_items))
            ),
            to_users,
            to_items,
            None if self.timestamps is None else self.timestamps[order],
        )

    def to_frame(self) -> pl.DataFrame:
        """A polars table with the columns user, item, weight and, where there are times, timestamp."""
        import polars as pl

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


def _moved(old: Vocabulary, new: Vocabulary | None, unknown: Unknown, axis: str) -> NDArray[np.intp] | None:
    """The position in `new` of each label of `old` (-1 where there is none); `None` when nothing moves."""
    if new is None or new is old or new == old:
        return None
    return new.positions_or_missing(old)


def _unknown_pairs(
    data: Interactions, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> VocabularyMismatch:
    for axis, moved, names, own in (
        ("users", rows, data.users, data.rows()),
        ("items", columns, data.items, data.matrix.indices),
    ):
        strangers = np.unique(own[moved < 0])
        if len(strangers):
            listed = some(names.take(strangers[:6]).to_list() + ["…"] * max(0, len(strangers) - 6))
            return VocabularyMismatch(
                f"All {axis} must be in the given vocabulary; {len(strangers):,} are not: {listed}. "
                'Use that vocabulary when reading, or pass `unknown="ignore"` to leave them out.'
            )
    raise AssertionError("called without unknown labels")


def check_train(train: Interactions) -> None:
    """Raise `DataError` for interactions without anything to learn: no pair, or every pair."""
    if not 0 < train.density < 1:
        raise DataError(
            "The density of interactions to learn from must lie strictly between 0 and 1; "
            f"{train!r} has density {train.density:g}. Check what was read, and what counts as an interaction."
        )
