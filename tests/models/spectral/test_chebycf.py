"""ChebyCF against its formula in dense matrices, its own target, and the models that it is at the limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from tests.models.spectral import textbook
from tests.models.spectral.generated import distinct_ranks, interactions, matrix
from unblur.errors import DataError, SpecError
from unblur.experiment.page import filter_response
from unblur.models.spectral import BSPM, ChebyCF, DegreePowers
from unblur.models.spectral.operator import Operator, fit
from unblur.spec import spec_from_dict


def dense_scores(spec: ChebyCF, train: textbook.Matrix, rows: textbook.Matrix) -> textbook.Matrix:
    """``x·D_I^-β·[Σ_m c_m T_m(I − 2R̃ᵀR̃) + α V Vᵀ]·D_I^β``, each part as the paper writes it."""
    k, n_items = spec.degree, train.shape[1]

    def h(x: float) -> float:
        return 0.5 + 0.5 * abs(x) ** spec.flatness if x < 0 else 0.5 - 0.5 * x**spec.flatness

    nodes = [np.cos((k + 1.5 - j) * np.pi / (k + 1)) for j in range(1, k + 2)]
    if spec.sampling == "authors":
        samples = [round(h(round(np.cos((k - i) * np.pi / k), 3)), 3) for i in range(k + 1)]
    else:
        samples = [h(node) for node in nodes]
    normalized = textbook.normalized(train, spec.degrees)
    laplacian = np.eye(n_items) - 2 * normalized.T @ normalized
    terms = [np.eye(n_items), laplacian]
    filtered = np.zeros((n_items, n_items))
    for m in range(k + 1):
        # T_m(cos θ) = cos(mθ)
        c = 2 / (k + 1) * sum(y * np.cos(m * np.arccos(t)) for y, t in zip(samples, nodes, strict=True))
        filtered += (c / 2 if m == 0 else c) * terms[m]
        terms.append(2 * laplacian @ terms[-1] - terms[-2])
    _, values, right = np.linalg.svd(normalized, full_matrices=False)
    v = right[: spec.rank][values[: spec.rank] > textbook.ZERO].T
    f = np.array([spec.bands[index * len(spec.bands) // spec.rank] for index in range(v.shape[1])])
    items = train.sum(axis=0)
    before, after = (textbook.power(items, e) for e in (-spec.exponent, spec.exponent + spec.degrees.score))
    scores: textbook.Matrix = (rows * before) @ (filtered + spec.weight * (v * f) @ v.T) * after
    return scores


@pytest.mark.parametrize("shape", [(40, 25), (25, 40)])
@pytest.mark.parametrize("exponent", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"sampling": "gauss", "flatness": 10.0},
        {"degree": 3, "flatness": 0.5, "weight": -0.1},
        {"degree": 30, "flatness": 3.0, "weight": 0.0},
        {"degree": 1, "flatness": 1.0},
        {"degrees": DegreePowers(user=0.4, item=0.3, score=-0.2), "bands": (1.0, 0.5, 2.0)},
    ],
)
def test_scores_are_those_of_the_formula(
    values: dict[str, Any], exponent: float, shape: tuple[int, int]
) -> None:
    """With an item and a user of degree 0, and an item of degree 0 in a row."""
    train, rows = matrix(*shape, 0.2, seed=3), matrix(6, shape[1], 0.3, seed=4)
    train[-1], train[:, -1], rows[0, -1] = 0, 0, 1
    degrees = values.get("degrees", textbook.PAPER)
    spec = ChebyCF(rank=distinct_ranks(train, degrees)[4], exponent=exponent, **values)
    rows = np.concatenate([train[:-1], rows])
    rows = rows[rows.any(axis=1)]
    scores = spec.fit(interactions(train), rng=0).score(interactions(rows))
    expected = dense_scores(spec, train, rows)
    assert np.abs(scores - expected).max() <= 1e-4 * np.abs(expected).max()
    assert not scores[:, -1].any()


@pytest.mark.parametrize("flatness", [0.0, -1.5])
def test_a_filter_that_does_not_fall_is_refused(flatness: float) -> None:
    with pytest.raises(
        SpecError, match=rf"flatness of ChebyCF: input should be greater than 0; saw {flatness}"
    ):
        spec_from_dict(ChebyCF, {"flatness": flatness})


@pytest.mark.parametrize("flatness", [1.0, 1.5, 10.0])
@pytest.mark.parametrize("sampling", ["authors", "gauss"])
def test_on_a_diagonal_matrix_the_polynomial_is_its_own_filter(sampling: str, flatness: float) -> None:
    """At eigenvalues that are the nodes it has the samples, which in the clean variant are the target there."""
    spec = ChebyCF(sampling=sampling, flatness=flatness)  # type: ignore[arg-type]
    nodes = np.cos(np.pi * (np.arange(9) + 0.5) / 9)
    eigenvalues = (1 - nodes) / 2
    diagonal = Operator(sparse.csr_array(sparse.diags_array(np.sqrt(eigenvalues).astype(np.float32))))
    polynomial = fit(lambda points: spec.response(points)[0], spec.degree)
    filtered = polynomial.apply(diagonal, np.eye(9, dtype=np.float32))
    points = nodes if sampling == "gauss" else np.round(np.cos(np.pi * np.arange(9) / 8), 3)
    within = 1e-5 if sampling == "gauss" else 5.1e-4  # the authors round the samples to three decimals
    np.testing.assert_allclose(filtered, np.diag(spec.target(points)), atol=within)


def test_coefficients_of_degree_two_by_hand() -> None:
    """Samples 1, ½, 0 at nodes −√3/2, 0, √3/2; the clean target of φ = 1 is the line ½ − x/2."""
    np.testing.assert_allclose(ChebyCF(degree=2).coefficients, [0.5, -1 / np.sqrt(3), 0], atol=1e-15)
    clean = ChebyCF(degree=2, flatness=1.0, sampling="gauss")
    np.testing.assert_allclose(clean.coefficients, [0.5, -0.5, 0], atol=1e-15)


def test_a_clean_line_without_an_ideal_part_is_one_blur() -> None:
    train = interactions(matrix(40, 25, 0.2, seed=7))
    chebycf = ChebyCF(flatness=1.0, sampling="gauss", weight=0.0, exponent=0.0).fit(train, rng=0)
    blur = BSPM(low_pass=None, sharpen=None).fit(train)
    np.testing.assert_allclose(chebycf.score(train), blur.score(train), atol=1e-4)


def test_users_of_one_item_each_get_the_filter_at_the_smoothest_end() -> None:
    """The identity: P = I, so every score is that of the own item, p(1) + α, whatever the exponent."""
    spec = ChebyCF(exponent=0.7)
    scores = spec.fit(interactions(np.eye(8)), rng=0).score(interactions(np.eye(8)))
    p, q = (float(part[0]) for part in spec.response(np.ones(1)))
    np.testing.assert_allclose(scores, (p + q) * np.eye(8), atol=1e-5)


def test_a_rank_larger_than_the_matrix_is_all_there_is_with_a_note() -> None:
    model = ChebyCF().fit(interactions(matrix(30, 20, 0.3, seed=1)), rng=0)
    assert model.notes == ("the low-pass filter has rank 20, the smaller side of the train matrix, not 512",)


def test_a_page_draws_its_filter() -> None:
    lines = {name: dict(curve) for name, curve in filter_response(ChebyCF(weight=0.2)).items()}
    assert lines["within the low-pass"][0.5] == pytest.approx(0.7)
    assert lines["outside the low-pass"][0.5] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ChebyCF(flatness=0.0), "flatness of ChebyCF: input should be greater than 0; saw 0"),
        (lambda: ChebyCF(flatness=-1.5), "greater than 0; saw -1.5"),
        (lambda: ChebyCF(rank=0), "rank"),
        (lambda: ChebyCF(degree=0), "degree"),
        (lambda: ChebyCF(exponent=1.1), "exponent"),
        (lambda: ChebyCF(sampling="lobatto"), "sampling"),  # type: ignore[arg-type]
        (lambda: ChebyCF(phi=1.0), "phi is not a hyper-parameter of ChebyCF"),  # type: ignore[call-arg]
    ],
)
def test_bad_hyper_parameters_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make()


def test_an_empty_train_set_is_refused() -> None:
    with pytest.raises(DataError, match="at least one interaction; it is empty"):
        ChebyCF().fit(interactions(np.zeros((4, 5))))
