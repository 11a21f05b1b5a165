"""Recipes: their sections, their TOML form, and bad recipes."""

import tomllib
from typing import Any

import pytest
from hypothesis import given, strategies as st

from unblur.data.splits import SPLITTINGS, Block, LeaveLast, Random, Time, Users
from unblur.errors import RecipeError
from unblur.experiment.ranking import RankingTask
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.parts import Data, KCore, Protocol, Published, Reading, Verified
from unblur.experiment.recipe.schema import Recipe, parse_settings
from unblur.experiment.recipe.toml import to_toml
from unblur.models.linear.ease import EASE
from unblur.models.popularity import Popularity
from unblur.models.spectral.bspm import BSPM, LowPass
from unblur.models.spectral.flow import Flow

ANY = {"model": {"kind": "popularity"}}

flows = st.builds(
    Flow,
    duration=st.floats(0.01, 100),
    steps=st.integers(1, 50),
    solver=st.sampled_from(["euler", "rk4"]),
)
models = st.one_of(
    st.builds(Popularity),
    st.builds(EASE, ridge=st.floats(1e-9, 1e9)),
    st.builds(
        BSPM,
        blur=flows,
        low_pass=st.none()
        | st.builds(LowPass, rank=st.integers(1, 999), weight=st.floats(-1, 1), flow=flows),
        sharpen=st.none() | flows,
        merge=st.sampled_from(["early", "late"]),
        output=st.sampled_from(["last", "mean"]),
    ),
)
shares = st.floats(0.01, 0.99)
# Surrogates cannot be written as UTF-8, so no file can hold them.
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
splits = st.one_of(
    st.builds(Random, fraction=shares, n=st.none() | st.integers(1, 9), part=st.none() | words),
    st.builds(Block, fraction=shares),
    st.builds(LeaveLast, n=st.integers(1, 9)),
    st.builds(Time, fraction=shares, after=st.none() | st.integers(-(2**40), 2**40)),
    st.builds(Users, fraction=shares, held_out_fraction=shares),
    st.builds(
        SPLITTINGS["files"],
        validation=st.sampled_from([None, "valid"]),
        histories=st.sampled_from(["train", "train-and-validation"]),
    ),
)
data = st.builds(
    Data,
    name=words,
    read=st.builds(
        Reading,
        user=st.none() | words | st.integers(0, 5),
        delimiter=st.sampled_from([None, ",", "\t", "::", "|"]),
        header=st.none() | st.booleans(),
        min_rating=st.none() | st.floats(0, 5),
    ),
    k_core=st.none() | st.builds(KCore, users=st.integers(1, 20), items=st.integers(1, 20)),
)
recipes = st.builds(
    Recipe,
    name=words,
    title=words,
    seed=st.integers(0, 2**32),
    data=data,
    task=st.builds(
        RankingTask,
        split=splits,
        model=models,
        protocol=st.builds(Protocol, cutoffs=st.just((20, 5)), averaging=st.just("all-users")),
    ),
    expected=st.dictionaries(
        st.sampled_from(["recall@20", "ndcg@5"]),
        st.builds(Published, value=st.floats(0, 1), within=st.floats(0, 1), source=words),
    ),
    verified=st.dictionaries(st.just("recall@5"), st.builds(Verified, value=st.floats(0, 1), source=words)),
)


@given(recipes)
def test_to_toml_and_back_is_identity(recipe: Recipe) -> None:
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert Recipe.from_dict(recipe.to_dict()) == recipe


plain = st.recursive(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(words, plain, max_size=6))
def test_toml_text_reads_back(values: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(values)) == values


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), {1, 2}, b"x"])
def test_toml_text_holds_plain_values_only(value: object) -> None:
    with pytest.raises(RecipeError, match="finite numbers"):
        to_toml({"a": value})


def test_off_stands_for_none_where_none_is_allowed() -> None:
    recipe = Recipe.from_toml('[model]\nkind = "bspm"\nsharpen = "off"\nlow_pass = "off"\n')
    assert recipe.model == BSPM(sharpen=None, low_pass=None)
    assert recipe.to_dict()["model"]["sharpen"] == "off"
    assert "k_core" not in recipe.to_dict()["data"]  # `None` is the default, so it is not written


