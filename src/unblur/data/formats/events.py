"""From a log to events: users, items, weights and times in parallel columns, in the order of the rows, batch by batch."""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from unblur.data.formats.columns import IGNORE, Role, choose_columns, described
from unblur.data.formats.labels import LabelColumn, Labels, without_null_words
from unblur.data.formats.numbers import as_array, numbers_of
from unblur.data.formats.opening import FORMATS, FileFormat, guess_format, open_data, unpacked
from unblur.data.formats.parts import log_files
from unblur.data.formats.tables import BATCH_ROWS, Opened, open_arrow, open_matrix, open_pairs, open_parquet
from unblur.data.formats.text import (
    is_adjacency,
    open_adjacency,
    open_delimited,
    open_json_lines,
    open_recbole,
    sample_of,
)
from unblur.data.formats.times import UNITS, TimeColumn, TimeUnit
from unblur.data.intervals import Intervals
from unblur.data.vocabulary import Codes
from unblur.errors import Argument, DataError, Row, about, check_word, rows_named, shortened, some
from unblur.progress import Progress, ProgressEvent

OnNull: TypeAlias = Literal["raise", "drop"]

RequestedColumns: TypeAlias = Mapping[Role, str | int | None]
"""The columns of users, items, ratings and timestamps as the caller named them, by name or position."""


@dataclass(frozen=True)
class Meaning:
    """What values mean; the options are those of `Interactions.read`."""

    selected: Intervals | None = None
    """The ratings by which rows are selected; `None` for all rows."""
    repeats_first: bool = False
    """True if one row of each pair is chosen by its time before rows are selected, so that all times are needed."""
    labels: Labels = "auto"
    time_format: str | None = None
    time_unit: TimeUnit | None = None
    on_null: OnNull = "raise"
    event_weights: str | Mapping[str, float] | None = None
    any_ratings: bool = False
    """True if ratings are taken as they are, whatever they mean: to describe them."""

    def __post_init__(self) -> None:
        check_word("labels", self.labels, get_args(Labels))
        check_word("on_null", self.on_null, get_args(OnNull))
        if self.time_unit is not None:
            check_word("time_unit", self.time_unit, UNITS)
        DataError.unless(
            self.event_weights is None or self.selected is None,
            Argument("event_weights"),
            " and ",
            Argument("min_rating"),
            " must not both choose rows; both are given. Leave one out: a weight of 0 leaves out the rows of a word.",
        )


@dataclass(frozen=True, eq=False)
class Events:
    """The rows of a log that are interactions."""

    columns: dict[str, Any]
    """Parallel columns: users and items as codes; weights unless all are equal; timestamps if there are any; and, if rows were
    left out, the row of the log of each event (``order``)."""
    shape: tuple[int, int] | None
    """(n_users, n_items) if labels are the positions in a matrix."""
    source: str
    """The log and the roles of its columns, for errors."""
    name: Callable[[int], str]
    """The row of an event, in words."""
    remarks: tuple[str, ...]
    """What was guessed, and what was left out or doubtful; `read_events` has told it to the observer."""
    roles: Mapping[Role, str]
    """The column of each role."""
    unread: tuple[str, ...]
    """The columns that have none."""
    n_nulls: int
    """The rows that were left out because they lack a value."""
    per_second: int | None
    """What times count in a second; `None` if there are none, or if nobody can tell."""


