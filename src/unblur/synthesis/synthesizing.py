"""Write a folder with synthetic users of the caller's own data, and their card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from unblur.data.files import read_labels, write
from unblur.data.interactions import Interactions
from unblur.data.output import MANIFEST, FolderKind, OutputFile, OutputFolder, write_tables
from unblur.data.vocabulary import Vocabulary
from unblur.document.blocks import Document, Listing, Paragraph, Section
from unblur.document.markdown import Markdown, as_markdown, code, code_block
from unblur.errors import ArtifactError, DataError, RecipeError
from unblur.experiment.provenance import trained_on
from unblur.experiment.reading import read_train
from unblur.experiment.recipe.parts import Data
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.recipe.toml import recipe_table, to_toml
from unblur.experiment.task import Clock
from unblur.progress import Progress, silent
from unblur.randomness import streams
from unblur.saving import models as artifact
from unblur.saving.container import TENSORS, versions
from unblur.spec import replace_field, spec_from_dict, spec_to_dict
from unblur.synthesis.sdrm import LatentSynthesizer
from unblur.synthesis.synthesizer import Synthesizer, SynthesizerSpec
from unblur.synthesis.utility.task import utility_task

MISUSES = (
    "to draw conclusions about a particular person, or to look for one in it",
    "in place of a legal or ethical review of the real data: nothing here shows that it is free of personal data",
    "to evaluate a recommender for real users without a test on real users as well",
    "to study rare items, rare tastes or small groups, which a model of all users reproduces worst",
    "to train another generation of synthetic data: errors accumulate",
)
"""Uses of a synthetic data set that the card warns against."""


def card(
    train: Interactions, recipe: Recipe, synthesizer: Synthesizer, counts: Mapping[str, int], *, source: str
) -> str:
    """The card as Markdown.

    `counts` are the users and pairs of the sample, and the users who were kept out of it; `source` is the name of the
    file or folder of the real data.
    """
    private = recipe.model.private
    lead = (
        f"{counts['users']:,} synthetic users, {counts['pairs']:,} pairs of user and item. "
        "User labels are 0, 1, 2, … and refer to no real person; item labels are those of the real data."
    )
    origin = [Markdown(f"source: {code(source)}"), *_origin(train, private)]
    if counts["kept out"]:
        command = f"unblur audit {REAL}/train.parquet {SAMPLE} --holdout {REAL}/kept.parquet"
        origin.append(
            Markdown(
                f"{counts['kept out']:,} more users were kept out at random; they and the training users are in {code(f'{REAL}/')}: real "
                f"people, for {code(command)}, and not to be shared"
            )
        )
    generation = [
        f"model: {recipe.model.kind}, settings below",
        "seed: drawn by the operating system and not stored, because a known seed would void the guarantee below"
        if private
        else f"seed: {recipe.seed}; the same data, settings, seed and versions give the same file",
        *(f"{name} {version}" for name, version in versions().items()),
    ]
    tables = {
        "data": _differing(recipe_table(recipe.data), recipe_table(Data())),
        "model": recipe_table(recipe.model),
    }
    guaranteed = not isinstance(synthesizer, LatentSynthesizer) or not synthesizer.broken_conditions
    if private and not guaranteed:  # a budget that guarantees nothing would be read as one that does
        budget = ("epsilon", "delta")
        tables["model"]["privacy"] = {
            name: value for name, value in tables["model"]["privacy"].items() if name not in budget
        }
        generation.append("the privacy budget is omitted from the settings, because it is no guarantee here")
    settings = to_toml({name: table for name, table in tables.items() if table})
    attack = Markdown(
        "users with a rare history are the most exposed; before you share this file, attack it: "
        "`unblur audit REAL SYNTHETIC --holdout OTHERS`, where OTHERS are real users who were not in REAL"
    )
    privacy = [
        *synthesizer.notes,
        *(() if private else (attack,)),
        "an attack that finds nothing proves nothing about other attacks",
    ]
    sections = [
        Section("Real data", (Listing(origin),)),
        Section("Generation", (Listing(generation), Paragraph(code_block(settings, "toml")))),
        Section("Privacy", (Listing(privacy),)),
        Section("Must not be used", (Listing(MISUSES),)),
    ]
    return as_markdown(Document(Markdown(f"Synthetic users: {code(SAMPLE)}"), sections, lead))


def _origin(train: Interactions, private: bool) -> list[str]:
    """Figures of the real data, as far as privacy allows them."""
    if private:
        return [
            f"{train.n_users:,} real users, {train.n_items:,} items",
            "other figures of the real data, and their fingerprint, are omitted: they are exact and not accounted for",
        ]
    degrees = train.user_degrees
    return [
        (
            f"{train.n_users:,} real users, {train.n_items:,} items, {train.n_interactions:,} pairs "
            f"(density {train.density:.2%})"
        ),
        f"items per user: {int(degrees.min())} to {int(degrees.max())}, median {int(np.median(degrees))}",
        Markdown(f"fingerprint of these interactions: {code(train.fingerprint())}"),
        "used: which user had which item; weights and times were not used",
    ]


def _differing(table: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that differ from the defaults, those of nested tables too."""
    return {
        name: _differing(value, defaults.get(name, {})) if isinstance(value, Mapping) else value
        for name, value in table.items()
        if value != defaults.get(name)
    }


