"""RecBole's entry points: every name is known or refused, and the results are those of its protocol."""

import json
import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unblur.compat.recbole.configuration import configure, parameters, read_yaml, recipe_of
from unblur.compat.recbole.running import load_data_and_model, objective_function, run_recbole
from unblur.compat.translation import translate
from unblur.data.catalogue.generation import demo_interactions
from unblur.errors import ArtifactError, DataError, RecipeError
from unblur.experiment.recipe.library import load_recipe
from unblur.experiment.recipe.schema import Recipe
from unblur.models.diffusion.diffrec import DiffRec, LatentDiffRec
from unblur.models.diffusion.schedule import Schedule
from unblur.models.diffusion.settings import (
    Autoencoder,
    Denoiser,
    ItemClusters,
    Objective,
    Sampling,
    TimeWeights,
)
from unblur.training.settings import Optimizer, Stopping

QUICK = {"epochs": 3, "train_batch_size": 64, "dims_dnn": [8], "use_gpu": False}


def recipe(model: str = "DiffRec", **options: Any) -> Recipe:
    return recipe_of(configure(model, "ml-100k", options), own_file=False)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_path with an atomic file ``films/films.inter``."""
    folder = tmp_path_factory.mktemp("dataset")
    frame = demo_interactions(n_users=90, n_items=60, rng=4).to_frame()
    random = np.random.default_rng(1)
    lines = ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
    lines += [
        f"{user}\t{item}\t{random.integers(1, 6)}\t{time}"
        for time, (user, item) in enumerate(frame.select("user", "item").iter_rows())
    ]
    (folder / "films").mkdir()
    (folder / "films" / "films.inter").write_text("\n".join(lines) + "\n")
    return folder


# ------------------------------------------------------------------------------------------ names and values


@pytest.mark.parametrize(
    ("model", "name"), [("DiffRec", "diffrec/ml-100k"), ("LDiffRec", "l-diffrec/ml-100k")]
)
def test_the_defaults_are_the_shipped_recipes(model: str, name: str) -> None:
    made, shipped = recipe(model), load_recipe(name)
    assert (made.model, made.task.split, made.data, made.seed) == (
        shipped.model,
        shipped.task.split,
        shipped.data,
        shipped.seed,
    )
    assert made.protocol == shipped.protocol


def test_every_hyper_parameter_of_diffrec() -> None:
    made = recipe(
        noise_schedule="linear-var",
        noise_scale=0.1,
        noise_min=0.01,
        noise_max=0.02,
        sampling_noise=True,
        sampling_steps=2,
        reweight=False,
        mean_type="eps",
        steps=7,
        history_num_per_term=3,
        beta_fixed=False,
        dims_dnn="[200,600]",
        embedding_size=6,
        mlp_act_func="leakyrelu",
        norm=True,
        w_max=0.9,
        w_min=0.2,
        learner="sgd",
        learning_rate=0.5,
        weight_decay=0.25,
        clip_grad_norm={"max_norm": 5, "norm_type": 2},
        train_batch_size=9,
        epochs=8,
        eval_step=2,
        stopping_step=4,
        valid_metric="NDCG@5",
        topk=[5, 20],
        **{"time-aware": True},
    )
    assert made.model == DiffRec(
        schedule=Schedule(
            name="linear-var", steps=7, scale=0.1, noise_min=0.01, noise_max=0.02, fixed_first=False
        ),
        denoiser=Denoiser(
            dims=(200, 600), layout="straight", activation="leaky_relu", normalize=True, embedding_size=6
        ),
        objective=Objective(prediction="eps", reweight=False, history=3),
        sampling=Sampling(start_steps=2, noise=True),
        optimizer=Optimizer(name="sgd", learning_rate=0.5, weight_decay=0.25, clip_norm=5.0),
        epochs=8,
        batch_size=9,
        stopping=Stopping(metric="ndcg@5", every=2, patience=11),
        time_weights=TimeWeights(oldest=0.2, newest=0.9),
    )
    assert made.protocol.cutoffs == (5, 20)
    assert made.name == "t-diffrec/ml-100k-recbole"


def test_every_hyper_parameter_of_ldiffrec() -> None:
    made = recipe(
        "LDiffRec",
        in_dims=[20, 30],
        out_dims=[15],
        ae_act_func="relu",
        reparam=False,
        lamda=0.5,
        anneal_cap=0.1,
        anneal_steps=11,
        vae_anneal_cap=0.2,
        vae_anneal_steps=12,
        learning_rate=0.01,
    )
    assert isinstance(made.model, LatentDiffRec)
    adam = Optimizer(name="adam", learning_rate=0.01)
    assert made.model.autoencoder == Autoencoder(
        encoder_dims=(30, 20),
        decoder_dims=(15,),
        activation="relu",
        sample_latent=False,
        diffusion_weight=0.5,
        least_diffusion_weight=0.1,
        diffusion_decay=11,
        decay_unit="batches",
        kl_weight=0.2,
        kl_batches=12,
        optimizer=adam,
    )
    assert made.model.optimizer == adam
    assert made.model.schedule == Schedule(scale=0.1, noise_min=0.001)
    assert recipe("LDiffRec", n_cate=2).model.clusters == ItemClusters(count=2)


def test_without_noise_errors_are_not_weighed() -> None:
    assert not recipe(noise_scale=0).model.objective.reweight


@pytest.mark.parametrize(
    ("eval_args", "split"),
    [
        ({"split": {"RS": [8, 1, 1]}}, ("ratio", "random", "user")),
        ({"split": {"RS": [0.7, 0.1, 0.2]}, "order": "TO", "group_by": "none"}, ("ratio", "time", "all")),
        ({"split": {"LS": "valid_and_test"}, "order": "TO"}, ("leave-one-out", "time", None)),
        ("{'split': {'LS': 'test_only'}, 'mode': {'valid': 'full'}}", ("leave-one-out", "random", None)),
    ],
)
def test_splits(eval_args: Any, split: tuple[str, str, str | None]) -> None:
    made = recipe(eval_args=eval_args)
    assert (made.task.split.kind, made.task.split.order, getattr(made.task.split, "by", None)) == split
    assert (made.model.stopping is None) == ("test_only" in str(eval_args))


def test_data_options(films: Path) -> None:
    made = recipe_of(
        configure(
            "DiffRec",
            "films",
            {
                "data_path": str(films),
                "val_interval": {"rating": "(3,inf)"},
                "user_inter_num_interval": "[5,inf)",
                "item_inter_num_interval": "(1,inf)",
                "rm_dup_inter": "last",
                "load_col": {"inter": ["user_id", "item_id", "rating"]},
            },
        ),
        own_file=True,
    )
    assert made.data.k_core is not None
    assert (made.data.k_core.users, made.data.k_core.items) == (5, 2)
    assert made.data.read.options() == {
        "format": "recbole",
        "user": "user_id",
        "item": "item_id",
        "rating": "rating",
        "timestamp": "ignore",
        "min_rating": math.nextafter(3, 4),
        "duplicates": "last",
    }
    assert recipe(val_interval={"rating": "[4,inf)"}).data.reading == "liked"


def test_a_later_file_overrides_an_earlier_and_the_dictionary_both(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("model: LDiffRec\ndataset: ml-100k\nlearning_rate: 1e-3\nsteps: 2\nepochs: 7\n")
    second.write_text("learning_rate: 5.e-4\nsteps: 3\nnoise_min: .1E-2\n")
    made = configure(config_dict={"steps": 4}, config_file_list=[first, second])
    assert (made.model, made["steps"], made["epochs"], made["stopping_step"]) == ("LDiffRec", 4, 7, 10)
    assert made["learning_rate"] == 5e-4
    assert made["noise_min"] == 1e-3
    assert read_yaml(first)["learning_rate"] == 1e-3
    assert configure("DiffRec", config_file_list=[first]).model == "DiffRec"


def test_yaml_is_read_without_running_anything(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        f"seed: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{tmp_path}/x']]"
    )
    with pytest.raises(RecipeError, match="plain YAML"):
        configure("DiffRec", "ml-100k", config_file_list=[bad])
    assert not (tmp_path / "x").exists()


def test_what_changes_nothing_is_noted() -> None:
    made = configure("DiffRec", "ml-100k", {"gpu_id": 1, "log_wandb": True, "threshold": {"rating": 4}})
    assert [note.partition(" ")[0] for note in made.notes] == ["gpu_id", "log_wandb", "threshold"]
    assert not configure("DiffRec", "ml-100k", {"gpu_id": "0", "worker": 0}).notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"noice_scale": 1},
            "noice_scale is not an option of RecBole's DiffRec. Did you mean 'noise_scale'?",
        ),
        ({"time_aware": True}, "Did you mean 'time-aware'?"),
        ({"n_cate": 2}, "n_cate is an option of LDiffRec, not of DiffRec"),
        ({"steps": 2.5}, "steps must be a whole number; saw 2.5"),
        ({"steps": True}, "steps must be a whole number"),
        ({"reweight": 1}, "reweight must be True or False"),
        ({"dims_dnn": "300"}, "dims_dnn must be a list of whole numbers"),
        ({"dims_dnn": []}, "dims"),
        ({"learner": "adagrad"}, "learner must be one of adam, sgd"),
        ({"mlp_act_func": "dice"}, "dice"),
        ({"clip_grad_norm": {"max_norm": 1, "norm_type": 1}}, "2-norm alone"),
        ({"noise_min": 1}, "noise_min"),
        ({"sampling_steps": 9}, "start_steps"),
        ({"enable_amp": True}, "enable_amp cannot be True here"),
        ({"benchmark_filename": ["a", "b", "c"]}, "benchmark_filename cannot be"),
        ({"repeatable": True}, "repeatable cannot be True"),
        ({"metrics": ["Recal"]}, "Did you mean 'Recall'?"),
        ({"metrics": ["AUC"]}, "of ratings or of whole catalogues"),
        ({"valid_metric": "MRR@20"}, "Did you mean 'mrr@10'?"),
        ({"valid_metric_bigger": False}, "more is better"),
        ({"topk": 0}, "topk must be a positive whole number"),
        ({"eval_args": {"mode": "uni100"}}, "Krichene"),
        ({"eval_args": {"splt": {}}}, "Did you mean 'split'?"),
        ({"eval_args": {"order": "XO"}}, "must be RO or TO"),
        ({"eval_args": {"group_by": "item"}}, "must be user or none"),
        ({"eval_args": {"split": {"LS": "valid_only"}}}, "Nothing would be left to test on"),
        ({"eval_args": {"split": {"RS": [1, 0, 0]}}}, "something to train and to test"),
        ({"eval_args": {"split": {"XS": 1}}}, "eval_args.split must be"),
        ({"eval_args": {"split": {"RS": [1, 1]}}}, "must be three non-negative numbers"),
        ({"val_interval": {"timestamp": "[1,2]"}}, "of rating alone"),
        ({"val_interval": {"rating": "[1,4]"}}, "no upper end"),
        ({"val_interval": {"rating": "[2,inf)"}}, "the rows rated at least 2"),
        ({"user_inter_num_interval": "5"}, "must be one interval"),
        ({"load_col": {"inter": ["user_id"]}}, "item_id is not loaded"),
        ({"data_path": "nowhere"}, "nowhere"),
    ],
)
def test_what_cannot_be_honoured_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((RecipeError, DataError)) as refusal:
        run_recbole("DiffRec", "ml-100k", config_dict=options, saved=False)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reweight": False}, "LDiffRec without reweight"),
        ({"noise_scale": 0}, "noise_scale 0"),
        ({"n_cate": 2, "out_dims": [3]}, "n_cate above 1"),
        ({"clip_grad_norm": {"max_norm": 1}}, "together"),
    ],
)
def test_what_cannot_be_honoured_for_ldiffrec_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe("LDiffRec", **options)


def test_models_and_data_that_are_not_there() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'DiffRec'"):
        configure("diffrec", "ml-100k")
    with pytest.raises(RecipeError, match="model must be named"):
        configure(None, "ml-100k")
    with pytest.raises(RecipeError, match="Did you mean 'ml-100k'"):
        recipe_of(configure("DiffRec", "ml-100j"), own_file=False)


def test_every_option_has_a_default_that_it_takes() -> None:
    for model in ("DiffRec", "LDiffRec"):
        options = parameters(model)
        defaults = {name: option.default for name, option in options.items() if name != "data_path"}
        made = configure(model, "ml-100k", defaults)
        assert not made.notes
        assert recipe_of(made, own_file=False).model == recipe(model).model


# ------------------------------------------------------------------------------------------------- running


def by_hand(scores: Any, hidden: Any, wanted: Any, k: int) -> dict[str, float]:
    """RecBole's metrics, user by user, over users with something wanted."""
    rows: dict[str, list[float]] = {name: [] for name in ("recall", "mrr", "ndcg", "hit", "precision")}
    for user in range(len(scores)):
        relevant = set(np.flatnonzero(wanted[user]))
        if not relevant:
            continue
        own = np.where(hidden[user] > 0, -np.inf, scores[user])
        hits = [item in relevant for item in np.argsort(-own, kind="stable")[:k]]
        gains = sum(hit / math.log2(place + 2) for place, hit in enumerate(hits))
        ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(relevant))))
        rows["recall"].append(sum(hits) / len(relevant))
        rows["precision"].append(sum(hits) / k)
        rows["hit"].append(float(any(hits)))
        rows["mrr"].append(1 / (hits.index(True) + 1) if any(hits) else 0.0)
        rows["ndcg"].append(gains / ideal)
    return {f"{name}@{k}": round(float(np.mean(values)), 4) for name, values in rows.items()}


