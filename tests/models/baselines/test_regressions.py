"""EASE, its sparse form and SLIM, against scikit-learn's regressions and dense float64 algebra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn.linear_model import ElasticNet, Ridge

from tests.models.diffusion.generated import communities
from tests.tuning.searched import search
from unblur.data.interactions import Interactions
from unblur.data.splits import Random
from unblur.errors import CapabilityError, DataError
from unblur.experiment.searching import RankingJudge
from unblur.experiment.validation import HoldOuts
from unblur.models.linear import ease as regressions
from unblur.models.linear.ease import (
    EASE,
    SLIM,
    SharedRidges,
    SparseEASE,
    Statistics,
    gather_grams,
    local_grams,
    share_ridges,
)
from unblur.models.linear.neighbours import ItemKNN, transposed
from unblur.models.linear.recency import Recency
from unblur.progress import Run, silent
from unblur.recommender import RecommenderSpec
from unblur.tuning.points import space_of
from unblur.tuning.settings import Search

DATA = communities()
TIMED = Interactions(DATA.matrix, DATA.users, DATA.items, np.arange(DATA.n_interactions))
X = DATA.matrix.toarray().astype(np.float64)


@pytest.fixture(params=["whole", "in parts"])
def gram_method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use one Gram matrix of all items, or many small ones made from sparse columns."""
    if request.param == "in parts":
        monkeypatch.setattr(regressions, "WHOLE_UP_TO", 0)
        monkeypatch.setattr(regressions, "BLOCK_NUMBERS", 3000)


def neighbourhoods(k: int) -> list[np.ndarray]:
    """The neighbours of each item, from item-knn."""
    similar = ItemKNN(neighbours=k).fit(DATA).weights.toarray()
    return [np.flatnonzero(column) for column in similar.T]


def test_dropout_is_the_formula_of_edlae_in_float64() -> None:
    gram = X.T @ X
    inverse = np.linalg.inv(gram + np.diag(20 + 0.3 / 0.7 * np.diag(gram)))
    expected = np.eye(X.shape[1]) - inverse / np.diag(inverse)
    np.testing.assert_allclose(EASE(ridge=20.0, dropout=0.3).fit(DATA).weights, expected, atol=2e-5)


def test_no_dropout_is_ease_bit_for_bit() -> None:
    statistics = Statistics.of(DATA.binarized().matrix)
    ridged = statistics.gram + np.float32(20) * np.eye(DATA.n_items, dtype=np.float32)
    without = EASE(ridge=20.0, dropout=0.0).fit(DATA).weights
    nearly = EASE(ridge=20.0, dropout=1e-12).fit(DATA).weights
    assert np.array_equal(without, nearly)
    assert np.array_equal(
        without, EASE(ridge=1e-30).solve(replace(statistics, gram=np.asfortranarray(ridged)))
    )


def test_ease_is_the_formula_in_float64() -> None:
    inverse = np.linalg.inv(X.T @ X + 20 * np.eye(X.shape[1]))
    expected = np.eye(X.shape[1]) - inverse / np.diag(inverse)
    np.testing.assert_allclose(EASE(ridge=20.0).fit(DATA).weights, expected, atol=2e-5)


