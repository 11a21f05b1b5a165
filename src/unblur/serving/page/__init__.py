"""The page: one file each of HTML, style and script, with no asset from elsewhere."""

from __future__ import annotations

from importlib.resources import files

CONTENT_SECURITY_POLICY = "; ".join(
    (
        *(
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src data:",
        ),
        *("base-uri 'none'", "form-action 'none'"),
    )
)
"""The page loads its own script and style, asks its own server, and nothing else."""
PAGE = {"page.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
"""The files of the page, and their types."""


def page_file(name: str) -> bytes:
    """The content of one of the files."""
    return (files("unblur.serving.page") / name).read_bytes()
