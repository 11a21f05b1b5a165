"""`unblur recipes`, `run` and `translate`: list recipes, run one, translate a paper's command line to one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unblur import experiment
from unblur.cli import terminal
from unblur.cli.options import Checkpoints, Device, Overwrite, RecipeName, Settings, file_of, recipe_names
from unblur.cli.terminal import (
    FAILED,
    ProgressDisplay,
    is_stdout,
    output,
    output_place,
    print_report,
    print_table,
    print_text,
    printing,
)
from unblur.document.blocks import Table
from unblur.document.text import shell_line
from unblur.errors import CapabilityError, RecipeError
from unblur.progress import Run

if TYPE_CHECKING:
    from unblur.experiment.recipe.schema import Recipe


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Print this recipe, with all its settings, as TOML.", autocompletion=recipe_names
        ),
    ] = None,
) -> None:
    """List the shipped recipes with their published numbers, or print one."""
    from unblur.experiment.recipe.library import load_recipe, shipped

    if name is not None:
        print_text(load_recipe(name).to_toml(), "recipe")
        return
    rows = []
    for shipped_name in shipped():
        try:
            recipe = load_recipe(shipped_name)
        except CapabilityError:  # its model is trained by torch, which is not installed
            rows.append([shipped_name, "needs `pip install 'unblur[train]'`", "–", ""])
            continue
        numbers = ", ".join(f"{entry} {number.value:.4f}" for entry, number in recipe.expected.items())
        source = next(iter(recipe.expected.values())).source if recipe.expected else ""
        rows.append([shipped_name, recipe.title, numbers or "–", source])
    print_table(Table(("recipe", "description", "published", "source"), rows, left=4))
    terminal.note("unblur run RECIPE runs one; unblur recipes RECIPE prints it as TOML")


def run(
    recipe: RecipeName,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Your own data instead of the recipe's: a file, or a folder of parts."),
    ] = None,
    settings: Settings = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds for a stochastic model.")] = 1,
    workers: Annotated[
        int,
        typer.Option(
            "--workers", min=1, help="Number of seeds to train at a time, each in a process of its own."
        ),
    ] = 1,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 if a published number is not reproduced.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A new folder for the recipe as it ran, the report and the model."),
    ] = None,
    overwrite: Overwrite = False,
    checkpoints: Checkpoints = None,
    device: Device = "cpu",
) -> None:
    """Run a recipe: data, split, fit, evaluation, report, with published next to measured numbers."""

    chosen, notes = resolved(recipe, settings)
    changed = " with these values of --set" if settings else ""
    reason = "--data runs on other data" if data is not None else f"{chosen.name} expects none{changed}"
    RecipeError.unless(
        not check or (data is None and chosen.expected),
        f"--check needs published numbers; {reason}. Leave --check out.",
    )
    inputs = (file_of(recipe), data, checkpoints)
    place = None if out is None else experiment.check_place(out, overwrite=overwrite, inputs=inputs)
    with ProgressDisplay() as progress:
        context = Run(device, progress, checkpoints)
        outcome = experiment.outcome_of(chosen, context, data=data, seeds=seeds, workers=workers, notes=notes)
    with printing(lambda: print_report(outcome.report), out):
        if place is not None:
            experiment.write_folder(place, outcome)
    missed = outcome.report.missed()
    if check and missed:
        names = ", ".join(f"{entry.name} {entry.value:.4f}" for entry in missed)
        terminal.failure(f"not reproduced: {names}")
        raise typer.Exit(FAILED)


def resolved(name: str, settings: list[str] | None) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe called `name` with changed settings, and a note for each change."""
    from unblur.experiment.recipe.library import load_recipe
    from unblur.experiment.recipe.schema import parse_settings

    shipped_recipe = load_recipe(name)
    changes = parse_settings(settings or ())
    changed = shipped_recipe.changed(changes)
    notes = [f"set: {path} = {value}" for path, value in changes.items()]
    dropped = [entry for entry in shipped_recipe.expected if entry not in changed.expected]
    if dropped:
        notes.append(
            f"published numbers for {', '.join(dropped)} apply only to the recipe as shipped and were left out"
        )
    return changed, tuple(notes)


def translate(
    command: Annotated[
        str, typer.Argument(metavar="'python main.py …'", help="The command line, quoted as a whole.")
    ],
    system: Annotated[
        str | None,
        typer.Option("--system", help="The paper's model; by default detected from the options."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the recipe to this TOML file as well.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
) -> None:
    """Translate the command line of a paper's program to a recipe that does the same, and print it as TOML."""
    from unblur.compat.translation import translate as translated

    out = None if is_stdout(out) else out  # it is printed in any case
    place = None if out is None else output_place(out, overwrite=overwrite)
    translation = translated(command, system=system)
    text = translation.recipe.to_toml()
    terminal.notes(translation.notes)
    with printing(lambda: print_text(text, "recipe")):
        if place is not None:
            with output(place) as stream:
                stream.write(text.encode())
    if out is not None:
        terminal.note(
            f"written to {out}; run it with: {translation.run.replace('{recipe}', shell_line(out))}"
        )
