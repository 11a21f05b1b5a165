"""The ideal low-pass alone, against its formula in dense matrices, and in a pass that many settings share."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.spectral import textbook
from tests.models.spectral.generated import distinct_ranks, interactions, matrix
from unblur.data.catalogue.generation import demo_interactions
from unblur.errors import SpecError
from unblur.models.spectral import BSPM, DegreePowers, Flow, IdealLowPass, LowPass
from unblur.models.spectral.operator import normalize
from unblur.models.spectral.shared_pass import share

POWERS = [
    DegreePowers(),
    DegreePowers(user=0.4, item=0.4, score=-0.15),
    DegreePowers(user=0.0, item=0.8, score=0.3),
]


@pytest.mark.parametrize("degrees", POWERS)
@pytest.mark.parametrize("bands", [(1.0,), (1.2, 0.7, 0.0)])
@pytest.mark.parametrize("shape", [(40, 25), (25, 40)])
def test_scores_are_those_of_the_formula(
    degrees: DegreePowers, bands: tuple[float, ...], shape: tuple[int, int]
) -> None:
    """``x·D_I^-h·V·diag(f)·Vᵀ·D_I^(h+e)`` with a user and an item of degree 0."""
    train, rows = matrix(*shape, 0.2, seed=3), matrix(6, shape[1], 0.3, seed=4)
    train[-1], train[:, -1], rows[0, -1] = 0, 0, 1
    rows[rows.sum(axis=1) == 0, 0] = 1
    spec = IdealLowPass(rank=distinct_ranks(train, degrees)[4], bands=bands, degrees=degrees)
    scores = spec.fit(interactions(train), rng=0).score(interactions(rows))
    projection = textbook.low_pass(train, spec.rank, degrees, bands)
    expected = rows @ projection * textbook.power(train.sum(axis=0), degrees.score)
    assert np.abs(scores - expected).max() <= 1e-4 * np.abs(expected).max()
    assert not scores[:, -1].any()


def test_it_is_the_low_pass_term_of_bspm() -> None:
    """BSPM whose blur takes no time has x itself next to the term; x is zero outside the history."""
    train = demo_interactions(n_users=300, n_items=200, rng=2)
    bands = (1.0, 0.5, 0.25, 0.125)
    whole = BSPM(
        blur=Flow(duration=1e-12), sharpen=None, low_pass=LowPass(rank=16, weight=1.0, bands=bands)
    ).fit(train, rng=0)
    alone = IdealLowPass(rank=16, bands=bands).fit(train, rng=0).score(train)
    expected = whole.score(train) - train.binarized().matrix.toarray()
    np.testing.assert_allclose(alone, expected, atol=1e-5 * np.abs(alone).max())


def test_one_r_is_normalized_as_ever_and_others_have_largest_singular_value_one() -> None:
    train = demo_interactions(n_users=900, n_items=600, rng=2)  # too large for a dense norm
    plain = normalize(train)
    degrees = train.user_degrees[:, None], train.item_degrees[None, :]
    expected = np.where(train.matrix.toarray() > 0, 1 / np.sqrt(np.maximum(degrees[0] * degrees[1], 1)), 0)
    np.testing.assert_allclose(plain.toarray(), expected, rtol=1e-6)
    other = normalize(train, DegreePowers(user=0.4, item=0.2))
    assert np.linalg.norm(other.toarray(), 2) == pytest.approx(1, abs=1e-5)


def test_settings_of_several_powers_and_bands_share_passes_and_rank_as_each_alone() -> None:
    train = demo_interactions(n_users=400, n_items=300, rng=3)
    specs = [
        IdealLowPass(rank=rank, bands=bands, degrees=degrees)
        for rank in (8, 20)
        for degrees in POWERS
        for bands in ((1.0,), (2.0, 1.0, 0.5), (1.0, 0.0))
    ]
    shared = share(specs, train, rng=0)
    assert len(shared.passes) == len(POWERS)
    lists = np.concatenate([positions for _, positions in shared.rankings(train, k=10)], axis=1)
    some = np.concatenate(
        [positions for _, positions in shared.rankings(train, k=10, settings=[17, 2, 9])], axis=1
    )
    for index, spec in enumerate(specs):
        own_lists = spec.fit(train, rng=0).recommend(train, k=10).positions
        assert np.mean(lists[index] == own_lists) >= 0.999
        if index in (17, 2, 9):
            assert np.array_equal(some[[17, 2, 9].index(index)], lists[index])


@pytest.mark.parametrize("values", [{"bands": ()}, {"degrees": {"user": 1.5}}, {"degrees": {"score": -2.0}}])
def test_values_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        IdealLowPass(**values)  # type: ignore[arg-type]
