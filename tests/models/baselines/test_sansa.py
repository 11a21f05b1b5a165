"""SANSA, against the textbook formula with dense matrices, EASE, and itself in other blocks."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray
from scipy import sparse

from tests.models.diffusion.generated import communities
from unblur.data.interactions import Interactions
from unblur.errors import DataError
from unblur.models.linear import neighbours, sansa
from unblur.models.linear.sansa import SANSA, ScaledGram, approximate_inverse, item_vectors, largest
from unblur.progress import silent

DATA = communities()
X = DATA.matrix.toarray().astype(np.float64)
N = DATA.n_items


def scaled_gram(ratings: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Gram matrix of columns divided by the root of the norm of their column of XᵀX."""
    scaled = ratings / np.sqrt(np.linalg.norm(ratings.T @ ratings, axis=0))
    return np.asarray(scaled.T @ scaled)


def weights_of(spec: SANSA, data: Interactions) -> NDArray[np.float64]:
    """The weights from item to item: the scores of histories of one item."""
    return spec.fit(data).score_rows(sparse.csr_array(np.eye(data.n_items, dtype=np.float32)))


def textbook(
    ratings: NDArray[np.float64], ties: NDArray[np.int64], ridge: float, density: float
) -> NDArray[np.float64]:
    """B by the steps of the paper, dense and one entry after the other."""
    n = ratings.shape[1]
    order = np.lexsort((ties, (ratings.T @ ratings > 0).sum(0)))
    a = scaled_gram(ratings)[np.ix_(order, order)] + ridge * np.eye(n)
    lower, pivots, budget = np.zeros((n, n)), np.diag(a).copy(), int(density * n * n)
    for j in range(n):
        column = (a[:, j] - lower[:, :j] @ lower[j, :j])[j + 1 :] / np.sqrt(pivots[j])
        pivots[j + 1 :] -= column**2
        count = min((budget - np.count_nonzero(lower - np.diag(np.diag(lower)))) // (n - j), n - j - 1)
        kept = np.argsort(-np.abs(column), kind="stable")[:count]
        lower[j + 1 + kept, j] = column[kept]
        lower[j, j] = np.sqrt(pivots[j])
    unit = lower / np.diag(lower)
    close = 2 * np.eye(n) - unit
    residual = np.eye(n) - unit @ close
    if np.linalg.norm(residual, axis=0).mean() > 1e-3:
        close = close + close @ residual
        for j in range(n):
            below = np.abs(close[j + 1 :, j])
            close[j + 1 + np.argsort(-below, kind="stable")[int(density * n) :], j] = 0
    w = np.zeros((n, n))
    w[:, order] = close
    scores = -(w.T / pivots) @ w / ((w**2).T / pivots).sum(1)
    return scores + np.eye(n)  # of items that are seen anyway


@pytest.mark.parametrize("density", [0.1, 0.35, 1.0])
@pytest.mark.parametrize("ridge", [0.5, 20.0])
def test_weights_are_those_of_the_textbook(density: float, ridge: float) -> None:
    expected = textbook(X, DATA.item_ranks, ridge, density)
    np.testing.assert_allclose(weights_of(SANSA(ridge=ridge, density=density), DATA), expected, atol=2e-6)


@pytest.mark.parametrize("ridge", [0.05, 2.0])
def test_with_all_entries_and_the_exact_inverse_it_is_ease_on_the_scaled_gram(ridge: float) -> None:
    gram = ScaledGram.of(DATA.matrix, DATA.item_ranks)
    lower, pivots = gram.factorize(ridge, N * N, silent)
    exact = np.linalg.inv(lower.toarray() + np.eye(N))
    vectors = item_vectors(sparse.csr_array(exact), pivots, gram.order)
    model = sansa.SparseFactors(SANSA(), DATA.items, DATA.item_degrees, vectors=vectors)
    inverse = np.linalg.inv(scaled_gram(X) + ridge * np.eye(N))
    ease = np.eye(N) - inverse / np.diag(inverse)
    seen = X > 0
    scores = model.score(DATA)
    np.testing.assert_allclose(scores[~seen], (X @ ease)[~seen], atol=1e-6 * np.abs(X @ ease).max())
    np.testing.assert_allclose(scores, X @ ease, atol=1e-5)


def factorized(gram: ScaledGram, ridge: float) -> NDArray[np.float64]:
    """L·D·Lᵀ without dropping."""
    lower, pivots = gram.factorize(ridge, len(gram.order) ** 2, silent)
    unit = lower.toarray().T + np.eye(len(gram.order))
    return np.asarray(unit * pivots @ unit.T)


def test_a_singular_gram_matrix_is_factorized_with_the_first_ridge_that_does() -> None:
    twins = Interactions.from_matrix(np.hstack([X, X[:, :3], np.zeros((len(X), 1))]))
    gram = ScaledGram.of(twins.matrix, twins.item_ranks)
    dense = twins.matrix.toarray().astype(np.float64)
    scales = np.append(1 / np.sqrt(np.linalg.norm(dense.T @ dense, axis=0)[:-1]), 0)
    expected = (dense * scales).T @ (dense * scales) + 1e-3 * np.eye(twins.n_items)
    np.testing.assert_allclose(factorized(gram, 0.0), expected[np.ix_(gram.order, gram.order)], atol=1e-12)
    assert np.isfinite(weights_of(SANSA(ridge=0.0), twins)).all()


def test_restarts_double_what_the_ridge_is_raised_by(monkeypatch: pytest.MonkeyPatch) -> None:
    diagonals: list[NDArray[np.float64]] = []

    def fails_thrice(
        columns: object, diagonal: NDArray[np.float64], *_: object
    ) -> tuple[sparse.csr_array, NDArray[np.float64]] | None:
        diagonals.append(diagonal)
        return None if len(diagonals) < 4 else (sparse.csr_array((N, N)), diagonal)

    monkeypatch.setattr(sansa, "incomplete_cholesky", fails_thrice)
    ScaledGram.of(DATA.matrix, DATA.item_ranks).factorize(2.0, N, silent)
    shifts = [float((diagonal - diagonals[0]).mean()) for diagonal in diagonals]
    np.testing.assert_allclose(shifts, [0, 1e-3, 2e-3, 4e-3], atol=1e-12)


@pytest.mark.parametrize("products", [1, 300])
def test_the_gram_matrix_is_computed_in_blocks_to_the_same_bits(
    products: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SANSA(ridge=1.0, density=0.3).fit(DATA).vectors
    monkeypatch.setattr(neighbours, "BLOCK_PRODUCTS", products)
    blocks = SANSA(ridge=1.0, density=0.3).fit(DATA).vectors
    for part in ("data", "indices", "indptr"):
        assert np.array_equal(getattr(blocks, part), getattr(whole, part))


def test_a_second_step_of_schulz_is_taken_where_one_is_not_close() -> None:
    gram, identity = ScaledGram.of(DATA.matrix, DATA.item_ranks), np.eye(N)

    def residual(lower: sparse.csr_array, inverse: NDArray[np.float64]) -> float:
        return float(np.linalg.norm(identity - inverse @ (lower.toarray() + identity), axis=1).mean())

    lower, _ = gram.factorize(0.5, N * N, silent)
    after_one = residual(lower, identity - lower.toarray())
    assert residual(lower, approximate_inverse(lower, N).toarray()) < 0.6 * after_one
    lower, _ = gram.factorize(2000.0, N * N, silent)
    assert np.array_equal(approximate_inverse(lower, N).toarray(), identity - lower.toarray())


@given(
    st.lists(st.sampled_from([0.0, 1.0, -1.0, 2.0, -2.0, 0.5]), max_size=12),
    st.integers(0, 13),
    st.randoms(use_true_random=False),
)
def test_the_largest_entries_do_not_depend_on_their_order(
    values: list[float], k: int, random: Random
) -> None:
    by_size = sorted((-abs(value), place) for place, value in enumerate(values) if value)
    places = list(range(len(values)))
    random.shuffle(places)
    chosen = largest(np.array([values[place] for place in places]), np.array(places, dtype=np.int32), k)
    assert [places[index] for index in chosen.tolist()] == sorted(place for _, place in by_size[:k])


def test_a_density_below_one_entry_an_item_is_refused_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ScaledGram, "of", None)
    with pytest.raises(DataError, match=rf"at least 1 / n_items, .* these {N} items.*saw 0.001\. Raise it"):
        SANSA(density=0.001).fit(DATA)
