"""`unblur synthesize` and `unblur audit`: sample synthetic users, and measure their utility and privacy."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unblur.cli import terminal
from unblur.cli.options import (
    DataPath,
    Device,
    Overwrite,
    Settings,
    names_of,
    own_recipe,
    reads_data,
    without_none,
)
from unblur.cli.terminal import FAILED, ProgressDisplay, in_document, print_lines, print_table, printing
from unblur.document.blocks import Table
from unblur.document.text import shell_line
from unblur.errors import DataError, RecipeError
from unblur.registry import SYNTHESIZERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unblur.audit.auditor import Audit
    from unblur.data.interactions import Interactions
    from unblur.data.output import OutputFolder
    from unblur.progress import Progress


@reads_data
def synthesize(
    data: DataPath,
    out: Annotated[Path, typer.Option("--out", help="A new folder for synthetic.parquet and card.md.")],
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            "--model",
            help="A kind of synthesizer (sdrm, vae-sampler, independent-items …), or a recipe to take it from.",
            autocompletion=names_of(SYNTHESIZERS),
        ),
    ] = "sdrm",
    settings: Settings = None,
    users: Annotated[
        int | None,
        typer.Option(
            "--users", min=1, help="Number of synthetic users.", show_default="the number of real ones"
        ),
    ] = None,
    privacy_epsilon: Annotated[
        float | None,
        typer.Option(
            "--privacy-epsilon",
            help="Train with differential privacy at this ε, with one user as the unit; needs unblur\\[privacy].",
            show_default=False,
        ),
    ] = None,
    privacy_delta: Annotated[
        float | None,
        typer.Option(
            "--privacy-delta", help="Its δ.", show_default="a tenth of one over the number of users"
        ),
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            "--items",
            help="A public list of items, a label per line; without it, differential privacy has no guarantee.",
            show_default=False,
        ),
    ] = None,
    save_synthesizer: Annotated[
        bool, typer.Option("--save-synthesizer", help="Save the fitted synthesizer beside the sample.")
    ] = False,
    holdout: Annotated[
        float | None,
        typer.Option(
            "--holdout",
            help="A share of the users, 0.2 say, that nothing is learned from: the control group of an audit, in OUT/real.",
            show_default=False,
        ),
    ] = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    *,
    reading: dict[str, Any],
) -> None:
    """Sample synthetic users like those of your own data: a Parquet file, and a card about its intended use.

    `unblur audit` then attacks the file and compares it with real users, above all with those that --holdout leaves out.
    """
    from unblur.synthesis.synthesizing import synthesize

    RecipeError.unless(
        privacy_delta is None or privacy_epsilon is not None,
        "--privacy-delta needs --privacy-epsilon, which is missing. Give both.",
    )
    chosen = own_recipe(SYNTHESIZERS, recipe, reading, settings, ("model", "data", "seed"))
    RecipeError.unless(
        not (chosen.data.name or chosen.data.reading),
        f"data.{'name' if chosen.data.name else 'reading'} is for public data sets; this command reads {data}. "
        "Leave it out.",
    )
    with ProgressDisplay() as progress:
        synthesis = synthesize(
            chosen,
            data,
            out=out,
            users=users,
            epsilon=privacy_epsilon,
            delta=privacy_delta,
            items=items,
            save_synthesizer=save_synthesizer,
            holdout=holdout,
            device=device,
            overwrite=overwrite,
            progress=progress,
        )
    terminal.notes(synthesis.notes)
    print_lines(
        f"{chosen.model.kind} fitted to {synthesis.train.n_users:,} users in {synthesis.fit_seconds:.1f} s; {synthesis.n_users:,} "
        f"synthetic users with {synthesis.n_pairs:,} pairs in {synthesis.sample_seconds:.1f} s",
        *(f"note: {line}" for line in synthesis.synthesizer.notes),
        f"written to {out}",
    )
    if holdout is not None:
        words = ["unblur", "audit", out / "real" / "train.parquet", out / "synthetic.parquet"]
        words += ["--holdout", out / "real" / "kept.parquet"]
        words += [] if items is None else ["--items", items]
        print_lines(f"audit it: {shell_line(*words)}")


@reads_data
def audit(
    real: Annotated[
        Path,
        typer.Argument(
            metavar="REAL",
            help="The users that the synthesizer was fitted to: a file, or a folder with a train file.",
        ),
    ],
    synthetic: Annotated[
        Path, typer.Argument(metavar="SYNTHETIC", help="The synthetic users, as a file or folder as well.")
    ],
    holdout: Annotated[
        Path | None,
        typer.Option("--holdout", help="Real users from the same source who were not trained on."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder for report.html and report.json.")
    ] = None,
    max_auc: Annotated[
        float | None,
        typer.Option(
            "--max-auc",
            help="Largest area under the ROC curve of a membership attack; 0.55 with a holdout.",
            show_default=False,
        ),
    ] = None,
    max_catch: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--max-catch",
            help="Largest shares of members caught at 1 % and at 0.1 % false positives; 0.03 0.01 with a holdout.",
            show_default=False,
        ),
    ] = None,
    max_copies: Annotated[
        int | None,
        typer.Option(
            "--max-copies",
            min=0,
            help="Largest number of exact copies of training users.",
            show_default=False,
        ),
    ] = None,
    max_near_copies: Annotated[
        float,
        typer.Option(
            "--max-near-copies", help="Largest share of near copies in excess of that of other real users."
        ),
    ] = 0.01,
    max_excess: Annotated[
        float | None,
        typer.Option(
            "--max-excess",
            help="Largest excess of right guesses about members over those about outsiders; 0.05 with a holdout.",
            show_default=False,
        ),
    ] = None,
    min_utility: Annotated[
        float | None,
        typer.Option(
            "--min-utility",
            help="Smallest accuracy of a recommender trained on synthetic users, as a share of that with real users; needs "
            "a holdout.",
        ),
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            "--items",
            help="The catalogue, a label per line, such as the list that `unblur synthesize --items` was given.",
            show_default="the items of the real users",
        ),
    ] = None,
    utility: Annotated[
        bool,
        typer.Option(
            "--utility/--no-utility", help="Train recommenders on both sets and test them on the holdout."
        ),
    ] = True,
    users: Annotated[
        int, typer.Option("--users", min=0, help="Number of users of each set to attack; 0 for all.")
    ] = 10_000,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Allow synthetic users without items.")
    ] = False,
    waive: Annotated[
        list[str] | None,
        typer.Option(
            "--waive",
            metavar="ID=REASON",
            help="A leak or exposure that shall not fail the audit, by the id of the finding; repeatable.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The seed of all random draws.")] = 0,
    overwrite: Overwrite = False,
    *,
    reading: dict[str, Any],
) -> None:
    """Attack a synthetic data set, compare it with real users, and report the findings.

    Exits with 1 if a gate fails, and for every leak or exposure that is not waived. Without --holdout membership cannot be
    measured, and its gates are left out unless their options are given.
    """
    from unblur.audit.auditor import audit as audited
    from unblur.audit.findings import Gates
    from unblur.audit.worth import taught_recommenders
    from unblur.data.files import read_labels
    from unblur.data.output import FolderKind, OutputFolder
    from unblur.experiment.provenance import machine
    from unblur.saving.container import versions

    kind = FolderKind("unblur-audit", ("report.json", "report.html"), ("report.json", '"kind": "audit"'))
    inputs = (real, synthetic, holdout, items)
    place = None if out is None else OutputFolder(out, kind, overwrite=overwrite, inputs=inputs).checked()
    at_1, at_01 = max_catch or (None, None)
    limits: dict[str, Any] = {
        "max_auc": max_auc,
        "max_excess": max_excess,
        "max_catch_at_1": at_1,
        "max_catch_at_01": at_01,
    }
    # These need a holdout, so without one they are gated only if their options are given.
    defaults: dict[str, Any] = {} if holdout is not None else dict.fromkeys(limits)
    gates = replace(
        Gates(),
        **(defaults | without_none(limits)),
        max_copies=max_copies,
        max_near_copies=max_near_copies,
        min_utility=min_utility,
    )
    waived = _waivers(waive or ())
    with ProgressDisplay() as progress:
        options = {name.removeprefix("data.read."): value for name, value in reading.items()}
        synthetic_data, other_columns = _read_synthetic(synthetic, options, progress)
        report = audited(
            _read(real, options, progress),
            synthetic_data,
            None if holdout is None else _read(holdout, options, progress),
            gates=gates,
            recommenders=taught_recommenders if utility else (),
            empty_users=allow_empty,
            other_columns=other_columns,
            items=None if items is None else read_labels(items),
            waived=waived,
            users=users or None,
            rng=seed,
            progress=progress,
        )
    report = replace(
        report,
        notes=(
            _reading_note({"real": real, "synthetic": synthetic, "holdout": holdout}, reading),
            *report.notes,
        ),
        provenance=replace(report.provenance, seeds=(seed,), versions=versions(), machine=machine()),
    )
    with printing(lambda: _show(report), out):
        if place is not None:
            _write(report, place)
    if report.failed():
        raise typer.Exit(FAILED)


def _read(path: Path, options: dict[str, Any], progress: Progress) -> Interactions:
    """Read a file, or the train file of a folder."""
    from unblur.data import files as sources

    return sources.read(_file(path), **options, progress=progress)


def _file(path: Path) -> Path:
    """The file itself, or the train file of a folder."""
    from unblur.data import files as sources
    from unblur.data.formats.opening import is_folder

    if is_folder(path):
        parts = sources.split_files(path)
        DataError.unless(
            "train" in parts,
            f"A folder to audit must have a train file, such as train.parquet; {path} has none. Give the file itself.",
        )
        return parts["train"]
    return path


def _read_synthetic(
    path: Path, options: dict[str, Any], progress: Progress
) -> tuple[Interactions, tuple[str, ...]]:
    """Read the synthetic set with the options of the real one or, if these fail, without: it may have fewer columns.

    Returns also the names of the columns that were not read.
    """
    from unblur.data import files as sources

    file = _file(path)
    plain = {name: value for name, value in options.items() if name in ("labels", "duplicates")}
    try:
        return sources.read(file, **options, progress=progress), sources.unread_columns(file, **options)
    except DataError:
        if plain != options:
            with suppress(DataError):  # the error with the options is the more helpful one
                return sources.read(file, **plain, progress=progress), sources.unread_columns(file, **plain)
        raise


def _waivers(texts: Sequence[str]) -> dict[str, str]:
    """Reasons by the ids of findings. Raises `RecipeError` if one of the two is missing."""
    waivers = {}
    for text in texts:
        name, _, reason = (part.strip() for part in text.partition("="))
        RecipeError.unless(
            name and reason,
            f"A waiver must be the id of a finding and a reason, as in --waive 'copies=test users'; saw {text!r}. Give both.",
        )
        waivers[name] = reason
    return waivers


def _reading_note(files: dict[str, Path | None], reading: dict[str, Any]) -> str:
    """A note about the files that were read, and the options for reading them."""
    names = [f"{name} {path.name}" for name, path in files.items() if path is not None]
    options = [f"{path.rpartition('.')[2]} = {value}" for path, value in reading.items()]
    return f"read: {', '.join(names)}" + (f"; {', '.join(options)}" if options else "")


def _write(audit: Audit, place: OutputFolder) -> None:
    """Write the folder with page and figures."""
    from unblur.audit.page import audit_document
    from unblur.document.html import as_html

    texts = {"report.json": audit.to_json(), "report.html": as_html(audit_document(audit))}
    with place.written() as folder:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")


def _show(audit: Audit) -> None:
    from unblur.audit.page import findings

    if in_document(audit=audit.to_dict()):
        return
    title = (
        f"{audit.n_synthetic:,} synthetic users, made from {audit.n_train:,}, {audit.n_holdout:,} kept out"
    )
    print_table(Table(("", "finding"), findings(audit).marked(), title, left=2))
    gates = [[gate.name, "passed" if gate.passed else "FAILED", gate.reason] for gate in audit.gates]
    print_table(Table(("gate", "result", "why"), gates, left=3))
    print_lines(*(f"note: {note}" for note in audit.notes))
