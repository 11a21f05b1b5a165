"""Many settings ranked in one pass, against each of them fitted and ranked by itself."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from unblur.data.catalogue.generation import demo_interactions
from unblur.data.interactions import Interactions
from unblur.models.spectral.bspm import BSPM, LowPass
from unblur.models.spectral.chebycf import ChebyCF
from unblur.models.spectral.flow import Flow
from unblur.models.spectral.shared_pass import share
from unblur.progress import ProgressEvent


@pytest.fixture(scope="module")
def train() -> Interactions:
    return demo_interactions(n_users=400, n_items=300, rng=3)


def settings(n: int) -> list[BSPM]:
    random = np.random.default_rng(4)
    return [
        BSPM(
            sharpen=None
            if place % 9 == 8
            else Flow(
                duration=float(random.choice([0.5, 1.0, 1.5, 2.5])),
                steps=int(random.choice([1, 2])),
                solver=random.choice(["euler", "rk4"]).item(),
            ),
            low_pass=None
            if place % 7 == 6
            else LowPass(rank=int(random.choice([8, 16, 40])), weight=float(random.choice([0.1, 0.3]))),
            merge=random.choice(["early", "late"]).item(),
            output=random.choice(["last", "mean"]).item(),
        )
        for place in range(n)
    ]


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    pairs = zip(first.reshape(-1, first.shape[-1]), second.reshape(-1, second.shape[-1]), strict=True)
    return float(np.mean([len(set(one) & set(other)) / len(one) for one, other in pairs]))


def test_up_to_eight_settings_are_ranked_exactly(train: Interactions) -> None:
    specs = settings(8)
    shared = share(specs, train, rng=0)
    lists = np.concatenate([positions for _, positions in shared.rankings(train, k=10)], axis=1)
    for spec, shared_lists in zip(specs, lists, strict=True):
        own_lists = spec.fit(train, rng=0).recommend(train, k=10).positions
        assert overlap(shared_lists, own_lists) >= 0.999


def test_many_settings_are_ranked_nearly_exactly_and_chosen_ones_exactly(train: Interactions) -> None:
    specs = settings(60)
    shared = share(specs, train, rng=0)
    lists = np.concatenate([positions for _, positions in shared.rankings(train, k=10)], axis=1)
    own_lists = np.stack([spec.fit(train, rng=0).recommend(train, k=10).positions for spec in specs])
    assert overlap(lists, own_lists) >= 0.98
    exact_lists = np.concatenate(
        [positions for _, positions in shared.rankings(train, k=10, settings=[5, 17, 44])], axis=1
    )
    assert overlap(exact_lists, own_lists[[5, 17, 44]]) >= 0.999


@pytest.mark.parametrize("history", ["counts", "normalized"])
@pytest.mark.parametrize("left_out", [(), ("low_pass",), ("sharpen",), ("low_pass", "sharpen")])
def test_families_without_a_part_are_ranked_as_they_would_be_alone(
    train: Interactions, history: Literal["counts", "normalized"], left_out: tuple[str, ...]
) -> None:
    few = train.take_users(np.arange(100))
    specs = [
        BSPM(
            history=history,
            blur=Flow(duration=0.5 * rank / 8),
            low_pass=None if "low_pass" in left_out else LowPass(rank=rank),
            sharpen=None if "sharpen" in left_out else Flow(),
        )
        for rank in (8, 12, 16)
    ]
    shared = share(specs, train, rng=0)
    lists = np.concatenate([positions for _, positions in shared.rankings(few, k=10)], axis=1)
    own_lists = np.stack([spec.fit(train, rng=0).recommend(few, k=10).positions for spec in specs])
    assert overlap(lists, own_lists) >= 0.999
    assert np.mean(lists == own_lists) >= 0.99  # the order as well, but for near ties


def test_long_processes_in_many_steps_are_ranked_exactly(train: Interactions) -> None:
    few = train.take_users(np.arange(30))
    spec = BSPM(low_pass=LowPass(rank=16), sharpen=Flow(duration=20.0, steps=15, solver="rk4"))
    (result,) = share([spec], train, rng=0).rankings(few, k=10)
    assert overlap(result[1][0], spec.fit(train, rng=0).recommend(few, k=10).positions) >= 0.999


def test_a_row_with_too_few_items_left_ends_in_empty_places(train: Interactions) -> None:
    greedy = Interactions.from_matrix(np.ones((1, 300)) - np.eye(1, 300), items=train.items)
    (_, positions), *_ = share(settings(2), train, rng=0).rankings(greedy, k=3)
    assert positions.tolist() == [[[0, -1, -1]], [[0, -1, -1]]]


def test_progress_counts_the_rows(train: Interactions) -> None:
    events: list[ProgressEvent] = []
    for _ in share(settings(2), train, rng=0).rankings(train, k=3, progress=events.append):
        pass
    assert [event.done for event in events] == [*range(32, 400, 32), 400]
    assert {(event.stage, event.total) for event in events} == {("score all settings", 400)}


def test_items_of_the_history_are_left_out(train: Interactions) -> None:
    shared = share(settings(3), train, rng=0)
    for rows, positions in shared.rankings(train, k=10):
        histories = train.take_users(rows)
        for setting in positions:
            users = np.repeat(np.arange(histories.n_users), 10)
            assert not histories.contains(users, setting.ravel()).any()


@pytest.mark.parametrize("number", [1, 6])
def test_settings_of_different_weights_are_ranked_as_each_alone(train: Interactions, number: int) -> None:
    """Twelve of six weightings each have few settings, ranked exactly; six of two have a shortlist each."""
    bspms = [
        BSPM(low_pass=LowPass(rank=rank), history=history)
        for rank in (5, 10, 15, 20, 25)[: number + 1]
        for history in ("counts", "normalized")
    ]
    chebycfs = [
        ChebyCF(rank=rank, exponent=exponent, flatness=flatness)
        for rank in (5, 20)
        for flatness in (1.5, 3.0, 10.0)[:number]
        for exponent in (0.0, 0.3)
    ]
    for specs in (bspms, chebycfs):
        shared = share(specs, train, rng=0)
        for rows, positions in shared.rankings(train, k=5):
            histories = train.take_users(rows)
            for spec, lists in zip(specs, positions, strict=True):
                scores = spec.fit(train, rng=0).score(histories)
                best = -np.sort(-np.where(histories.matrix.toarray() > 0, -np.inf, scores), axis=1)[:, :5]
                np.testing.assert_allclose(np.take_along_axis(scores, lists, 1), best, atol=1e-4)
            break


def test_lists_longer_than_the_shortlist_end_with_no_items() -> None:
    users = np.repeat(np.arange(4), 2)
    train = Interactions.from_pairs(users, np.array([0, 1, 1, 2, 2, 0, 0, 2]))
    specs = [BSPM(low_pass=None, sharpen=Flow(duration=0.5 + 0.1 * index)) for index in range(20)]
    (_, positions), *_ = share(specs, train).rankings(train, k=60)
    assert positions.shape == (20, 4, 60)
    assert (np.sort(positions, axis=2)[..., :-1] == -1).all()
    assert (positions.max(axis=2) == [2, 0, 1, 1]).all()
