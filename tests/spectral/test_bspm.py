"""BSPM against the textbook path: an ODE solver that is not ours, dense matrices, an exact decomposition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.spectral import textbook
from unblur.errors import CapabilityError, DataError
from unblur.interactions import Interactions
from unblur.spectral import BSPM, Flow, LowPass, bspm

flows = st.builds(
    Flow,
    duration=st.sampled_from([0.5, 1.0, 1.7, 2.5]),
    steps=st.integers(1, 3),
    solver=st.sampled_from(["euler", "rk4"]),
)
low_passes = st.builds(
    LowPass,
    rank=st.integers(1, 12),
    weight=st.sampled_from([0.1, 0.3, 1.0]),
    flow=st.one_of(st.just(Flow()), flows),
)
specs = st.builds(
    BSPM,
    blur=st.one_of(st.just(Flow()), flows),
    low_pass=st.one_of(st.none(), low_passes),
    sharpen=st.one_of(st.none(), flows),
    merge=st.sampled_from(["early", "late"]),
    output=st.sampled_from(["last", "mean"]),
    history=st.sampled_from(["counts", "normalized"]),
)


def some_rows(seed: int, users: int = 30, items: int = 18) -> np.ndarray:
    """0/1 rows in which the last user and the last item have nothing."""
    random = np.random.default_rng(seed)
    taste = random.normal(size=(users, 3)) @ random.normal(size=(3, items)) + random.normal(
        size=(users, items)
    )
    made = (taste > 1.0).astype(float)
    made[-1], made[:, -1] = 0.0, 0.0
    made[0, 0] = 1.0
    return made


def close(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-4) -> bool:
    return bool(np.abs(ours - theirs).max() <= tolerance * max(1e-9, np.abs(theirs).max()))


@given(spec=specs, seed=st.integers(0, 5))
def test_every_combination_of_options_equals_the_textbook(spec: BSPM, seed: int) -> None:
    train = some_rows(seed)
    model = spec.fit(Interactions.from_matrix(train), rng=0)
    known = np.flatnonzero(train.sum(axis=1))  # a user without a history gets popular items instead
    ours = model.score(Interactions.from_matrix(train)).astype(float)[known]
    degrees = train.sum(axis=0)
    singular = np.linalg.svd(textbook.normalized(train), compute_uv=False)
    rank = spec.low_pass.rank if spec.low_pass else 0
    if 0 < rank < len(singular) and singular[rank - 1] - singular[rank] < 1e-4:
        return  # the leading space is not unique
    assert degrees[-1] == 0
    assert close(ours, textbook.scores(spec, train, train)[known])


@given(spec=specs, seed=st.integers(0, 3))
def test_new_users_are_scored_as_the_textbook_scores_them(spec: BSPM, seed: int) -> None:
    train, new = some_rows(seed), some_rows(seed + 100, users=6)
    new[:, 2] = 1.0
    spec = BSPM(blur=spec.blur, low_pass=None, sharpen=spec.sharpen, output=spec.output, history=spec.history)
    model = spec.fit(Interactions.from_matrix(train))
    assert close(model.score(Interactions.from_matrix(new)).astype(float), textbook.scores(spec, train, new))


@pytest.mark.parametrize("cost", [1e-9, 1e9])
def test_deflation_changes_no_score_beyond_its_tolerance(
    monkeypatch: pytest.MonkeyPatch, cost: float
) -> None:
    train = some_rows(7, users=60, items=40)
    spec = BSPM(low_pass=LowPass(rank=30, weight=0.2), sharpen=Flow(duration=2.5, solver="rk4"))
    monkeypatch.setattr(bspm, "_RELATIVE_COST", cost)
    model = spec.fit(Interactions.from_matrix(train), rng=0)
    assert (model.plan.encode.shape[1] > 30) == (
        cost > 1
    )  # cheap thin products: eigenvectors are treated apart
    known = np.flatnonzero(train.sum(axis=1))
    ours = model.score(Interactions.from_matrix(train)).astype(float)[known]
    assert close(ours, textbook.scores(spec, train, train)[known])


def test_gf_cf_has_its_closed_form() -> None:
    train = some_rows(1)
    model = BSPM(sharpen=None, low_pass=LowPass(rank=4, weight=0.3)).fit(
        Interactions.from_matrix(train), rng=0
    )
    p = textbook.normalized(train).T @ textbook.normalized(train)
    expected = train @ (p + 0.3 * textbook.low_pass(train, 4))
    known = np.flatnonzero(train.sum(axis=1))
    assert close(model.score(Interactions.from_matrix(train)).astype(float)[known], expected[known])


def test_lgcn_ide_blurs_the_normalised_row() -> None:
    train = some_rows(2)
    spec = BSPM(history="normalized", blur=Flow(duration=2.0, steps=2), low_pass=None, sharpen=None)
    p = textbook.normalized(train).T @ textbook.normalized(train)
    known = np.flatnonzero(train.sum(axis=1))
    ours = spec.fit(Interactions.from_matrix(train)).score(Interactions.from_matrix(train)).astype(float)
    assert close(ours[known], (textbook.normalized(train) @ p @ p)[known])


def test_weights_do_not_count() -> None:
    rows = some_rows(3)
    weighted = Interactions.from_matrix(rows * 3.5)
    plain = Interactions.from_matrix(rows)
    spec = BSPM(low_pass=LowPass(rank=3))
    assert np.array_equal(spec.fit(weighted, rng=0).score(weighted), spec.fit(plain, rng=0).score(plain))


def test_items_that_nobody_has_get_finite_scores() -> None:
    train = Interactions.from_matrix(some_rows(4))
    scores = BSPM(low_pass=LowPass(rank=18)).fit(train, rng=0).score(train)
    assert np.isfinite(scores).all()


def test_a_rank_beyond_the_matrix_is_refused() -> None:
    with pytest.raises(DataError, match=r"30 × 18 matrix; saw 19\. Use at most 18"):
        BSPM(low_pass=LowPass(rank=19)).fit(Interactions.from_matrix(some_rows(5)))


def test_an_empty_train_is_refused() -> None:
    empty = Interactions.from_matrix(np.zeros((3, 4)))
    with pytest.raises(DataError, match="at least one interaction"):
        BSPM().fit(empty)


@pytest.mark.parametrize(("device", "said"), [("tpu", "must be"), ("cuda:99", "GPU|CUDA|cuda")])
def test_a_device_that_is_not_there_is_refused(device: str, said: str) -> None:
    with pytest.raises(CapabilityError, match=said):
        BSPM(low_pass=None).fit(Interactions.from_matrix(some_rows(6)), device=device)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_scores() -> None:
    train = Interactions.from_matrix(some_rows(8, users=80, items=50))
    for spec in (BSPM(low_pass=LowPass(rank=10)), BSPM(low_pass=None, output="mean")):
        cpu = spec.fit(train, rng=0).score(train)
        gpu = spec.fit(train, rng=0, device="cuda").score(train)
        assert np.abs(cpu - gpu).max() <= 1e-4
