"""From the caller's own data to a folder with synthetic users and their card."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unblur.data.files import replacing, replacing_folder, write
from unblur.data.interactions import Interactions
from unblur.document.blocks import Document, Listing, Paragraph, Section
from unblur.document.markdown import as_markdown
from unblur.errors import ArtifactError, RecipeError, some
from unblur.experiment.folder import check_above
from unblur.experiment.provenance import trained_on, versions
from unblur.experiment.reading import read_train
from unblur.experiment.recipe.parts import Data
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.recipe.toml import plain, to_toml
from unblur.progress import Progress, silent
from unblur.randomness import streams
from unblur.saving import models as artifact
from unblur.spec import spec_from_dict, spec_to_dict
from unblur.synthesis.synthesizer import Synthesizer, SynthesizerSpec
from unblur.synthesis.utility.task import utility_task, within_users

MUST_NOT = (
    "to say anything about a particular person, or to look for one in it",
    "as a stand-in for a legal or ethical review of the real data: nobody has shown that it is free of personal data",
    "to measure a recommender that is to serve real users, without a test on real users beside it",
    "to study rare items, rare tastes or small groups: they are what a model of the whole reproduces worst",
    "to train a further generation of synthetic data: errors add up",
)
"""What a synthetic data set must not be used for."""


def card(
    train: Interactions,
    recipe: Recipe,
    synthesizer: Synthesizer,
    counts: Mapping[str, int],
    versions: Mapping[str, str],
    *,
    file: str,
    source: str,
    n_kept: int = 0,
) -> str:
    """The card as Markdown.

    `counts` are the users and pairs of the sample, `file` is where it lies, `source` what was read, and `n_kept` how many
    users were kept out of it.
    """
    private = getattr(recipe.model, "privacy", None)
    what = f"{counts['users']:,} users that never were, {counts['pairs']:,} pairs of user and item."
    lead = (
        f"{what} Labels of users are 0, 1, 2, … and mean nobody; labels of items are those of the real data."
    )
    origin = [f"read: `{source}`", *_origin(train, private is not None), *_kept(n_kept)]
    making = [
        f"model: {recipe.model.kind}, settings below",
        "seed: drawn by the system and not kept; one that is known would void the guarantee below"
        if private is not None
        else f"seed: {recipe.seed}; the same data, settings, seed and versions give the same file",
        *(f"{name} {version}" for name, version in versions.items()),
    ]
    settings = Paragraph(f"```toml\n{_settings(recipe)}```")
    sections = [
        Section("What it was made from", (Listing(origin),)),
        Section("How it was made", (Listing(making), settings)),
        Section("Privacy", (Listing(_privacy(synthesizer, private)),)),
        Section("What it must not be used for", (Listing(MUST_NOT),)),
    ]
    return as_markdown(Document(f"Synthetic users: `{file}`", sections, lead))


def _origin(train: Interactions, private: bool) -> list[str]:
    if private:
        return [
            f"{train.n_users:,} real users, {train.n_items:,} items",
            "other figures of the real data, and their fingerprint, are left out: they are exact, and not accounted for",
        ]
    degrees = train.user_degrees
    sizes = f"{train.n_users:,} real users, {train.n_items:,} items, {train.n_interactions:,} pairs"
    return [
        f"{sizes} (density {train.density:.2%})",
        f"items a user: {int(degrees.min())} to {int(degrees.max())}, in the middle {int(np.median(degrees))}",
        f"fingerprint of these interactions: `{train.fingerprint()}`",
        "only which user had which item was learned from; weights and times were not",
    ]


def _kept(n_users: int) -> list[str]:
    if not n_users:
        return []
    audit = "unblur audit real/train.parquet synthetic.parquet --holdout real/kept.parquet"
    said = f"{n_users:,} more users were kept out at random; they and those learned from lie in `real/`: real people"
    return [f"{said}, for `{audit}`, and not to be given away"]


def _privacy(synthesizer: Synthesizer, private: Any) -> list[str]:
    said = list(synthesizer.notes)
    if private is None:
        said.append(
            "users with a rare history are the likeliest to show; before this file leaves the house, attack it: "
            "`unblur audit REAL SYNTHETIC --holdout OTHERS`, where OTHERS are real users who were not in REAL"
        )
    said.append("an attack that finds nothing says nothing about attacks that nobody has tried")
    return said


def _settings(recipe: Recipe) -> str:
    table, usual = plain(recipe.data), plain(Data())
    data = {name: value for name, value in table.items() if value != usual.get(name)}
    if "read" in data:
        data["read"] = {
            name: value for name, value in data["read"].items() if value != usual.get("read", {}).get(name)
        }
    model = {"kind": recipe.model.kind, **plain(recipe.model)}
    return to_toml({**({"data": data} if data else {}), "model": model})


def write_batches(batches: Iterable[Interactions], path: str | Path) -> int:
    """Write batches, as `Synthesizer.sample_batches` gives them, to a Parquet file (zstd), whole or not at all.

    Columns are user, item and, where one of the first batch that has pairs is not 1, weight; one row group a batch. An
    existing file is replaced. Returns how many pairs were written; users without items leave no trace. Raises
    `DataError` where there is no folder to write into.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_pairs = 0
    with replacing(path) as stream:
        writer = None
        try:
            for batch in _with_pairs(batches):
                table = batch.to_frame().to_arrow()
                if writer is None:
                    weighted = bool((batch.matrix.data != 1).any())
                    names = ["user", "item", *(["weight"] if weighted else [])]
                    fields = [pa.field(name, _plain(pa, table.schema.field(name).type)) for name in names]
                    writer = pq.ParquetWriter(stream, pa.schema(fields), compression="zstd")
                writer.write_table(table.select(writer.schema.names).cast(writer.schema))
                n_pairs += batch.n_interactions
        finally:
            if writer is not None:
                writer.close()
    return n_pairs