def test_a_recipe_of_schema_1_keeps_the_defaults_of_its_time() -> None:
    def model(table: str, schema: str) -> Any:
        return Recipe.from_toml(f'{schema}\n[model]\nkind = "bspm"\n{table}\n').model

    before = BSPM(low_pass=LowPass(rank=256, weight=0.3), sharpen=Flow())
    assert model("", "schema = 1") == before
    assert model("", "schema = 2") == model("", "") == BSPM()
    assert model("low_pass = { rank = 8 }", "schema = 1").low_pass == LowPass(rank=8, weight=0.3)
    assert model('low_pass = "off"', "schema = 1") == BSPM(low_pass=None, sharpen=Flow())
    assert model("sharpen = { duration = 2.0 }", "schema = 1").sharpen == Flow(duration=2.0)
    written = Recipe.from_toml('schema = 1\n[model]\nkind = "bspm"\n').to_toml()
    assert written.startswith("schema = 2\n")
    assert Recipe.from_toml(written).model == before
    trained_on = {"schema": 1, "model": {"kind": "sdrm"}, "downstream": {"kind": "bspm"}}
    assert Recipe.from_dict(trained_on).to_dict()["downstream"]["low_pass"]["rank"] == 256


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_complete(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.title
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert set(recipe.expected) <= set(recipe.measured)


def test_what_is_shipped() -> None:
    sets = {
        "bspm": {"gowalla", "yelp2018", "amazon-book", "demo"},
        "blend": {"gowalla", "yelp2018"},
        "chebycf": {"gowalla", "yelp2018", "amazon-book"},
        "gf-cf": {"gowalla", "yelp2018", "amazon-book", "demo"},
        "ease": {"gowalla", "yelp2018", "amazon-book", "demo"},
        "popularity": {"gowalla", "yelp2018", "demo"},
        "lgcn-ide": {"gowalla", "yelp2018"},
    }
    assert {f"{family}/{data}" for family, names in sets.items() for data in names} <= set(shipped())


def test_published_numbers() -> None:
    published = {name: load_recipe(name).expected for name in shipped()}
    assert {key: entry.value for key, entry in published["bspm/gowalla"].items()} == {
        "recall@20": 0.1920,
        "ndcg@20": 0.1597,
    }
    assert published["bspm/yelp2018"]["recall@20"].within == 0.0003
    assert published["ease/yelp2018"]["ndcg@20"].value == 0.0552
    assert not published["popularity/gowalla"]
    assert all(entry.source for numbers in published.values() for entry in numbers.values())
    assert [entry.value for entry in published["diffrec/ml-1m"].values()] == [0.1058, 0.1787, 0.0901, 0.1148]
    assert published["l-diffrec/ml-1m"]["recall@20"].value == 0.1809
    assert not published["t-diffrec/ml-1m"]
    assert not published["diffrec/yelp"]
    verified = load_recipe("diffrec/ml-1m").verified
    assert {name: entry.value for name, entry in verified.items()} == {
        "recall@10": 0.1002,
        "recall@20": 0.1707,
        "ndcg@10": 0.0866,
        "ndcg@20": 0.1103,
    }


@pytest.mark.parametrize("family", ["diffrec", "l-diffrec"])
def test_settings_of_our_own_are_held_against_the_same_published_numbers(family: str) -> None:
    """No tolerance is wider than where the authors' settings run, and only hyper-parameters differ."""
    authors, ours = load_recipe(f"{family}/ml-1m"), load_recipe(f"{family}/ml-1m-tuned")
    assert (ours.data, ours.task.split, ours.protocol, ours.seed) == (
        authors.data,
        authors.task.split,
        authors.protocol,
        authors.seed,
    )
    assert ours.model.kind == authors.model.kind
    assert ours.model != authors.model
    numbers = [
        {name: (entry.value, entry.within) for name, entry in each.expected.items()}
        for each in (authors, ours)
    ]
    assert numbers[0] == numbers[1]
    assert set(ours.verified) == set(ours.expected)


def test_measured_numbers_of_settings_of_our_own() -> None:
    measured = {
        family: [entry.value for entry in load_recipe(f"{family}/ml-1m-tuned").verified.values()]
        for family in ("diffrec", "l-diffrec")
    }
    assert measured["diffrec"] == [0.1052, 0.1776, 0.0902, 0.1147]
    assert measured["l-diffrec"] == [0.1035, 0.1790, 0.0846, 0.1109]


def test_published_numbers_of_synthetic_users() -> None:
    """Lilienthal et al. 2024, Recall@10 with augmented data; tolerances are at most two deviations over runs."""
    columns = {"svd": 0, "mlp": 1, "neumf": 2}
    rows = {
        "ml-100k": (0.3924, 0.3839, 0.2320),
        "alb": (0.3390, 0.3246, 0.3225),
        "ml-1m": (0.3722, 0.3595, 0.1026),
        "adm": (0.0651, 0.0868, 0.0234),
    }
    for data, values in rows.items():
        for downstream, column in columns.items():
            (entry,) = load_recipe(f"sdrm/{data}-{downstream}").expected.items()
            assert entry[0] == "full capped_recall@10"
            assert entry[1].value == values[column]
    within = {data: load_recipe(f"sdrm/{data}-svd").expected["full capped_recall@10"].within for data in rows}
    assert within == {"ml-100k": 0.014, "alb": 0.045, "ml-1m": 0.008, "adm": 0.009}
    verified = load_recipe("sdrm/ml-100k-svd").verified
    assert verified["full capped_recall@10"].value == 0.3717
    assert verified["ease capped_recall@10"].value == 0.3916


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": {}}, "modle is not a part of a recipe. Did you mean 'model'?"),
        ({"model": {}}, "[model] The kind of the model must be given"),
        ({"model": {"kind": "bsmp"}}, "Did you mean 'bspm'?"),
        (
            {"model": {"kind": "ease", "rigde": 1}},
            "[model] rigde is not a hyper-parameter of EASE. Did you mean 'ridge'?",
        ),
        (
            {"model": {"kind": "ease", "ridge": "1"}},
            "[model] ridge of EASE: input should be a valid number; saw '1'.",
        ),
        ({"model": {"kind": "ease", "ridge": -1}}, "greater than 0; saw -1"),
        (
            {"model": {"kind": "bspm", "sharpen": {"durration": 1}}},
            "[model] sharpen.durration is not a hyper-parameter of BSPM. Did you mean 'duration'?",
        ),
        (
            {"model": {"kind": "bspm", "sharpen": "of"}},
            "sharpen of BSPM must be a table or \"off\"; saw 'of'",
        ),
        ({"model": {"kind": "bspm", "blur": "off"}}, "blur of BSPM must be a table; saw 'off'"),
        ({**ANY, "schema": 3}, "A recipe must be of schema 1 or 2; saw 3."),
        ({**ANY, "schema": True}, "A recipe must be of schema 1 or 2; saw True."),
        ({**ANY, "seed": -1}, "seed must be a non-negative whole number; saw -1."),
        ({**ANY, "seed": "7"}, "seed must be a non-negative whole number; saw '7'."),
        ({**ANY, "seed": True}, "saw True."),
        ({**ANY, "name": 3}, "name must be a string; saw 3."),
        ({**ANY, "data": "gowalla"}, "data must be a table; saw 'gowalla'."),
        ({**ANY, "data": {"nmae": "demo"}}, "[data] nmae is not"),
        ({**ANY, "data": {"read": {"usr": "u"}}}, "Did you mean 'user'?"),
        ({**ANY, "split": {"kind": "radnom"}}, "[split] kind must be one of"),
        ({**ANY, "split": {"kind": "random", "fraction": 1.5}}, "[split] fraction of Random"),
        ({**ANY, "split": {"kind": "leave-last", "fraction": 0.5}}, "[split] fraction is not"),
        (
            {**ANY, "protocol": {"kind": "strikt"}},
            "[protocol] kind of Protocol: input should be 'paper' or 'strict'",
        ),
        ({**ANY, "protocol": {"metrics": ["recal"]}}, "Did you mean 'recall'?"),
        ({**ANY, "protocol": {"cutoffs": [0]}}, "[protocol]"),
        (
            {**ANY, "expected": {"recall@10": {"value": 1, "within": 0, "source": "x"}}},
            "Only what the protocol measures",
        ),
        ({**ANY, "expected": {"recall@20": {"value": 1, "source": "x"}}}, '[expected."recall@20"]'),
        ({**ANY, "expected": {"recall@20": 0.1}}, "must be a table"),
        (
            {**ANY, "expected": {"recall@20": {"value": 1, "within": -1, "source": "x"}}},
            "greater than or equal to 0",
        ),
    ],
)
def test_refused_with_the_place_and_the_nearest_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        Recipe.from_dict(values)
    assert message in str(refusal.value)


