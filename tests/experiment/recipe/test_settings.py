"""Settings from the command line: parsing, the fields that they set, and their effect on published numbers."""

from typing import Any

import pytest

from unblur.data.splits import LeaveLast, Random
from unblur.errors import RecipeError
from unblur.experiment.recipe.library import load_recipe
from unblur.experiment.recipe.schema import parse_setting, parse_settings
from unblur.models.linear.ease import EASE
from unblur.models.spectral.bspm import LowPass
from unblur.models.spectral.flow import Flow


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("model.blur.duration=2", "model.blur.duration", 2),
        ("model.blur.duration = 2.5 ", "model.blur.duration", 2.5),
        ("model.sharpen=off", "model.sharpen", "off"),
        ('model.sharpen="off"', "model.sharpen", "off"),
        ("data.read.header=false", "data.read.header", False),
        ("protocol.cutoffs=[10, 20]", "protocol.cutoffs", [10, 20]),
        ("model.sharpen={duration=2, steps=1}", "model.sharpen", {"duration": 2, "steps": 1}),
        ("data.read.delimiter=::", "data.read.delimiter", "::"),
        ("data.read.delimiter==", "data.read.delimiter", "="),
        ("data.read.user=user id", "data.read.user", "user id"),
        ("data.read.user=2020-01-01", "data.read.user", "2020-01-01"),
        ("title=1\nseed = 3", "title", "1\nseed = 3"),
        ("model.merge=late", "model.merge", "late"),
    ],
)
def test_values_are_toml_and_words_need_no_quotes(text: str, path: str, value: Any) -> None:
    assert parse_setting(text) == (path, value)


@pytest.mark.parametrize("text", ["", "model.merge", "=3", "model.merge=", "model..merge=late", ".a=1"])
def test_words_that_are_no_setting_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="must have the form path=value"):
        parse_setting(text)


def test_a_path_is_set_once() -> None:
    with pytest.raises(RecipeError, match="seed is set twice"):
        parse_settings(["seed=1", "seed=2"])


def test_settings_change_one_value_each() -> None:
    recipe = load_recipe("bspm/gowalla")
    copy = recipe.changed({"model.low_pass.rank": 64, "model.sharpen": "off", "seed": 7})
    assert copy.model.low_pass == LowPass(rank=64, weight=0.2)
    assert copy.model.sharpen is None
    assert copy.seed == 7
    assert recipe.model.sharpen == Flow(duration=2.5, solver="rk4")
    assert recipe.changed({}) is recipe


def test_setting_a_field_of_a_missing_part_adds_the_part() -> None:
    copy = load_recipe("bspm/amazon-book").changed({"model.low_pass.rank": 8})
    assert copy.model.low_pass == LowPass(rank=8)


def test_another_kind_starts_from_its_defaults() -> None:
    recipe = load_recipe("bspm/gowalla")
    assert recipe.changed({"model.ridge": 3, "model.kind": "ease"}).model == EASE(ridge=3)
    assert recipe.changed({"split.kind": "random"}).task.split == Random()
    assert recipe.changed({"split.n": 2, "split.kind": "leave-last"}).task.split == LeaveLast(n=2)
    assert recipe.changed({"model.kind": "bspm"}).model == recipe.model


@pytest.mark.parametrize(
    "setting",
    [
        {"model.kind": "popularity"},
        {"data.name": "demo"},
        {"split.kind": "random"},
        {"split.held_out": "valid"},
        {"protocol.kind": "strict"},
        {"protocol.averaging": "all-users"},
        {"protocol.cutoffs": [10]},
    ],
)
def test_published_numbers_are_dropped_if_they_no_longer_apply(setting: dict[str, Any]) -> None:
    assert not load_recipe("bspm/gowalla").changed(setting).expected


def test_published_numbers_stay_with_other_hyper_parameters_and_more_metrics() -> None:
    recipe = load_recipe("bspm/gowalla")
    settings = {"model.low_pass.rank": 64, "protocol.metrics": ["recall"], "protocol.cutoffs": [10, 20]}
    copy = recipe.changed(settings)
    assert set(copy.expected) == {"recall@20"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("low_pass.rank", "Did you mean 'model.low_pass.rank'?"),
        ("cutoffs", "Did you mean 'protocol.cutoffs'?"),
        ("modle.merge", "Did you mean 'model.merge'?"),
        ("sed", "Did you mean 'seed'?"),
        ("model.shapren.duration", "shapren is not a hyper-parameter of BSPM. Did you mean 'sharpen'?"),
        ("model.sharpen.duratoin", "Did you mean 'duration'?"),
        ("model", "model is a whole section"),
        ("expected", "expected states facts"),
        ("schema", "schema states facts"),
        ("nonsense", "nonsense is not a setting of a recipe"),
    ],
)
def test_unknown_paths_are_refused_with_the_nearest(path: str, message: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        load_recipe("bspm/gowalla").changed({path: 1})
    assert message in str(refusal.value)


def test_wrong_types_are_refused_with_the_place() -> None:
    with pytest.raises(RecipeError, match=r"\[model\] sharpen\.duration of BSPM: .*valid number; saw 'abc'"):
        load_recipe("bspm/gowalla").changed({"model.sharpen.duration": "abc"})
