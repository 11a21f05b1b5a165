"""RecBole's configuration, and the recipe that does the same.

The tables list each option with RecBole's default, its accepted values, and its path in our spec or the reason why it has
none. Options from files and a dictionary replace RecBole's defaults, and every name and value is checked. The result is
the recipe of a configuration, or of a command line such as
``python run_recbole.py --model=DiffRec --dataset=ml-100k --learning_rate=1e-4``.
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
"""Our kinds of RecBole's models, by its names."""


@dataclass(frozen=True, slots=True)
class Parameter(Option):
    """An option of RecBole's. Its path is in our spec, so only hyper-parameters of the model have one."""

    only: Any = None
    """With `reason`: the only supported value apart from the default and `None`."""
    reason: str = ""
    """The reason why the default is the only supported value; empty if others are supported."""


# ---------------------------------------------------------------------------------------------- accepted values


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


def lower_end(interval: str) -> float:
    """The smallest number in an interval such as ``"[5,inf)"``."""
    ((bracket, end),) = _INTERVAL.findall(str(interval))
    low = float(end)
    return low if bracket == "[" or low == -math.inf else math.nextafter(low, math.inf)


def _is_clipping(value: Any) -> bool:
    keys = {"max_norm", "norm_type"}
    return not value or (
        isinstance(value, Mapping)
        and "max_norm" in value
        and {*value} <= keys
        and value.get("norm_type", 2) == 2
    )


def _irrelevant(default: Any, reason: str) -> Parameter:
    """An option without an effect here."""
    return Parameter(unchanged, default, irrelevant=reason)


