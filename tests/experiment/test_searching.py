"""One search for run, tune and compare: the same settings, the same validation data, the same result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from unblur.cli.main import main
from unblur.data.catalogue.generation import demo_interactions
from unblur.data.interactions import Interactions
from unblur.data.splits import Random, Ratio
from unblur.errors import ArtifactError, RecipeError
from unblur.experiment.comparison.lineup import line_up
from unblur.experiment.comparison.running import compare
from unblur.experiment.ranking import prepare
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.running import measure
from unblur.experiment.searching import chooses, search_of, space_for
from unblur.experiment.validation import hold_outs
from unblur.progress import Run
from unblur.registry import RECOMMENDERS
from unblur.tuning.engine import SearchRequest
from unblur.tuning.points import space_of
from unblur.tuning.settings import Search, Validation

TINY: dict[str, dict[str, Any]] = {
    "diffrec": {
        "epochs": 2,
        "batch_size": 32,
        "denoiser": {"dims": [8]},
        "stopping": {"every": 1, "metric": "recall@5"},
    },
    "l-diffrec": {
        "epochs": 2,
        "batch_size": 32,
        "denoiser": {"dims": [8]},
        "autoencoder": {"encoder_dims": [8]},
        "stopping": {"every": 1, "metric": "recall@5"},
    },
    "lightgcn": {"epochs": 2},
    "mult-dae": {"epochs": 2, "dims": [8]},
    "mult-vae": {"epochs": 2, "dims": [8]},
    "neumf": {"epochs": 1, "factors": 2},
    "row-mlp": {"epochs": 1, "dims": [8]},
    "bspm": {"low_pass": {"rank": 16}},
    "truncated-svd": {"rank": 8},
    "pure-svd": {"rank": 8},
    "als": {"rank": 8},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("log") / "log.parquet"
    demo_interactions(n_users=90, n_items=60, rng=3).to_frame().write_parquet(place)
    return place


def recipe_of(kind: str, **sections: Any) -> Recipe:
    return Recipe.from_dict(
        {
            "name": f"{kind}/own",
            "seed": 3,
            "split": {"kind": "random"},
            "model": {"kind": kind, **TINY.get(kind, {})},
            "protocol": {"kind": "strict", "cutoffs": [5], "resamples": 0},
            "search": {"trials": 3},
            **sections,
        }
    )


@pytest.mark.parametrize("kind", sorted(RECOMMENDERS))
def test_every_kind_runs_under_the_strict_protocol(kind: str, file: Path) -> None:
    recipe = recipe_of(kind, search={"trials": 2})
    prepared = prepare(recipe, data=file)
    outcome = measure(prepared)
    assert outcome.report.protocol == "strict"
    assert chooses(recipe) == bool(space_of(recipe.model))
    if kind == "popularity":
        assert any("popularity has none to search" in note for note in outcome.report.notes)
    else:
        assert any(
            "on the last 10% of each user's train interactions" in note for note in outcome.report.notes
        )


@pytest.mark.parametrize("kind", ["ease", "bspm", "diffrec"])
def test_tune_compare_and_strict_run_the_same_search(
    kind: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []
    run = SearchRequest.run

    def recording(request: SearchRequest[Any]) -> Any:
        judge = request.judge
        identity = {**judge.identity, "metric": judge.metric, "how": judge.how, "users": judge.n_users}
        parts = (tuple(request.space), request.settings, request.seed, request.include_base)
        calls.append((request.base, *parts, identity))
        return run(request)

    monkeypatch.setattr(SearchRequest, "run", recording)
    place = tmp_path / "own.toml"
    place.write_text(recipe_of(kind).to_toml())
    strict = measure(prepare(load_recipe(place), data=file))
    compared = compare(line_up([str(place)], data=file))
    words = ["tune", place, "--data", file, "--out", tmp_path / "out"]
    assert main([*map(str, words)]) == 0
    assert len(calls) == 3
    assert calls[0] == calls[1] == calls[2]
    tuned = load_recipe(tmp_path / "out" / "recipe.toml")
    assert strict.recipe.model == tuned.model
    assert compared.results[0].chosen == {
        "kind": kind,
        **json.loads((tmp_path / "out" / "report.json").read_text())["provenance"]["spec"],
    }
    value = strict.report["recall@5"].value
    assert compared.figures[compared.results[0].name]["recall@5"].value == pytest.approx(value)
    command = ["run", tmp_path / "out" / "recipe.toml", "--data", file, "--out", tmp_path / "again"]
    assert main([*map(str, command)]) == 0  # and does not search again
    assert len(calls) == 3
    report = json.loads((tmp_path / "again" / "report.json").read_text())
    assert report["measurements"][0]["value"] == pytest.approx(value)


def test_tuning_every_kind_by_the_command(file: Path, tmp_path: Path) -> None:
    for kind in ("truncated-svd", "row-mlp", "neumf", "item-knn"):
        place = tmp_path / f"{kind}.toml"
        place.write_text(recipe_of(kind, search={"trials": 2}).to_toml())
        words = ["tune", place, "--data", file, "--out", tmp_path / kind]
        assert main([*map(str, words)]) == 0, kind
        assert pl.read_parquet(tmp_path / kind / "trials.parquet").height == 2
    place = tmp_path / "popularity.toml"
    place.write_text(recipe_of("popularity").to_toml())
    assert main(["tune", str(place), "--data", str(file), "--out", str(tmp_path / "none")]) == 2


def test_options_set_fields_of_the_section(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[Search] = []
    run = SearchRequest.run

    def recording(request: SearchRequest[Any]) -> Any:
        searches.append(request.settings)
        return run(request)

    monkeypatch.setattr(SearchRequest, "run", recording)
    place = tmp_path / "own.toml"
    place.write_text(recipe_of("ease").to_toml())
    words = ["tune", place, "--data", file, "--out", tmp_path / "out", "--trials", "2", "--hold-out", "both"]
    words += [
        "--draws",
        "2",
        "--users",
        "30",
        "--sampler",
        "exhaustive",
        "--metric",
        "ndcg@3",
        "--seconds",
        "60",
    ]
    words += ["--pruner", "median", "--trainings", "2"]
    assert main([*map(str, words)]) == 0
    validation = Validation(how="both", draws=2)
    whole_search = Search(
        trials=2,
        validation=validation,
        users=30,
        sampler="exhaustive",
        metric="ndcg@3",
        seconds=60.0,
        pruner="median",
        trainings=2,
    )
    assert searches == [whole_search]
    defaults = [
        "compare",
        place,
        "--data",
        file,
        "--trials",
        "2",
        "--hold-out",
        "block",
        "--out",
        tmp_path / "all",
    ]
    assert main([*map(str, defaults)]) == 0
    assert searches[1] == Search(trials=2, validation=Validation(how="block"))


def test_validation_data_by_default(log: Interactions) -> None:
    """It is the split's validation part; else the last in time under strict with times; else random."""
    part = Ratio(validation=0.2, held_out=0.2).apply(log, rng=0)
    plain = Random(fraction=0.2).apply(log, rng=0)
    timeless = replace(
        plain,
        **{
            name: Interactions(side.matrix, side.users, side.items)
            for name, side in (
                ("train", plain.train),
                ("histories", plain.train),
                ("held_out", plain.held_out),
            )
        },
    )
    assert hold_outs(part, Validation(), True, 0).how == "the validation part of the split"
    assert hold_outs(plain, Validation(), True, 0).how.startswith("the last 10%")
    assert hold_outs(plain, Validation(), False, 0).how.startswith("a random 10%")
    assert hold_outs(timeless, Validation(), True, 0).how.startswith("a random 10%")
    both = hold_outs(plain, Validation(how="both", fraction=0.3, draws=2), False, 0)
    assert len(both.splits) == 4
    prints = {split.held_out.fingerprint() for split in both.splits}
    assert len(prints) == 4
    for split in both.splits:
        assert split.train.n_interactions + split.held_out.n_interactions == plain.train.n_interactions
    with pytest.raises(RecipeError, match="needs a validation part"):
        hold_outs(plain, Validation(how="part"), False, 0)
    with pytest.raises(RecipeError, match="can be drawn several times"):
        hold_outs(plain, Validation(how="last", draws=2), True, 0)


