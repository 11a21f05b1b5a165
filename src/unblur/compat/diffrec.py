"""The command lines of the DiffRec authors' four programs (Wang et al., SIGIR 2023): DiffRec, T-, L- and
LT-DiffRec.

All four scripts have the same name. The program is detected from its options: any option of the autoencoder means a
latent model, `--w_min` or `--w_max` a model with weights by time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unblur.compat.command_line import (
    REQUIRED,
    Option,
    Program,
    as_list,
    from_text,
    is_whole,
    parser,
    table_of,
    whole_numbers,
)
from unblur.errors import RecipeError
from unblur.experiment.recipe.schema import Recipe

_TITLE = "DiffRec's main.py"
_DATA_SETS = {
    "amazon-book_clean": "amazon-book",
    "yelp_clean": "yelp",
    "ml-1m_clean": "ml-1m",
    "amazon-book_noisy": "amazon-book-noisy",
    "yelp_noisy": "yelp-noisy",
    "ml-1m_noisy": "ml-1m-noisy",
}
"""Its data sets, and their names in our recipes."""
_TIMED = ("ml-1m_clean",)
"""The data sets with times."""

_DEVICE = "give the device to the run: --device"
_REPORTING = "it only says how that program logs"


_truth = parser(
    "it must be True or False", ("True", "False", "1", "0").__contains__, ("True", "1").__contains__
)
_widths = parser(
    "it must be a list of whole numbers such as [20]",
    lambda text: not text.strip() or all(map(is_whole, as_list(from_text(text)))),
    lambda text: tuple(as_list(from_text(text))) if text.strip() else (),
)
"""A list of whole numbers that may be empty."""

_COMMON: Mapping[str, Option] = {
    "dataset": Option(str, REQUIRED, "data.name", choices=tuple(_DATA_SETS)),
    "topN": Option(whole_numbers, (10, 20), "protocol.cutoffs"),
    "seed": Option(int, 1, "seed"),
    "tst_w_val": Option(
        _truth, False, "split.histories", {True: "train-and-validation", False: "train"}.get, flag=True
    ),
}
"""The options of all four programs that are not hyper-parameters; paths are in the recipe."""

_MODEL: Mapping[str, Option] = {
    "batch_size": Option(int, 400, "batch_size"),
    "epochs": Option(int, 1000, "epochs"),
    "steps": Option(int, REQUIRED, "schedule.steps"),
    "noise_schedule": Option(
        str, "linear-var", "schedule.name", choices=("linear", "linear-var", "cosine", "binomial")
    ),
    "noise_scale": Option(float, REQUIRED, "schedule.scale"),
    "noise_min": Option(float, REQUIRED, "schedule.noise_min"),
    "noise_max": Option(float, REQUIRED, "schedule.noise_max"),
    "dims": Option(whole_numbers, REQUIRED, "denoiser.dims"),
    "emb_size": Option(int, 10, "denoiser.embedding_size"),
    "norm": Option(_truth, False, "denoiser.normalize"),
    "mlp_act_func": Option(str, "tanh", "denoiser.activation"),
    "mean_type": Option(str, "x0", "objective.prediction", choices=("x0", "eps")),
    "reweight": Option(_truth, True, "objective.reweight"),
    "sampling_noise": Option(_truth, False, "sampling.noise"),
    "sampling_steps": Option(int, 0, "sampling.start_steps"),
}
"""The hyper-parameters of all four models; these and the following paths are in the spec."""

_TIME: Mapping[str, Option] = {
    "w_min": Option(float, 0.1, "time_weights.oldest"),
    "w_max": Option(float, 1.0, "time_weights.newest"),
}
"""The hyper-parameters of the models with weights by time, which are detected by them."""

_ROWS: Mapping[str, Option] = {
    "lr": Option(float, REQUIRED, "optimizer.learning_rate"),
    "weight_decay": Option(float, 0.0, "optimizer.weight_decay"),
}
"""The hyper-parameters of the models on rows of items."""

_LATENT: Mapping[str, Option] = {
    "n_cate": Option(int, 1, "clusters.count"),
    "in_dims": Option(whole_numbers, (300,), "autoencoder.encoder_dims"),
    "out_dims": Option(_widths, (), "autoencoder.decoder_dims"),
    "act_func": Option(str, "tanh", "autoencoder.activation"),
    "reparam": Option(_truth, True, "autoencoder.sample_latent"),
    "lr1": Option(float, REQUIRED, "autoencoder.optimizer.learning_rate"),
    "lr2": Option(float, REQUIRED, "optimizer.learning_rate"),
    "wd1": Option(float, 0.0, "autoencoder.optimizer.weight_decay"),
    "wd2": Option(float, 0.0, "optimizer.weight_decay"),
    "lamda": Option(float, 0.03, "autoencoder.diffusion_weight"),
    "anneal_cap": Option(float, 0.005, "autoencoder.least_diffusion_weight"),
    "anneal_steps": Option(int, 500, "autoencoder.diffusion_decay"),
    "vae_anneal_cap": Option(float, 0.3, "autoencoder.kl_weight"),
    "vae_anneal_steps": Option(int, 200, "autoencoder.kl_batches"),
}
"""The hyper-parameters of the latent models, which are detected by them."""

_OTHER_NAMES = {"mlp_dims": "dims", "wd": "weight_decay"}
"""Names of some of the programs for the same options of the others."""

_IGNORED: Mapping[str, Option] = {
    "cuda": Option(_truth, False, irrelevant=_DEVICE, flag=True),
    "gpu": Option(str, "0", irrelevant=_DEVICE),
    "data_path": Option(str, "", irrelevant="give the folder to the run: --data"),
    "emb_path": Option(str, "", irrelevant="item embeddings are made from train"),
    "save_path": Option(str, "", irrelevant="give the folder to the run: --out"),
    "log_name": Option(str, "", irrelevant=_REPORTING),
    "round": Option(int, 1, irrelevant=_REPORTING),
}


def _recipe(values: Mapping[str, Any], named: Sequence[str]) -> tuple[Recipe, list[str]]:
    """The recipe for options. Raises `RecipeError` for options of two of the programs at once, and if data set, learning
    rate, widths, steps or noise are missing."""
    latent = [name for name in named if name in _LATENT]
    rows = [name for name in named if name in _ROWS or _OTHER_NAMES.get(name) in _ROWS]
    if latent and rows:
        raise RecipeError(
            f"A command line must be that of one program; --{rows[0]} is for the models on rows of items, "
            f"--{latent[0]} for the latent ones. Leave one out."
        )
    values = {
        **values,
        **{name: values[other_name] for other_name, name in _OTHER_NAMES.items() if other_name in named},
    }
    timed = any(name in _TIME for name in named)
    options = {**_MODEL, **(_TIME if timed else {}), **(_LATENT if latent else _ROWS)}
    for name in (*options, "dataset"):
        RecipeError.unless(
            values[name] is not REQUIRED,
            f"--{name} of {_TITLE} must be given, since its best value differs between data sets; it is missing. "
            f"Add --{name}=VALUE.",
        )
    data, notes = values["dataset"], []
    family = f"{'l' if latent else ''}{'t' if timed else ''}"
    model: dict[str, Any] = {"kind": "l-diffrec" if latent else "diffrec"}
    if latent:
        model |= {"schedule": {"fixed_first": False}, "autoencoder": {"decay_unit": "epochs"}}
    if latent and values["n_cate"] > 1:
        notes.append(
            "the program clusters items by embeddings that come with its data; the recipe computes its own from "
            "train"
        )
    tables = {
        "name": f"{family}{'-' if family else ''}diffrec/{_DATA_SETS[data]}-translated",
        "title": f"Translated from a command line of {_TITLE}",
        "data": {"reading": "timed" if data in _TIMED else "pairs"},
        "split": {"kind": "files", "validation": "valid"},
        "model": table_of(options, values, model),
        "protocol": {"kind": "paper", "metrics": ["recall", "ndcg"], "averaging": "all-users"},
    }
    return Recipe.from_dict(table_of(_COMMON, values, tables)), notes


PROGRAM = Program(
    _TITLE,
    {
        **_COMMON,
        **_MODEL,
        **{other: {**_MODEL, **_ROWS}[name] for other, name in _OTHER_NAMES.items()},
        **_TIME,
        **_ROWS,
        **_LATENT,
        **_IGNORED,
    },
    _recipe,
)
