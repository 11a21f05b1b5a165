"""Translation of command lines: detect the program, and return the recipe that does the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

from unblur.compat import bspm, diffrec, sdrm
from unblur.compat.command_line import Program, option_names, parse_options, script_and_arguments
from unblur.compat.recbole import configuration as recbole
from unblur.errors import RecipeError, nearest
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.schema import Recipe
from unblur.tuning.settings import Search

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
    run: str = "unblur run {recipe}"
    """The command that runs the recipe; ``{recipe}`` stands for its name or file."""


def translate(command: str, *, system: str | None = None) -> Translation:
    """Translate ``python main.py …``, the command line of one of `SYSTEMS`, to a recipe.

    The system is detected from the script's name, or else from the options: the system that has most of them. If a
    shipped recipe has the same settings, it is the translation, for its published numbers. Raises `RecipeError` if no
    system has any of the options or several have equally many (name one with `system`), and for options or values that
    the program does not have.
    """
    script, arguments, tail = script_and_arguments(command)
    RecipeError.unless(
        system is None or system in SYSTEMS,
        f"A system must be one of {', '.join(SYSTEMS)}; saw {system!r}.{nearest(system or '', SYSTEMS)}",
    )
    system = system or _detected_system(script, arguments)
    program = next(
        (other for end, other in SYSTEMS[system].variants.items() if script.endswith(end)), SYSTEMS[system]
    )
    options = program.options
    parsed = parse_options(arguments, program)
    values = {name: option.default for name, option in options.items()} | parsed
    recipe, remarks = program.recipe(values, tuple(parsed))
    notes = [
        f"--{name} is not part of a recipe: {options[name].irrelevant}"
        for name in parsed
        if options[name].irrelevant
    ]
    notes += remarks
    if tail:
        notes.append(f"left out, since the shell reads it and not the program: {tail}")
    for name, shipped_recipe in _shipped_recipes().items():
        cutoffs = recipe.protocol.cutoffs
        # Other cut-offs change no setting, and published numbers at those that remain still apply.
        candidate = shipped_recipe.without_numbers().with_protocol(
            replace(shipped_recipe.protocol, cutoffs=cutoffs)
        )
        if replace(candidate, name=recipe.name, title=recipe.title, search=recipe.search) == recipe:
            other = shipped_recipe.protocol.cutoffs != cutoffs
            notes.append(f"this is the shipped recipe {name}{', at other cut-offs' if other else ''}")
            if other:
                shipped_recipe = shipped_recipe.changed({"protocol.cutoffs": list(cutoffs)})
            if recipe.search != Search():
                shipped_recipe = replace(shipped_recipe, search=recipe.search)
            return Translation(system, shipped_recipe, tuple(notes), program.run(values))
    return Translation(system, recipe, tuple(notes), program.run(values))


@cache
def _shipped_recipes() -> Mapping[str, Recipe]:
    """All shipped recipes by name; reading them takes most of a translation."""
    return {name: load_recipe(name) for name in shipped()}


def _detected_system(script: str, arguments: list[str]) -> str:
    """The only system with a script of this name, else the system with most of the options."""
    matching = [
        name for name, program in SYSTEMS.items() if script.endswith((program.script, *program.variants))
    ]
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
