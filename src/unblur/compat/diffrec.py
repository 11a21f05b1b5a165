"""The command lines of the DiffRec authors' four programs (Wang et al., SIGIR 2023): DiffRec, T-, L- and
LT-DiffRec.

All four scripts have the same name. The program is detected from its options: any option of the autoencoder means a
latent model, `--w_min` or `--w_max` a model with weights by time. Without either it is DiffRec's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unblur.compat.command_line import (
    Option,
    Program,
    as_list,
    from_text,
    is_whole,
    one_of,
    parser,
    table_of,
    whole_numbers,
)
from unblur.errors import RecipeError, nearest
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

_DATA_SET = Option(str, "yelp_clean")
_SEED = 1
"""The seed that is fixed in all four programs."""

_DEVICE = "give the device to the run: --device"
_EMBEDDINGS = "item embeddings are made from train"
_REPORTING = "it only says how that program logs"


_flag = one_of("it is a flag, which takes no value; leave it out to turn it off", "True")
_widths = parser(
    "it must be a list of whole numbers such as [20]",
    lambda text: not text.strip() or all(map(is_whole, as_list(from_text(text)))),
    lambda text: tuple(as_list(from_text(text))) if text.strip() else (),
)
"""A list of whole numbers that may be empty."""

_optimizer = one_of(
    "it must be AdamW or Adam; SGD, Momentum and Adagrad are not translated (with Adagrad the program gives the "
    "denoiser's parameters to both optimizers, and never trains the autoencoder)",
    "AdamW",
    "Adam",
)


def _truth(default: bool, path: str) -> Option:
    """An option of ``type=bool``, kept as text: any text that is not empty is true, ``0`` and ``False`` included."""
    return Option(str, "True" if default else "", path, bool)


_FALSE = ("false", "0", "no", "off", "f", "n", "none")
"""What people write for false, in lower case."""

_COMMON: Mapping[str, Option] = {
    "topN": Option(whole_numbers, (10, 20, 50, 100), "protocol.cutoffs"),
    "tst_w_val": Option(
        _flag, "", "split.histories", lambda flag: "train-and-validation" if flag else "train", flag=True
    ),
}
"""The options of all four programs that are not hyper-parameters; paths are in the recipe."""

_MODEL: Mapping[str, Option] = {
    "batch_size": Option(int, 400, "batch_size"),
    "epochs": Option(int, 1000, "epochs"),
    "noise_schedule": Option(
        str, "linear-var", "schedule.name", choices=("linear", "linear-var", "cosine", "binomial")
    ),
    "noise_scale": Option(float, 0.1, "schedule.scale"),
    "noise_min": Option(float, 0.0001, "schedule.noise_min"),
    "noise_max": Option(float, 0.02, "schedule.noise_max"),
    "emb_size": Option(int, 10, "denoiser.embedding_size"),
    "norm": _truth(False, "denoiser.normalize"),
    "mean_type": Option(str, "x0", "objective.prediction", choices=("x0", "eps")),
    "reweight": _truth(True, "objective.reweight"),
    "sampling_noise": _truth(False, "sampling.noise"),
}
"""The hyper-parameters of all four models; these and the following paths are in the spec."""

_TIME: Mapping[str, Option] = {
    "w_min": Option(float, 0.1, "time_weights.oldest"),
    "w_max": Option(float, 1.0, "time_weights.newest"),
}
"""The hyper-parameters of the models with weights by time, which are detected by them."""

_ROWS: Mapping[str, Option] = {
    "lr": Option(float, 0.0001, "optimizer.learning_rate"),
    "weight_decay": Option(float, 0.0, "optimizer.weight_decay"),
    "dims": Option(whole_numbers, (1000,), "denoiser.dims"),
    "steps": Option(int, 100, "schedule.steps"),
    "sampling_steps": Option(int, 0, "sampling.start_steps"),
}
"""The hyper-parameters of the models on rows of items."""

_LATENT: Mapping[str, Option] = {
    "n_cate": Option(int, 3, "clusters.count"),
    "in_dims": Option(whole_numbers, (300,), "autoencoder.encoder_dims"),
    "out_dims": Option(_widths, (), "autoencoder.decoder_dims"),
    "act_func": Option(str, "tanh", "autoencoder.activation"),
    "reparam": _truth(True, "autoencoder.sample_latent"),
    "lr1": Option(float, 0.0001, "autoencoder.optimizer.learning_rate"),
    "lr2": Option(float, 0.0001, "optimizer.learning_rate"),
    "wd1": Option(float, 0.0, "autoencoder.optimizer.weight_decay"),
    "wd2": Option(float, 0.0, "optimizer.weight_decay"),
    "optimizer1": Option(_optimizer, "AdamW", "autoencoder.optimizer.name", str.lower),
    "optimizer2": Option(_optimizer, "AdamW", "optimizer.name", str.lower),
    "lamda": Option(float, 0.03, "autoencoder.diffusion_weight"),
    "anneal_cap": Option(float, 0.005, "autoencoder.least_diffusion_weight"),
    "anneal_steps": Option(int, 500, "autoencoder.diffusion_decay"),
    "vae_anneal_cap": Option(float, 0.3, "autoencoder.kl_weight"),
    "vae_anneal_steps": Option(int, 200, "autoencoder.kl_batches"),
    "emb_path": Option(str, "./datasets/", irrelevant=_EMBEDDINGS),
    "mlp_dims": Option(whole_numbers, (300,), "denoiser.dims"),
    "mlp_act_func": Option(str, "tanh", "denoiser.activation"),
    "steps": Option(int, 5, "schedule.steps"),
    "sampling_steps": Option(int, 10, "sampling.start_steps"),
}
"""The hyper-parameters of the latent models, which are detected by those that the others do not have."""
_TIMED_LATENT: Mapping[str, Option] = {
    "lamda": Option(float, 0.0001, "autoencoder.diffusion_weight"),
    "emb_path": Option(str, "../datasets/", irrelevant=_EMBEDDINGS),
}
"""The options of LT-DiffRec whose defaults differ from L-DiffRec's."""