_ACTIVATIONS = {
    "tanh": "tanh",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "leakyrelu": "leaky_relu",
    "none": "identity",
}
"""Our activations by RecBole's names."""
_activation = one_of(
    f"one of {', '.join(_ACTIVATIONS)} (RecBole's dice, which is trained, is unavailable)", *_ACTIVATIONS
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
    "noise_min": Parameter(number, 0.0005, "schedule.noise_min"),
    "noise_max": Parameter(number, 0.005, "schedule.noise_max"),
    "sampling_noise": Parameter(truth, False, "sampling.noise"),
    "sampling_steps": Parameter(whole, 0, "sampling.start_steps"),
    "reweight": Parameter(truth, True, "objective.reweight"),
    "mean_type": Parameter(text, "x0", "objective.prediction"),
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
    "noise_min": Parameter(number, 0.001, "schedule.noise_min"),
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
"""The options of LDiffRec, with its own defaults. Its ``in_dims`` are from the latent layer outwards, ours from the row
inwards."""

_TRAINING: Mapping[str, Parameter] = {
    "epochs": Parameter(whole, 300, "epochs"),
    "train_batch_size": Parameter(whole, 2048, "batch_size"),
    "learner": Parameter(
        parser(
            "one of adam, sgd (RecBole's other optimizers are unavailable)",
            lambda value: str(value).lower() in ("adam", "sgd"),
        ),
        "adam",
    ),
    "learning_rate": Parameter(number, 0.001, "optimizer.learning_rate"),
    "weight_decay": Parameter(number, 0.0, "optimizer.weight_decay"),
    "clip_grad_norm": Parameter(
        parser("a table such as {'max_norm': 5}, which clips the 2-norm alone", _is_clipping), None
    ),
    "eval_step": Parameter(whole, 1),
    "stopping_step": Parameter(whole, 10),
    "neg_sampling": _irrelevant({"uniform": 1}, _NO_NEGATIVES),
    "train_neg_sample_args": _irrelevant(None, _NO_NEGATIVES),
    "loss_decimal_place": _irrelevant(4, _LOGGING),
    "require_pow": _irrelevant(False, _OTHER_MODELS),
    "enable_amp": Parameter(unchanged, False, reason="training is in float32"),
    "enable_scaler": _irrelevant(False, "it belongs to enable_amp"),
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
    "eval_batch_size": _irrelevant(4096, _EXACT),
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
    "threshold": _irrelevant(
        None,
        "it writes labels, which these models and full ranking do not read; val_interval leaves rows out",
    ),
    "benchmark_filename": Parameter(
        unchanged,
        None,
        reason="read the parts as a folder with train, valid and test files: unblur run --data FOLDER",
    ),
    "additional_feat_suffix": _irrelevant(None, _SIDE),
    "filter_inter_by_user_or_item": _irrelevant(True, _SIDE),
    "unused_col": _irrelevant(None, _SIDE),
    "numerical_features": _irrelevant([], _SIDE),
    "normalize_field": _irrelevant(None, _SIDE),
    "normalize_all": _irrelevant(None, _SIDE),
    "discretization": _irrelevant(None, _SIDE),
    "fields_in_same_space": _irrelevant(None, _SIDE),
    "preload_weight": _irrelevant(None, _OTHER_MODELS),
    "seq_separator": _irrelevant(" ", _SIDE),
    "LABEL_FIELD": _irrelevant("label", _OTHER_MODELS),
    "NEG_PREFIX": _irrelevant("neg_", _OTHER_MODELS),
    "LIST_SUFFIX": _irrelevant("_list", _OTHER_MODELS),
    "ITEM_LIST_LENGTH_FIELD": _irrelevant("item_length", _OTHER_MODELS),
    "MAX_ITEM_LIST_LENGTH": _irrelevant(50, _OTHER_MODELS),
    "POSITION_FIELD": _irrelevant("position_id", _OTHER_MODELS),
    "encoding": Parameter(unchanged, "utf-8", only="utf8", reason="files are read as UTF-8"),
}

_ENVIRONMENT: Mapping[str, Parameter] = {
    "seed": Parameter(whole, 2020),
    "use_gpu": Parameter(truth, True),
    "device": Parameter(text, None),
    "checkpoint_dir": Parameter(text, "saved"),
    "gpu_id": _irrelevant(0, _MACHINE),
    "worker": _irrelevant(0, _MACHINE),
    "nproc": _irrelevant(1, _MACHINE),
    "world_size": _irrelevant(-1, _MACHINE),
    "local_rank": _irrelevant(0, _MACHINE),
    "group_offset": _irrelevant(0, _MACHINE),
    "ip": _irrelevant("localhost", _MACHINE),
    "port": _irrelevant(5678, _MACHINE),
    "single_spec": _irrelevant(True, _MACHINE),
    "shuffle": Parameter(unchanged, True, reason="rows are put in a new random order every epoch"),
    "reproducibility": _irrelevant(True, "a seed always gives the same run"),
    "state": _irrelevant("INFO", _LOGGING),
    "show_progress": _irrelevant(True, "progress goes to the observer that the caller gives"),
    "log_wandb": _irrelevant(False, _LOGGING),
    "wandb_project": _irrelevant("recbole", _LOGGING),
    "save_dataset": _irrelevant(False, _FILES),
    "dataset_save_path": _irrelevant(None, _FILES),
    "save_dataloaders": _irrelevant(False, _FILES),
    "dataloaders_save_path": _irrelevant(None, _FILES),
}


def parameters(model: str) -> dict[str, Parameter]:
    """All options of a model, by name, with the model's own defaults.

    Raises `RecipeError` for a model that is neither DiffRec nor LDiffRec.
    """
    RecipeError.unless(
        model in MODELS,
        f"A model of RecBole's must be {' or '.join(MODELS)}; saw {model!r}.{nearest(model, MODELS)} Name one of them.",
    )
    own_options = _LATENT if model == "LDiffRec" else {}
    return {**_DIFFUSION, **own_options, **_TRAINING, **_EVALUATION, **_DATA, **_ENVIRONMENT, **own_options}


@dataclass(frozen=True)
class Configuration:
    """All options with their values, like RecBole's ``Config``; index it by name."""

    model: str
    """``DiffRec`` or ``LDiffRec``."""
    dataset: str
    values: Mapping[str, Any]
    """The values of all options, defaults included."""
    given: tuple[str, ...]
    """The names of the options that were given."""
    notes: tuple[str, ...] = ()
    """Notes about given options without an effect here, with the reasons."""

    def __getitem__(self, name: str) -> Any:
        """The value of an option. Raises `RecipeError`, with the nearest name, if there is none."""
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
    """Read options from YAML files, later over earlier ones, then from a dictionary, over RecBole's defaults.

    `model` and `dataset` may be in files or dictionary as well; the arguments have priority. Raises `RecipeError` for
    an unknown name (with the nearest known one), an invalid value, and an unsupported one, with the reason.
    """
    options: dict[str, Any] = {}
    for table in (*map(read_yaml, config_file_list or ()), config_dict or {}):
        options |= {name: from_text(value) for name, value in table.items()}
    names = {"model": model, "dataset": dataset}
    for name, argument in names.items():
        option_value = options.pop(name, None)
        names[name] = option_value if argument is None else argument
        RecipeError.unless(
            names[name] is not None,
            f"{name} must be named; it is neither an argument nor an option. Give {name}=…",
        )
    parameters_by_name = parameters(str(names["model"]))
    unknown = [
        _unknown(str(name), parameters_by_name, str(names["model"]))
        for name in options
        if name not in parameters_by_name
    ]
    RecipeError.unless(not unknown, " ".join(unknown))
    values = {name: option.default for name, option in parameters_by_name.items()}
    values |= {name: checked(name, value, parameters_by_name[name]) for name, value in options.items()}
    notes = [
        f"{name} has no effect here: {parameters_by_name[name].irrelevant}"
        for name, value in options.items()
        if parameters_by_name[name].irrelevant and value != parameters_by_name[name].default
    ]
    if values.get("n_cate", 1) > 1:
        notes.append("RecBole clusters items by a file item_emb.npy; here embeddings are computed from train")
    return Configuration(str(names["model"]), str(names["dataset"]), values, tuple(options), tuple(notes))


def checked(name: str, value: Any, option: Parameter) -> Any:
    """The parsed value of an option. Raises `RecipeError` for an invalid or unsupported value."""
    RecipeError.unless(
        not option.reason or value in (None, option.default, option.only),
        f"{name} cannot be {value!r} here: {option.reason}. Leave it out.",
    )
    try:
        return option.parse(value)
    except ValueError as requirement:
        RecipeError.unless(
            value is None,
            f"{name} must be {requirement}; saw {value!r}. RecBole's default is {option.default!r}.",
        )
        return option.default


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read the options of a YAML file, with the safe loader; ``1e-3`` is a number, as in RecBole.

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
        f"A configuration must be a table of options; {path} has a value of type {type(options).__name__}. Correct it.",
    )
    return dict(options)


