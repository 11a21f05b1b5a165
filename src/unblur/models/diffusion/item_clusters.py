"""Groups of similar items: k-means on item embeddings, which are made from the train interactions alone."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.errors import DataError, SpecError
from unblur.models.diffusion.settings import GraphEmbeddings, ItemClusters
from unblur.models.neural.lightgcn import GraphLearner, LightGCN
from unblur.models.spectral.operator import normalize
from unblur.models.spectral.spectrum import truncated_svd
from unblur.progress import Progress, of_part, silent
from unblur.randomness import RNG, generator, streams
from unblur.run import Run
from unblur.training.loop import Training
from unblur.training.settings import Optimizer, Plan


def item_clusters(
    train: Interactions,
    settings: ItemClusters,
    *,
    rng: RNG | None = None,
    embeddings: NDArray[np.floating] | None = None,
    progress: Progress = silent,
) -> NDArray[np.int64]:
    """Which cluster each item is in, (n_items,) int64, numbered in the order of their first items.

    `embeddings`, (n_items, any width), are used where the settings say ``given``; otherwise they are made
    from `train`. One cluster needs none. Raises `SpecError` for more clusters than items, and `DataError` for
    embeddings of the wrong shape, not finite, missing, or not asked for.
    """
    if settings.count > train.n_items:
        raise SpecError(
            f"`clusters.count` (n_cate) must not exceed the {train.n_items:,} items; saw "
            f"{settings.count:,}. Lower it."
        )
    if (embeddings is not None) != (settings.embeddings == "given"):
        raise DataError(
            'Item embeddings are used where `clusters.embeddings` is "given", and only there; it is '
            f"{settings.embeddings!r} and {'some' if embeddings is not None else 'none'} were passed. "
            "Change one of the two."
        )
    if embeddings is not None:
        check_embeddings(embeddings, train.n_items)
    if settings.count == 1:
        return np.zeros(train.n_items, dtype=np.int64)
    chance = streams(rng, "embeddings", "k-means")
    if embeddings is None and settings.embeddings == "spectral":
        embeddings = spectral_embeddings(train, settings.width, rng=chance["embeddings"])
    elif embeddings is None:
        embeddings = lightgcn_embeddings(
            train, settings.width, settings.lightgcn, rng=chance["embeddings"], progress=progress
        )
    return nearest_centres(embeddings, settings.count, rng=chance["k-means"])


def spectral_embeddings(train: Interactions, width: int, *, rng: RNG | None = None) -> NDArray[np.float32]:
    """V·Σ of the normalised train matrix, (n_items, at most `width`): its leading right singular vectors,
    scaled."""
    rank = min(width, train.n_users, train.n_items)
    spectrum = truncated_svd(normalize(train), rank, rng=rng)
    embeddings: NDArray[np.float32] = spectrum.right * spectrum.values.astype(np.float32)
    return embeddings


def lightgcn_embeddings(
    train: Interactions,
    width: int,
    settings: GraphEmbeddings,
    *,
    rng: RNG | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """The final item embeddings of a `LightGCN` trained on `train` by pairwise ranking, (n_items, `width`)."""
    spec = LightGCN(
        width=width,
        layers=settings.layers,
        deviation=settings.deviation,
        ridge=settings.ridge,
        optimizer=Optimizer(name="adam", learning_rate=settings.learning_rate),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        stopping=None,
    )
    seed = int(generator(rng).integers(0, 2**62))
    learner = GraphLearner(spec, train, train.item_degrees, seed, torch.device("cpu"))
    plan = Plan(spec.epochs, spec.batch_size)
    run = Run(progress=of_part(progress, "item embeddings"))
    return Training(learner, plan, seed=seed, run=run).finished().tables()[1]


def nearest_centres(
    embeddings: NDArray[np.floating], count: int, *, rng: RNG | None = None
) -> NDArray[np.int64]:
    """k-means (Lloyd's, ten starts): the cluster of each row, (n,), numbered in the order of their first
    rows.

    Raises `DataError` when there are fewer distinct rows than clusters.
    """
    from sklearn.cluster import KMeans

    distinct = len(np.unique(embeddings, axis=0))
    if distinct < count:
        raise DataError(
            f"There must be at least as many different item embeddings as clusters; saw {distinct:,} for "
            f"{count:,}. Lower `clusters.count`."
        )
    seed = int(generator(rng).integers(0, 2**31))
    labels = KMeans(count, n_init=10, random_state=seed).fit_predict(np.asarray(embeddings, dtype=np.float64))
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    clusters: NDArray[np.int64] = np.argsort(np.argsort(first))[inverse].astype(np.int64)
    return clusters


def check_embeddings(embeddings: NDArray[np.floating], n_items: int) -> None:
    """Raise `DataError` unless there is one finite row for each item."""
    array = np.asarray(embeddings)
    if array.ndim != 2 or len(array) != n_items or array.dtype.kind not in "fiu" or not array.shape[1]:
        raise DataError(
            f"Item embeddings must be numbers with one row for each of the {n_items:,} items of train, in "
            f"their order; saw {array.dtype} of shape {array.shape}. Bring them onto train's items."
        )
    if not np.isfinite(array).all():
        raise DataError("Item embeddings must be finite; saw NaN or infinity. Correct them.")
