"""From a log to events: users, items, weights and times in parallel columns, in the order of the rows, batch by batch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import polars.selectors as cs
from numpy.typing import NDArray

from unblur.data.formats.any_format import open_table
from unblur.data.formats.columns import IGNORE, Role, are_names, choose_columns, described
from unblur.data.formats.labels import LabelColumn, without_null_words
from unblur.data.formats.meaning import Meaning
from unblur.data.formats.opening import FileFormat, open_data
from unblur.data.formats.parts import log_files
from unblur.data.formats.tables import BATCH_ROWS, Opened
from unblur.data.formats.times import TimeColumn
from unblur.data.formats.weights import WeightColumn
from unblur.data.vocabulary import Codes
from unblur.errors import Argument, DataError, Row, about, rows_named, some
from unblur.progress import Progress, ProgressEvent

RequestedColumns: TypeAlias = Mapping[Role, str | int | None]
"""The columns of users, items, ratings and timestamps as the caller named them, by name or position."""


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
    requested = _by_role(requested, meaning.event_weights)
    log = _Log(requested, meaning)
    files = log_files(path, parts)
    for file, partition in files:
        with open_data(file) as stream:
            opened = open_table(
                stream, format, delimiter=delimiter, header=header, has_names=_has_names(requested)
            )
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

    log = _Log(_by_role(requested, meaning.event_weights), meaning)
    for _ in log.take(Opened("arrow", "a frame", names, True, batches), Path("the frame"), {}):
        pass
    DataError.unless(
        log.n_rows, "A frame must hold interactions; this one has no rows. Check how it was made."
    )
    return log.events("the frame", guessed_format=False)


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
    requested = _by_role(
        {role: options.get(role) for role in ("user", "item", "rating", "timestamp")},
        options.get("event_weights"),
    )
    file, partition = log_files(path, parts)[0]
    with open_data(file) as stream:
        opened = open_table(
            stream, format, delimiter=delimiter, header=header, has_names=_has_names(requested)
        )
    layout = _Layout.of(opened, partition, requested, file)
    selects = min_rating is not None or ratings is not None
    reaching = {
        at for role, at in layout.positions.items() if not selects or role not in ("rating", "weight")
    }
    return tuple(name for at, name in enumerate(layout.names) if at not in reaching)


def _by_role(requested: RequestedColumns, event_weights: object) -> RequestedColumns:
    """The columns by role: with weights of events, that of ratings holds events in words."""
    return {
        "event" if role == "rating" and event_weights is not None else role: column
        for role, column in requested.items()
    }


def _has_names(requested: RequestedColumns) -> bool:
    """Whether a column was named, by more than its role, which asks for what would be found anyway."""
    return any(isinstance(name, str) and name not in (role, IGNORE) for role, name in requested.items())


@dataclass(frozen=True)
class _Layout:
    """The columns of a file, and the role of each that is read."""

    opened: Opened
    names: tuple[str, ...]
    """The columns of the file, then those that its folders name."""
    positions: Mapping[Role, int]
    """The position among them of each role's column."""

    @classmethod
    def of(
        cls, opened: Opened, partition: Mapping[str, str | None], requested: RequestedColumns, file: Path
    ) -> _Layout:
        """The layout as requested, else by usual names; `partition` has the values that folders name."""
        keys = [key for key in partition if opened.named and key not in opened.names]
        return cls(opened, (*opened.names, *keys), choose_columns(opened, keys, requested, str(file)))

    @property
    def roles(self) -> dict[Role, str]:
        """The column of each role."""
        return {role: self.names[at] for role, at in self.positions.items()}

    @property
    def unread(self) -> tuple[str, ...]:
        """The columns that have no role."""
        return tuple(name for at, name in enumerate(self.names) if at not in self.positions.values())

    def weights(self, requested: RequestedColumns, meaning: Meaning) -> WeightColumn | None:
        """The column of weights, ratings or events in words, if there is one. Raises `DataError` if one is needed."""
        for role in ("rating", "weight", "event"):
            if (at := self.positions.get(role)) is not None:
                column = self.names[at] if self.opened.named else at
                return WeightColumn(role, column, meaning, asked=requested.get(role) is not None)
        if meaning.selected is None and meaning.event_weights is None:
            return None
        by_words = meaning.event_weights is not None
        option, what = ("event_weights", "events in words") if by_words else ("min_rating", "ratings")
        DataError.unless(
            requested.get("event" if by_words else "rating") != IGNORE,
            Argument(option),
            f" needs {what} to go by; ",
            Argument("rating", IGNORE),
            " leaves them out. Drop one of the two.",
        )
        raise DataError(
            Argument(option),
            f" needs a column of {what}; none of {some(self.names, 12)} has a usual name for one. Name it with ",
            Argument("rating"),
            ".",
        )