def read_events(
    path: str | Path,
    requested: RequestedColumns,
    meaning: Meaning,
    *,
    format: FileFormat | None,
    delimiter: str | None,
    header: bool | None,
    parts: str | None,
    progress: Progress,
) -> Events:
    """Read the events of a file, or of the part files in a folder; the options are those of `Interactions.read`.

    Raises `DataError` for a file or a value that cannot be used.
    """
    log = _Log(requested, meaning)
    files = log_files(path, parts)
    for file, partition in files:
        with open_data(file) as packed:
            DataError.unless(
                packed.peek(1), f"A file must hold data; {file} is empty (0 bytes). Write or copy it again."
            )
            opened = _opened(packed, requested, format, delimiter, header)
            stage = f"read {file.name}"
            progress(ProgressEvent(stage, 0, opened.n_rows))
            n_before = log.n_rows
            for n_rows in log.take(opened, file, partition):
                progress(ProgressEvent(stage, n_rows - n_before, opened.n_rows))
            progress(ProgressEvent(stage, log.n_rows - n_before, log.n_rows - n_before))
    DataError.unless(
        log.n_rows,
        f"A {'file' if len(files) == 1 else 'log'} must hold interactions; {path} has none. Write or copy it again.",
    )
    events = log.events(str(path), guessed_format=format is None)
    for remark in events.remarks:
        progress(ProgressEvent(remark, 1, 1, kind="note"))
    return events


def frame_events(frame: Any, requested: RequestedColumns, meaning: Meaning) -> Events:
    """Read the events of a data frame of pandas, polars, pyarrow or another library that narwhals knows."""
    import narwhals.stable.v2 as narwhals
    import pyarrow

    try:
        table = narwhals.from_native(frame, eager_only=True)
        names = tuple(map(str, table.columns))
    except narwhals.exceptions.DuplicateError as problem:
        raise DataError(
            f"Each column of a frame must have a name of its own; {' '.join(str(problem).split())}. Rename one."
        ) from None
    except TypeError:
        raise DataError(
            f"A data frame must be one of pandas, polars or pyarrow, in memory; saw {type(frame).__name__}. Collect a lazy frame; for "
            "columns use `Interactions.from_pairs`, for a matrix `from_matrix`, for a file `read`."
        ) from None

    def batches(positions: list[int]) -> Iterator[pl.DataFrame]:
        for start in range(0, len(table), BATCH_ROWS):
            rows = table[start : start + BATCH_ROWS]
            try:
                columns = {names[at]: rows[table.columns[at]].to_arrow() for at in positions}
            except pyarrow.ArrowException as problem:
                raise DataError(
                    f"Each column of a frame must be of one type; {str(problem).partition(chr(10))[0]}. Convert it, to strings say."
                ) from None
            yield pl.DataFrame({name: pl.Series(name, column) for name, column in columns.items()})

    log = _Log(requested, meaning)
    for _ in log.take(Opened("arrow", names, True, batches), Path("the frame"), {}):
        pass
    DataError.unless(
        log.n_rows, "A frame must hold interactions; this one has no rows. Check how it was made."
    )
    return log.events("the frame", guessed_format=False)


