"""A recipe: data, a task, and the numbers that must come out, in one frozen value."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from unblur.errors import RecipeError, nearest
from unblur.experiment.recipe.parts import Data, Protocol, Published, Verified
from unblur.experiment.recipe.toml import plain, read_spec, to_toml
from unblur.experiment.task import Task
from unblur.fitted import FittedSpec
from unblur.registry import TASKS
from unblur.spec import set_path
from unblur.tuning.settings import Search


def parse_setting(text: str) -> tuple[str, Any]:
    """The dotted path and the value of ``path=value``.

    The value is TOML; what is not TOML is a string, so that words need no quotes. Raises `RecipeError` where
    there is no path, no ``=`` or no value.
    """
    path, equals, given = text.partition("=")
    path, given = path.strip(), given.strip()
    RecipeError.unless(
        equals and given and all(path.split(".")),
        f"A setting must have the form path=value, such as model.low_pass.rank=64; saw {text!r}. "
        "Write it so.",
    )
    return path, _value(given)


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Every setting by its path. Raises `RecipeError` for a path that is set twice."""
    settings: dict[str, Any] = {}
    for text in texts:
        path, value = parse_setting(text)
        RecipeError.unless(
            path not in settings, f"Each path must be set once; {path} is set twice. Keep one of the two."
        )
        settings[path] = value
    return settings


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    # A date is no value of a recipe, and a text with a line break may hold another key.
    plain = list(parsed) == ["value"] and isinstance(parsed["value"], int | float | str | list | dict)
    return parsed["value"] if plain else text


SCHEMA = 1
"""The version of the form that recipes have in TOML."""
_NUMBERS = ("expected", "verified")
_PLAIN = ("schema", "name", "title", "seed")


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
    task: Task
    """What is done with them: a model, what else takes part, and what is measured."""
    search: Search = field(default_factory=Search)
    """How hyper-parameters are chosen, when they are."""
    expected: Mapping[str, Published] = field(default_factory=dict)
    """Published numbers by measurement, such as ``recall@20``."""
    verified: Mapping[str, Verified] = field(default_factory=dict)
    """Our own numbers by measurement."""

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise RecipeError(f"seed must be a whole number, not negative; saw {self.seed!r}. Write one.")
        RecipeError.unless(
            self.data.k_core is None or not self.model.private,
            "Under differential privacy users may not decide who else is learned from, which a k-core lets them; saw "
            "data.k_core beside a budget. Leave it out.",
        )
        for name in self.expected:
            if name not in self.measured:
                raise RecipeError(
                    f"[expected] Only what the protocol measures can be expected; saw {name!r}."
                    f"{nearest(name, self.measured)} Measured: {', '.join(self.measured[:60])}."
                )

    @property
    def model(self) -> FittedSpec:
        """The spec of what is fitted."""
        return self.task.model

    @property
    def protocol(self) -> Protocol:
        """What is measured."""
        return self.task.protocol

    @property
    def measured(self) -> tuple[str, ...]:
        """The names of all that one run of it measures."""
        return self.task.measured

    @property
    def sections(self) -> tuple[str, ...]:
        """The names of the sections that hold its settings."""
        return ("data", *self.task.sections, "search")

    def with_model(self, model: FittedSpec) -> Recipe:
        """A copy for another spec."""
        return replace(self, task=self.task.with_model(model))

    def with_protocol(self, protocol: Protocol) -> Recipe:
        """A copy under another protocol."""
        return replace(self, task=replace(self.task, protocol=protocol))

    # --------------------------------------------------------------------------------------------- forms

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, name: str = "") -> Recipe:
        """A recipe from the tables of its TOML form; `name` where the tables have none.

        Raises `RecipeError`, naming the section, for an unknown name (with the nearest real one), a wrong
        type, a value out of range, and for a schema that this version does not read.
        """
        every = tuple(TASKS.load(name) for name in TASKS)
        sections = dict.fromkeys(section for task in every for section in task.sections)
        known = (*_PLAIN, "data", *sections, "search", *_NUMBERS)
        for entry in values:
            if entry not in known:
                raise RecipeError(
                    f"{entry} is not a part of a recipe.{nearest(entry, known)} Parts: {', '.join(known)}."
                )
        schema = values.get("schema", SCHEMA)
        RecipeError.unless(
            schema == SCHEMA and not isinstance(schema, bool),
            f"A recipe must be of schema {SCHEMA}; saw {schema!r}. Read it with the version that wrote it.",
        )
        tables = {section: _table(values, section) for section in known if section not in _PLAIN}
        kind = tables["model"].get("kind")
        task = next((task for task in every if kind in task.kinds), every[0])
        for section in sections:
            RecipeError.unless(
                section in task.sections or not tables[section],
                f"[{section}] {task.purpose}; saw {section} beside {kind}. Its sections are "
                f"{', '.join(task.sections)}: leave this one out, or name another kind of model.",
            )
        return cls(
            name=_text(values, "name", name),
            title=_text(values, "title", ""),
            seed=values.get("seed", 0),
            data=read_spec(Data, tables["data"], "data"),
            task=task.from_tables(tables),
            search=read_spec(Search, tables["search"], "search"),
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
            **self.task.tables(),
        }
        if self.search != Search():
            values["search"] = plain(self.search)
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
        for path in sorted(settings, key=lambda path: not path.endswith(".kind")):
            self._check_path(path)
            section, _, rest = path.partition(".")
            if rest == "kind" and section != "protocol" and settings[path] != tree[section]["kind"]:
                tree[section] = {}
            tree = set_path(tree, path, settings[path])
        for section in _NUMBERS:
            tree.pop(section, None)
        made = Recipe.from_dict(tree)
        if made._subject() != self._subject():  # noqa: SLF001 – its own
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
        """What published numbers speak of, next to the hyper-parameters."""
        return self.data, *self.task.subject

    def _check_path(self, path: str) -> None:
        head, _, rest = path.partition(".")
        if (head in self.sections and rest) or path in ("seed", "name", "title"):
            return
        RecipeError.unless(
            head not in self.sections,
            f"{head} is a whole section; set one value in it, such as {head}.NAME=VALUE.",
        )
        RecipeError.unless(
            head not in ("schema", *_NUMBERS),
            f"{head} states facts and cannot be set. Write a recipe of your own to state others.",
        )
        tables = {**self.to_dict(), "search": plain(self.search)}
        named = {section: tables[section] for section in self.sections}
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
