"""Specs: frozen, strict, and helpful about mistakes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from hypothesis import given, strategies as st
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from unblur.errors import SpecError
from unblur.spec import replace_field, set_path, spec, spec_from_dict, spec_to_dict


@spec
class Schedule:
    steps: PositiveInt = 10
    scale: PositiveFloat = 0.5
    shape: Literal["linear", "cosine"] = "linear"


@spec
class Network:
    layers: tuple[PositiveInt, ...] = (100, 50)
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    label: str = "plain"


@spec
class Model:
    schedule: Schedule = Schedule()
    network: Network | None = Network()
    cutoffs: dict[str, int] = dataclasses.field(default_factory=dict)
    warm_start: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Model:
        if self.warm_start and self.network is None:
            raise ValueError("A warm start needs a network; saw none. Give one, or turn `warm_start` off.")
        return self


def test_a_spec_is_frozen_and_takes_keywords_only() -> None:
    schedule = Schedule(steps=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.steps = 4  # type: ignore[misc]
    with pytest.raises(SpecError, match="positional"):
        Schedule(3)  # type: ignore[call-arg]
    assert schedule == Schedule(steps=3)
    assert hash(schedule) == hash(Schedule(steps=3))


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({"stepps": 3}, [r"\bstepps\b", "not a hyper-parameter of Schedule", "Did you mean 'steps'"]),
        ({"Steps": 3}, [r"\bSteps\b", "Did you mean 'steps'"]),
        ({"qqq": 3}, [r"\bqqq\b", "Known names: scale, shape, steps"]),
        ({"steps": "3"}, ["steps of Schedule", "integer", "'3'"]),
        ({"steps": 3.0}, ["steps of Schedule", "integer", "3.0"]),
        ({"steps": True}, ["steps of Schedule", "integer", "True"]),
        ({"steps": 0}, ["steps of Schedule", "greater than 0", "saw 0"]),
        ({"scale": "much"}, ["scale of Schedule", "number", "'much'"]),
        ({"scale": float("nan")}, ["scale of Schedule", "finite", "nan"]),
        ({"scale": float("inf")}, ["scale of Schedule", "finite", "inf"]),
        ({"shape": "cosin"}, ["shape of Schedule", "'linear' or 'cosine'", "'cosin'"]),
        ({"steps": None}, ["steps of Schedule", "integer", "None"]),
    ],
)
def test_a_wrong_value_is_refused_and_named(values: dict[str, Any], facts: list[str]) -> None:
    builds: list[Callable[[], Schedule]] = [
        lambda: Schedule(**values),
        lambda: spec_from_dict(Schedule, values),
    ]
    for build in builds:
        with pytest.raises(SpecError) as error:
            build()
        for fact in facts:
            assert error.match(fact)


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({"schedule": {"stepps": 3}}, [r"schedule\.stepps", "Did you mean 'steps'"]),
        ({"schedule": {"Scale": 3}}, [r"schedule\.Scale", "Did you mean 'scale'"]),
        ({"network": {"layer": [3]}}, [r"network\.layer", "Did you mean 'layers'"]),
        ({"network": {"layers": [3, 0]}}, [r"network\.layers\.1 of Model", "greater than 0", "saw 0"]),
        ({"network": {"dropout": 1}}, [r"network\.dropout of Model", "less than 1", "saw 1"]),
        ({"network": 5}, ["network of Model", "saw 5"]),
        ({"shedule": {}}, [r"\bshedule\b", "Did you mean 'schedule'"]),
        ({"warm_start": "yes"}, ["warm_start of Model", "boolean", "'yes'"]),
        (
            {"warm_start": True, "network": None},
            ["A warm start needs a network", "saw none", "turn `warm_start` off"],
        ),
    ],
)
def test_a_wrong_nested_value_is_refused_with_its_place(values: dict[str, Any], facts: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        spec_from_dict(Model, values)
    for fact in facts:
        assert error.match(fact)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(SpecError, match=r"(?s)steps of.*scale of.*nope is not"):
        spec_from_dict(Schedule, {"steps": -1, "scale": -1, "nope": 1})


@pytest.mark.parametrize("values", [3, {"scale": object()}, {"scale": np.float32(1)}, {"scale": {1, 2}}])
def test_values_that_no_file_can_hold_are_refused(values: Any) -> None:
    with pytest.raises(SpecError, match="takes plain numbers, strings, lists and tables"):
        spec_from_dict(Schedule, values)


schedules = st.builds(
    Schedule,
    steps=st.integers(1, 10**9),
    scale=st.floats(1e-300, 1e300),
    shape=st.sampled_from(["linear", "cosine"]),
)
networks = st.builds(
    Network,
    layers=st.lists(st.integers(1, 999)).map(tuple),
    dropout=st.floats(0, 0.99),
    label=st.text(),
)
models = st.builds(
    Model,
    schedule=schedules,
    network=st.none() | networks,
    cutoffs=st.dictionaries(st.text(), st.integers()),
)


@given(models)
def test_a_spec_is_restored_from_its_plain_values(model: Model) -> None:
    values = spec_to_dict(model)
    assert spec_from_dict(Model, values) == model
    assert spec_from_dict(Model, json.loads(json.dumps(values))) == model


def test_integers_are_taken_for_floats_and_lists_for_tuples() -> None:
    assert spec_from_dict(Schedule, {"scale": 2}) == Schedule(scale=2.0)
    assert spec_from_dict(Network, {"layers": [1, 2]}) == Network(layers=(1, 2))


def test_a_field_at_a_path_is_replaced_in_a_copy() -> None:
    model = Model()
    copy = replace_field(model, "schedule.steps", 3)
    assert copy == Model(schedule=Schedule(steps=3))
    assert model == Model()
    assert replace_field(model, "network", None).network is None
    assert replace_field(Model(network=None), "network.dropout", 0.5) == Model(network=Network(dropout=0.5))
    assert replace_field(model, "cutoffs.recall", 5).cutoffs == {"recall": 5}


@pytest.mark.parametrize(
    ("path", "new", "facts"),
    [
        ("schedule.stps", 3, [r"schedule\.stps", "Did you mean 'steps'"]),
        ("shedule.steps", 3, [r"\bshedule\b", "Did you mean 'schedule'"]),
        ("schedule.steps", "3", [r"schedule\.steps of Model", "'3'"]),
        ("schedule.steps.more", 3, [r"schedule\.steps of Model", "integer"]),
        ("", 3, ["not a hyper-parameter of Model"]),
    ],
)
def test_a_replaced_field_is_checked_by_the_same_schema(path: str, new: Any, facts: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        replace_field(Model(), path, new)
    for fact in facts:
        assert error.match(fact)


def test_setting_a_path_leaves_the_given_tables_alone() -> None:
    tree = {"a": {"b": 1}, "c": 2}
    assert set_path(tree, "a.b", 5) == {"a": {"b": 5}, "c": 2}
    assert set_path(tree, "d.e.f", 5) == {"a": {"b": 1}, "c": 2, "d": {"e": {"f": 5}}}
    assert tree == {"a": {"b": 1}, "c": 2}
