"""Truncated SVD: every vector within 1e-5, repeated values all found, the same for the same rng."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import sparse
from scipy.sparse.linalg import svds

from tests.models.spectral.generated import interactions, matrix
from unblur.data.catalogue.generation import generated
from unblur.data.interactions import Interactions
from unblur.errors import DataError
from unblur.models.spectral import spectrum as module
from unblur.models.spectral.operator import Operator, normalize
from unblur.models.spectral.spectrum import Spectrum, truncated_svd
from unblur.progress import ProgressEvent

RESIDUAL = 1e-5


@pytest.fixture
def iterative(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decompose small matrices by block Lanczos too."""
    monkeypatch.setattr(module, "_DENSE_BELOW", 20)


def normalized(dense: Any) -> sparse.csr_array:
    return normalize(Interactions.from_matrix(dense))


def assert_right(spectrum: Spectrum, a: sparse.csr_array, exact: Any = None) -> None:
    """Check residuals, orthonormality, order and, with `exact`, values."""
    u, v, values = spectrum.left.astype(float), spectrum.right.astype(float), spectrum.values
    matrix = a.astype(np.float64)
    assert np.linalg.norm(matrix @ v - u * values, axis=0).max() <= RESIDUAL
    assert np.linalg.norm(matrix.T @ u - v * values, axis=0).max() <= RESIDUAL
    nonzero = values > 0
    for vectors in (u, v):
        assert (
            np.abs(vectors[:, nonzero].T @ vectors[:, nonzero] - np.eye(nonzero.sum())).max(initial=0)
            <= RESIDUAL
        )
        assert not vectors[:, ~nonzero].any()
    assert (np.diff(values) <= 0).all()
    assert values.dtype == np.float64
    assert spectrum.left.dtype == spectrum.right.dtype == np.float32
    if exact is not None:
        np.testing.assert_allclose(values, exact[: len(values)], rtol=0, atol=2e-6)


def values_of(a: sparse.csr_array) -> Any:
    return np.linalg.svd(a.toarray().astype(float), compute_uv=False)


# ------------------------------------------------------------------------------------------- any matrix


@given(
    shape=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    density=st.sampled_from([0.03, 0.2, 0.6]),
    seed=st.integers(0, 99),
    share=st.floats(0, 1),
)
def test_small_matrices_at_every_rank(
    shape: tuple[int, int], density: float, seed: int, share: float
) -> None:
    a = normalized(matrix(*shape, density, seed))
    rank = max(1, round(share * min(shape)))
    spectrum = truncated_svd(a, rank, rng=0)
    assert spectrum.left.shape == (shape[0], rank)
    assert spectrum.right.shape == (shape[1], rank)
    assert_right(spectrum, a, values_of(a))


