"""Which program a command line is of, and the recipe that does the same."""

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
"""The programs whose command lines are known, by the names of their systems."""


@dataclass(frozen=True)
class Translation:
    """A recipe that does what another program's command line does."""

    system: str
    """Whose command line it is: a key of `SYSTEMS`."""
    recipe: Recipe
    notes: tuple[str, ...] = ()
    """Options that were left out, with the reasons, and departures from the program."""


def translate(command: str, *, system: str | None = None) -> Translation:
    """The recipe for ``python main.py …``, the command line of one of `SYSTEMS`.

    The system is told from the script's name, or else from the options given: the one that knows most of them.
    A shipped recipe with the same settings is the translation, for its published numbers. Raises `RecipeError` where
    no system or several know equally many options (name it with `system`), and for options or values that the program
    does not have.
    """
    script, arguments = script_and_arguments(command)
    RecipeError.unless(
        system is None or system in SYSTEMS,
        f"A system must be one of {', '.join(SYSTEMS)}; saw {system!r}.{nearest(system or '', SYSTEMS)}",
    )
    system = system or _recognized(script, arguments)
    options = SYSTEMS[system].options
    given = parse_options(arguments, SYSTEMS[system])
    values = {name: option.default for name, option in options.items()} | given
    recipe, remarks = SYSTEMS[system].recipe(values, tuple(given))
    notes = [
        f"--{name} has no place in a recipe: {options[name].irrelevant}"
        for name in given
        if options[name].irrelevant
    ]
    notes += remarks
    for name in shipped():
        known = load_recipe(name)
        named = replace(known.without_numbers(), name=recipe.name, title=recipe.title, search=recipe.search)
        if named == recipe:
            return Translation(system, known, (*notes, f"this is the shipped recipe {name}"))
    return Translation(system, recipe, tuple(notes))


def _recognized(script: str, arguments: list[str]) -> str:
    """The system whose script it is and no other's, else that which knows most of the options."""
    own = [name for name, program in SYSTEMS.items() if script.endswith(program.script)]
    if len(own) == 1:
        return own[0]
    names = option_names(arguments)
    known = {system: sum(name in program.options for name in names) for system, program in SYSTEMS.items()}
    best = [name for name, count in known.items() if count == max(known.values()) > 0]
    RecipeError.unless(
        len(best) == 1,
        f"A command line must be that of one of {', '.join(SYSTEMS)}; its options "
        f"({', '.join(names[:5]) or 'none'}) do not tell which. Name it with --system.",
    )
    return best[0]
