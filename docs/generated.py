"""What the site says of commands, recipes and the interface follows from the code.

A page holds a line ``<!-- generated: NAME -->``, and `fill` puts the Markdown of that name in its place when the site is built.
"""

import ast
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pydantic
import typer

import unblur
from unblur.cli.main import app as commands_app
from unblur.data.catalogue import DATASETS
from unblur.data.splits import SPLITTINGS
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.schema import SCHEMA, Recipe
from unblur.experiment.recipe.toml import OFF
from unblur.registry import RECOMMENDERS, SYNTHESIZERS, TASKS

MARK = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
SCHEMA_FILE = "recipe.schema.json"
"""Where the JSON schema stands, next to the pages of the reference."""

# ---------------------------------------------------------------------------------------------------- commands


def commands() -> str:
    """Every command: how it is called, what it does, its arguments and options."""
    return "\n\n".join(_group(typer.main.get_command(commands_app), "unblur"))


def _group(group: Any, name: str) -> Iterator[str]:
    for command in group.commands.values():
        called = f"{name} {command.name}"
        if hasattr(command, "commands"):
            yield from _group(command, called)
            continue
        yield f"## `{called}`"
        yield _prose(command.help)
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        options = [each for each in command.params if each.param_type_name == "option"]
        words = " ".join(_placeholder(each) for each in arguments)
        yield f"```text\n{' '.join(filter(None, (called, words, '[OPTIONS]')))}\n```"
        rows = [f"| `{_placeholder(each)}` | {_prose(each.help)} |" for each in arguments]
        yield from ["\n".join(["| argument | meaning |", "|---|---|", *rows])] if rows else []
        rows = [
            f"| {_flags(each)} | {_prose(each.help)} | {_default(each)} |"
            for each in options
            if each.name != "help"
        ]
        yield from ["\n".join(["| option | meaning | default |", "|---|---|---|", *rows])] if rows else []


def _prose(text: str | None) -> str:
    """Help text as Markdown: the terminal's own marks are taken out."""
    plain = re.sub(r"\[/?(?:bold|italic|dim)\]", "", text or "").replace("\\[", "[")
    plain = re.sub(r"(?<![\w`-])(--[a-z][a-z-]*(?: [a-z]+(?=[,.;]))?)(?![\w`])", r"`\1`", plain)
    return " ".join(inspect.cleandoc(plain).split()).replace("|", "\\|")


def _placeholder(argument: Any) -> str:
    shown = argument.metavar or argument.name.upper()
    return shown if argument.required else f"[{shown.strip('[]')}]"


def _flags(option: Any) -> str:
    flags = ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
    words = {int: "N", float: "X", Path: "PATH"}
    value = option.metavar or words.get(option.type_descriptor.annotation, "TEXT")
    value = value.replace("|", "\\|")
    return flags if option.is_flag else f"{flags} `{value}`"


def _default(option: Any) -> str:
    shown, value = option.show_default, option.default
    if isinstance(shown, str):
        return shown
    if option.required:
        return "required"
    if (
        value is None
        or value == ()
        or value is False
        or callable(value)
        or type(value).__name__ == "Sentinel"
    ):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# ----------------------------------------------------------------------------------------------------- recipes


def recipes() -> str:
    """The shipped recipes: data, protocol, published numbers."""
    rows = ["| recipe | what it is | data | protocol | published |", "|---|---|---|---|---|"]
    for name in shipped():
        recipe = load_recipe(name)
        numbers = ", ".join(f"{measure} {number.value:.4f}" for measure, number in recipe.expected.items())
        data, protocol = recipe.data.name, recipe.protocol.kind
        rows.append(f"| `{name}` | {recipe.title} | {data} | {protocol} | {numbers} |")
    return "\n".join(rows)


