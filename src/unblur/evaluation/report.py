"""Reports: measurements with their intervals, next to published numbers, and their provenance.

A report is a value: `to_dict` and `from_dict` are inverses, `to_json` is strict JSON of schema 1, and
nothing here touches a file. There is intentionally no overall score.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from unblur.document.blocks import Cell, Document, Listing, Section, Table, interval, number
from unblur.document.markdown import Markdown, as_markdown, code, escaped
from unblur.document.text import json_text
from unblur.errors import ArtifactError, DataError, nearest, some

SCHEMA = 1
"""The version of the JSON form of reports."""

RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """A number that a measurement must reproduce."""

    value: float
    within: float
    """The largest difference, in either direction, that still counts as reproduced."""
    source: str
    """The publication and the place in it, such as ``paper, table 3``."""

    def __post_init__(self) -> None:
        _check_finite(self, "value", "within")
        DataError.unless(
            self.within >= 0,
            f"A tolerance must not be negative; saw {self.within}. Give the largest difference.",
        )

    def admits(self, value: float) -> bool:
        """Return whether `value` reproduces the number; a difference of exactly `within` does."""
        # 1e-12 allows for rounding: in float64, 0.19 - 0.18 is above 0.01.
        return abs(value - self.value) <= self.within + 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A figure, its 95 % interval, and the number of users behind it."""

    name: str
    """The metric and the cut-off, such as ``recall@20``."""
    value: float
    low: float | None = None
    """The low end of the 95 % interval; `None` if there is none."""
    high: float | None = None
    n_users: int
    """The number of users behind the figure."""
    expected: Expected | None = None

    def __post_init__(self) -> None:
        _check_finite(self, "value")
        DataError.unless(
            (self.low is None) == (self.high is None),
            f"An interval must have two ends; {self.name} has {self.low}, {self.high}. Give both or none.",
        )
        if self.low is not None and self.high is not None:
            _check_finite(self, "low", "high")
            DataError.unless(
                self.low <= self.high,
                f"An interval must not end before it starts; {self.name} has {self.low}, {self.high}.",
            )
        DataError.unless(
            self.n_users >= 0, f"A number of users must not be negative; {self.name} has {self.n_users}."
        )
        object.__setattr__(self, "n_users", int(self.n_users))

    @property
    def interval(self) -> tuple[float, float]:
        """The two ends of the interval; the value twice if there is none."""
        return (self.value if self.low is None else self.low, self.value if self.high is None else self.high)

    @property
    def reproduced(self) -> bool | None:
        """True if the value is within the tolerance; `None` if no number is expected."""
        return None if self.expected is None else self.expected.admits(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds of each stage of a run, and the largest resident memory of its process in MB (10**6 bytes)."""

    read_seconds: float = 0.0
    fit_seconds: float = 0.0
    score_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    peak_rss_mb: float = 0.0

    def __post_init__(self) -> None:
        _check_finite(self, *(entry.name for entry in fields(self)))

    def __str__(self) -> str:
        """All timings in a line."""
        seconds = (
            f"{name} {getattr(self, f'{name}_seconds'):.1f} s"
            for name in ("read", "fit", "score", "evaluate")
        )
        return f"{', '.join(seconds)}; peak memory {self.peak_rss_mb:,.0f} MB"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The origin of a report, sufficient to reproduce it. The mappings have plain JSON values."""

    spec: Mapping[str, Any] = field(default_factory=dict)
    """All hyper-parameters."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """The fingerprint of each data set: ``{"train": "sha256:…"}``."""
    seeds: tuple[int, ...] = ()
    versions: Mapping[str, Any] = field(default_factory=dict)
    """Versions of Python, of this library and of those that the numbers depend on."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    """The facts that timings depend on: cores, memory, device."""

    def __post_init__(self) -> None:
        for name in ("spec", "data", "versions", "machine"):
            object.__setattr__(
                self, name, MappingProxyType(_plain(dict(getattr(self, name)), f"provenance.{name}"))
            )
        object.__setattr__(self, "seeds", tuple(int(seed) for seed in self.seeds))


@dataclass(frozen=True, kw_only=True)
class Report:
    """The measurements of one run of a recipe. See the module's docstring."""

    recipe: str
    """The recipe's name: ``family/data``."""
    protocol: str
    """``paper`` or ``strict``: the origin of the hyper-parameters."""
    measurements: tuple[Measurement, ...]
    timings: Timings = field(default_factory=Timings)
    provenance: Provenance = field(default_factory=Provenance)
    notes: tuple[str, ...] = ()
    """Notes for the reader of the numbers, such as ``31 users had nothing held out and were left out``."""

    def __post_init__(self) -> None:
        names = [measurement.name for measurement in self.measurements]
        if len(set(names)) < len(names):
            repeated = sorted({name for name in names if names.count(name) > 1})
            raise DataError(
                f"Every measurement must have its own name; {some(repeated)} occur twice. Rename one of each."
            )

    def __getitem__(self, name: str) -> Measurement:
        """The measurement called `name`. Raises `DataError`, with the nearest name, if there is none."""
        return find_measurement(self.measurements, name)

    def missed(self) -> tuple[Measurement, ...]:
        """The measurements outside the tolerance of their expected number; those without one are never among them."""
        return tuple(measurement for measurement in self.measurements if measurement.reproduced is False)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values in the form of schema 1, as a new copy."""
        return {
            "schema": SCHEMA,
            "recipe": self.recipe,
            "protocol": self.protocol,
            "measurements": [asdict(measurement) for measurement in self.measurements],
            "timings": asdict(self.timings),
            "provenance": {
                entry.name: _plain(getattr(self.provenance, entry.name), entry.name)
                for entry in fields(Provenance)
            },
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """The report from the values of `to_dict`.

        Raises `ArtifactError` for another schema and for a key that is missing or unknown.
        """
        parts = dict(values)
        schema = parts.pop("schema", None)
        ArtifactError.unless(
            schema == SCHEMA,
            f"A report must be of schema {SCHEMA}; saw {schema!r}. Read it with the version that wrote it.",
        )
        for name in ("measurements", "notes"):
            entries = parts.get(name)
            ArtifactError.unless(
                isinstance(entries, list),
                f"`{name}` of a report must be a list; saw {entries!r}. The file is damaged or not a report.",
            )
        records = {
            "measurements": tuple(_measurement(entry) for entry in parts["measurements"]),
            "timings": _build(Timings, parts.get("timings", {})),
            "provenance": _build(Provenance, parts.get("provenance", {})),
            "notes": tuple(parts["notes"]),
        }
        return _build(cls, {**parts, **records})

    def to_json(self) -> str:
        """`to_dict` as strict JSON: no NaN, no infinity."""
        return json_text(self.to_dict())

    def to_markdown(self) -> str:
        """The report as Markdown: measured next to published numbers, then notes, timings and provenance.

        The columns of published numbers appear only if a measurement has one. There is no overall score.
        """
        lists = {
            "Notes": self.notes,
            "Timings": [_timing(name, value) for name, value in asdict(self.timings).items() if value],
            "Provenance": [
                Markdown(f"{escaped(name)}: {code(json.dumps(value, ensure_ascii=False))}")
                for name, value in self.to_dict()["provenance"].items()
                if value
            ],
        }
        sections = (
            Section("", (measurement_table(self.measurements),)),
            *(Section(title, (Listing(lines),)) for title, lines in lists.items()),
        )
        return as_markdown(Document(self.recipe, sections, f"Protocol: {self.protocol}."))


def sources(measurements: Iterable[Measurement]) -> tuple[str, ...]:
    """The distinct sources of the expected numbers."""
    return tuple(dict.fromkeys(entry.expected.source for entry in measurements if entry.expected is not None))


def measurement_table(measurements: Sequence[Measurement], *, brief: bool = False) -> Table:
    """A table with a row per measurement, next to the published number if any measurement has one.

    The sources of published numbers are a column; in a `brief` table they are the caption.
    """
    columns = ["measurement", "measured", "95 % interval", "users"]
    rows = [
        [entry.name, number(entry.value), interval(entry.low, entry.high), f"{entry.n_users:,}"]
        for entry in measurements
    ]
    if all(entry.expected is None for entry in measurements):
        return Table(columns, rows)
    published = [_published(entry) for entry in measurements]
    columns += ["published", "difference", "within", "reproduced", "source"]
    cells = [(*row, *published_cells) for row, published_cells in zip(rows, published, strict=True)]
    if not brief:
        return Table(columns, cells, words_last=2)
    caption = f"Published: {'; '.join(sources(measurements))}."
    return Table(columns[:-1], [row[:-1] for row in cells], caption)


def with_half(entry: Measurement) -> str:
    """The value, with half the width of its interval if it has one: ``0.3457 ±0.0071``."""
    low, high = entry.interval
    return number(entry.value) + ("" if entry.low is None else f" ±{(high - low) / 2:.4f}")


def _published(entry: Measurement) -> tuple[str | Cell, ...]:
    """The cells of a row about the expected number of a measurement."""
    if entry.expected is None:
        return ("",) * 5
    expected = entry.expected
    return (
        number(expected.value),
        number(entry.value - expected.value, signed=True),
        number(expected.within),
        Cell("yes", "good") if entry.reproduced else Cell("no", "bad"),
        expected.source,
    )


def _timing(name: str, value: float) -> str:
    """``fit_seconds`` as ``fit: 2.5 seconds``."""
    stage, _, unit = name.rpartition("_")
    return f"{stage.replace('_', ' ')}: {value:,.1f} {unit.replace('mb', 'MB')}"


def find_measurement(measurements: Iterable[Measurement], name: str) -> Measurement:
    """The measurement called `name`. Raises `DataError`, with the nearest name, if there is none."""
    measurements_by_name = {measurement.name: measurement for measurement in measurements}
    if name not in measurements_by_name:
        hint = nearest(name, measurements_by_name) or f" Measured: {some(measurements_by_name)}."
        raise DataError(f"The name must be that of a measurement; saw {name!r}.{hint}")
    return measurements_by_name[name]


def with_expected(
    measurements: Iterable[Measurement], expected: Mapping[str, Expected]
) -> tuple[Measurement, ...]:
    """The measurements with the expected numbers of the same names.

    Raises `DataError` for an expected number without a measurement, which could never be missed.
    """
    records = tuple(measurements)
    for name in expected:
        find_measurement(records, name)
    return tuple(replace(entry, expected=expected.get(entry.name, entry.expected)) for entry in records)


def _check_finite(record: Any, *names: str) -> None:
    """Turn the named fields of a frozen record into plain floats. Raises `DataError` unless they are finite numbers."""
    for name in names:
        value = getattr(record, name)
        DataError.unless(
            isinstance(value, int | float | np.number)
            and not isinstance(value, bool)
            and math.isfinite(value),
            f"`{name}` of {type(record).__name__} must be a finite number; saw {value!r}. "
            "Leave out what cannot be measured, with a note.",
        )
        object.__setattr__(record, name, float(value))


def _plain(value: Any, where: str) -> Any:
    """A copy of plain JSON values. Raises `DataError`, naming the place by `where`, for any other value."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, where) for entry in value]
    if (
        value is None
        or isinstance(value, str | bool | int)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    raise DataError(
        f"`{where}` must have plain JSON values, without NaN or infinity; saw {value!r}. Convert it, or leave it out."
    )


def _measurement(entry: Mapping[str, Any]) -> Measurement:
    expected = entry.get("expected")
    return _build(
        Measurement, {**entry, "expected": None if expected is None else _build(Expected, expected)}
    )


def _build(cls: type[RecordT], values: Any) -> RecordT:
    """A record from a table whose keys are exactly the record's fields. Raises `ArtifactError` for any other table."""
    names = [entry.name for entry in fields(cls)]  # type: ignore[arg-type]
    if not isinstance(values, Mapping):
        raise ArtifactError(
            f"`{cls.__name__}` must be a table; saw {values!r}. The file is damaged or not a report."
        )
    unknown = [key for key in values if key not in names]
    missing = [name for name in names if name not in values]
    if unknown or missing:
        hint = nearest(str(unknown[0]), names) if unknown else ""
        raise ArtifactError(
            f"`{cls.__name__}` must have exactly the keys {', '.join(names)}; unknown: {some(unknown) or 'none'}, missing: "
            f"{some(missing) or 'none'}.{hint}"
        )
    return cls(**values)
