"""PureSVD against dense decompositions and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn.decomposition import TruncatedSVD

from tests.models.diffusion.generated import communities
from unblur.data.interactions import Interactions
from unblur.errors import SpecError
from unblur.models.linear import factors as pure_svd
from unblur.models.linear.factors import PureSVD, products

DATA = communities()
X = DATA.matrix.toarray().astype(np.float64)


@pytest.fixture(params=["dense", "arpack"])
def solver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "arpack":
        monkeypatch.setattr(pure_svd, "DENSE_BELOW", 0)


@pytest.mark.usefixtures("solver")
@pytest.mark.parametrize("scaling", [1.0, 0.3])
def test_scores_are_projections_on_singular_vectors(scaling: float) -> None:
    scaled = X * np.linalg.norm(X, axis=0) ** (scaling - 1)
    v = np.linalg.svd(scaled)[2][:5].T
    scores = PureSVD(rank=5, scaling=scaling).fit(DATA).score(DATA)
    known = DATA.user_degrees > 0
    np.testing.assert_allclose(scores[known], (X @ v @ v.T)[known], atol=1e-5)


@pytest.mark.usefixtures("solver")
def test_scikit_learn_finds_the_same_space() -> None:
    oracle = TruncatedSVD(5, algorithm="arpack", random_state=0).fit(X)
    v = PureSVD(rank=5).fit(DATA).inward.astype(np.float64)
    np.testing.assert_allclose(v @ v.T, oracle.components_.T @ oracle.components_, atol=1e-5)


@pytest.mark.usefixtures("solver")
def test_all_seeds_give_the_same_bytes() -> None:
    one, other = (PureSVD(rank=5).fit(DATA, rng=seed) for seed in (1, 2))
    assert one.inward.tobytes() == other.inward.tobytes()


def test_the_full_rank_reproduces_the_history() -> None:
    scores = PureSVD(rank=500).fit(DATA).score(DATA)
    known = DATA.user_degrees > 0
    np.testing.assert_allclose(scores[known], X[known], atol=1e-5)


@given(st.integers(1, 8), st.integers(1, 4))
def test_vectors_of_zero_singular_values_are_left_out(rank: int, real: int) -> None:
    """A matrix of `real` blocks has that many singular vectors, even for a higher rank."""
    blocks = Interactions.from_matrix(np.kron(np.eye(real), np.ones((3, 2))))
    vectors = PureSVD(rank=rank).fit(blocks).inward
    assert vectors.shape == (2 * real, min(rank, real))
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(vectors.shape[1]), atol=1e-6)


def test_bad_scaling_is_refused() -> None:
    with pytest.raises(SpecError, match=r"`scaling` must lie from -2 to 2; saw 3\.0"):
        PureSVD(scaling=3.0)


@pytest.mark.parametrize(("n_items", "rank"), [(70, 7), (1500, 30), (4200, 256), (12000, 96)])
def test_the_bits_of_a_row_do_not_depend_on_the_rows_around_it(n_items: int, rank: int) -> None:
    random = np.random.default_rng(n_items)
    users, items = random.normal(size=(70, rank)), random.normal(size=(n_items, rank)).astype(np.float32)
    together = products(users, items)
    np.testing.assert_allclose(together, users @ items.T.astype(np.float64), rtol=1e-5, atol=1e-4)
    for rows in (slice(3, 4), slice(3, 5), slice(9, 26), slice(0, 64)):
        assert np.array_equal(products(users[rows], items), together[rows])
