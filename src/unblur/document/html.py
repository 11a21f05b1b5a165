"""A document as one self-contained HTML page: no network, plots as inline SVG, light and dark, readable on a phone."""

from __future__ import annotations

from unblur.document.blocks import Document
from unblur.errors import CapabilityError


def as_html(document: Document) -> str:
    """The page. All text is escaped; the page loads nothing and runs nothing.

    Raises `CapabilityError` if jinja2 (the extra `report`) is missing.
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
    return environment.get_template("page.html").render(document=document)
