"""Text that came from outside, made safe for what reads it: a terminal, a page, JSON, a shell."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any
from unicodedata import category

JOINERS = "\u00ad\u200c\u200d"
"""Characters that cannot be seen and belong to words: hyphens where a word may break, and the joiners of Persian, Hindi and emoji."""


def visible(text: str) -> str:
    """The text with characters that cannot be printed as escapes: they could steer a terminal, or hide what is said."""
    return "".join(
        letter
        if letter.isprintable() or letter in JOINERS or category(letter) == "Zs"
        else ascii(letter)[1:-1]
        for letter in text
    )


def one_line(text: str) -> str:
    """The text on one line, as `visible`."""
    return visible(" ".join(text.splitlines()))


def json_text(values: Mapping[str, Any]) -> str:
    """The values as JSON of whole lines, which UTF-8 can write. Raises `TypeError` and `ValueError` for what JSON does not have."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # The name of a file need not be UTF-8: Python has half a surrogate pair for a byte that is not, JSON an escape.
    return text.encode(errors="backslashreplace").decode()


def shell_line(*words: object) -> str:
    """Words as a command line to be copied into a shell, whatever is in them."""
    return " ".join(_quoted(str(word)) for word in words)


def _quoted(word: str) -> str:
    if visible(word) == word:
        return shlex.quote(word)
    letters = (
        letter
        if letter.isascii() and letter.isalnum()
        else "".join(f"\\x{byte:02x}" for byte in letter.encode(errors="surrogateescape"))
        for letter in word
    )
    return f"$'{''.join(letters)}'"
