"""`unblur synthesize` and `unblur audit`: synthetic users of one's own data, and what they are worth and give away."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unblur.cli import terminal
from unblur.cli.options import DataPath, Device, Overwrite, Settings, own_recipe, reads_data
from unblur.cli.terminal import FAILED, ProgressDisplay, print_lines, print_table
from unblur.document.blocks import Table
from unblur.errors import DataError, RecipeError
from unblur.registry import SYNTHESIZERS

if TYPE_CHECKING:
    from unblur.audit.auditor import Audit
    from unblur.data.interactions import Interactions
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


@reads_data
def audit(
    real: Annotated[
        Path,
        typer.Argument(
            metavar="REAL", help="The users the set was made from: a file, or a folder with a train file."
        ),
    ],
    synthetic: Annotated[Path, typer.Argument(metavar="SYNTHETIC", help="The synthetic set, likewise.")],
    holdout: Annotated[
        Path | None,
        typer.Option("--holdout", help="Real users of the same kind who were kept out of training."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="A new folder for report.html and report.json.")
    ] = None,
    max_auc: Annotated[
        float | None,
        typer.Option(
            "--max-auc",
            help="The largest area under the ROC curve of a membership attacker; 0.55 with a holdout.",
            show_default=False,
        ),
    ] = None,
    max_copies: Annotated[
        int, typer.Option("--max-copies", min=0, help="How many exact copies of training users may be there.")
    ] = 0,
    max_near_copies: Annotated[
        float, typer.Option("--max-near-copies", help="The share of near copies beyond that of the holdout.")
    ] = 0.01,
    max_excess: Annotated[
        float | None,
        typer.Option(
            "--max-excess",
            help="Right guesses about members beyond those about outsiders; 0.05 with a holdout.",
            show_default=False,
        ),
    ] = None,
    min_utility: Annotated[
        float | None,
        typer.Option(
            "--min-utility",
            help="The least share of what real users teach a recommender that synthetic ones must teach it; needs a holdout.",
        ),
    ] = None,
    utility: Annotated[
        bool,
        typer.Option(
            "--utility/--no-utility", help="Whether recommenders are taught and tested on the holdout."
        ),
    ] = True,
    users: Annotated[
        int, typer.Option("--users", min=0, help="How many users of each set are attacked; 0 for all.")
    ] = 10_000,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Whether synthetic users without items are valid.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all that is drawn at random.")] = 0,
    overwrite: Overwrite = False,
    *,
    reading: dict[str, Any],
) -> None:
    """Attack a synthetic data set, compare it with real users, and report what was found.

    Exits with 1 when a gate does not pass. Without --holdout nothing about membership can be measured, and its
    gates are left out unless asked for.
    """
    from unblur.audit.auditor import audit as audited
    from unblur.audit.findings import Gates
    from unblur.audit.worth import taught_recommenders
    from unblur.experiment.folder import check_place
    from unblur.experiment.provenance import machine, versions

    if out is not None:
        check_place(out, overwrite=overwrite)
    usual = Gates() if holdout is not None else Gates(max_auc=None, max_excess=None)
    gates = replace(
        usual,
        max_auc=usual.max_auc if max_auc is None else max_auc,
        max_excess=usual.max_excess if max_excess is None else max_excess,
        max_copies=max_copies,
        max_near_copies=max_near_copies,
        min_utility=min_utility,
    )
    with ProgressDisplay() as progress:
        options = {name.removeprefix("data.read."): value for name, value in reading.items()}
        found = audited(
            _read(real, options, progress),
            _read_alike(synthetic, options, progress),
            None if holdout is None else _read(holdout, options, progress),
            gates=gates,
            recommenders=taught_recommenders if utility else (),
            empty_users=allow_empty,
            users=users or None,
            rng=seed,
            progress=progress,
        )
    found = replace(
        found,
        notes=(_how_read({"real": real, "synthetic": synthetic, "holdout": holdout}, reading), *found.notes),
        provenance=replace(found.provenance, seeds=(seed,), versions=versions(), machine=machine()),
    )
    _show(found)
    if out is not None:
        _write(found, out)
        print_lines(f"written to {out}")
    if found.failed():
        raise typer.Exit(FAILED)


def _read(path: Path, options: dict[str, Any], progress: Progress) -> Interactions:
    """A file, or the train part of a folder."""
    from unblur.data import files as sources

    if path.is_dir():
        parts = sources.split_files(path)
        DataError.unless(
            "train" in parts,
            f"A folder to audit must hold a train file (train.parquet, say); {path} holds none. Give the file itself.",
        )
        path = parts["train"]
    return sources.read(path, **options, progress=progress)


def _read_alike(path: Path, options: dict[str, Any], progress: Progress) -> Interactions:
    """The synthetic set, read as the real one is, or plainly where that does not fit: it may have fewer columns."""
    plain = {name: value for name, value in options.items() if name in ("labels", "duplicates")}
    try:
        return _read(path, options, progress)
    except DataError:
        if plain != options:
            with suppress(DataError):  # what is wrong with the usual way of reading says more
                return _read(path, plain, progress)
        raise


def _how_read(files: dict[str, Path | None], reading: dict[str, Any]) -> str:
    """A note on the files that were read, and how."""
    names = [f"{name} {path.name}" for name, path in files.items() if path is not None]
    options = [f"{path.rpartition('.')[2]} = {value}" for path, value in reading.items()]
    return f"read: {', '.join(names)}" + (f"; {', '.join(options)}" if options else "")


def _write(found: Audit, out: Path) -> None:
    """The folder with the page and the figures, whole or not at all."""
    from unblur.audit.page import audit_document
    from unblur.data.files import replacing_folder
    from unblur.document.html import as_html

    texts = {"report.json": found.to_json(), "report.html": as_html(audit_document(found))}
    with replacing_folder(out) as folder:
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")


def _show(found: Audit) -> None:
    from unblur.audit.page import findings

    title = (
        f"{found.n_synthetic:,} synthetic users, made from {found.n_train:,}, {found.n_holdout:,} kept out"
    )
    print_table(Table(("", "finding"), findings(found).marked(), title, left=2))
    gates = [[gate.name, "passed" if gate.passed else "FAILED", gate.reason] for gate in found.gates]
    print_table(Table(("gate", "result", "why"), gates, left=3))
    print_lines(*(f"note: {note}" for note in found.notes))
