"""Sparse rows through the cache-friendly path, against dense linear algebra; and the ordering of users and items."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scipy import sparse

from tests.models.spectral.generated import matrix
from unblur.data.catalogue.generation import generated
from unblur.data.interactions import Interactions
from unblur.models.spectral import (
    operator as orders,
    operator as propagations,
    polynomial_filter as filters,
    spectrum,
)
from unblur.models.spectral.bspm import BSPM, LowPass
from unblur.models.spectral.chebycf import ChebyCF
from unblur.models.spectral.flow import Flow
from unblur.models.spectral.operator import (
    Polynomial,
    Propagation,
    fit,
    normalize,
    ordering,
    reorder_columns,
)
from unblur.models.spectral.polynomial_filter import FilterSpec


def dense_filter(polynomial: Polynomial, a: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """``x·p(P)`` in float64 by the eigenvectors of P."""
    values, vectors = np.linalg.eigh(a.T @ a)
    return (rows @ vectors * polynomial(values)) @ vectors.T


@given(seed=st.integers(0, 99), size=st.integers(0, 4), constant=st.sampled_from([0.0, 0.7]))
def test_rows_go_through_the_polynomial(seed: int, size: int, constant: float) -> None:
    random = np.random.default_rng(seed)
    a = normalize(Interactions.from_matrix(matrix(30, 20, 0.2, seed)))
    rows = matrix(int(random.integers(1, 6)), 20, 0.3, seed + 1)

    def response(at: np.ndarray) -> np.ndarray:
        return constant + at * np.exp(-at)

    polynomial = fit(response, size)
    users, items = random.permutation(30), random.permutation(20).astype(np.int32)
    expected = dense_filter(polynomial, a.toarray().astype(float), rows)
    propagation = Propagation(polynomial, sparse.csr_array(a[users]), items)
    scores = propagation.scores(sparse.csr_array(rows.astype(np.float32)))
    np.testing.assert_allclose(scores.T, expected, rtol=0, atol=2e-5)


@given(
    seed=st.integers(0, 99),
    size=st.integers(1, 4),
    tile=st.integers(1, 9),
    width=st.integers(1, 4),
    shape=st.sampled_from([(40, 10), (10, 40)]),
)
def test_tiles_give_the_same(seed: int, size: int, tile: int, width: int, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(seed)
    a = normalize(Interactions.from_matrix(matrix(*shape, 0.2, seed)))
    rows = matrix(width, shape[1], 0.4, seed + 1)
    polynomial = fit(lambda at: 0.3 + at * np.exp(-at), size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(propagations, "_TILE", tile)
        patch.setattr(propagations, "_UNTILED", 2 * tile)
        propagation = Propagation(polynomial, a, random.permutation(shape[1]).astype(np.int32))
        scores = propagation.scores(sparse.csr_array(rows.astype(np.float32)))
    matrices = (*propagation.inner, propagation.last)
    assert [isinstance(one, propagations.Tiles) for one in matrices] == [
        n > 2 * tile for n in (shape[1], shape[0], shape[0])
    ]
    expected = dense_filter(polynomial, a.toarray().astype(float), rows)
    np.testing.assert_allclose(scores.T, expected, rtol=0, atol=2e-5)


def test_a_thread_reuses_its_buffers_without_an_effect() -> None:
    """Blocks of several widths and several models in turn give the same as fresh buffers."""
    a = normalize(generated(300, 200, 4000, rng=0))
    rows = sparse.csr_array(a[:40] > 0).astype(np.float32)
    polynomial = fit(lambda at: at * (1 - at), 2)
    results = []
    for _ in range(2):
        for count in (40, 3, 17):
            propagation = Propagation(polynomial, a, np.arange(200, dtype=np.int32))
            results.append(propagation.scores(rows[:count]).copy())
    for first, repeated in zip(results[:3], results[3:], strict=True):
        assert np.array_equal(first, repeated)


@pytest.mark.parametrize(
    "spec",
    [
        BSPM(low_pass=None),
        BSPM(low_pass=LowPass(rank=20)),
        BSPM(low_pass=LowPass(rank=20), sharpen=None, blur=Flow(steps=2), history="normalized"),
        ChebyCF(rank=20),
    ],
)
def test_arrays_of_torch_give_the_same_as_those_of_numpy(
    spec: FilterSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs on a GPU, run on a CPU: fit by block Lanczos and score by dense blocks, in arrays of torch."""
    monkeypatch.setattr(spectrum, "_DENSE_BELOW", 20)
    train = generated(300, 200, 4000, rng=0)
    expected = spec.fit(train, rng=0)
    expected_scores, shared = expected.score(train), lists_of_many(spec, train)
    for module in (propagations, filters):
        monkeypatch.setattr(module, "namespace", lambda device: torch)
    model = spec.fit(train, rng=0)
    assert isinstance(model.plan.encode, torch.Tensor)
    largest = np.abs(expected_scores).max()
    np.testing.assert_allclose(model.score(train), expected_scores, rtol=0, atol=1e-5 * largest)
    assert np.mean(lists_of_many(spec, train) == shared) > 0.99


