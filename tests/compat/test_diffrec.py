"""The command lines of DiffRec's four programs give the shipped recipes; anything unknown is refused."""

import pytest

from unblur.compat.translation import translate
from unblur.errors import RecipeError
from unblur.experiment.recipe.library import load_recipe
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
MADE = "--dataset=ml-1m_clean --steps=40 --noise_scale=0.005 --noise_min=0.005"
ROWS = f"{START} {MADE} --noise_max=0.01 --lr=1e-3 --dims='[200,600]'"
LATENT = f"{START} {MADE} --noise_max=0.02 --lr1=1e-3 --lr2=5e-4 --dims=[300]"

PUBLISHED = {
    "diffrec/amazon-book": "--dataset=amazon-book_clean --lr=0.00005 --weight_decay=0 --batch_size=400 "
    "--dims='[1000]' --emb_size=10 --mean_type=x0 --steps=5 --noise_scale=0.0001 --noise_min=0.0005 "
    "--noise_max=0.005 --sampling_steps=0 --reweight=1",
    "diffrec/yelp": "--dataset yelp_clean --lr 1e-5 --wd 0 --dims [1000] --steps 5 --noise_scale .01 "
    "--noise_min .001 --noise_max .01",
    "diffrec/ml-1m": "--dataset=ml-1m_clean --lr=0.001 --dims=[200,600] --steps=40 --noise_scale=0.005 "
    "--noise_min=0.005 --noise_max=0.01 --topN='[10, 20]'",
    "diffrec/amazon-book-noisy": "--dataset=amazon-book_noisy --lr=5e-5 --dims=[1000] --steps=10 "
    "--noise_scale=0.005 --noise_min=1e-4 --noise_max=5e-4",
    "diffrec/yelp-noisy": "--dataset=yelp_noisy --lr=1e-5 --dims=[1000] --steps=5 --noise_scale=0.001 "
    "--noise_min=5e-4 --noise_max=0.01",
    "diffrec/ml-1m-noisy": "--dataset=ml-1m_noisy --lr=1e-3 --dims=[200,600] --steps=5 --noise_scale=0.5 "
    "--noise_min=0.001 --noise_max=0.01",
    "l-diffrec/amazon-book": "--dataset=amazon-book_clean --lr1=5e-4 --lr2=1e-4 --wd1=0 --wd2=0 --n_cate=2 "
    "--in_dims=[300] --out_dims=[] --act_func=tanh --lamda=0.05 --mlp_dims=[300] --steps=5 --noise_scale=0.5 "
    "--noise_min=0.001 --noise_max=0.005",
    "l-diffrec/yelp": "--dataset=yelp_clean --lr1=5e-4 --lr2=1e-4 --lamda=0.03 --dims=[300] --steps=5 "
    "--noise_scale=0.01 --noise_min=0.005 --noise_max=0.01",
    "l-diffrec/ml-1m": "--dataset=ml-1m_clean --lr1=1e-3 --lr2=5e-4 --lamda=0.03 --dims=[300] --steps=40 "
    "--noise_scale=0.005 --noise_min=0.005 --noise_max=0.02 --anneal_cap=0.005 --anneal_steps=500",
    "l-diffrec/ml-1m-noisy": "--dataset=ml-1m_noisy --lr1=1e-3 --lr2=5e-4 --lamda=0.03 --dims=[300] "
    "--steps=100 --noise_scale=0.005 --noise_min=0.005 --noise_max=0.02",
    "t-diffrec/amazon-book": "--dataset=amazon-book_clean --lr=1e-5 --dims=[1000] --steps=10 "
    "--noise_scale=5e-4 --noise_min=0.001 --noise_max=0.005 --w_min=0.1 --w_max=1",
    "t-diffrec/yelp": "--dataset=yelp_clean --lr=1e-5 --dims=[1000] --steps=5 --noise_scale=0.005 "
    "--noise_min=0.001 --noise_max=0.01 --w_min=0.5 --w_max=1.",
    "lt-diffrec/amazon-book": "--dataset=amazon-book_clean --lr1=5e-4 --lr2=1e-4 --dims=[300] --steps=5 "
    "--noise_scale=0.7 --noise_min=0.001 --noise_max=0.005 --lamda=0.03 --w_min=0.1 --w_max=1",
    "lt-diffrec/yelp": "--dataset=yelp_clean --lr1=5e-4 --lr2=5e-5 --batch_size=200 --dims=[300] --steps=5 "
    "--noise_scale=0.01 --noise_min=0.005 --noise_max=0.01 --lamda=0.03 --w_min=0.5",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_settings_are_the_shipped_recipes(name: str) -> None:
    made = translate(f"{START} {PUBLISHED[name]}")
    assert made.system == "diffrec"
    assert made.recipe.model == load_recipe(name).model
    assert made.recipe == load_recipe(name)


def test_every_hyper_parameter_of_t_diffrec() -> None:
    made = translate(
        "python main.py --dataset yelp_noisy --lr 0.5 --weight_decay 0.25 --batch_size 7 --epochs 3 --dims '[4, 5]' "
        "--emb_size 6 --norm True --mlp_act_func relu --mean_type eps --steps 9 --noise_schedule cosine "
        "--noise_scale 0.3 "
        "--noise_min 0.01 --noise_max 0.02 --sampling_noise True --sampling_steps 2 --reweight False --w_min 0.2 "
        "--w_max 0.9 --tst_w_val --topN '[5, 50]' --seed 8"
    )
    assert made.recipe.model == DiffRec(
        schedule=Schedule(name="cosine", steps=9, scale=0.3, noise_min=0.01, noise_max=0.02),
        denoiser=Denoiser(dims=(4, 5), activation="relu", normalize=True, embedding_size=6),
        objective=Objective(prediction="eps", reweight=False),
        sampling=Sampling(start_steps=2, noise=True),
        optimizer=Optimizer(learning_rate=0.5, weight_decay=0.25),
        epochs=3,
        batch_size=7,
        time_weights=TimeWeights(oldest=0.2, newest=0.9),
    )
    assert made.recipe.task.split.histories == "train-and-validation"
    assert made.recipe.task.split.validation == "valid"
    assert made.recipe.protocol.cutoffs == (5, 50)
    assert made.recipe.protocol.averaging == "all-users"
    assert made.recipe.seed == 8
    assert made.recipe.name == "t-diffrec/yelp-noisy-translated"
    assert not made.recipe.expected


def test_every_hyper_parameter_of_l_diffrec() -> None:
    made = translate(
        f"{LATENT} --wd1 0.1 --wd2 0.2 --n_cate 3 --in_dims '[20, 10]' --out_dims [15] --act_func relu "
        "--reparam False --lamda 0.5 --anneal_cap 0.1 --anneal_steps 11 --vae_anneal_cap 0.2 "
        "--vae_anneal_steps 12"
    )
    model = made.recipe.model
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
        optimizer=Optimizer(learning_rate=1e-3, weight_decay=0.1),
    )
    assert model.optimizer == Optimizer(learning_rate=5e-4, weight_decay=0.2)
    assert model.clusters == ItemClusters(count=3)
    assert not model.schedule.fixed_first
    assert any("computes its own from train" in note for note in made.notes)


