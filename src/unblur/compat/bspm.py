"""The command line of the BSPM authors' program (Choi et al., SIGIR 2023), with its options in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unblur.compat.command_line import Option, Program, table_of, truth, whole_numbers
from unblur.errors import RecipeError
from unblur.experiment.recipe.schema import Recipe

_TITLE = "BSPM's main.py"
_SOLVERS = ("euler", "rk4")
_WITHOUT_LOW_PASS = "amazon-book"
_TWO_BLURS = "gowalla"

_TRAINED = "only its trained models (LightGCN, MF) read it"
_REPORTING = "it only says how that program logs"

_COMMON: Mapping[str, Option] = {
    "simple_model": Option(str, "none", choices=("bspm", "bspm-torch", "gf-cf", "lgn-ide", "none")),
    "dataset": Option(str, "gowalla", "data.name", choices=("gowalla", "yelp2018", "amazon-book")),
    "topks": Option(whole_numbers, (20,), "protocol.cutoffs"),
    "seed": Option(int, 2020, "seed"),
}
"""The options for all its models; paths are in the recipe."""

_MODEL: Mapping[str, Option] = {
    "solver_blr": Option(str, "euler", "blur.solver", choices=_SOLVERS),
    "T_b": Option(float, 1.0, "blur.duration"),
    "K_b": Option(int, 1, "blur.steps"),
    "solver_idl": Option(str, "euler", "low_pass.flow.solver", choices=_SOLVERS),
    "T_idl": Option(float, 1.0, "low_pass.flow.duration"),
    "K_idl": Option(int, 1, "low_pass.flow.steps"),
    "solver_shr": Option(str, "euler", "sharpen.solver", choices=_SOLVERS),
    "T_s": Option(float, 1.0, "sharpen.duration"),
    "K_s": Option(int, 1, "sharpen.steps"),
    "factor_dim": Option(int, 256, "low_pass.rank"),
    "idl_beta": Option(float, 0.3, "low_pass.weight"),
    "final_sharpening": Option(truth, True, "merge", {True: "early", False: "late"}.get),
    "sharpening_off": Option(truth, False),
    "t_point_combination": Option(truth, False, "output", {True: "mean", False: "last"}.get),
}
"""The options that it reads for BSPM only; paths are in the spec."""

_IGNORED: Mapping[str, Option] = {
    "testbatch": Option(int, 100, irrelevant="scores here do not depend on the batch"),
    "gpu": Option(int, 0, irrelevant="give the device to the run: --device"),
    "adjoint": Option(truth, False, irrelevant="nothing is differentiated"),
    "multicore": Option(int, 0, irrelevant="results here do not depend on the number of threads"),
    "path": Option(str, "./checkpoints", irrelevant="give the folder to the run: --out"),
    "load": Option(int, 0, irrelevant=_TRAINED),
    "tensorboard": Option(int, 1, irrelevant=_REPORTING),
    "comment": Option(str, "lgn", irrelevant=_REPORTING),
    "bpr_batch": Option(int, 2048, irrelevant=_TRAINED),
    "recdim": Option(int, 64, irrelevant=_TRAINED),
    "layer": Option(int, 3, irrelevant=_TRAINED),
    "lr": Option(float, 0.001, irrelevant=_TRAINED),
    "decay": Option(float, 1e-4, irrelevant=_TRAINED),
    "dropout": Option(int, 0, irrelevant=_TRAINED),
    "keepprob": Option(float, 0.6, irrelevant=_TRAINED),
    "a_fold": Option(int, 100, irrelevant=_TRAINED),
    "epochs": Option(int, 1000, irrelevant=_TRAINED),
    "pretrain": Option(int, 0, irrelevant=_TRAINED),
    "model": Option(str, "lgn", irrelevant=_TRAINED),
}

_FAMILIES = {"bspm": "bspm", "bspm-torch": "bspm", "gf-cf": "gf-cf", "lgn-ide": "lgcn-ide"}
"""Our names of the models of `--simple_model`."""
_ONE_EULER_STEP = ("solver_blr", "T_b", "K_b", "solver_idl", "T_idl", "K_idl")
"""The options of blur and low-pass, which bspm-torch does not read: both are one Euler step of duration 1 there."""


def _recipe(values: Mapping[str, Any], options_given: Sequence[str]) -> tuple[Recipe, list[str]]:
    """The recipe for options. Raises `RecipeError` without `--simple_model`: the program then trains LightGCN."""
    model, data = values["simple_model"], values["dataset"]
    RecipeError.unless(
        model in _FAMILIES,
        f"--simple_model of {_TITLE} must be given; without it the program trains LightGCN, for which there is no recipe. "
        'Give --simple_model="bspm".',
    )
    family = _FAMILIES[model]
    if family == "bspm":
        unread = [name for name in options_given if name in _ONE_EULER_STEP and model == "bspm-torch"]
        values = {**values, **{name: _MODEL[name].default for name in unread}}
        spec = table_of(_MODEL, values)
        notes = [
            f"--{name} has no effect with bspm-torch, whose blur and low-pass are one Euler step each; for the effect, "
            "give --simple_model=bspm"
            for name in unread
        ]
        if values["sharpening_off"]:
            spec["sharpen"] = "off"
        if data == _WITHOUT_LOW_PASS:
            notes.append(
                f"the program leaves out the low-pass term if the data set is {data}; so does the recipe"
            )
    else:
        spec = _fixed(family, data)
        notes = [
            f"--{name} is not part of the recipe: the program reads it for BSPM only"
            for name in options_given
            if name in _MODEL
        ]
    if data == _WITHOUT_LOW_PASS:
        spec["low_pass"] = "off"
    start = {
        "name": f"{family}/{data}-translated",
        "title": f"Translated from a command line of {_TITLE}",
        "split": {"kind": "files"},
        "model": {"kind": "bspm", **spec},
        "protocol": {"kind": "paper", "metrics": ["recall", "ndcg"]},
    }
    return Recipe.from_dict(table_of(_COMMON, values, start)), notes


def _fixed(family: str, data: str) -> dict[str, Any]:
    """The spec of GF-CF, with rank 256 and weight 0.3, or of LGCN-IDE, one blur of the normalised row (two on one data
    set): the values that are fixed in the program, whatever the options say."""
    if family == "gf-cf":
        return {"low_pass": {"rank": 256, "weight": 0.3}, "sharpen": "off"}
    blurs = 2 if data == _TWO_BLURS else 1
    flow = {"duration": float(blurs), "steps": blurs, "solver": "euler"}
    return {"history": "normalized", "blur": flow, "low_pass": "off", "sharpen": "off"}


PROGRAM = Program(_TITLE, {**_COMMON, **_MODEL, **_IGNORED}, _recipe)
