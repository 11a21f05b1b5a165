"""A document as one self-contained HTML page: no network, plots as inline SVG, light and dark, readable on a phone."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unblur.document.blocks import Document
from unblur.document.text import one_line


def as_html(document: Document) -> str:
    """The document as an HTML page. All text is escaped; the page loads nothing and runs no scripts."""
    environment = Environment(
        loader=PackageLoader("unblur", "document/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["drawing"] = Markup  # a plot's SVG is escaped where it is drawn
    return environment.get_template("page.html").render(document=document)


def _plain(value: object) -> object:
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value
