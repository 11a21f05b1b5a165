"""The command lines of the DiffRec authors' four programs (Wang et al., SIGIR 2023): DiffRec, T-, L- and
LT-DiffRec.

| there | here |
|---|---|
| `--steps`, `--noise_schedule`, `--noise_scale`, `--noise_min`, `--noise_max` | `model.schedule` |
| `--dims` (`--mlp_dims`), `--emb_size`, `--norm`, `--mlp_act_func` | `model.denoiser` |
| `--mean_type`, `--reweight` | `model.objective` |
| `--sampling_steps`, `--sampling_noise` | `model.sampling` |
| `--lr`, `--weight_decay` (`--wd`); latent: `--lr2`, `--wd2` | `model.optimizer` |
| `--w_min`, `--w_max` | `model.time_weights` |
| `--n_cate` | `model.clusters.count` |
| `--in_dims`, `--out_dims`, `--act_func`, `--reparam`, `--lr1`, `--wd1` | `model.autoencoder` |
| `--lamda`, `--anneal_cap`, `--anneal_steps` | `model.autoencoder` |
| `--vae_anneal_cap`, `--vae_anneal_steps` | `model.autoencoder` |
| `--batch_size`, `--epochs` | `model.batch_size`, `.epochs` |
| `--topN`, `--tst_w_val` | `protocol.cutoffs`, `split.histories` |
| `--dataset`, `--seed` | `data.name`, `seed` |

The four are scripts of one name. Which one it was is told from its options: any of the autoencoder's means a
latent model, `--w_min` or `--w_max` one that weighs by time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unblur.compat.command_line import Given, Option, parse_options, truth, whole_numbers
from unblur.compat.translation import Translation, settled
from unblur.errors import RecipeError
from unblur.experiment.recipe.schema import Recipe

_PROGRAM = "DiffRec's main.py"
_DATA_SETS = (
    "amazon-book_clean",
    "yelp_clean",
    "ml-1m_clean",
    "amazon-book_noisy",
    "yelp_noisy",
    "ml-1m_noisy",
)
_TIMED = ("ml-1m_clean",)
_RECIPE_DATA = {"clean": "", "noisy": "-noisy"}
_UNKNOWN = object()
"""The default of an option that has to be given, because every published command line gives it."""

_DEVICE = "give the device to the run: --device"
_OUT = "give the folder to the run: --out"
_REPORTING = "it only says how that program logs"


def _widths(text: str) -> tuple[int, ...]:
    """A list of whole numbers that may be empty."""
    return () if text.strip() in ("", "[]") else whole_numbers(text)


def _truth(text: str) -> bool:
    """``True``, ``False``, or 1 and 0."""
    return truth({"1": "True", "0": "False"}.get(text, text))


_LATENT: Mapping[str, Option] = {
    "n_cate": Option(int, 1),
    "in_dims": Option(whole_numbers, (300,)),
    "out_dims": Option(_widths, ()),
    "act_func": Option(str, "tanh"),
    "reparam": Option(_truth, True),
    "lr1": Option(float, _UNKNOWN),
    "lr2": Option(float, _UNKNOWN),
    "wd1": Option(float, 0.0),
    "wd2": Option(float, 0.0),
    "lamda": Option(float, 0.03),
    "anneal_cap": Option(float, 0.005),
    "anneal_steps": Option(int, 500),
    "vae_anneal_cap": Option(float, 0.3),
    "vae_anneal_steps": Option(int, 200),
}
"""What only the latent programs have; any of them tells that it is one."""

_ROWS: Mapping[str, Option] = {
    "lr": Option(float, _UNKNOWN),
    "weight_decay": Option(float, 0.0),
    "wd": Option(float, 0.0),
}
"""What only the programs on rows of items have."""

OPTIONS: Mapping[str, Option] = {
    "dataset": Option(str, _UNKNOWN, choices=_DATA_SETS),
    "batch_size": Option(int, 400),
    "epochs": Option(int, 1000),
    "topN": Option(whole_numbers, (10, 20)),
    "seed": Option(int, 1),
    "tst_w_val": Option(_truth, False, flag=True),
    "dims": Option(whole_numbers, _UNKNOWN),
    "mlp_dims": Option(whole_numbers, _UNKNOWN),
    "emb_size": Option(int, 10),
    "norm": Option(_truth, False),
    "mlp_act_func": Option(str, "tanh"),
    "mean_type": Option(str, "x0", choices=("x0", "eps")),
    "steps": Option(int, _UNKNOWN),
    "noise_schedule": Option(str, "linear-var", choices=("linear", "linear-var", "cosine", "binomial")),
    "noise_scale": Option(float, _UNKNOWN),
    "noise_min": Option(float, _UNKNOWN),
    "noise_max": Option(float, _UNKNOWN),
    "sampling_noise": Option(_truth, False),
    "sampling_steps": Option(int, 0),
    "reweight": Option(_truth, True),
    "w_min": Option(float, 0.1),
    "w_max": Option(float, 1.0),
    **_ROWS,
    **_LATENT,
    "cuda": Option(_truth, False, flag=True, irrelevant=_DEVICE),
    "gpu": Option(str, "0", irrelevant=_DEVICE),
    "data_path": Option(str, "", irrelevant="give the folder to the run: --data"),
    "emb_path": Option(str, "", irrelevant="item embeddings are made from train"),
    "save_path": Option(str, "", irrelevant=_OUT),
    "log_name": Option(str, "", irrelevant=_REPORTING),
    "round": Option(int, 1, irrelevant=_REPORTING),
}
"""Every option of those programs, with its default where it may be left out."""


def translate(arguments: list[str]) -> Translation:
    """The recipe that does what one of DiffRec's four programs does with these arguments.

    Raises `RecipeError` for an option or value that the programs do not have, for options of two of them at
    once, and where data set, learning rate, widths, steps or noise are not given.
    """
    given = parse_options(arguments, OPTIONS, _PROGRAM)
    latent = [name for name in given.named if name in _LATENT]
    rows = [name for name in given.named if name in _ROWS]
    if latent and rows:
        raise RecipeError(
            f"A command line must be that of one program; --{rows[0]} is of the models on rows of items, "
            f"--{latent[0]} of the latent ones. Leave one out."
        )
    timed = bool({"w_min", "w_max"} & {*given.named})
    family = f"{'l' if latent else ''}{'t' if timed else ''}"
    family = f"{family}-diffrec" if family else "diffrec"
    model, notes = _latent(given) if latent else _on_rows(given)
    if timed:
        model["time_weights"] = {
            "oldest": given.values["w_min"],
            "newest": given.values["w_max"],
        }
    data = _needed(given, "dataset")
    base, _, kind = data.partition("_")
    recipe = Recipe.from_dict(
        {
            "name": f"{family}/{base}{_RECIPE_DATA[kind]}-translated",
            "title": f"Translated from a command line of {_PROGRAM}",
            "seed": given.values["seed"],
            "data": {"name": data, "reading": "timed" if data in _TIMED else "pairs"},
            "split": {
                "kind": "files",
                "validation": "valid",
                "histories": "train-and-validation" if given.values["tst_w_val"] else "train",
            },
            "model": model,
            "protocol": {
                "kind": "paper",
                "cutoffs": list(given.values["topN"]),
                "metrics": ["recall", "ndcg"],
                "averaging": "all-users",
            },
        }
    )
    return settled("diffrec", recipe, (*given.notes, *notes))


def _on_rows(given: Given) -> tuple[dict[str, Any], tuple[str, ...]]:
    """DiffRec and T-DiffRec."""
    values = given.values
    decay = values["wd"] if "wd" in given.named else values["weight_decay"]
    optimizer = {"learning_rate": _needed(given, "lr"), "weight_decay": decay}
    return {"kind": "diffrec", **_shared(given), "optimizer": optimizer}, ()


def _latent(given: Given) -> tuple[dict[str, Any], tuple[str, ...]]:
    """L-DiffRec and LT-DiffRec."""
    values, notes = given.values, []
    model = {"kind": "l-diffrec", **_shared(given)}
    model["schedule"]["fixed_first"] = False
    model["clusters"] = {"count": values["n_cate"]}
    model["autoencoder"] = {
        "encoder_dims": list(values["in_dims"]),
        "decoder_dims": list(values["out_dims"]),
        "activation": values["act_func"],
        "sample_latent": values["reparam"],
        "diffusion_weight": values["lamda"],
        "least_diffusion_weight": values["anneal_cap"],
        "diffusion_decay": values["anneal_steps"],
        "decay_unit": "epochs",
        "kl_weight": values["vae_anneal_cap"],
        "kl_batches": values["vae_anneal_steps"],
        "optimizer": {"learning_rate": _needed(given, "lr1"), "weight_decay": values["wd1"]},
    }
    model["optimizer"] = {"learning_rate": _needed(given, "lr2"), "weight_decay": values["wd2"]}
    if values["n_cate"] > 1:
        notes.append(
            "the program clusters items by embeddings that come with its data; the recipe makes its own from "
            "train"
        )
    return model, tuple(notes)


def _shared(given: Given) -> dict[str, Any]:
    """What all four models have in common."""
    values = given.values
    dims = "mlp_dims" if "mlp_dims" in given.named else "dims"
    return {
        "epochs": values["epochs"],
        "batch_size": values["batch_size"],
        "schedule": {
            "name": values["noise_schedule"],
            "steps": _needed(given, "steps"),
            "scale": _needed(given, "noise_scale"),
            "lowest": _needed(given, "noise_min"),
            "highest": _needed(given, "noise_max"),
        },
        "denoiser": {
            "dims": list(_needed(given, dims)),
            "activation": values["mlp_act_func"],
            "normalize": values["norm"],
            "embedding_size": values["emb_size"],
        },
        "objective": {"predicts": values["mean_type"], "reweight": values["reweight"]},
        "sampling": {"start_steps": values["sampling_steps"], "noise": values["sampling_noise"]},
    }


def _needed(given: Given, name: str) -> Any:
    """The value of an option that has to be given."""
    if given.values[name] is _UNKNOWN:
        raise RecipeError(
            f"--{name} of {_PROGRAM} must be given, since its best value is another for each data set; it is "
            f"not there. Add --{name}=VALUE."
        )
    return given.values[name]