@pytest.mark.parametrize("spec", [EASE(), Recency(inner={"kind": "ease"})])
def test_a_gram_matrix_that_does_not_fit_is_refused_before_it_is_formed(
    spec: RecommenderSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 4 * DATA.n_items**2
    monkeypatch.setattr(regressions, "available_bytes", lambda: needed)
    spec.fit(TIMED)
    monkeypatch.setattr(regressions, "available_bytes", lambda: needed - 1)
    monkeypatch.setattr(regressions.np, "empty", None)
    with pytest.raises(
        CapabilityError, match=rf"all {DATA.n_items} items must fit .* GB are available\. Fit sansa"
    ):
        spec.fit(TIMED)


def test_weights_of_many_ridges_are_interpolated_in_their_logarithm() -> None:
    specs = [
        EASE(ridge=ridge, dropout=dropout) for dropout in (0.0, 0.3) for ridge in np.geomspace(5, 1000, 20)
    ]
    for own, shared in share_ridges(specs, DATA).passes:
        assert isinstance(shared, SharedRidges)
        assert len(shared.weights) == 8
        for index, coefficients in zip(own, shared.coefficients, strict=True):
            weights = np.tensordot(coefficients, np.array(shared.weights), axes=1)
            expected = specs[index].fit(DATA).weights
            np.testing.assert_allclose(weights, expected, atol=4e-3 * np.abs(expected).max())


def test_few_ridges_share_a_pass_and_rank_as_each_alone() -> None:
    weighted = Interactions(DATA.matrix * 3.0, DATA.users, DATA.items)
    specs = [
        EASE(ridge=20.0),
        EASE(ridge=500.0, dropout=0.2),
        EASE(ridge=20.0, weights="use"),
        EASE(ridge=50.0),
    ]
    shared = share_ridges(specs, weighted)
    lists = np.concatenate([positions for _, positions in shared.rankings(weighted, k=5)], axis=1)
    for spec, own_lists in zip(specs, lists, strict=True):
        np.testing.assert_array_equal(own_lists, spec.fit(weighted).recommend(weighted, k=5).positions)


def test_ridges_that_do_not_fit_together_are_judged_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Random(fraction=0.2).apply(DATA, rng=0)
    judge = RankingJudge("recall@5", HoldOuts((split,), "held out"), None, 0, Run(), shares=True)
    space = space_of(EASE(), {"ridge": (10.0, 100.0), "dropout": (0.0,)})
    together = search(EASE(), space, judge, Search(trials=2), include_base=False)
    monkeypatch.setattr(regressions, "available_bytes", lambda: 4 * DATA.n_items**2)
    with pytest.raises(DataError, match=r"a few ridges must fit in memory together"):
        share_ridges([EASE(), EASE(ridge=1.0)], DATA)
    alone = search(EASE(), space, judge, Search(trials=2), include_base=False)
    assert [trial.value for trial in alone.trials] == [trial.value for trial in together.trials]


def test_ease_fits_weighted_rows() -> None:
    rows = DATA.matrix * np.float32(0.5)
    halved = EASE(ridge=5.0).fit_rows(rows, DATA, silent)
    np.testing.assert_allclose(halved.weights, EASE(ridge=20.0).fit(DATA).weights, atol=2e-5)


@pytest.mark.usefixtures("gram_method")
def test_with_all_items_as_neighbours_the_sparse_form_is_ease() -> None:
    mask = np.random.default_rng(0).random((80, 25)) < 0.5
    data = Interactions.from_matrix(mask)
    assert (mask.T.astype(int) @ mask > 0).all()  # else the two would differ where items share no user
    weights = SparseEASE(ridge=30.0, neighbours=25).fit(data).weights.toarray()
    np.testing.assert_allclose(weights, EASE(ridge=30.0).fit(data).weights, atol=2e-5)


@pytest.mark.usefixtures("gram_method")
def test_the_sparse_form_is_ridge_regression_on_neighbours() -> None:
    weights = SparseEASE(ridge=4.0, neighbours=9).fit(DATA).weights.toarray()
    for item, close in enumerate(neighbourhoods(9)):
        oracle = Ridge(alpha=4.0, fit_intercept=False).fit(X[:, close], X[:, item])
        np.testing.assert_allclose(weights[close, item], oracle.coef_, atol=1e-5)
        assert np.count_nonzero(weights[:, item]) <= len(close)


@pytest.mark.usefixtures("gram_method")
@pytest.mark.parametrize("nonnegative", [True, False])
def test_slim_is_an_elastic_net_on_neighbours(nonnegative: bool) -> None:
    l1, l2 = 0.3, 0.5
    spec = SLIM(l1=l1, l2=l2, neighbours=40, nonnegative=nonnegative, tolerance=1e-9, sweeps=1000)
    weights = spec.fit(DATA).weights.toarray()
    oracle = ElasticNet(
        alpha=(l1 + l2) / len(X),
        l1_ratio=l1 / (l1 + l2),
        fit_intercept=False,
        positive=nonnegative,
        tol=1e-10,
        max_iter=20_000,
    )
    for item, close in enumerate(neighbourhoods(40)):
        oracle.fit(X[:, close], X[:, item])
        np.testing.assert_allclose(weights[close, item], oracle.coef_, atol=1e-5)
    assert (weights < 0).any() != nonnegative


def test_a_larger_l1_gives_fewer_weights() -> None:
    counts = [SLIM(l1=l1, l2=5.0).fit(DATA).weights.nnz for l1 in (0.0, 1.0, 4.0, 1e6)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2] > counts[3] == 0


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 2**32))
def test_local_grams_are_parts_of_the_whole(groups: int, size: int, seed: int) -> None:
    members = np.random.default_rng(seed).integers(-1, X.shape[1], (groups, size))
    grams = local_grams(transposed(DATA.matrix), members)
    assert np.array_equal(grams, gather_grams(X.T @ X, members))
    for group, columns in enumerate(members):
        real = columns >= 0
        picked = X[:, columns[real]]
        assert np.array_equal(grams[group][np.ix_(real, real)], picked.T @ picked)
        assert not grams[group][~real].any()