class _Log:
    """The events of the files that are read so far."""

    def __init__(self, requested: RequestedColumns, meaning: Meaning) -> None:
        self._requested, self._meaning = _roles(requested, meaning.event_weights), meaning
        self.n_rows = 0
        self._files: list[tuple[int, Path]] = []  # the first row of each file
        self._first: Opened | None = None
        self._columns: dict[Role, str] = {}  # the name of each role's column, in the first file
        self._unread: tuple[str, ...] = ()
        self._partitioned: set[Role] = set()  # the roles that the names of folders tell
        self._users, self._items = LabelColumn("user"), LabelColumn("item")
        self._ratings = _Ratings(requested["rating"], meaning)
        self._times = TimeColumn(meaning.time_format, meaning.time_unit)
        self._rows: list[
            NDArray[np.int64]
        ] = []  # of the events that were not left out, from the first that was
        self._n_events = self._n_nulls = 0
        self._has_lists = False

    # ------------------------------------------------------------------------------------------ files

    def take(self, opened: Opened, file: Path, partition: Mapping[str, str | None]) -> Iterator[int]:
        """Read the next file; yields the number of rows so far, batch by batch."""
        keys = [key for key in partition if opened.named and key not in opened.names]
        names = (*opened.names, *keys)
        columns = choose_columns(opened, keys, self._requested, str(file))
        self._check_columns(columns, names, opened, file)
        self._files.append((self.n_rows, file))
        positions = sorted({at for at in columns.values() if at < len(opened.names)})
        for frame in opened.batches(positions):
            of_position = dict(zip(positions, frame.get_columns(), strict=True))
            table = {
                role: of_position[at]
                if at in of_position
                else pl.repeat(partition[names[at]], frame.height, dtype=pl.String, eager=True)
                for role, at in columns.items()
            }
            with about(self._subject(str(file))):
                self._add(table)
            self.n_rows += frame.height
            yield self.n_rows

    def _check_columns(
        self, columns: Mapping[Role, int], names: Sequence[str], opened: Opened, file: Path
    ) -> None:
        """Note the columns of the first file; raise `DataError` if those of a later one are others."""
        named = {role: names[at] for role, at in columns.items()}
        if self._first is not None:
            DataError.unless(
                named == self._columns,
                f"All files of a log must have the same columns; {file} has {described(named)}, and {self._files[0][1]} "
                f"{described(self._columns)}. Name them, or leave out the files that are others.",
            )
            return
        self._first, self._columns = opened, named
        self._partitioned = {role for role, at in columns.items() if at >= len(opened.names)}
        self._unread = tuple(name for at, name in enumerate(names) if at not in columns.values())
        with about(self._subject(str(file))):
            self._ratings.find(columns, names, opened.named)
            for option in ("time_format", "time_unit"):
                DataError.unless(
                    getattr(self._meaning, option) is None or "timestamp" in columns,
                    Argument(option),
                    f" is for a column of times; none of {some(names, 12)} was taken for one. Name it with ",
                    Argument("timestamp"),
                    ".",
                )

    def _subject(self, log: str) -> str:
        """The log and the roles of its columns, for errors."""
        if self._first is None or self._first.format == "adjacency":
            return log
        return f"{log} ({described(self._columns)}; rows count from 0)"

    def _name(self, event: int) -> str:
        """The row of an event in words."""
        if self._has_lists:
            return f"event {event}"
        starts = [start for start, _ in self._files]
        file = bisect_right(starts, event) - 1
        return f"row {event - starts[file]}" + (f" of {self._files[file][1].name}" if len(starts) > 1 else "")

    # ------------------------------------------------------------------------------------------ batches

    def _add(self, table: dict[Role, pl.Series]) -> None:
        """Read a batch on: select its events, and take their labels, weights and times."""
        table = self._in_events(table)
        first, n_events = self._n_events, len(table["user"])
        rows = np.arange(first, first + n_events)
        self._n_events += n_events
        ratings, option = self._ratings, (", or leave all times out with ", Argument("timestamp", IGNORE))

        def keep(mask: NDArray[np.bool_] | None) -> None:
            nonlocal table, rows
            if mask is not None and not mask.all():
                table, rows = {role: column.filter(mask) for role, column in table.items()}, rows[mask]

        with rows_named(lambda at: self._name(int(rows[at]))):
            if self._has_lists:  # before the ratings and times, which a basket that is missing lacks as well
                keep(self._present(table["item"], "items"))
            if ratings.role == "event":
                table["event"] = without_null_words(table["event"].cast(pl.String))
                keep(self._present(table["event"], "events"))
                table["event"] = ratings.weights_of(table["event"])
                keep((table["event"] > 0).to_numpy())
            elif ratings.role is not None:
                table[ratings.role] = numbers_of(self._filled(table[ratings.role]), ratings.role)
                keep(self._present(table[ratings.role], f"{ratings.role}s"))
                # Rows that go need no time: in some copies of MovieLens those with low ratings have none.
                keep(ratings.selected(table[ratings.role]))
            if "timestamp" in table:
                table["timestamp"] = self._filled(without_null_words(table["timestamp"]))
                keep(self._present(table["timestamp"], "timestamps", *option))
            # The rows of the batch are chosen, by all of its columns: what is added now stays parallel.
            if ratings.role is not None:
                ratings.add(table[ratings.role])
            if "timestamp" in table:
                self._times.add(table["timestamp"])
            self._users.add(table["user"])
            self._items.add(table["item"])
        if not self._rows and len(rows) < n_events:
            self._rows.append(np.arange(first))
        if self._rows:
            self._rows.append(rows)

    def _in_events(self, table: dict[Role, pl.Series]) -> dict[Role, pl.Series]:
        """One entry for each event: the items of a list, a basket, are events of its user each."""
        lists = [role for role, column in table.items() if isinstance(column.dtype, pl.List | pl.Array)]
        if "item" not in lists:
            return table
        self._has_lists = True
        frame = pl.DataFrame(table).with_columns(
            pl.col(role).cast(pl.List(table[role].dtype.inner))  # type: ignore[attr-defined]
            for role in lists
        )
        # An empty basket has no events; one that is missing has a row without an item, which is refused or counted as any other.
        # Without it, its other lists say nothing, however long they are.
        basket = pl.col("item")
        frame = frame.filter(basket.is_null() | (basket.list.len() > 0)).with_columns(
            pl.when(basket.is_not_null()).then(pl.col(role)) for role in lists
        )
        for role in lists:
            DataError.unless(
                frame[role].list.len().eq_missing(frame["item"].list.len()).all(),
                f"Lists of {role}s must be as long as those of items; some are not. Correct them, or name another column.",
            )
        columns = frame.explode(lists).get_columns()
        return dict(zip(table, columns, strict=True))

    def _filled(self, column: pl.Series) -> pl.Series:
        """The column with nulls for NaN, if nulls are dropped."""
        return (
            column.fill_nan(None) if self._meaning.on_null == "drop" and column.dtype.is_float() else column
        )

    def _present(self, column: pl.Series, name: str, *otherwise: object) -> NDArray[np.bool_] | None:
        """The entries that are not null, or `None` if all are. Raises `DataError` if nulls are not to be dropped."""
        if not column.null_count():
            return None
        gaps = column.is_null()
        DataError.unless(
            self._meaning.on_null == "drop",
            f"{name} must have no nulls; the first without one is ",
            Row(gaps.arg_max() or 0),
            ". Correct it, pass ",
            Argument("on_null", "drop"),
            " to leave such rows out",
            *otherwise,
            ".",
        )
        self._n_nulls += column.null_count()
        return (~gaps).to_numpy()

    # ------------------------------------------------------------------------------------------ the whole

    def events(self, path: str, *, guessed_format: bool) -> Events:
        """The events of all files."""
        opened = self._first
        if opened is None:  # `log_files` gives at least one
            raise AssertionError
        source = self._subject(path)
        remarks: list[str] = []
        columns: dict[str, Any] = {}
        rows = np.concatenate(self._rows) if self._rows else None
        self._rows.clear()

        def name(event: int) -> str:
            return self._name(event if rows is None else int(rows[event]))

        missing: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        with about(source):
            for role, labels in (("user", self._users), ("item", self._items)):
                option = self._meaning.labels
                codes, gaps, notes = labels.codes(
                    "int" if opened.format == "adjacency" and option == "auto" else option,
                    name,
                    typed=opened.format not in _TEXT and role not in self._partitioned,
                )
                columns[f"{role}s"] = codes
                remarks += notes
                if gaps.any():
                    self._refuse_nulls(gaps, f"{role}s", name)
                missing = gaps if not len(missing) else missing | gaps
            weights = self._ratings.values()
            if weights is not None:
                columns["weights"] = weights
            unit, per_second = "", None
            if "timestamp" in self._columns:
                columns["timestamps"], unit, per_second = self._times.values(name)
            if rows is not None:
                columns["order"] = rows
            if missing.any() or self._n_nulls == self._n_events:
                self._n_nulls += int(missing.sum())
                columns.setdefault("order", np.arange(len(missing)))
                columns = {
                    name: column.filter(~missing) if isinstance(column, Codes) else column[~missing]
                    for name, column in columns.items()
                }
                DataError.unless(
                    not missing.all(),
                    "Some row must have a user and an item, and a rating and a time if these are read; none has. Name other columns.",
                )
        if self._n_nulls:
            remarks.append(
                f"{self._n_nulls:,} rows without a user, an item, a rating or a time were left out"
            )
        if self._ratings.n_unknown:
            remarks.append(
                f"{self._ratings.n_unknown:,} rows of events without a weight ({some(self._ratings.unknown)}) were left out"
            )
        guessed = self._guesses(opened, unit, guessed_format=guessed_format)
        shape = None if self._meaning.labels == "str" else opened.shape
        remarks = [*guessed, *remarks]
        return Events(
            columns,
            shape,
            source,
            name,
            tuple(remarks),
            self._columns,
            self._unread,
            self._n_nulls,
            per_second,
        )

    def _refuse_nulls(self, gaps: NDArray[np.bool_], name: str, row: Callable[[int], str]) -> None:
        """Raise `DataError` for labels that are null, unless such rows are dropped."""
        first, n = int(np.argmax(gaps)), int(gaps.sum())
        DataError.unless(
            self._meaning.on_null == "drop",
            f"{name} must have no nulls; {n:,} of {len(gaps):,} rows have none, or a word for a missing value such as NULL or "
            f"nan, the first in {row(first)}. Correct them, pass ",
            Argument("on_null", "drop"),
            " to leave such rows out, or ",
            Argument("labels", "str"),
            " to take words as they are written.",
        )

    def _guesses(self, opened: Opened, unit: str, *, guessed_format: bool) -> tuple[str, ...]:
        """What nobody said, in one line."""
        guesses = []
        if guessed_format:
            guesses.append(_FORMAT_NAMES[opened.format] + (f" ({opened.layout})" if opened.layout else ""))
        unsaid = {role: name for role, name in self._columns.items() if self._requested.get(role) is None}
        if unsaid and opened.format not in _WITHOUT_COLUMNS:
            guesses.append(described(unsaid))
        if unit and self._meaning.time_unit is None and self._meaning.time_format is None:
            guesses.append(f"timestamps are {unit}")
        if unsaid and self._unread:
            guesses.append(f"not read: {some(self._unread, 8)}")
        return (f"read as {'; '.join(guesses)}",) if guesses else ()


