"""BSPM as a polynomial gives what an ODE solver gives: every option, every shape, known users and new."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings

from tests.models.spectral import textbook
from tests.models.spectral.generated import Case, cases, interactions, matrix
from unblur.data.interactions import Interactions
from unblur.errors import DataError, SpecError
from unblur.models.spectral import polynomial_filter as module
from unblur.models.spectral.bspm import BSPM, LowPass
from unblur.models.spectral.flow import Flow
from unblur.models.spectral.shared_pass import share
from unblur.progress import ProgressEvent
from unblur.ranking import top_k

FREE = 1e12
"""A relative cost of sparse products at which the model takes the lowest degree and the most eigenvectors."""


@contextmanager
def planned(relative_cost: float, tolerance: float) -> Iterator[None]:
    """Score with another trade-off between the degree of the polynomial and the eigenvectors treated exactly."""
    with patch.multiple(module, _RELATIVE_COST=relative_cost, _TOLERANCE=tolerance):
        yield


def difference(case: Case) -> float:
    """The largest difference from the textbook, in units of the largest score."""
    rows = interactions(np.concatenate([case.train[case.train.any(axis=1)], case.rows]))
    expected = textbook.scores(case.spec, case.train, rows.matrix.toarray().astype(float))
    scores = case.spec.fit(interactions(case.train), rng=0).score(rows)
    assert scores.dtype == np.float32
    # All scores are 0 if a filter removes everything: then the difference itself counts.
    return float(np.abs(scores - expected).max() / (np.abs(expected).max() or 1.0))


@settings(max_examples=250)
@given(cases())
def test_every_option_gives_the_scores_of_the_textbook(case: Case) -> None:
    with planned(module._RELATIVE_COST, 0.0):
        assert difference(case) <= 1e-4


@pytest.mark.parametrize("relative_cost", [module._RELATIVE_COST, FREE])
@given(case=cases())
def test_the_approximate_scores_keep_their_bound(relative_cost: float, case: Case) -> None:
    """P is symmetric, so an error of the polynomial moves a row's scores by no more than that times the row."""
    train = interactions(case.train)
    with planned(module._RELATIVE_COST, 0.0):
        exact = case.spec.fit(train, rng=0).score(train)
    with planned(relative_cost, module._TOLERANCE):
        scores = case.spec.fit(train, rng=0).score(train)
    largest = np.abs(case.spec.response(np.linspace(0, 1, 1001))[0]).max()
    lengths = np.sqrt(case.spec.weighting.rows(train, train.item_degrees).power(2).sum(axis=1))
    errors = np.linalg.norm(scores.astype(float) - exact, axis=1)
    assert (errors <= 1.05 * module._TOLERANCE * largest * lengths + 1e-5 * np.abs(exact).max()).all()


PUBLISHED = {
    "gowalla": BSPM(low_pass=LowPass(rank=20, weight=0.2), sharpen=Flow(solver="rk4", duration=2.5)),
    "yelp2018": BSPM(low_pass=LowPass(rank=20), sharpen=Flow(duration=1.2), output="mean"),
    "amazon-book": BSPM(low_pass=None, sharpen=Flow(solver="rk4", duration=2.2, steps=2), merge="late"),
    "gf-cf": BSPM(low_pass=LowPass(rank=20), sharpen=None),
    "lgcn-ide": BSPM(blur=Flow(duration=2.0, steps=2), low_pass=None, sharpen=None, history="normalized"),
}
"""The published settings, with a rank that fits a 60 × 90 matrix."""


@pytest.mark.parametrize("shape", [(60, 90), (90, 60)])
@pytest.mark.parametrize("relative_cost", [module._RELATIVE_COST, FREE])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings_as_they_are_scored(
    name: str, relative_cost: float, shape: tuple[int, int]
) -> None:
    train = matrix(*shape, 0.1, seed=4)
    with planned(relative_cost, module._TOLERANCE):
        assert difference(Case(train, matrix(5, shape[1], 0.1, seed=5), PUBLISHED[name])) <= 1e-4


@pytest.mark.parametrize("rank", [30, 60])
def test_deflation_is_used_where_it_is_cheap_and_changes_nothing(rank: int) -> None:
    """A lower degree and some eigenvectors, in place of the full degree; at the full rank as well."""
    train = matrix(60, 90, 0.2, seed=1)
    spec = BSPM(low_pass=LowPass(rank=rank, weight=0.2), sharpen=Flow(solver="rk4", duration=2.5))
    with planned(FREE, module._TOLERANCE):
        model = spec.fit(interactions(train), rng=0)
        assert len(model.plan.polynomial.coefficients) < spec.degree
        assert rank < model.plan.encode.shape[1] == model.plan.decode.shape[0] <= 2 * rank
        assert difference(Case(train, matrix(5, 90, 0.3, seed=2), spec)) <= 1e-4
    with planned(module._RELATIVE_COST, 0.0):
        model = spec.fit(interactions(train), rng=0)
        assert len(model.plan.polynomial.coefficients) == spec.degree
        assert model.plan.encode.shape[1] == rank


