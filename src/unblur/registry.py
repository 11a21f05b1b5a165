"""The kinds of specs that recipes and saved models may name; a file can never name an import path."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from unblur.errors import SpecError, nearest

RECOMMENDERS = {
    "als": "unblur.baselines.als:ALS",
    "bspm": "unblur.spectral.bspm:BSPM",
    "diffrec": "unblur.diffusion.diffrec:DiffRec",
    "ease": "unblur.baselines.ease:EASE",
    "item-knn": "unblur.baselines.item_knn:ItemKNN",
    "l-diffrec": "unblur.diffusion.latent_diffrec:LatentDiffRec",
    "lightgcn": "unblur.baselines.lightgcn:LightGCN",
    "mult-dae": "unblur.baselines.mult_vae:MultDAE",
    "mult-vae": "unblur.baselines.mult_vae:MultVAE",
    "neumf": "unblur.synthesis.downstream.neumf:NeuMF",
    "popularity": "unblur.baselines.popularity:Popularity",
    "pure-svd": "unblur.baselines.pure_svd:PureSVD",
    "recency": "unblur.baselines.recency:Recency",
    "row-mlp": "unblur.synthesis.downstream.row_mlp:RowMLP",
    "rp3beta": "unblur.baselines.rp3beta:RP3Beta",
    "slim": "unblur.baselines.slim:SLIM",
    "sparse-ease": "unblur.baselines.sparse_ease:SparseEASE",
    "truncated-svd": "unblur.synthesis.downstream.truncated_svd:TruncatedSVD",
    "user-knn": "unblur.baselines.user_knn:UserKNN",
}
"""Kind → module and class of each recommender spec."""

SYNTHESIZERS = {
    "cooccurrence-walk": "unblur.synthesis.baselines.cooccurrence_walk:CooccurrenceWalk",
    "diffrec-sampler": "unblur.synthesis.baselines.diffrec_sampler:DiffRecSampler",
    "flipped-users": "unblur.synthesis.baselines.flipped_users:FlippedUsers",
    "independent-items": "unblur.synthesis.baselines.independent_items:IndependentItems",
    "multi-vae": "unblur.synthesis.multi_vae:MultiVAE",
    "sdrm": "unblur.synthesis.sdrm:SDRM",
}
"""Kind → module and class of each synthesizer spec."""


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
