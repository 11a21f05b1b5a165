"""RecBole's tuning files, and its search."""

from pathlib import Path
from typing import Any

import pytest

from unblur.compat.recbole.configuration import configure, recipe_of
from unblur.compat.recbole.running import objective_function
from unblur.compat.recbole.tuning import (
    HyperTuning,
    params_of,
    read_params,
    run_hyper,
    space_of_params,
)
from unblur.data.catalogue.generation import demo_interactions
from unblur.errors import RecipeError
from unblur.models.spectral.bspm import BSPM
from unblur.spec import Choice, Dimension, Range
from unblur.tuning.points import set_point

ITS_OWN = """learning_rate choice [1e-3,1e-4,1e-5]
dims_dnn choice ['[300]','[200,600]','[1000]']
steps choice [2,5,10,50]
noice_scale choice [0,1e-5,1e-4,1e-3,1e-2,1e-1]
noice_min choice [5e-4,1e-3,5e-3]
noice_max choice [5e-3,1e-2]
w_min choice [0.1,0.2,0.3]
"""


def base(model: str = "DiffRec", **options: Any) -> Any:
    return recipe_of(configure(model, "ml-100k", options), own_file=False).model


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "hyper.test"
    path.write_text(text)
    return path


def space(tmp_path: Path, text: str, spec: Any, **more: Any) -> tuple[tuple[Dimension, ...], tuple[str, ...]]:
    return space_of_params(spec, read_params(written(tmp_path, text)), **more)


def test_misspelt_names_are_reported_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as refusal:
        space(tmp_path, ITS_OWN, base())
    for wrong, right in (
        ("noice_scale", "noise_scale"),
        ("noice_min", "noise_min"),
        ("noice_max", "noise_max"),
    ):
        assert f"{wrong} (line" in str(refusal.value)
        assert f"Did you mean '{right}'?" in str(refusal.value)


def test_they_are_left_out_when_told_to(tmp_path: Path) -> None:
    found, notes = space(tmp_path, ITS_OWN, base(), ignore_unknown=True)
    assert [dimension.name for dimension in found] == ["learning_rate", "dims_dnn", "steps"]
    assert sum("noice_" in note for note in notes) == 3
    assert notes[-1] == "not searched: w_min has no effect without time-aware"
    made = set_point(base(), found, {"learning_rate": 1e-4, "dims_dnn": [200, 600], "steps": 50})
    assert made == base(learning_rate=1e-4, dims_dnn=[200, 600], steps=50)
    timed, _ = space(tmp_path, ITS_OWN, base(**{"time-aware": True}), ignore_unknown=True)
    assert timed[-1].name == "w_min"
    assert timed[-1].values == Choice((0.1, 0.2, 0.3))


def test_every_type_of_range(tmp_path: Path) -> None:
    text = (
        "# a comment\n\nnoise_max uniform 0.01, 0.02\nsteps quniform 2,6,2\nlearning_rate loguniform -8,0\n"
    )
    found, notes = space(tmp_path, text, base("LDiffRec"))
    assert not notes
    assert found[0].values == Range(0.01, 0.02)
    assert found[1].values == Choice((2, 4, 6))
    assert found[2].values == Range(-8, 0, logarithmic=True)
    point = {"noise_max": 0.015, "steps": 4, "learning_rate": 0.01}
    assert set_point(base("LDiffRec"), found, point) == base("LDiffRec", **point)


def test_values_are_converted_as_options_are(tmp_path: Path) -> None:
    text = "in_dims choice ['[20,30]']\nae_act_func choice ['leakyrelu','none']\nmean_type choice ['eps']"
    found, _ = space(tmp_path, text, base("LDiffRec"))
    point = {"in_dims": [20, 30], "ae_act_func": "none", "mean_type": "eps"}
    assert set_point(base("LDiffRec"), found, point) == base("LDiffRec", **point)