def _with_pairs(batches: Iterable[Interactions]) -> Iterator[Interactions]:
    """Batches that have pairs; where none has, the last one, whose columns have types."""
    batch, told = None, False
    for batch in batches:
        if batch.n_interactions:
            told = True
            yield batch
    if batch is not None and not told:
        yield batch


def _plain(pa: object, kind: object) -> object:
    """The type that every reader of Parquet knows: strings and not string views."""
    name = str(kind)
    return pa.large_string() if "string" in name else kind  # type: ignore[attr-defined]


CARD, SAMPLE, SAVED = "card.md", "synthetic.parquet", "synthesizer"
"""What the folder holds; the synthesizer where it was asked for."""
REAL = "real"
"""The folder within it of real users, in ``train.parquet`` and ``kept.parquet``, where some were to be kept out."""


@dataclass(frozen=True, eq=False)
class Synthesized:
    """What was made."""

    synthesizer: Synthesizer
    train: Interactions
    n_users: int
    n_pairs: int
    fit_seconds: float
    sample_seconds: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Protection:
    """What is asked of differential privacy."""

    epsilon: float
    delta: float | None = None
    """A tenth of one over the number of users when left out."""


def synthesize(
    recipe: Recipe,
    data: str | Path,
    *,
    out: str | Path,
    users: int | None = None,
    protection: Protection | None = None,
    keep_synthesizer: bool = False,
    keep_out: float | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: Progress = silent,
) -> Synthesized:
    """Fit the synthesizer of a recipe to the file at `data`, or to the train file of the folder there, and sample it.

    - `out`: a new folder with ``synthetic.parquet`` (streamed: memory does not grow with `users`), ``card.md``, and
      ``synthesizer/`` with `keep_synthesizer`. It appears whole or not at all; one that exists raises
      `ArtifactError` before anything is computed, unless `overwrite` and it holds a card.
    - `users`: how many; as many as there are real ones when left out.
    - `keep_out`: a share of the users, chosen at random, from whom nothing is learned: the control group of an audit.
      ``real/`` then holds both kinds of users.
    - `protection`: train with differential privacy. Training then stops nowhere early, no loss is the
      SDRM authors', and nothing is standardised or drawn by the codes' own mean and covariance, since none of these can
      be accounted for otherwise. All chance comes from the system and is not kept, since a
      known seed would void the guarantee; and the card gives no exact figure of the data but the number of users.
    """
    check_new(out, overwrite=overwrite, source=data, keeps_real=keep_out is not None)
    if keep_out is not None and not 0 < keep_out < 1:
        raise RecipeError(
            f"A share of the users to keep out lies between 0 and 1; saw {keep_out}. Correct it."
        )
    model = utility_task(recipe, "Name one, such as sdrm.").model
    train, unused = read_train(recipe.data, data, progress)
    notes = [f"made from the train file alone; not used: {', '.join(unused)}"] if unused else []
    train, kept = (train, None) if keep_out is None else _apart(train, keep_out, recipe.seed)
    if protection is not None:
        model = protected(model, protection, train.n_users)
        notes.append(
            "with differential privacy: training runs all its epochs, and says what it costs in the card"
        )
    model, remarks = within_users(model, train)
    recipe = recipe.with_model(model)
    notes.extend(remarks)
    random = {} if model.private else streams(recipe.seed, "fit", "sample")  # a known seed voids ε
    start = time.perf_counter()
    synthesizer = model.fit(train, rng=random.get("fit"), device=device, progress=progress)
    fit_seconds = time.perf_counter() - start
    wanted = train.n_users if users is None else users
    start = time.perf_counter()
    with replacing_folder(out) as folder:
        batches = synthesizer.sample_batches(wanted, rng=random.get("sample"), progress=progress)
        counted = _Empty(batches)
        n_pairs = write_batches(counted, folder / SAMPLE)
        sample_seconds = time.perf_counter() - start
        if counted.empty:
            notes.append(f"{counted.empty:,} synthetic users have no item and leave no trace in the file")
        counts = {"users": wanted, "pairs": n_pairs}
        text = card(
            train,
            recipe,
            synthesizer,
            counts,
            versions(),
            file=SAMPLE,
            source=Path(data).name,
            n_kept=0 if kept is None else kept.n_users,
        )
        (folder / CARD).write_text(text, encoding="utf-8")
        if kept is not None:
            (folder / REAL).mkdir()
            for name, part in (("train", train), ("kept", kept)):
                write(part.binarized(), folder / REAL / f"{name}.parquet")
        if keep_synthesizer:
            origin = None if model.private else trained_on(train, recipe)
            artifact.save(synthesizer, folder / SAVED, provenance=origin)
    return Synthesized(synthesizer, train, wanted, n_pairs, fit_seconds, sample_seconds, tuple(notes))