class _Log:
    """The events of the files that are read so far.

    A row is an event, or several if it has a list of items. Events that do not count are left out batch by batch, but those
    without a label at the end: all labels together tell which words are labels.
    """

    def __init__(self, requested: RequestedColumns, meaning: Meaning) -> None:
        self._requested, self._meaning = requested, meaning
        # Of the first file; in the others the roles have the same columns.
        self._layout: _Layout | None = None
        self._weights: WeightColumn | None = None
        self._users, self._items = LabelColumn("user"), LabelColumn("item")
        self._times = TimeColumn(meaning.time_format, meaning.time_unit)
        self._files: list[tuple[int, Path]] = []  # the first row of each file
        self.n_rows = self._n_events = self._n_nulls = 0
        self._has_lists = False
        # Which events are kept, by their number, batch by batch; nothing as long as all are.
        self._kept: list[NDArray[np.int64]] = []
        self._remarks: list[str] = []

    def take(self, opened: Opened, file: Path, partition: Mapping[str, str | None]) -> Iterator[int]:
        """Read the next file; yields the number of rows so far, batch by batch."""
        layout = _Layout.of(opened, partition, self._requested, file)
        self._check_layout(layout, file)
        self._files.append((self.n_rows, file))
        own = sorted(at for at in layout.positions.values() if at < len(opened.names))
        for frame in opened.batches(own):
            columns = dict(zip(own, frame.get_columns(), strict=True))
            for at in set(layout.positions.values()).difference(own):
                value = partition[layout.names[at]]
                columns[at] = pl.repeat(value, frame.height, dtype=pl.String, eager=True)
            with about(self._subject(str(file))):
                self._add(pl.DataFrame([columns[at].alias(role) for role, at in layout.positions.items()]))
            self.n_rows += frame.height
            yield self.n_rows
        self._remarks += opened.remarks

    def _check_layout(self, layout: _Layout, file: Path) -> None:
        """Raise `DataError` if the first file lacks a column, or if those of a later file are others."""
        if self._layout is not None:
            DataError.unless(
                layout.roles == self._layout.roles,
                f"All files of a log must have the same columns; {file} has {described(layout.roles)}, and {self._files[0][1]} "
                f"{described(self._layout.roles)}. Name them, or leave out the files that are others.",
            )
            return
        self._layout = layout
        with about(self._subject(str(file))):
            self._weights = layout.weights(self._requested, self._meaning)
            for option in ("time_format", "time_unit"):
                DataError.unless(
                    getattr(self._meaning, option) is None or "timestamp" in layout.positions,
                    Argument(option),
                    f" is for a column of times; none of {some(layout.names, 12)} was taken for one. Name it with ",
                    Argument("timestamp"),
                    ".",
                )

    def _subject(self, log: str) -> str:
        """The log and the roles of its columns, for errors."""
        if self._layout is None or self._layout.opened.format == "adjacency":
            return log
        return f"{log} ({described(self._layout.roles)}; rows count from 0)"

    def _name(self, event: int) -> str:
        """The row of an event in words."""
        if self._has_lists:
            return f"event {event}"
        starts = [start for start, _ in self._files]
        file = bisect_right(starts, event) - 1
        return f"row {event - starts[file]}" + (f" of {self._files[file][1].name}" if len(starts) > 1 else "")

    # ------------------------------------------------------------------------------------------ batches

    def _add(self, rows: pl.DataFrame) -> None:
        """Read a batch on, a column a role: keep the events that count, and take their labels, weights and times."""
        events = self._in_events(rows)
        if self._meaning.on_null == "drop":
            events = events.with_columns(cs.float().fill_nan(None))
        n_events = len(events)
        numbers = np.arange(self._n_events, self._n_events + n_events)

        def keep(mask: NDArray[np.bool_]) -> None:
            nonlocal events, numbers
            if not mask.all():
                events, numbers = events.filter(mask), numbers[mask]

        with rows_named(lambda at: self._name(int(numbers[at]))):
            if self._has_lists:  # before weights and times, which a basket that is missing lacks as well
                keep(self._present(events["item"]))
            if (weights := self._weights) is not None:
                events = events.with_columns(weights.read(events[weights.role]).alias(weights.role))
                keep(self._present(events[weights.role]))
                # Rows that go need no time: in some copies of MovieLens those with low ratings have none.
                keep(weights.counting(events[weights.role]))
            if "timestamp" in events.columns:
                events = events.with_columns(without_null_words(events["timestamp"]).alias("timestamp"))
                keep(self._present(events["timestamp"]))
            # The events of the batch are chosen, by all of its columns: what is taken now stays parallel.
            if weights is not None:
                weights.add(events[weights.role])
            if "timestamp" in events.columns:
                self._times.add(events["timestamp"])
            self._users.add(events["user"])
            self._items.add(events["item"])
        if not self._kept and len(numbers) < n_events:
            self._kept.append(np.arange(self._n_events))
        if self._kept:
            self._kept.append(numbers)
        self._n_events += n_events

    def _in_events(self, rows: pl.DataFrame) -> pl.DataFrame:
        """A row for each event: the items of a list, a basket, are events of its user each."""
        lists = [role for role, kind in rows.schema.items() if isinstance(kind, pl.List | pl.Array)]
        if "item" not in lists:
            return rows
        self._has_lists = True
        # An empty basket has no events; one that is missing has a row without an item, which is refused or counted as any other.
        # Without it, its other lists say nothing, however long they are.
        basket = pl.col("item")
        baskets = (
            rows.with_columns(pl.col(role).cast(pl.List(rows[role].dtype.inner)) for role in lists)  # type: ignore[attr-defined]
            .filter(basket.is_null() | (basket.list.len() > 0))
            .with_columns(pl.when(basket.is_not_null()).then(pl.col(role)) for role in lists)
        )
        for role in lists:
            DataError.unless(
                baskets[role].list.len().eq_missing(baskets["item"].list.len()).all(),
                f"Lists of {role}s must be as long as those of items; some are not. Correct them, or name another column.",
            )
        return baskets.explode(lists)

    def _present(self, column: pl.Series) -> NDArray[np.bool_]:
        """The values that are not null; the others are counted. Raises `DataError` for these unless they are to be left out."""
        gaps = column.is_null().to_numpy()
        self._refuse_nulls(column.name, gaps)
        self._n_nulls += column.null_count()
        return ~gaps

    def _refuse_nulls(self, role: str, gaps: NDArray[np.bool_]) -> None:
        """Raise `DataError` for events without a value, unless they are to be left out."""
        otherwise: dict[str, tuple[object, ...]] = {
            "timestamp": (", or leave all times out with ", Argument("timestamp", IGNORE)),
            **dict.fromkeys(
                ("user", "item"),
                (
                    ", or ",
                    Argument("labels", "str"),
                    " to take words for a missing value, such as NULL or nan, as they are written",
                ),
            ),
        }
        DataError.unless(
            self._meaning.on_null == "drop" or not gaps.any(),
            f"{role}s must have no nulls; the first without one is ",
            Row(int(gaps.argmax()) if len(gaps) else 0),
            ". Correct it, pass ",
            Argument("on_null", "drop"),
            " to leave such rows out",
            *otherwise.get(role, ()),
            ".",
        )

    # ------------------------------------------------------------------------------------------ all events

    def events(self, path: str, *, guessed_format: bool) -> Events:
        """All events that were read. Raises `DataError` for labels, weights and times that only all of them show to be wrong."""
        layout = self._layout
        assert layout is not None  # a log has a file
        opened = layout.opened
        numbers = np.concatenate(self._kept) if self._kept else None
        self._kept.clear()

        def name(event: int) -> str:
            return self._name(event if numbers is None else int(numbers[event]))

        columns: dict[str, Any] = {}
        remarks: list[str] = []
        source, times, per_second = self._subject(path), "", None
        missing = np.zeros(self._n_events if numbers is None else len(numbers), dtype=bool)
        with about(source), rows_named(name):
            for labels in (self._users, self._items):
                is_typed = opened.typed and layout.positions[labels.role] < len(opened.names)
                kind = self._meaning.labels
                if kind == "auto" and opened.format == "adjacency":
                    kind = "int"
                codes, gaps, notes = labels.codes(kind, name, typed=is_typed)
                self._refuse_nulls(labels.role, gaps)
                columns[f"{labels.role}s"] = codes
                missing |= gaps
                remarks += notes
            self._refuse_header(columns["users"], columns["items"])
            if self._weights is not None and (weights := self._weights.values()) is not None:
                columns["weights"] = weights
            if "timestamp" in layout.positions:
                columns["timestamps"], times, per_second = self._times.values()
            if numbers is not None or missing.any():
                columns["order"] = np.arange(len(missing)) if numbers is None else numbers
            if missing.any():
                self._n_nulls += int(missing.sum())
                columns = {
                    name: column.filter(~missing) if isinstance(column, Codes) else column[~missing]
                    for name, column in columns.items()
                }
            DataError.unless(
                self._n_nulls < self._n_events and not (missing.any() and missing.all()),
                "Some row must have a user and an item, and a rating and a time if these are read; none has. Name other columns.",
            )
        if self._n_nulls:
            remarks.append(
                f"{self._n_nulls:,} rows without a user, an item, a rating or a time were left out"
            )
        remarks += [*self._remarks, *(self._weights.remarks() if self._weights is not None else ())]
        return Events(
            columns,
            None if self._meaning.labels == "str" else opened.shape,
            source,
            name,
            (*self._guesses(layout, times, guessed_format=guessed_format), *remarks),
            layout.roles,
            layout.unread,
            self._n_nulls,
            per_second,
        )

    def _refuse_header(self, users: Codes, items: Codes) -> None:
        """Raise `DataError` for a row that has the names of its columns, as after ``cat one.csv two.csv``."""
        roles = {} if self._layout is None or self._meaning.labels == "str" else self._layout.roles
        is_header = np.full(len(users.positions), bool(roles))
        role: Role
        for role, codes in (("user", users), ("item", items)):
            if is_header.any():
                is_name = are_names(codes.labels, role, roles[role])
                is_header &= np.append(is_name, False)[codes.positions]  # the position −1 is that of no label
        DataError.unless(
            not is_header.any(),
            "A header must be the first line and no other; it comes again as ",
            Row(int(is_header.argmax()) if len(is_header) else 0),
            ". Remove it there, or pass ",
            Argument("labels", "str"),
            " to take it as an event.",
        )

    def _guesses(self, layout: _Layout, times: str, *, guessed_format: bool) -> tuple[str, ...]:
        """What nobody said, in one line."""
        unsaid = {role: name for role, name in layout.roles.items() if self._requested.get(role) is None}
        guesses = [layout.opened.layout] if guessed_format else []
        if unsaid and layout.opened.format not in _WITHOUT_COLUMNS:
            guesses.append(described(unsaid))
        if times:
            guesses.append(f"timestamps are {times}")
        if unsaid and layout.unread:
            guesses.append(f"not read: {some(layout.unread, 8)}")
        return (f"read as {'; '.join(guesses)}",) if guesses else ()


_WITHOUT_COLUMNS: tuple[FileFormat, ...] = ("adjacency", "npz", "npy")
