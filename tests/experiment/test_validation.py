"""Validation data: disjoint from train, drawn independently, and the dispersion of items in them."""

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
def split() -> Split:
    return Random(fraction=0.1).apply(demo_interactions(n_users=400, n_items=300, rng=1), rng=0)


@pytest.fixture(scope="module")
def train(split: Split) -> Interactions:
    return split.train


def splits_of(split: Split, how: ValidationData, draws: int = 1, fraction: float = 0.2) -> list[Split]:
    settings = Validation(how=how, draws=draws, fraction=fraction)
    return list(hold_outs(split, settings, strict=False, seed=7).splits)


def test_train_and_held_out_parts_add_up_to_train(split: Split, train: Interactions) -> None:
    for part in splits_of(split, "both", draws=2):
        train_part, held_out = part.train, part.held_out
        assert (train_part.users, train_part.items) == (train.users, train.items)
        assert train_part.matrix.multiply(held_out.matrix).nnz == 0
        assert abs(train_part.matrix + held_out.matrix - train.matrix).sum() == 0
        assert (train_part.user_degrees[train.user_degrees > 0] > 0).all()
        np.testing.assert_allclose(held_out.user_degrees, 0.2 * train.user_degrees, atol=0.5)


def test_a_block_is_a_run_of_a_users_items(split: Split, train: Interactions) -> None:
    (held_out,) = [part.held_out for part in splits_of(split, "block", fraction=0.3)]
    for user in range(0, train.n_users, 17):
        items = train.matrix.indices[train.matrix.indptr[user] : train.matrix.indptr[user + 1]]
        held_items = held_out.matrix.indices[held_out.matrix.indptr[user] : held_out.matrix.indptr[user + 1]]
        assert (np.diff(np.searchsorted(items, held_items)) == 1).all()


def test_draws_differ_and_can_be_repeated(split: Split) -> None:
    prints = [part.held_out.fingerprint() for part in splits_of(split, "both", draws=2)]
    assert len(set(prints)) == 4
    assert prints == [part.held_out.fingerprint() for part in splits_of(split, "both", draws=2)]
    assert prints[:1] == [part.held_out.fingerprint() for part in splits_of(split, "random")]


def test_hold_outs_that_make_no_sense_are_refused(split: Split) -> None:
    with pytest.raises(RecipeError, match="needs a validation part"):
        splits_of(split, "part")
    with pytest.raises(RecipeError, match="draws is 2"):
        splits_of(split, "last", draws=2)
    pairs = Interactions.from_matrix(np.eye(9) + np.roll(np.eye(9), 1, axis=0))
    single = Random(fraction=0.5).apply(pairs, rng=0)
    with pytest.raises(DataError, match="Something must be held out"):
        splits_of(single, "random")


# ------------------------------------------------------------------------------------------- dispersion


def dispersion_of_draws(data: Interactions, probability: float | np.ndarray, seed: int) -> float:
    """The dispersion of a hold-out that takes each interaction by a draw of its own."""
    is_taken = np.random.default_rng(seed).random(data.n_interactions) < probability
    return dispersion(data.keep(~is_taken), data.keep(is_taken))


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.7])
def test_independent_draws_have_a_dispersion_of_one(probability: float) -> None:
    data = generated(600, 400, 14_000, rng=0)
    values = [dispersion_of_draws(data, probability, seed) for seed in range(40)]
    assert np.mean(values) == pytest.approx(1, abs=0.04)
    assert np.std(values) < 0.1


def test_holding_out_popular_items_more_often_raises_the_dispersion() -> None:
    data = generated(600, 400, 14_000, rng=0)
    popular = data.item_degrees[data.matrix.indices] > np.median(data.item_degrees[data.matrix.indices])
    assert dispersion_of_draws(data, np.where(popular, 0.4, 0.1), 0) > 2


def test_random_hold_outs_have_a_dispersion_of_one_and_blocks_more(split: Split) -> None:
    spread = {
        how: [dispersion(part.train, part.held_out) for part in splits_of(split, how, draws=4)]
        for how in ("random", "block")
    }
    assert np.mean(spread["random"]) == pytest.approx(1, abs=0.1)
    assert min(spread["block"]) > max(spread["random"])


def test_dispersion_is_the_root_mean_square_of_z() -> None:
    """Two items of 20 users: of 40 interactions 10 are held out, 8 of the one and 2 of the other."""
    held_out = np.zeros((20, 2))
    held_out[:8, 0], held_out[8:10, 1] = 1, 1
    remaining = 1 - held_out
    z = (8 - 5) / np.sqrt(20 * 0.25 * 0.75)
    assert dispersion(
        Interactions.from_matrix(remaining), Interactions.from_matrix(held_out)
    ) == pytest.approx(z)


@pytest.mark.parametrize("everything", [True, False])
def test_dispersion_of_too_few_interactions_is_zero(train: Interactions, everything: bool) -> None:
    few = train.keep(np.arange(train.n_interactions) < 15)
    assert dispersion(few, few) == 0.0
    empty = train.keep(np.zeros(train.n_interactions, dtype=bool))
    assert (dispersion(empty, train) if everything else dispersion(train, empty)) == 0.0
