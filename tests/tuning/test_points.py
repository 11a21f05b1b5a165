"""Search spaces of specs, and specs at points of them."""

import math

import pytest

from tests.tuning.searched import DIMS, RATE, WIDTH, Curve, Inner
from unblur.errors import SpecError
from unblur.models.linear.ease import EASE
from unblur.models.popularity import Popularity
from unblur.models.spectral.bspm import BSPM, LowPass
from unblur.spec import Choice, Range
from unblur.tuning.points import fits, point_of, set_point, size_of, space_of, value_at


def test_values_replace_those_of_the_spec_and_add_paths() -> None:
    defaults = {dimension.name: dimension.all() for dimension in space_of(BSPM())}
    space = {
        dimension.name: dimension.all()
        for dimension in space_of(BSPM(), {"merge": ("late",), "blur.duration": [0.5, 1.0, 0.5]})
    }
    assert space == {**defaults, "merge": ("late",), "blur.duration": (0.5, 1.0)}


def test_values_are_those_that_json_has() -> None:
    (dims,) = space_of(Curve(), {"dims": [(4, 2), (9,)]})
    assert dims.all() == ([4, 2], [9])
    assert set_point(Curve(), (dims,), {"dims": [4, 2]}) == Curve(dims=(4, 2))


def test_parts_that_are_left_out_are_not_searched() -> None:
    names = {d.name for d in space_of(BSPM(low_pass=None, sharpen=None), {"low_pass.rank": (4,)})}
    assert not any(name.startswith(("low_pass.", "sharpen.")) for name in names)
    (inner,) = space_of(Curve(), {"inner": (None, {"rank": 2})})
    assert set_point(Curve(), (inner,), {"inner": {"rank": 2}}) == Curve(inner=Inner(rank=2))
    assert value_at(Curve(), "inner.rank") is None


def test_ranks_beyond_the_matrix_are_left_out() -> None:
    changes = {"low_pass.rank": (16, 64, 256)}
    (rank,) = (d for d in space_of(BSPM(), changes, largest_rank=100) if d.name == "low_pass.rank")
    assert rank.all() == (16, 64)
    (rank,) = (d for d in space_of(BSPM(), changes, largest_rank=10) if d.name == "low_pass.rank")
    assert rank.all() == (10,)
    assert fits(BSPM(low_pass=LowPass(rank=16)), [rank], 16)
    assert not fits(BSPM(low_pass=LowPass(rank=17)), [rank], 16)


def test_a_spec_without_a_space_has_nothing_to_search() -> None:
    assert space_of(Popularity()) == ()
    assert [dimension.name for dimension in space_of(EASE(), {"ridge": (1.0, 2.0)})] == ["ridge", "dropout"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "blur.durration",
            r"blur\.durration is not a hyper-parameter of BSPM\. Did you mean 'blur\.duration'\?",
        ),
        ("low_pas.rank", r"Did you mean 'low_pass\.rank'\?"),
        ("low_pass", r"low_pass is not a hyper-parameter of BSPM\. Did you mean 'low_pass\.rank'\?"),
        ("output.last", "Did you mean 'output'"),
        ("", " is not a hyper-parameter"),
    ],
)
def test_unknown_paths_are_refused_by_the_nearest_name(path: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        space_of(BSPM(), {path: (1, 2)})


def test_a_path_without_values_is_refused() -> None:
    with pytest.raises(SpecError, match=r"merge has none"):
        space_of(BSPM(), {"merge": ()})


def test_points_of_specs() -> None:
    space = (WIDTH, DIMS, RATE)
    point = point_of(Curve(), space)
    assert point == {"width": 7, "dims": [9], "rate": 0.5}
    assert set_point(Curve(width=1), space, point) == Curve()
    assert size_of(space) is None
    assert size_of((WIDTH, DIMS)) == 10
    with pytest.raises(SpecError, match="must not be 13"):
        set_point(Curve(), (WIDTH,), {"width": 13})


def test_ranges() -> None:
    assert Range(1, 9, 2).values() == (0.0, 2.0, 4.0, 6.0, 8.0)  # multiples, as hyperopt rounds
    assert Range(-3, 0, logarithmic=True).at(0) == pytest.approx(math.exp(-3))
    assert Range(2, 4).values() is None
    assert [Choice(("a", "b")).at(place) for place in (0, 0.49, 0.5, 1)] == ["a", "a", "b", "b"]
    for bad in ((2, 1, None), (0, math.inf, None), (0, 1, 0)):
        with pytest.raises(SpecError, match="must run from"):
            Range(*bad)