def kinds() -> str:
    """The kinds of models and synthesizers, each with the class of its spec."""
    rows = ["| kind | spec | what it is | weights of interactions count |", "|---|---|---|---|"]
    for registry in (RECOMMENDERS, SYNTHESIZERS):
        for kind in sorted(registry.ours):
            spec = registry.load(kind)
            weights = "no"
            if registry is RECOMMENDERS and spec.weights_setting:
                weights = f'with `{spec.weights_setting} = "use"`' + ", the default" * spec().uses_weights
            rows.append(f"| `{kind}` | {_link(spec)} | {_first_line(spec)} | {weights} |")
    return "\n".join(rows)


def datasets() -> str:
    """The public data sets that are known by name."""
    rows = ["| name | what it is | readings | users × items | licence |", "|---|---|---|---|---|"]
    for known in DATASETS.values():
        size = "–" if known.n_users is None else f"{known.n_users:,} × {known.n_items:,}"
        readings = ", ".join(f"`{reading.name}`" for reading in known.readings)
        rows.append(f"| `{known.name}` | {known.title} | {readings} | {size} | {known.licence} |")
    return "\n".join(rows)


def top_names() -> str:
    """What `import unblur` gives."""
    rows = ["| name | what it is |", "|---|---|"]
    for name in sorted(unblur.__all__):
        value = getattr(unblur, name)
        if not isinstance(value, str):
            rows.append(f"| {_link(value, f'unblur.{name}')} | {_first_line(value)} |")
    return "\n".join(rows)


def _link(thing: Any, shown: str = "") -> str:
    shown = f"{shown} <{thing.__module__}.{thing.__qualname__}>" if shown else thing.__qualname__
    target = shown if "<" in shown else f"{shown} <{thing.__module__}.{thing.__qualname__}>"
    return f"{{py:obj}}`{target}`"


def _first_line(thing: Any) -> str:
    words = " ".join(inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].split())
    return words.replace("``", "`").replace("|", "\\|")


# --------------------------------------------------------------------------------------------------- interface


def specs_of(registry: Any, *elsewhere: Any) -> Callable[[], str]:
    """The specs of a registry, each followed by the specs of its fields, if no earlier one or other registry has them."""

    def text() -> str:
        seen: set[type] = set()
        for other in elsewhere:
            for kind in other.ours:
                list(_with_inner(other.load(kind), seen))
        blocks = []
        for kind in sorted(registry.ours):
            spec = registry.load(kind)
            blocks.append(f"## {kind}")
            blocks += [_autoclass(each) for each in _with_inner(spec, seen)]
        return "\n\n".join(blocks)

    return text


def _with_inner(cls: type, seen: set[type]) -> Iterator[type]:
    if cls in seen or not is_dataclass(cls):
        return
    seen.add(cls)
    yield cls
    for hint in get_type_hints(cls).values():
        for option in _classes(hint):
            if option.__module__.startswith("unblur"):
                yield from _with_inner(option, seen)


def _classes(hint: Any) -> Iterator[type]:
    if isinstance(hint, type):
        yield hint
    for option in get_args(hint):
        yield from _classes(option)


def _autoclass(cls: type) -> str:
    return f"```{{eval-rst}}\n.. autoclass:: {cls.__module__}.{cls.__qualname__}\n   :members:\n```"


# --------------------------------------------------------------------------------------------------- the schema


