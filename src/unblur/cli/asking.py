"""`unblur recommend`, `similar`, `explain`, `score` and `info`: ask a saved model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

import unblur
from unblur import experiment
from unblur.cli import terminal
from unblur.cli.models import ModelPath
from unblur.cli.options import Device, OverwriteFile, UnknownItems, own_recipe, reads_data
from unblur.cli.terminal import (
    ProgressDisplay,
    is_stdout,
    output,
    output_place,
    print_lines,
    print_table,
)
from unblur.document.blocks import Table
from unblur.errors import DataError, check_word, shortened
from unblur.progress import Progress, silent
from unblur.registry import RECOMMENDERS

if TYPE_CHECKING:
    import polars as pl

    from unblur.data.interactions import Unknown
    from unblur.data.output import OutputFile, TableFormat
    from unblur.data.vocabulary import Vocabulary
    from unblur.experiment.reading import Histories, Limits
    from unblur.experiment.recipe.parts import Reading
    from unblur.ranking import Ranking, Selection
    from unblur.recommender import Recommender

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

_ALL = 2**31 - 1
"""A length of lists that no list has: every candidate is in them."""
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
        bool,
        typer.Option(
            "--keep-seen",
            help="Recommend items of the history as well, to be bought again; not those rated low.",
        ),
    ] = False,
    where: Annotated[
        str | None,
        typer.Option(
            "--where", help="Only items for which this holds, such as 'category == \"books\" and stock > 0'."
        ),
    ] = None,
    at_most: Annotated[
        str | None,
        typer.Option(
            "--at-most", metavar="N:COLUMN", help="At most so many items with one value of a column."
        ),
    ] = None,
    diversity: Annotated[
        float,
        typer.Option(
            "--diversity", min=0, max=1, help="λ of maximal marginal relevance: 1 is by score alone."
        ),
    ] = 1.0,
    popularity: Annotated[
        float, typer.Option("--popularity", min=0, help="γ, the penalty of popular items; 0 is none.")
    ] = 0.0,
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
    from unblur.ranking import Selection

    check_word("filler", filler, ("popular", "none"))
    selection = Selection(
        where=where,
        at_most=at_most,
        diversity=diversity,
        popularity=popularity,
        filler=cast("Literal['popular', 'none']", filler),
    )
    limits = {"again": "liked" if keep_seen else "nothing", "exclude": exclude, "candidates": candidates}
    request = _Request(model, histories, reading, users, k, unknown_items, limits, device)
    target = _target(out, out_format, overwrite, (model, histories, candidates, exclude))
    _answer(request, selection, target)


@reads_data
def score(
    model: ModelPath,
    pairs: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS", help="A file of users and items, such as another system's candidates."
        ),
    ],
    histories: HistoriesPath,
    out: OutTable = None,
    out_format: OutFormat = None,
    overwrite: OverwriteFile = False,
    device: Device = "cpu",
    *,
    reading: dict[str, Any],
) -> None:
    """Score given pairs of users and items, and put each user's items in the order of their scores.

    Items of the history are scored as well. Pairs of users without a row in the histories, or of unknown items, are left
    out and counted.
    """
    from unblur.ranking import BY_SCORE

    limits = {"again": "all", "exclude": None, "candidates": pairs}
    request = _Request(model, histories, reading, None, _ALL, "ignore", limits, device, only_given=True)
    _answer(request, BY_SCORE, _target(out, out_format, overwrite, (model, histories, pairs)))


def similar(
    model: ModelPath,
    items: Annotated[list[str], typer.Argument(metavar="ITEM…", help="Labels of items.")],
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Number of similar items of each.")] = 10,
    candidates: Annotated[
        Path | None, typer.Option("--candidates", help="A file with the items to choose from, one per line.")
    ] = None,
    out: OutTable = None,
    out_format: OutFormat = None,
    overwrite: OverwriteFile = False,
    device: Device = "cpu",
) -> None:
    """List the items most similar to given ones: those that the same users have."""
    from unblur.data.output import write_tables

    target = _target(out, out_format, overwrite, (model, candidates))
    loaded = unblur.load(model, device=device)
    choice = None
    if candidates is not None:
        labels = experiment.items_in(candidates, loaded.items)
        if labels is None:
            raise DataError(
                f"--candidates must have one column here, of items; {candidates} has more. Leave out the others."
            )
        choice = labels[0]
        terminal.notes(labels[1])
    lists = loaded.similar_items(_labels(items, loaded.items, "ITEM"), k, candidates=choice)
    frame = lists.to_frame().rename({"user": "similar_to"}).drop("fallback", "filled")
    if out is None or target is None:
        _show_lists(frame, 0)
        return
    with output(target.place) as stream:
        write_tables([frame], stream, target.format)
    print_lines(f"items similar to {len(items):,}, written to {out}", items=len(items), out=str(out))


@reads_data
def explain(
    model: ModelPath,
    histories: HistoriesPath,
    items: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ITEM…]", help="Labels of items; by default the first of the user's list."),
    ] = None,
    users: Annotated[
        str | None, typer.Option("--users", help="The user; by default the only one of the file.")
    ] = None,
    k: Annotated[
        int, typer.Option("--k", "-k", min=1, help="Items of the history to name, largest share first.")
    ] = 5,
    device: Device = "cpu",
    *,
    reading: dict[str, Any],
) -> None:
    """Say which items of a user's history a recommendation rests on, and with which share of its score."""

    loaded = unblur.load(model, device=device)
    log, _ = _histories(loaded, model, histories, reading)
    rows = log.rows.onto(items=loaded.items, unknown="ignore")
    if users is not None:
        rows = rows.select_users(_labels([users], rows.users, "--users"))
    DataError.unless(
        rows.n_users == 1,
        f"One user is explained at a time; {histories} has {rows.n_users:,}. Name one: --users.",
    )
    DataError.unless(
        rows.n_interactions,
        f"The user must have an item that the model knows, on which a recommendation can rest; none of those in {histories} is. "
        "Check the labels of the items.",
    )
    targets = _labels(items or [], loaded.items, "ITEM") or loaded.recommend(rows, k=1).labels()
    reasons: list[dict[str, Any]] = [
        {"item": item, "score": explanation.score, "because_of": because, "share": share}
        for item in targets
        for explanation in (loaded.explain(rows, item),)
        for because, share in explanation.to_frame()[:k].rows()
    ]
    table = [
        [
            _shown(loaded, reason["item"]),
            f"{reason['score']:.4f}",
            _shown(loaded, reason["because_of"]),
            f"{reason['share']:.4f}",
        ]
        for reason in reasons
    ]
    exact = "the shares of all items of the history add up to the score"
    print_table(Table(("item", "score", "because of", "share"), table, left=1), reasons=reasons)
    terminal.note(
        "nothing is left to recommend to this user; name an ITEM to have its score explained"
        if not targets
        else exact
        if loaded.linear
        else "each share is what the score loses without that item; they need not add up"
    )


