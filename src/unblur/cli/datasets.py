"""`unblur datasets`: list, fetch, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unblur.cli import terminal
from unblur.cli.terminal import FAILED, ProgressDisplay, print_lines, print_table
from unblur.document.blocks import Table
from unblur.errors import CapabilityError, DataError

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
        str | None, typer.Argument(metavar="[NAME]", help="Describe this data set in full.")
    ] = None,
) -> None:
    """List the known data sets and their copies on this machine, or describe one."""
    from unblur.data import catalogue as datasets

    if name is not None:
        print_table(Table(("", ""), _facts(datasets.dataset(name)), left=2))
        return
    rows = []
    for dataset in datasets.DATASETS.values():
        size = "–" if dataset.n_users is None else f"{dataset.n_users:,} × {dataset.n_items:,}"
        counts = [content.n_interactions for content in dataset.readings[0].parts.values()]
        total = f"{sum(count or 0 for count in counts):,}" if all(counts) else "–"
        readings = ", ".join(reading.name for reading in dataset.readings)
        rows.append([dataset.name, dataset.title, readings, _copy_state(dataset), size, total])
    print_table(
        Table(("name", "description", "readings", "copy", "users × items", "interactions"), rows, left=4)
    )
    terminal.note(
        "interactions are those of the first reading; unblur datasets list NAME describes one, unblur datasets fetch "
        "NAME downloads it"
    )


@app.command()
def fetch(
    name: Name,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", help="The folder for the copy; by default the user's cache.", show_default=False
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option("--address", help="A web folder with the files; by default their origin."),
    ] = None,
) -> None:
    """Download a data set from its origin, check its content, and keep it for later runs.

    An interrupted download is resumed where it stopped.
    """
    from unblur.data import catalogue as datasets

    dataset = datasets.dataset(name)
    terminal.note(f"licence: {dataset.licence}")
    with ProgressDisplay() as progress:
        copy = datasets.fetch(dataset, folder=folder, address=address, progress=progress)
    print_lines(f"{dataset.name} is in {copy}")
    if dataset.unverified:
        terminal.note(
            f"unverified: {', '.join(dataset.unverified)}. Neither a checksum of the file nor a fingerprint of the content is "
            "known; numbers of interactions were checked where they are."
        )
    terminal.note(f"please cite: {dataset.citation}")


@app.command()
def verify(
    name: Name,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="The copy, a file or a folder; by default the one that recipes use."),
    ] = None,
) -> None:
    """Compare a copy, in any file format, with the known content of the data set. Exits with 1 if it differs."""
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
            {True: "right", False: "wrong", None: "unknown"}[check.holds],
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


def _facts(dataset: Dataset) -> list[list[str]]:
    """The full description of a data set, as names and values."""
    facts = [
        ["name", dataset.name],
        ["description", dataset.title],
        ["copy", _copy_state(dataset)],
        ["licence", dataset.licence],
        ["cite", dataset.citation],
        *(["fetched from", download.address] for download in dataset.downloads),
        ["by hand", dataset.by_hand],
    ]
    for reading in dataset.readings:
        facts.append([f'reading "{reading.name}"', reading.meaning])
        for part, content in reading.parts.items():
            unknown = "" if content.fingerprint else ", fingerprint unknown"
            facts.append([f"  {part}", f"{content}{unknown}".removeprefix(", ")])
    return facts


def _copy_state(dataset: Dataset) -> str:
    """The place of the copy that recipes use, or the way to get one, in a few words."""
    from unblur.data.catalogue.copies import cache_folder, locate

    if dataset.generated:
        return "generated"
    try:
        folder = next(iter(locate(dataset).values())).parent
    except CapabilityError:
        return "can be fetched" if dataset.downloads else "by hand"
    except DataError:
        return "incomplete"
    return "in the cache" if folder == cache_folder() / dataset.name else "in $UNBLUR_DATA"
