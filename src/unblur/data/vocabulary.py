"""Vocabularies: the labels of a matrix axis, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from unblur.errors import Argument, DataError, Row, VocabularyMismatch, some

Unknown: TypeAlias = Literal["raise", "ignore"]
"""The treatment of labels outside a vocabulary: refuse them, or leave out every interaction that has one."""


class _Digest(Protocol):
    def update(self, data: Any, /) -> None: ...


class Vocabulary:
    """Distinct labels, integers (not negative, below 2**63) or strings, in a fixed order.

    Immutable. Two vocabularies are equal when they have the same labels in the same order.
    """

    def __init__(self, labels: ArrayLike | pl.Series | Iterable[Any]) -> None:
        series = label_series(labels, "labels")
        if series.n_unique() != len(series):
            repeated = series.filter(series.is_duplicated()).unique(maintain_order=True)
            raise DataError(
                f"Labels must be distinct; these occur twice: {some(repeated.to_list())}. Remove repeats."
            )
        self.series, self._size = series, len(series)

    @classmethod
    def range(cls, size: int) -> Vocabulary:
        """The labels 0, 1, …, size − 1, without storing them."""
        vocabulary = cls.__new__(cls)
        vocabulary.is_range, vocabulary._size = True, int(size)  # noqa: SLF001 – its own
        return vocabulary

    @cached_property
    def series(self) -> pl.Series:
        """The labels as a polars series, Int64 or String."""
        return pl.Series("label", np.arange(self._size, dtype=np.int64))

    @cached_property
    def is_range(self) -> bool:
        """True if the labels are 0, 1, …, n − 1, so that each label is its own position."""
        return self.kind == "int" and bool((self.series.to_numpy() == np.arange(self._size)).all())

    @property
    def kind(self) -> Literal["int", "str"]:
        """The type of the labels: integers or strings."""
        stored = "series" in self.__dict__  # a range computes its series at first use, and has integers
        return "str" if stored and self.series.dtype == pl.String else "int"

    @property
    def labels(self) -> NDArray[Any]:
        """The labels as an array: int64, or object holding str."""
        return self.series.to_numpy()

    def to_list(self) -> list[Any]:
        """The labels as a list of int or str."""
        return self.series.to_list()

    def __len__(self) -> int:
        return self._size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return self is other or (
            len(self) == len(other)
            and self.kind == other.kind
            and self.is_range == other.is_range
            and (self.is_range or self.series.equals(other.series))
        )

    def __hash__(self) -> int:
        return hash((self._size, self.kind))

    def __repr__(self) -> str:
        return f"Vocabulary({len(self):,} {self.kind} labels: {some(self.take(np.arange(min(3, len(self)))).to_list())}…)"

    def take(self, positions: ArrayLike) -> Vocabulary:
        """The labels at `positions`, in that order; a position may occur twice (a user scored twice)."""
        chosen = np.asarray(positions, dtype=np.int64)
        taken = Vocabulary.__new__(Vocabulary)
        taken.series, taken._size = self.series.gather(chosen), len(chosen)  # noqa: SLF001 – its own
        return taken

    def positions(self, labels: ArrayLike | pl.Series | Iterable[Any]) -> NDArray[np.intp]:
        """The position of each label. Raises `VocabularyMismatch`, naming up to five that are not here."""
        series = label_series(labels, "labels")
        positions = self.positions_or_missing(series)
        missing = positions < 0
        if missing.any():
            strangers = series.filter(missing).unique(maintain_order=True)
            raise VocabularyMismatch(
                f"All labels must be known; {len(strangers):,} are not: {some(strangers.to_list())}. "
                f"This vocabulary has {len(self):,} {self.kind} labels such as "
                f"{some(self.take(np.arange(min(3, len(self)))).to_list())}. Check their spelling, or leave them out."
            )
        return positions

    def positions_or_missing(
        self, labels: Vocabulary | ArrayLike | pl.Series | Iterable[Any]
    ) -> NDArray[np.intp]:
        """The position of each label, −1 for an unknown one."""
        series = labels.series if isinstance(labels, Vocabulary) else label_series(labels, "labels")
        if not len(series) or not len(self):
            return np.full(len(series), -1, dtype=np.intp)
        if (series.dtype == pl.String) != (self.kind == "str"):
            other = "strings" if self.kind == "int" else "integers"
            raise VocabularyMismatch(
                f"Labels must be of one type; the vocabulary has {self.kind} labels and {other} were asked for: "
                f"{some(series.head(3).to_list())}. Convert them, or read the file with the matching ",
                Argument("labels"),
                " option.",
            )
        if self.is_range:
            values = series.to_numpy()
            return np.where(values < self._size, values, -1).astype(np.intp)
        index = pl.DataFrame({"label": self.series, "position": np.arange(self._size, dtype=np.int64)})
        joined = pl.DataFrame({"label": series}).join(index, on="label", how="left", maintain_order="left")
        VocabularyMismatch.unless(
            len(joined) == len(series),
            "Labels must be distinct to be looked up; some of these rows have the same label. "
            "Look them up in the interactions that the rows were taken from.",
        )
        return joined["position"].fill_null(-1).to_numpy().astype(np.intp)

    def typed(self, labels: pl.Series) -> pl.Series:
        """Labels of another file in the type of these: text that stands for no integer of these becomes null."""
        if self.kind == "str":
            return labels.cast(pl.String)
        if labels.dtype != pl.String:
            return labels
        integers = labels.cast(pl.Int64, strict=False)
        return integers.set((integers.cast(pl.String) != labels) | (integers < 0), None)  # 007 is not 7

    def update_digest(self, digest: _Digest) -> None:
        """Feed the labels to a hash in a form that does not depend on how they are stored."""
        digest.update(f"{self.kind} {len(self)} ".encode())
        if self.kind == "int":
            digest.update(np.ascontiguousarray(self.series.to_numpy(), dtype="<i8"))
            return
        digest.update(np.ascontiguousarray(self.series.str.len_bytes().to_numpy(), dtype="<i8"))
        for start in range(0, len(self), 65536):  # a piece at a time: joined, all labels may be gigabytes
            digest.update("".join(self.series.slice(start, 65536).to_list()).encode())


def label_series(labels: ArrayLike | pl.Series | Iterable[Any], name: str) -> pl.Series:
    """Labels as an Int64 or String series. Raises `DataError` for nulls, negative ids and other types."""
    if isinstance(labels, Vocabulary):
        return labels.series
    DataError.unless(
        not hasattr(labels, "columns"),
        f"{name} must be one column of labels; saw {type(labels).__name__}. Name its columns: "
        "`Interactions.from_frame(frame, user=…, item=…)`.",
    )
    if isinstance(labels, str):
        raise DataError(
            f"{name} must be a sequence of labels; saw the single string {labels!r}. Put it in a list."
        )
    try:
        series = labels if isinstance(labels, pl.Series) else pl.Series(name, _column(labels))
    except (TypeError, OverflowError, UnicodeEncodeError, pl.exceptions.PolarsError) as problem:
        raise DataError(
            f"{name} must be all integers or all strings, integers below 2**63; "
            f"{str(problem).splitlines()[0]}. Convert them to strings."
        ) from None
    refuse_nulls(series, name)
    if isinstance(series.dtype, (pl.Categorical, pl.Enum)):
        series = series.cast(pl.String)
    if series.dtype == pl.String:
        return series
    if len(series) and not series.dtype.is_integer():
        raise DataError(
            f"{name} must be integers or strings; saw {series.dtype} such as {series[0]!r}. "
            "Convert them to one of the two (a float id usually means that a column had nulls)."
        )
    for extreme in (series.arg_min(), series.arg_max()):
        if extreme is not None and not 0 <= series[extreme] < 2**63:
            raise DataError(
                f"Integer {name} must lie in 0 … 2**63 − 1; saw {series[extreme]} in ",
                Row(extreme),
                ". Correct the ids, or pass them as strings.",
            )
    return series.cast(pl.Int64)


def _column(labels: Any) -> Any:
    if isinstance(labels, np.ndarray):
        return labels.astype(str) if labels.dtype.kind in "US" else labels
    return list(labels) if not hasattr(labels, "__array__") else np.asarray(labels)


def refuse_nulls(series: pl.Series, name: str, *otherwise: object) -> None:
    """Raise `DataError` for a column with nulls; its message ends with what else may be done."""
    if series.null_count():
        raise DataError(
            f"{name} must have no nulls; {series.null_count():,} of {len(series):,} are null, the first in row "
            f"{series.is_null().arg_max()}. Drop those rows or fill them in",
            *otherwise,
            ".",
        )


def refuse_where(bad: pl.Series, message: Callable[[int], Iterable[object]]) -> None:
    """Raise `DataError` for the first row of a column that is bad; `message` gives the parts of its text from the position."""
    if bad.any():
        raise DataError(*message(bad.arg_max() or 0))


@dataclass(frozen=True, eq=False)
class Codes:
    """Labels of events, as positions in a series of labels: four bytes an event, whatever the labels are."""

    labels: pl.Series
    """Int64 or String, in any order; a label may be there twice, or at no event."""
    positions: NDArray[np.int32]
    """The position in `labels` of each event."""

    def filter(self, mask: NDArray[np.bool_]) -> Codes:
        """The events where `mask` holds."""
        return Codes(self.labels, self.positions[mask])


def encoded(labels: pl.Series) -> Codes:
    """The labels of events, Int64 or String, as codes."""
    if labels.dtype == pl.String:
        encoding = labels.to_arrow().dictionary_encode()
        return Codes(pl.Series("label", encoding.dictionary), encoding.indices.to_numpy())
    values = labels.to_numpy()
    highest = int(values.max()) if len(values) else -1
    # One bool for each possible label, up to 4 bytes a label and a megabyte: far quicker than to sort them.
    if highest >= 4 * len(values) + 1_000_000:
        distinct, positions = np.unique(values, return_inverse=True)
        return Codes(pl.Series("label", distinct), positions.astype(np.int32))
    present = np.zeros(highest + 1, dtype=bool)
    present[values] = True
    places = np.cumsum(present, dtype=np.int32) - 1
    return Codes(pl.Series("label", np.flatnonzero(present)), places[values])


def indexed(
    codes: Codes, vocabulary: Vocabulary | None, axis: str, unknown: Unknown
) -> tuple[Vocabulary, NDArray[np.int32]]:
    """A vocabulary (sorted labels of events, unless one is given) and the position of each event's label in it.

    A label outside a given vocabulary raises, or has position −1.
    """
    occurs = np.zeros(len(codes.labels), dtype=bool)
    occurs[codes.positions] = True
    used = codes.labels.filter(occurs)
    if vocabulary is None:
        distinct = used.unique().sort()
        highest = distinct[-1] if len(distinct) and distinct.dtype != pl.String else None
        vocabulary = Vocabulary.range(len(distinct)) if highest == len(distinct) - 1 else Vocabulary(distinct)
    positions = np.full(len(occurs), -1, dtype=np.int32)
    positions[occurs] = vocabulary.positions_or_missing(used)
    missing = positions[occurs] < 0
    if unknown == "raise" and missing.any():
        advice: tuple[object, ...] = (
            ("Pass ", Argument("unknown_items", "ignore"), " to leave them out.")
            if axis == "items"
            else ("Leave them out beforehand.",)
        )
        raise not_in_vocabulary(axis, used.filter(missing).unique(maintain_order=True), *advice)
    return vocabulary, positions[codes.positions]


def not_in_vocabulary(axis: str, labels: pl.Series, *advice: object) -> VocabularyMismatch:
    """The refusal of labels outside a vocabulary of users or items, with what to do about them."""
    return VocabularyMismatch(
        f"All {axis} must be in the given vocabulary; {len(labels):,} are not: {some(labels.to_list())}. ",
        *advice,
    )
