"""Validation data: disjoint from train, drawn independently, and how unevenly they take items."""

from __future__ import annotations

import numpy as np
import pytest

from unblur.data.catalogue.generation import demo_interactions, generated
from unblur.data.interactions import Interactions
from unblur.data.splits import Random, Split
from unblur.errors import DataError, RecipeError
from unblur.experiment.validation import dispersion, hold_outs
from unblur.tuning.settings import Validation, ValidationData


@pytest.fixture(scope="module")
def whole() -> Split:
    return Random(fraction=0.1).apply(demo_interactions(n_users=400, n_items=300, rng=1), rng=0)


@pytest.fixture(scope="module")
def train(whole: Split) -> Interactions:
    return whole.train


def drawn(whole: Split, how: ValidationData, draws: int = 1, fraction: float = 0.2) -> list[Split]:
    settings = Validation(how=how, draws=draws, fraction=fraction)
    return list(hold_outs(whole, settings, strict=False, seed=7).splits)


def test_what_is_held_out_and_what_stays_make_the_whole(whole: Split, train: Interactions) -> None:
    for one in drawn(whole, "both", draws=2):
        kept, held = one.train, one.held_out
        assert (kept.users, kept.items) == (train.users, train.items)
        assert kept.matrix.multiply(held.matrix).nnz == 0
        assert abs(kept.matrix + held.matrix - train.matrix).sum() == 0
        assert (kept.user_degrees[train.user_degrees > 0] > 0).all()
        np.testing.assert_allclose(held.user_degrees, 0.2 * train.user_degrees, atol=0.5)


def test_a_block_is_a_run_of_a_users_items(whole: Split, train: Interactions) -> None:
    (held,) = [one.held_out for one in drawn(whole, "block", fraction=0.3)]
    for user in range(0, train.n_users, 17):
        own = train.matrix.indices[train.matrix.indptr[user] : train.matrix.indptr[user + 1]]
        taken = held.matrix.indices[held.matrix.indptr[user] : held.matrix.indptr[user + 1]]
        assert (np.diff(np.searchsorted(own, taken)) == 1).all()


def test_every_draw_is_another_one_and_comes_again(whole: Split) -> None:
    prints = [one.held_out.fingerprint() for one in drawn(whole, "both", draws=2)]
    assert len(set(prints)) == 4
    assert prints == [one.held_out.fingerprint() for one in drawn(whole, "both", draws=2)]
    assert prints[:1] == [one.held_out.fingerprint() for one in drawn(whole, "random")]


def test_hold_outs_that_make_no_sense_are_refused(whole: Split) -> None:
    with pytest.raises(RecipeError, match="needs a validation part"):
        drawn(whole, "part")
    with pytest.raises(RecipeError, match="draws is 2"):
        drawn(whole, "last", draws=2)
    pairs = Interactions.from_matrix(np.eye(9) + np.roll(np.eye(9), 1, axis=0))
    single = Random(fraction=0.5).apply(pairs, rng=0)
    with pytest.raises(DataError, match="Something must be held out"):
        drawn(single, "random")


# ------------------------------------------------------------------------------------------- dispersion


def taken_by_chance(data: Interactions, chance: float | np.ndarray, seed: int) -> float:
    """The dispersion of a hold-out that takes each interaction by a draw of its own."""
    taken = np.random.default_rng(seed).random(data.n_interactions) < chance
    return dispersion(data.keep(~taken), data.keep(taken))


@pytest.mark.parametrize("chance", [0.1, 0.3, 0.7])
def test_independent_draws_have_a_dispersion_of_one(chance: float) -> None:
    data = generated(600, 400, 14_000, rng=0)
    values = [taken_by_chance(data, chance, seed) for seed in range(40)]
    assert np.mean(values) == pytest.approx(1, abs=0.04)
    assert np.std(values) < 0.1


def test_popular_items_that_are_taken_more_often_raise_it() -> None:
    data = generated(600, 400, 14_000, rng=0)
    popular = data.item_degrees[data.matrix.indices] > np.median(data.item_degrees[data.matrix.indices])
    assert taken_by_chance(data, np.where(popular, 0.4, 0.1), 0) > 2


def test_random_hold_outs_have_one_and_blocks_more(whole: Split) -> None:
    spread = {
        how: [dispersion(one.train, one.held_out) for one in drawn(whole, how, draws=4)]
        for how in ("random", "block")
    }
    assert np.mean(spread["random"]) == pytest.approx(1, abs=0.1)
    assert min(spread["block"]) > max(spread["random"])


def test_dispersion_is_the_root_mean_square_of_z() -> None:
    """Two items of 20 users: of 40 interactions 10 are held out, 8 of the one and 2 of the other."""
    held = np.zeros((20, 2))
    held[:8, 0], held[8:10, 1] = 1, 1
    kept = 1 - held
    z = (8 - 5) / np.sqrt(20 * 0.25 * 0.75)
    assert dispersion(Interactions.from_matrix(kept), Interactions.from_matrix(held)) == pytest.approx(z)


@pytest.mark.parametrize("everything", [True, False])
def test_dispersion_without_enough_to_go_by_is_zero(train: Interactions, everything: bool) -> None:
    few = train.keep(np.arange(train.n_interactions) < 15)
    assert dispersion(few, few) == 0.0
    nothing = train.keep(np.zeros(train.n_interactions, dtype=bool))
    assert (dispersion(nothing, train) if everything else dispersion(train, nothing)) == 0.0
