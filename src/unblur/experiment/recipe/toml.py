"""Conversion of specs to the tables of a recipe and back, and of tables to TOML text, which Python only reads."""

from __future__ import annotations

import json
import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType
from typing import Any, TypeVar

from unblur.errors import RecipeError, SpecError
from unblur.registry import first_kind
from unblur.spec import first_names, migrated, spec_from_dict, spec_to_dict

OFF = "off"
"""The value of an optional part that is left out, since TOML has no null: ``sharpen = "off"``."""

_S = TypeVar("_S")


def read_spec(cls: type[_S], table: Mapping[str, Any], section: str) -> _S:
    """A spec from its table. Raises `RecipeError` that names the section."""
    try:
        return spec_from_dict(cls, _decoded(cls, migrated(cls, table)[0]))
    except SpecError as problem:
        raise RecipeError(f"[{section}] {problem}") from None


def read_kind(
    class_of: Callable[[str], type[_S]], table: Mapping[str, Any], section: str, default: str = ""
) -> _S:
    """A spec from a table that names its kind; `class_of` gives the class of a kind, or raises `SpecError`."""
    kind = table.get("kind", default)
    RecipeError.unless(
        kind,
        f'[{section}] The kind of the {section} must be given; it is missing. Add it, such as kind = "bspm".',
    )
    try:
        return read_spec(
            class_of(str(kind)), {name: value for name, value in table.items() if name != "kind"}, section
        )
    except SpecError as problem:
        raise RecipeError(f"[{section}] {problem}") from None


def _decoded(cls: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with `None` instead of ``"off"`` in all fields that may be `None`."""
    hints = typing.get_type_hints(cls)
    decoded: dict[str, Any] = {}
    for name, value in table.items():
        options = typing.get_args(hints.get(name)) or (hints.get(name),)
        spec_class = next(
            (option for option in options if isinstance(option, type) and is_dataclass(option)), None
        )
        if value == OFF and NoneType in options:
            decoded[name] = None
        elif spec_class and not isinstance(value, Mapping):
            off = f' or "{OFF}"' if NoneType in options else ""
            raise SpecError(
                f"{name} of {cls.__name__} must be a table{off}; saw {value!r}. Write {name} = {{ … }}."
            )
        else:
            decoded[name] = (
                _decoded(spec_class, value) if spec_class and isinstance(value, Mapping) else value
            )
    return decoded


def recipe_table(value: Any) -> dict[str, Any]:
    """The table of a spec, its kind first if it has one.

    `None` is left out if it is the default, and ``"off"`` otherwise; a part without entries is left out as well.
    """
    return _with_kind(value, _encoded(value, spec_to_dict(value)))


def all_values(value: Any) -> dict[str, Any]:
    """All values of a spec as plain ones, its kind first if it has one."""
    return _with_kind(value, spec_to_dict(value))


def first_values(value: Any) -> dict[str, Any]:
    """`all_values` under the names of the first version (see `unblur.spec.first_names`)."""
    table = _with_kind(value, first_names(type(value), spec_to_dict(value)))
    return {**table, "kind": first_kind(table["kind"])} if "kind" in table else table


def _with_kind(value: Any, table: dict[str, Any]) -> dict[str, Any]:
    return {"kind": value.kind, **table} if hasattr(value, "kind") else table


def _encoded(value: Any, table: dict[str, Any]) -> dict[str, Any]:
    encoded: dict[str, Any] = {}
    for entry in fields(value):
        if not entry.init:
            continue
        value_of_field, plain_value = getattr(value, entry.name), table[entry.name]
        if value_of_field is None:
            if entry.default is not None and entry.default is not MISSING:
                encoded[entry.name] = OFF
        elif is_dataclass(value_of_field):
            inner_table = _encoded(value_of_field, plain_value)
            if inner_table or value_of_field != entry.default:
                encoded[entry.name] = inner_table
        else:
            encoded[entry.name] = plain_value
    return encoded


_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def to_toml(values: Mapping[str, Any]) -> str:
    """Write `values` as TOML text that ``tomllib.loads`` reads back as the same values.

    Tables at the top become sections; those inside become inline tables, one line each. Values are strings,
    booleans, whole and finite real numbers, lists, and tables with string keys. Raises `RecipeError` for any other
    value.
    """
    top_lines = [
        f"{_key(name)} = {_value(value)}" for name, value in values.items() if not isinstance(value, Mapping)
    ]
    sections = ["\n".join(top_lines)] if top_lines else []
    for name, table in values.items():
        if isinstance(table, Mapping):
            lines = [f"{_key(entry)} = {_value(value)}" for entry, value in table.items()]
            sections.append("\n".join([f"[{_key(name)}]", *lines]))
    return "\n\n".join(sections) + "\n"


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)


def _value(value: Any) -> str:
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return _text(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    if isinstance(value, Mapping):
        entries = ", ".join(f"{_key(name)} = {_value(entry)}" for name, entry in value.items())
        return f"{{ {entries} }}" if entries else "{}"
    raise RecipeError(
        f"A recipe must hold strings, booleans, finite numbers, lists and tables; saw {value!r}. Leave it "
        "out, or convert it."
    )


def _text(value: str | float) -> str:
    """A string, boolean or number as JSON text, which is TOML text, with what cannot be printed as escapes.

    TOML requires that of DEL; other such characters could steer the terminal that a recipe is printed to.
    """
    text = json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in text)
