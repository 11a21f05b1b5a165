"""The recipe that does what RecBole does with a configuration, or with a command line such as
``python run_recbole.py --model=DiffRec --dataset=ml-100k --learning_rate=1e-4``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from unblur.compat.command_line import Option, Program, as_list, from_text, require, table_of
from unblur.compat.recbole.configuration import (
    EVAL_ARGS,
    MODELS,
    Configuration,
    Parameter,
    checked,
    configure,
    interval,
    least_of,
    parameters,
)
from unblur.data.catalogue.listing import DATASETS
from unblur.errors import RecipeError, nearest
from unblur.evaluation.metrics import metric_at
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.recipe.toml import OFF

METRICS: Mapping[str, str] = {
    "recall": "recall",
    "mrr": "mrr",
    "ndcg": "ndcg",
    "hit": "hit_rate",
    "precision": "precision",
    "map": "capped_map",
}
"""RecBole's metrics, in lower case, and ours. Its MAP divides by min(k, |relevant|)."""
_METRIC_NAMES = ("Recall", "MRR", "NDCG", "Hit", "Precision", "MAP")


def recipe_of(configuration: Configuration, *, own_file: bool) -> Recipe:
    """The recipe that does what RecBole does with a configuration.

    With `own_file` the data are an atomic ``.inter`` file, read as the configuration says; else the data set of
    that name. Raises `RecipeError` for what cannot be honoured.
    """
    split = _split(configuration)
    family = f"{'l' if configuration.model == 'LDiffRec' else ''}{'t' if configuration['time-aware'] else ''}"
    return Recipe.from_dict(
        {
            "name": f"{family}{'-' if family else ''}diffrec/{configuration.dataset}-recbole",
            "title": f"RecBole's {configuration.model} on {configuration.dataset}",
            "seed": configuration["seed"],
            "data": _data(configuration, own_file=own_file),
            "split": split,
            "model": _model(configuration, stops=bool(split["validation"])),
            "protocol": {
                "kind": "paper",
                "cutoffs": cutoffs_of(configuration),
                "metrics": list(metrics_of(configuration).values()),
                "averaging": "users-with-relevant",
            },
        }
    )


# -------------------------------------------------------------------------------------------------- protocol


def cutoffs_of(configuration: Configuration) -> list[int]:
    """``topk``, as a list in order."""
    return sorted(set(as_list(configuration["topk"])))


def metrics_of(configuration: Configuration) -> dict[str, str]:
    """Our name of each of the metrics by RecBole's in lower case, in order. Raises `RecipeError` for others."""
    names = [str(name) for name in as_list(configuration["metrics"])]
    for name in names:
        require(
            name.lower() in METRICS,
            f"metrics must be some of {', '.join(_METRIC_NAMES)}; saw {name!r}.{nearest(name, _METRIC_NAMES)} Those of "
            "RecBole that judge ratings or whole catalogues are not there.",
        )
    return {name.lower(): METRICS[name.lower()] for name in names}


def measured_by(configuration: Configuration) -> dict[str, str]:
    """Our name of each measurement by RecBole's, metric by metric: ``{"hit@10": "hit_rate@10"}``."""
    cutoffs = cutoffs_of(configuration)
    return {
        metric_at(theirs, k): metric_at(ours, k)
        for theirs, ours in metrics_of(configuration).items()
        for k in cutoffs
    }


def valid_metric(configuration: Configuration) -> str:
    """Our name of ``valid_metric``. Raises `RecipeError` where it is not measured."""
    name, measured = configuration["valid_metric"].lower(), measured_by(configuration)
    require(
        name in measured,
        f"valid_metric must be one that metrics and topk have measured, {', '.join(measured)}; saw "
        f"{configuration['valid_metric']!r}.{nearest(name, measured)}",
    )
    return measured[name]


def _eval_args(configuration: Configuration) -> dict[str, Any]:
    """The entries of ``eval_args``, as given or by default."""
    given = configuration["eval_args"]
    for name in given:
        require(
            name in EVAL_ARGS,
            f"eval_args takes {', '.join(EVAL_ARGS)}; saw {name!r}.{nearest(str(name), EVAL_ARGS)}",
        )
    chosen = {name: option.default for name, option in EVAL_ARGS.items()} | given
    return {name: checked(f"eval_args.{name}", chosen[name], option) for name, option in EVAL_ARGS.items()}


