"""The command lines of DiffRec's four programs give the shipped recipes; anything unknown is refused."""

from typing import Any

import pytest

from unblur.compat.diffrec import defaults
from unblur.compat.translation import translate
from unblur.errors import RecipeError
from unblur.experiment.recipe.library import load_recipe
from unblur.experiment.recipe.parts import Data
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
from unblur.training.settings import Optimizer

START = "python main.py --cuda --gpu 0"
DATA_AND_NOISE = "--dataset=ml-1m_clean --steps=40 --noise_scale=0.005 --noise_min=0.005"
ROWS = f"{START} {DATA_AND_NOISE} --noise_max=0.01 --lr=1e-3 --dims='[200,600]'"
LATENT = (
    f"{START} {DATA_AND_NOISE} --noise_max=0.02 --lr1=1e-3 --lr2=5e-4 --mlp_dims=[300] --sampling_steps=0"
)

PUBLISHED = {
    "diffrec/amazon-book": "--dataset=amazon-book_clean --lr=0.00005 --weight_decay=0 --batch_size=400 "
    "--dims='[1000]' --emb_size=10 --mean_type=x0 --steps=5 --noise_scale=0.0001 --noise_min=0.0005 "
    "--noise_max=0.005 --sampling_steps=0 --reweight=1",
    "diffrec/yelp": "--dataset yelp_clean --lr 1e-5 --weight_decay 0 --dims [1000] --steps 5 --noise_scale .01 "
    "--noise_min .001 --noise_max .01",
    "diffrec/ml-1m": "--dataset=ml-1m_clean --lr=0.001 --dims=[200,600] --steps=40 --noise_scale=0.005 "
    "--noise_min=0.005 --noise_max=0.01",
    "diffrec/amazon-book-noisy": "--dataset=amazon-book_noisy --lr=5e-5 --dims=[1000] --steps=10 "
    "--noise_scale=0.005 --noise_min=1e-4 --noise_max=5e-4",
    "diffrec/yelp-noisy": "--dataset=yelp_noisy --lr=1e-5 --dims=[1000] --steps=5 --noise_scale=0.001 "
    "--noise_min=5e-4 --noise_max=0.01",
    "diffrec/ml-1m-noisy": "--dataset=ml-1m_noisy --lr=1e-3 --dims=[200,600] --steps=5 --noise_scale=0.5 "
    "--noise_min=0.001 --noise_max=0.01",
    "l-diffrec/amazon-book": "--sampling_steps=0 --dataset=amazon-book_clean --lr1=5e-4 --lr2=1e-4 --wd1=0 --wd2=0 --n_cate=2 "
    "--in_dims=[300] --out_dims=[] --act_func=tanh --lamda=0.05 --mlp_dims=[300] --steps=5 --noise_scale=0.5 "
    "--noise_min=0.001 --noise_max=0.005",
    "l-diffrec/yelp": "--sampling_steps=0 --n_cate=1 --dataset=yelp_clean --lr1=5e-4 --lr2=1e-4 --lamda=0.03 --mlp_dims=[300] --steps=5 "
    "--noise_scale=0.01 --noise_min=0.005 --noise_max=0.01",
    "l-diffrec/ml-1m": "--sampling_steps=0 --n_cate=1 --dataset=ml-1m_clean --lr1=1e-3 --lr2=5e-4 --lamda=0.03 --mlp_dims=[300] --steps=40 "
    "--noise_scale=0.005 --noise_min=0.005 --noise_max=0.02 --anneal_cap=0.005 --anneal_steps=500",
    "l-diffrec/ml-1m-noisy": "--sampling_steps=0 --n_cate=1 --dataset=ml-1m_noisy --lr1=1e-3 --lr2=5e-4 --lamda=0.03 --mlp_dims=[300] "
    "--steps=100 --noise_scale=0.005 --noise_min=0.005 --noise_max=0.02",
    "t-diffrec/amazon-book": "--dataset=amazon-book_clean --lr=1e-5 --dims=[1000] --steps=10 "
    "--noise_scale=5e-4 --noise_min=0.001 --noise_max=0.005 --w_min=0.1 --w_max=1",
    "t-diffrec/yelp": "--dataset=yelp_clean --lr=1e-5 --dims=[1000] --steps=5 --noise_scale=0.005 "
    "--noise_min=0.001 --noise_max=0.01 --w_min=0.5 --w_max=1.",
    "lt-diffrec/amazon-book": "--sampling_steps=0 --n_cate=1 --dataset=amazon-book_clean --lr1=5e-4 --lr2=1e-4 --mlp_dims=[300] --steps=5 "
    "--noise_scale=0.7 --noise_min=0.001 --noise_max=0.005 --lamda=0.03 --w_min=0.1 --w_max=1",
    "lt-diffrec/yelp": "--sampling_steps=0 --n_cate=1 --dataset=yelp_clean --lr1=5e-4 --lr2=5e-5 --batch_size=200 --mlp_dims=[300] --steps=5 "
    "--noise_scale=0.01 --noise_min=0.005 --noise_max=0.01 --lamda=0.03 --w_min=0.5",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_settings_are_the_shipped_recipes(name: str) -> None:
    translation = translate(f"{START} --topN=[10,20] {PUBLISHED[name]}")
    assert translation.system == "diffrec"
    assert translation.recipe.model == load_recipe(name).model
    assert translation.recipe == load_recipe(name)


def test_other_cut_offs_leave_the_shipped_recipe_and_its_published_numbers() -> None:
    translation = translate(f"{START} {PUBLISHED['diffrec/ml-1m']}")
    assert translation.recipe.protocol.cutoffs == (10, 20, 50, 100)
    assert translation.recipe.expected == load_recipe("diffrec/ml-1m").expected
    assert translation.recipe.model == load_recipe("diffrec/ml-1m").model
    assert translation.notes[-1] == "this is the shipped recipe diffrec/ml-1m, at other cut-offs"


ALL_FOUR = {
    **{
        "dataset": "yelp_clean",
        "data_path": "",
        "batch_size": 400,
        "epochs": 1000,
        "topN": (10, 20, 50, 100),
    },
    **{"tst_w_val": "train", "cuda": "", "gpu": "0", "save_path": "", "log_name": "log", "round": 1},
    **{"time_type": "cat", "norm": False, "emb_size": 10, "mean_type": "x0", "noise_schedule": "linear-var"},
    **{"noise_scale": 0.1, "noise_min": 1e-4, "noise_max": 0.02, "sampling_noise": False, "reweight": True},
}
ON_ROWS = {"lr": 1e-4, "weight_decay": 0.0, "dims": (1000,), "steps": 100, "sampling_steps": 0}
ON_CODES = {
    **{"lr1": 1e-4, "lr2": 1e-4, "wd1": 0.0, "wd2": 0.0, "optimizer1": "adamw", "optimizer2": "adamw"},
    **{
        "n_cate": 3,
        "in_dims": (300,),
        "out_dims": (),
        "act_func": "tanh",
        "lamda": 0.03,
        "emb_path": "./datasets/",
    },
    **{"mlp_dims": (300,), "mlp_act_func": "tanh", "reparam": True, "anneal_cap": 0.005, "anneal_steps": 500},
    **{"vae_anneal_cap": 0.3, "vae_anneal_steps": 200, "steps": 5, "sampling_steps": 10},
}
BY_TIME = {"w_min": 0.1, "w_max": 1.0}
TABLE: dict[tuple[bool, bool], dict[str, Any]] = {
    (False, False): {**ALL_FOUR, **ON_ROWS},
    (False, True): {**ALL_FOUR, **ON_ROWS, **BY_TIME},
    (True, False): {**ALL_FOUR, **ON_CODES},
    (True, True): {**ALL_FOUR, **ON_CODES, **BY_TIME, "lamda": 1e-4, "emb_path": "../datasets/"},
}
"""The options of the authors' four programs with their defaults, by (latent, with weights by time)."""


@pytest.mark.parametrize("program", TABLE)
def test_options_and_defaults_are_those_of_the_program(program: tuple[bool, bool]) -> None:
    options = defaults(latent=program[0], timed=program[1])
    assert {name: option.convert(option.default) for name, option in options.items()} == TABLE[program]


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ("--cuda", "--dataset=yelp_clean --steps=100 --noise_scale=.1 --dims=[1000] --topN=[10,20,50,100]"),
        ("--w_min=.1", "--w_max=1 --lr=1e-4 --noise_max=.02"),
        ("--sampling_steps=0 --n_cate=3", "--sampling_steps=0 --lamda=.03 --mlp_dims=[300] --reparam=True"),
        ("--sampling_steps=0 --w_min=.1 --n_cate=3", "--sampling_steps=0 --w_max=1 --lamda=1e-4"),
    ],
)
def test_what_is_left_out_has_the_default_of_its_program(options: str, same: str) -> None:
    one, other = (translate(f"python main.py {words}", system="diffrec").recipe for words in (options, same))
    assert one == other


