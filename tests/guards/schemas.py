"""The forms that users write: fields of every spec and recipe, options of every command. `python -m tests.guards.schemas`

rewrites ``schemas.json`` and prints what changed. Types, bounds and defaults are kept, wording and names of classes are not.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import unblur
from tests.guards.driver import Package

FILE = Path(__file__).resolve().parent / "schemas.json"
PARTS = (
    *("Data", "KCore", "Reading", "Protocol", "Published", "Verified", "Utility", "Departures"),
    *("Task", "Search", "Validation"),
)
"""Specs of a recipe's sections; those that this version does not have are left out."""
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "of a recommender": {"model": {"kind": "ease"}},
    "of a recommender with time": {"model": {"kind": "diffrec"}, "split": {"kind": "ratio", "order": "time"}},
    "of a synthesizer": {"model": {"kind": "sdrm"}},
}


def found() -> dict[str, Any]:
    """All forms as plain values: title → path → value."""
    package = Package(Path(unblur.__file__).resolve().parent.parent)
    forms: dict[str, Any] = {}
    for kind in package.kinds("RECOMMENDERS", "recommenders"):
        forms[f"model {kind}"] = form(package("recommender_spec", near="registry")(kind))
    for kind in package.kinds("SYNTHESIZERS", "synthesizers"):
        forms[f"synthesizer {kind}"] = form(package("synthesizer_spec", near="registry")(kind))
    for kind, cls in package("SPLITTINGS", "SPLITS").items():
        forms[f"split {kind}"] = form(cls)
    for name in PARTS:
        cls = _spec_called(package, name)
        if cls is not None:
            forms[f"section {name}"] = form(cls)
    for name, values in RECIPES.items():
        recipe = package("Recipe", near="recipe").from_dict(values, name="family/data").to_dict()
        forms[f"recipe {name}"] = dict(sorted(_flat(recipe)))
    forms.update(commands(package("app", near="cli.main")))
    return forms


def form(cls: Any) -> dict[str, Any]:
    """The JSON schema of a spec, with what it refers to in place, and without titles and descriptions."""
    import pydantic

    schema = pydantic.TypeAdapter(cls).json_schema()
    definitions = schema.pop("$defs", {})

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            if "$ref" in value:
                own = {name: below for name, below in value.items() if name != "$ref"}
                return plain({**definitions[value["$ref"].rpartition("/")[2]], **own})
            return {
                name: {key: plain(below) for key, below in inner.items()}
                if name == "properties"
                else plain(inner)
                for name, inner in value.items()
                if name not in ("title", "description") or not isinstance(inner, str)
            }
        return [plain(each) for each in value] if isinstance(value, list) else value

    return dict(sorted(_flat(plain(schema))))


def commands(app: Any) -> dict[str, Any]:
    """Each command with its arguments and options: names, types, bounds, defaults. Read from the functions themselves."""
    forms: dict[str, Any] = {}

    def walk(group: Any, name: str) -> None:
        for command in [each for each in (group.registered_callback,) if each is not None]:
            forms[f"command {name}"] = _options(command.callback)
        for command in group.registered_commands:
            command_name = command.name or command.callback.__name__.replace("_", "-")
            forms[f"command {name} {command_name}"] = _options(command.callback)
        for below in group.registered_groups:
            walk(below.typer_instance, f"{name} {below.name}")

    walk(app, "unblur")
    return forms


def _options(command: Any) -> dict[str, Any]:
    """The parameters of a command, by the names that a user writes; an argument by its position."""
    signature = inspect.signature(command)
    hints = get_type_hints(inspect.unwrap(command), include_extras=True)
    options: dict[str, Any] = {}
    place = 0
    for name, parameter in signature.parameters.items():
        annotation = parameter.annotation if get_origin(parameter.annotation) is Annotated else hints[name]
        kind, info = get_args(annotation)[:2]
        flags = [str(flag) for flag in (info.default, *(info.param_decls or ())) if str(flag).startswith("-")]
        if type(info).__name__ == "ArgumentInfo":
            flags, place = [f"argument {place}"], place + 1
        default = parameter.default
        options["/".join(flags) or f"--{name}"] = {
            "type": getattr(kind, "__name__", "")
            if isinstance(kind, type) and not get_args(kind)
            else str(kind),
            "default": "required" if default is inspect.Parameter.empty else str(default),
            **{bound: value for bound in ("min", "max") if (value := getattr(info, bound, None)) is not None},
        }
    return dict(sorted(options.items()))


def _spec_called(package: Package, name: str) -> Any | None:
    """The spec class of that name; of several, that of a recipe."""
    import pydantic

    try:
        cls = package(name, near="recipe" if name in ("Data", "Reading", "Protocol") else "")
    except LookupError:
        return None
    return cls if isinstance(cls, type) and pydantic.dataclasses.is_pydantic_dataclass(cls) else None


def _flat(tree: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested tables by dotted path; lists are leaves unless they hold tables."""
    for name, value in tree.items():
        path = f"{above}{name.replace('properties', 'fields')}"
        if isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
            value = {str(place): each for place, each in enumerate(value)}
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{path}.")
        else:
            yield path, value


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """A line for each entry that is new, gone or changed."""
    lines = []
    for title in sorted({**before, **after}):
        one, two = before.get(title, {}), after.get(title, {})
        for path in sorted({**one, **two}):
            if one.get(path) != two.get(path) or (path in one) != (path in two):
                old, new = (json.dumps(each[path]) if path in each else "nothing" for each in (one, two))
                lines.append(f"{title}: {path}: {old} → {new}")
    return lines


def kept() -> dict[str, Any]:
    """The forms in the file."""
    values: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    return values


def main() -> None:
    """Rewrite the file and print the changes."""
    before, after = kept(), found()
    lines = [
        f" {json.dumps(title)}: {{\n" + ",\n".join(f"  {json.dumps(path)}: {json.dumps(value)}" for path, value in form.items()) + "\n }"
        for title, form in after.items()
    ]  # fmt: skip
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print("\n".join(changes(before, after)) or "nothing changed")


if __name__ == "__main__":
    main()
