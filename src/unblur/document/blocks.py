"""What a page is made of, and the page itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from unblur.errors import CapabilityError, DataError

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
    """Lines one below the other, each with a short mark before it."""

    kind: ClassVar[str] = "listing"
    lines: tuple[tuple[Cell, str], ...]
    """(mark, text): ``(Cell("leak", "bad"), "It can be told …")``."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below column names. The first `left` columns are words, the others figures."""

    kind: ClassVar[str] = "table"
    columns: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]
    caption: str = ""
    left: int = 1

    def __post_init__(self) -> None:
        wrong = [len(row) for row in self.rows if len(row) != len(self.columns)]
        if wrong:
            raise DataError(
                f"Each row of a table must have one cell for each of {len(self.columns)} columns; one has {wrong[0]}. "
                "Fill it up with empty cells."
            )

    def cells(self) -> list[list[Cell]]:
        """The rows with every entry as a `Cell`."""
        return [[entry if isinstance(entry, Cell) else Cell(entry) for entry in row] for row in self.rows]


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot as SVG text, made by the functions of `unblur.document.plots`, with its legend and caption."""

    kind: ClassVar[str] = "figure"
    svg: str
    """An ``<svg>`` element; whoever makes it must escape what it holds."""
    caption: str
    """What is plotted, of how many users."""
    legend: tuple[str, ...] = ()
    """The names of the series, in the order of their colours; none for a single one."""


Block: TypeAlias = Paragraph | Listing | Table | Figure


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]


def page(title: str, sections: Sequence[Section], *, lead: str = "", footer: Sequence[str] = ()) -> str:
    """The HTML of a page. All text is escaped; the page loads nothing and runs nothing.

    lead: one sentence below the title. footer: small lines at the end: versions, fingerprints, times. Raises
    `CapabilityError` where jinja2 is missing.
    """
    try:
        import jinja2
        from markupsafe import Markup
    except ImportError:
        raise CapabilityError(
            "A page needs jinja2; it is not installed. Install it with `pip install 'unblur[report]'`."
        ) from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unblur", "document/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawing"] = Markup
    return environment.get_template("page.html").render(
        title=title, lead=lead, sections=list(sections), footer=list(footer)
    )