def protected(model: SynthesizerSpec, protection: Protection, n_users: int) -> SynthesizerSpec:
    """The spec with differential privacy. Raises `RecipeError` for a kind that cannot have it."""
    tree = spec_to_dict(model)
    if "privacy" not in tree:
        raise RecipeError(
            f"Differential privacy is offered by sdrm and multi-vae; {model.kind} has none. Choose one of these."
        )
    delta = 0.1 / n_users if protection.delta is None else protection.delta
    tree["privacy"] = {**(tree["privacy"] or {}), "epsilon": protection.epsilon, "delta": delta}
    tree["vae"] |= {"stopping": None, "prior": "standard"}
    if "diffusion" in tree:
        tree["diffusion"]["standardized"] = False
        if tree["diffusion"]["objective"] == "sdrm":
            tree["diffusion"]["objective"] = "noise"
    return spec_from_dict(type(model), tree)


def _apart(data: Interactions, share: float, seed: int) -> tuple[Interactions, Interactions]:
    """Random users to learn from, and the rest."""
    size = round(share * data.n_users)
    if not 0 < size < data.n_users:
        raise RecipeError(
            f"Some users must be learned from and some kept out; {share} of {data.n_users:,} users is {size:,}. "
            "Give another share."
        )
    chosen = np.zeros(data.n_users, dtype=bool)
    chosen[streams(seed, "kept out")["kept out"].permutation(data.n_users)[:size]] = True
    return data.take_users(~chosen), data.take_users(chosen)


def check_new(out: str | Path, *, overwrite: bool, source: str | Path, keeps_real: bool) -> None:
    """Raise `ArtifactError` where something is in the way of the folder, or would be lost with what it replaces."""
    place = Path(out)
    check_above(place)
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not overwrite or not (place / CARD).is_file():
        raise ArtifactError(
            f"Synthetic users are written to a new folder; {out} exists. Choose another path, or give --overwrite "
            f"to replace one that holds a {CARD}."
        )
    inside = {entry.name for entry in place.iterdir()}
    if Path(source).resolve().is_relative_to(place.resolve()):
        lost = f"the data that were given, {source}"
    elif strange := inside - {CARD, SAMPLE, SAVED, REAL}:
        lost = f"what is beside the sample: {some(sorted(strange))}"
    elif REAL in inside and not keeps_real:
        lost = f"the real users in {REAL}/, since none are kept out this time"
    else:
        return
    raise ArtifactError(f"A folder that is replaced is lost; with {out} that is {lost}. Choose another path.")


class _Empty:
    """Batches on their way, with a count of users who have nothing."""

    def __init__(self, batches: Iterator[Interactions]) -> None:
        self.batches, self.empty = batches, 0

    def __iter__(self) -> Iterator[Interactions]:
        for batch in self.batches:
            self.empty += int((batch.user_degrees == 0).sum())
            yield batch
