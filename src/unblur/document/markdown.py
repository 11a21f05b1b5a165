"""A document as Markdown: everything except plots and sections of detail.

Texts of a document are plain and are escaped, except those that are `Markdown` already.
"""

from __future__ import annotations

import re

from unblur.document.blocks import Cell, Document, DocumentBlock, Listing, Paragraph, Section, Table
from unblur.document.text import one_line


class Markdown(str):
    """Text that is Markdown, and is not escaped: what is put into it must be, by `escaped` or `code`."""

    __slots__ = ()


def escaped(text: str) -> str:
    """Plain text as Markdown on one line: no tag, entity, code span or link comes of it."""
    if isinstance(text, Markdown):
        return text
    # Of brackets those that a place or another bracket follows: the others are no links, and read better as they are.
    literal = re.sub(r"[\\`]|\](?=[(\[:])", r"\\\g<0>", one_line(text))
    return re.sub(r"&(?=#?\w+;)", "&amp;", literal).replace("<", "&lt;")


def code(text: str) -> Markdown:
    """Any text as a code span."""
    line = one_line(text)
    marks = _marks(line, 1)
    padding = " " if "`" in line else ""
    return Markdown(f"{marks}{padding}{line}{padding}{marks}")


def code_block(text: str, language: str) -> Markdown:
    """Any text of whole lines as a code block."""
    marks = _marks(text, 3)
    return Markdown(f"{marks}{language}\n{text}{marks}")


def _marks(text: str, least: int) -> str:
    """More backticks than the text has next to each other."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))


def as_markdown(document: Document) -> str:
    """The document as Markdown, with a final line break."""
    parts = [
        f"# {escaped(document.title)}",
        escaped(document.lead),
        *map(section_as_markdown, document.sections),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def section_as_markdown(section: Section, level: int = 2) -> str:
    """A section with a heading of `level`; empty if it is a detail, or has plots alone."""
    texts = [] if section.detail else [text for text in map(_block, section.blocks) if text]
    heading = [f"{'#' * level} {escaped(section.title)}"] if section.title and texts else []
    return "\n\n".join(heading + texts)


def table_as_markdown(table: Table) -> str:
    """A table without its caption; cells with the tone ``bad`` are in bold."""
    align = ["---:" if table.is_figure(index) else "---" for index in range(len(table.columns))]
    heading = [_cell(Cell(column)) for column in table.columns]
    rows = (heading, align, *(map(_cell, line) for line in table.cells()))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _block(block: DocumentBlock) -> str:
    match block:
        case Paragraph():
            return escaped(block.text)
        case Listing():
            lines = ((_cell(mark), escaped(text)) for mark, text in block.marked())
            return "\n".join(f"- {mark}: {text}" if mark else f"- {text}" for mark, text in lines)
        case Table():
            return "\n\n".join(filter(None, (escaped(block.caption), table_as_markdown(block))))
        case _:  # a plot
            return ""


def _cell(cell: Cell) -> str:
    text = escaped(cell.text).replace("|", "\\|")
    return f"**{text}**" if cell.tone == "bad" else text
