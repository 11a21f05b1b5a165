"""Plain values as TOML text. Python reads TOML itself; this is the other direction, for what recipes hold."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from unblur.errors import RecipeError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(values: Mapping[str, Any]) -> str:
    """TOML text that ``tomllib.loads`` reads back as `values`.

    Tables at the top become sections; those inside become inline tables, one line each. Values are strings,
    booleans, whole and finite real numbers, lists and tables with string keys. Raises `RecipeError` for any
    other.
    """
    plain = [
        f"{_key(name)} = {_value(value)}" for name, value in values.items() if not isinstance(value, Mapping)
    ]
    sections = ["\n".join(plain)] if plain else []
    for name, table in values.items():
        if isinstance(table, Mapping):
            lines = [f"{_key(entry)} = {_value(value)}" for entry, value in table.items()]
            sections.append("\n".join([f"[{_key(name)}]", *lines]))
    return "\n\n".join(sections) + "\n"


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(name)} = {_value(entry)}" for name, entry in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    raise RecipeError(
        f"A recipe holds strings, booleans, finite numbers, lists and tables; saw {value!r}. Leave it "
        "out or convert it."
    )


def _text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for DEL, which TOML wants escaped as well."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
