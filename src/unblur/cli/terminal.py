"""The consoles of the command line: results go to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_WIDTH = 140
"""Columns of a table that does not go to a terminal."""


def out() -> Console:
    """The console for results: stdout, with colours on a terminal only."""
    from rich.console import Console

    return Console(file=sys.stdout, width=_width(sys.stdout.isatty()), highlight=False, soft_wrap=False)


def err() -> Console:
    """The console for progress, notes and errors: stderr."""
    from rich.console import Console

    return Console(file=sys.stderr, width=_width(sys.stderr.isatty()), highlight=False)


def note(text: str) -> None:
    """A remark on stderr, in one line of plain text where that is no terminal."""
    err().print(text, style="dim", markup=False, soft_wrap=True)


def error(text: str) -> None:
    """An error in one red line on stderr."""
    from rich.text import Text

    line = Text("error: ", style="bold red").append(" ".join(text.split()), style="red")
    err().print(line, soft_wrap=True)


def _width(terminal: bool) -> int | None:
    return None if terminal or "COLUMNS" in os.environ else _WIDTH