def schema() -> dict[str, Any]:
    """The JSON schema of a recipe in its TOML form."""
    of_recipe, of_utility = get_type_hints(Recipe), get_type_hints(TASKS.load("utility"))
    published, verified = (get_args(of_recipe[name])[1] for name in ("expected", "verified"))
    sections: dict[str, Any] = {
        "data": described(of_recipe["data"]),
        "split": _one_of(SPLITTINGS),
        "model": _one_of(
            {kind: registry.load(kind) for registry in (RECOMMENDERS, SYNTHESIZERS) for kind in registry.ours}
        ),
        "downstream": _one_of({kind: RECOMMENDERS.load(kind) for kind in RECOMMENDERS.ours}),
        "utility": described(of_utility["utility"]),
        "protocol": described(of_utility["protocol"]),
        "search": described(of_recipe["search"]),
        "expected": {"type": "object", "additionalProperties": described(published)},
        "verified": {"type": "object", "additionalProperties": described(verified)},
    }
    docs = attribute_docs(Recipe)
    for name, section in sections.items():
        section["description"] = SECTIONS[name]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe of unblur",
        "type": "object",
        "properties": {
            "schema": {"enum": [1, SCHEMA], "default": SCHEMA, "description": "The version of this form."},
            "name": {"type": "string", "description": docs["name"]},
            "title": {"type": "string", "default": "", "description": docs["title"]},
            "seed": {"type": "integer", "minimum": 0, "default": 0, "description": docs["seed"]},
            **sections,
        },
        "required": ["model"],
        "additionalProperties": False,
        "if": {"properties": {"model": {"properties": {"kind": {"enum": sorted(SYNTHESIZERS.ours)}}}}},
        "then": {"not": {"required": ["split"]}},
        "else": {"not": {"anyOf": [{"required": [name]} for name in ("downstream", "utility")]}},
    }


SECTIONS: Mapping[str, str] = {
    "data": "Which interactions a recipe runs on.",
    "split": "Which interactions are held out; for recommenders.",
    "model": "What is fitted: a kind of recommender or of synthesizer, with its hyper-parameters.",
    "downstream": "The recommender that synthetic users teach; for synthesizers.",
    "utility": "How the worth of synthetic users is measured; for synthesizers.",
    "protocol": "What is measured, and how the hyper-parameters came about.",
    "search": "How hyper-parameters are chosen, when they are.",
    "expected": "Published numbers by measurement, such as `recall@20`.",
    "verified": "Our own numbers by measurement.",
}


def described(cls: type) -> dict[str, Any]:
    """The JSON schema of a spec, what it refers to in place, with the text under each field as its description."""
    whole = pydantic.TypeAdapter(cls).json_schema()
    definitions = whole.pop("$defs", {})
    classes = {each.__name__: each for each in _with_inner(cls, set())}
    return _in_place(whole, definitions, classes)


def _in_place(value: Any, definitions: Mapping[str, Any], classes: Mapping[str, type]) -> Any:
    if isinstance(value, list):
        return [_in_place(each, definitions, classes) for each in value]
    if not isinstance(value, Mapping):
        return value
    if value == {"type": "null"}:
        return {"const": OFF}  # TOML has no null
    if "$ref" in value:
        rest = {name: below for name, below in value.items() if name != "$ref"}
        value = {**definitions[value["$ref"].rpartition("/")[2]], **rest}
    form = {
        name: {key: _in_place(below, definitions, classes) for key, below in inner.items()}
        if name == "properties"
        else _in_place(inner, definitions, classes)
        for name, inner in value.items()
        if not (name == "title" and isinstance(inner, str)) and not (name == "default" and inner is None)
    }
    docs = attribute_docs(classes[value["title"]]) if value.get("title") in classes else {}
    for name, text in docs.items():
        if name in form.get("properties", {}):
            form["properties"][name]["description"] = text
    return form


def _one_of(classes: Mapping[str, type]) -> dict[str, Any]:
    forms = []
    for kind in sorted(classes):
        form = described(classes[kind])
        form["properties"] = {"kind": {"const": kind}, **form.get("properties", {})}
        forms.append({**form, "title": kind, "required": ["kind", *form.get("required", [])]})
    return {"type": "object", "oneOf": forms}


