"""`unblur recipes` and `unblur translate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unblur.cli import terminal
from unblur.cli.terminal import print_table
from unblur.errors import ArtifactError


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe, fully resolved, as TOML.")] = None,
) -> None:
    """List the shipped recipes with their published numbers, or print one."""
    from unblur.document.blocks import Table
    from unblur.experiment.recipe.library import load_recipe, shipped

    if name is not None:
        print(load_recipe(name).to_toml(), end="")
        return
    rows = []
    for known in shipped():
        recipe = load_recipe(known)
        numbers = ", ".join(f"{entry} {number.value:.4f}" for entry, number in recipe.expected.items())
        source = next(iter(recipe.expected.values())).source if recipe.expected else ""
        rows.append([known, recipe.title, numbers or "–", source])
    print_table(Table(("recipe", "what it is", "published", "source"), rows, left=4))
    terminal.note("unblur run RECIPE runs one; unblur recipes RECIPE prints it as TOML")


def translate(
    command: Annotated[
        str, typer.Argument(metavar="'python main.py …'", help="The command line, quoted as a whole.")
    ],
    system: Annotated[
        str | None, typer.Option("--system", help="Whose command line it is; else told from its options.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the recipe to this TOML file as well.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
) -> None:
    """Translate a paper's own command line to the recipe that does the same, and print it as TOML."""
    from unblur.compat.translation import translate as translated

    if out is not None and out.exists() and not overwrite:
        raise ArtifactError(
            f"The recipe must be a new file; {out} is there already. Give another, or --overwrite."
        )
    translation = translated(command, system=system)
    text = translation.recipe.to_toml()
    for remark in translation.notes:
        terminal.note(f"note: {remark}")
    print(text, end="")
    if out is not None:
        from unblur.data.files.writing import replacing

        with replacing(out) as stream:
            stream.write(text.encode())
        terminal.note(f"written to {out}; run it with: unblur run {out}")
