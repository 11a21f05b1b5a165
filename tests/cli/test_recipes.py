"""`unblur recipes` and `unblur translate`."""

from pathlib import Path

from tests.cli.conftest import Unblur
from unblur.experiment.recipe.library import load_recipe, shipped
from unblur.experiment.recipe.schema import Recipe

COMMAND = (
    'python main.py --dataset="gowalla" --simple_model="bspm" --solver_shr="rk4" --T_s=2.5 --idl_beta=0.2 '
    "--factor_dim=448"
)


def test_recipes_lists_all_with_their_numbers(unblur: Unblur) -> None:
    result = unblur("recipes")
    assert result.code == 0
    assert all(name in result.out for name in shipped())
    assert "recall@20 0.1920, ndcg@20 0.1597" in result.out


def test_recipes_prints_one_as_toml(unblur: Unblur) -> None:
    result = unblur("recipes", "bspm/demo")
    assert Recipe.from_toml(result.out) == load_recipe("bspm/demo")


def test_translate_prints_and_writes_toml(unblur: Unblur, tmp_path: Path) -> None:
    out = tmp_path / "gowalla.toml"
    result = unblur("translate", COMMAND, "--out", out)
    assert result.code == 0
    assert Recipe.from_toml(result.out) == load_recipe("bspm/gowalla") == load_recipe(out)
    assert "this is the shipped recipe bspm/gowalla" in result.err
    refused = unblur("translate", COMMAND, "--out", out)
    assert refused.code == 2
    assert "must be new" in refused.err
    assert unblur("translate", COMMAND, "--out", out, "--overwrite").code == 0


def test_options_alone_are_a_command_line_as_well(unblur: Unblur) -> None:
    """The authors print some commands in this form."""
    options = (
        "--dataset adm --model mlp --augment-training-data --SDRM-batch-size 270 --SDRM-lr 0.000063 --SDRM-epochs 45 "
        "--MLP-hidden-layers 1 --SDRM-timesteps 38 --SDRM-noise-variance-diminisher 0.7 --VAE-batch-size 310 "
        "--VAE-hidden-layer-neurons 20 --MLP-latent-neurons 20 --VAE-lr 0.0035"
    )
    with_program, options_only = (
        unblur("translate", f"python main.py {options}"),
        unblur("translate", options),
    )
    assert (options_only.code, with_program.code) == (0, 0)
    assert options_only.out == with_program.out


def test_translate_refuses_what_the_program_does_not_know(unblur: Unblur) -> None:
    result = unblur("translate", f"{COMMAND} --T_x=1")
    assert result.code == 2
    assert "--T_x is not an option" in result.err
    assert not result.out