def test_text_that_is_no_toml_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"must be valid TOML; .*line 2"):
        Recipe.from_toml("seed = 1\nmodel = 1 2\n")


def test_a_recipe_cannot_be_changed_in_place() -> None:
    recipe = load_recipe("bspm/demo")
    with pytest.raises(AttributeError):
        recipe.seed = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        recipe.expected["recall@20"] = None  # type: ignore[index]


@pytest.mark.parametrize("section", ["data", "search"])
def test_a_kind_of_a_section_without_kinds_is_refused(section: str) -> None:
    with pytest.raises(RecipeError, match=rf"\[{section}\].*kind"):
        load_recipe("ease/demo").changed({f"{section}.kind": "random"})


@pytest.mark.parametrize(
    "text",
    [
        "[model]\nkind = [1]",
        "[model]\nkind = { a = 1 }",
        '[split]\nkind = [1]\n[model]\nkind = "ease"',
        '[model]\nkind = "ease"\nridge' + ".a" * 3000 + " = 1",
        "x = " + "[" * 3000 + "]" * 3000,
        "seed = " + "9" * 100_000,
    ],
    ids=["kind of a list", "kind of a table", "split of a list", "dotted", "nested", "digits"],
)
def test_toml_of_any_shape_is_read_or_refused(text: str) -> None:
    with pytest.raises(RecipeError):
        Recipe.from_toml(text)


@pytest.mark.parametrize(
    "setting",
    [
        "model.kind=[1]",
        "model" + ".a" * 3000 + "=1",
        "model.ridge=" + "[" * 3000 + "]" * 3000,
        "model.ridge=" + "9" * 100_000,
    ],
    ids=["kind of a list", "dotted", "nested", "digits"],
)
def test_settings_of_any_shape_are_taken_or_refused(setting: str) -> None:
    with pytest.raises(RecipeError):
        Recipe.from_dict({"model": {"kind": "ease"}}).changed(parse_settings([setting]))
