"""The points that a search tries: without repeats, and the same whatever interrupts it."""

import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from tests.tuning.searched import DIMS, ENDLESS, GRID, RATE, STEPS, WIDTH, Curve, Curves, search, worth
from unblur.errors import SpecError
from unblur.spec import Choice, Dimension, Range
from unblur.tuning.points import Points, number_of, point_at, point_of, set_point, size_of
from unblur.tuning.settings import SamplerName, Search

FINITE = st.lists(
    st.one_of(
        st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True).map(
            lambda values: Choice((*values,))
        ),
        st.tuples(st.integers(-5, 5), st.integers(0, 5)).map(lambda ends: Range(ends[0], sum(ends), 1)),
    ),
    min_size=1,
    max_size=3,
).map(lambda every: tuple(Dimension(f"d{n}", values, (f"d{n}",)) for n, values in enumerate(every)))


def points_of(points: Points, most: int = 10**6) -> list[dict[str, Any]]:
    numbered = [points.at(number) for number in range(points.count(most))]
    return [point for point in numbered if point is not None]


@given(FINITE, st.sampled_from(["random", "exhaustive"]), st.integers(0, 2**32), st.data())
def test_a_finite_space_is_tried_once_and_whole(
    space: tuple[Dimension, ...], sampler: SamplerName, seed: int, data: st.DataObject
) -> None:
    """The given point comes first; if it is in the space it is not repeated, else it is one more."""
    size = size_of(space)
    assert size is not None
    value = data.draw(st.integers(-10, 10))
    first = data.draw(st.none() | st.just({dimension.name: value for dimension in space}))
    points = points_of(Points(space, sampler, seed, first))
    texts = {str(sorted(point.items())) for point in points}
    outside = first is not None and number_of(space, first) is None
    assert len(texts) == len(points) == size + outside
    assert first is None or points[0] == first


@given(st.integers(0, 2**32), st.lists(st.integers(0, 7), min_size=1))
def test_a_point_follows_from_seed_and_number_alone(seed: int, order: list[int]) -> None:
    """Whatever points were drawn before, in another process or another order."""
    first = point_of(Curve(), ENDLESS)
    expected = points_of(Points(ENDLESS, "random", seed, first), 8)
    points = Points(ENDLESS, "random", seed, first)
    assert [points.at(number) for number in order] == [expected[number] for number in order]


@given(st.integers(0, 9))
def test_numbers_of_points_count_the_space(number: int) -> None:
    assert number_of(GRID, point_at(GRID, number)) == number
    assert number_of(GRID, {"width": 99, "dims": [4]}) is None
    assert number_of(ENDLESS, point_of(Curve(), ENDLESS)) is None


def test_a_large_space_costs_no_memory() -> None:
    digits = tuple(Dimension(f"d{n}", Choice(tuple(range(10))), (f"d{n}",)) for n in range(12))
    first = point_at(digits, 3)
    points = Points(digits, "exhaustive", 0, first)
    assert [number_of(digits, point) for point in points_of(points, 6)] == [3, 0, 1, 2, 4, 5]
    assert len(points_of(Points(digits, "random", 0, first), 6)) == 6


def test_a_sampler_that_cannot_end() -> None:
    with pytest.raises(SpecError, match=r"rate is a range"):
        Points(ENDLESS, "exhaustive", 0)


@pytest.mark.parametrize("first", [True, False])
def test_bayes_goes_where_it_was_good(first: bool) -> None:
    """Drawn evenly, rates would lie 1.9 from the best one in the mean of their logarithms' distances."""
    study = search(Curve(), (RATE,), Curves(), Search(trials=50, sampler="bayes"), seed=4, include_base=first)
    late = [abs(math.log(trial.point["rate"] / 0.01)) for trial in study.trials[30:]]
    assert sum(late) / len(late) < 1.2


def test_bayes_keeps_to_the_steps_of_a_range() -> None:
    study = search(Curve(), (STEPS, RATE), Curves(), Search(trials=20, sampler="bayes"))
    assert study.trials[0].point == {"width": 7, "rate": 0.5}  # outside of both
    assert all(trial.point["width"] % 5 == 0 for trial in study.trials[1:])
    assert all(isinstance(set_point(Curve(), (STEPS,), trial.point).width, int) for trial in study.trials)


@pytest.mark.parametrize("sampler", ["random", "exhaustive", "bayes"])
def test_trial_0_is_the_spec_as_given(sampler: SamplerName) -> None:
    """Its values need not be in the space; a value next to those of a choice is not drawn from then on, but by bayes."""
    study = search(Curve(), GRID, Curves(), Search(trials=30, sampler=sampler))
    assert study.trials[0].point == {"width": 7, "dims": [9]}
    assert study.trials[0].value == worth(Curve())
    assert len(study.trials) == (30 if sampler == "bayes" else 11)
    without_base = search(Curve(), GRID, Curves(), Search(trials=30, sampler=sampler), include_base=False)
    assert sampler == "bayes" or len(without_base.trials) == 10
    within = search(Curve(width=3, dims=(4,)), (WIDTH, DIMS), Curves(), Search(trials=30, sampler=sampler))
    assert within.trials[0].point == {"width": 3, "dims": [4]}
    assert sampler == "bayes" or len(within.trials) == 10