@pytest.mark.parametrize("text", ["0", "False", "no"])
@pytest.mark.parametrize(
    ("option", "path"),
    [
        ("reweight", "objective.reweight"),
        ("norm", "denoiser.normalize"),
        ("sampling_noise", "sampling.noise"),
        ("reparam", "autoencoder.sample_latent"),
    ],
)
def test_any_text_is_true_as_in_the_program(option: str, path: str, text: str) -> None:
    line = LATENT if option == "reparam" else ROWS
    translation = translate(f"{line} --{option}={text}")
    assert translation.recipe == translate(f"{line} --{option}=True").recipe
    assert any(
        note.startswith(f"--{option}={text} is true in the program") and f"model.{path}=false" in note
        for note in translation.notes
    )
    assert not any("is true" in note for note in translate(f"{line} --{option}=True").notes)
    section, field = path.split(".")
    assert getattr(getattr(translation.recipe.model, section), field)
    empty = translate(f"{line} --{option}=").recipe.model
    assert not getattr(getattr(empty, section), field)


def test_every_hyper_parameter_of_t_diffrec() -> None:
    translation = translate(
        "python main.py --dataset yelp_noisy --lr 0.5 --weight_decay 0.25 --batch_size 7 --epochs 3 --dims '[4, 5]' "
        "--emb_size 6 --norm True --mean_type eps --steps 9 --noise_schedule cosine "
        "--noise_scale 0.3 "
        "--noise_min 0.01 --noise_max 0.02 --sampling_noise True --sampling_steps 2 --reweight= --w_min 0.2 "
        "--w_max 0.9 --tst_w_val --topN '[5, 50]'"
    )
    assert translation.recipe.model == DiffRec(
        schedule=Schedule(name="cosine", steps=9, scale=0.3, noise_min=0.01, noise_max=0.02),
        denoiser=Denoiser(dims=(4, 5), normalize=True, embedding_size=6),
        objective=Objective(prediction="eps", reweight=False),
        sampling=Sampling(start_steps=2, noise=True),
        optimizer=Optimizer(learning_rate=0.5, weight_decay=0.25),
        epochs=3,
        batch_size=7,
        time_weights=TimeWeights(oldest=0.2, newest=0.9),
    )
    assert translation.recipe.task.split.histories == "train-and-validation"
    assert translation.recipe.task.split.validation == "valid"
    assert translation.recipe.protocol.cutoffs == (5, 50)
    assert translation.recipe.protocol.averaging == "all-users"
    assert translation.recipe.seed == 1
    assert translation.recipe.name == "t-diffrec/yelp-noisy-translated"
    assert not translation.recipe.expected