class _Loader(yaml.SafeLoader):
    """The safe loader, which also reads numbers with an exponent but no decimal point, as RecBole does."""


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
"""Our metrics by RecBole's names in lower case. Its MAP divides by min(k, |relevant|)."""
_METRIC_NAMES = ("Recall", "MRR", "NDCG", "Hit", "Precision", "MAP")


def recipe_of(configuration: Configuration, *, own_file: bool) -> Recipe:
    """The recipe that does what RecBole does with a configuration.

    With `own_file` the data are an atomic ``.inter`` file, read as the configuration says; else the data set of
    that name. Raises `RecipeError` for unsupported options.
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
    """``topk`` as a sorted list."""
    return sorted(set(as_list(configuration["topk"])))


def metrics_of(configuration: Configuration) -> dict[str, str]:
    """Our names of the metrics, by RecBole's in lower case, in order. Raises `RecipeError` for unsupported ones."""
    names = [str(name) for name in as_list(configuration["metrics"])]
    for name in names:
        RecipeError.unless(
            name.lower() in METRICS,
            f"metrics must be among {', '.join(_METRIC_NAMES)}; saw {name!r}.{nearest(name, _METRIC_NAMES)} RecBole's "
            "metrics of ratings or of whole catalogues are unavailable.",
        )
    return {name.lower(): METRICS[name.lower()] for name in names}


def measured_by(configuration: Configuration) -> dict[str, str]:
    """Our names of the measurements, by RecBole's, ordered by metric: ``{"hit@10": "hit_rate@10"}``."""
    return {
        metric_at(theirs, k): metric_at(ours, k)
        for theirs, ours in metrics_of(configuration).items()
        for k in cutoffs_of(configuration)
    }


