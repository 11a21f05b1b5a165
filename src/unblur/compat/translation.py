"""Translation of command lines: detect the program, and return the recipe that does the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from unblur.compat import bspm, diffrec, sdrm
from unblur.compat.command_line import Program, option_names, parse_options, script_and_arguments
from unblur.compat.recbole import configuration as recbole
from unblur.errors import RecipeError, nearest
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.schema import Recipe

SYSTEMS: Mapping[str, Program] = MappingProxyType(
    {
        "bspm": bspm.PROGRAM,
        "diffrec": diffrec.PROGRAM,
        "recbole": recbole.PROGRAM,
        "sdrm": sdrm.PROGRAM,
    }
)
"""The programs whose command lines can be translated, by the names of their systems."""


@dataclass(frozen=True)
class Translation:
    """A recipe that does what another program's command line does."""

    system: str
    """The program's system, a key of `SYSTEMS`."""
    recipe: Recipe
    notes: tuple[str, ...] = ()
    """Options that were left out, with the reasons, and departures from the program."""


def translate(command: str, *, system: str | None = None) -> Translation:
    """Translate ``python main.py …``, the command line of one of `SYSTEMS`, to a recipe.

    The system is detected from the script's name, or else from the options: the system that has most of them. If a
    shipped recipe has the same settings, it is the translation, for its published numbers. Raises `RecipeError` if no
    system has any of the options or several have equally many (name one with `system`), and for options or values that
    the program does not have.
    """
    script, arguments = script_and_arguments(command)
    RecipeError.unless(
        system is None or system in SYSTEMS,
        f"A system must be one of {', '.join(SYSTEMS)}; saw {system!r}.{nearest(system or '', SYSTEMS)}",
    )
    system = system or _detected_system(script, arguments)
    options = SYSTEMS[system].options
    parsed = parse_options(arguments, SYSTEMS[system])
    values = {name: option.default for name, option in options.items()} | parsed
    recipe, remarks = SYSTEMS[system].recipe(values, tuple(parsed))
    notes = [
        f"--{name} is not part of a recipe: {options[name].irrelevant}"
        for name in parsed
        if options[name].irrelevant
    ]
    notes += remarks
    for name in shipped():
        shipped_recipe = load_recipe(name)
        candidate = replace(
            shipped_recipe.without_numbers(), name=recipe.name, title=recipe.title, search=recipe.search
        )
        if candidate == recipe:
            return Translation(system, shipped_recipe, (*notes, f"this is the shipped recipe {name}"))
    return Translation(system, recipe, tuple(notes))


def _detected_system(script: str, arguments: list[str]) -> str:
    """The only system with a script of this name, else the system with most of the options."""
    matching = [name for name, program in SYSTEMS.items() if script.endswith(program.script)]
    if len(matching) == 1:
        return matching[0]
    names = option_names(arguments)
    n_known = {system: sum(name in program.options for name in names) for system, program in SYSTEMS.items()}
    best = [name for name, count in n_known.items() if count == max(n_known.values()) > 0]
    RecipeError.unless(
        len(best) == 1,
        f"A command line must be that of one of {', '.join(SYSTEMS)}; from its options "
        f"({', '.join(names[:5]) or 'none'}) the program cannot be detected. Name it with --system.",
    )
    return best[0]
