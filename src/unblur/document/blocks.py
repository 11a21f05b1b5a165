"""What a document is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from unblur.errors import DataError

Tone: TypeAlias = Literal["good", "bad", "warn", "plain"]
"""How a word is shown; it is never the only sign, the word says the same."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A word with a tone: ``Cell("passed", "good")``."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Plain text."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Lines one below the other."""

    kind: ClassVar[str] = "listing"
    lines: Sequence[str | tuple[Cell, str]]
    """Text alone, or with a short mark before it: ``(Cell("leak", "bad"), "It can be told …")``."""

    def marked(self) -> list[tuple[Cell, str]]:
        """Every line with its mark; lines of text alone have an empty one."""
        return [(Cell(""), line) if isinstance(line, str) else line for line in self.lines]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below column names."""

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    caption: str = ""
    left: int = 1
    """How many columns, from the left, are words; the others are figures and are aligned to the right."""
    words_last: int = 0
    """How many columns at the end are words again."""

    def __post_init__(self) -> None:
        for row in self.rows:
            DataError.unless(
                len(row) == len(self.columns),
                f"Each row of a table must have one cell for each of {len(self.columns)} columns; one has {len(row)}. "
                "Fill it up with empty cells.",
            )

    def cells(self) -> list[list[Cell]]:
        """The rows with every entry as a `Cell`."""
        return [[entry if isinstance(entry, Cell) else Cell(entry) for entry in row] for row in self.rows]

    def is_figure(self, place: int) -> bool:
        """Whether the column at `place` holds figures."""
        return self.left <= place < len(self.columns) - self.words_last


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing as SVG text, made by the functions of `unblur.document.plots`, with its legend and caption."""

    kind: ClassVar[str] = "plot"
    svg: str
    """An ``<svg>`` element; whoever makes it must escape what it holds."""
    caption: str
    """What is plotted, of how many users."""
    legend: Sequence[str] = ()
    """The names of the series, in the order of their colours; none for a single one."""


DocumentBlock: TypeAlias = Paragraph | Listing | Table | Plot


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it; tables without rows and listings without lines are left out."""

    title: str
    """Empty for a section without a heading."""
    blocks: Sequence[DocumentBlock]
    detail: bool = False
    """Whether it stands on the page only: too long, or too fine, for a text that is read from end to end."""

    def __post_init__(self) -> None:
        filled = tuple(block for block in self.blocks if not _is_empty(block))
        object.__setattr__(self, "blocks", filled)


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report; sections with nothing in them are left out."""

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
    """A figure as reports write it: four decimals, one from 100 on."""
    digits = 4 if abs(value) < 100 else 1
    return f"{value:{'+' if signed else ''},.{digits}f}"


def interval(low: float | None, high: float | None, *, signed: bool = False) -> str:
    """The two ends of an interval, or a dash if there is none."""
    if low is None or high is None:
        return "–"
    return f"{number(low, signed=signed)} … {number(high, signed=signed)}"