def test_results_are_those_of_the_protocol(films: Path, tmp_path: Path) -> None:
    """The validation list leaves out train, the test list train and validation; both see the train row alone."""
    options = {**QUICK, "data_path": str(films), "checkpoint_dir": str(tmp_path)}
    made = run_recbole("DiffRec", "films", config_dict=options)
    loaded = load_data_and_model(made["model_file"])
    config, model, dataset, train, valid, test = loaded
    assert valid is not None
    assert dataset.n_interactions == sum(part.n_interactions for part in (train, valid, test))
    scores = model.score(train)
    seen, aside, held = (part.matrix.toarray() for part in (train, valid, test))
    assert made["best_valid_result"] == by_hand(scores, seen, aside, 10)
    assert made["test_result"] == by_hand(scores, seen + aside, held, 10)
    assert made["best_valid_score"] == made["best_valid_result"]["mrr@10"]
    assert made["valid_score_bigger"] is True
    assert isinstance(made["test_result"], OrderedDict)
    assert list(made["test_result"]) == ["recall@10", "mrr@10", "ndcg@10", "hit@10", "precision@10"]
    assert config["epochs"] == 3
    again = run_recbole("DiffRec", "films", config_dict=options, saved=False)
    assert again["test_result"] == made["test_result"]
    assert again["model_file"] is None