def info(model: ModelPath) -> None:
    """Say what a saved model is, from which data and when, and what it needs. Its arrays are not read."""
    from unblur.saving.models import described, read_manifest

    manifest = read_manifest(model)
    print_table(Table(("", ""), list(described(model, manifest).items()), left=2), model=manifest)


@dataclass(frozen=True)
class _Request:
    """What lists are asked for."""

    model: Path
    histories: Path
    reading: Mapping[str, Any]
    users: str | None
    k: int
    unknown_items: str
    limits: Mapping[str, Any]
    """The keywords of `experiment.limits_of`."""
    device: str
    only_given: bool = False
    """True if users without an allowed item have no list."""


@dataclass(frozen=True)
class _Target:
    """Where a table is written, and how."""

    place: OutputFile
    format: TableFormat


def _target(
    out: Path | None, out_format: str | None, overwrite: bool, inputs: tuple[Path | None, ...]
) -> _Target | None:
    """Where a table is written, if anywhere, once nothing stands against it."""
    from unblur.data.output import table_format

    if out is None:
        return None
    form = table_format(out, "csv" if is_stdout(out) and out_format is None else out_format)
    return _Target(output_place(out, overwrite=overwrite, inputs=inputs), form)


def _histories(
    loaded: Recommender,
    model: Path,
    path: Path,
    reading: Mapping[str, Any],
    progress: Progress = silent,
) -> tuple[Histories, Reading]:
    """Read histories for a model, with what was said about reading at its fit and now, and how they were read."""

    settings = experiment.kept_reading(model, reading, path)
    options = own_recipe(RECOMMENDERS, "popularity", settings).data.read
    histories = experiment.read_histories(
        path, options, loaded.items, timed=loaded.needs_timestamps, progress=progress
    )
    return histories, options