def test_options_that_change_nothing_are_noted() -> None:
    made = translate(f"{ROWS} --save_path=x --log_name log --round 2 --data_path y --emb_path z")
    noted = [note.partition(" ")[0] for note in made.notes]
    assert noted[:-1] == [
        "--cuda",
        "--gpu",
        "--save_path",
        "--log_name",
        "--round",
        "--data_path",
        "--emb_path",
    ]
    assert made.notes[-1] == "this is the shipped recipe diffrec/ml-1m"


def test_a_flag_may_have_a_value() -> None:
    assert translate(f"{ROWS} --tst_w_val=False").recipe.task.split.histories == "train"
    assert translate(f"{ROWS} --tst_w_val True").recipe.task.split.histories == "train-and-validation"


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
        ("--sampling_steps=41", "start_steps"),
        ("--noise_min=1", "noise_min"),
        ("--mean_type=x1", "--mean_type of DiffRec's main.py must be one of x0, eps; saw 'x1'"),
        ("--dataset=ml-1m_clear", "Did you mean 'ml-1m_clean'?"),
        ("--dims=[]", "it must be a list of whole numbers"),
        ("--reweight=yes", "it must be True or False"),
        ("--w_min=2", "must not be above `newest`"),
        ("--n_cate=2", "--lr is for the models on rows of items, --n_cate for the latent ones"),
        ("stray", "Options of DiffRec's main.py must begin with --; saw 'stray'"),
    ],
)
def test_what_the_programs_do_not_know_is_refused(options: str, message: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        translate(f"{ROWS} {options}")
    assert message in str(refusal.value)


@pytest.mark.parametrize("name", ["dataset", "lr", "dims", "steps", "noise_scale", "noise_min", "noise_max"])
def test_what_differs_between_data_sets_must_be_given(name: str) -> None:
    words = [word for word in ROWS.split() if not word.startswith(f"--{name}=")]
    with pytest.raises(RecipeError, match=f"--{name} of DiffRec's main.py must be given"):
        translate(" ".join(words), system="diffrec")


def test_the_other_program_keeps_its_options() -> None:
    assert translate("python main.py --simple_model=bspm --epochs=3 --lr=1").system == "bspm"
    assert translate(ROWS).system == "diffrec"
