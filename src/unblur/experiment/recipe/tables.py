"""Specs as the tables of a recipe, and back."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType
from typing import Any, TypeVar

from unblur.errors import RecipeError, SpecError
from unblur.spec import migrated, spec_from_dict, spec_to_dict

OFF = "off"
"""How TOML, which has no null, writes that an optional part is left out: ``sharpen = "off"``."""

_S = TypeVar("_S")


def read_spec(cls: type[_S], table: Mapping[str, Any], section: str) -> _S:
    """A spec from its table; raises `RecipeError` that names the section."""
    try:
        return spec_from_dict(cls, migrated(cls, _decoded(cls, table))[0])
    except SpecError as problem:
        raise RecipeError(f"[{section}] {problem}") from None


def read_kind(
    known: Callable[[str], type[_S]], table: Mapping[str, Any], section: str, default: str = ""
) -> _S:
    """A spec from a table that names its kind; `known` gives the class of a kind, or raises `SpecError`."""
    kind = table.get("kind", default)
    if not kind:
        raise RecipeError(
            f'[{section}] The kind of the {section} must be given, such as kind = "bspm"; it is not there.'
        )
    try:
        cls = known(str(kind))
    except SpecError as problem:
        raise RecipeError(f"[{section}] {problem}") from None
    return read_spec(cls, {name: value for name, value in table.items() if name != "kind"}, section)


def _decoded(cls: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with ``"off"`` read as `None` wherever a spec's field may be `None`."""
    hints = typing.get_type_hints(cls)
    decoded: dict[str, Any] = {}
    for name, value in table.items():
        options = typing.get_args(hints.get(name)) or (hints.get(name),)
        inner = next(
            (option for option in options if isinstance(option, type) and is_dataclass(option)), None
        )
        if value == OFF and NoneType in options:
            decoded[name] = None
        elif inner and not isinstance(value, Mapping):
            off = f' or "{OFF}"' if NoneType in options else ""
            raise SpecError(f"{name} of {cls.__name__} must be a table{off}; saw {value!r}. Write it so.")
        else:
            decoded[name] = _decoded(inner, value) if inner and isinstance(value, Mapping) else value
    return decoded


def plain(value: Any) -> dict[str, Any]:
    """A spec's table: `None` is left out where it is the default, and ``"off"`` elsewhere; so is an empty
    table."""
    return _encoded(value, spec_to_dict(value))


def _encoded(value: Any, table: dict[str, Any]) -> dict[str, Any]:
    encoded: dict[str, Any] = {}
    for entry in fields(value):
        if not entry.init:
            continue
        own, plain = getattr(value, entry.name), table[entry.name]
        if own is None:
            if entry.default is not None and entry.default is not MISSING:
                encoded[entry.name] = OFF
        elif is_dataclass(own):
            inside = _encoded(own, plain)
            if inside or own != entry.default:
                encoded[entry.name] = inside
        else:
            encoded[entry.name] = plain
    return encoded


def tagged(value: Any) -> dict[str, Any]:
    """A spec's table, its kind first."""
    return {"kind": value.kind, **plain(value)}


def described(value: Any) -> dict[str, Any]:
    """All plain values of a spec, its kind first."""
    return {"kind": value.kind, **spec_to_dict(value)}
