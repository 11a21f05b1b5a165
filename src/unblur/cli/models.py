"""`unblur fit` and `evaluate`: models for one's own data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from unblur import experiment
from unblur.cli import terminal
from unblur.cli.options import (
    Checkpoints,
    DataPath,
    Device,
    Overwrite,
    OverwriteFile,
    Settings,
    UnknownItems,
    names_of,
    own_recipe,
    reads_data,
)
from unblur.cli.planning import DryRun, print_plan
from unblur.cli.terminal import (
    ProgressDisplay,
    is_stdout,
    output,
    output_place,
    print_lines,
    print_report,
    printing,
)
from unblur.errors import DataError, check_word
from unblur.registry import RECOMMENDERS

if TYPE_CHECKING:
    from unblur.data.interactions import Unknown

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="The folder of a saved model.")]


@reads_data
def fit(
    data: DataPath,
    out: Annotated[Path, typer.Option("--out", help="A new folder for the model.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="A kind of model (bspm, ease, popularity …), or a recipe to take it from.",
            autocompletion=names_of(RECOMMENDERS),
        ),
    ] = "bspm",
    settings: Settings = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    checkpoints: Checkpoints = None,
    updatable: Annotated[
        bool,
        typer.Option(
            "--updatable", help="Keep the sums by which unblur update need not go over all users again."
        ),
    ] = False,
    items: Annotated[
        Path | None,
        typer.Option(
            "--items",
            help="A table of items (Parquet, CSV, JSON lines), labels first: title, category, price … The model keeps it.",
        ),
    ] = None,
    dry_run: DryRun = False,
    *,
    reading: dict[str, Any],
) -> None:
    """Fit a model to your own data and save it."""
    from unblur.experiment.estimate import Workload

    chosen = own_recipe(RECOMMENDERS, model, reading, settings, ("model", "data", "seed"))
    if dry_run:
        with ProgressDisplay() as progress:
            train, _ = experiment.read_train(chosen.data, data, progress)
        print_plan(
            [Workload(chosen.model.kind, chosen.model, 1)],
            train,
            device,
            lines=[f"the model would be in {out}"],
        )
        return
    with ProgressDisplay() as progress:
        fitted = experiment.fit(
            chosen,
            data,
            out=out,
            device=device,
            overwrite=overwrite,
            checkpoints=checkpoints,
            updatable=updatable,
            items=items,
            progress=progress,
        )
    terminal.notes(fitted.notes)
    if updatable:
        terminal.note(
            f"note: {fitted.statistics_bytes / 1e6:,.1f} MB of statistics are kept for updates"
            if fitted.statistics_bytes
            else "note: an update needs the log alone; no statistics are kept"
        )
    train = fitted.train
    print_lines(
        f"{chosen.model.kind} fitted to {train.n_users:,} users, {train.n_items:,} items and "
        f"{train.n_interactions:,} interactions in {fitted.seconds:.1f} s",
        f"written to {out}",
        kind=chosen.model.kind,
        users=train.n_users,
        items=train.n_items,
        interactions=train.n_interactions,
        seconds=fitted.seconds,
        out=str(out),
    )


@reads_data
def evaluate(
    model: ModelPath,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="What users did after --histories, such as the next week; a folder with train files (the histories) and "
            "test files; or one file with --hold-out.",
        ),
    ],
    histories: Annotated[
        Path | None, typer.Option("--histories", help="The log before, that lists are made from.")
    ] = None,
    hold_out: Annotated[
        float | None,
        typer.Option(
            "--hold-out",
            help="The share of one file to hold out: the latest, or random items of each user if there are no times.",
        ),
    ] = None,
    new_users: Annotated[
        str,
        typer.Option(
            "--new-users",
            metavar="leave-out|popular",
            help="Treatment of users without a history: left out and counted, or given popular items.",
        ),
    ] = "leave-out",
    keep_seen: Annotated[
        bool,
        typer.Option(
            "--keep-seen",
            help="Count items that a user had before, and allow them in lists; else they are left out and counted.",
        ),
    ] = False,
    settings: Settings = None,
    unknown_items: UnknownItems = "ignore",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the report to this file, as JSON; - is stdout.")
    ] = None,
    overwrite: OverwriteFile = False,
    device: Device = "cpu",
    *,
    reading: dict[str, Any],
) -> None:
    """Measure a saved model on held-out interactions, which must not have been in its training data.

    The report has figures by group too: users by activity, items by popularity, novelty, diversity and coverage.
    """
    place = None
    if out is not None:
        DataError.unless(
            out.suffix in (".json", ""),
            f"The report is written as JSON; saw --out {out.name}. Name it .json.",
        )
        place = output_place(out, overwrite=overwrite, inputs=(model, data, histories))
    chosen = own_recipe(
        RECOMMENDERS,
        "popularity",
        experiment.kept_reading(model, reading),
        settings,
        ("protocol", "split", "data", "seed"),
    )
    check_word("new_users", new_users, ("leave-out", "popular"))
    check_word("unknown_items", unknown_items, ("raise", "ignore"))
    week = {"split.without_history": new_users} if new_users != "leave-out" else {}
    week |= {"split.repeats": "keep"} if keep_seen else {}
    DataError.unless(
        not week or hold_out is None,
        "--new-users and --keep-seen are for held-out files of their own; --hold-out takes a part of one log, where a pair "
        "occurs once. Leave them out, or give --histories.",
    )
    chosen = chosen.changed(week)
    with ProgressDisplay() as progress:
        report = experiment.evaluate_saved(
            model,
            chosen,
            data,
            histories=histories,
            hold_out=hold_out,
            unknown_items=cast("Unknown", unknown_items),
            device=device,
            progress=progress,
        )
    if place is None:
        print_report(report)
    elif is_stdout(out):
        with output(place) as stream:
            stream.write(report.to_json().encode())
    else:
        with printing(lambda: print_report(report), out), output(place) as stream:
            stream.write(report.to_json().encode())
