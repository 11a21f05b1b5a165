"""Validation data: disjoint from train, drawn independently, and how unevenly they take items."""

from __future__ import annotations

import numpy as np
import pytest

from unblur.data.catalogue.demonstration import demo_interactions
from unblur.data.catalogue.generation import generated
from unblur.data.interactions import Interactions
from unblur.errors import DataError, SpecError
from unblur.tuning.hold_outs import dispersion, hold_outs


@pytest.fixture(scope="module")
def train() -> Interactions:
    return demo_interactions(n_users=400, n_items=300, rng=1)


def prints(data: Interactions, **asked: object) -> dict[str, str]:
    """The fingerprint of what each hold-out takes, by its name."""
    made = hold_outs(data, **{"kinds": ("random", "block"), "draws": 2, "fraction": 0.2, "rng": 7, **asked})  # type: ignore[arg-type]
    return {one.name: one.split.held_out.fingerprint() for one in made}


def test_what_is_held_out_and_what_stays_make_the_whole(train: Interactions) -> None:
    for one in hold_outs(train, kinds=("random", "block"), draws=2, fraction=0.2, rng=0):
        kept, held = one.split.train, one.split.held_out
        assert one.split.histories is kept
        assert (kept.users, kept.items) == (train.users, train.items)
        assert kept.matrix.multiply(held.matrix).nnz == 0
        assert abs(kept.matrix + held.matrix - train.matrix).sum() == 0
        assert (kept.user_degrees[train.user_degrees > 0] > 0).all()
        np.testing.assert_allclose(held.user_degrees, 0.2 * train.user_degrees, atol=0.5)


def test_a_block_is_a_run_of_a_users_items(train: Interactions) -> None:
    held = hold_outs(train, kinds=("block",), draws=1, fraction=0.3, rng=0)[0].split.held_out
    for user in range(0, train.n_users, 17):
        own = train.matrix.indices[train.matrix.indptr[user] : train.matrix.indptr[user + 1]]
        taken = held.matrix.indices[held.matrix.indptr[user] : held.matrix.indptr[user + 1]]
        places = np.searchsorted(own, taken)
        assert (np.diff(places) == 1).all()


def test_a_hold_out_does_not_depend_on_which_others_are_asked_for(train: Interactions) -> None:
    whole = prints(train)
    assert len(set(whole.values())) == 4
    assert prints(train) == whole
    assert prints(train, kinds=("block",)).items() <= whole.items()
    assert prints(train, kinds=("block", "random")) == whole
    assert prints(train, draws=1).items() <= whole.items()
    assert set(prints(train, draws=3)) > set(whole)
    assert prints(train, draws=3).items() >= whole.items()
    assert not set(prints(train, rng=8).values()) & set(whole.values())


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kinds": ()}, "at least one hold-out; saw 0 kinds"),
        ({"draws": 0}, "at least one hold-out; saw 2 kinds and 0 draws"),
        ({"kinds": ("blok",)}, r"one of random, block; saw 'blok'\. Did you mean 'block'\?"),
        ({"fraction": 1.0}, "less than 1; saw 1.0"),
    ],
)
def test_hold_outs_that_make_no_sense_are_refused(
    train: Interactions, asked: dict[str, object], message: str
) -> None:
    with pytest.raises((DataError, SpecError), match=message):
        prints(train, **asked)


def test_users_with_one_item_leave_nothing_to_hold_out() -> None:
    with pytest.raises(DataError, match="Something must be held out"):
        prints(Interactions.from_matrix(np.eye(9)))


# ------------------------------------------------------------------------------------------- dispersion


def drawn(data: Interactions, chance: float | np.ndarray, seed: int) -> float:
    """The dispersion of a hold-out that takes each interaction by a draw of its own."""
    taken = np.random.default_rng(seed).random(data.n_interactions) < chance
    return dispersion(data.keep(~taken), data.keep(taken))


@pytest.mark.parametrize("chance", [0.1, 0.3, 0.7])
def test_independent_draws_have_a_dispersion_of_one(chance: float) -> None:
    data = generated(600, 400, 14_000, rng=0)
    values = [drawn(data, chance, seed) for seed in range(40)]
    assert np.mean(values) == pytest.approx(1, abs=0.04)
    assert np.std(values) < 0.1


def test_popular_items_that_are_taken_more_often_raise_it() -> None:
    data = generated(600, 400, 14_000, rng=0)
    popular = data.item_degrees[data.matrix.indices] > np.median(data.item_degrees[data.matrix.indices])
    assert drawn(data, np.where(popular, 0.4, 0.1), 0) > 2


def test_random_hold_outs_have_one_and_blocks_more(train: Interactions) -> None:
    spread: dict[str, list[float]] = {"random": [], "block": []}
    for one in hold_outs(train, kinds=("random", "block"), draws=4, fraction=0.2, rng=0):
        spread[one.kind].append(dispersion(one.split.train, one.split.held_out))
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