_TEXT: tuple[FileFormat, ...] = ("csv", "recbole", "adjacency")
"""Formats whose columns have no types."""
_WITHOUT_COLUMNS: tuple[FileFormat, ...] = ("adjacency", "npz", "npy")
_FORMAT_NAMES: dict[FileFormat, str] = {
    "parquet": "Parquet",
    "arrow": "Arrow",
    "jsonl": "JSON lines",
    "csv": "delimited text",
    "recbole": "a file of RecBole's",
    "adjacency": "adjacency lists",
    "npz": "a sparse matrix",
    "npy": "pairs",
}


class _Ratings:
    """The weights of events or, if events are selected by them, the ratings, as far as they are read."""

    def __init__(self, requested: str | int | None, meaning: Meaning) -> None:
        self.role: Role | None = None
        self._requested, self._meaning = requested, meaning
        self._column: str | int = ""
        self._named = True
        self._values: list[NDArray[Any]] = []
        self._lowest, self._highest, self._n, self._n_bad = np.inf, -np.inf, 0, 0
        self._words = {} if meaning.event_weights is None else event_weights_of(meaning.event_weights)
        self.n_unknown = 0  # rows of words that have no weight
        self.unknown: dict[str, None] = {}  # such words

    def find(self, columns: Mapping[Role, int], names: Sequence[str], named: bool) -> None:
        """Find the column. Raises `DataError` if there is none to select by."""
        self.role = next((role for role in ("rating", "weight", "event") if role in columns), None)
        option, what = ("event_weights", "events in words") if self._words else ("min_rating", "ratings")
        self._named = named
        if self.role is not None:
            self._column = names[columns[self.role]] if named else columns[self.role]
        elif self._meaning.selected is not None or self._words:
            DataError.unless(
                self._requested != IGNORE,
                Argument(option),
                f" needs {what} to go by; ",
                Argument("rating", IGNORE),
                " leaves them out. Drop one of the two.",
            )
            raise DataError(
                Argument(option),
                f" needs a column of {what}; none of {some(names, 12)} has a usual name for one. Name it with ",
                Argument("rating"),
                ".",
            )

    def weights_of(self, words: pl.Series) -> pl.Series:
        """The weight of each word of a batch, 0 for one that has none, which is counted."""
        words = words.str.strip_chars()
        unknown = words.filter(~words.is_in(list(self._words)))
        self.n_unknown += len(unknown)
        if len(self.unknown) <= _EXAMPLES:
            self.unknown |= dict.fromkeys(unknown.unique(maintain_order=True).head(_EXAMPLES + 1))
        return words.replace_strict(self._words, default=0.0, return_dtype=pl.Float64)

    def selected(self, values: pl.Series) -> NDArray[np.bool_] | None:
        """The events of a batch that are selected by now, or `None` for all."""
        if self._meaning.selected is None or self._meaning.repeats_first:
            return None
        return self._meaning.selected.contain(values.to_numpy())

    def add(self, values: pl.Series) -> None:
        """Read on. Raises `DataError` for ratings without a meaning."""
        if self._meaning.selected is not None:
            if self._meaning.repeats_first:
                self._values.append(values.to_numpy())
            return
        if not len(values):
            return
        if self._meaning.any_ratings:
            self._values.append(values.to_numpy())
            return
        self._lowest = min(self._lowest, float(values.min()))  # type: ignore[arg-type]
        self._highest = max(self._highest, float(values.max()))  # type: ignore[arg-type]
        self._n += len(values)
        self._n_bad += int((values <= 0).sum())
        all_ones = self._lowest == self._highest == 1
        if self.role == "rating" and self._requested is None and not all_ones:
            raise DataError(
                f"What a rating means must be said; the column {self._column!r} holds values from {self._lowest:g} to "
                f"{self._highest:g}. Pass ",
                Argument("min_rating"),
                " to keep those from a value on as likes, ",
                Argument("rating", self._column),
                " to take it as weights",
                *_AS_INTERACTIONS,
                *(
                    ["."]
                    if self._named
                    else ["; or ", Argument("timestamp", self._column), ", if it is a time."]
                ),
            )
        self._values.append(as_array(values, "weights", np.float32))

    def values(self) -> NDArray[Any] | None:
        """The weights or ratings of all events; `None` if all weights are 1, or events are selected already."""
        DataError.unless(
            self._values or not self._words,
            f"Some event must have a weight; the words are {some(self.unknown)}, and ",
            Argument("event_weights"),
            f" has {some(self._words)}. Correct the words, or name another column with ",
            Argument("rating"),
            ".",
        )
        if not self._values or (self._meaning.selected is None and self._lowest == self._highest == 1):
            return None
        DataError.unless(
            self._meaning.selected is not None or self._meaning.any_ratings or self._lowest > 0,
            f"Weights must be positive; {self._n_bad:,} of {self._n:,} rows hold {self._lowest:g} or more up to 0. Pass ",
            Argument("min_rating"),
            " to keep rows from a value on",
            *_AS_INTERACTIONS,
            ".",
        )
        return np.concatenate(self._values)


