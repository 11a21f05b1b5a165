"""The command line of the BSPM authors' program (Choi et al., SIGIR 2023).

| there | here |
|---|---|
| `--solver_blr`, `--T_b`, `--K_b` | `model.blur.solver`, `.duration`, `.steps` |
| `--solver_idl`, `--T_idl`, `--K_idl` | `model.low_pass.flow.solver`, `.duration`, `.steps` |
| `--factor_dim`, `--idl_beta` | `model.low_pass.rank`, `.weight` |
| `--solver_shr`, `--T_s`, `--K_s` | `model.sharpen.solver`, `.duration`, `.steps` |
| `--final_sharpening` | `model.merge`: True is early, False is late |
| `--sharpening_off` | `model.sharpen = "off"` |
| `--t_point_combination` | `model.output = "mean"` |
| `--topks` | `protocol.cutoffs` |
| `--dataset`, `--seed` | `data.name`, `seed` |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unblur.compat.command_line import Given, Option, parse_options, truth, whole_numbers
from unblur.compat.translation import Translation, settled
from unblur.errors import RecipeError
from unblur.experiment.recipe.schema import Recipe

_PROGRAM = "BSPM's main.py"
_SOLVERS = ("euler", "rk4")
_DATA_SETS = ("gowalla", "yelp2018", "amazon-book")
_WITHOUT_LOW_PASS = "amazon-book"
_TWO_BLURS = "gowalla"

_TRAINED = "only its trained models (LightGCN, MF) read it"
_REPORTING = "it only says how that program logs"
_BATCH = "scores here do not depend on the batch"
_DEVICE = "give the device to the run: --device"

OPTIONS: Mapping[str, Option] = {
    "simple_model": Option(str, "none", choices=("bspm", "bspm-torch", "gf-cf", "lgn-ide", "none")),
    "dataset": Option(str, "gowalla", choices=_DATA_SETS),
    "topks": Option(whole_numbers, (20,)),
    "seed": Option(int, 2020),
    "solver_blr": Option(str, "euler", choices=_SOLVERS),
    "T_b": Option(float, 1.0),
    "K_b": Option(int, 1),
    "solver_idl": Option(str, "euler", choices=_SOLVERS),
    "T_idl": Option(float, 1.0),
    "K_idl": Option(int, 1),
    "solver_shr": Option(str, "euler", choices=_SOLVERS),
    "T_s": Option(float, 1.0),
    "K_s": Option(int, 1),
    "factor_dim": Option(int, 256),
    "idl_beta": Option(float, 0.3),
    "final_sharpening": Option(truth, True),
    "sharpening_off": Option(truth, False),
    "t_point_combination": Option(truth, False),
    "testbatch": Option(int, 100, irrelevant=_BATCH),
    "gpu": Option(int, 0, irrelevant=_DEVICE),
    "adjoint": Option(truth, False, irrelevant="nothing is differentiated"),
    "multicore": Option(int, 0, irrelevant="results here do not depend on the number of threads"),
    "path": Option(str, "./checkpoints", irrelevant="give the folder to the run: --out"),
    "load": Option(int, 0, irrelevant=_TRAINED),
    "tensorboard": Option(int, 1, irrelevant=_REPORTING),
    "comment": Option(str, "lgn", irrelevant=_REPORTING),
    **{
        name: Option(kind, default, irrelevant=_TRAINED)
        for name, kind, default in (
            ("bpr_batch", int, 2048),
            ("recdim", int, 64),
            ("layer", int, 3),
            ("lr", float, 0.001),
            ("decay", float, 1e-4),
            ("dropout", int, 0),
            ("keepprob", float, 0.6),
            ("a_fold", int, 100),
            ("epochs", int, 1000),
            ("pretrain", int, 0),
            ("model", str, "lgn"),
        )
    },
}
"""Every option of that program, with its default."""


def translate(arguments: list[str]) -> Translation:
    """The recipe that does what BSPM's program does with these arguments.

    Raises `RecipeError` for an option or value that the program does not have, and for a model that is not
    one of this family (`--simple_model` not given: the program then trains LightGCN).
    """
    given = parse_options(arguments, OPTIONS, _PROGRAM)
    model = given.values["simple_model"]
    if model == "none":
        raise RecipeError(
            f"{_PROGRAM} trains LightGCN unless --simple_model is given; there is no recipe for that. "
            'Give --simple_model="bspm".'
        )
    family = {"bspm-torch": "bspm", "lgn-ide": "lgcn-ide"}.get(model, model)
    table, notes = {"bspm": _bspm, "gf-cf": _gf_cf, "lgcn-ide": _lgcn_ide}[family](given)
    data = given.values["dataset"]
    recipe = Recipe.from_dict(
        {
            "name": f"{family}/{data}-translated",
            "title": f"Translated from a command line of {_PROGRAM}",
            "seed": given.values["seed"],
            "data": {"name": data},
            "split": {"kind": "files"},
            "model": {"kind": "bspm", **table},
            "protocol": {
                "kind": "paper",
                "cutoffs": list(given.values["topks"]),
                "metrics": ["recall", "ndcg"],
            },
        }
    )
    return settled("bspm", recipe, (*given.notes, *notes))


def _bspm(given: Given) -> tuple[dict[str, Any], tuple[str, ...]]:
    """BSPM as `--simple_model` bspm and bspm-torch run it; the two do the same."""
    values, notes = given.values, []
    low_pass: Any = {
        "rank": values["factor_dim"],
        "weight": values["idl_beta"],
        "flow": _flow(values, "idl", "idl"),
    }
    if values["dataset"] == _WITHOUT_LOW_PASS:
        low_pass = "off"
        notes.append(
            f"the program leaves the low-pass term out on {_WITHOUT_LOW_PASS}, by its name; so does "
            "the recipe"
        )
    return {
        "blur": _flow(values, "blr", "b"),
        "low_pass": low_pass,
        "sharpen": "off" if values["sharpening_off"] else _flow(values, "shr", "s"),
        "merge": "early" if values["final_sharpening"] else "late",
        "output": "mean" if values["t_point_combination"] else "last",
    }, tuple(notes)


def _gf_cf(given: Given) -> tuple[dict[str, Any], tuple[str, ...]]:
    """GF-CF, with rank 256 and weight 0.3 whatever the options say."""
    low_pass: Any = "off" if given.values["dataset"] == _WITHOUT_LOW_PASS else {"rank": 256, "weight": 0.3}
    return {"low_pass": low_pass, "sharpen": "off"}, _unread(given)


def _lgcn_ide(given: Given) -> tuple[dict[str, Any], tuple[str, ...]]:
    """LGCN-IDE: one blur of the normalised row, or two on one data set, whatever the options say."""
    blurs = 2 if given.values["dataset"] == _TWO_BLURS else 1
    flow = {"duration": float(blurs), "steps": blurs, "solver": "euler"}
    return {"history": "normalized", "blur": flow, "low_pass": "off", "sharpen": "off"}, _unread(given)


def _unread(given: Given) -> tuple[str, ...]:
    """A note on each hyper-parameter of BSPM that was given to a model that does not read it."""
    read = ("simple_model", "dataset", "topks", "seed")
    return tuple(
        f"--{name} has no place in the recipe: the program reads it for BSPM only"
        for name in given.named
        if name not in read and not OPTIONS[name].irrelevant
    )


def _flow(values: Mapping[str, Any], solver: str, process: str) -> dict[str, Any]:
    return {
        "duration": values[f"T_{process}"],
        "steps": values[f"K_{process}"],
        "solver": values[f"solver_{solver}"],
    }