def _split(configuration: Configuration) -> dict[str, Any]:
    """The ``[split]`` table."""
    chosen = _eval_args(configuration)
    ((kind, size),) = chosen["split"].items()
    by_user, order = chosen["group_by"] == "user", "time" if chosen["order"] == "TO" else "random"
    if kind == "LS":
        require(by_user, "LS leaves one out of each user, so eval_args.group_by must be user. Leave it out.")
        reason = " Nothing would be left to test on." if size == "valid_only" else ""
        require(
            size in ("valid_and_test", "test_only"),
            f"LS must be 'valid_and_test' or 'test_only'; saw {size!r}.{reason}",
        )
        return {"kind": "leave-one-out", "order": order, "validation": size == "valid_and_test"}
    shares = size if isinstance(size, list | tuple) and len(size) == 3 else ()
    require(
        shares and all(isinstance(part, int | float) and part >= 0 for part in shares) and sum(shares),
        f"The shares of RS must be three numbers, not negative; saw {size!r}.",
    )
    train, validation, test = (part / sum(shares) for part in shares)
    require(train and test, f"The shares of RS must leave something to train and to test; saw {size!r}.")
    by = "user" if by_user else "all"
    return {"kind": "ratio", "validation": validation, "held_out": test, "order": order, "by": by}


# ------------------------------------------------------------------------------------------------------ data


def _data(configuration: Configuration, *, own_file: bool) -> dict[str, Any]:
    """The ``[data]`` table."""
    timed = bool(configuration["time-aware"]) or _eval_args(configuration)["order"] == "TO"
    _check_columns(configuration, timed)
    name, rating = configuration.dataset, configuration["RATING_FIELD"]
    least = _least_rating(configuration["val_interval"], rating)
    core = {
        f"{side}s": math.ceil(max(0.0, least_of(configuration[f"{side}_inter_num_interval"] or "(-inf,inf)")))
        for side in ("user", "item")
    }
    table: dict[str, Any] = {}
    if any(core.values()):
        table["k_core"] = {side: max(1, fewest) for side, fewest in core.items()}
    if not own_file:
        return {**table, "name": name, "reading": _reading(name, least)}
    read = {
        "format": "recbole",
        "user": configuration["USER_ID_FIELD"],
        "item": configuration["ITEM_ID_FIELD"],
        "rating": "ignore" if least is None else rating,
        "timestamp": configuration["TIME_FIELD"] if timed else "ignore",
        "min_rating": least,
        "duplicates": configuration["rm_dup_inter"],
    }
    return {**table, "read": {name: value for name, value in read.items() if value is not None}}


def _check_columns(configuration: Configuration, timed: bool) -> None:
    """Raise `RecipeError` where ``load_col`` or ``unload_col`` take away a column that is needed."""
    needed = {
        configuration["USER_ID_FIELD"],
        configuration["ITEM_ID_FIELD"],
        *([configuration["TIME_FIELD"]] if timed else []),
        *([configuration["RATING_FIELD"]] if configuration["val_interval"] else []),
    }
    loaded = (configuration["load_col"] or {}).get("inter")
    left = (configuration["unload_col"] or {}).get("inter") or ()
    missing = sorted(needed - set(needed if loaded is None else loaded) | needed & set(left))
    require(
        not missing,
        f"load_col must load the columns {', '.join(sorted(needed))}; {', '.join(missing)} is not loaded. Add it.",
    )


def _reading(name: str, least: float | None) -> str:
    """The way to read a known data set that keeps ratings from `least` on; all where it is `None`."""
    require(
        name in DATASETS,
        f"The data must be a file DATA_PATH/{name}/{name}.inter or a known data set; {name!r} is neither."
        f"{nearest(name, DATASETS)} Give data_path, or see `unblur datasets`.",
    )
    for way in DATASETS[name].readings if len(DATASETS[name].parts) == 1 else ():
        if way.options.get("rating") == "ignore" if least is None else way.options.get("min_rating") == least:
            return way.name
    what = "all rows" if least is None else f"the rows rated at least {least:g}"
    raise RecipeError(
        f"The data set {name} must have a way to read {what}, in one part; it has not (`unblur datasets`). Give it as "
        f"a file, DATA_PATH/{name}/{name}.inter, with data_path."
    )