def test_a_name_with_a_dot_is_a_path_of_the_spec(tmp_path: Path) -> None:
    text = "steps choice [2,5]\ndenoiser.dropout choice [0.25,0.75]\noptimizer.learning_rate loguniform -8,-4"
    found, notes = space(tmp_path, text, base("LDiffRec"))
    assert not notes
    assert [dimension.name for dimension in found] == ["steps", "denoiser.dropout", "optimizer.learning_rate"]
    made = set_point(
        base("LDiffRec"), found, {"steps": 2, "denoiser.dropout": 0.75, "optimizer.learning_rate": 0.5}
    )
    assert (made.schedule.steps, made.denoiser.dropout, made.optimizer.learning_rate) == (2, 0.75, 0.5)
    assert made.autoencoder.optimizer == base("LDiffRec").autoencoder.optimizer


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps choice", "line 1"),
        ("steps chioce [2]", "Did you mean 'choice'?"),
        ("steps choice 2", "must be a list"),
        ("steps choice __import__('os')", "must be a list"),
        ("noise_max uniform 1", "must be low,high"),
        ("noise_max quniform 1,2", "must be low,high,step"),
        ("noise_max uniform 2,1", "must run from"),
        ("steps uniform 2,5", "must be a whole number"),
        ("steps choice [2.5]", "steps must be a whole number"),
        ("steps choice [2]\nsteps choice [3]", "steps is there twice"),
        ("", "there is none"),
        ("seed choice [1,2]", "seed (line 1) is an option, but no hyper-parameter"),
        ("denoiser.dropuot choice [0.5]", "Did you mean 'denoiser.dropout'?"),
        ("denoiser.dropout choice [0.5,1.5]", "denoiser.dropout (line 1)"),
        ("denoiser choice [1]", "denoiser (line 1) is not a hyper-parameter"),
        ("time_weights.oldest choice [0.5]", "time_weights.oldest (line 1)"),
    ],
)
def test_lines_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        space(tmp_path, text, base())
    assert message in str(refusal.value)


def test_nothing_left_and_other_models(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="none remain"):
        space(tmp_path, "noice_min choice [1]", base(), ignore_unknown=True)
    with pytest.raises(RecipeError, match="saw bspm"):
        space(tmp_path, "steps choice [1]", BSPM())
    with pytest.raises(RecipeError, match="readable text"):
        read_params(tmp_path / "nowhere")


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "dataset" / "films"
    folder.mkdir(parents=True)
    frame = demo_interactions(n_users=60, n_items=60, rng=4).to_frame()
    lines = [f"{user}\t{item}" for user, item in frame.select("user", "item").iter_rows()]
    (folder / "films.inter").write_text("\n".join(["user_id:token\titem_id:token", *lines]))
    return folder.parent


@pytest.mark.parametrize("algo", ["exhaustive", "random", "bayes"])
def test_the_search_tests_the_winner_alone(films: Path, tmp_path: Path, algo: str) -> None:
    params = written(tmp_path, "learning_rate choice [1e-2,1e-3]\nsteps choice [1,2]\n")
    fixed = tmp_path / "fixed.yaml"
    fixed.write_text(
        f"model: DiffRec\ndataset: films\ndata_path: {films}\nepochs: 2\ndims_dnn: [8]\nuse_gpu: False\n"
    )
    found = run_hyper(params, [fixed], algo=algo, max_evals=3, folder=tmp_path / "trials")
    assert len(found.params2result) == (4 if algo == "exhaustive" else len(found.params2result))
    assert len(found.study.trials) == (4 if algo == "exhaustive" else 3)
    scores = [result["best_valid_score"] for result in found.params2result.values()]
    assert found.best_score == max(score for score in scores if score is not None)
    assert set(found.best_params) == {"learning_rate", "steps"}
    assert found.outcome.recipe.model.optimizer.learning_rate == found.best_params["learning_rate"]
    assert list(found.best_test_result) == ["recall@10", "mrr@10", "ndcg@10", "hit@10", "precision@10"]
    assert len(found.outcome.evaluations) == 1
    again = run_hyper(params, [fixed], algo=algo, max_evals=3, folder=tmp_path / "trials")
    assert again.params2result == found.params2result


def test_the_class_does_as_recboles(films: Path, tmp_path: Path) -> None:
    fixed = tmp_path / "fixed.yaml"
    fixed.write_text(
        f"model: DiffRec\ndataset: films\ndata_path: {films}\nepochs: 2\ndims_dnn: [8]\nuse_gpu: False\n"
    )
    params = written(tmp_path, "learning_rate choice [1e-2,1e-3]\n")
    search = HyperTuning(
        objective_function,
        algo="exhaustive",
        early_stop=10,
        max_evals=100,
        params_file=params,
        fixed_config_file_list=[fixed],
    )
    search.run()
    best = search.params2result[search.params2str(search.best_params)]
    assert best["best_valid_score"] == search.best_score
    assert best["test_result"] == search.best_test_result
    assert {*search.params2result} == {"learning_rate:0.01", "learning_rate:0.001"}
    search.export_result(tmp_path / "result")
    assert (tmp_path / "result").read_text().count("Test result:") == 1
    by_table = HyperTuning(
        objective_function,
        params_dict={"choice": {"learning_rate": [1e-2, 1e-3]}},
        fixed_config_file_list=str(fixed),
    )
    by_table.run()
    assert by_table.params2result == search.params2result


