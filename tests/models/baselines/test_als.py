"""Alternating least squares: our fold-in against dense algebra and `implicit`'s own, and the error without `implicit`."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import sparse

from tests.models.diffusion.generated import communities
from unblur.data.interactions import Interactions
from unblur.errors import CapabilityError, DataError
from unblur.models import als
from unblur.models.als import ALS

DATA = communities()
X = DATA.matrix.toarray().astype(np.float64)


def objective(spec: ALS, users: np.ndarray, items: np.ndarray) -> float:
    """Equation 3 in float64."""
    confidence = 1 + spec.alpha * X
    error = (confidence * (X - users @ items.T) ** 2).sum()
    return float(error + spec.ridge * ((users**2).sum() + (items**2).sum()))


@pytest.fixture(autouse=True)
def with_implicit() -> None:
    pytest.importorskip("implicit")


def test_a_history_is_folded_in_by_the_normal_equations() -> None:
    spec = ALS(rank=6, alpha=4.0, ridge=2.0)
    model = spec.fit(DATA, rng=0)
    y, known = model.factors.astype(np.float64), DATA.user_degrees > 0
    expected = np.zeros((len(X), 6))
    for row in range(len(X)):
        confidence = np.diag(1 + 4.0 * X[row])
        expected[row] = np.linalg.inv(y.T @ confidence @ y + 2.0 * np.eye(6)) @ y.T @ confidence @ X[row]
    np.testing.assert_allclose(model.users(DATA.matrix), expected, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(model.score(DATA)[known], (expected @ y.T)[known], rtol=1e-4, atol=1e-5)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=8),
    st.integers(0, 99),
    st.sampled_from([1, 40, 1 << 22]),
    st.integers(1, 5),
)
def test_a_row_of_any_length_is_folded_in_by_the_normal_equations(
    lengths: list[int], seed: int, together: int, largest: int
) -> None:
    """Shorter rows than the rank, longer and empty ones, whatever their weights, the rows around them and however many at a time."""
    random = np.random.default_rng(seed)
    y = random.normal(size=(30, 6)).astype(np.float32)
    taken = np.stack([random.permutation(30) < length for length in lengths])
    x = taken * random.integers(1, largest + 1, taken.shape).astype(np.float64)
    data = Interactions.from_matrix(x)
    model = als.LeastSquares(ALS(rank=6, alpha=4.0, ridge=2.0), data.items, data.item_degrees, factors=y)
    y = y.astype(np.float64)
    gram = y.T @ y + 2.0 * np.eye(6)
    # Confidence 1 + α·r, and preference 1 of all items that are there (Hu et al., equation 4).
    expected = [
        np.linalg.solve(gram + 4.0 * y.T @ np.diag(row) @ y, y.T @ ((1 + 4.0 * row) * (row > 0))) for row in x
    ]
    before, als.NUMBERS_TOGETHER = als.NUMBERS_TOGETHER, together
    try:
        np.testing.assert_allclose(model.users(data.matrix), expected, rtol=1e-8, atol=1e-12)
    finally:
        als.NUMBERS_TOGETHER = before


def test_weights_are_confidences() -> None:
    """The objective of equation 3, with the weights in its confidences, is lower than without them."""
    weights = np.random.default_rng(2).integers(1, 9, DATA.n_interactions).astype(np.float32)
    data = replace(
        DATA,
        matrix=sparse.csr_array((weights, DATA.matrix.indices, DATA.matrix.indptr), shape=DATA.matrix.shape),
    )
    spec = ALS(rank=6, alpha=1.0, ridge=2.0, iterations=30, exact=True)
    r = data.matrix.toarray().astype(np.float64)

    def loss(factors: np.ndarray) -> float:
        """Equation 3 with the confidences of `data`, at the users' best vectors for these items'."""
        model = als.LeastSquares(spec, data.items, data.item_degrees, factors=factors)
        users = model.users(data.matrix)
        error = ((1 + spec.alpha * r) * ((r > 0) - users @ factors.T) ** 2).sum()
        return float(error + spec.ridge * ((users**2).sum() + (factors.astype(np.float64) ** 2).sum()))

    y = {use: replace(spec, weights=use).fit(data, rng=0).factors for use in ("use", "binary")}
    assert loss(y["use"]) < 0.99 * loss(y["binary"])


def test_implicit_folds_in_alike() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from implicit.cpu.als import AlternatingLeastSquares

        model = ALS(rank=6, alpha=4.0, ridge=2.0).fit(DATA, rng=0)
        oracle = AlternatingLeastSquares(factors=6, regularization=2.0, use_cg=False, use_native=False)
    oracle.item_factors = model.factors
    from scipy import sparse

    theirs = oracle.recalculate_user(np.arange(len(X)), sparse.csr_matrix(DATA.matrix * np.float32(5.0)))
    np.testing.assert_allclose(model.users(DATA.matrix), theirs, rtol=1e-3, atol=1e-4)


def test_the_objective_falls_with_every_iteration() -> None:
    values = []
    for iterations in (1, 2, 4, 8):
        spec = ALS(rank=6, iterations=iterations, exact=True)
        model = spec.fit(DATA, rng=0)
        values.append(objective(spec, model.users(DATA.matrix), model.factors.astype(np.float64)))
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.99 * values[0]


@given(st.integers(0, 2**40))
def test_a_seed_gives_the_same_bytes(seed: int) -> None:
    spec = ALS(rank=3, iterations=1)
    assert spec.fit(DATA, rng=seed).factors.tobytes() == spec.fit(DATA, rng=seed).factors.tobytes()
    assert spec.fit(DATA, rng=seed).factors.tobytes() != spec.fit(DATA, rng=seed + 1).factors.tobytes()


def test_without_implicit_the_install_line_is_given_and_saved_models_still_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ALS(rank=3).fit(DATA, rng=0)
    for name in [name for name in sys.modules if name.split(".")[0] == "implicit"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "implicit", None)
    with pytest.raises(CapabilityError, match=r"extra `als`.*pip install 'unblur\[als\]'"):
        ALS().fit(DATA, rng=0)
    loaded = type(model).from_tensors(model.spec, model.items, model.columns(), model.tensors(), "cpu")
    assert np.array_equal(loaded.score(DATA), model.score(DATA))


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="interactions to train on; saw none"):
        ALS().fit(Interactions.from_matrix(np.zeros((3, 4))), rng=0)