@pytest.mark.parametrize("relative_cost", [module._RELATIVE_COST, FREE])
@pytest.mark.parametrize("duration", [5.0, 10.0, 20.0])
def test_long_processes_in_many_steps(relative_cost: float, duration: float) -> None:
    """A polynomial that fits on a part of the spectrum grows fast beyond it."""
    train = matrix(60, 90, 0.2, seed=1)
    spec = BSPM(low_pass=LowPass(rank=30), sharpen=Flow(solver="rk4", duration=duration, steps=15))
    with planned(relative_cost, module._TOLERANCE):
        assert difference(Case(train, matrix(5, 90, 0.3, seed=2), spec)) <= 1e-4


# ------------------------------------------------------------------------------------------- closed forms


def test_gf_cf_is_one_blur_and_the_filter() -> None:
    train = matrix(40, 25, 0.2, seed=7)
    p = textbook.normalized(train).T @ textbook.normalized(train)
    model = BSPM(low_pass=LowPass(rank=6, weight=0.4), sharpen=None).fit(interactions(train), rng=0)
    expected = train @ (p + 0.4 * textbook.low_pass(train, 6))
    np.testing.assert_allclose(model.score(interactions(train)), expected, rtol=0, atol=1e-5 * expected.max())


@pytest.mark.parametrize("blurs", [1, 2])
def test_lgcn_ide_blurs_a_normalized_row(blurs: int) -> None:
    train = matrix(40, 25, 0.2, seed=8)
    p = textbook.normalized(train).T @ textbook.normalized(train)
    spec = BSPM(
        blur=Flow(duration=float(blurs), steps=blurs), low_pass=None, sharpen=None, history="normalized"
    )
    expected = textbook.normalized(train) @ np.linalg.matrix_power(p, blurs)
    scores = spec.fit(interactions(train)).score(interactions(train))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5 * expected.max())


def test_the_authors_default_is_one_euler_step_of_each_process() -> None:
    train = matrix(40, 60, 0.2, seed=9)
    p = textbook.normalized(train).T @ textbook.normalized(train)
    expected = train @ (p + 0.3 * textbook.low_pass(train, 8)) @ (np.eye(60) - p)
    spec = BSPM(low_pass=LowPass(rank=8, weight=0.3), sharpen=Flow())
    scores = spec.fit(interactions(train), rng=0).score(interactions(train))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("solver", "steps", "near"), [("euler", 400, 1e-2), ("rk4", 100, 1e-4)])
def test_many_steps_are_near_the_exact_solution(
    solver: Literal["euler", "rk4"], steps: int, near: float
) -> None:
    """The limits are e^(P − 1) and e^(−2P), which a polynomial of some hundred degrees approximates."""
    train = matrix(30, 40, 0.2, seed=3)
    spec = BSPM(
        blur=Flow(duration=1.0, steps=steps, solver=solver),
        sharpen=Flow(duration=2.0, steps=steps, solver=solver),
        low_pass=LowPass(rank=5, weight=0.3),
    )
    values, vectors = np.linalg.eigh(textbook.normalized(train).T @ textbook.normalized(train))
    blurred = vectors * np.exp(values - 1) @ vectors.T
    sharpened = vectors * np.exp(-2 * values) @ vectors.T
    expected = train @ (blurred + 0.3 * textbook.low_pass(train, 5)) @ sharpened
    scores = spec.fit(interactions(train), rng=0).score(interactions(train))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=near * expected.max())


# ------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("history", ["counts", "normalized"])
def test_rows_are_scored_as_they_would_be_alone_across_blocks(
    history: Literal["counts", "normalized"],
) -> None:
    train = interactions(matrix(100, 50, 0.15, seed=2))
    model = BSPM(low_pass=LowPass(rank=10), history=history).fit(train, rng=0)
    expected = model.score(train)
    for size in (1, 31, 32, 33, 64, 99):
        parts = [model.score(train.take_users(slice(start, start + size))) for start in range(0, 100, size)]
        np.testing.assert_allclose(
            np.concatenate(parts), expected, rtol=0, atol=1e-6 * np.abs(expected).max()
        )
    assert model.score(train.take_users([])).shape == (0, 50)


def test_lists_do_not_depend_on_the_memory_order_of_the_scores() -> None:
    train = interactions(matrix(70, 50, 0.15, seed=2))
    scores = BSPM(low_pass=LowPass(rank=10)).fit(train, rng=0).score(train)
    ties = np.arange(50)
    for ordered in (np.ascontiguousarray(scores), np.asfortranarray(scores)):
        for ours, expected in zip(top_k(ordered, 7, ties), top_k(scores, 7, ties), strict=True):
            assert np.array_equal(ours, expected)


