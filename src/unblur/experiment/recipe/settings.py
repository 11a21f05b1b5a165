"""Settings given one at a time: ``model.sharpen.duration=2.5``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any

from unblur.errors import RecipeError


def parse_setting(text: str) -> tuple[str, Any]:
    """The dotted path and the value of ``path=value``.

    The value is TOML; what is not TOML is a string, so that words need no quotes. Raises `RecipeError` where
    there is no path, no ``=`` or no value.
    """
    path, equals, given = text.partition("=")
    path, given = path.strip(), given.strip()
    if not equals or not given or not all(path.split(".")):
        raise RecipeError(
            f"A setting must have the form path=value, such as model.low_pass.rank=64; saw {text!r}. "
            "Write it so."
        )
    return path, _value(given)


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Every setting by its path. Raises `RecipeError` for a path that is set twice."""
    settings: dict[str, Any] = {}
    for text in texts:
        path, value = parse_setting(text)
        if path in settings:
            raise RecipeError(f"Each path must be set once; {path} is set twice. Keep one of the two.")
        settings[path] = value
    return settings


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = parsed.get("value")
    plain = isinstance(value, bool | int | float | str | list | dict)
    return value if plain and len(parsed) == 1 else text
