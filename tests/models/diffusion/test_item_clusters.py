from __future__ import annotations

import numpy as np
import pytest

from tests.models.diffusion.generated import communities
from unblur.errors import DataError, SpecError
from unblur.models.diffusion.diffrec import (
    item_clusters,
    lightgcn_embeddings,
    nearest_centres,
    spectral_embeddings,
)
from unblur.models.diffusion.settings import GraphEmbeddings, ItemClusters


def agreement(labels: np.ndarray, truth: np.ndarray) -> float:
    """The share of item pairs on which two groupings agree."""
    same = labels[:, None] == labels[None, :]
    return float((same == (truth[:, None] == truth[None, :])).mean())


def truth(n_users: int = 120, n_items: int = 60, groups: int = 4) -> np.ndarray:
    random = np.random.default_rng(0)
    random.integers(0, groups, n_users)
    return random.integers(0, groups, n_items)


@pytest.mark.parametrize("embeddings", ["spectral", "lightgcn"])
def test_communities_of_items_are_found(embeddings: str) -> None:
    settings = ItemClusters(
        count=4, embeddings=embeddings, embedding_size=8, lightgcn=GraphEmbeddings(epochs=30, batch_size=256)
    )
    labels = item_clusters(communities(), settings, rng=1)
    assert labels.dtype == np.int64
    assert labels[0] == 0
    assert set(labels.tolist()) == {0, 1, 2, 3}
    assert agreement(labels, truth()) > 0.95
    assert np.array_equal(labels, item_clusters(communities(), settings, rng=1))


def test_given_embeddings_are_used() -> None:
    points = np.repeat([[0.0, 1.0], [5.0, 5.0], [9.0, 0.0]], 20, axis=0)
    labels = item_clusters(communities(), ItemClusters(count=3, embeddings="given"), rng=0, embeddings=points)
    assert labels.tolist() == [0] * 20 + [1] * 20 + [2] * 20


def test_one_cluster_needs_no_embeddings() -> None:
    assert item_clusters(communities(), ItemClusters(count=1), rng=0).tolist() == [0] * 60


def test_embeddings_of_both_kinds_have_their_width() -> None:
    data = communities()
    assert spectral_embeddings(data, 8, rng=0).shape == (60, 8)
    assert spectral_embeddings(data, 500, rng=0).shape == (60, 60)
    embeddings = lightgcn_embeddings(data, 8, GraphEmbeddings(epochs=1), rng=0)
    assert embeddings.shape == (60, 8)
    assert np.array_equal(embeddings, lightgcn_embeddings(data, 8, GraphEmbeddings(epochs=1), rng=0))
    with pytest.raises(SpecError, match="layers"):
        GraphEmbeddings(layers=0)


def test_bad_input_is_refused() -> None:
    data, clusters = communities(), ItemClusters(count=2, embeddings="given")
    with pytest.raises(SpecError, match="n_cate"):
        item_clusters(data, ItemClusters(count=61), rng=0)
    with pytest.raises(DataError, match="given"):
        item_clusters(data, clusters, rng=0)
    with pytest.raises(DataError, match="given"):
        item_clusters(data, ItemClusters(count=2), rng=0, embeddings=np.zeros((60, 3)))
    for shape in ((59, 3), (60,), (60, 0)):
        with pytest.raises(DataError, match="60 items"):
            item_clusters(data, clusters, rng=0, embeddings=np.zeros(shape))
    with pytest.raises(DataError, match="finite"):
        item_clusters(data, clusters, rng=0, embeddings=np.full((60, 3), np.nan))
    with pytest.raises(DataError, match="different"):
        nearest_centres(np.zeros((60, 3)), 2, rng=0)
