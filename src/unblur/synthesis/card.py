"""The card of a synthetic data set: what it was made from, how, what protects whom, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from unblur.data.interactions import Interactions
from unblur.document.blocks import Document, Listing, Paragraph, Section
from unblur.document.markdown import as_markdown
from unblur.experiment.recipe.parts import Data
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.recipe.tables import plain
from unblur.experiment.recipe.toml import to_toml
from unblur.synthesis.synthesizer import Synthesizer

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
