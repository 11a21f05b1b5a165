"""A recipe: data, a task, and the numbers that it must reproduce, in one frozen value."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from unblur.errors import RecipeError, UnblurError, nearest
from unblur.experiment.recipe.parts import Data, Protocol, Published, Verified
from unblur.experiment.recipe.toml import read_spec, recipe_table, to_toml
from unblur.experiment.task import Task
from unblur.fitted import FittedSpec
from unblur.registry import RECOMMENDERS, TASKS, recommender_spec
from unblur.spec import path_today, set_path, with_earlier_defaults
from unblur.tuning.settings import Search

_MOST_LEVELS = 50
"""Levels of a path: ten times as many as any recipe has, and fewer than Python's own limit."""


def parse_setting(text: str) -> tuple[str, Any]:
    """The dotted path and the value of ``path=value``.

    The value is read as TOML or, if it is not TOML, as a string, so that words need no quotes. Raises `RecipeError`
    if path, ``=`` or value are missing, or are no Unicode, which a recipe could not be written with.
    """
    path, equals, text_of_value = text.partition("=")
    path, text_of_value = path.strip(), text_of_value.strip()
    RecipeError.unless(
        not re.search("[\ud800-\udfff]", text),
        f"A setting must be Unicode; saw {text[:80]!r}. Write it in UTF-8.",
    )
    RecipeError.unless(
        equals and text_of_value and all(path.split(".")) and path.count(".") < _MOST_LEVELS,
        f"A setting must have the form path=value; saw {text[:80]!r}. Write, for example, model.low_pass.rank=64.",
    )
    return path, _value(text_of_value)


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """The settings by path. Raises `RecipeError` for a path that is set twice."""
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
    except (ValueError, RecursionError):  # not TOML; a number of too many digits; too deep
        return text
    # A recipe has no dates, and a text with a line break may contain a second key.
    is_value = list(parsed) == ["value"] and isinstance(parsed["value"], int | float | str | list | dict)
    return parsed["value"] if is_value else text


