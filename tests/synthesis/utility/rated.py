"""Rated users in blocks, a recipe that runs quickly on them, and a recommender that learns nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.experiment.recipe.toml import to_toml
from unblur.recommender import Recommender, RecommenderSpec
from unblur.synthesis.utility.protocol import Rated

N_ITEMS = 24
MODEL: Mapping[str, Any] = {
    "kind": "sdrm",
    "vae": {
        "hidden": 8,
        "latent": 4,
        "epochs": 3,
        "batch_size": 500,
        "stopping": {"metric": "capped_recall@5"},
    },
    "diffusion": {
        "steps": 4,
        "epochs": 2,
        "batch_size": 500,
        "hidden_layers": 1,
        "objective": "sdrm",
        "noise_without_root": True,
        "sampling_dropout": True,
    },
}
QUICK: Mapping[str, Any] = {
    "name": "sdrm/quick",
    "data": {"read": {"min_rating": 1.0}},
    "model": MODEL,
    "downstream": {"kind": "truncated-svd", "rank": 3},
    "utility": {
        "metrics": ["capped_recall@5"],
        "departures": {
            "reported_users_stop": True,
            "dislikes_are_positives": True,
            "dislikes_are_held_out": True,
        },
    },
    "protocol": {"cutoffs": [1, 5], "metrics": ["capped_recall", "ndcg"], "resamples": 50},
}


def ratings(n_users: int, seed: int) -> NDArray[np.int64]:
    """(n_users, N_ITEMS): 1 liked, 0 observed and not liked, -1 not observed; two tastes."""
    random = np.random.default_rng(seed)
    taste = np.where(np.arange(n_users)[:, None] % 2 == np.arange(N_ITEMS) % 2, 0.6, 0.15)
    observed = random.random((n_users, N_ITEMS)) < taste
    observed[:, 0] = observed[:, 5] = True
    liked = random.random(observed.shape) < 0.7
    liked[:, 0] = True
    return np.where(observed, np.where(liked, 1, 0), -1)


def rated(n_users: int, seed: int) -> Rated:
    """The same as interactions."""
    table = ratings(n_users, seed)
    return Rated(
        Interactions.from_matrix((table == 1).astype(np.float32)),
        Interactions.from_matrix((table >= 0).astype(np.float32)),
    )


def write_parts(folder: Path, seed: int = 0) -> Path:
    """A folder with train, test and valid files, whose users are consecutive blocks."""
    folder.mkdir(exist_ok=True)
    table, start = ratings(110, seed), 0
    for name, size in {"train": 70, "test": 20, "valid": 20}.items():
        rows, columns = np.nonzero(table[start : start + size] >= 0)
        columns_of = {"user": rows + start, "item": columns, "rating": table[rows + start, columns]}
        pl.DataFrame(columns_of).write_parquet(folder / f"{name}.parquet")
        start += size
    return folder


def write_recipe(path: Path, changes: Mapping[str, Any] | None = None) -> Path:
    """The quick recipe as a file, with other sections."""
    path.write_text(to_toml({**QUICK, **(changes or {})}))
    return path


class ByItem(RecommenderSpec[Any]):
    """A spec whose recommender gives every user the same scores."""

    kind: ClassVar[str] = "by-item"

    def __init__(self, scores: NDArray[np.float32]) -> None:
        self.scores = scores
        self.seen: list[Interactions] = []

    def learn(self, train: Interactions, **_: Any) -> Recommender:
        self.seen.append(train)
        return _ByItem(spec=self, items=train.items, item_counts=train.item_degrees)


class _ByItem(Recommender):
    def _score(self, histories: Interactions) -> NDArray[np.float32]:
        return np.repeat(self.spec.scores[None], histories.n_users, axis=0)