def attribute_docs(cls: type) -> dict[str, str]:
    """The text under each field of a class and of the classes that it derives from."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("unblur"):
            source = ast.parse(inspect.getsource(sys.modules[base.__module__]))
            body = next(
                (
                    node.body
                    for node in ast.walk(source)
                    if isinstance(node, ast.ClassDef) and node.name == base.__name__
                ),
                [],
            )
            for entry, below in pairwise(body):
                if (
                    isinstance(entry, ast.AnnAssign)
                    and isinstance(entry.target, ast.Name)
                    and isinstance(below, ast.Expr)
                ):
                    text = ast.literal_eval(below.value)
                    found[entry.target.id] = " ".join(text.split()).replace("``", "`")
    return found


def schema_tables() -> str:
    """The schema as tables: a heading for each section, and for each kind within it."""
    blocks = []
    for name, section in schema()["properties"].items():
        if name not in SECTIONS:
            continue
        blocks += [f"## `[{name}]`", section["description"]]
        if "oneOf" in section:
            for form in section["oneOf"]:
                blocks += [f'### `{name}.kind = "{form["title"]}"`', _table(form)]
        elif section.get("additionalProperties"):
            blocks += [
                f'One table for each measurement, such as `[{name}."recall@20"]`.',
                _table(section["additionalProperties"]),
            ]
        else:
            blocks.append(_table(section))
    return "\n\n".join(blocks)


def _table(form: Mapping[str, Any]) -> str:
    rows = [row for row in _rows(form) if not row.startswith("| `kind`")]
    if not rows:
        return "Nothing to set."
    return "\n".join(["| field | values | default | meaning |", "|---|---|---|---|", *rows])


def _rows(form: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, field in form.get("properties", {}).items():
        path = f"{above}{name}"
        inner = [each for each in (field, *field.get("anyOf", ())) if "properties" in each]
        default = field.get("default", MISSING)
        if "const" in field and name == "kind":
            shown = ""
        elif default is MISSING:
            shown = "" if name not in form.get("required", ()) else "required"
        elif inner and isinstance(default, Mapping):
            shown = ""
        else:
            shown = f"`{json.dumps(default, ensure_ascii=False)}`"
        meaning = field.get("description", "").replace("|", "\\|")
        yield f"| `{path}` | {_values(field)} | {shown} | {meaning} |"
        for each in inner:
            yield from _rows(each, f"{path}.")


def _values(field: Mapping[str, Any]) -> str:
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{json.dumps(value)}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_values(each) for each in field["anyOf"]))
    if field.get("type") == "array":
        inner = field.get("items") or next(iter(field.get("prefixItems", ())), {})
        return f"list of {_values(inner)}" if inner else "list"
    words = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "true or false",
        "object": "table",
    }
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = ", ".join(f"{sign} {field[bound]}" for bound, sign in bounds.items() if bound in field)
    return " ".join(filter(None, (words.get(field.get("type", ""), "table"), limits)))


# -------------------------------------------------------------------------------------------------- in the site

PARTS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "recipes": recipes,
    "kinds": kinds,
    "datasets": datasets,
    "top-names": top_names,
    "models": specs_of(RECOMMENDERS),
    "synthesizers": specs_of(SYNTHESIZERS, RECOMMENDERS),
    "schema": schema_tables,
}


def connect(app: Any) -> None:
    """Have Sphinx fill every page, and write the schema."""
    app.connect("source-read", fill)
    app.connect("autodoc-process-docstring", plain_bars)
    app.connect("build-finished", write_schema)


def fill(app: Any, page: str, source: list[str]) -> None:
    """Put what is generated in place of its marks."""
    source[0] = MARK.sub(lambda mark: PARTS[mark.group(1)](), source[0])


def plain_bars(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep `|x|` of a docstring as it is: in reStructuredText it would be a substitution."""
    for at, line in enumerate(lines):
        if not line.startswith("    "):
            lines[at] = re.sub(r"(``.*?``|`[^`]*`)|\|", lambda part: part.group(1) or r"\|", line)


def write_schema(app: Any, problem: Exception | None) -> None:
    """Write the schema as a file that editors read."""
    if problem is None:
        target = Path(app.outdir) / "reference" / SCHEMA_FILE
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
