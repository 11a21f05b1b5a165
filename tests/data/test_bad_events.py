"""Bad events: each is refused with what must hold, what was seen and what to do, and nothing is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, SpecError
from unblur.models.linear.ease import EASE

NAN = float("nan")


def pairs(**changes: Any) -> Callable[[], Interactions]:
    """A call of `from_pairs` on three good events with some columns changed."""
    columns: dict[str, Any] = {"users": [1, 1, 2], "items": ["x", "y", "x"], **changes}
    return lambda: Interactions.from_pairs(**columns)


@pytest.mark.parametrize(
    ("build", "facts"),
    [
        # nulls
        (
            pairs(users=[1, None, 2]),
            ["users must have no nulls", "1 of 3 are null", "row 1", "Drop those rows"],
        ),
        (
            pairs(items=["x", None, None]),
            ["items must have no nulls", "2 of 3 are null", "row 1", "fill them in"],
        ),
        (
            pairs(users=[1.0, NAN, 2.0]),
            ["users must be integers or strings", "Float64", "a column had nulls"],
        ),
        (
            pairs(weights=pl.Series([1.0, None, 1.0])),
            ["weights must have no nulls", "1 of 3", "row 1", "Drop"],
        ),
        (pairs(timestamps=pl.Series([1, 2, None])), ["timestamps must have no nulls", "row 2", "Drop"]),
        (pairs(weights=[1.0, None, 1.0]), ["weights must be a column of numbers", "object", "Convert it"]),
        # bad numbers
        (
            pairs(weights=[1.0, NAN, 1.0]),
            ["weights must be finite", "saw nan in row 1", "Drop such rows or correct"],
        ),
        (pairs(weights=[1.0, np.inf, 1.0]), ["weights must be finite", "saw inf in row 1"]),
        (pairs(weights=[1.0, 1.0, -2.0]), ["weights must be positive", "saw -2.0 in row 2", "min_rating"]),
        (pairs(weights=[1.0, 0.0, 1.0]), ["weights must be positive", "saw 0.0 in row 1", "min_rating"]),
        (pairs(weights=[1.0, 1e-60, 1.0]), ["weights must be positive", "vanish", "row 1"]),
        (pairs(weights=[1.0, 1e60, 1.0]), [r"weights must lie within ±3\.4e\+38", r"1e\+60", "Rescale"]),
        (
            pairs(users=[1, 1], items=["x", "x"], weights=[3e38, 3e38], duplicates="sum"),
            ["positive finite", "saw inf", "rescale"],
        ),
        (pairs(weights=["1", "2", "3"]), ["weights must be a column of numbers", "<U1", "Convert it"]),
        (pairs(weights=np.ones((3, 1))), ["weights must be a column of numbers", r"\(3, 1\)"]),
        (pairs(timestamps=[1.0, NAN, 3.0]), ["timestamps must be finite", "saw nan in row 1"]),
        (
            pairs(timestamps=[1.0, 2.5, 3.0]),
            ["timestamps must be whole numbers", "saw 2.5", "Round or rescale"],
        ),
        (pairs(timestamps=[1.0, 1e30, 3.0]), ["timestamps must lie within", r"1e\+30", "Rescale"]),
        (
            pairs(timestamps=np.array([1, 2**63, 3], dtype=np.uint64)),
            ["timestamps must lie within", "9223372036854775808"],
        ),
        (
            pairs(timestamps=np.array(["2020-01-01", "NaT", "2020-01-01"], dtype="datetime64[s]")),
            ["timestamps must have no nulls", "row 1", "Drop"],
        ),
        (
            pairs(timestamps=["2020-01-01"] * 3),
            ["timestamps must be a column of numbers", "<U10", "Convert it"],
        ),
        # ids
        (
            pairs(users=[1, -7, 2]),
            [r"users must lie in 0 … 2\*\*63", "saw -7 in row 1", "pass them as strings"],
        ),
        (
            pairs(users=np.array([1, 2**63 + 1, 2], dtype=np.uint64)),
            [r"users must lie in 0 … 2\*\*63", "saw 9223372036854775809 in row 1"],
        ),
        (
            pairs(items=[1, 2**64, 3]),
            [r"items must be all integers .* below 2\*\*63", "18446744073709551616"],
        ),
        (pairs(items=[1, "x", 3]), ["items must be all integers or all strings", "Convert them to strings"]),
        (pairs(items=[True, False, True]), ["items must be integers or strings", "Boolean"]),
        (pairs(items="xyz"), ["items must be a sequence", "'xyz'", "Put it in a list"]),
        # columns of different lengths
        (pairs(items=["x", "y"]), ["the same length", "users 3, items 2", "the same rows"]),
        (pairs(weights=[1.0]), ["the same length", "users 3, items 3, weights 1"]),
        (pairs(timestamps=[1]), ["the same length", "timestamps 1"]),
        # duplicates
        (
            pairs(users=[1, 2, 1, 1], items=["x", "x", "x", "x"]),
            ["must occur once", "1 occur more often", r"\(1, 'x'\)", 'duplicates="sum"'],
        ),
        (pairs(duplicates="mean"), ["must be one of raise, sum, first, last", "saw 'mean'"]),
        # vocabularies
        (
            pairs(item_vocabulary=Vocabulary(["x"])),
            ["All items must be in the given vocabulary", "1 are not: 'y'", "unknown_items"],
        ),
        (
            pairs(user_vocabulary=Vocabulary([1])),
            ["All users must be in the given vocabulary", "1 are not: 2", "Leave them out"],
        ),
        (pairs(item_vocabulary=Vocabulary([1])), ["of one type", "int labels and strings", "Convert them"]),
        (pairs(unknown_items="drop"), ["must be one of raise, ignore", "saw 'drop'"]),
        # ratings
        (pairs(min_rating=3), ["`min_rating` needs weights", "none were given", "Name the rating column"]),
    ],
)
def test_bad_events_are_refused(build: Callable[[], Interactions], facts: list[str]) -> None:
    with pytest.raises(DataError) as error:
        build()
    for fact in facts:
        assert error.match(fact)
    assert len(str(error.value)) < 400
    assert str(error.value).endswith(".")


def test_a_refusal_leaves_the_arguments_unchanged() -> None:
    users, weights = np.array([1, 1, 2]), np.array([1.0, NAN, 2.0])
    with pytest.raises(DataError):
        Interactions.from_pairs(users, ["x", "y", "x"], weights=weights)
    assert users.tolist() == [1, 1, 2]
    assert users.flags.writeable
    assert np.isnan(weights[1])


def test_a_hyper_parameter_out_of_range_is_refused() -> None:
    with pytest.raises(SpecError, match=r"ridge of EASE: input should be greater than 0; saw -1"):
        EASE(ridge=-1)
    with pytest.raises(SpecError, match=r"rigde is not a hyper-parameter of EASE\. Did you mean 'ridge'"):
        EASE(rigde=1)  # type: ignore[call-arg]


def test_a_ridge_too_small_for_the_data_is_refused() -> None:
    data = Interactions.from_matrix(np.ones((5, 5)))
    with pytest.raises(
        DataError, match=r"must be positive definite; it is not for ridge = 1e-30\. Raise `ridge`"
    ):
        EASE(ridge=1e-30).fit(data)