def _answer(request: _Request, selection: Selection, target: _Target | None) -> None:
    """Compute lists, and write or show them."""
    import polars as pl

    from unblur.data.output import write_tables
    from unblur.data.vocabulary import Vocabulary

    check_word("unknown_items", request.unknown_items, ("raise", "ignore"))
    notes: list[str] = []
    with ProgressDisplay() as progress:
        loaded = unblur.load(request.model, device=request.device)
        log, options = _histories(loaded, request.model, request.histories, request.reading, progress)
        if request.users is not None:
            chosen = Vocabulary(_labels(request.users.split(","), log.rows.users, "--users"))
            n_new = int((log.rows.users.positions_or_missing(chosen) < 0).sum())
            notes += [f"{n_new:,} of the users have no row in {request.histories}"] * (n_new > 0)
            log = log.of(chosen)
        n_more = 0
        limits = experiment.limits_of(log, loaded.items, options, **request.limits)
        if request.only_given:
            log, limits = _given(log, limits)
        if target is None and not terminal.style.json:  # a document is read by programs, which want all users
            n_more = max(0, log.rows.n_users - _MAX_USERS)
            shown_users = log.rows.users.take(range(log.rows.n_users - n_more))
            log, limits = log.of(shown_users), limits.of(shown_users)
        rankings = loaded.recommend_batches(
            log.rows,
            k=request.k,
            exclude=limits.excluded,
            candidates=limits.candidates,
            unknown_items=cast("Unknown", request.unknown_items),
            selection=selection,
            progress=progress,
        )
        notes += limits.notes
        if target is None:
            shown = pl.concat(_tables(rankings, notes))
        else:
            with output(target.place) as stream:
                write_tables(_tables(rankings, notes), stream, target.format)
    terminal.notes(notes)
    n_users = log.rows.n_users
    length = "all given items" if request.k == _ALL else f"up to {request.k} items each"
    if target is None:
        _show_lists(shown, n_more)
    else:
        out = target.place.path
        print_lines(f"{n_users:,} users, {length}, written to {out}", users=n_users, out=str(out))


def _given(log: Histories, limits: Limits) -> tuple[Histories, Limits]:
    """Histories and limits of the users who have an allowed item."""
    import numpy as np

    from unblur.data.interactions import Interactions

    allowed = limits.candidates
    if not isinstance(allowed, Interactions):  # a file of items alone, which are scored for everybody
        return log, limits
    DataError.unless(
        allowed.n_interactions,
        "Some pair must be of a user of the histories and an item of the model; none is. Check the columns of users and items.",
    )
    users = allowed.users.take(np.flatnonzero(allowed.user_degrees))
    return log.of(users), limits.of(users)


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


def _show_lists(frame: pl.DataFrame, n_more: int) -> None:
    columns = [name for name in ("user", "similar_to", "item", "title", "rank") if name in frame.columns]
    rows = [
        [
            *("–" if entry[name] is None else shortened(str(entry[name])) for name in columns),
            "–"
            if entry["score"] is None
            else f"{entry['score']:.4f}{' (filled)' * entry.get('filled', False)}",
        ]
        for entry in frame.iter_rows(named=True)
    ]
    print_table(Table((*columns, "score"), rows, left=len(columns) - 1), lists=frame.to_dicts())
    if n_more:
        terminal.note(f"{n_more:,} more users; --out FILE.parquet writes all of them")


def _shown(model: Recommender, item: int | str) -> str:
    """The label of an item, and its title if there are titles."""
    title = None if model.titles is None else model.titles[int(model.items.positions([item])[0])]
    return shortened(str(item)) if title is None else shortened(f"{title} ({item})")
