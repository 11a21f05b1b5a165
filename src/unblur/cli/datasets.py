"""`unblur datasets`: list, fetch, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unblur.cli import terminal
from unblur.cli.terminal import FAILED, ProgressDisplay, print_lines, print_table
from unblur.document.blocks import Table

if TYPE_CHECKING:
    from unblur.data.catalogue.listing import Dataset

app = typer.Typer(
    no_args_is_help=True,
    help="The public data sets that recipes use: list them, fetch one, verify a copy.",
    pretty_exceptions_enable=False,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A data set (see `unblur datasets list`).")]


@app.command("list")
def list_datasets(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Tell all that is known of this one.")
    ] = None,
) -> None:
    """List the known data sets and where there are copies on this machine, or describe one."""
    from unblur.data import catalogue as datasets

    if name is not None:
        print_table(Table(("", ""), _facts(datasets.dataset(name)), left=2))
        return
    rows = []
    for known in datasets.DATASETS.values():
        size = "–" if known.n_users is None else f"{known.n_users:,} × {known.n_items:,}"
        counts = [content.n_interactions for content in known.readings[0].parts.values()]
        total = f"{sum(count or 0 for count in counts):,}" if all(counts) else "–"
        readings = ", ".join(reading.name for reading in known.readings)
        rows.append([known.name, known.title, readings, _whereabouts(known), size, total])
    print_table(
        Table(("name", "what it is", "readings", "copy", "users × items", "interactions"), rows, left=4)
    )
    terminal.note(
        "interactions are those of the first reading; unblur datasets list NAME tells more, unblur datasets "
        "fetch NAME gets a copy"
    )


@app.command()
def fetch(
    name: Name,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Where to put it; else the user cache.", show_default=False),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="A web folder to take the files from; else their origin."),
    ] = None,
) -> None:
    """Fetch a data set from its origin, check its content, and keep it for later runs.

    An interrupted download is resumed where it stopped.
    """
    from unblur.data import catalogue as datasets

    wanted = datasets.dataset(name)
    terminal.note(f"licence: {wanted.licence}")
    with ProgressDisplay() as progress:
        place = datasets.fetch(wanted, folder=folder, address=address, progress=progress)
    print_lines(f"{wanted.name} is in {place}")
    if all(content.fingerprint is None for way in wanted.readings for content in way.parts.values()):
        terminal.note("its content is not known by fingerprint: sizes were checked where they are known")
    terminal.note(f"please cite: {wanted.citation}")


@app.command()
def verify(
    name: Name,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="The copy: a file or a folder; else the one that recipes would use."),
    ] = None,
) -> None:
    """Compare a copy, in any file format, with what the data set must hold. Exits with 1 where it differs."""
    from unblur.data import catalogue as datasets

    with ProgressDisplay() as progress:
        checks = datasets.verify(name, data, progress=progress)
    if not checks:
        print_lines(f"{name} is generated: there is no copy to verify")
        return
    rows = [
        [
            check.part,
            check.reading,
            str(check.file),
            {True: "right", False: "wrong", None: "not known"}[check.holds],
            "–" if check.found is None else f"{check.found.n_interactions:,}",
        ]
        for check in checks
    ]
    print_table(Table(("part", "reading", "file", "verdict", "interactions"), rows, left=4))
    wrong = [check for check in checks if check.holds is False]
    terminal.note(
        *(
            f'{check.part}, "{check.reading}": expected {check.expected}; saw {check.problem or check.found}'
            for check in wrong
        )
    )
    if wrong:
        raise typer.Exit(FAILED)


def _facts(known: Dataset) -> list[list[str]]:
    """All that is known of a data set, as names and values."""
    facts = [
        ["name", known.name],
        ["what it is", known.title],
        ["copy", _whereabouts(known)],
        ["licence", known.licence],
        ["cite", known.citation],
        *(["fetched from", download.address] for download in known.downloads),
        ["by hand", known.by_hand],
    ]
    for way in known.readings:
        facts.append([f'reading "{way.name}"', way.meaning])
        for part, content in way.parts.items():
            unknown = "" if content.fingerprint else ", fingerprint not known"
            facts.append([f"  {part}", f"{content}{unknown}".removeprefix(", ")])
    return facts


def _whereabouts(known: Dataset) -> str:
    """Where recipes find a copy, or how to get one, in a few words."""
    from unblur.data.catalogue.copies import cache_folder, locate
    from unblur.errors import CapabilityError, DataError

    if known.generated:
        return "generated"
    try:
        folder = next(iter(locate(known).values())).parent
    except CapabilityError:
        return "can be fetched" if known.downloads else "by hand"
    except DataError:
        return "incomplete"
    return "in the cache" if folder == cache_folder() / known.name else "in $UNBLUR_DATA"