def test_two_runs_of_one_second_are_kept_apart(films: Path, tmp_path: Path) -> None:
    options = {**QUICK, "epochs": 1, "data_path": str(films), "checkpoint_dir": str(tmp_path / "saved")}
    options |= {
        "model": "DiffRec",
        "dataset": "films",
        "eval_args": {"split": {"LS": "test_only"}, "order": "TO"},
    }
    made = [objective_function(options) for _ in range(2)]
    assert made[0]["model_file"] != made[1]["model_file"]
    assert made[0]["model"] == "DiffRec"
    assert made[0]["best_valid_score"] is None
    assert load_data_and_model(made[0]["model_file"]).valid_data is None


def test_changed_data_and_other_folders_are_refused(films: Path, tmp_path: Path) -> None:
    own = tmp_path / "own" / "films"
    own.mkdir(parents=True)
    text = (films / "films" / "films.inter").read_text()
    (own / "films.inter").write_text(text)
    options = {**QUICK, "epochs": 1, "data_path": str(own.parent), "checkpoint_dir": str(tmp_path / "saved")}
    made = run_recbole("DiffRec", "films", config_dict=options)
    (own / "films.inter").write_text("\n".join(text.splitlines()[:-1]))
    with pytest.raises(ArtifactError, match="has changed since"):
        load_data_and_model(made["model_file"])
    with pytest.raises(ArtifactError, match="must be a folder that run_recbole wrote"):
        load_data_and_model(own)


