"""The generated parts of the site can be built, and name all commands, kinds, fields and recipes."""

import importlib.util
import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.registry import RECOMMENDERS, SYNTHESIZERS

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def generated() -> Any:
    spec = importlib.util.spec_from_file_location("generated", DOCS / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_mark_has_its_part_and_every_part_its_mark(generated: Any) -> None:
    marks = {
        name
        for page in DOCS.rglob("*.md")
        for name in generated.MARK.findall(page.read_text(encoding="utf-8"))
    }
    assert marks == set(generated.PARTS)


def test_parts_name_all_commands_kinds_and_recipes(generated: Any) -> None:
    commands = generated.commands()
    for name in (
        "run",
        "tune",
        "compare",
        "fit",
        "recommend",
        "audit",
        "synthesize",
        "datasets fetch",
        "translate",
    ):
        assert f"## `unblur {name}`" in commands
    assert "| `--check` | Exit with 1" in commands
    assert all(f"| `{kind}` |" in generated.kinds() for kind in (*RECOMMENDERS.ours, *SYNTHESIZERS.ours))
    assert '| with `weights = "use"` |' in next(
        line for line in generated.kinds().splitlines() if line.startswith("| `ease` |")
    )
    assert all(f"| `{name}` |" in generated.recipes() for name in shipped())
    assert "`gowalla`" in generated.datasets()
    assert "unblur.load" in generated.top_names()
    for name in ("models", "synthesizers"):
        assert ".. autoclass:: unblur." in generated.PARTS[name]()


def test_fields_have_their_text_values_and_defaults(generated: Any) -> None:
    tables = generated.schema_tables()
    assert '| `sharpen.solver` | `"euler"`, `"rk4"` | `"euler"` |' in tables
    assert "| `ridge` | number > 0 |" in tables
    described = re.findall(r"^\| `[\w.]+` \|.*\| (.+) \|$", tables, re.MULTILINE)
    assert len(described) > 300


def test_every_recipe_fits_the_schema(generated: Any) -> None:
    schema = json.loads(json.dumps(generated.schema()))
    for name in shipped():
        family, _, data = name.partition("/")
        text = (files("unblur") / "recipes" / family / f"{data}.toml").read_text(encoding="utf-8")
        for values in (tomllib.loads(text), load_recipe(name).to_dict()):
            assert not list(problems(values, schema, name))


def problems(value: Any, form: Any, place: str) -> Any:
    """The places where a value does not fit a JSON schema; covers the keywords that ours use."""
    if "anyOf" in form:
        if all(list(problems(value, one, place)) for one in form["anyOf"]):
            yield place
    elif "oneOf" in form:
        if sum(not list(problems(value, one, place)) for one in form["oneOf"]) != 1:
            yield place
    elif "const" in form or "enum" in form:
        if value not in form.get("enum", [form.get("const")]):
            yield place
    elif isinstance(value, dict):
        if form.get("type") != "object":
            yield place
        known, others = form.get("properties", {}), form.get("additionalProperties", True)
        yield from (f"{place}: no {name}" for name in form.get("required", ()) if name not in value)
        for name, inner in value.items():
            if name in known:
                yield from problems(inner, known[name], f"{place}.{name}")
            elif others is False:
                yield f"{place}.{name}"
            elif isinstance(others, dict):
                yield from problems(inner, others, f"{place}.{name}")
    elif isinstance(value, list):
        if form.get("type") != "array":
            yield place
    else:
        kinds = {bool: ("boolean",), int: ("integer", "number"), float: ("number",), str: ("string",)}[
            type(value)
        ]
        if form.get("type", kinds[0]) not in kinds:
            yield place
