"""`unblur update`: new events for a saved model, and users whom it forgets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unblur import experiment
from unblur.cli.models import ModelPath
from unblur.cli.options import Overwrite, own_recipe, reads_data
from unblur.cli.terminal import (
    ProgressDisplay,
    output,
    output_place,
    print_lines,
    print_text,
)
from unblur.document.text import json_text
from unblur.errors import ArtifactError
from unblur.registry import RECOMMENDERS


@reads_data
def update(
    model: ModelPath,
    log: Annotated[
        Path,
        typer.Option("--log", help="The log that the model was fitted to, or its folder; it is not kept."),
    ],
    out: Annotated[Path, typer.Option("--out", help="A new folder for the updated model.")],
    add: Annotated[
        Path | None, typer.Option("--add", help="A file with new events, of old and new users and items.")
    ] = None,
    forget: Annotated[
        Path | None, typer.Option("--forget", help="A text file with the users to forget, one per line.")
    ] = None,
    receipt: Annotated[
        Path | None,
        typer.Option("--receipt", help="Write a receipt of what was forgotten to this file, as JSON."),
    ] = None,
    overwrite: Overwrite = False,
    *,
    reading: dict[str, Any],
) -> None:
    """Add events to a saved model, and forget users, without a fit to everything."""
    inputs = (model, log, add, forget, out)
    place = None if receipt is None else output_place(receipt, overwrite=overwrite, inputs=inputs)
    chosen = own_recipe(RECOMMENDERS, "popularity", experiment.kept_reading(model, reading))
    with ProgressDisplay() as progress:
        updated = experiment.update_saved(
            model, chosen.data, log, add=add, forget=forget, out=out, overwrite=overwrite, progress=progress
        )
    text = json_text(updated.receipt)
    if place is not None:
        try:
            with output(place) as stream:
                stream.write(text.encode())
        except ArtifactError:
            print_text(text, "receipt")  # nothing can say this again once the earlier model is gone
            raise
    after, removed, added = updated.change.after, updated.receipt["removed"], updated.receipt["asked"]["add"]
    stages = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in updated.seconds.items())
    print_lines(
        f"{removed['users']:,} users with {removed['interactions']:,} interactions forgotten, {added['interactions']:,} interactions "
        f"of {added['users']:,} users added",
        f"{updated.model.spec.kind} of {after.n_users:,} users, {after.n_items:,} items and {after.n_interactions:,} interactions "
        f"({stages})",
        f"written to {out}",
        removed=removed,
        added=added,
        seconds=updated.seconds,
        out=str(out),
    )