def test_every_hyper_parameter_of_l_diffrec() -> None:
    translation = translate(
        f"{LATENT} --wd1 0.1 --wd2 0.2 --n_cate 3 --in_dims '[20, 10]' --out_dims [15] --act_func relu "
        "--reparam= --optimizer1 Adam --mlp_act_func relu --lamda 0.5 --anneal_cap 0.1 --anneal_steps 11 --vae_anneal_cap 0.2 "
        "--vae_anneal_steps 12"
    )
    model = translation.recipe.model
    assert isinstance(model, LatentDiffRec)
    assert model.autoencoder == Autoencoder(
        encoder_dims=(20, 10),
        decoder_dims=(15,),
        activation="relu",
        sample_latent=False,
        diffusion_weight=0.5,
        least_diffusion_weight=0.1,
        diffusion_decay=11,
        decay_unit="epochs",
        kl_weight=0.2,
        kl_batches=12,
        optimizer=Optimizer(name="adam", learning_rate=1e-3, weight_decay=0.1),
    )
    assert model.optimizer == Optimizer(learning_rate=5e-4, weight_decay=0.2)
    assert model.denoiser == Denoiser(dims=(300,), activation="relu")
    assert model.clusters == ItemClusters(count=3)
    assert not model.schedule.fixed_first
    assert any("computes its own from train" in note for note in translation.notes)


