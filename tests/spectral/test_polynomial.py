"""Flows against the exponential and a matrix that is applied step by step; polynomials against what they interpolate."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from scipy.linalg import expm

from unblur.spectral import polynomial
from unblur.spectral.flow import Flow, follow
from unblur.spectral.operator import Operator, dense


def test_many_small_steps_approach_the_exponential() -> None:
    rate = np.linspace(-1, 0, 5)
    for flow, error in (
        (Flow(duration=2.0, steps=20_000), 1e-3),
        (Flow(duration=2.0, steps=50, solver="rk4"), 1e-8),
    ):
        *_, last = follow(rate, np.ones(5), flow)
        assert np.abs(last - np.diag(expm(2.0 * np.diag(rate)))).max() <= error


def test_a_flow_gives_a_state_after_each_step() -> None:
    states = list(follow(np.array([-0.5]), np.array([2.0]), Flow(duration=3.0, steps=3)))
    assert np.allclose(np.concatenate(states), [1.0, 0.5, 0.25])


@given(
    coefficients=st.lists(st.floats(-2, 2), min_size=1, max_size=9), upper=st.sampled_from([0.2, 0.7, 1.0])
)
def test_interpolation_is_exact_at_the_polynomials_own_degree(
    coefficients: list[float], upper: float
) -> None:
    def exact(at: np.ndarray) -> np.ndarray:
        return np.polynomial.polynomial.polyval(at, coefficients)

    fitted = polynomial.fit(exact, len(coefficients) - 1, upper)
    assert polynomial.error(fitted, exact, upper) <= 1e-9


def test_long_processes_stay_stable() -> None:
    flow = Flow(duration=10.0, steps=15, solver="rk4")  # degree 60

    def exact(at: np.ndarray) -> np.ndarray:
        *_, last = follow(-at, np.ones_like(at), flow)
        return last

    random = np.random.default_rng(0)
    orthogonal = np.linalg.qr(random.normal(size=(40, 40)))[0]
    eigenvalues = np.linspace(0, 1, 40)
    root = (orthogonal * np.sqrt(eigenvalues)) @ orthogonal.T
    operator = Operator(sparse.csr_array(root.astype(np.float32)))
    block = random.normal(size=(40, 3)).astype(np.float32)
    expected = (orthogonal * exact(eigenvalues)) @ orthogonal.T @ block
    for size in (20, 60):
        applied = polynomial.fit(exact, size).apply(operator, dense(block, "cpu")).numpy()
        assert np.abs(applied - expected).max() <= 1e-4


def test_fewer_coefficients_do_where_a_tolerance_allows() -> None:
    def exact(at: np.ndarray) -> np.ndarray:
        return at * np.exp(-2 * at)

    fitted = polynomial.fit_within(exact, 30, 1.0, 1e-4)
    assert len(fitted.coefficients) < 8
    assert polynomial.error(fitted, exact, 1.0) <= 1e-4