def write_batches(batches: Iterable[Interactions], path: str | Path) -> int:
    """Write batches, as from `Synthesizer.sample_batches`, to a Parquet file (zstd), whole or not at all.

    Columns are user, item and, if a weight of the first batch with pairs is not 1, weight; one row group per batch. An
    existing file is replaced. Returns the number of pairs; users without items are not in the file. Raises `DataError`
    if the folder does not exist.
    """
    with OutputFile(path, overwrite=True).written() as stream:
        return write_tables(_tables(_with_pairs(batches)), stream, "parquet")


def _tables(batches: Iterable[Interactions]) -> Iterator[pl.DataFrame]:
    """The batches as tables, with weights if the first has other weights than 1."""
    columns: list[str] = []
    for batch in batches:
        if not columns:
            columns = ["user", "item", *(["weight"] if bool((batch.matrix.data != 1).any()) else [])]
        yield batch.to_frame().select(columns)


def _with_pairs(batches: Iterable[Interactions]) -> Iterator[Interactions]:
    """The batches with pairs; if there is none, the last batch, so that the file has columns with types."""
    batch, any_pairs = None, False
    for batch in batches:
        if batch.n_interactions:
            any_pairs = True
            yield batch
    if batch is not None and not any_pairs:
        yield batch


CARD, SAMPLE, SAVED = "card.md", "synthetic.parquet", "synthesizer"
"""The names of card, sample and (optional) synthesizer in the folder."""
REAL = "real"
"""The subfolder of real users, ``train.parquet`` and ``kept.parquet``, if some were kept out."""
SYNTHETIC = FolderKind(
    "unblur-synthetic",
    (
        *(CARD, SAMPLE, f"{REAL}/train.parquet", f"{REAL}/kept.parquet"),
        *(f"{SAVED}/{name}" for name in (MANIFEST, TENSORS, "items.parquet")),
    ),
    (CARD, "# Synthetic users"),
)
"""The folder of a sample."""


@dataclass(frozen=True, eq=False)
class Synthesized:
    """The result of `synthesize`."""

    synthesizer: Synthesizer
    train: Interactions
    n_users: int
    n_pairs: int
    fit_seconds: float
    sample_seconds: float
    notes: tuple[str, ...]


