"""Random numbers: from `rng` alone, by name, and never through a global state."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from unblur.randomness import RNG, generator, streams, torch_generator


def first_numbers(random: np.random.Generator) -> list[int]:
    numbers: list[int] = random.integers(0, 2**62, 8).tolist()
    return numbers


SEEDS: dict[str, Callable[[], RNG]] = {
    "int": lambda: 7,
    "sequence": lambda: np.random.SeedSequence(7, spawn_key=(1,)),
    "generator": lambda: np.random.default_rng(7),
}


@pytest.mark.parametrize("kind", SEEDS)
def test_the_same_rng_gives_the_same_numbers(kind: str) -> None:
    seed = SEEDS[kind]
    assert first_numbers(generator(seed())) == first_numbers(generator(seed()))
    first, second = streams(seed(), "a", "b"), streams(seed(), "a", "b")
    assert {name: first_numbers(random) for name, random in first.items()} == {
        name: first_numbers(random) for name, random in second.items()
    }


def test_a_generator_is_handed_on_as_it_is() -> None:
    random = np.random.default_rng(1)
    assert generator(random) is random


def test_no_rng_draws_fresh_entropy() -> None:
    assert first_numbers(generator(None)) != first_numbers(generator(None))
    assert first_numbers(streams(None, "a")["a"]) != first_numbers(streams(None, "a")["a"])


@pytest.mark.parametrize("kind", SEEDS)
def test_a_new_purpose_never_shifts_another(kind: str) -> None:
    seed = SEEDS[kind]
    few = streams(seed(), "weights", "noise")
    many = streams(seed(), "dropout", "noise", "shuffle", "weights")
    for purpose in few:
        assert first_numbers(few[purpose]) == first_numbers(many[purpose])


def test_purposes_and_seeds_have_streams_of_their_own() -> None:
    draws = [first_numbers(stream) for seed in (0, 1, 2) for stream in streams(seed, "a", "b", "aa").values()]
    draws.append(first_numbers(generator(0)))
    assert len({tuple(numbers) for numbers in draws}) == len(draws)


def test_streams_are_not_correlated() -> None:
    purposes = streams(3, *(f"purpose {number}" for number in range(6)))
    table = np.stack([stream.standard_normal(20_000) for stream in purposes.values()])
    correlation = np.corrcoef(table) - np.eye(6)
    assert np.abs(correlation).max() < 5 / np.sqrt(20_000)


def test_children_of_one_sequence_differ() -> None:
    one, other = np.random.SeedSequence(5).spawn(2)
    assert first_numbers(streams(one, "a")["a"]) != first_numbers(streams(other, "a")["a"])


def test_a_torch_generator_follows_rng() -> None:
    numbers = torch.rand(4, generator=torch_generator(5))
    assert torch.equal(numbers, torch.rand(4, generator=torch_generator(5)))
    assert not torch.equal(numbers, torch.rand(4, generator=torch_generator(6)))


def test_no_global_state_is_touched() -> None:
    numpy_before = str(np.random.get_state())  # noqa: NPY002 - the state that must not change
    python_before, torch_before = random.getstate(), torch.get_rng_state()
    streams(1, "a")["a"].random(3)
    torch_generator(1)
    generator(2).random(3)
    assert str(np.random.get_state()) == numpy_before  # noqa: NPY002
    assert random.getstate() == python_before
    assert torch.equal(torch.get_rng_state(), torch_before)
