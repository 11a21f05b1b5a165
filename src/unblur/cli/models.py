"""`unblur fit`, `evaluate` and `recommend`: models for one's own data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from unblur.cli import terminal
from unblur.cli.options import (
    Checkpoints,
    DataPath,
    Device,
    Overwrite,
    OverwriteFile,
    Settings,
    UnknownItems,
    own_recipe,
    reads_data,
)
from unblur.cli.terminal import (
    ProgressDisplay,
    is_stdout,
    output,
    print_lines,
    print_report,
    print_table,
    printing,
)
from unblur.document.blocks import Table
from unblur.errors import DataError, check_word, shortened
from unblur.registry import RECOMMENDERS

if TYPE_CHECKING:
    import polars as pl

    from unblur.data.interactions import Unknown
    from unblur.data.vocabulary import Vocabulary
    from unblur.ranking import Ranking

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="The folder of a saved model.")]

_MAX_USERS = 5
"""Users whose lists are printed where no file is named: a glance."""
_MAX_DIGITS = 19
"""Digits of the largest integer label, 2**63 − 1."""


@reads_data
def fit(
    data: DataPath,
    out: Annotated[Path, typer.Option("--out", help="A new folder for the model.")],
    model: Annotated[
        str,
        typer.Option(
            "--model", help="A kind of model (bspm, ease, popularity …), or a recipe to take it from."
        ),
    ] = "bspm",
    settings: Settings = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    checkpoints: Checkpoints = None,
    *,
    reading: dict[str, Any],
) -> None:
    """Fit a model to your own data and save it."""
    from unblur import experiment

    chosen = own_recipe(RECOMMENDERS, model, reading, settings, ("model", "data", "seed"))
    with ProgressDisplay() as progress:
        fitted = experiment.fit(
            chosen,
            data,
            out=out,
            device=device,
            overwrite=overwrite,
            checkpoints=checkpoints,
            progress=progress,
        )
    terminal.note(*(f"note: {remark}" for remark in fitted.notes))
    train = fitted.train
    print_lines(
        f"{chosen.model.kind} fitted to {train.n_users:,} users, {train.n_items:,} items and "
        f"{train.n_interactions:,} interactions in {fitted.seconds:.1f} s",
        f"written to {out}",
    )


@reads_data
def evaluate(
    model: ModelPath,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            help="A folder with train files (the histories) and test files, or one file with --hold-out.",
        ),
    ],
    hold_out: Annotated[
        float | None,
        typer.Option("--hold-out", help="The share of each user's items to hold out at random, such as 0.2."),
    ] = None,
    settings: Settings = None,
    unknown_items: UnknownItems = "raise",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the report to this file, as JSON; - is stdout.")
    ] = None,
    overwrite: OverwriteFile = False,
    device: Device = "cpu",
    *,
    reading: dict[str, Any],
) -> None:
    """Measure a saved model on held-out interactions, which must not have been in its training data."""
    from unblur import experiment
    from unblur.data.output import check_file

    if out is not None and not is_stdout(out):
        DataError.unless(
            out.suffix in (".json", ""),
            f"The report is written as JSON; saw --out {out.name}. Name it .json.",
        )
        check_file(out, overwrite=overwrite, inputs=(model, data))
    chosen = own_recipe(RECOMMENDERS, "popularity", reading, settings, ("protocol", "split", "data", "seed"))
    if hold_out is not None:
        chosen = chosen.changed({"split.kind": "random", "split.fraction": hold_out})
    check_word("unknown_items", unknown_items, ("raise", "ignore"))
    with ProgressDisplay() as progress:
        report = experiment.evaluate_saved(
            model,
            chosen,
            data,
            unknown_items=cast("Unknown", unknown_items),
            device=device,
            progress=progress,
        )
    if out is None:
        print_report(report)
    elif is_stdout(out):
        print(report.to_json(), end="")
    else:
        with printing(lambda: print_report(report), out), output(out, overwrite=overwrite) as stream:
            stream.write(report.to_json().encode())


@reads_data
def recommend(
    model: ModelPath,
    histories: Annotated[
        Path, typer.Option("--histories", help="A file with the interactions of each user.")
    ],
    k: Annotated[int, typer.Option("--k", "-k", help="Number of items per user.")] = 20,
    users: Annotated[
        str | None, typer.Option("--users", help="Only these users, separated by commas.", show_default="all")
    ] = None,
    candidates: Annotated[
        Path | None, typer.Option("--candidates", help="A file with the items to choose from, one per line.")
    ] = None,
    unknown_items: UnknownItems = "raise",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the lists to this .parquet, .csv or .jsonl file; - is stdout."),
    ] = None,
    out_format: Annotated[
        str | None,
        typer.Option(
            "--out-format",
            metavar="parquet|csv|jsonl",
            help="The format of the lists; by default the file's name tells it, and stdout gets csv.",
        ),
    ] = None,
    overwrite: OverwriteFile = False,
    device: Device = "cpu",
    *,
    reading: dict[str, Any],
) -> None:
    """Recommend the best items to users by their histories, without the items in them."""
    import unblur
    from unblur import experiment
    from unblur.data.output import check_file, table_format, write_tables

    if out is not None:
        chosen_format = table_format(out, "csv" if is_stdout(out) and out_format is None else out_format)
        if not is_stdout(out):
            check_file(out, overwrite=overwrite, inputs=(model, histories, candidates))
    chosen = own_recipe(RECOMMENDERS, "popularity", reading)
    check_word("unknown_items", unknown_items, ("raise", "ignore"))
    with ProgressDisplay() as progress:
        loaded = unblur.load(model, device=device)
        rows = experiment.read_histories(histories, chosen.data.read, loaded.items, progress=progress)
        if users is not None:
            rows = rows.select_users(_labels(users.split(","), rows.users, "--users"))
        rankings = loaded.recommend_batches(
            rows if out is not None else rows.take_users(slice(_MAX_USERS)),
            k=k,
            candidates=None if candidates is None else _candidates(candidates, loaded.items),
            unknown_items=cast("Unknown", unknown_items),
            progress=progress,
        )
        notes: list[str] = []
        if out is None:
            shown = next(rankings)
            notes += shown.notes
        else:
            with output(out, overwrite=overwrite) as stream:
                write_tables(_tables(rankings, notes), stream, chosen_format)
    terminal.note(*(f"note: {remark}" for remark in notes))
    summary = f"{rows.n_users:,} users, up to {k} items each, written to {out}"
    if out is None:
        _show_lists(shown, rows.n_users - len(shown.users))
    elif is_stdout(out):
        terminal.note(summary)
    else:
        print_lines(summary)


def _tables(rankings: Iterator[Ranking], notes: list[str]) -> Iterator[pl.DataFrame]:
    """The lists as tables, one at a time; their notes are added to `notes`."""
    for ranking in rankings:
        notes += ranking.notes
        yield ranking.to_frame()


def _labels(words: list[str], vocabulary: Vocabulary, option: str) -> list[Any]:
    """Words as labels of the vocabulary's type: whole numbers or text."""
    stripped = [word.strip() for word in words]
    if vocabulary.kind == "str":
        return stripped
    for word in stripped:
        DataError.unless(
            word.isascii() and word.isdigit() and len(word) <= _MAX_DIGITS,
            f"{option} must be whole numbers, like the labels in the data; saw {word[:80]!r}. Correct it.",
        )
    return [int(word) for word in stripped]


def _candidates(path: Path, items: Vocabulary) -> list[Any]:
    from unblur.experiment.recipe.library import text_of

    lines = text_of(path, "--candidates must be a text file with one item per line").split("\n")
    return _labels([line for line in lines if line.strip()], items, "--candidates")


def _show_lists(ranking: Ranking, n_more: int) -> None:
    users = ranking.users.to_list()
    rows = [
        [shortened(str(user)), shortened(str(item)), str(rank), f"{score:.4f}"]
        for row, user in enumerate(users)
        for rank, (item, score) in enumerate(zip(ranking.labels(row), ranking.scores[row], strict=False), 1)
    ]
    print_table(Table(("user", "item", "rank", "score"), rows, left=2))
    if n_more:
        terminal.note(f"{n_more:,} more users; --out FILE.parquet writes all of them")