def test_weights_do_not_count() -> None:
    train = interactions(matrix(30, 20, 0.3, seed=1))
    weighted = Interactions.from_matrix(train.matrix * 3.5)
    spec = BSPM(low_pass=LowPass(rank=5))
    assert np.array_equal(spec.fit(train, rng=0).score(train), spec.fit(weighted, rng=0).score(weighted))


def test_an_item_without_users_is_not_recommended_and_changes_nothing() -> None:
    train = matrix(30, 20, 0.3, seed=1)
    train[:, 4] = 0
    model = BSPM(low_pass=LowPass(rank=20)).fit(interactions(train), rng=0)
    rows = np.zeros((2, 20))
    rows[0, [4, 9]], rows[1, 4] = 1, 1
    scores = model.score(interactions(rows))
    assert np.isfinite(scores).all()
    assert np.abs(scores[:, 4]).max() < 1e-12
    assert np.abs(scores[1]).max() < 1e-12  # its history holds no item that anyone has


def test_progress_reaches_the_end() -> None:
    events: list[ProgressEvent] = []
    train = interactions(matrix(80, 90, 0.1, seed=0))
    BSPM(low_pass=LowPass(rank=40)).fit(train, rng=0, progress=events.append)
    last = [event for event in events if event.stage == "filter the low-pass vectors"][-1]
    assert last.done == last.total == 40


def test_the_same_rng_gives_the_same_scores_and_another_nearly_so() -> None:
    train = interactions(matrix(80, 90, 0.1, seed=0))
    spec = BSPM(low_pass=LowPass(rank=10))
    one, same, other = (spec.fit(train, rng=rng).score(train) for rng in (3, 3, 4))
    assert np.array_equal(one, same)
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(one).max())


@pytest.mark.gpu
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_gpu_gives_the_same_scores(name: str) -> None:
    train = interactions(matrix(60, 90, 0.1, seed=4))
    cpu = PUBLISHED[name].fit(train, rng=0).score(train)
    gpu = PUBLISHED[name].fit(train, rng=0, device="cuda").score(train)
    np.testing.assert_allclose(gpu, cpu, rtol=0, atol=1e-4 * np.abs(cpu).max())


# ------------------------------------------------------------------------------------------- refusals


def test_a_rank_larger_than_the_matrix_is_all_there_is_with_a_note() -> None:
    train = interactions(matrix(30, 20, 0.3, seed=1))
    largest, larger = (BSPM(low_pass=LowPass(rank=rank)).fit(train, rng=0) for rank in (20, 448))
    assert np.array_equal(larger.score(train), largest.score(train))
    assert larger.notes == ("the low-pass filter has rank 20, the smaller side of the train matrix, not 448",)
    assert not largest.notes
    assert not BSPM(low_pass=None).fit(train).notes
    ((_, shared),) = share([BSPM(low_pass=LowPass(rank=5)), BSPM()], train, rng=0).passes
    small, wide = shared.ranks
    assert (small, wide) == (5, 20)


def test_an_empty_train_set_is_refused() -> None:
    with pytest.raises(DataError, match="at least one interaction; it is empty"):
        BSPM(low_pass=LowPass(rank=2)).fit(Interactions.from_matrix(np.zeros((4, 5))))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Flow(duration=0.0), "duration"),
        (lambda: Flow(steps=0), "steps"),
        (lambda: Flow(solver="dopri5"), "solver"),  # type: ignore[arg-type]
        (lambda: LowPass(rank=0), "rank"),
        (lambda: LowPass(weight=float("nan")), "weight"),
        (lambda: BSPM(merge="middle"), "merge"),  # type: ignore[arg-type]
        (lambda: BSPM(sharpn=None), "Did you mean 'sharpen'"),  # type: ignore[call-arg]
    ],
)
def test_bad_hyper_parameters_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make()


def test_weights_are_entries_of_a_matrix_of_norm_one() -> None:
    """Blur alone, one step: ``x·P`` with weighted rows, degrees of interactions, and R̃ divided by its largest singular value."""
    random = np.random.default_rng(3)
    weights = (random.random((40, 25)) < 0.3) * random.integers(1, 6, (40, 25))
    weights[0] = weights[:, 0] = 1  # nobody and nothing is empty
    data = Interactions.from_matrix(weights)
    taken = (weights > 0).astype(float)
    normalized = weights / np.sqrt(np.outer(taken.sum(axis=1), taken.sum(axis=0)))
    normalized /= np.linalg.norm(normalized, 2)
    spec = BSPM(low_pass=None, sharpen=None, weights="use")
    expected = weights @ normalized.T @ normalized
    np.testing.assert_allclose(spec.fit(data).score(data), expected, rtol=1e-4)
    binary = BSPM(low_pass=None, sharpen=None)
    shared = share([spec, binary], data)
    lists = np.concatenate([batch for _, batch in shared.rankings(data, k=5)], axis=1)
    for setting, own in zip((spec, binary), lists, strict=True):
        assert np.array_equal(own, setting.fit(data).recommend(data, k=5).positions)