_EXAMPLES = 5
"""Words that a message names; a column of something else may have millions."""


def event_weights_of(event_weights: str | Mapping[str, float]) -> dict[str, float]:
    """The weight of each word of a text such as ``view=1,cart=3,buy=5``, or of a mapping; 0 leaves out the rows of a word.

    Raises `DataError` for other text, for weights that are negative or not finite, and if none is positive.
    """
    if isinstance(event_weights, str):
        pairs = [part.rpartition("=")[::2] for part in event_weights.split(",")]
    else:
        pairs = [(word, str(weight)) for word, weight in event_weights.items()]
    weights = {word.strip(): _NUMBER.fullmatch(weight.strip()) for word, weight in pairs}
    DataError.unless(
        len(weights) == len(pairs) and all(word and weight for word, weight in weights.items()),
        Argument("event_weights"),
        f" must give each word its weight once, 0 or more, as in view=1,cart=3,buy=5; saw {shortened(str(event_weights))!r}. Correct it.",
    )
    numbers = {word: float(weight[0]) for word, weight in weights.items() if weight}
    DataError.unless(
        any(numbers.values()),
        Argument("event_weights"),
        " must give some word a weight above 0; all are 0. Leave out those that do not count.",
    )
    return numbers


_NUMBER = re.compile(r"(?:\d{1,30}(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d)?")
"""A number of 0 or more, far from the limits of float32."""


