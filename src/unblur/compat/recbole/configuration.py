"""RecBole's configuration, and the recipe that does what RecBole does with it.

First each option with its default there, its value, and its place here or why it has none; options come from files and a
dictionary over RecBole's defaults, and every name and value is checked. Then the recipe of a configuration, or of a
command line such as ``python run_recbole.py --model=DiffRec --dataset=ml-100k --learning_rate=1e-4``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from unblur.compat.command_line import (
    Option,
    Program,
    as_list,
    from_text,
    is_whole,
    one_of,
    parser,
    table_of,
    unchanged,
)
from unblur.data.catalogue.listing import DATASETS
from unblur.errors import RecipeError, nearest
from unblur.evaluation.metrics import metric_at
from unblur.experiment.recipe.library import text_of
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.recipe.toml import OFF

MODELS: Mapping[str, str] = MappingProxyType({"DiffRec": "diffrec", "LDiffRec": "l-diffrec"})
"""RecBole's names of the models, and the kinds of ours."""


@dataclass(frozen=True, slots=True)
class Parameter(Option):
    """One of RecBole's options. Its path is of our spec, so only hyper-parameters of the model have one."""

    only: Any = None
    """With `reason`: the one value next to the default and `None` that can be honoured."""
    reason: str = ""
    """Why no other value than the default can be honoured; empty where others can."""


# ------------------------------------------------------------------------------------------- what values may be


_INTERVAL = re.compile(r"\s*([\[(])\s*([-+]?(?:inf|(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?))\s*,\s*inf\s*[\])]\s*")
whole = parser("a whole number", is_whole)
number = parser("a number", lambda value: is_whole(value) or isinstance(value, float), float)
truth = parser("True or False", lambda value: isinstance(value, bool))
text = parser("text", lambda value: isinstance(value, str))
widths = parser(
    "a list of whole numbers",
    lambda value: isinstance(value, list | tuple) and all(map(is_whole, value)),
    tuple,
)
table = parser("a table such as {'inter': ['user_id', 'item_id']}", lambda value: isinstance(value, Mapping))
cutoffs = parser(
    "a positive whole number or a list of some",
    lambda value: value not in ([], ()) and all(is_whole(k) and k > 0 for k in as_list(value)),
)
interval = parser(
    "one interval such as '[5,inf)', with no upper end", lambda value: _INTERVAL.fullmatch(str(value))
)


def least_of(interval: str) -> float:
    """The least number in an interval such as ``"[5,inf)"``."""
    ((bracket, end),) = _INTERVAL.findall(str(interval))
    low = float(end)
    return low if bracket == "[" or low == -math.inf else math.nextafter(low, math.inf)


def _clips(value: Any) -> bool:
    known = {"max_norm", "norm_type"}
    return not value or (
        isinstance(value, Mapping)
        and "max_norm" in value
        and {*value} <= known
        and value.get("norm_type", 2) == 2
    )


def _idle(default: Any, why: str) -> Parameter:
    """An option that changes nothing here."""
    return Parameter(unchanged, default, irrelevant=why)


_ACTIVATIONS = {
    "tanh": "tanh",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "leakyrelu": "leaky_relu",
    "none": "identity",
}
"""RecBole's activations, and ours."""
_activation = one_of(
    f"one of {', '.join(_ACTIVATIONS)} (RecBole's dice, which learns, is not there)", *_ACTIVATIONS
)

_MACHINE = "it says only where and how that program runs"
_LOGGING = "it says only what that program logs"
_FILES = "nothing of the kind is written: data are read and split again from the seed"
_OTHER_MODELS = "these models do not use it"
_SIDE = "these models see interactions and nothing else"
_EXACT = "scores of a row do not depend on the batch"
_NO_NEGATIVES = "these models draw no negative items"

_DIFFUSION: Mapping[str, Parameter] = {
    "noise_schedule": Parameter(text, "linear", "schedule.name"),
    "noise_scale": Parameter(number, 0.001, "schedule.scale"),
    "noise_min": Parameter(number, 0.0005, "schedule.lowest"),
    "noise_max": Parameter(number, 0.005, "schedule.highest"),
    "sampling_noise": Parameter(truth, False, "sampling.noise"),
    "sampling_steps": Parameter(whole, 0, "sampling.start_steps"),
    "reweight": Parameter(truth, True, "objective.reweight"),
    "mean_type": Parameter(text, "x0", "objective.predicts"),
    "steps": Parameter(whole, 5, "schedule.steps"),
    "history_num_per_term": Parameter(whole, 10, "objective.history"),
    "beta_fixed": Parameter(truth, True, "schedule.fixed_first"),
    "dims_dnn": Parameter(widths, (300,), "denoiser.dims"),
    "embedding_size": Parameter(whole, 10, "denoiser.embedding_size"),
    "mlp_act_func": Parameter(_activation, "tanh", "denoiser.activation", _ACTIVATIONS.get),
    "norm": Parameter(truth, False, "denoiser.normalize"),
    "time-aware": Parameter(truth, False),
    "w_max": Parameter(number, 1.0, "time_weights.newest"),
    "w_min": Parameter(number, 0.1, "time_weights.oldest"),
}

