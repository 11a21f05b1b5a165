"""A recipe: data, split, model, protocol and the numbers that must come out, in one frozen value."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from unblur.errors import RecipeError, SpecError, nearest
from unblur.experiment.recipe import synthesis
from unblur.experiment.recipe.parts import SPLITTINGS, Data, Files, Protocol, Published, Splitting, Verified
from unblur.experiment.recipe.tables import OFF as OFF
from unblur.experiment.recipe.tables import plain, read_spec, without_kind
from unblur.experiment.recipe.toml import to_toml
from unblur.registry import recommender_spec, synthesizer_spec
from unblur.spec import set_path
from unblur.synthesis.utility.settings import Utility

SCHEMA = 1
"""The version of the form that recipes have in TOML."""
_SECTIONS = ("data", "split", "model", "protocol")
_NUMBERS = ("expected", "verified")
_PLAIN = ("schema", "name", "title", "seed")
_KINDS = ("model.kind", "split.kind", "downstream.kind")


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
    """A spec: `unblur.BSPM(…)`, or that of a synthesizer, which has `downstream` and `utility` and no split."""
    downstream: Any = None
    """The spec of the recommender that synthetic users are measured by."""
    utility: Utility | None = None
    """How their worth is measured."""
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
        if synthesis.is_synthesizer(self.model.kind) and self.utility is None:
            object.__setattr__(self, "utility", Utility())
        if self.data.k_core is not None and getattr(self.model, "privacy", None) is not None:
            raise RecipeError(
                "Under differential privacy users may not decide who else is learned from, which a k-core lets them; saw "
                "data.k_core beside a budget. Leave it out."
            )
        if self.utility is not None and self.downstream is None:
            object.__setattr__(self, "downstream", synthesis.read_downstream({}))
        for name in self.expected:
            if name not in self.measured:
                raise RecipeError(
                    f"[expected] Only what the protocol measures can be expected; saw {name!r}."
                    f"{nearest(name, self.measured)} Measured: {', '.join(self.measured[:60])}."
                )

    @property
    def measured(self) -> tuple[str, ...]:
        """The names of all that one run of it measures."""
        if self.utility is None:
            return self.protocol.names
        return synthesis.measured_names(self.model.kind, self.protocol, self.utility)

    @property
    def sections(self) -> tuple[str, ...]:
        """The names of the sections that hold its settings."""
        return _SECTIONS if self.utility is None else synthesis.SECTIONS

    # --------------------------------------------------------------------------------------------- forms

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, name: str = "") -> Recipe:
        """A recipe from the tables of its TOML form; `name` where the tables have none.

        Raises `RecipeError`, naming the section, for an unknown name (with the nearest real one), a wrong
        type, a value out of range, and for a schema that this version does not read.
        """
        known = (*_PLAIN, *_SECTIONS, *synthesis.ONLY_HERE, *_NUMBERS)
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
        tables = {section: _table(values, section) for section in known if section not in _PLAIN}
        if "kind" not in tables["model"]:
            raise RecipeError(
                '[model] The kind of the model must be given, such as kind = "bspm"; it is not there.'
            )
        synthesis.check_sections(tables, tables["model"]["kind"])
        sampled = synthesis.is_synthesizer(tables["model"]["kind"])
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
            data=read_spec(Data, tables["data"], "data"),
            split=read_spec(SPLITTINGS[split_kind], without_kind(tables["split"]), "split"),
            model=_model(tables["model"]),
            downstream=synthesis.read_downstream(tables["downstream"]) if sampled else None,
            utility=read_spec(Utility, tables["utility"], "utility") if sampled else None,
            protocol=read_spec(Protocol, tables["protocol"], "protocol"),
            expected={
                key: read_spec(Published, _table(tables["expected"], key), f'expected."{key}"')
                for key in tables["expected"]
            },
            verified={
                key: read_spec(Verified, _table(tables["verified"], key), f'verified."{key}"')
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
            "data": plain(self.data),
            "split": {"kind": self.split.kind, **plain(self.split)},
            "model": {"kind": self.model.kind, **plain(self.model)},
        }
        if self.utility is not None:
            del values["split"]
            values |= synthesis.tables_of(self.downstream, self.utility)
        values["protocol"] = {"kind": self.protocol.kind, **plain(self.protocol)}
        for section in _NUMBERS:
            if getattr(self, section):
                values[section] = {name: plain(number) for name, number in getattr(self, section).items()}
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
            expected={name: number for name, number in self.expected.items() if name in made.measured},
            verified={name: number for name, number in self.verified.items() if name in made.measured},
        )

    def without_numbers(self) -> Recipe:
        """A copy that expects nothing: for other data than the numbers speak of."""
        return replace(self, expected={}, verified={})

    def _subject(self) -> tuple[object, ...]:
        """What published numbers speak of, beside the hyper-parameters."""
        measuring = self.protocol.kind, self.protocol.averaging, self.downstream, self.utility
        return self.data, self.split, self.model.kind, *measuring

    def _check_path(self, path: str) -> None:
        head, _, rest = path.partition(".")
        if (head in self.sections and rest) or path in ("seed", "name", "title"):
            return
        if head in self.sections:
            raise RecipeError(f"{head} is a whole section; set one value in it, such as {head}.NAME=VALUE.")
        if head in ("schema", *_NUMBERS):
            raise RecipeError(
                f"{head} states facts and cannot be set. Write a recipe of your own to state others."
            )
        named = {section: self.to_dict()[section] for section in self.sections}
        inside = [f"{section}.{path}" for section, table in named.items() if head in table]
        options = [*_PLAIN[1:], *(f"{section}.{name}" for section, table in named.items() for name in table)]
        hint = (
            f" Did you mean {inside[0]!r}?"
            if inside
            else nearest(path, options) or nearest(head, self.sections)
        )
        raise RecipeError(
            f"{path} is not a setting of a recipe.{hint} Settings begin with {', '.join(self.sections)} or seed."
        )


def _model(table: Mapping[str, Any]) -> Any:
    kind = str(table["kind"])
    try:
        cls = synthesizer_spec(kind) if synthesis.is_synthesizer(kind) else recommender_spec(kind)
    except SpecError as problem:
        raise RecipeError(f"[model] {problem}") from None
    return read_spec(cls, without_kind(table), "model")


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