def _roles(requested: RequestedColumns, event_weights: object) -> dict[Role, str | int | None]:
    """The columns by role: with weights of events, that of ratings holds events in words."""
    return {
        "event" if role == "rating" and event_weights is not None else role: column
        for role, column in requested.items()
    }


_AS_INTERACTIONS = (", or ", Argument("rating", IGNORE), " to count every row as an interaction")


def unread_columns(
    path: str | Path,
    *,
    format: FileFormat | None = None,
    delimiter: str | None = None,
    header: bool | None = None,
    parts: str | None = None,
    min_rating: float | None = None,
    ratings: str | None = None,
    **options: Any,
) -> tuple[str, ...]:
    """The names of the columns of a log that do not reach the interactions that `Interactions.read` reads with these options.

    With `min_rating` or `ratings`, the column of ratings does not: it only selects.
    """
    requested = _roles(
        {role: options.get(role) for role in ("user", "item", "rating", "timestamp")},
        options.get("event_weights"),
    )
    file, partition = log_files(path, parts)[0]
    with open_data(file) as stream:
        opened = _opened(stream, requested, format, delimiter, header)
    keys = [key for key in partition if opened.named and key not in opened.names]
    columns = choose_columns(opened, keys, requested, str(file))
    selects = min_rating is not None or ratings is not None
    read = {at for role, at in columns.items() if not selects or role not in ("rating", "weight")}
    return tuple(name for at, name in enumerate((*opened.names, *keys)) if at not in read)