SCHEMA = 2
"""The version of the TOML form of recipes; in schema 1 some values that are left out had other defaults."""
_NUMBERS = ("expected", "verified")
_PLAIN = ("schema", "name", "title", "seed")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that a run needs except the data themselves.

    `from_toml` and `to_toml` are inverses. Build one in Python with specs, or change one with `changed`.
    """

    name: str
    """``family/data``."""
    title: str = ""
    """A description, in a line."""
    seed: int = 0
    """The seed of all random draws of a run."""
    data: Data = field(default_factory=Data)
    task: Task
    """The task on these data: a model, the settings around it, and the measurements."""
    search: Search = field(default_factory=Search)
    """The settings of a hyper-parameter search."""
    expected: Mapping[str, Published] = field(default_factory=dict)
    """Published numbers by measurement, such as ``recall@20``."""
    verified: Mapping[str, Verified] = field(default_factory=dict)
    """Our own numbers by measurement."""

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise RecipeError(f"seed must be a non-negative whole number; saw {self.seed!r}. Write one.")
        RecipeError.unless(
            self.data.k_core is None or not self.model.private,
            "Under differential privacy no user may influence which other users are trained on, as a k-core does; saw "
            "data.k_core together with a privacy budget. Leave it out.",
        )
        for name in self.expected:
            if name not in self.measured:
                raise RecipeError(
                    f"[expected] Only what the protocol measures can be expected; saw {name!r}."
                    f"{nearest(name, self.measured)} Measured: {', '.join(self.measured[:60])}."
                )

    @property
    def model(self) -> FittedSpec:
        """The spec of the model."""
        return self.task.model

    @property
    def protocol(self) -> Protocol:
        """The metrics, and the way they are measured."""
        return self.task.protocol

    @property
    def measured(self) -> tuple[str, ...]:
        """The names of all measurements of a run."""
        return self.task.measured

    @property
    def sections(self) -> tuple[str, ...]:
        """The names of the sections with its settings."""
        return ("data", *self.task.sections, "search")

    def with_model(self, model: FittedSpec) -> Recipe:
        """A copy with another spec of the model."""
        return replace(self, task=self.task.with_model(model))

    def with_protocol(self, protocol: Protocol) -> Recipe:
        """A copy with another protocol."""
        return replace(self, task=replace(self.task, protocol=protocol))

    # --------------------------------------------------------------------------------------------- forms

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, name: str = "") -> Recipe:
        """A recipe from the tables of its TOML form; `name` is used if the tables have none.

        Raises `RecipeError`, naming the section, for an unknown name (with the nearest known one), a wrong
        type, a value out of range, and a schema that this version does not read.
        """
        tasks = tuple(TASKS.load(name) for name in TASKS)
        sections = dict.fromkeys(section for task in tasks for section in task.sections)
        names = (*_PLAIN, "data", *sections, "search", *_NUMBERS)
        for entry in values:
            if entry not in names:
                raise RecipeError(
                    f"{entry} is not a part of a recipe.{nearest(entry, names)} Parts: {', '.join(names)}."
                )
        schema = values.get("schema", SCHEMA)
        RecipeError.unless(
            schema in (1, SCHEMA) and not isinstance(schema, bool),
            f"A recipe must be of schema 1 or {SCHEMA}; saw {schema!r}. Read it with the version that wrote it.",
        )
        tables = {section: _table(values, section) for section in names if section not in _PLAIN}
        if schema == 1:
            # Only recommenders have defaults that have changed since; `downstream` is one as well.
            for section in ("model", "downstream"):
                kind = str(tables[section].get("kind"))
                if kind in RECOMMENDERS:
                    tables[section] = with_earlier_defaults(recommender_spec(kind), tables[section])
        kind = str(tables["model"].get("kind"))
        task = next((task for task in tasks if kind in task.kinds), tasks[0])
        for section in sections:
            RecipeError.unless(
                section in task.sections or not tables[section],
                f"[{section}] {task.purpose}; saw the section {section} for the kind {kind}. Its sections are "
                f"{', '.join(('data', *task.sections, 'search'))}: leave this one out, or name another kind of model.",
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
        """A recipe from TOML text. Raises as `from_dict`, and `RecipeError` for text that is not TOML."""
        try:
            return cls.from_dict(tomllib.loads(text), name=name)
        except UnblurError:
            raise
        except RecursionError:
            raise RecipeError(
                "A recipe must have tables and lists in a few levels; saw hundreds. Correct it."
            ) from None
        except (
            ValueError
        ) as problem:  # `tomllib.TOMLDecodeError`, or Python's on a number of thousands of digits
            raise RecipeError(f"A recipe must be valid TOML; {problem}. Correct that line.") from None

    def to_dict(self) -> dict[str, Any]:
        """The tables of the TOML form, every hyper-parameter included."""
        values: dict[str, Any] = {
            "schema": SCHEMA,
            "name": self.name,
            "title": self.title,
            "seed": self.seed,
            "data": recipe_table(self.data),
            **self.task.tables(),
        }
        if self.search != Search():
            values["search"] = recipe_table(self.search)
        for section in _NUMBERS:
            if getattr(self, section):
                values[section] = {
                    name: recipe_table(number) for name, number in getattr(self, section).items()
                }
        return values

    def to_toml(self) -> str:
        """The recipe as TOML text, with every hyper-parameter."""
        return to_toml(self.to_dict())

    # ------------------------------------------------------------------------------------------- changes

    def changed(self, settings: Mapping[str, Any]) -> Recipe:
        """A copy with other values at dotted paths: ``{"model.blur.steps": 2, "model.low_pass": "off"}``.

        Raises as `from_dict`. Another kind of model or split starts from the defaults of that kind. Published and
        verified numbers are dropped if they no longer apply: with other data, another split, kind of model, protocol
        or averaging, or if they are no longer measured.
        """
        if not settings:
            return self
        tree = self.to_dict()
        specs = {section: type(getattr(self.task, section, None)) for section in self.task.sections}
        for path in sorted(settings, key=lambda path: not path.endswith(".kind")):
            self._check_path(path)
            section, _, rest = path.partition(".")
            # The values of another kind of model or split mean nothing there; both kinds of protocol have the same fields.
            if (
                rest == "kind"
                and section != "protocol"
                and settings[path] != tree.get(section, {}).get("kind", settings[path])
            ):
                tree[section] = {}
                del specs[section]  # names of earlier versions are those of the new kind, and read with it
            today = f"{section}.{path_today(specs[section], rest)}" if section in specs else path
            tree = set_path(tree, today, settings[path])
        for section in _NUMBERS:
            tree.pop(section, None)
        recipe = Recipe.from_dict(tree)
        if recipe._subject() != self._subject():  # noqa: SLF001 – its own
            return recipe
        return replace(
            recipe,
            expected={name: number for name, number in self.expected.items() if name in recipe.measured},
            verified={name: number for name, number in self.verified.items() if name in recipe.measured},
        )

    def without_numbers(self) -> Recipe:
        """A copy without published and verified numbers, for data to which they do not apply."""
        return replace(self, expected={}, verified={})

    def _subject(self) -> tuple[object, ...]:
        """The values, apart from the hyper-parameters, that must stay for published numbers to apply."""
        return self.data, *self.task.subject

    def _check_path(self, path: str) -> None:
        head, _, rest = path.partition(".")
        if (head in self.sections and rest) or path in ("seed", "name", "title"):
            return
        RecipeError.unless(
            head not in self.sections,
            f"A setting must be a single value; {head} is a whole section. Set one of its values: {head}.NAME=VALUE.",
        )
        RecipeError.unless(
            head not in ("schema", *_NUMBERS),
            f"A setting must be in a section with settings; {head} states facts. Write a recipe of your own to state "
            "others.",
        )
        tables = {**self.to_dict(), "search": recipe_table(self.search)}
        tables_by_section = {section: tables[section] for section in self.sections}
        candidates = [f"{section}.{path}" for section, table in tables_by_section.items() if head in table]
        options = [
            *_PLAIN[1:],
            *(f"{section}.{name}" for section, table in tables_by_section.items() for name in table),
        ]
        hint = (
            f" Did you mean {candidates[0]!r}?"
            if candidates
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