def valid_metric(configuration: Configuration) -> str:
    """Our name of ``valid_metric``. Raises `RecipeError` if it is not measured."""
    name, measured = configuration["valid_metric"].lower(), measured_by(configuration)
    RecipeError.unless(
        name in measured,
        f"valid_metric must be a measurement of metrics and topk, {', '.join(measured)}; saw "
        f"{configuration['valid_metric']!r}.{nearest(name, measured)}",
    )
    return measured[name]


def _eval_args(configuration: Configuration) -> dict[str, Any]:
    """The values of all entries of ``eval_args``, defaults included."""
    entries = configuration["eval_args"]
    for name in entries:
        RecipeError.unless(
            name in EVAL_ARGS,
            f"eval_args takes {', '.join(EVAL_ARGS)}; saw {name!r}.{nearest(str(name), EVAL_ARGS)}",
        )
    return {
        name: checked(f"eval_args.{name}", entries.get(name, option.default), option)
        for name, option in EVAL_ARGS.items()
    }


def _split(configuration: Configuration) -> dict[str, Any]:
    """The ``[split]`` table."""
    arguments = _eval_args(configuration)
    ((kind, size),) = arguments["split"].items()
    by_user, order = arguments["group_by"] == "user", "time" if arguments["order"] == "TO" else "random"
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
        f"The shares of RS must be three non-negative numbers; saw {size!r}.",
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
    min_rating = _min_rating(configuration["val_interval"], rating)
    core = {
        f"{side}s": math.ceil(
            max(0.0, lower_end(configuration[f"{side}_inter_num_interval"] or "(-inf,inf)"))
        )
        for side in ("user", "item")
    }
    table: dict[str, Any] = {}
    if any(core.values()):
        table["k_core"] = {side: max(1, n_min) for side, n_min in core.items()}
    if not own_file:
        return {**table, "name": name, "reading": _reading(name, min_rating)}
    read = {
        "format": "recbole",
        "user": configuration["USER_ID_FIELD"],
        "item": configuration["ITEM_ID_FIELD"],
        "rating": "ignore" if min_rating is None else rating,
        "timestamp": configuration["TIME_FIELD"] if timed else "ignore",
        "min_rating": min_rating,
        "duplicates": configuration["rm_dup_inter"],
    }
    return {**table, "read": {name: value for name, value in read.items() if value is not None}}


def _check_columns(configuration: Configuration, timed: bool) -> None:
    """Raise `RecipeError` if ``load_col`` or ``unload_col`` leave out a required column."""
    needed = {
        configuration["USER_ID_FIELD"],
        configuration["ITEM_ID_FIELD"],
        *([configuration["TIME_FIELD"]] if timed else []),
        *([configuration["RATING_FIELD"]] if configuration["val_interval"] else []),
    }
    loaded = (configuration["load_col"] or {}).get("inter")
    unloaded = (configuration["unload_col"] or {}).get("inter") or ()
    missing = sorted(needed - set(needed if loaded is None else loaded) | needed & set(unloaded))
    RecipeError.unless(
        not missing,
        f"load_col must load the columns {', '.join(sorted(needed))}; {', '.join(missing)} is not loaded. Add it.",
    )


def _reading(name: str, min_rating: float | None) -> str:
    """The reading of a known data set that keeps ratings from `min_rating` on, or all if it is `None`."""
    RecipeError.unless(
        name in DATASETS,
        f"The data must be a file DATA_PATH/{name}/{name}.inter or a known data set; {name!r} is neither."
        f"{nearest(name, DATASETS)} Give data_path, or see `unblur datasets`.",
    )
    for reading in DATASETS[name].readings if len(DATASETS[name].parts) == 1 else ():
        if (
            reading.options.get("rating") == "ignore"
            if min_rating is None
            else reading.options.get("min_rating") == min_rating
        ):
            return reading.name
    rows = "all rows" if min_rating is None else f"the rows rated at least {min_rating:g}"
    raise RecipeError(
        f"The data set {name} must have a reading with {rows}, in one part; it has none (`unblur datasets`). Give it "
        f"as a file, DATA_PATH/{name}/{name}.inter, with data_path."
    )