_WITHOUT_SAMPLE: dict[FileFormat | None, Callable[[BinaryIO], Opened]] = {
    "parquet": open_parquet,
    "arrow": open_arrow,
    "jsonl": open_json_lines,
    "npz": open_matrix,
    "npy": open_pairs,
}
"""Functions that open files of the formats that need no sample of lines."""


def _opened(
    packed: io.BufferedReader,
    requested: RequestedColumns,
    format: FileFormat | None,
    delimiter: str | None,
    header: bool | None,
) -> Opened:
    """The file, opened in `format`, or in the format found by its first bytes and its name."""
    unspecified = delimiter is None and header is None
    stream = unpacked(packed)
    if format is not None:
        check_word("format", format, FORMATS)
    else:
        stream.seek(0)
        format = guess_format(stream, stream.read(4096))
        if format is None and not unspecified:
            format = "csv"
    if format in _WITHOUT_SAMPLE:
        DataError.unless(
            format == "jsonl" or stream is packed,
            f"A compressed file must hold text to be read; {stream.name} holds {format}. Unpack it first.",
        )
        stream.seek(0)
        return _WITHOUT_SAMPLE[format](stream)
    sample = sample_of(stream)
    if format is None or (format == "csv" and unspecified):
        if sample.typed:
            format = "recbole"
        elif format is None:
            format = "adjacency" if is_adjacency(sample, stream) else "csv"
    if format == "adjacency":
        return open_adjacency(stream)
    if format == "recbole":
        return open_recbole(stream, sample)
    names = any(isinstance(name, str) and name not in (role, IGNORE) for role, name in requested.items())
    return open_delimited(stream, sample, delimiter, header, names)