def stars(n_users: int, n_items: int, random: np.random.Generator) -> Any:
    """Every user has one item: components of rank one."""
    dense = np.zeros((n_users, n_items))
    dense[np.arange(n_users), random.integers(0, n_items // 3, n_users)] = 1
    return dense


def few_kinds(n_users: int, n_items: int, random: np.random.Generator) -> Any:
    """A quarter as many kinds of users as users: a low rank, and repeated rows."""
    kinds = random.random((max(2, n_users // 4), n_items)) < 0.2
    return kinds[random.integers(0, len(kinds), n_users)]


def copies(n_users: int, n_items: int, random: np.random.Generator) -> Any:
    """Many copies of one part, so that each of its values is repeated."""
    part = np.triu(np.ones((4, 5)))
    return np.kron(np.eye(min(n_users // 4, n_items // 5)), part)


def pairs_and_rest(n_users: int, n_items: int, random: np.random.Generator) -> Any:
    """Isolated user-item pairs and a random part."""
    n = min(n_users, n_items) // 3
    other = random.random((n_users - n, n_items - n)) < 0.1
    return sparse.block_diag([sparse.eye_array(n), sparse.csr_array(other)]).toarray()


def anything(n_users: int, n_items: int, random: np.random.Generator) -> Any:
    return random.random((n_users, n_items)) < random.choice([0.02, 0.1, 0.3])


@pytest.mark.usefixtures("iterative")
@pytest.mark.parametrize("make", [anything, stars, few_kinds, copies, pairs_and_rest])
def test_the_iteration_finds_what_a_dense_decomposition_finds(
    make: Callable[[int, int, np.random.Generator], Any],
) -> None:
    for seed in range(25):
        random = np.random.default_rng(seed)
        n_users, n_items = random.integers(25, 150, 2).tolist()
        dense = np.array(make(n_users, n_items, random), dtype=float)
        dense[0, 0] = 1
        a = normalized(dense)
        rank = int(random.integers(1, min(dense.shape) // 2))
        assert_right(truncated_svd(a, rank, rng=seed), a, values_of(a))


@pytest.mark.usefixtures("iterative")
def test_a_nearly_empty_matrix() -> None:
    """The Krylov space is exhausted by the first product, and the remainder is exactly zero."""
    dense = np.zeros((900, 1000))
    dense[7, [3, 8]] = 1
    a = normalized(dense)
    events: list[ProgressEvent] = []
    spectrum = truncated_svd(a, 50, rng=0, progress=events.append)
    assert_right(spectrum, a, np.r_[1, np.zeros(49)])
    assert len(events) == 1  # at the first check of the residual


@pytest.mark.parametrize(("copies", "missed"), [(30, False), (29, True), (1, True)])
def test_an_eigenvalue_that_a_basis_misses_is_noticed(copies: int, missed: bool) -> None:
    """Of thirty copies of the value 1 some are in the basis, together with the best of the rest."""
    values = np.r_[np.ones(30), 0.5 * np.random.default_rng(0).random(370)]
    operator = Operator(sparse.csr_array(sparse.diags_array(values.astype(np.float32))))
    best = np.r_[:copies, 30 + np.argsort(-values[30:])[:20]]
    basis = np.eye(400, dtype=np.float32)[:, best[::-1]]
    assert module._misses_eigenvalue(operator, basis, np.random.default_rng(1)) is missed


@pytest.mark.usefixtures("iterative")
@pytest.mark.parametrize("shape", [(300, 700), (700, 300)])
def test_values_are_those_of_arpack(shape: tuple[int, int]) -> None:
    """With more users and with more items: the iteration works on the smaller side."""
    a = normalize(generated(*shape, 8000, rng=1))
    spectrum = truncated_svd(a, 40, rng=0)
    start = np.random.default_rng(0).normal(size=300)
    u, values, _ = svds(a.astype(np.float64), k=40, v0=start)
    assert_right(spectrum, a, values[::-1])
    overlap = np.abs(
        np.sum(spectrum.left * u[:, ::-1], axis=0)[values[::-1] - np.roll(values[::-1], -1) > 1e-3]
    )
    assert (overlap[:5] > 0.999).all()
    transposed = truncated_svd(sparse.csr_array(a.T.tocsr()), 40, rng=0)
    np.testing.assert_allclose(transposed.values, spectrum.values, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("iterative")
@pytest.mark.parametrize("edge", [1e-9, 0.01, 0.3, 0.9, 2.0])
def test_an_edge_in_the_wrong_place_costs_time_but_no_accuracy(
    edge: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edge above the requested values hides them; then the iteration starts again without the filter."""
    monkeypatch.setattr(module, "_edge", lambda *_: edge)
    a = normalize(generated(300, 700, 8000, rng=1))
    assert_right(truncated_svd(a, 40, rng=0), a, values_of(a))


def test_the_filter_maps_eigenvalues_there_and_back() -> None:
    band = module._Filter(0.2)
    values = np.array([0.1, 0.2, 0.25, 0.6, 1.0])
    operator = Operator(sparse.csr_array(sparse.diags_array(np.sqrt(values).astype(np.float32))))
    filtered = band.apply(operator, np.ones((5, 1), dtype=np.float32))[:, 0].astype(np.float64)
    np.testing.assert_allclose(
        filtered, np.polynomial.chebyshev.chebval(values / 0.1 - 1, [0, 0, 1]), atol=1e-3
    )
    recovered, slope = band.eigenvalues(filtered[2:])
    np.testing.assert_allclose(recovered, values[2:], rtol=1e-5)
    np.testing.assert_allclose(slope, 8 * (values[2:] / 0.1 - 1) / 0.2, rtol=1e-4)
    assert band.eigenvalues(np.array([0.5]))[1] == 0


def test_the_edge_lies_near_the_last_requested_eigenvalue() -> None:
    operator = Operator(normalize(generated(3000, 2000, 60_000, rng=2)))
    exact = np.linalg.svd(operator.matrix.toarray().astype(float), compute_uv=False) ** 2
    edge = module._edge(operator, 200, np.random.default_rng(0))
    assert exact[300] < edge < exact[130]


# ------------------------------------------------------------------------------------------- at full size


def test_two_hundred_isolated_pairs_are_all_found() -> None:
    """Each repeats the value 1, more often than a block has columns, in a matrix too large for a dense decomposition."""
    rest = generated(2400, 2600, 24_000, rng=0).matrix
    a = normalized(sparse.block_diag([sparse.eye_array(200), rest]))
    assert min(a.shape) > module._DENSE_BELOW
    spectrum = truncated_svd(a, 210, rng=0)
    assert_right(spectrum, a)
    assert (spectrum.values > 1 - 1e-6).sum() >= 201  # the rest has a value of 1 as well
    assert spectrum.values[-1] < 0.999
    assert np.linalg.norm(spectrum.left[:200], axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("n_items", [0, 100])
def test_nothing_but_isolated_pairs_or_stars(n_items: int) -> None:
    """The Krylov space is exhausted at once."""
    n = module._DENSE_BELOW + 100
    if n_items:
        dense = np.zeros((n, n))
        dense[np.arange(n), np.arange(n) % n_items] = 1
        a = normalized(dense)
    else:
        a = normalized(sparse.eye_array(n))
    spectrum = truncated_svd(a, 120, rng=0)
    assert_right(spectrum, a, np.ones(120) if not n_items else np.r_[np.ones(100), np.zeros(20)])


# ------------------------------------------------------------------------------------------- zeros and signs


def test_a_value_of_zero_has_vectors_of_zeros() -> None:
    twins = np.concatenate([matrix(30, 80, 0.2, seed=0)] * 2)
    a = normalized(twins)
    spectrum = truncated_svd(a, 60, rng=0)
    assert_right(spectrum, a, values_of(a))
    assert (spectrum.values[30:] == 0).all()
    assert (spectrum.values[:30] > 0).all()


def test_an_empty_user_and_an_empty_item_have_no_part() -> None:
    dense = matrix(30, 40, 0.2, seed=0)
    dense[3], dense[:, 5] = 0, 0
    spectrum = truncated_svd(normalized(dense), 30, rng=0)
    assert np.abs(spectrum.left[3]).max() <= 1e-12
    assert np.abs(spectrum.right[5]).max() <= 1e-12


@pytest.mark.parametrize("dense_below", [20, 10_000])
def test_the_same_rng_gives_the_same_bits_and_another_the_same_space(
    dense_below: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DENSE_BELOW", dense_below)
    a = normalize(generated(200, 300, 3000, rng=1))
    exact = values_of(a)
    rank = int(np.argmax(exact[10:30] - exact[11:31])) + 11
    one, same, other = (truncated_svd(a, rank, rng=rng) for rng in (5, 5, 6))
    for name in ("left", "values", "right"):
        assert np.array_equal(getattr(one, name), getattr(same, name))
    space = one.right @ one.right.T
    np.testing.assert_allclose(space, other.right @ other.right.T, rtol=0, atol=1e-4)
    apart = np.flatnonzero(np.diff(exact[: rank + 1]) < -5e-3)
    apart = apart[np.isin(apart - 1, apart) | (apart == 0)]
    largest = np.abs(one.left).argmax(axis=0)
    clear = [
        at
        for at in apart.tolist()
        if np.sort(np.abs(one.left[:, at]))[-2] < 0.99 * abs(one.left[largest[at], at])
    ]
    assert len(clear) >= 3
    np.testing.assert_allclose(one.left[:, clear], other.left[:, clear], rtol=0, atol=1e-3)


# ------------------------------------------------------------------------------------------- calling it


@pytest.mark.parametrize("shape", [(20, 30), (30, 20)])
def test_a_rank_above_the_smaller_side_is_refused(shape: tuple[int, int]) -> None:
    a = normalized(matrix(*shape, 0.3, seed=1))
    with pytest.raises(
        DataError, match=rf"smaller side of the {shape[0]} × {shape[1]} matrix; saw 21\. Use at most 20"
    ):
        truncated_svd(a, 21)


@pytest.mark.usefixtures("iterative")
def test_progress_reports_the_residual() -> None:
    events: list[ProgressEvent] = []
    a = normalize(interactions(matrix(90, 120, 0.1, seed=2)))
    truncated_svd(a, 20, rng=0, progress=events.append)
    assert {event.stage for event in events} == {"find singular vectors"}
    assert events[-1].values is not None
    assert events[-1].values["residual"] <= RESIDUAL


def test_the_matrix_stays_as_it_was() -> None:
    a = normalize(interactions(matrix(30, 40, 0.2, seed=2)))
    before = a.toarray()
    truncated_svd(a, 5, rng=0)
    assert np.array_equal(a.toarray(), before)
