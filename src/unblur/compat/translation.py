"""Which program a command line is of, and the recipe that does the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any

from unblur.compat.command_line import arguments_of, option_names
from unblur.errors import RecipeError, nearest
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.schema import Recipe


@dataclass(frozen=True)
class Translation:
    """A recipe that does what another program's command line does."""

    system: str
    """Whose command line it is: a key of `SYSTEMS`."""
    recipe: Recipe
    notes: tuple[str, ...] = ()
    """What was left out, and why."""


SYSTEMS: Mapping[str, str] = MappingProxyType(
    {
        "bspm": "unblur.compat.bspm",
        "diffrec": "unblur.compat.diffrec",
        "recbole": "unblur.compat.recbole.command_line",
        "sdrm": "unblur.compat.sdrm",
    }
)
"""Each program by name, and the module that knows it.

Such a module has `OPTIONS`, a mapping whose keys are the names of all options, and ``translate(arguments)``,
which takes the words after the script and gives a `Translation`.
"""

_SCRIPTS: Mapping[str, str] = MappingProxyType({"run_recbole.py": "recbole"})
"""Scripts whose name tells the system."""


def translate(command: str, *, system: str | None = None) -> Translation:
    """The recipe for ``python main.py …``, the command line of one of `SYSTEMS`.

    The system is told from the script's name, or else from the options given: the one that knows most of them.
    Raises `RecipeError` where none or several know equally many (name it with `system`), and for options or values
    that the program does not have.
    """
    arguments = arguments_of(command)
    if system is not None and system not in SYSTEMS:
        raise RecipeError(
            f"A system must be one of {', '.join(SYSTEMS)}; saw {system!r}.{nearest(system, SYSTEMS)}"
        )
    told = [
        name
        for script, name in _SCRIPTS.items()
        if re.search(rf"(?:^|[\s/\\]){re.escape(script)}\s", command)
    ]
    module = import_module(SYSTEMS[system or (told[0] if told else _recognized(arguments))])
    translated: Translation = module.translate(arguments)
    return translated


def settled(system: str, recipe: Recipe, notes: tuple[str, ...]) -> Translation:
    """The translation to a shipped recipe, with its published numbers, where one has the same settings."""
    for name in shipped():
        known = load_recipe(name)
        if _settings(known) == _settings(recipe):
            return Translation(system, known, (*notes, f"this is the shipped recipe {name}"))
    return Translation(system, recipe, notes)


def _recognized(arguments: list[str]) -> str:
    given = option_names(arguments)
    known = {
        name: sum(option in import_module(home).OPTIONS for option in given) for name, home in SYSTEMS.items()
    }
    best = max(known.values(), default=0)
    found = [name for name, count in known.items() if count == best]
    if not best or len(found) > 1:
        raise RecipeError(
            f"A command line must be that of one of {', '.join(SYSTEMS)}; its options "
            f"({', '.join(given[:5]) or 'none'}) do not tell which. Name it with --system."
        )
    return found[0]


def _settings(recipe: Recipe) -> dict[str, Any]:
    tables = recipe.to_dict()
    return {section: tables[section] for section in ("seed", *recipe.sections)}