def _least_rating(table: Any, rating: str) -> float | None:
    """The least rating that ``val_interval`` keeps, `None` where it keeps all."""
    if not table:
        return None
    require(
        isinstance(table, Mapping) and set(table) == {rating},
        f"val_interval can go by {rating} alone here; saw {table!r}. Cut the file by other columns beforehand.",
    )
    least = least_of(checked(f"val_interval.{rating}", table[rating], Parameter(interval, "(-inf,inf)")))
    return None if least == -math.inf else least


# ----------------------------------------------------------------------------------------------------- model


def _model(configuration: Configuration, *, stops: bool) -> dict[str, Any]:
    """The ``[model]`` table: the spec that the configuration describes, with training that `stops` early or does not.

    Raises `RecipeError` for a metric, an activation or a combination of options that is not there.
    """
    metric = valid_metric(configuration)
    unused = () if configuration["time-aware"] else ("w_min", "w_max")
    options = {name: known for name, known in parameters(configuration.model).items() if name not in unused}
    start = {"kind": MODELS[configuration.model], "denoiser": {"layout": "straight"}}
    table = table_of(options, configuration.values, start)
    if configuration["noise_scale"] == 0:
        table["objective"]["reweight"] = False
    optimizer, clip = {"name": configuration["learner"].lower()}, configuration["clip_grad_norm"]
    if clip:
        optimizer["clip_norm"] = float(clip["max_norm"])
    table["optimizer"] |= optimizer
    if configuration.model == "LDiffRec":
        table["autoencoder"]["optimizer"] |= optimizer
        _check_latent(configuration)
    every = configuration["eval_step"]
    stopping = {
        "metric": metric,
        "every": every,
        "patience": (configuration["stopping_step"] + 1) * every + 1,
    }
    return {**table, "stopping": stopping if stops and every > 0 else OFF}


def _check_latent(configuration: Configuration) -> None:
    require(
        not configuration["clip_grad_norm"],
        "clip_grad_norm cannot be honoured for LDiffRec: RecBole clips the gradient of autoencoder and denoiser "
        "together, and here each has its own. Leave it out.",
    )
    require(
        configuration["reweight"] and configuration["noise_scale"] != 0,
        "LDiffRec without reweight (which noise_scale 0 means as well) cannot be honoured: RecBole's loss stays "
        "λ·diffusion + autoencoder then, ours, the authors', becomes diffusion + λ·autoencoder. Leave reweight on.",
    )
    require(
        configuration["n_cate"] <= 1
        or (not configuration["out_dims"] and len(configuration["in_dims"]) <= 1),
        "n_cate above 1 can be honoured with one width in in_dims and none in out_dims: RecBole shares hidden "
        "widths out among clusters, ours do not. Leave the others out.",
    )


# ---------------------------------------------------------------------------------------------- command line


_OWN = {
    "model": Option(str, "BPR"),
    "dataset": Option(str, "ml-100k"),
    "config_files": Option(str, ""),
}
"""The options of ``run_recbole.py`` that are none of a model's."""


def _recipe(values: Mapping[str, Any], named: Sequence[str]) -> tuple[Recipe, list[str]]:
    """Configuration files are read where they are named. Raises `RecipeError` for an option or value that the model
    does not have or that cannot be honoured."""
    files = values["config_files"].split()
    model, dataset = (values[name] if name in named or not files else None for name in ("model", "dataset"))
    options = {name: values[name] for name in named if name not in _OWN}
    configuration = configure(model, dataset, options, files)
    place = f"{configuration['data_path']}/{configuration.dataset}/{configuration.dataset}.inter"
    elsewhere = (
        (("data_path",), f"give the data to the run: --data {place}"),
        (("checkpoint_dir",), "checkpoint_dir has no place in a recipe: give the folder to the run: --out"),
        (
            ("use_gpu", "device"),
            "device and use_gpu have no place in a recipe: give the device to the run: --device",
        ),
    )
    notes = [note for names, note in elsewhere if {*names} & {*configuration.given}]
    recipe = recipe_of(configuration, own_file="data_path" in configuration.given)
    return recipe, [*configuration.notes, *notes]


PROGRAM = Program(
    "RecBole's run_recbole.py",
    {**_OWN, **{name: Option(from_text, known.default) for name, known in parameters("LDiffRec").items()}},
    _recipe,
    "run_recbole.py",
)
