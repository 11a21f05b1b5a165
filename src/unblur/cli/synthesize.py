"""`unblur synthesize`: synthetic users of one's own data, with a card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unblur.cli import terminal
from unblur.cli.options import DataPath, Device, Overwrite, Settings, own_recipe, reads_data
from unblur.cli.terminal import ProgressDisplay, print_lines
from unblur.errors import RecipeError
from unblur.registry import SYNTHESIZERS


@reads_data
def synthesize(
    data: DataPath,
    out: Annotated[Path, typer.Option("--out", help="A new folder for synthetic.parquet and card.md.")],
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            "--model",
            help="A kind of synthesizer (sdrm, multi-vae, independent-items …), or a recipe to take it from.",
        ),
    ] = "sdrm",
    settings: Settings = None,
    users: Annotated[
        int | None,
        typer.Option("--users", min=1, help="How many synthetic users.", show_default="as many as real ones"),
    ] = None,
    privacy_epsilon: Annotated[
        float | None,
        typer.Option(
            "--privacy-epsilon",
            help="Train with differential privacy of this ε, the unit being one user; needs unblur\\[privacy].",
            show_default=False,
        ),
    ] = None,
    privacy_delta: Annotated[
        float | None,
        typer.Option(
            "--privacy-delta", help="Its δ.", show_default="a tenth of one over the number of users"
        ),
    ] = None,
    keep_synthesizer: Annotated[
        bool, typer.Option("--keep-synthesizer", help="Save the fitted synthesizer beside the sample.")
    ] = False,
    keep_out: Annotated[
        float | None,
        typer.Option(
            "--keep-out",
            help="A share of the users, 0.2 say, that nothing is learned from: the control group of an audit, in OUT/real.",
            show_default=False,
        ),
    ] = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    *,
    reading: dict[str, Any],
) -> None:
    """Make synthetic users of your own data: a Parquet file, and a card that says what it is and is not for.

    `unblur audit` then attacks the file, and compares it with real users: with those that --keep-out leaves out, above all.
    """
    from unblur.synthesis.synthesizing import synthesize

    RecipeError.unless(
        privacy_delta is None or privacy_epsilon is not None,
        "--privacy-delta belongs to --privacy-epsilon, which is not given. Give both.",
    )
    chosen = own_recipe(SYNTHESIZERS, recipe, reading, settings, ("model", "data", "seed"))
    RecipeError.unless(
        not (chosen.data.name or chosen.data.reading),
        f"data.{'name' if chosen.data.name else 'reading'} is of public data sets; this command reads {data}. "
        "Leave it out.",
    )
    with ProgressDisplay() as progress:
        made = synthesize(
            chosen,
            data,
            out=out,
            users=users,
            epsilon=privacy_epsilon,
            delta=privacy_delta,
            keep_synthesizer=keep_synthesizer,
            keep_out=keep_out,
            device=device,
            overwrite=overwrite,
            progress=progress,
        )
    terminal.note(*(f"note: {remark}" for remark in made.notes))
    print_lines(
        f"{chosen.model.kind} fitted to {made.train.n_users:,} users in {made.fit_seconds:.1f} s; {made.n_users:,} "
        f"synthetic users with {made.n_pairs:,} pairs in {made.sample_seconds:.1f} s",
        *(f"note: {line}" for line in made.synthesizer.notes),
        f"written to {out}",
    )
    if keep_out is not None:
        print_lines(
            f"audit it: unblur audit {out}/real/train.parquet {out}/synthetic.parquet --holdout {out}/real/kept.parquet",
        )