_IGNORED: Mapping[str, Option] = {
    "cuda": Option(_flag, "", irrelevant=_DEVICE, flag=True),
    "gpu": Option(str, "0", irrelevant=_DEVICE),
    "data_path": Option(str, "", irrelevant="give the folder to the run: --data"),
    "save_path": Option(str, "", irrelevant="give the folder to the run: --out"),
    "log_name": Option(str, "log", irrelevant=_REPORTING),
    "round": Option(int, 1, irrelevant=_REPORTING),
    "time_type": Option(str, "cat", irrelevant="the program always appends the time embedding (cat)"),
}


def defaults(*, latent: bool, timed: bool) -> dict[str, Option]:
    """The options of one of the four programs, by name, with its own defaults."""
    own = {**_LATENT, **(_TIMED_LATENT if timed else {})} if latent else _ROWS
    return {"dataset": _DATA_SET, **_COMMON, **_MODEL, **own, **(_TIME if timed else {}), **_IGNORED}


def _recipe(values: Mapping[str, Any], named: Sequence[str]) -> tuple[Recipe, list[str]]:
    """The recipe for options. Raises `RecipeError` for options of two of the programs at once."""
    latent = [name for name in named if name in _LATENT and name not in _ROWS]
    rows = [name for name in named if name in _ROWS and name not in _LATENT]
    if latent and rows:
        hint = " Theirs is --mlp_dims." if rows[0] == "dims" else ""
        raise RecipeError(
            f"A command line must be that of one program; --{rows[0]} is for the models on rows of items, "
            f"--{latent[0]} for the latent ones.{hint} Leave one out."
        )
    timed = any(name in _TIME for name in named)
    options = defaults(latent=bool(latent), timed=timed)
    values = {name: values[name] if name in named else option.default for name, option in options.items()}
    RecipeError.unless(
        values["sampling_steps"] <= values["steps"],
        f"--sampling_steps of {_TITLE} must not exceed --steps, there as here; saw {values['sampling_steps']} and "
        f"{values['steps']} (the defaults of the latent programs do). The published settings have --sampling_steps=0.",
    )
    notes = [
        f"--{name}={values[name]} is true in the program, whose type=bool takes any text for true; for false give "
        f"--{name}= without a value, or set model.{options[name].path}=false"
        for name in named
        if options[name].convert is bool and values[name].lower() in _FALSE
    ]
    data = values["dataset"]
    family = f"{'l' if latent else ''}{'t' if timed else ''}"
    model: dict[str, Any] = {"kind": "l-diffrec" if latent else "diffrec"}
    if latent:
        model |= {"schedule": {"fixed_first": False}, "autoencoder": {"decay_unit": "epochs"}}
    if latent and values["n_cate"] > 1:
        notes.append(
            "the program clusters items by embeddings that come with its data; the recipe computes its own from "
            "train"
        )
    if data not in _DATA_SETS:
        notes.append(
            f"{data} is not a known data set: give the folder with --data, with files train, valid and test"
            f"{' and times' if timed else ''}.{nearest(data, _DATA_SETS)}"
        )
    known = {"name": data, "reading": "timed" if data in _TIMED else "pairs"}
    tables = {
        "name": f"{family}{'-' if family else ''}diffrec/{_DATA_SETS.get(data, data)}-translated",
        "title": f"Translated from a command line of {_TITLE}",
        "seed": _SEED,
        "data": known if data in _DATA_SETS else {},
        "split": {"kind": "files", "validation": "valid"},
        "model": table_of({name: options[name] for name in options if name not in _COMMON}, values, model),
        "protocol": {"kind": "paper", "metrics": ["recall", "ndcg"], "averaging": "all-users"},
    }
    return Recipe.from_dict(table_of(_COMMON, values, tables)), notes


PROGRAM = Program(
    _TITLE, {**defaults(latent=True, timed=True), **defaults(latent=False, timed=True)}, _recipe
)