def test_options_that_change_nothing_are_noted() -> None:
    translation = translate(
        f"{ROWS} --topN=[10,20] --save_path=x --log_name log --round 2 --data_path y --time_type=add"
    )
    noted = [note.partition(" ")[0] for note in translation.notes]
    assert noted[:-1] == [
        "--cuda",
        "--gpu",
        "--save_path",
        "--log_name",
        "--round",
        "--data_path",
        "--time_type",
    ]
    assert translation.notes[-1] == "this is the shipped recipe diffrec/ml-1m"


def test_other_data_are_given_to_the_run() -> None:
    translation = translate(f"{ROWS} --dataset=ml-1m_clear")
    assert translation.recipe.data == Data()
    assert translation.recipe.name == "diffrec/ml-1m_clear-translated"
    (note,) = (note for note in translation.notes if "--data," in note)
    assert "give the folder with --data" in note
    assert "Did you mean 'ml-1m_clean'?" in note


@pytest.mark.parametrize("tail", ["> log 2>&1 &", ">> ./log/a.txt", "2>&1 | tee log", "&& echo done", "&"])
def test_the_shells_part_of_a_line_is_left_out_and_said(tail: str) -> None:
    translation = translate(f"nohup {ROWS} {tail}")
    assert translation.recipe == translate(ROWS).recipe
    assert any(
        note.startswith("left out, since the shell reads it") and tail in note for note in translation.notes
    )


@pytest.mark.parametrize(
    ("command", "what_to_do"),
    [
        ("sh run.sh ml-1m_clean 0.0001 0 400 [1000] 10 x0 40", "translate the line 'python …' in it"),
        ("bash ./run.sh", "translate the line 'python …' in it"),
        ("python inference.py --cuda --gpu 0", "translate the line 'python main.py …' that trained it"),
    ],
)
def test_other_scripts_are_refused_with_what_to_do(command: str, what_to_do: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        translate(command)
    assert what_to_do in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "--noice_scale=2",
            "--noice_scale is not an option of DiffRec's main.py. Did you mean '--noise_scale'?",
        ),
        ("--topn=[3]", "Did you mean '--topN'?"),
        ("--steps=1.5", "--steps of DiffRec's main.py cannot be '1.5'"),
        ("--steps", "--steps of DiffRec's main.py needs a value"),
        ("--sampling_steps=41", "--sampling_steps of DiffRec's main.py must not exceed --steps"),
        ("--seed=1", "--seed is not an option"),
        ("--wd=0", "--wd is not an option"),
        ("--mlp_dims=[3]", "--lr is for the models on rows of items, --mlp_dims for the latent ones"),
        ("--mlp_act_func=tanh", "--mlp_act_func for the latent ones"),
        ("--cuda=False", "it is a flag, which takes no value"),
        ("--tst_w_val=False", "it is a flag, which takes no value"),
        ("--optimizer1=SGD", "--optimizer1 of DiffRec's main.py cannot be 'SGD': it must be AdamW or Adam"),
        ("--optimizer2=Adagrad", "never trains the autoencoder"),
        ("--noise_min=1", "noise_min"),
        ("--mean_type=x1", "--mean_type of DiffRec's main.py must be one of x0, eps; saw 'x1'"),
        ("--dims=[]", "it must be a list of whole numbers"),
        ("--w_min=2", "must not be above `newest`"),
        ("--n_cate=2", "--lr is for the models on rows of items, --n_cate for the latent ones"),
        ("stray", "Options of DiffRec's main.py must begin with --; saw 'stray'"),
    ],
)
def test_what_the_programs_do_not_know_is_refused(options: str, message: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        translate(f"{ROWS} {options}")
    assert message in str(refusal.value)


def test_a_latent_line_is_not_told_of_options_of_the_others() -> None:
    assert translate(f"{START} --n_cate=2 --sampling_steps=0").recipe.model.denoiser.dims == (300,)
    with pytest.raises(
        RecipeError, match=r"--dims is for the models on rows of items, .* Theirs is --mlp_dims"
    ):
        translate(f"{START} --n_cate=2 --dims=[300]")
    with pytest.raises(
        RecipeError, match=r"--sampling_steps of DiffRec's main.py must not exceed --steps.*saw 10 and 5"
    ):
        translate(f"{START} --n_cate=2")


def test_the_other_program_keeps_its_options() -> None:
    assert translate("python main.py --simple_model=bspm --epochs=3 --lr=1").system == "bspm"
    assert translate(ROWS).system == "diffrec"