_LATENT: Mapping[str, Parameter] = {
    "noise_scale": Parameter(number, 0.1, "schedule.scale"),
    "noise_min": Parameter(number, 0.001, "schedule.lowest"),
    "n_cate": Parameter(whole, 1, "clusters.count"),
    "reparam": Parameter(truth, True, "autoencoder.sample_latent"),
    "in_dims": Parameter(widths, (300,), "autoencoder.encoder_dims", lambda outwards: outwards[::-1]),
    "out_dims": Parameter(widths, (), "autoencoder.decoder_dims"),
    "ae_act_func": Parameter(_activation, "tanh", "autoencoder.activation", _ACTIVATIONS.get),
    "lamda": Parameter(number, 0.03, "autoencoder.diffusion_weight"),
    "anneal_cap": Parameter(number, 0.005, "autoencoder.least_diffusion_weight"),
    "anneal_steps": Parameter(whole, 1000, "autoencoder.diffusion_decay"),
    "vae_anneal_cap": Parameter(number, 0.3, "autoencoder.kl_weight"),
    "vae_anneal_steps": Parameter(whole, 200, "autoencoder.kl_batches"),
    "learning_rate": Parameter(
        number, 0.001, "optimizer.learning_rate", also="autoencoder.optimizer.learning_rate"
    ),
    "weight_decay": Parameter(
        number, 0.0, "optimizer.weight_decay", also="autoencoder.optimizer.weight_decay"
    ),
}
"""Those of LDiffRec, with its own defaults. ``in_dims`` are read from the latent outwards there, from the row inwards here."""

_TRAINING: Mapping[str, Parameter] = {
    "epochs": Parameter(whole, 300, "epochs"),
    "train_batch_size": Parameter(whole, 2048, "batch_size"),
    "learner": Parameter(
        parser(
            "one of adam, sgd (RecBole's other optimizers are not there)",
            lambda value: str(value).lower() in ("adam", "sgd"),
        ),
        "adam",
    ),
    "learning_rate": Parameter(number, 0.001, "optimizer.learning_rate"),
    "weight_decay": Parameter(number, 0.0, "optimizer.weight_decay"),
    "clip_grad_norm": Parameter(
        parser("a table such as {'max_norm': 5}, which clips the 2-norm alone", _clips), None
    ),
    "eval_step": Parameter(whole, 1),
    "stopping_step": Parameter(whole, 10),
    "neg_sampling": _idle({"uniform": 1}, _NO_NEGATIVES),
    "train_neg_sample_args": _idle(None, _NO_NEGATIVES),
    "loss_decimal_place": _idle(4, _LOGGING),
    "require_pow": _idle(False, _OTHER_MODELS),
    "enable_amp": Parameter(unchanged, False, reason="training is in float32"),
    "enable_scaler": _idle(False, "it belongs to enable_amp"),
    "transform": Parameter(unchanged, None, reason="rows of items are not transformed"),
}

_EVALUATION: Mapping[str, Parameter] = {
    "eval_args": Parameter(
        parser("a table such as {'split': {'RS': [8, 1, 1]}}", lambda value: isinstance(value, Mapping)), {}
    ),
    "metrics": Parameter(unchanged, ("Recall", "MRR", "NDCG", "Hit", "Precision")),
    "topk": Parameter(cutoffs, (10,)),
    "valid_metric": Parameter(text, "MRR@10"),
    "valid_metric_bigger": Parameter(
        parser("True: of every metric more is better", lambda value: value is True), True
    ),
    "metric_decimal_place": Parameter(whole, 4),
    "eval_batch_size": _idle(4096, _EXACT),
    "repeatable": Parameter(unchanged, False, reason="lists leave out what the user had before"),
    "eval_neg_sample_args": Parameter(unchanged, None, reason="all items are ranked"),
}

