"""Loading recipes: those shipped with the package, and those in files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from unblur.data.formats.opening import is_file, open_regular
from unblur.errors import RecipeError, nearest, reason_of
from unblur.experiment.recipe.schema import Recipe

_ROOT: Traversable = resources.files("unblur") / "recipes"


@cache
def shipped() -> tuple[str, ...]:
    """The sorted names, ``family/data``, of the recipes that come with the package."""
    return tuple(
        f"{family.name}/{file.name.removesuffix('.toml')}"
        for family in sorted(_ROOT.iterdir(), key=lambda entry: entry.name)
        if family.is_dir()
        for file in sorted(family.iterdir(), key=lambda entry: entry.name)
        if file.name.endswith(".toml")
    )


def load_recipe(name: str | Path) -> Recipe:
    """Load a shipped recipe by its name, or a recipe from a TOML file.

    Raises `RecipeError` for a name that is not shipped (with the nearest one), a file that cannot be read,
    and an invalid recipe.
    """
    text = str(name)
    if text in shipped():
        return _read((_ROOT / f"{text}.toml").read_text(encoding="utf-8"), text)
    path = Path(name)
    if path.suffix == ".toml" or is_file(path):
        return _read(text_of(path, "A recipe must be a readable TOML file"), path.stem)
    raise RecipeError(
        f"A recipe must be a shipped name or a TOML file; saw {text!r}.{nearest(text, shipped())} "
        "`unblur recipes` lists the shipped ones."
    )


def own_recipe(word: str, kinds: Mapping[str, str], noun: str) -> Recipe:
    """A recipe for the caller's own data, with the defaults of a kind of model, or with the model of another recipe.

    Raises `RecipeError` for a word that is neither one of `kinds` nor a recipe; `noun` names these in the message.
    """
    if word in kinds:
        return Recipe.from_dict({"name": f"{word}/own", "model": {"kind": word}})
    if "/" in word or word.endswith(".toml"):
        source = load_recipe(word)
        return Recipe(name=source.name, seed=source.seed, task=type(source.task)(model=source.model))
    raise RecipeError(
        f"A {noun} must be one of {', '.join(kinds)}, or a recipe to take it from; saw {word!r}."
        f"{nearest(word, [*kinds, *shipped()])}"
    )


def text_of(path: Path, requirement: str) -> str:
    """Read a text file. Raises `RecipeError`, with the `requirement` that failed, if it cannot be read."""
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig") as text:
            return text.read()
    except (OSError, UnicodeDecodeError) as problem:
        reason = reason_of(problem) if isinstance(problem, OSError) else "it is not UTF-8 text"
        raise RecipeError(f"{requirement}; {path}: {reason}. Check the path.") from None


def _read(text: str, name: str) -> Recipe:
    try:
        return Recipe.from_toml(text, name=name)
    except RecipeError as problem:
        raise RecipeError(f"{name}: {problem}") from None
