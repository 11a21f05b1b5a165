"""The kinds of specs that recipes and saved models may name; a file can never name an import path."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from unblur.errors import SpecError, nearest

RECOMMENDERS = {
    "als": "unblur.models.als:ALS",
    "bspm": "unblur.models.spectral.bspm:BSPM",
    "diffrec": "unblur.models.diffusion.diffrec:DiffRec",
    "ease": "unblur.models.linear.ease:EASE",
    "item-knn": "unblur.models.linear.item_knn:ItemKNN",
    "l-diffrec": "unblur.models.diffusion.latent_diffrec:LatentDiffRec",
    "lightgcn": "unblur.models.neural.lightgcn:LightGCN",
    "mult-dae": "unblur.models.neural.mult_vae:MultDAE",
    "mult-vae": "unblur.models.neural.mult_vae:MultVAE",
    "neumf": "unblur.models.neural.neumf:NeuMF",
    "popularity": "unblur.models.popularity:Popularity",
    "pure-svd": "unblur.models.linear.pure_svd:PureSVD",
    "recency": "unblur.models.linear.recency:Recency",
    "row-mlp": "unblur.models.neural.row_mlp:RowMLP",
    "rp3beta": "unblur.models.linear.rp3beta:RP3Beta",
    "slim": "unblur.models.linear.slim:SLIM",
    "sparse-ease": "unblur.models.linear.sparse_ease:SparseEASE",
    "truncated-svd": "unblur.models.linear.truncated_svd:TruncatedSVD",
    "user-knn": "unblur.models.user_knn:UserKNN",
}
"""Kind → module and class of each recommender spec."""

SYNTHESIZERS = {
    "cooccurrence-walk": "unblur.synthesis.samplers.cooccurrence_walk:CooccurrenceWalk",
    "diffrec-sampler": "unblur.synthesis.samplers.diffrec_sampler:DiffRecSampler",
    "flipped-users": "unblur.synthesis.samplers.flipped_users:FlippedUsers",
    "independent-items": "unblur.synthesis.samplers.independent_items:IndependentItems",
    "multi-vae": "unblur.synthesis.multi_vae:MultiVAE",
    "sdrm": "unblur.synthesis.sdrm:SDRM",
}
"""Kind → module and class of each synthesizer spec."""

TASKS = {
    "ranking": "unblur.experiment.ranking:RankingTask",
    "utility": "unblur.synthesis.utility.task:UtilityTask",
}
"""Name → module and class of each task that a recipe can have; the first is that of a kind that nobody knows."""


def tasks() -> dict[str, type[Any]]:
    """The classes of all tasks, by name."""
    return {name: _loaded(name, TASKS, "task") for name in TASKS}


def recommender_spec(kind: str) -> type[Any]:
    """The spec class of a kind. Raises `SpecError`, with the nearest name, for a kind that there is not."""
    return _loaded(kind, RECOMMENDERS, "model")


def synthesizer_spec(kind: str) -> type[Any]:
    """The spec class of a kind of synthesizer. Raises `SpecError` as `recommender_spec` does."""
    return _loaded(kind, SYNTHESIZERS, "synthesizer")


def _loaded(kind: str, known: Mapping[str, str], noun: str) -> type[Any]:
    if kind not in known:
        raise SpecError(
            f"The kind of a {noun} must be one of {', '.join(sorted(known))}; saw {kind!r}."
            f"{nearest(kind, known)}"
        )
    module, _, name = known[kind].partition(":")
    loaded: type[Any] = getattr(import_module(module), name)
    return loaded
