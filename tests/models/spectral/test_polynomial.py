"""Flows and the polynomials that equal them: exact, stable at high degrees, and of the lowest degree."""

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from numpy.polynomial import Polynomial as Power

from tests.models.spectral import textbook
from tests.models.spectral.generated import flows, interactions, matrix
from unblur.models.spectral import operator as polynomial
from unblur.models.spectral.flow import Flow, follow
from unblur.models.spectral.operator import Operator, degree_power, normalize

GRID = np.linspace(0, 1, 2001)


def last(flow: Flow) -> polynomial.Response:
    """The response of a flow: ``dy/dt = −λ·y`` followed from y = 1, by eigenvalue λ."""

    def at(eigenvalues: np.ndarray) -> np.ndarray:
        *_, end = follow(-eigenvalues, np.ones_like(eigenvalues), flow)
        return end

    return at


# ------------------------------------------------------------------------------------------- flows


@given(flows())
def test_a_flow_equals_an_ode_solver(flow: Flow) -> None:
    rate = np.linspace(-1.5, 0.5, 21)
    states = textbook.path(lambda t, state: state * torch.from_numpy(rate), torch.ones(21).double(), flow)
    ours = list(follow(rate, np.ones(21), flow))
    assert len(ours) == flow.steps
    np.testing.assert_allclose(ours, states.numpy(), rtol=1e-12, atol=1e-12)


@given(flows())
def test_a_flow_has_the_degree_it_says(flow: Flow) -> None:
    short = polynomial.fit(last(flow), flow.degree)
    np.testing.assert_allclose(short(GRID), last(flow)(GRID), rtol=0, atol=1e-9)
    assert polynomial.error(polynomial.fit(last(flow), flow.degree - 1), last(flow), 1.0) > 0


# ------------------------------------------------------------------------------------------- fitting


@given(
    coefficients=st.lists(st.floats(-3, 3), min_size=1, max_size=9),
    extra_degree=st.integers(0, 3),
    upper=st.sampled_from([1e-3, 0.2, 0.75, 1.0]),
)
def test_a_polynomial_of_no_higher_degree_is_fitted_exactly(
    coefficients: list[float], extra_degree: int, upper: float
) -> None:
    exact = Power(np.array(coefficients) / upper ** np.arange(len(coefficients)))
    fitted = polynomial.fit(exact, len(coefficients) - 1 + extra_degree, upper)
    grid = np.linspace(0, 1.1 * upper, 60)
    np.testing.assert_allclose(fitted(grid), exact(grid), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "flow",
    [
        Flow(solver="rk4", steps=15, duration=10.0),
        Flow(solver="euler", steps=60, duration=10.0),
        Flow(solver="euler", steps=60, duration=100.0),
        Flow(solver="rk4", steps=60, duration=10.0),
    ],
)
def test_newtons_form_is_stable_at_degree_60_and_above(flow: Flow) -> None:
    assert flow.degree >= 60
    fitted = polynomial.fit(last(flow), flow.degree)
    np.testing.assert_allclose(fitted(GRID), last(flow)(GRID), rtol=0, atol=1e-12)
    normalized = normalize(interactions(matrix(60, 40, 0.15, seed=0)))
    values, vectors = np.linalg.eigh((normalized.T @ normalized).toarray().astype(float))
    block = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32)
    expected = vectors @ (last(flow)(values)[:, None] * (vectors.T @ block))
    applied = fitted.apply(Operator(normalized), block)
    np.testing.assert_allclose(applied, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_applying_to_a_block_equals_applying_to_eigenvectors(size: int) -> None:
    normalized = normalize(interactions(matrix(50, 40, 0.15, seed=1)))
    values, vectors = np.linalg.eigh((normalized.T @ normalized).toarray().astype(float))
    fitted = polynomial.fit(lambda at: np.cos(3 * at) - 0.3, size)
    block = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    before = block.copy()
    expected = vectors @ (fitted(values)[:, None] * (vectors.T @ block))
    applied = fitted.apply(Operator(normalized), block)
    np.testing.assert_allclose(applied, expected, rtol=0, atol=1e-5)
    assert np.array_equal(block, before)


@given(flow=flows((0.5, 2.5, 6.0)), upper=st.sampled_from([0.05, 0.4, 1.0]), digits=st.integers(1, 6))
def test_the_shortest_polynomial_within_a_tolerance(flow: Flow, upper: float, digits: int) -> None:
    exact, tolerance = last(flow), 10.0**-digits
    fitted = polynomial.fit_within(exact, flow.degree, upper, tolerance)
    grid = np.linspace(0, upper, 500)
    assert len(fitted.coefficients) <= flow.degree
    if len(fitted.coefficients) < flow.degree:
        assert np.abs(fitted(grid) - exact(grid)).max() <= 1.01 * tolerance
    else:
        np.testing.assert_allclose(fitted(grid), exact(grid), rtol=0, atol=1e-9)
    for fewer in range(len(fitted.coefficients)):
        assert polynomial.error(polynomial.fit(exact, fewer, upper), exact, upper) > tolerance


def test_the_error_is_the_largest_one() -> None:
    fitted = polynomial.fit(np.exp, 2, 0.5)
    grid = np.linspace(0, 0.5, 100_001)
    assert polynomial.error(fitted, np.exp, 0.5) == pytest.approx(
        np.abs(fitted(grid) - np.exp(grid)).max(), rel=1e-3
    )
    assert polynomial.largest_value(lambda at: np.sin(np.pi * at) - 2) == pytest.approx(2)


# ------------------------------------------------------------------------------------------- normalisation


def test_the_normalized_matrix_divides_by_the_roots_of_degrees() -> None:
    train = matrix(20, 30, 0.2, seed=2)
    train[3], train[:, 5] = 0, 0
    normalized = normalize(interactions(train))
    np.testing.assert_allclose(normalized.toarray(), textbook.normalized(train), rtol=1e-6)
    roots = degree_power(train.sum(axis=0).astype(np.int64), -0.5)
    np.testing.assert_allclose(roots, textbook.power(train.sum(axis=0), -0.5), rtol=1e-6)
    assert roots[5] == 0
    assert degree_power(np.array([0, 4]), -0.5).tolist() == [0, 0.5]