def test_recipes_on_long_tails_search_on_blocks() -> None:
    for name in shipped():
        search = load_recipe(name).search
        if name.endswith(("/gowalla", "/yelp2018")):
            assert (search.validation, search.users) == (Validation(how="block", draws=2), 2000)
        elif load_recipe(name).protocol.kind == "strict" and "diffrec" in name:
            assert search.trials == 1


def test_settings_of_a_shared_pass_have_their_own_values(file: Path) -> None:
    recipe = recipe_of("bspm", search={"trials": 8, "validation": {"how": "both"}})
    prepared = prepare(recipe, data=file)
    study = search_of(prepared, Run()).run()
    judge = prepared.judge(recipe.search, recipe.seed, Run())
    assert judge.shares
    for trial in (*study.trials[:2], study.best):
        spec = space_for(prepared)
        from unblur.tuning.points import set_point

        own = judge(set_point(recipe.model, spec, trial.point), 0, lambda epoch, value: False)
        assert trial.value == pytest.approx(own.value, abs=1e-3)


def test_users_are_a_sample(file: Path) -> None:
    prepared = prepare(recipe_of("ease"), data=file)
    judges = [prepared.judge(Search(users=users), 3, Run()) for users in (20, 20, None)]
    assert [judge.n_users for judge in judges[:2]] == [20, 20]
    assert judges[2].n_users > 20
    assert judges[0].identity == judges[1].identity != judges[2].identity


def test_checkpoints_keep_the_trials_of_the_strict_protocol(file: Path, tmp_path: Path) -> None:
    prepared = prepare(recipe_of("diffrec", search={"trials": 2}), data=file)
    first = measure(prepared, checkpoints=tmp_path)
    before = (tmp_path / "search" / "trials.log").read_bytes()
    resumed = measure(prepared, checkpoints=tmp_path)
    assert (tmp_path / "search" / "trials.log").read_bytes().startswith(before)
    assert resumed.recipe.model == first.recipe.model
    other = prepare(recipe_of("diffrec", search={"trials": 2, "sampler": "bayes"}), data=file)
    with pytest.raises(ArtifactError, match="sampler"):
        measure(other, checkpoints=tmp_path)


def test_values_of_a_stochastic_model_depend_on_the_training(file: Path) -> None:
    prepared = prepare(recipe_of("mult-vae", search={"trials": 1}), data=file)
    judge = prepared.judge(Search(), 3, Run())
    values = [
        judge(prepared.recipe.model, training, lambda epoch, value: False).value for training in (0, 0, 1)
    ]
    assert values[0] == values[1]
    assert np.isfinite(values).all()