def synthesize(
    recipe: Recipe,
    data: str | Path,
    *,
    out: str | Path,
    users: int | None = None,
    epsilon: float | None = None,
    delta: float | None = None,
    items: str | Path | None = None,
    save_synthesizer: bool = False,
    holdout: float | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Progress = silent,
) -> Synthesized:
    """Fit the synthesizer of a recipe to the file at `data`, or to the train file of the folder there, and sample it.

    - `out`: a new folder with ``synthetic.parquet`` (streamed: memory does not grow with `users`), ``card.md``, and
      ``synthesizer/`` with `save_synthesizer`. It appears whole or not at all; one that exists raises
      `ArtifactError` before anything is computed, unless `overwrite` and it holds a card.
    - `users`: how many; as many as there are real ones when left out.
    - `holdout`: a fraction of the users, chosen at random, from whom nothing is learned: the control group of an audit.
      ``real/`` then holds both kinds of users.
    - `epsilon`: train with differential privacy of this ε; `delta` is a tenth of one over the number of users when left
      out. Training then never stops early, the SDRM authors' loss is replaced by noise prediction, codes are not
      standardised, and latents are not drawn by the codes' mean and covariance, because none of these is accounted for.
      All randomness comes from the operating system and no seed is stored, since a known seed would void the guarantee;
      and the card gives no exact figure of the data but the number of users.
    - `items`: a text file with a public list of items, a label per line, for differential privacy: these are the items of the
      sample, whoever has them, and other items of the data are left out. Without it no ε is stated.
    """
    place = OutputFolder(out, SYNTHETIC, overwrite=overwrite, inputs=(data, items)).checked()
    ArtifactError.unless(
        holdout is not None or not (Path(out) / REAL).exists(),
        f"Replacing {out} would delete the real users in {REAL}/, since none are kept out this time. Choose another path.",
    )
    RecipeError.unless(
        holdout is None or 0 < holdout < 1,
        f"The fraction of the users to keep out must lie between 0 and 1; saw {holdout}. Correct it.",
    )
    model = utility_task(recipe, "Name one, such as sdrm.").model
    train, unused = read_train(recipe.data, data, progress)
    notes = [f"only the train file was used; ignored: {', '.join(unused)}"] if unused else []
    RecipeError.unless(
        items is None or epsilon is not None or model.private,
        "A public list of items is for training with differential privacy, which was not asked for. Give --privacy-epsilon too, or "
        "leave --items out.",
    )
    if items is not None:
        train = _onto_public(train, read_labels(items))
    train, kept = (train, None) if holdout is None else _apart(train, holdout, recipe.seed)
    if epsilon is not None:
        model = protected(model, epsilon, 0.1 / train.n_users if delta is None else delta)
        notes.append(
            "with differential privacy: training runs all its epochs; the card says what is guaranteed"
        )
    if model.private:
        model = replace_field(model, "privacy.public_items", items is not None)
    model, remarks = model.within(train)
    recipe = recipe.with_model(model)
    random = {} if model.private else streams(recipe.seed, "fit", "sample")  # a known seed voids ε
    clock, counts = Clock(), {"users": train.n_users if users is None else users, "pairs": 0, "empty": 0}
    with clock("fit"):
        synthesizer = model.fit(train, rng=random.get("fit"), device=device, progress=progress)
    with place.written() as folder:
        with clock("sample"):
            batches = synthesizer.sample_batches(counts["users"], rng=random.get("sample"), progress=progress)
            write_batches(_counted(batches, counts), folder / SAMPLE)
        if counts["empty"]:
            remarks += (f"{counts['empty']:,} synthetic users have no item and are not in the file",)
        counts["kept out"] = 0 if kept is None else kept.n_users
        text = card(train, recipe, synthesizer, counts, source=Path(data).name)
        (folder / CARD).write_text(text, encoding="utf-8")
        if kept is not None:
            (folder / REAL).mkdir()
            for name, part in (("train", train), ("kept", kept)):
                write(part.binarized(), folder / REAL / f"{name}.parquet")
        if save_synthesizer:
            origin = None if model.private else trained_on(train, recipe)
            artifact.save(synthesizer, folder / SAVED, provenance=origin)
    return Synthesized(
        synthesizer,
        train,
        counts["users"],
        counts["pairs"],
        clock.seconds["fit"],
        clock.seconds["sample"],
        (*notes, *remarks),
    )


def _counted(batches: Iterable[Interactions], counts: dict[str, int]) -> Iterator[Interactions]:
    """Pass batches on and add their pairs, and their users without items, to `counts`."""
    for batch in batches:
        counts["pairs"] += batch.n_interactions
        counts["empty"] += int((batch.user_degrees == 0).sum())
        yield batch


def protected(model: SynthesizerSpec, epsilon: float, delta: float) -> SynthesizerSpec:
    """The spec with differential privacy, and without what it rules out. Raises `RecipeError` for a kind without it."""
    tree = spec_to_dict(model)
    RecipeError.unless(
        "privacy" in tree,
        f"Differential privacy is available for sdrm and vae-sampler; saw {model.kind}. Choose one of these.",
    )
    tree["privacy"] = {**(tree["privacy"] or {}), "epsilon": epsilon, "delta": delta}
    tree["vae"] |= {"stopping": None, "prior": "standard"}
    if "diffusion" in tree:
        tree["diffusion"]["standardized"] = False
        if tree["diffusion"]["objective"] == "sdrm":
            tree["diffusion"]["objective"] = "noise"
    return spec_from_dict(type(model), tree)


def _onto_public(data: Interactions, items: Vocabulary) -> Interactions:
    """The interactions with items of a public list, over all of the list.

    Labels are compared as text: whether a file's labels are read as numbers depends on all of its rows.
    """
    own, public = (Vocabulary([str(label) for label in labels.to_list()]) for labels in (data.items, items))
    listed = Interactions(data.matrix, data.users, own).onto(items=public, unknown="ignore")
    DataError.unless(
        listed.n_interactions,
        f"The public list must have items of the data; none of its {len(items):,} labels is one. Give labels as in the data.",
    )
    return Interactions(listed.matrix, data.users, items)


def _apart(data: Interactions, share: float, seed: int) -> tuple[Interactions, Interactions]:
    """Random users to learn from, and the rest."""
    size = round(share * data.n_users)
    RecipeError.unless(
        0 < size < data.n_users,
        f"At least one user must be kept out and one remain; {share} of {data.n_users:,} users is {size:,}. "
        "Give another share.",
    )
    order = streams(seed, "kept out")["kept out"].permutation(data.n_users)
    chosen = np.isin(np.arange(data.n_users), order[:size])
    return data.take_users(~chosen), data.take_users(chosen)
