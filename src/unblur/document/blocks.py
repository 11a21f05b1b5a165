"""The blocks of a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from unblur.errors import DataError

Tone: TypeAlias = Literal["good", "bad", "warn", "plain"]
"""The style of a word; the word itself always says the same, for readers without colours."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A word with a tone: ``Cell("passed", "good")``."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph of plain text."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A list of lines."""

    kind: ClassVar[str] = "listing"
    lines: Sequence[str | tuple[Cell, str]]
    """Text alone, or with a short mark before it: ``(Cell("leak", "bad"), "Members are recognised …")``."""

    def marked(self) -> list[tuple[Cell, str]]:
        """All lines with their marks; the mark of a line of text alone is empty."""
        return [(Cell(""), line) if isinstance(line, str) else line for line in self.lines]


@dataclass(frozen=True, slots=True)
class Table:
    """A table with named columns."""

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""
    left: int = 1
    """Number of columns from the left with words; the others have figures, which are aligned to the right."""
    words_last: int = 0
    """Number of columns at the right end with words."""

    def __post_init__(self) -> None:
        for row in self.rows:
            DataError.unless(
                len(row) == len(self.columns),
                f"Each row of a table must have a cell for each of {len(self.columns)} columns; one has {len(row)}. "
                "Add empty cells.",
            )

    def cells(self) -> list[list[Cell]]:
        """The rows with every entry as a `Cell`."""
        return [[entry if isinstance(entry, Cell) else Cell(entry) for entry in row] for row in self.rows]

    def is_figure(self, index: int) -> bool:
        """Return whether the column at `index` has figures."""
        return self.left <= index < len(self.columns) - self.words_last


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot as SVG text, drawn by the functions of `unblur.document.plots`, with its legend and caption."""

    kind: ClassVar[str] = "plot"
    svg: str
    """An ``<svg>`` element, whose text must be escaped already."""
    caption: str
    """A description of the plot, with the number of users."""
    legend: Sequence[str] = ()
    """The names of the series, in the order of their colours; empty for a single series."""


DocumentBlock: TypeAlias = Paragraph | Listing | Table | Plot


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with the blocks below it; tables without rows and listings without lines are left out."""

    title: str
    """Empty for a section without a heading."""
    blocks: Sequence[DocumentBlock]
    detail: bool = False
    """True for a section of the HTML page only: too long or too detailed for a text that is read to its end."""

    def __post_init__(self) -> None:
        filled = tuple(block for block in self.blocks if not _is_empty(block))
        object.__setattr__(self, "blocks", filled)


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report; sections without blocks are left out."""

    title: str
    sections: Sequence[Section]
    lead: str = ""
    """A sentence or two below the title."""
    footer: Sequence[str] = ()
    """Small print at the end of a page: versions, fingerprints, times."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sections", tuple(section for section in self.sections if section.blocks))


def _is_empty(block: DocumentBlock) -> bool:
    return (isinstance(block, Table) and not block.rows) or (isinstance(block, Listing) and not block.lines)


def number(value: float, *, signed: bool = False) -> str:
    """A figure as text with four decimals, as tables of papers have them, or one decimal from 100 on; zero is never -0."""
    digits = 4 if abs(value) < 100 else 1
    return f"{value:{'+' if signed else ''}z,.{digits}f}"


def interval(low: float | None, high: float | None, *, signed: bool = False) -> str:
    """The two ends of an interval, or a dash if there is none."""
    if low is None or high is None:
        return "–"
    return f"{number(low, signed=signed)} … {number(high, signed=signed)}"
