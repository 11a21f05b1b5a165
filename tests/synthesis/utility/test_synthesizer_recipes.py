"""Recipes of synthesizers: their sections, the published figures, the authors' commands."""

from __future__ import annotations

import pytest

from tests.synthesis.utility.rated import QUICK
from unblur.compat.translation import translate
from unblur.errors import RecipeError
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.schema import Recipe
from unblur.registry import synthesizer_spec
from unblur.spec import Range, spec_from_dict
from unblur.synthesis.utility.task import UtilityTask

PUBLISHED = {
    "ml-100k": (0.3924, 0.3839, 0.2320),
    "alb": (0.3390, 0.3246, 0.3225),
    "ml-1m": (0.3722, 0.3595, 0.1026),
    "adm": (0.0651, 0.0868, 0.0234),
}
SVD = (
    "python main.py --dataset ml-100k --model svd --augment-training-data --SDRM-epochs 265 --SDRM-batch-size 550 "
    "--SDRM-lr 0.000021 --SDRM-timesteps 83 --SDRM-noise-variance-diminisher 1 --MLP-hidden-layers 2 "
    "--VAE-batch-size 780 --VAE-hidden-layer-neurons 930 --MLP-latent-neurons 830 --VAE-lr 0.0006"
)
MLP = (
    "python main.py --dataset adm --model mlp --augment-training-data --SDRM-batch-size 270 --SDRM-lr 0.000063 "
    "--SDRM-epochs 45 --MLP-hidden-layers 1 --SDRM-timesteps 38 --SDRM-noise-variance-diminisher 0.7 "
    "--VAE-batch-size 310 --VAE-hidden-layer-neurons 20 --MLP-latent-neurons 20 --VAE-lr 0.0035"
)


@pytest.mark.parametrize("data", PUBLISHED)
def test_the_twelve_published_figures(data: str) -> None:
    for name, value in zip(("svd", "mlp", "neumf"), PUBLISHED[data], strict=True):
        recipe = load_recipe(f"sdrm/{data}-{name}")
        assert {key: entry.value for key, entry in recipe.expected.items()} == {
            "full capped_recall@10": value
        }
        assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert (
        len(
            [
                name
                for name in shipped()
                if name.startswith("sdrm/") and not name.endswith(("-standardized", "-private"))
            ]
        )
        == 12
    )


@pytest.mark.parametrize(("command", "name"), [(SVD, "sdrm/ml-100k-svd"), (MLP, "sdrm/adm-mlp")])
def test_the_published_commands_are_the_shipped_recipes(command: str, name: str) -> None:
    translation = translate(command)
    assert translation.system == "sdrm"
    assert translation.recipe == load_recipe(name)


def test_every_option_has_its_place() -> None:
    recipe = translate(
        "python main.py --dataset alb --model NeuMF --SDRM-epochs 1 --SDRM-batch-size 2 --SDRM-lr 0.03 --SDRM-timesteps 4 "
        "--SDRM-noise-variance-diminisher 0.05 --MLP-hidden-layers 6 --VAE-batch-size 7 --VAE-hidden-layer-neurons 8 "
        "--MLP-latent-neurons 9 --VAE-lr 0.1"
    ).recipe
    diffusion, vae = recipe.model.diffusion, recipe.model.vae
    assert (diffusion.epochs, diffusion.batch_size, diffusion.optimizer.learning_rate) == (1, 2, 0.03)
    assert (diffusion.steps, diffusion.noise_variance_diminisher, diffusion.hidden_layers) == (4, 0.05, 6)
    assert (vae.batch_size, vae.hidden, vae.latent, vae.optimizer.learning_rate) == (7, 8, 9, 0.1)
    assert isinstance(recipe.task, UtilityTask)
    assert (recipe.task.utility.mode, recipe.task.downstream.kind, recipe.data.name) == (
        "replace",
        "neumf",
        "sdrm_alb",
    )
    assert not recipe.expected


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (SVD.replace("--VAE-lr 0.0006", ""), "missing: --VAE-lr"),
        (SVD.replace("--VAE-lr", "--VAE-rl"), "Did you mean '--VAE-lr'"),
        (SVD.replace("ml-100k", "ml-20m"), "must be one of"),
        (SVD.replace("265", "many"), "cannot be 'many'"),
    ],
)
def test_other_commands_are_refused(command: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        translate(command)


def test_changes_drop_numbers_that_no_longer_apply() -> None:
    recipe = load_recipe("sdrm/ml-100k-svd")
    assert recipe.changed({"model.vae.epochs": 3}).expected
    for path, value in {
        "utility.mode": "replace",
        "downstream.rank": 5,
        "protocol.kind": "strict",
        "utility.hold_out_seed": 1,
    }.items():
        assert not recipe.changed({path: value}).expected
    other = recipe.changed({"model.kind": "independent-items"})
    assert "synthetic capped_recall@10" in other.measured
    assert "full capped_recall@10" not in other.measured


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**QUICK, "split": {"kind": "random"}}, "groups of users"),
        (
            {"model": {"kind": "ease"}, "utility": {"mode": "replace"}},
            "A recommender is measured on a split of its data",
        ),
        ({**QUICK, "downstream": {"kind": "svd"}}, r"\[downstream\]"),
        ({**QUICK, "utility": {"mode": "add"}}, r"\[utility\] mode"),
        (
            {**QUICK, "expected": {"recall@7": {"value": 1.0, "within": 0.1, "source": "x"}}},
            "can be expected",
        ),
    ],
)
def test_recipes_that_make_no_sense_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict(values)


def test_the_split_is_no_setting() -> None:
    with pytest.raises(RecipeError, match="not a setting"):
        load_recipe("sdrm/alb-svd").changed({"split.kind": "random"})


def test_the_space_is_that_of_the_objective() -> None:
    """The largest of the authors' learning rates is the smallest for a network that predicts the velocity."""
    paper, standardized = (load_recipe(f"sdrm/alb-{name}").model.space() for name in ("svd", "standardized"))
    rates = {
        key: {entry.name: entry for entry in space}["diffusion.optimizer.learning_rate"].values
        for key, space in (("paper", paper), ("own", standardized))
    }
    assert isinstance(rates["paper"], Range)
    assert isinstance(rates["own"], Range)
    assert rates["paper"].high <= rates["own"].low
    names = {entry.name for entry in standardized}
    assert "diffusion.beta_max" in names
    assert "diffusion.noise_variance_diminisher" not in names
    assert spec_from_dict(synthesizer_spec("independent-items"), {}).space() == ()