EVAL_ARGS: Mapping[str, Parameter] = {
    "split": Parameter(
        parser(
            "{'RS': [0.8, 0.1, 0.1]} or {'LS': 'valid_and_test'}",
            lambda value: isinstance(value, Mapping) and len(value) == 1 and {*value} <= {"RS", "LS"},
        ),
        {"RS": [0.8, 0.1, 0.1]},
    ),
    "order": Parameter(one_of("RO or TO", "RO", "TO"), "RO"),
    "group_by": Parameter(one_of("user or none", "user", "none", None), "user"),
    "mode": Parameter(
        parser(
            "'full' (metrics over sampled items rank models otherwise than those over all items do: Krichene and Rendle, "
            "KDD 2020)",
            lambda value: all(
                one == "full" for one in (value.values() if isinstance(value, Mapping) else [value])
            ),
        ),
        "full",
    ),
}
"""The entries of ``eval_args``."""

_DATA: Mapping[str, Parameter] = {
    "data_path": Parameter(text, None),
    "USER_ID_FIELD": Parameter(text, "user_id"),
    "ITEM_ID_FIELD": Parameter(text, "item_id"),
    "RATING_FIELD": Parameter(text, "rating"),
    "TIME_FIELD": Parameter(text, "timestamp"),
    "field_separator": Parameter(
        one_of("a tab (read another file as your own: unblur run RECIPE --data FILE)", "\t"), "\t"
    ),
    "load_col": Parameter(table, None),
    "unload_col": Parameter(table, None),
    "user_inter_num_interval": Parameter(interval, None),
    "item_inter_num_interval": Parameter(interval, None),
    "val_interval": Parameter(unchanged, None),
    "rm_dup_inter": Parameter(one_of("first or last", "first", "last"), None),
    "threshold": _idle(
        None,
        "it writes labels, which these models and full ranking do not read; val_interval leaves rows out",
    ),
    "benchmark_filename": Parameter(
        unchanged,
        None,
        reason="read the parts as a folder with train, valid and test files: unblur run --data FOLDER",
    ),
    "additional_feat_suffix": _idle(None, _SIDE),
    "filter_inter_by_user_or_item": _idle(True, _SIDE),
    "unused_col": _idle(None, _SIDE),
    "numerical_features": _idle([], _SIDE),
    "normalize_field": _idle(None, _SIDE),
    "normalize_all": _idle(None, _SIDE),
    "discretization": _idle(None, _SIDE),
    "fields_in_same_space": _idle(None, _SIDE),
    "preload_weight": _idle(None, _OTHER_MODELS),
    "seq_separator": _idle(" ", _SIDE),
    "LABEL_FIELD": _idle("label", _OTHER_MODELS),
    "NEG_PREFIX": _idle("neg_", _OTHER_MODELS),
    "LIST_SUFFIX": _idle("_list", _OTHER_MODELS),
    "ITEM_LIST_LENGTH_FIELD": _idle("item_length", _OTHER_MODELS),
    "MAX_ITEM_LIST_LENGTH": _idle(50, _OTHER_MODELS),
    "POSITION_FIELD": _idle("position_id", _OTHER_MODELS),
    "encoding": Parameter(unchanged, "utf-8", only="utf8", reason="files are read as UTF-8"),
}

_ENVIRONMENT: Mapping[str, Parameter] = {
    "seed": Parameter(whole, 2020),
    "use_gpu": Parameter(truth, True),
    "device": Parameter(text, None),
    "checkpoint_dir": Parameter(text, "saved"),
    "gpu_id": _idle(0, _MACHINE),
    "worker": _idle(0, _MACHINE),
    "nproc": _idle(1, _MACHINE),
    "world_size": _idle(-1, _MACHINE),
    "local_rank": _idle(0, _MACHINE),
    "group_offset": _idle(0, _MACHINE),
    "ip": _idle("localhost", _MACHINE),
    "port": _idle(5678, _MACHINE),
    "single_spec": _idle(True, _MACHINE),
    "shuffle": Parameter(unchanged, True, reason="rows are put in a new random order every epoch"),
    "reproducibility": _idle(True, "a seed always gives the same run"),
    "state": _idle("INFO", _LOGGING),
    "show_progress": _idle(True, "progress goes to the observer that the caller gives"),
    "log_wandb": _idle(False, _LOGGING),
    "wandb_project": _idle("recbole", _LOGGING),
    "save_dataset": _idle(False, _FILES),
    "dataset_save_path": _idle(None, _FILES),
    "save_dataloaders": _idle(False, _FILES),
    "dataloaders_save_path": _idle(None, _FILES),
}


