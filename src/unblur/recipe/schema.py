"""A recipe: data, split, model, protocol and the numbers that must come out, in one frozen value."""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType, NoneType
from typing import Any, TypeVar

from unblur.errors import RecipeError, SpecError, nearest
from unblur.recipe.parts import SPLITTINGS, Data, Files, Protocol, Published, Splitting, Verified
from unblur.recipe.toml import to_toml
from unblur.registry import recommender_spec
from unblur.spec import set_path, spec_from_dict, spec_to_dict

SCHEMA = 1
"""The version of the form that recipes have in TOML."""
OFF = "off"
"""How TOML, which has no null, writes that an optional part is left out: ``sharpen = "off"``."""

T = TypeVar("T")

_SECTIONS = ("data", "split", "model", "protocol")
_NUMBERS = ("expected", "verified")
_PLAIN = ("schema", "name", "title", "seed")
_KINDS = ("model.kind", "split.kind")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a run needs but the data themselves.

    `from_toml` and `to_toml` are inverses. Build one in Python with specs, or change one with `changed`.
    """

    name: str
    """``family/data``."""
    title: str = ""
    """What it is, in a line."""
    seed: int = 0
    """Where all chance of a run comes from."""
    data: Data = field(default_factory=Data)
    split: Splitting = field(default_factory=Files)
    model: Any
    """A spec: `unblur.BSPM(…)`."""
    protocol: Protocol = field(default_factory=Protocol)
    expected: Mapping[str, Published] = field(default_factory=dict)
    """Published numbers by measurement, such as ``recall@20``."""
    verified: Mapping[str, Verified] = field(default_factory=dict)
    """Our own numbers by measurement."""

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise RecipeError(f"seed must be a whole number, not negative; saw {self.seed!r}. Write one.")
        for name in self.expected:
            if name not in self.protocol.names:
                raise RecipeError(
                    f"[expected] Only what the protocol measures can be expected; saw {name!r}."
                    f"{nearest(name, self.protocol.names)} Measured: {', '.join(self.protocol.names)}."
                )

    # --------------------------------------------------------------------------------------------- forms

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, name: str = "") -> Recipe:
        """A recipe from the tables of its TOML form; `name` where the tables have none.

        Raises `RecipeError`, naming the section, for an unknown name (with the nearest real one), a wrong
        type, a value out of range, and for a schema that this version does not read.
        """
        known = (*_PLAIN, *_SECTIONS, *_NUMBERS)
        for entry in values:
            if entry not in known:
                raise RecipeError(
                    f"{entry} is not a part of a recipe.{nearest(entry, known)} {_listed(known)}"
                )
        schema = values.get("schema", SCHEMA)
        if schema != SCHEMA or isinstance(schema, bool):
            raise RecipeError(
                f"A recipe must be of schema {SCHEMA}; saw {schema!r}. Read it with the version that "
                "wrote it."
            )
        tables = {section: _table(values, section) for section in (*_SECTIONS, *_NUMBERS)}
        if "kind" not in tables["model"]:
            raise RecipeError(
                '[model] The kind of the model must be given, such as kind = "bspm"; it is not there.'
            )
        split_kind = tables["split"].get("kind", Files.kind)
        if split_kind not in SPLITTINGS:
            raise RecipeError(
                f"[split] kind must be one of {', '.join(SPLITTINGS)}; saw {split_kind!r}."
                f"{nearest(str(split_kind), SPLITTINGS)}"
            )
        return cls(
            name=_text(values, "name", name),
            title=_text(values, "title", ""),
            seed=values.get("seed", 0),
            data=_spec(Data, tables["data"], "data"),
            split=_spec(SPLITTINGS[split_kind], _without_kind(tables["split"]), "split"),
            model=_model(tables["model"]),
            protocol=_spec(Protocol, tables["protocol"], "protocol"),
            expected={
                key: _spec(Published, _table(tables["expected"], key), f'expected."{key}"')
                for key in tables["expected"]
            },
            verified={
                key: _spec(Verified, _table(tables["verified"], key), f'verified."{key}"')
                for key in tables["verified"]
            },
        )

    @classmethod
    def from_toml(cls, text: str, *, name: str = "") -> Recipe:
        """A recipe from TOML text. Errors as `from_dict`, and for text that is not TOML."""
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as problem:
            raise RecipeError(f"A recipe must be a TOML file; {problem}. Correct that line.") from None
        return cls.from_dict(values, name=name)

    def to_dict(self) -> dict[str, Any]:
        """The tables of the TOML form, every hyper-parameter included."""
        values: dict[str, Any] = {
            "schema": SCHEMA,
            "name": self.name,
            "title": self.title,
            "seed": self.seed,
            "data": _plain(self.data),
            "split": {"kind": self.split.kind, **_plain(self.split)},
            "model": {"kind": self.model.kind, **_plain(self.model)},
            "protocol": {"kind": self.protocol.kind, **_plain(self.protocol)},
        }
        for section in _NUMBERS:
            if getattr(self, section):
                values[section] = {name: _plain(number) for name, number in getattr(self, section).items()}
        return values

    def to_toml(self) -> str:
        """The recipe as TOML text, fully resolved."""
        return to_toml(self.to_dict())

    # ------------------------------------------------------------------------------------------- changes

    def changed(self, settings: Mapping[str, Any]) -> Recipe:
        """A copy with the values at dotted paths set: ``{"model.blur.steps": 2, "model.low_pass": "off"}``.

        Checked as `from_dict` checks. Another kind of model or split starts from that kind's defaults.
        Published and verified numbers are dropped where they no longer speak of the same thing: with other
        data, another split, kind of model, protocol or averaging, and where they are not measured any more.
        """
        if not settings:
            return self
        tree = self.to_dict()
        for path in sorted(settings, key=lambda path: path not in _KINDS):
            self._check_path(path)
            section = path.partition(".")[0]
            if path in _KINDS and settings[path] != tree[section]["kind"]:
                tree[section] = {}
            tree = set_path(tree, path, settings[path])
        for section in _NUMBERS:
            tree.pop(section, None)
        made = Recipe.from_dict(tree)
        if made._subject() != self._subject():
            return made
        return replace(
            made,
            expected={name: number for name, number in self.expected.items() if name in made.protocol.names},
            verified={name: number for name, number in self.verified.items() if name in made.protocol.names},
        )

    def without_numbers(self) -> Recipe:
        """A copy that expects nothing: for other data than the numbers speak of."""
        return replace(self, expected={}, verified={})

    def _subject(self) -> tuple[object, ...]:
        """What published numbers speak of, beside the hyper-parameters."""
        return self.data, self.split, self.model.kind, self.protocol.kind, self.protocol.averaging

    def _check_path(self, path: str) -> None:
        head, _, rest = path.partition(".")
        if (head in _SECTIONS and rest) or path in ("seed", "name", "title"):
            return
        if head in _SECTIONS:
            raise RecipeError(f"{head} is a whole section; set one value in it, such as {head}.NAME=VALUE.")
        if head in ("schema", *_NUMBERS):
            raise RecipeError(
                f"{head} states facts and cannot be set. Write a recipe of your own to state others."
            )
        named = {section: self.to_dict()[section] for section in _SECTIONS}
        inside = [f"{section}.{path}" for section, table in named.items() if head in table]
        options = [*_PLAIN[1:], *(f"{section}.{name}" for section, table in named.items() for name in table)]
        hint = (
            f" Did you mean {inside[0]!r}?" if inside else nearest(path, options) or nearest(head, _SECTIONS)
        )
        raise RecipeError(
            f"{path} is not a setting of a recipe.{hint} Settings begin with {', '.join(_SECTIONS)} or seed."
        )


def _model(table: Mapping[str, Any]) -> Any:
    try:
        cls = recommender_spec(str(table["kind"]))
    except SpecError as problem:
        raise RecipeError(f"[model] {problem}") from None
    return _spec(cls, _without_kind(table), "model")


def _spec(cls: type[T], table: Mapping[str, Any], section: str) -> T:
    try:
        return spec_from_dict(cls, _decoded(cls, table))
    except SpecError as problem:
        raise RecipeError(f"[{section}] {problem}") from None


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


def _plain(value: Any) -> dict[str, Any]:
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


def _without_kind(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in table.items() if name != "kind"}


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = values.get(name, {})
    if not isinstance(table, Mapping):
        raise RecipeError(f"{name} must be a table; saw {table!r}. Write it as a section [{name}].")
    return table


def _text(values: Mapping[str, Any], name: str, default: str) -> str:
    text = values.get(name, default)
    if not isinstance(text, str):
        raise RecipeError(f"{name} must be a string; saw {text!r}. Put it in quotes.")
    return text


def _listed(names: tuple[str, ...]) -> str:
    return f"Parts: {', '.join(names)}."