@pytest.mark.parametrize("algo", ["exhaustive", "random", "bayes"])
@pytest.mark.parametrize("bigger", [True, False])
def test_an_objective_of_ones_own(algo: str, bigger: bool, tmp_path: Path) -> None:
    seen = []

    def objective(config_dict: dict[str, Any], config_file_list: Any) -> dict[str, Any]:
        seen.append((config_dict, config_file_list))
        distance = abs(config_dict["n_layers"] - 3) + config_dict["its.weight"]
        return {
            "model": "LightGCN",
            "best_valid_score": 1 / (1 + distance) if bigger else distance,
            "valid_score_bigger": bigger,
            "best_valid_result": {"ndcg@10": 0.25, "mrr@10": 0.5},
            "test_result": {"ndcg@10": config_dict["n_layers"] / 10},
        }

    params = written(tmp_path, "n_layers choice [1,2,3,4]\nits.weight choice [0.5,0.25]\n")
    search = HyperTuning(
        objective,
        algo=algo,
        early_stop=100,
        max_evals=60,
        params_file=params,
        fixed_config_file_list=["fixed.yaml"],
    )
    search.run()
    assert search.best_params == {"n_layers": 3, "its.weight": 0.25}
    assert search.best_score == pytest.approx(0.8 if bigger else 0.25)
    assert search.best_test_result == {"ndcg@10": 0.3}
    assert all(set(options) == {"n_layers", "its.weight"} for options, _ in seen)
    assert all(files == ["fixed.yaml"] for _, files in seen)
    assert len(seen) == (60 if algo == "bayes" else 8)
    assert search.params2result["n_layers:3, its.weight:0.25"]["test_result"] == {"ndcg@10": 0.3}
    search.export_result(tmp_path / "result")
    text = (tmp_path / "result").read_text()
    assert text.count("Test result:") == len(search.params2result) == 8
    assert "n_layers:2, its.weight:0.5\nValid result:\nndcg@10 : 0.25    mrr@10 : 0.5\nTest result:\n" in text


def test_an_objective_ends_early_and_may_have_more_options() -> None:
    seen: list[int] = []

    def objective(config_dict: dict[str, Any], config_file_list: Any) -> dict[str, Any]:
        assert config_dict["dataset"] == "films"
        seen.append(config_dict["x"])
        return {"best_valid_score": -config_dict["x"], "valid_score_bigger": True}

    search = HyperTuning(objective, params_dict={"choice": {"x": [0, 1, 2, 3, 4, 5]}}, early_stop=2)
    search.run(config_dict={"dataset": "films"})
    assert seen == [0, 1, 2]
    assert search.best_params == {"x": 0}
    assert "2 trials in a row were no better" in search.notes[0]


def test_an_objective_that_returns_something_else(tmp_path: Path) -> None:
    for result in ({"score": 1}, 0.5):
        search = HyperTuning(lambda options, files, result=result: result, params_dict={"choice": {"x": [2]}})
        with pytest.raises(RecipeError, match="with best_valid_score and valid_score_bigger"):
            search.run()
    with pytest.raises(RecipeError, match="must not have a folder"):
        search.run(folder=tmp_path)
    with pytest.raises(RecipeError, match="The ranges must be given once"):
        HyperTuning(objective_function)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("noise_scale choice [0,0.1]", "noise_scale 0"),
        ("noise_scale uniform 0,0.1", "noise_scale 0"),
        ("schedule.scale choice [0.0]", "noise_scale 0"),
        ("reweight choice [True,False]", "LDiffRec without reweight"),
        ("n_cate choice [1,2]\nin_dims choice ['[30]','[30,20]']", "n_cate above 1"),
        ("n_cate choice [2]\nout_dims choice ['[30]']", "n_cate above 1"),
    ],
)
def test_what_ldiffrec_trains_otherwise_is_not_searched(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        space(tmp_path, text, base("LDiffRec"))


def test_a_table_of_ranges_is_that_of_a_file(tmp_path: Path) -> None:
    table = {
        "choice": {"dims_dnn": ["[300]", "[200,600]"]},
        "uniform": {"noise_max": [0.01, 0.02]},
        "quniform": {"steps": [2, 6, 2]},
        "loguniform": {"learning_rate": [-8, 0]},
    }
    text = (
        "dims_dnn choice ['[300]','[200,600]']\nnoise_max uniform 0.01,0.02\nsteps quniform 2,6,2\n"
        "learning_rate loguniform -8,0"
    )
    assert params_of(table) == read_params(written(tmp_path, text))


def test_an_algorithm_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="Did you mean 'bayes'"):
        run_hyper(tmp_path / "hyper.test", model="DiffRec", dataset="ml-100k", algo="bayess")