def test_ldiffrec_with_times_runs(films: Path, tmp_path: Path) -> None:
    options = {**QUICK, "data_path": str(films), "in_dims": [8], "n_cate": 2, "time-aware": True}
    made = run_recbole("LDiffRec", "films", config_dict=options, saved=False)
    assert 0 <= made["test_result"]["recall@10"] <= 1
    assert any("item_emb.npy" in note for note in made["notes"])


# --------------------------------------------------------------------------------------------- translation


def test_the_running_example_is_the_shipped_recipe() -> None:
    made = translate("python run_recbole.py --model=DiffRec --dataset=ml-100k --learning_rate=1e-3")
    assert made.system == "recbole"
    assert made.recipe == load_recipe("diffrec/ml-100k")
    assert "this is the shipped recipe diffrec/ml-100k" in made.notes


def test_a_command_line_with_files_and_lists(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("steps: 3\nlearning_rate: 1e-4\n")
    made = translate(
        f"python run_recbole.py --model=LDiffRec --dataset=films --config_files='{file}' --data_path=there "
        "--learning_rate=0.01 --in_dims=[20] --eval_args=\"{'split':{'LS':'valid_and_test'},'order':'TO'}\" --gpu_id=3"
    )
    assert made.recipe.model.schedule.steps == 3
    assert made.recipe.model.optimizer.learning_rate == 0.01
    assert made.recipe.task.split.kind == "leave-one-out"
    assert made.recipe.data.read.timestamp == "timestamp"
    assert "give the data to the run: --data there/films/films.inter" in made.notes
    assert any(note.startswith("gpu_id has no effect") for note in made.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--noice_scale=1", "Did you mean '--noise_scale'?"),
        ("--n_cate=2", "of LDiffRec, not of DiffRec"),
        ("--eval_args=x", "eval_args must be a table"),
    ],
)
def test_command_lines_that_are_refused(options: str, message: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        translate(f"python run_recbole.py --model=DiffRec --dataset=ml-100k {options}")
    assert message in str(refusal.value)


def test_what_is_saved_is_plain_json(films: Path, tmp_path: Path) -> None:
    options = {**QUICK, "epochs": 1, "data_path": str(films), "checkpoint_dir": str(tmp_path)}
    folder = Path(run_recbole("DiffRec", "films", config_dict=options)["model_file"])
    kept = json.loads((folder / "recbole.json").read_text())
    assert kept["options"]["epochs"] == 1
    assert {"recipe.toml", "report.json", "model"} <= {entry.name for entry in folder.iterdir()}
