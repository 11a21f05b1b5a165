"""Nearest items and users, and random walks, against scikit-learn and dense float64 algebra."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from tests.models.diffusion.generated import communities
from unblur.data.interactions import Interactions
from unblur.models.linear import neighbours
from unblur.models.linear.neighbours import ItemKNN, RP3Beta, UserKNN

DATA = communities()
X = DATA.matrix.toarray().astype(np.float64)


def largest(square: np.ndarray, k: int, axis: int) -> np.ndarray:
    """The `k` largest entries along an axis, the others 0; equal ones by the rank of the item."""
    by_rank = np.argsort(DATA.item_ranks)
    ordered = np.take(square, by_rank, axis=axis)
    places = np.argsort(np.argsort(-ordered, axis=axis, kind="stable"), axis=axis, kind="stable")
    return np.where(np.take(places, DATA.item_ranks, axis=axis) < k, square, 0)


@pytest.mark.parametrize("neighbours_of", ["target", "history"])
@pytest.mark.parametrize("normalize", [False, True])
def test_items_are_close_by_the_cosine_of_scikit_learn(neighbours_of: str, normalize: bool) -> None:
    similar = cosine_similarity(X.T)
    np.fill_diagonal(similar, 0)
    weights = largest(similar, 7, axis=0 if neighbours_of == "target" else 1)
    if normalize:
        weights = weights / weights.sum(axis=0)
    spec = ItemKNN(neighbours=7, neighbours_of=neighbours_of, normalize=normalize)
    np.testing.assert_allclose(spec.fit(DATA).score(DATA), X @ weights, rtol=1e-5, atol=1e-6)


def test_shrinkage_raises_the_denominator() -> None:
    dots, norms = X.T @ X, np.sqrt(X.sum(axis=0))
    weights = dots / (np.outer(norms, norms) + 12.5)
    np.fill_diagonal(weights, 0)
    model = ItemKNN(neighbours=60, shrinkage=12.5).fit(DATA)
    np.testing.assert_allclose(model.weights.toarray(), weights, rtol=1e-5, atol=1e-7)


def weighted(rows: np.ndarray, weighting: str) -> np.ndarray:
    """TF-IDF and BM25 as textbooks have them: rows are documents, columns terms."""
    idf = np.log(len(rows) / (1 + (rows > 0).sum(axis=0)))
    if weighting == "none":
        return rows
    lengths = rows.sum(axis=1, keepdims=True)
    saturated = rows * 2.2 / (rows + 1.2 * (0.25 + 0.75 * lengths / lengths.mean()))
    return (rows if weighting == "tf-idf" else saturated) * idf


@pytest.mark.parametrize("weighting", ["none", "tf-idf", "bm25"])
@pytest.mark.parametrize("norm", ["cosine", "gram"])
def test_similarities_of_weighted_rows_are_those_of_the_textbook(norm: str, weighting: str) -> None:
    rows = weighted(X.T, weighting)
    gram = rows @ rows.T
    lengths = np.sqrt(np.diag(gram) if norm == "cosine" else np.linalg.norm(gram, axis=0))
    similar = gram / (np.outer(lengths, lengths) + 2.5)
    np.fill_diagonal(similar, 0)
    model = ItemKNN(neighbours=60, norm=norm, weighting=weighting, shrinkage=2.5).fit(DATA)
    np.testing.assert_allclose(model.weights.toarray(), similar, rtol=1e-4, atol=1e-7)
    # The history stays 0/1, whatever the users weigh.
    np.testing.assert_allclose(model.score(DATA), X @ similar, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weighting", ["degree", "tf-idf", "bm25"])
def test_users_are_compared_by_weighted_rows_and_their_votes_are_not_weighted(weighting: str) -> None:
    seen, new = DATA.select_users(DATA.users.to_list()[:40]), DATA.select_users(DATA.users.to_list()[40:])
    train, histories = seen.matrix.toarray().astype(float), new.matrix.toarray().astype(float)
    train = train[train.sum(axis=1) > 0]
    both = weighted_by_the_first(train, histories, weighting)
    unit = both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-30)
    expected = unit[len(train) :] @ unit[: len(train)].T @ train
    scores = UserKNN(neighbours=len(train), weighting=weighting).fit(seen).score(new)
    known = new.user_degrees > 0
    np.testing.assert_allclose(scores[known], expected[known], rtol=1e-4, atol=1e-5)


def weighted_by_the_first(train: np.ndarray, histories: np.ndarray, weighting: str) -> np.ndarray:
    """Rows of both, weighted by what is known of train alone."""
    degrees = train.sum(axis=0)
    idf = np.maximum(degrees, 1) ** -0.5 if weighting == "degree" else np.log(len(train) / (1 + degrees))
    both = np.concatenate([train, histories])
    if weighting == "bm25":
        lengths = both.sum(axis=1, keepdims=True) / train.sum(axis=1).mean()
        both = both * 2.2 / (both + 1.2 * (0.25 + 0.75 * lengths))
    return both * idf


@pytest.mark.parametrize(("weighting", "power", "exponent"), [("tf-idf", 2.0, -0.15), ("degree", 4.0, 0.3)])
def test_all_users_vote_with_a_power_of_their_cosine(weighting: str, power: float, exponent: float) -> None:
    """``S = [Σ_{v≠u} c_uv^q x_v] D_I^e``, user by user, wherever u has no item: he votes only for his own."""
    rows = X[X.sum(axis=1) > 0]
    weighted_rows = weighted_by_the_first(rows, X[:0], weighting)
    expected = np.zeros_like(X)
    for u, own in enumerate(weighted_by_the_first(rows, X, weighting)[len(rows) :]):
        for v, other in enumerate(weighted_rows):
            lengths = np.linalg.norm(own) * np.linalg.norm(other)
            if lengths > 0:
                expected[u] += (own @ other / lengths) ** power * rows[v]
    expected *= np.where(X.sum(axis=0) > 0, np.maximum(X.sum(axis=0), 1) ** exponent, 0)
    spec = UserKNN(neighbours="all", weighting=weighting, power=power, score_exponent=exponent)
    unseen = (X == 0) & (X.sum(axis=1) > 0)[:, None]
    scores = spec.fit(DATA).score(DATA)
    np.testing.assert_allclose(scores[unseen], expected[unseen], rtol=1e-4, atol=1e-6)
    as_many = UserKNN(neighbours=len(X), weighting=weighting, power=power, score_exponent=exponent)
    assert np.array_equal(as_many.fit(DATA).score(DATA), scores)


@pytest.mark.parametrize("weighting", ["none", "degree", "tf-idf", "bm25"])
def test_weights_of_nothing_are_no_error(weighting: str) -> None:
    nothing, history = (
        Interactions.from_matrix(np.zeros((2, 3))),
        Interactions.from_matrix(np.array([[1, 0, 0]])),
    )
    for spec in (ItemKNN(weighting=weighting, norm="gram"), UserKNN(weighting=weighting)):
        assert spec.fit(nothing).score(history).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("weighting", ["tf-idf", "bm25"])
def test_what_all_have_tells_nobody_apart(weighting: str) -> None:
    """Everybody has item 0; an item of n − 1 of n users weighs log(n / n) = 0, and one that shares nothing else scores 0."""
    train = Interactions.from_matrix(np.array([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0]]))
    history = Interactions.from_matrix(np.array([[1, 0, 0, 0]]))
    assert UserKNN(weighting=weighting).fit(train).score(history).tolist() == [[0, 0, 0, 0]]


@given(st.integers(1, 59), st.sampled_from(["target", "history"]))
def test_no_item_has_more_neighbours_than_requested(k: int, neighbours_of: str) -> None:
    weights = ItemKNN(neighbours=k, neighbours_of=neighbours_of).fit(DATA).weights
    counts = (weights.toarray() > 0).sum(axis=0 if neighbours_of == "target" else 1)
    assert counts.max() <= k
    assert weights.dtype == np.float32
    assert (weights.diagonal() == 0).all()


def test_the_closest_users_of_scikit_learn_vote() -> None:
    index = NearestNeighbors(n_neighbors=len(X), metric="cosine", algorithm="brute").fit(X)
    distances, users = index.kneighbors(X)
    expected = np.zeros_like(X)
    for row in range(len(X)):
        similar = np.zeros(len(X))
        similar[users[row]] = 1 - distances[row]
        similar = np.round(similar, 6)  # ties are broken by position
        best = np.argsort(-similar, kind="stable")[:9]
        expected[row] = similar[best] @ X[best]
    scores = UserKNN(neighbours=9).fit(DATA).score(DATA)
    np.testing.assert_allclose(scores[X.sum(axis=1) > 0], expected[X.sum(axis=1) > 0], rtol=1e-4, atol=1e-4)


def test_votes_are_the_same_bits_in_sparse_and_in_dense_products(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = UserKNN(neighbours="all", weighting="tf-idf", power=2.0)
    monkeypatch.setattr(neighbours, "VOTE_COST", 0)
    by_sparse = spec.fit(DATA).score(DATA)
    monkeypatch.setattr(neighbours, "VOTE_COST", 10**9)
    assert np.array_equal(spec.fit(DATA).score(DATA), by_sparse)


def test_normalized_votes_are_a_weighted_mean() -> None:
    scores = UserKNN(neighbours=9, normalize=True).fit(DATA).score(DATA)
    unnormalized = UserKNN(neighbours=9).fit(DATA).score(DATA)
    assert scores.max() <= 1 + 1e-6
    known = DATA.user_degrees > 0
    assert np.array_equal(
        np.argsort(-scores[known], kind="stable")[:, 0], np.argsort(-unnormalized[known], kind="stable")[:, 0]
    )


def test_a_history_that_shares_nothing_with_anybody_gets_zeros() -> None:
    train = Interactions.from_matrix(np.array([[1, 1, 0], [1, 0, 0]]))
    stranger = Interactions.from_matrix(np.array([[0, 0, 1]]))
    for spec in (
        UserKNN(normalize=True),
        ItemKNN(normalize=True),
        RP3Beta(normalize="target"),
        RP3Beta(normalize="source"),
    ):
        assert spec.fit(train).score(stranger).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("neighbours_of", ["target", "history"])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.7, 0.4), (1.5, 1.0)])
def test_walks_are_products_of_transitions(alpha: float, beta: float, neighbours_of: str) -> None:
    to_items = X / np.maximum(X.sum(axis=1, keepdims=True), 1)
    to_users = X.T / np.maximum(X.T.sum(axis=1, keepdims=True), 1)
    weights = to_users**alpha @ to_items**alpha / np.maximum(X.sum(axis=0), 1) ** beta
    np.fill_diagonal(weights, 0)
    # Sums of equal terms in another order differ in the last digits: rounded to float32 they are ties.
    weights = largest(weights.astype(np.float32), 11, axis=0 if neighbours_of == "target" else 1)
    spec = RP3Beta(alpha=alpha, beta=beta, neighbours=11, neighbours_of=neighbours_of)
    np.testing.assert_allclose(spec.fit(DATA).weights.toarray(), weights, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("neighbours_of", ["target", "history"])
@pytest.mark.parametrize(("normalize", "axis"), [("source", 1), ("target", 0)])
def test_walks_are_divided_by_what_leaves_their_source_or_reaches_their_target(
    normalize: str, axis: int, neighbours_of: str
) -> None:
    """P³α, β = 0; the sums are those of the weights that were kept."""
    alpha = 0.7
    to_items = X / np.maximum(X.sum(axis=1, keepdims=True), 1)
    to_users = X.T / np.maximum(X.T.sum(axis=1, keepdims=True), 1)
    walks = to_users**alpha @ to_items**alpha
    np.fill_diagonal(walks, 0)
    kept = largest(walks, 11, axis=0 if neighbours_of == "target" else 1)
    expected = kept / np.maximum(kept.sum(axis=axis, keepdims=True), 1e-30)
    spec = RP3Beta(alpha=alpha, beta=0.0, neighbours=11, neighbours_of=neighbours_of, normalize=normalize)
    np.testing.assert_allclose(spec.fit(DATA).weights.toarray(), expected, rtol=1e-4, atol=1e-8)


def test_the_probabilities_of_a_walk_sum_to_one() -> None:
    """With α = 1 and β = 0 the weights of an item and the probability of returning to it sum to 1."""
    model = RP3Beta(beta=0.0, neighbours=60).fit(DATA)
    return_probability = ((X / X.sum(axis=1, keepdims=True).clip(1)).sum(axis=0)) / X.sum(axis=0).clip(1)
    used = X.sum(axis=0) > 0
    sums = np.asarray(model.weights.sum(axis=1)).ravel()
    assert sums[used] + return_probability[used] == pytest.approx(np.ones(used.sum()), abs=1e-5)
