"""RecBole's entry points: every name is known or refused, and the results are those of its protocol."""

import json
import math
from collections import OrderedDict
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unblur.compat.recbole.configuration import (
    EVAL_ARGS,
    OTHER_MODELS,
    configure,
    parameters,
    read_yaml,
    recipe_of,
)
from unblur.compat.recbole.running import (
    load_data_and_model,
    objective_function,
    prepared_for,
    run,
    run_recbole,
    run_recboles,
)
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
    result, shipped = recipe(model), load_recipe(name)
    assert (result.model, result.task.split, result.data, result.seed) == (
        shipped.model,
        shipped.task.split,
        shipped.data,
        shipped.seed,
    )
    assert result.protocol == shipped.protocol


def test_every_hyper_parameter_of_diffrec() -> None:
    result = recipe(
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
    assert result.model == DiffRec(
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
    assert result.protocol.cutoffs == (5, 20)
    assert result.name == "t-diffrec/ml-100k-recbole"


def test_every_hyper_parameter_of_ldiffrec() -> None:
    result = recipe(
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
    assert isinstance(result.model, LatentDiffRec)
    adam = Optimizer(name="adam", learning_rate=0.01)
    assert result.model.autoencoder == Autoencoder(
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
    assert result.model.optimizer == adam
    assert result.model.schedule == Schedule(scale=0.1, noise_min=0.001)
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
    result = recipe(eval_args=eval_args)
    assert (result.task.split.kind, result.task.split.order, getattr(result.task.split, "by", None)) == split
    assert (result.model.stopping is None) == ("test_only" in str(eval_args))


def test_data_options(films: Path) -> None:
    result = recipe_of(
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
    assert result.data.k_core is not None
    assert (result.data.k_core.users, result.data.k_core.items) == (5, 2)
    assert result.data.read.options() == {
        "format": "recbole",
        "user": "user_id",
        "item": "item_id",
        "rating": "rating",
        "timestamp": "ignore",
        "ratings": "(3,inf)",
        "on_null": "drop",
        "duplicates": "last",
    }
    assert recipe(val_interval={"rating": "[4,inf)"}).data.reading == "liked"


def test_a_later_file_overrides_an_earlier_and_the_dictionary_both(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("model: LDiffRec\ndataset: ml-100k\nlearning_rate: 1e-3\nsteps: 2\nepochs: 7\n")
    second.write_text("learning_rate: 5.e-4\nsteps: 3\nnoise_min: .1E-2\n")
    result = configure(config_dict={"steps": 4}, config_file_list=[first, second])
    assert (result.model, result["steps"], result["epochs"], result["stopping_step"]) == (
        "LDiffRec",
        4,
        7,
        10,
    )
    assert result["learning_rate"] == 5e-4
    assert result["noise_min"] == 1e-3
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


@pytest.mark.parametrize(
    "text",
    [
        "seed: 2020-99-99",
        "seed: " + "9" * 5000,
        "seed: 0x" + "f" * 5000,
        "seed: " + "[" * 3000 + "]" * 3000,
        "topk: &a [*a]",
        # A dozen lines that stand for 10**9 values, which no message may write out.
        "topk:\n"
        + "".join(f"- &a{at} [{', '.join([f'*a{at - 1}'] * 10 if at else ['x'] * 10)}]\n" for at in range(9)),
    ],
    ids=len,
)
def test_yaml_of_any_shape_is_read_or_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(RecipeError, match="plain YAML"):
        configure("DiffRec", "ml-100k", config_file_list=[tmp_path / "odd.yaml"])


def test_a_byte_order_mark_is_no_part_of_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "windows.yaml").write_text("\ufeffseed: 7\n", encoding="utf-8")
    assert read_yaml(tmp_path / "windows.yaml") == {"seed": 7}


def test_what_changes_nothing_is_noted() -> None:
    result = configure("DiffRec", "ml-100k", {"gpu_id": 1, "log_wandb": True, "threshold": {"rating": 4}})
    assert [note.partition(" ")[0] for note in result.notes] == ["gpu_id", "log_wandb", "threshold"]
    assert [
        note.partition(":")[0]
        for note in configure(
            "DiffRec",
            "ml-100k",
            {"valid_metric_bigger": False, "selected_features": ["class"], "seq_len": {"a": 3}},
        ).notes
    ] == [
        "selected_features has no effect here",
        "valid_metric_bigger has no effect here",
        "seq_len has no effect here",
    ]
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
        ({"metrics": ["AUC"]}, "of ratings and of scores (AUC"),
        ({"tail_ratio": 0.2}, "tail_ratio cannot be 0.2 here: TailPercentage is of the rarest tenth"),
        ({"metrics": ["GiniIndex"], "valid_metric": "GiniIndex@10"}, "of which more is better"),
        ({"valid_metric": "MRR@20"}, "Did you mean 'mrr@10'?"),
        ({"topk": 0}, "topk must be a positive whole number"),
        ({"eval_args": {"mode": "uni100"}}, "Krichene"),
        ({"eval_args": {"mode": {"valid": "full", "test": "pop100"}}}, "Krichene"),
        ({"eval_args": {"mode": "labeled"}}, "labeled scores only the rows of the test part"),
        ({"eval_args": {"splt": {}}}, "Did you mean 'split'?"),
        ({"eval_args": {"order": "XO"}}, "must be RO or TO"),
        ({"eval_args": {"group_by": "item"}}, "must be user or none"),
        ({"eval_args": {"split": {"LS": "valid_only"}}}, "Nothing would be left to test on"),
        ({"eval_args": {"split": {"RS": [1, 0, 0]}}}, "something to train and to test"),
        ({"eval_args": {"split": {"XS": 1}}}, "eval_args.split must be"),
        ({"eval_args": {"split": {"RS": [1, 1]}}}, "must be three non-negative numbers"),
        ({"val_interval": {"timestamp": "[1,2]"}}, "of rating alone"),
        ({"val_interval": {"rating": "[1,4]"}}, "the rows rated within [1,4]"),
        ({"val_interval": {"rating": "[2,inf)"}}, "the rows rated within [2,inf)"),
        ({"user_inter_num_interval": "5"}, "must be intervals such as"),
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
        result = configure(model, "ml-100k", defaults)
        assert not result.notes
        assert recipe_of(result, own_file=False).model == recipe(model).model


RECBOLE = find_spec("recbole")


@pytest.mark.skipif(RECBOLE is None, reason="needs RecBole's files: pip install --no-deps recbole==1.2.1")
@pytest.mark.parametrize("model", ["DiffRec", "LDiffRec"])
@pytest.mark.parametrize(
    "files", [("dataset/sample",), ("dataset/ml-100k",), ("overall",), ("dataset/sample", "overall")]
)
def test_recboles_own_files_are_accepted_as_they_are(files: tuple[str, ...], model: str) -> None:
    assert RECBOLE is not None
    assert RECBOLE.origin is not None
    folder = Path(RECBOLE.origin).parent / "properties"
    paths = [folder / f"{name}.yaml" for name in (*files, f"model/{model}")]
    configuration = configure(model, "ml-100k", config_file_list=paths)
    assert recipe_of(configuration, own_file=False).model == recipe(model).model
    assert not configuration.notes


@pytest.mark.skipif(RECBOLE is None, reason="needs RecBole's files: pip install --no-deps recbole==1.2.1")
def test_every_option_of_recbole_is_known() -> None:
    assert RECBOLE is not None
    assert RECBOLE.origin is not None
    known = {*parameters("LDiffRec"), *OTHER_MODELS}
    for path in (Path(RECBOLE.origin).parent / "properties").rglob("*.yaml"):
        if "url" not in path.name:
            assert {*read_yaml(path)} <= known, path


def test_every_option_is_in_the_reference() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "recbole-options.md").read_text()
    assert not [name for name in (*parameters("LDiffRec"), *EVAL_ARGS) if name not in page]


def test_unknown_names_pass_with_a_note_when_told_to() -> None:
    configuration = configure("DiffRec", "ml-100k", {"noice_scale": 1, "steps": 3}, ignore_unknown=True)
    assert configuration["steps"] == 3
    assert configuration.notes == (
        "left out: noice_scale is not an option of RecBole's DiffRec. Did you mean 'noise_scale'?",
    )


def test_texts_are_read_as_recbole_reads_them(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("steps: 2\neval_args: {group_by: None, order: TO}\nload_col: {inter: '*'}\n")
    two.write_text("steps: 3\n")
    configuration = configure("DiffRec", "ml-100k", {"reweight": "false", "norm": "true"}, f"{one} {two}")
    assert (configuration["steps"], configuration["reweight"], configuration["norm"]) == (3, False, True)
    assert configuration["eval_args"] == {
        "split": {"RS": [0.8, 0.1, 0.1]},
        "order": "TO",
        "group_by": "none",
        "mode": {"valid": "full", "test": "full"},
    }
    assert recipe_of(configuration, own_file=False).task.split.by == "all"


def test_constant_betas_are_honoured() -> None:
    assert recipe(noise_min=0.005, noise_max=0.005).model.schedule.noise_min == 0.005


@pytest.mark.parametrize(
    ("options", "read", "k_core"),
    [
        ({"val_interval": {"rating": "(3,5]"}}, {"ratings": "(3,5]"}, None),
        ({"val_interval": {"rating": "[1,2);[4,5]"}}, {"ratings": "[1,2);[4,5]"}, None),
        ({"val_interval": {"rating": "[4,inf)"}}, {"min_rating": 4.0}, None),
        ({"user_inter_num_interval": "[5,100]"}, {}, ("[5,100]", 1)),
        ({"item_inter_num_interval": "(4.5,inf)", "user_inter_num_interval": "(4,inf]"}, {}, (5, 5)),
    ],
)
def test_intervals_of_any_form(options: dict[str, Any], read: dict[str, Any], k_core: Any) -> None:
    data = recipe_of(configure("DiffRec", "films", options), own_file=True).data
    assert read.items() <= data.read.options().items()
    assert (None if data.k_core is None else (data.k_core.users, data.k_core.items)) == k_core


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
    result = run_recbole("DiffRec", "films", config_dict=options)
    loaded = load_data_and_model(result["model_file"])
    config, model, dataset, train, valid, test = loaded
    assert valid is not None
    assert dataset.n_interactions == sum(part.n_interactions for part in (train, valid, test))
    scores = model.score(train)
    seen, aside, held = (part.matrix.toarray() for part in (train, valid, test))
    assert result["best_valid_result"] == by_hand(scores, seen, aside, 10)
    assert result["test_result"] == by_hand(scores, seen + aside, held, 10)
    assert result["best_valid_score"] == result["best_valid_result"]["mrr@10"]
    assert result["valid_score_bigger"] is True
    assert isinstance(result["test_result"], OrderedDict)
    assert list(result["test_result"]) == ["recall@10", "mrr@10", "ndcg@10", "hit@10", "precision@10"]
    assert config["epochs"] == 3
    again = run_recbole("DiffRec", "films", config_dict=options, saved=False)
    assert again["test_result"] == result["test_result"]
    assert again["model_file"] is None


def atomic(
    tmp_path: Path,
    rows: list[str],
    header: str = "user_id:token\titem_id:token\trating:float\ttimestamp:float",
) -> Path:
    folder = tmp_path / "own"
    folder.mkdir(parents=True)
    (folder / "own.inter").write_text("\n".join([header, *rows]) + "\n")
    return tmp_path


def interactions(data_path: Path, **options: Any) -> tuple[int, tuple[str, ...]]:
    """The number of interactions before the split, and the notes, of a data set ``own``."""
    prepared = prepared_for(configure("DiffRec", "own", {"data_path": str(data_path), **options}))
    parts = (prepared.split.train, prepared.split.validation, prepared.split.held_out)
    return sum(part.n_interactions for part in parts if part is not None), prepared.notes


GRID = [f"u{user}\ti{item}\t4\t{10 * user + item}" for user in range(1, 6) for item in range(1, 9)]


def test_repeats_are_removed_before_ratings_are_cut(tmp_path: Path) -> None:
    data_path = atomic(tmp_path, [*GRID, "u1\ti1\t1\t99"])
    options = {"rm_dup_inter": "last", "val_interval": {"rating": "[4,inf)"}}
    assert interactions(data_path, **options)[0] == 39
    assert interactions(data_path, **{**options, "rm_dup_inter": "first"})[0] == 40
    columns = ["user_id", "item_id", "rating", "timestamp"]
    assert interactions(data_path, **options, load_col={"inter": columns})[0] == 39


def test_repeats_are_told_apart_by_time_not_by_row(tmp_path: Path) -> None:
    data_path = atomic(tmp_path, ["u1\ti1\t1\t99", *GRID])
    options = {"rm_dup_inter": "last", "val_interval": {"rating": "[4,inf)"}}
    assert interactions(data_path, **options)[0] == 39
    without_times = {"load_col": {"inter": ["user_id", "item_id", "rating"]}}
    assert interactions(data_path, **options, **without_times)[0] == 40


def test_rows_without_a_user_or_an_item_are_left_out_and_counted(tmp_path: Path) -> None:
    n, notes = interactions(atomic(tmp_path, [*GRID, "\ti1\t4\t1", "u1\t\t4\t1"]))
    assert n == 40
    assert notes == ("2 rows of own.inter without a value were left out: user_id 1, item_id 1",)


def test_rows_without_a_rating_or_a_time_are_left_out_if_these_are_read(tmp_path: Path) -> None:
    data_path = atomic(tmp_path, [*GRID, "u1\ti99\t\t1", "u1\ti98\t4\t", "u2\ti99\t\t"])
    assert interactions(data_path) == (43, ())
    n, notes = interactions(data_path, val_interval={"rating": "[4,inf)"})
    assert (n, notes) == (41, ("2 rows of own.inter without a value were left out: rating 2",))
    timed = {"eval_args": {"order": "TO", "split": {"LS": "valid_and_test"}}}
    n, notes = interactions(data_path, **timed)
    assert (n, notes) == (41, ("2 rows of own.inter without a value were left out: timestamp 2",))
    n, notes = interactions(data_path, **timed, val_interval={"rating": "[4,inf)"})
    assert (n, notes) == (
        40,
        ("3 rows of own.inter without a value were left out: rating 2, timestamp 2",),
    )


def test_side_files_that_would_leave_out_interactions_are_refused(tmp_path: Path) -> None:
    data_path = atomic(tmp_path, GRID)
    side = data_path / "own" / "own.user"
    columns = {"inter": "*", "user": ["user_id"]}
    side.write_text("user_id:token\n" + "\n".join(f"u{user}" for user in range(1, 6)))
    assert interactions(data_path, load_col=columns)[0] == 40
    side.write_text("user_id:token\nu1\nu2\n")
    with pytest.raises(RecipeError, match=r"would leave out 3 users that own.user does not have"):
        interactions(data_path, load_col=columns)
    assert interactions(data_path, load_col=columns, filter_inter_by_user_or_item=False)[0] == 40
    assert interactions(data_path)[0] == 40  # as there: only what load_col names is read


def test_metrics_of_the_catalogue(films: Path, tmp_path: Path) -> None:
    names = ["ItemCoverage", "GiniIndex", "AveragePopularity", "ShannonEntropy", "TailPercentage", "MRR"]
    options = {**QUICK, "data_path": str(films), "checkpoint_dir": str(tmp_path), "metrics": names}
    result = run_recbole("DiffRec", "films", config_dict=options)
    loaded = load_data_and_model(result["model_file"])
    assert loaded.valid_data is not None
    train = loaded.train_data.matrix.toarray()
    scores = np.where(
        train + loaded.valid_data.matrix.toarray() > 0, -np.inf, loaded.model.score(loaded.train_data)
    )
    tested = np.flatnonzero(loaded.test_data.user_degrees)
    lists = np.argsort(-scores[tested], kind="stable")[:, :10]
    counts, degrees = np.bincount(lists.ravel(), minlength=60), (train > 0).sum(axis=0)
    shares = counts[counts > 0] / counts.sum()
    rare = sorted(np.flatnonzero(degrees), key=lambda item: (degrees[item], item))[
        : int((degrees > 0).sum() * 0.1)
    ]
    assert result["test_result"] == {
        "itemcoverage@10": round(float((counts > 0).mean()), 4),
        "giniindex@10": round(float(np.abs(counts[:, None] - counts).sum() / (2 * 60 * counts.sum())), 4),
        "averagepopularity@10": round(float(degrees[lists].mean()), 4),
        "shannonentropy@10": round(float(-(shares * np.log(shares)).sum() / len(shares)), 4),
        "tailpercentage@10": round(float(np.isin(lists, rare).mean()), 4),
        "mrr@10": result["test_result"]["mrr@10"],
    }


def test_progress_and_results_are_logged(
    films: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {**QUICK, "data_path": str(films), "checkpoint_dir": str(tmp_path)}
    with caplog.at_level("INFO"):
        result = run("DiffRec", "films", config_dict=options, saved=False, nproc=1)
        epochs = [text for text in caplog.messages if "epoch" in text]
        assert len(epochs) == 3
        assert caplog.messages[-1] == f"test result: {dict(result['test_result'])}"
        caplog.clear()
        run_recboles(
            0, "DiffRec", "films", None, {"config_dict": {**options, "show_progress": False}, "saved": False}
        )
        assert [text.partition(":")[0] for text in caplog.messages] == ["best valid", "test result"]
        run_recboles(1, "DiffRec", "films", None, {"config_dict": options})


def test_two_runs_of_one_second_are_kept_apart(films: Path, tmp_path: Path) -> None:
    options = {**QUICK, "epochs": 1, "data_path": str(films), "checkpoint_dir": str(tmp_path / "saved")}
    options |= {
        "model": "DiffRec",
        "dataset": "films",
        "eval_args": {"split": {"LS": "test_only"}, "order": "TO"},
    }
    result = [objective_function(options) for _ in range(2)]
    assert result[0]["model_file"] != result[1]["model_file"]
    assert result[0]["model"] == "DiffRec"
    assert result[0]["best_valid_score"] is None
    assert load_data_and_model(result[0]["model_file"]).valid_data is None


def test_changed_data_and_other_folders_are_refused(films: Path, tmp_path: Path) -> None:
    own = tmp_path / "own" / "films"
    own.mkdir(parents=True)
    text = (films / "films" / "films.inter").read_text()
    (own / "films.inter").write_text(text)
    options = {**QUICK, "epochs": 1, "data_path": str(own.parent), "checkpoint_dir": str(tmp_path / "saved")}
    result = run_recbole("DiffRec", "films", config_dict=options)
    (own / "films.inter").write_text("\n".join(text.splitlines()[:-1]))
    with pytest.raises(ArtifactError, match="has changed since"):
        load_data_and_model(result["model_file"])
    with pytest.raises(ArtifactError, match="must be a folder that run_recbole wrote"):
        load_data_and_model(own)
    for text in (
        "[" * 5000 + "]" * 5000,
        "9" * 10_000,
        '{"model": "DiffRec", "dataset": "films", "options": 3}',
    ):
        Path(result["model_file"], "recbole.json").write_text(text)
        with pytest.raises(ArtifactError, match="must be a folder that run_recbole wrote"):
            load_data_and_model(result["model_file"])


def test_ldiffrec_with_times_runs(films: Path, tmp_path: Path) -> None:
    options = {**QUICK, "data_path": str(films), "in_dims": [8], "n_cate": 2, "time-aware": True}
    result = run_recbole("LDiffRec", "films", config_dict=options, saved=False)
    assert 0 <= result["test_result"]["recall@10"] <= 1
    assert any("item_emb.npy" in note for note in result["notes"])


# --------------------------------------------------------------------------------------------- translation


def test_the_running_example_is_the_shipped_recipe() -> None:
    result = translate("python run_recbole.py --model=DiffRec --dataset=ml-100k --learning_rate=1e-3")
    assert result.system == "recbole"
    assert result.recipe == load_recipe("diffrec/ml-100k")
    assert "this is the shipped recipe diffrec/ml-100k" in result.notes


def test_a_command_line_with_files_and_lists(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("steps: 3\nlearning_rate: 1e-4\n")
    result = translate(
        f"python run_recbole.py --model=LDiffRec --dataset=films --config_files='{file}' --data_path=there "
        "--learning_rate=0.01 --in_dims=[20] --eval_args=\"{'split':{'LS':'valid_and_test'},'order':'TO'}\" --gpu_id=3"
    )
    assert result.recipe.model.schedule.steps == 3
    assert result.recipe.model.optimizer.learning_rate == 0.01
    assert result.recipe.task.split.kind == "leave-one-out"
    assert result.recipe.data.read.timestamp == "timestamp"
    assert "give the data to the run: --data there/films/films.inter" in result.notes
    assert any(note.startswith("gpu_id has no effect") for note in result.notes)


TUNING = "python run_hyper.py --model=DiffRec --dataset=ml-100k --params_file=hyper.test"


def test_run_hyper_translates_to_the_search(tmp_path: Path) -> None:
    fixed = tmp_path / "fixed.yaml"
    fixed.write_text("steps: 7\n")
    result = translate(f"{TUNING} --config_files={fixed} --output_file=hyper.result --tool=Hyperopt")
    assert result.system == "recbole"
    assert result.recipe.model.schedule.steps == 7
    assert (result.recipe.search.sampler, result.recipe.search.patience) == ("exhaustive", 10)
    assert result.run == "unblur tune {recipe} --params-file hyper.test"
    assert [note.partition(" ")[0] for note in result.notes[:2]] == ["--output_file", "--tool"]
    short = translate("python run_hyper.py -m DiffRec -d ml-100k --params_file=hyper.test")
    assert short.recipe == replace(load_recipe("diffrec/ml-100k"), search=result.recipe.search)
    assert short.notes[-1] == "this is the shipped recipe diffrec/ml-100k"
    with pytest.raises(RecipeError, match=r"--params_file of RecBole's run_hyper\.py must be given"):
        translate("python run_hyper.py --model=DiffRec --dataset=ml-100k")


def test_options_of_the_script_have_letters() -> None:
    assert translate("python run_recbole.py -m DiffRec -d ml-100k").recipe == load_recipe("diffrec/ml-100k")


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