def lists_of_many(spec: FilterSpec, train: Interactions) -> np.ndarray:
    """The lists of ten settings, from a shared pass."""
    specs = [
        replace(spec, **({"weight": w} if isinstance(spec, ChebyCF) else {})) for w in np.linspace(0.1, 1, 10)
    ]
    shared = spec.shared()
    assert shared is not None
    return np.concatenate([lists for _, lists in shared(specs, train, rng=0).rankings(train, k=5)], axis=1)


# ------------------------------------------------------------------------------------------- the order


@pytest.fixture
def every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Order matrices of every size, small ones too."""
    monkeypatch.setattr(orders, "_MIN_INTERACTIONS", 0)


@pytest.mark.usefixtures("every_size")
def test_an_ordering_is_a_permutation_and_always_the_same() -> None:
    a = normalize(generated(500, 400, 9000, rng=3))
    (users, items), repeated = ordering(a), ordering(a)
    assert np.array_equal(np.sort(users), np.arange(500))
    assert np.array_equal(np.sort(items), np.arange(400))
    assert not np.array_equal(items, np.arange(400))
    assert np.array_equal(users, repeated[0])
    assert np.array_equal(items, repeated[1])


@pytest.mark.usefixtures("every_size")
def test_similar_users_and_items_lie_together() -> None:
    """Eighty separate groups, shuffled: in order, neighbours are of the same group far more often than by chance."""
    random = np.random.default_rng(0)
    groups = sparse.block_diag([np.ones((10, 8)) for _ in range(80)], format="csr")
    users, items = random.permutation(800), random.permutation(640)
    a = sparse.csr_array(groups[users][:, items]).astype(np.float32)
    users_order, items_order = ordering(a)
    for group in ((users // 10)[users_order], (items // 8)[items_order]):
        assert np.mean(group[1:] == group[:-1]) > 0.3  # by chance 1 in 80


def test_a_small_matrix_stays_as_it_is() -> None:
    a = normalize(generated(100, 90, 900, rng=0))
    users, items = ordering(a)
    assert np.array_equal(items, np.arange(90))
    assert np.array_equal(users, np.arange(100))


def test_reordering_moves_rows_and_columns() -> None:
    dense = matrix(7, 5, 0.5, seed=1).astype(np.float32)
    users, items = np.random.default_rng(0).permutation(7), np.random.default_rng(1).permutation(5)
    reordered = reorder_columns(sparse.csr_array(dense[users]), items.astype(np.int32))
    assert np.array_equal(reordered.toarray(), dense[users][:, items])
    assert reordered.has_sorted_indices
    columns_only = reorder_columns(sparse.csr_array(dense), items.astype(np.int32))
    assert np.array_equal(columns_only.toarray(), dense[:, items])


@pytest.mark.usefixtures("every_size")
def test_scores_do_not_depend_on_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    train = generated(500, 400, 9000, rng=3)
    ordered = BSPM().fit(train, rng=0)
    monkeypatch.setattr(orders, "_MIN_INTERACTIONS", 10**9)
    natural = BSPM().fit(train, rng=0)
    assert not np.array_equal(ordered.item_order, natural.item_order)
    np.testing.assert_allclose(ordered.score(train), natural.score(train), rtol=0, atol=1e-5)
