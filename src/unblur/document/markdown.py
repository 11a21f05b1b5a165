"""A document as Markdown: everything except plots and sections of detail."""

from __future__ import annotations

from unblur.document.blocks import Cell, Document, DocumentBlock, Listing, Paragraph, Section, Table


def as_markdown(document: Document) -> str:
    """The document as Markdown, with a final line break."""
    parts = [f"# {document.title}", document.lead, *map(section_as_markdown, document.sections)]
    return "\n\n".join(part for part in parts if part) + "\n"


def section_as_markdown(section: Section, level: int = 2) -> str:
    """A section with a heading of `level`; empty if it is a detail, or has plots alone."""
    texts = [] if section.detail else [text for text in map(_block, section.blocks) if text]
    heading = [f"{'#' * level} {section.title}"] if section.title and texts else []
    return "\n\n".join(heading + texts)


def table_as_markdown(table: Table) -> str:
    """A table without its caption; cells with the tone ``bad`` are in bold."""
    align = [Cell("---:" if table.is_figure(index) else "---") for index in range(len(table.columns))]
    lines = ([Cell(column) for column in table.columns], align, *table.cells())
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _block(block: DocumentBlock) -> str:
    match block:
        case Paragraph():
            return block.text
        case Listing():
            lines = ((_cell(mark), text) for mark, text in block.marked())
            return "\n".join(f"- {mark}: {text}" if mark else f"- {text}" for mark, text in lines)
        case Table():
            return "\n\n".join(filter(None, (block.caption, table_as_markdown(block))))
        case _:  # a plot
            return ""


def _cell(cell: Cell) -> str:
    text = cell.text.replace("|", "\\|")
    return f"**{text}**" if cell.tone == "bad" else text
