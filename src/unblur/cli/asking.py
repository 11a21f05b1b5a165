"""`unblur recommend`: ask a saved model for lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from unblur.cli import terminal
from unblur.cli.models import ModelPath
from unblur.cli.options import Device, OverwriteFile, UnknownItems, own_recipe, reads_data
from unblur.cli.terminal import ProgressDisplay, is_stdout, output, print_lines, print_table
from unblur.document.blocks import Table
from unblur.errors import DataError, check_word, shortened
from unblur.registry import RECOMMENDERS

if TYPE_CHECKING:
    import polars as pl

    from unblur.data.interactions import Unknown
    from unblur.data.vocabulary import Vocabulary
    from unblur.ranking import Ranking

HistoriesPath = Annotated[
    Path, typer.Option("--histories", help="A file with the interactions of each user.")
]
OutTable = Annotated[
    Path | None,
    typer.Option("--out", help="Write the lists to this .parquet, .csv or .jsonl file; - is stdout."),
]
OutFormat = Annotated[
    str | None,
    typer.Option(
        "--out-format",
        metavar="parquet|csv|jsonl",
        help="The format of the lists; by default the file's name tells it, and stdout gets csv.",
    ),
]

_MAX_USERS = 5
"""Users whose lists are printed where no file is named: a glance."""
_MAX_DIGITS = 19
"""Digits of the largest integer label, 2**63 − 1."""


@reads_data
def recommend(
    model: ModelPath,
    histories: HistoriesPath,
    k: Annotated[int, typer.Option("--k", "-k", help="Number of items per user.")] = 20,
    users: Annotated[
        str | None, typer.Option("--users", help="Only these users, separated by commas.", show_default="all")
    ] = None,
    candidates: Annotated[
        Path | None,
        typer.Option(
            "--candidates",
            help="A file with the items to choose from, one per line, or with pairs of a user and an item allowed to it.",
        ),
    ] = None,
    exclude: Annotated[
        Path | None,
        typer.Option(
            "--exclude",
            help="A file with items that nobody is recommended, one per line, or with pairs of a user and an item.",
        ),
    ] = None,
    keep_seen: Annotated[
        bool, typer.Option("--keep-seen", help="Recommend items of the history as well, to be bought again.")
    ] = False,
    filler: Annotated[
        str,
        typer.Option(
            "--filler",
            metavar="popular|none",
            help="What fills a list for whose end the model has no signal: popular items, flagged, or nothing.",
        ),
    ] = "popular",
    unknown_items: UnknownItems = "ignore",
    out: OutTable = None,
    out_format: OutFormat = None,
    overwrite: OverwriteFile = False,
    device: Device = "cpu",
    *,
    reading: dict[str, Any],
) -> None:
    """Recommend the best items to users by their histories, without the items in them.

    Any file of histories will do: items that the model does not know are left out and counted. With --min-rating, items
    that a user rated lower are not learned from and not recommended.
    """
    import unblur
    from unblur import experiment
    from unblur.data.output import check_file, table_format, write_tables
    from unblur.data.vocabulary import Vocabulary
    from unblur.ranking import Selection

    table = None
    if out is not None:
        table = table_format(out, "csv" if is_stdout(out) and out_format is None else out_format)
        if not is_stdout(out):
            check_file(out, overwrite=overwrite, inputs=(model, histories, candidates, exclude))
    chosen = own_recipe(RECOMMENDERS, "popularity", experiment.kept_reading(model, reading))
    check_word("unknown_items", unknown_items, ("raise", "ignore"))
    check_word("filler", filler, ("popular", "none"))
    with ProgressDisplay() as progress:
        loaded = unblur.load(model, device=device)
        asked = experiment.read_histories(
            histories, chosen.data.read, loaded.items, timed=loaded.needs_timestamps, progress=progress
        )
        notes: list[str] = []
        if users is not None:
            wanted = Vocabulary(_labels(users.split(","), asked.rows.users, "--users"))
            n_new = int((asked.rows.users.positions_or_missing(wanted) < 0).sum())
            notes += [f"{n_new:,} of the users have no row in {histories}"] * (n_new > 0)
            asked = asked.of(wanted)
        if out is None:
            n_more = max(0, asked.rows.n_users - _MAX_USERS)
            asked = asked.of(asked.rows.users.take(range(asked.rows.n_users - n_more)))
        limits = experiment.limits_of(
            asked, loaded.items, chosen.data.read, keep_seen=keep_seen, exclude=exclude, candidates=candidates
        )
        rankings = loaded.recommend_batches(
            asked.rows,
            k=k,
            exclude=limits.excluded,
            candidates=limits.candidates,
            unknown_items=cast("Unknown", unknown_items),
            selection=Selection(filler=filler),  # type: ignore[arg-type]  # a checked word
            progress=progress,
        )
        notes += limits.notes
        if out is None:
            shown = next(rankings)
            notes += shown.notes
        else:
            assert table is not None
            with output(out, overwrite=overwrite) as stream:
                write_tables(_tables(rankings, notes), stream, table)
    terminal.note(*(f"note: {remark}" for remark in notes))
    summary = f"{asked.rows.n_users:,} users, up to {k} items each, written to {out}"
    if out is None:
        _show_lists(shown, n_more)
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


def _show_lists(ranking: Ranking, n_more: int) -> None:
    frame = ranking.to_frame()
    rows = [
        [
            shortened(str(entry["user"])),
            "–" if entry["item"] is None else shortened(str(entry["item"])),
            "–" if entry["rank"] is None else str(entry["rank"]),
            "–" if entry["score"] is None else f"{entry['score']:.4f}{' (filled)' * entry['filled']}",
        ]
        for entry in frame.iter_rows(named=True)
    ]
    print_table(Table(("user", "item", "rank", "score"), rows, left=2))
    if n_more:
        terminal.note(f"{n_more:,} more users; --out FILE.parquet writes all of them")