def parameters(model: str) -> dict[str, Parameter]:
    """Every option that a model has, by name, with the model's own defaults.

    Raises `RecipeError` for a model that is neither DiffRec nor LDiffRec.
    """
    RecipeError.unless(
        model in MODELS,
        f"Of RecBole's models there are {' and '.join(MODELS)} here; saw {model!r}.{nearest(model, MODELS)} Name one "
        "of them.",
    )
    own = _LATENT if model == "LDiffRec" else {}
    return {**_DIFFUSION, **own, **_TRAINING, **_EVALUATION, **_DATA, **_ENVIRONMENT, **own}


@dataclass(frozen=True)
class Configuration:
    """Every option with its value, as RecBole's ``Config``. Index it by name."""

    model: str
    """``DiffRec`` or ``LDiffRec``."""
    dataset: str
    values: Mapping[str, Any]
    """Every option, as given or by default."""
    given: tuple[str, ...]
    """Those that were given."""
    notes: tuple[str, ...] = ()
    """Which of them change nothing here, and why."""

    def __getitem__(self, name: str) -> Any:
        """The value of an option. Raises `RecipeError`, with the nearest name, where there is none."""
        if name in self.values:
            return self.values[name]
        RecipeError.unless(
            name in ("model", "dataset"), f"{name} is not an option.{nearest(name, self.values)}"
        )
        return self.model if name == "model" else self.dataset


def configure(
    model: str | None = None,
    dataset: str | None = None,
    config_dict: Mapping[str, Any] | None = None,
    config_file_list: Sequence[str | Path] | None = None,
) -> Configuration:
    """Options from YAML files, a later one over an earlier, then from a dictionary, over RecBole's defaults.

    `model` and `dataset` may stand in files or dictionary as well; the arguments win. Raises `RecipeError` for a
    name that is unknown (with the nearest real one), a value that is not what the option takes, and an option
    that cannot be honoured, with the reason.
    """
    given: dict[str, Any] = {}
    for table in (*map(read_yaml, config_file_list or ()), config_dict or {}):
        given |= {name: from_text(value) for name, value in table.items()}
    named = {"model": model, "dataset": dataset}
    for name, argument in named.items():
        inside = given.pop(name, None)
        named[name] = inside if argument is None else argument
        RecipeError.unless(
            named[name] is not None,
            f"{name} must be named; it is neither an argument nor an option. Give {name}=…",
        )
    known = parameters(str(named["model"]))
    unknown = [_unknown(str(name), known, str(named["model"])) for name in given if name not in known]
    RecipeError.unless(not unknown, " ".join(unknown))
    values = {name: option.default for name, option in known.items()}
    values |= {name: checked(name, value, known[name]) for name, value in given.items()}
    notes = [
        f"{name} changes nothing here: {known[name].irrelevant}"
        for name, value in given.items()
        if known[name].irrelevant and value != known[name].default
    ]
    if values.get("n_cate", 1) > 1:
        notes.append("RecBole clusters items by a file item_emb.npy; here embeddings are made from train")
    return Configuration(str(named["model"]), str(named["dataset"]), values, tuple(given), tuple(notes))


def checked(name: str, value: Any, option: Parameter) -> Any:
    """The value as the option takes it; raises `RecipeError` for another type and what cannot be honoured."""
    RecipeError.unless(
        not option.reason or value in (None, option.default, option.only),
        f"{name} cannot be {value!r} here: {option.reason}. Leave it out.",
    )
    try:
        return option.parse(value)
    except ValueError as wanted:
        RecipeError.unless(
            value is None,
            f"{name} must be {wanted}; saw {value!r}. RecBole's default is {option.default!r}.",
        )
        return option.default


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The options of a YAML file, read safely; ``1e-3`` is a number, as in RecBole.

    Raises `RecipeError` for a file that cannot be read or is not a table of options.
    """
    try:
        source = text_of(Path(path), "A configuration must be a readable YAML file")
        options = yaml.load(source, Loader=_Loader)
    except yaml.YAMLError as problem:
        raise RecipeError(
            f"A configuration must be plain YAML; {path}: {' '.join(str(problem).split())}. Correct it."
        ) from None
    options = {} if options is None else options
    RecipeError.unless(
        isinstance(options, dict) and all(isinstance(name, str) for name in options),
        f"A configuration must be a table of options; {path} holds {type(options).__name__}.",
    )
    return dict(options)


class _Loader(yaml.SafeLoader):
    """The safe loader, which also takes numbers with an exponent and no point for numbers."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _unknown(name: str, known: Mapping[str, Parameter], model: str) -> str:
    if name in _LATENT:
        return f"{name} is an option of LDiffRec, not of {model}."
    return f"{name} is not an option of RecBole's {model}.{nearest(name, known)}"