def _min_rating(table: Any, rating: str) -> float | None:
    """The smallest rating that ``val_interval`` keeps, `None` if it keeps all."""
    if not table:
        return None
    RecipeError.unless(
        isinstance(table, Mapping) and set(table) == {rating},
        f"val_interval must be of {rating} alone; saw {table!r}. Filter the file by other columns beforehand.",
    )
    min_rating = lower_end(
        checked(f"val_interval.{rating}", table[rating], Parameter(interval, "(-inf,inf)"))
    )
    return None if min_rating == -math.inf else min_rating


# ----------------------------------------------------------------------------------------------------- model


def _model(configuration: Configuration, *, stops: bool) -> dict[str, Any]:
    """The ``[model]`` table: the spec of the configuration; `stops` says whether training stops early.

    Raises `RecipeError` for an unsupported metric, activation or combination of options.
    """
    metric = valid_metric(configuration)
    unused = () if configuration["time-aware"] else ("w_min", "w_max")
    options = {
        name: parameter for name, parameter in parameters(configuration.model).items() if name not in unused
    }
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
    interval_of_epochs = configuration["eval_step"]
    stopping = {
        "metric": metric,
        "every": interval_of_epochs,
        "patience": (configuration["stopping_step"] + 1) * interval_of_epochs + 1,
    }
    return {**table, "stopping": stopping if stops and interval_of_epochs > 0 else OFF}


def _check_latent(configuration: Configuration) -> None:
    RecipeError.unless(
        not configuration["clip_grad_norm"],
        "clip_grad_norm is not supported for LDiffRec: RecBole clips the gradients of autoencoder and denoiser "
        "together, and here each is clipped on its own. Leave it out.",
    )
    RecipeError.unless(
        configuration["reweight"] and configuration["noise_scale"] != 0,
        "LDiffRec without reweight (or with noise_scale 0, which is the same) is not supported: RecBole's loss remains "
        "λ·diffusion + autoencoder, while that of the authors, and ours, becomes diffusion + λ·autoencoder. Leave "
        "reweight on.",
    )
    RecipeError.unless(
        configuration["n_cate"] <= 1
        or (not configuration["out_dims"] and len(configuration["in_dims"]) <= 1),
        "n_cate above 1 is supported only with one width in in_dims and none in out_dims: RecBole divides hidden widths "
        "among clusters, our model does not. Leave the others out.",
    )


# ---------------------------------------------------------------------------------------------- command line


_SCRIPT_OPTIONS = {
    "model": Option(str, "BPR"),
    "dataset": Option(str, "ml-100k"),
    "config_files": Option(str, ""),
}
"""The options of ``run_recbole.py`` itself."""


def _recipe(values: Mapping[str, Any], options_given: Sequence[str]) -> tuple[Recipe, list[str]]:
    """The recipe for options, configuration files included. Raises `RecipeError` for options or values that the model does
    not have, or that are not supported."""
    files = values["config_files"].split()
    model, dataset = (
        values[name] if name in options_given or not files else None for name in ("model", "dataset")
    )
    options = {name: values[name] for name in options_given if name not in _SCRIPT_OPTIONS}
    configuration = configure(model, dataset, options, files)
    file = f"{configuration['data_path']}/{configuration.dataset}/{configuration.dataset}.inter"
    run_options = (
        (("data_path",), f"give the data to the run: --data {file}"),
        (("checkpoint_dir",), "checkpoint_dir is not part of a recipe: give the folder to the run: --out"),
        (
            ("use_gpu", "device"),
            "device and use_gpu are not part of a recipe: give the device to the run: --device",
        ),
    )
    notes = [note for names, note in run_options if {*names} & {*configuration.given}]
    return (
        recipe_of(configuration, own_file="data_path" in configuration.given),
        [*configuration.notes, *notes],
    )


PROGRAM = Program(
    "RecBole's run_recbole.py",
    {
        **_SCRIPT_OPTIONS,
        **{name: Option(from_text, known.default) for name, known in parameters("LDiffRec").items()},
    },
    _recipe,
    "run_recbole.py",
)
