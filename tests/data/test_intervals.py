"""Intervals as text."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from unblur.data.intervals import Intervals
from unblur.errors import DataError

ENDS = st.floats(-5, 5).map(lambda end: round(end, 1))
PARTS = st.tuples(st.sampled_from("[("), ENDS, ENDS, st.sampled_from("])")).filter(
    lambda part: part[1] <= part[2]
)


@given(st.lists(PARTS, min_size=1, max_size=3), st.lists(ENDS))
def test_a_number_is_inside_if_it_is_in_one_of_them(
    parts: list[tuple[str, float, float, str]], values: list[float]
) -> None:
    text = ";".join(f"{left}{low}, {high}{right}" for left, low, high, right in parts)
    inside = [
        any(
            (low <= value if left == "[" else low < value)
            and (value <= high if right == "]" else value < high)
            for left, low, high, right in parts
        )
        for value in values
    ]
    intervals = Intervals.parse(text)
    assert intervals.contain(np.array(values, dtype=float)).tolist() == inside
    assert Intervals.parse(str(intervals)) == intervals


def test_no_interval_has_a_missing_number() -> None:
    assert not Intervals.parse("(-inf,inf)").contain(np.array([math.nan]))[0]


@pytest.mark.parametrize("text", ["", "5", "[5]", "[5,4]", "[1,2],[3,4]", "[a,b]", "5,6", "[1,2];"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="Intervals must be written"):
        Intervals.parse(text)