# ------------------------------------------------------------------------------------------------ the recipe

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
        RecipeError.unless(
            name.lower() in METRICS,
            f"metrics must be some of {', '.join(_METRIC_NAMES)}; saw {name!r}.{nearest(name, _METRIC_NAMES)} Those of "
            "RecBole that judge ratings or whole catalogues are not there.",
        )
    return {name.lower(): METRICS[name.lower()] for name in names}


def measured_by(configuration: Configuration) -> dict[str, str]:
    """Our name of each measurement by RecBole's, metric by metric: ``{"hit@10": "hit_rate@10"}``."""
    return {
        metric_at(theirs, k): metric_at(ours, k)
        for theirs, ours in metrics_of(configuration).items()
        for k in cutoffs_of(configuration)
    }


def valid_metric(configuration: Configuration) -> str:
    """Our name of ``valid_metric``. Raises `RecipeError` where it is not measured."""
    name, measured = configuration["valid_metric"].lower(), measured_by(configuration)
    RecipeError.unless(
        name in measured,
        f"valid_metric must be one that metrics and topk have measured, {', '.join(measured)}; saw "
        f"{configuration['valid_metric']!r}.{nearest(name, measured)}",
    )
    return measured[name]


def _eval_args(configuration: Configuration) -> dict[str, Any]:
    """The entries of ``eval_args``, as given or by default."""
    given = configuration["eval_args"]
    for name in given:
        RecipeError.unless(
            name in EVAL_ARGS,
            f"eval_args takes {', '.join(EVAL_ARGS)}; saw {name!r}.{nearest(str(name), EVAL_ARGS)}",
        )
    return {
        name: checked(f"eval_args.{name}", given.get(name, option.default), option)
        for name, option in EVAL_ARGS.items()
    }


def _split(configuration: Configuration) -> dict[str, Any]:
    """The ``[split]`` table."""
    chosen = _eval_args(configuration)
    ((kind, size),) = chosen["split"].items()
    by_user, order = chosen["group_by"] == "user", "time" if chosen["order"] == "TO" else "random"
    if kind == "LS":
        RecipeError.unless(
            by_user, "LS leaves one out of each user, so eval_args.group_by must be user. Leave it out."
        )
        reason = " Nothing would be left to test on." if size == "valid_only" else ""
        RecipeError.unless(
            size in ("valid_and_test", "test_only"),
            f"LS must be 'valid_and_test' or 'test_only'; saw {size!r}.{reason}",
        )
        return {"kind": "leave-one-out", "order": order, "validation": size == "valid_and_test"}
    shares = size if isinstance(size, list | tuple) and len(size) == 3 else ()
    RecipeError.unless(
        shares and all(isinstance(part, int | float) and part >= 0 for part in shares) and sum(shares),
        f"The shares of RS must be three numbers, not negative; saw {size!r}.",
    )
    train, validation, test = (part / sum(shares) for part in shares)
    RecipeError.unless(
        train and test, f"The shares of RS must leave something to train and to test; saw {size!r}."
    )
    return {
        "kind": "ratio",
        "validation": validation,
        "held_out": test,
        "order": order,
        "by": "user" if by_user else "all",
    }


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
    RecipeError.unless(
        not missing,
        f"load_col must load the columns {', '.join(sorted(needed))}; {', '.join(missing)} is not loaded. Add it.",
    )


def _reading(name: str, least: float | None) -> str:
    """The way to read a known data set that keeps ratings from `least` on; all where it is `None`."""
    RecipeError.unless(
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
    RecipeError.unless(
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
    table = table_of(
        options,
        configuration.values,
        {"kind": MODELS[configuration.model], "denoiser": {"layout": "straight"}},
    )
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
    RecipeError.unless(
        not configuration["clip_grad_norm"],
        "clip_grad_norm cannot be honoured for LDiffRec: RecBole clips the gradient of autoencoder and denoiser "
        "together, and here each has its own. Leave it out.",
    )
    RecipeError.unless(
        configuration["reweight"] and configuration["noise_scale"] != 0,
        "LDiffRec without reweight (which noise_scale 0 means as well) cannot be honoured: RecBole's loss stays "
        "λ·diffusion + autoencoder then, ours, the authors', becomes diffusion + λ·autoencoder. Leave reweight on.",
    )
    RecipeError.unless(
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
    return (
        recipe_of(configuration, own_file="data_path" in configuration.given),
        [*configuration.notes, *notes],
    )


PROGRAM = Program(
    "RecBole's run_recbole.py",
    {**_OWN, **{name: Option(from_text, known.default) for name, known in parameters("LDiffRec").items()}},
    _recipe,
    "run_recbole.py",
)
