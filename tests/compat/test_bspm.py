"""The published commands of BSPM give the shipped recipes; anything unknown is refused."""

import pytest

from unblur.compat.translation import translate
from unblur.errors import RecipeError
from unblur.experiment.recipe.library import load_recipe
from unblur.models.spectral.bspm import BSPM, LowPass
from unblur.models.spectral.flow import Flow

PUBLISHED = {
    "gowalla": '--solver_shr="rk4" --K_s=1 --T_s=2.5 --final_sharpening=True --idl_beta=0.2 --factor_dim=448',
    "yelp2018": '--solver_shr="euler" --K_s=1 --T_s=1.2 --final_sharpening=True --t_point_combination=True '
    "--factor_dim=384",
    "amazon-book": '--solver_shr="rk4" --K_s=2 --T_s=2.2 --final_sharpening=False',
}
PROGRAMS = ('--simple_model="bspm"', '--simple_model="bspm-torch" --testbatch=2048')
START = 'python main.py --simple_model="bspm"'


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("data", PUBLISHED)
def test_the_published_commands_are_the_shipped_recipes(data: str, program: str) -> None:
    command = f'python main.py --dataset="{data}" --topks="[20]" {program} {PUBLISHED[data]}'
    translation = translate(command)
    shipped = load_recipe(f"bspm/{data}")
    assert translation.system == "bspm"
    assert translation.recipe.model == shipped.model
    assert translation.recipe == shipped


def test_amazon_book_has_no_low_pass_whatever_is_asked() -> None:
    translation = translate(f"{START} --dataset=amazon-book --factor_dim=64 --final_sharpening=True")
    assert translation.recipe.model.low_pass is None
    assert any("leaves out the low-pass term" in note for note in translation.notes)


def test_defaults() -> None:
    translation = translate(START)
    assert translation.recipe.model == BSPM(low_pass=LowPass(rank=256, weight=0.3), sharpen=Flow())
    assert translation.recipe.data.name == "gowalla"
    assert translation.recipe.seed == 2020
    assert translation.recipe.protocol.cutoffs == (20,)


def test_every_hyper_parameter() -> None:
    translation = translate(
        f"CUDA_VISIBLE_DEVICES=0 {START} --dataset yelp2018 --solver_blr rk4 --T_b 2 --K_b 3 "
        "--solver_idl rk4 --T_idl .5 "
        "--K_idl 4 --factor_dim 32 --idl_beta 0.7 --solver_shr euler --T_s 1.5 --K_s 6 "
        "--final_sharpening False "
        "--t_point_combination 'True' --topks '[5, 50]' --seed 1"
    )
    assert translation.recipe.model == BSPM(
        blur=Flow(solver="rk4", duration=2.0, steps=3),
        low_pass=LowPass(rank=32, weight=0.7, flow=Flow(solver="rk4", duration=0.5, steps=4)),
        sharpen=Flow(duration=1.5, steps=6),
        merge="late",
        output="mean",
    )
    assert translation.recipe.protocol.cutoffs == (5, 50)
    assert translation.recipe.seed == 1
    assert translation.recipe.name == "bspm/yelp2018-translated"
    assert not translation.recipe.expected


@pytest.mark.parametrize(
    "options", ["--solver_blr=rk4 --T_b=2 --K_b=3", "--solver_idl=rk4 --T_idl=.5 --K_idl=4"]
)
def test_bspm_torch_does_not_read_the_flows_of_blur_and_low_pass(options: str) -> None:
    torch = 'python main.py --simple_model="bspm-torch" --T_s=1.5'
    translation = translate(f"{torch} {options}")
    assert translation.recipe == translate(torch).recipe
    assert [note.partition(" ")[0] for note in translation.notes] == [
        word.partition("=")[0] for word in options.split()
    ]
    assert all("has no effect with bspm-torch" in note for note in translation.notes)
    assert translate(f"{START} --T_s=1.5 {options}").recipe.model != translation.recipe.model


def test_sharpening_off_is_gf_cf() -> None:
    assert translate(f"{START} --sharpening_off=True").recipe == load_recipe("gf-cf/gowalla")


@pytest.mark.parametrize(("model", "family"), [("gf-cf", "gf-cf"), ("lgn-ide", "lgcn-ide"), ("bspm", "bspm")])
@pytest.mark.parametrize("data", ["gowalla", "yelp2018"])
def test_the_other_simple_models(model: str, family: str, data: str) -> None:
    translation = translate(f"python main.py --dataset={data} --simple_model={model}")
    if model != "bspm":
        assert translation.recipe == load_recipe(f"{family}/{data}")


def test_options_that_change_nothing_are_noted() -> None:
    translation = translate(f"{START} --testbatch=2048 --gpu=1 --layer=2")
    assert [note.partition(" ")[0] for note in translation.notes] == ["--testbatch", "--gpu", "--layer"]
    assert translate("python main.py --simple_model=gf-cf --T_s=3").notes[0].startswith("--T_s is not part")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--t_s=2", "--t_s is not an option of BSPM's main.py. Did you mean '--T_s'?"),
        ("--factor_dims=2", "Did you mean '--factor_dim'?"),
        ("--xyzzy=2", "Its options: --simple_model"),
        ("--T_s=fast", "--T_s of BSPM's main.py cannot be 'fast'"),
        ("--T_s=-1", "greater than 0"),
        ("--K_s=1.5", "--K_s of BSPM's main.py cannot be '1.5'"),
        ("--T_s", "--T_s of BSPM's main.py needs a value"),
        ("--T_s --K_s=1", "--T_s of BSPM's main.py needs a value"),
        ("--final_sharpening=true", "it must be True or False"),
        ("--solver_shr=dopri5", "--solver_shr of BSPM's main.py must be one of euler, rk4; saw 'dopri5'"),
        ("--dataset=gowala", "Did you mean 'gowalla'?"),
        ("--topks=[]", "it must be a list of whole numbers"),
        ("--topks=[a]", "it must be a list of whole numbers"),
        ("--simple_model=none", "--simple_model of BSPM's main.py must be given"),
        ("stray", "Options of BSPM's main.py must begin with --; saw 'stray'"),
        ("--dataset='open", "matching quotes"),
    ],
)
def test_what_the_program_does_not_know_is_refused(options: str, message: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        translate(f"{START} {options}")
    assert message in str(refusal.value)


@pytest.mark.parametrize("command", ["", "ls -l", "python main.py", "python main.py --foo=1"])
def test_a_command_of_nobody_is_refused(command: str) -> None:
    with pytest.raises(RecipeError, match="A command line must be that of"):
        translate(command)


def test_the_system_can_be_named() -> None:
    with pytest.raises(RecipeError, match="the program trains LightGCN"):
        translate("python main.py", system="bspm")
    with pytest.raises(RecipeError, match="Did you mean 'bspm'"):
        translate("python main.py", system="bpsm")
