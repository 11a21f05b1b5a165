"""RecBole's configuration, and the recipe that does the same.

``options.toml`` lists every option with RecBole's default, its accepted values, and its path in our spec or the reason why it
has none. Options from files and a dictionary replace RecBole's defaults, and every name and value is checked. The result is
the recipe of a configuration, or of a command line such as
``python run_recbole.py --model=DiffRec --dataset=ml-100k --learning_rate=1e-4``.
"""

from __future__ import annotations

import logging
import math
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
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
from unblur.data.intervals import Intervals
from unblur.document.text import shell_line
from unblur.errors import DataError, RecipeError, nearest
from unblur.evaluation.metrics import metric_at
from unblur.experiment.recipe.library import text_of
from unblur.experiment.recipe.schema import Recipe
from unblur.experiment.recipe.toml import OFF
from unblur.models.diffusion.diffrec import LatentDiffRec
from unblur.spec import Spec

MODELS: Mapping[str, str] = MappingProxyType({"DiffRec": "diffrec", "LDiffRec": "l-diffrec"})
"""Our kinds of RecBole's models, by its names."""


@dataclass(frozen=True, slots=True)
class Parameter(Option):
    """An option of RecBole's, a row of ``options.toml``. Its path is in our spec, so only hyper-parameters have one."""

    only: Any = None
    """With `reason`: the only supported value apart from the default and `None`."""
    reason: str = ""
    """The reason why the default is the only supported value; empty if others are supported."""


# ---------------------------------------------------------------------------------------------- accepted values

_ACTIVATIONS = {
    "tanh": "tanh",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "leakyrelu": "leaky_relu",
    "none": "identity",
}
"""Our activations by RecBole's names."""


def _intervals(value: Any) -> str:
    try:
        Intervals.parse(str(value))
    except DataError:
        raise ValueError("intervals such as '[5,inf)', '(1,10]' or '[1,2);[4,5]'") from None
    return str(value).replace(" ", "")


def _is_clipping(value: Any) -> bool:
    keys = {"max_norm", "norm_type"}
    return not value or (
        isinstance(value, Mapping)
        and "max_norm" in value
        and {*value} <= keys
        and value.get("norm_type", 2) == 2
    )


def _mode(value: Any) -> dict[str, str]:
    """The mode of validation and test. Raises `ValueError`, with the reason, for one that is not ``full``."""
    modes = value if isinstance(value, Mapping) else {"valid": value}
    for mode in map(str, modes.values()):
        if mode.startswith(("uni", "pop")):
            raise ValueError(
                "'full' (metrics over sampled items rank models otherwise than those over all items do: Krichene and "
                "Rendle, KDD 2020)"
            )
        if mode == "labeled":
            raise ValueError(
                "'full' (labeled scores only the rows of the test part, by labels that threshold writes, for AUC and "
                "LogLoss; nothing is ranked)"
            )
        if mode != "full":
            raise ValueError("'full'")
    return {"valid": "full", "test": "full"}


whole = parser("a whole number", is_whole)
_PARSERS: Mapping[str, Callable[[Any], Any]] = {
    "any": unchanged,
    "whole": whole,
    "number": parser("a number", lambda value: is_whole(value) or isinstance(value, float), float),
    "truth": parser("True or False", lambda value: isinstance(value, bool)),
    "text": parser("text", lambda value: isinstance(value, str)),
    "widths": parser(
        "a list of whole numbers",
        lambda value: isinstance(value, list | tuple) and all(map(is_whole, value)),
        tuple,
    ),
    "columns": parser(
        "a table such as {'inter': ['user_id', 'item_id']}", lambda value: isinstance(value, Mapping)
    ),
    "table": parser("a table such as {'split': {'RS': [8, 1, 1]}}", lambda value: isinstance(value, Mapping)),
    "cutoffs": parser(
        "a positive whole number or a list of some",
        lambda value: value not in ([], ()) and all(is_whole(k) and k > 0 for k in as_list(value)),
    ),
    "intervals": _intervals,
    "activation": one_of(
        f"one of {', '.join(_ACTIVATIONS)} (RecBole's dice, which is trained, is unavailable)", *_ACTIVATIONS
    ),
    "optimizer": parser(
        "one of adam, sgd (RecBole's other optimizers are unavailable)",
        lambda value: str(value).lower() in ("adam", "sgd"),
    ),
    "clipping": parser("a table such as {'max_norm': 5}, which clips the 2-norm alone", _is_clipping),
    "separator": one_of("a tab (read another file as your own: unblur run RECIPE --data FILE)", "\t"),
    "end": one_of("first or last", "first", "last"),
    "level": parser(
        "a logging level such as INFO", lambda value: str(value).upper() in logging.getLevelNamesMapping()
    ),
    "split": parser(
        "{'RS': [0.8, 0.1, 0.1]} or {'LS': 'valid_and_test'}",
        lambda value: isinstance(value, Mapping) and len(value) == 1 and {*value} <= {"RS", "LS"},
    ),
    "order": one_of("RO or TO", "RO", "TO"),
    "group": parser(
        "user or none",
        lambda value: isinstance(value, str | None) and str(value).lower() in ("user", "none"),
        lambda value: str(value).lower(),
    ),
    "mode": _mode,
}
"""The kinds of values in the table of options; each raises `ValueError`, with the requirement, for another value."""
_PARSERS = {**_PARSERS, "outward widths": _PARSERS["widths"]}
_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "activation": _ACTIVATIONS.get,
    # From the latent layer outwards there, from the row inwards here.
    "outward widths": lambda outwards: outwards[::-1],
}
"""From RecBole's value to that at the path, by kind."""

_TABLE = tomllib.loads(files(__package__).joinpath("options.toml").read_text(encoding="utf-8"))
OTHER_MODELS = frozenset(_TABLE["other_models"]["names"])
"""The hyper-parameters of RecBole's other models."""


def _section(name: str) -> dict[str, Parameter]:
    """The options in a section of the table, by name."""
    return {
        option: Parameter(
            _PARSERS[row.get("kind", "any")],
            tuple(row["default"]) if isinstance(row.get("default"), list) else row.get("default"),
            row.get("path", ""),
            _CONVERSIONS.get(row.get("kind", ""), unchanged),
            also=row.get("also", ""),
            irrelevant=_TABLE["reasons"].get(row.get("idle"), row.get("idle", "")),
            only=row.get("same"),
            reason=row.get("refused", ""),
        )
        for option, row in _TABLE[name].items()
    }


EVAL_ARGS: Mapping[str, Parameter] = _section("eval_args")
"""The entries of ``eval_args``."""
_LATENT = _section("latent")
"""The options of LDiffRec, with its own defaults."""
_COMMON = {
    name: option
    for section in ("diffusion", "training", "evaluation", "data", "environment")
    for name, option in _section(section).items()
}


def parameters(model: str) -> dict[str, Parameter]:
    """All options of a model, by name, with the model's own defaults.

    Raises `RecipeError` for a model that is neither DiffRec nor LDiffRec.
    """
    RecipeError.unless(
        model in MODELS,
        f"A model of RecBole's must be {' or '.join(MODELS)}; saw {model!r}.{nearest(model, MODELS)} Name one of them.",
    )
    return _COMMON | (_LATENT if model == "LDiffRec" else {})


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
    config_file_list: Sequence[str | Path] | str | None = None,
    *,
    ignore_unknown: bool = False,
) -> Configuration:
    """Read options from YAML files, later over earlier ones, then from a dictionary, over RecBole's defaults.

    `model` and `dataset` may be in files or dictionary as well; the arguments have priority. Files may be a text as on
    RecBole's command line, ``"a.yaml b.yaml"``. Raises `RecipeError` for an unknown name (with the nearest known one),
    an invalid value, and an unsupported one, with the reason; with `ignore_unknown` unknown names are left out and noted.
    """
    paths = config_file_list.split() if isinstance(config_file_list, str) else config_file_list or ()
    options: dict[str, Any] = {}
    for table in (*map(read_yaml, paths), config_dict or {}):
        options |= {name: _literal(value) for name, value in table.items()}
    names = {"model": model, "dataset": dataset}
    for name, argument in names.items():
        option_value = options.pop(name, None)
        names[name] = option_value if argument is None else argument
        RecipeError.unless(
            names[name] is not None,
            f"{name} must be named; it is neither an argument nor an option. Give {name}=…",
        )
    known = parameters(str(names["model"]))
    foreign = [str(name) for name in options if name not in known]
    unknown = [_unknown(name, known, str(names["model"])) for name in foreign if name not in OTHER_MODELS]
    RecipeError.unless(ignore_unknown or not unknown, " ".join(unknown))
    notes = [f"left out: {complaint}" for complaint in unknown]
    notes += [
        f"{name} has no effect here: it is an option of other models of RecBole's"
        for name in foreign
        if name in OTHER_MODELS
    ]
    options = {name: value for name, value in options.items() if name in known}
    values = {name: option.default for name, option in known.items()}
    values |= {name: checked(name, value, known[name]) for name, value in options.items()}
    values["eval_args"] = _eval_args(values["eval_args"])
    notes += [
        f"{name} has no effect here: {known[name].irrelevant}"
        for name, value in options.items()
        if known[name].irrelevant and not _is_default(value, known[name].default)
    ]
    if values.get("n_cate", 1) > 1:
        notes.append("RecBole clusters items by a file item_emb.npy; here embeddings are computed from train")
    return Configuration(str(names["model"]), str(names["dataset"]), values, tuple(options), tuple(notes))


def _is_default(value: Any, default: Any) -> bool:
    """Whether a value of an option is its default; nothing (``~``) is."""
    return value is None or value == default or (isinstance(value, list) and tuple(value) == default)


def _literal(value: Any) -> Any:
    """The value that a text stands for: a Python literal, or true and false in any case."""
    words = {"true": True, "false": False}
    return words.get(value.lower(), from_text(value)) if isinstance(value, str) else value


def _eval_args(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The values of all entries of ``eval_args``, defaults included."""
    for name in entries:
        RecipeError.unless(
            name in EVAL_ARGS,
            f"eval_args takes {', '.join(EVAL_ARGS)}; saw {name!r}.{nearest(str(name), EVAL_ARGS)}",
        )
    return {
        name: checked(f"eval_args.{name}", entries.get(name, option.default), option)
        for name, option in EVAL_ARGS.items()
    }


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
    source = text_of(Path(path), "A configuration must be a readable YAML file")
    try:
        options = yaml.load(source, Loader=_Loader)
        str(options)  # hexadecimals of thousands of digits have no text
    # Besides its own errors: those of a date in no calendar, of thousands of digits, of hundreds of levels.
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
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
    """The safe loader, which also reads numbers with an exponent but no decimal point, as RecBole does.

    It takes no aliases (``*name``): a few lines of them stand for more values than there is memory to name in a message.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("a value stands for another one (*name), which is not read; write it out")
        return super().compose_node(parent, index)


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
    "itemcoverage": "coverage",
    "giniindex": "gini",
    "averagepopularity": "mean_popularity",
    "shannonentropy": "entropy_per_item",
    "tailpercentage": "tail_share",
}
"""Our metrics by RecBole's names in lower case. Its MAP divides by min(k, |relevant|)."""
_ACCURACY = ("Recall", "MRR", "NDCG", "Hit", "Precision", "MAP")
_METRIC_NAMES = (
    *_ACCURACY,
    *("ItemCoverage", "GiniIndex", "AveragePopularity", "ShannonEntropy", "TailPercentage"),
)


def recipe_of(configuration: Configuration, *, own_file: bool) -> Recipe:
    """The recipe that does what RecBole does with a configuration.

    With `own_file` the data are an atomic ``.inter`` file, read as the configuration says; else the data set of
    that name. Raises `RecipeError` for unsupported options.
    """
    split = _split(configuration)
    family = f"{'l' if configuration.model == 'LDiffRec' else ''}{'t' if configuration['time-aware'] else ''}"
    recipe = Recipe.from_dict(
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
    check_like_recbole(recipe.model)
    return recipe


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
            "metrics of ratings and of scores (AUC, GAUC, MAE, RMSE, LogLoss) are unavailable: lists are measured here.",
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
    RecipeError.unless(
        name.partition("@")[0] in map(str.lower, _ACCURACY),
        f"valid_metric must be one of accuracy, {', '.join(_ACCURACY)}, of which more is better; saw "
        f"{configuration['valid_metric']!r}. Name one of them.",
    )
    return measured[name]


def _split(configuration: Configuration) -> dict[str, Any]:
    """The ``[split]`` table."""
    arguments = configuration["eval_args"]
    ((kind, size),) = arguments["split"].items()
    by_user, order = arguments["group_by"] == "user", "time" if arguments["order"] == "TO" else "random"
    if kind == "LS":  # of each user, whatever group_by says
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


def _normalizes_times(configuration: Configuration) -> bool:
    """Whether RecBole turns times into float32 shares of their span, after which close moments are equal."""
    fields = configuration["normalize_field"]
    return bool(
        configuration["normalize_all"] if fields is None else configuration["TIME_FIELD"] in as_list(fields)
    )


def _data(configuration: Configuration, *, own_file: bool) -> dict[str, Any]:
    """The ``[data]`` table."""
    timed = bool(configuration["time-aware"]) or configuration["eval_args"]["order"] == "TO"
    _check_columns(configuration, timed)
    name, rating = configuration.dataset, configuration["RATING_FIELD"]
    ratings = _ratings(configuration["val_interval"], rating)
    core = {
        f"{side}s": _size(configuration[f"{side}_inter_num_interval"] or "[0,inf)")
        for side in ("user", "item")
    }
    table: dict[str, Any] = {}
    if timed and _normalizes_times(configuration):
        table["times"] = "float32"
    if any(size != 1 for size in core.values()):
        table["k_core"] = core
    if not own_file:
        return {**table, "name": name, "reading": _reading(name, ratings)}
    time = configuration["TIME_FIELD"] if timed else "ignore"
    if configuration["rm_dup_inter"] and not timed:
        # Repeats are told apart by time. If no option says whether the file has times, they are found by their usual name.
        columns = loaded(configuration, "inter")
        time = configuration["TIME_FIELD"] if columns and configuration["TIME_FIELD"] in columns else time
        time = None if columns is None and configuration["TIME_FIELD"] == "timestamp" else time
    read = {
        "format": "recbole",
        "user": configuration["USER_ID_FIELD"],
        "item": configuration["ITEM_ID_FIELD"],
        "rating": "ignore" if ratings is None else rating,
        "timestamp": time,
        **({} if ratings is None else _selection(ratings)),
        "on_null": "drop",
        "duplicates": configuration["rm_dup_inter"],
    }
    return {**table, "read": {name: value for name, value in read.items() if value is not None}}


def loaded(configuration: Configuration, source: str) -> set[str] | None:
    """The columns that ``load_col`` names for files of a kind (``inter``, ``user``); `None` for all of them."""
    table = configuration["load_col"]
    if table is None or table.get(source) == "*":
        return None
    return set(as_list(table.get(source, [])))


def _check_columns(configuration: Configuration, timed: bool) -> None:
    """Raise `RecipeError` if ``load_col`` or ``unload_col`` leave out a required column."""
    needed = {
        configuration["USER_ID_FIELD"],
        configuration["ITEM_ID_FIELD"],
        *([configuration["TIME_FIELD"]] if timed else []),
        *([configuration["RATING_FIELD"]] if configuration["val_interval"] else []),
    }
    columns = loaded(configuration, "inter")
    unloaded = set((configuration["unload_col"] or {}).get("inter") or ())
    missing = sorted(needed & unloaded | (set() if columns is None else needed - columns))
    RecipeError.unless(
        not missing,
        f"load_col must load the columns {', '.join(sorted(needed))}; {', '.join(missing)} is not loaded. Add it.",
    )


def _size(text: str) -> int | str:
    """A number of interactions as a recipe has it: the smallest one, or intervals if there are upper ends or several."""
    ((bracket, low, high, _), *more) = Intervals.parse(text).parts
    if more or high < math.inf or low == math.inf:
        return text
    return max(1, math.ceil(low) if bracket == "[" or low % 1 else int(low) + 1) if low > 0 else 1


def _selection(ratings: str) -> dict[str, Any]:
    """The options of a reading that keep these ratings."""
    ((bracket, low, high, _), *more) = Intervals.parse(ratings).parts
    if more or high < math.inf or bracket == "(":
        return {"ratings": ratings}
    return {"min_rating": low}


def _reading(name: str, ratings: str | None) -> str:
    """The reading of a known data set that keeps the ratings in these intervals, or all if there are none."""
    RecipeError.unless(
        name in DATASETS,
        f"The data must be a file DATA_PATH/{name}/{name}.inter or a known data set; {name!r} is neither."
        f"{nearest(name, DATASETS)} Give data_path, or see `unblur datasets`.",
    )
    least = None if ratings is None else _selection(ratings).get("min_rating", math.nan)
    for reading in DATASETS[name].readings if len(DATASETS[name].parts) == 1 else ():
        if (
            reading.options.get("rating") == "ignore"
            if least is None
            else reading.options.get("min_rating") == least
        ):
            return reading.name
    rows = "all rows" if ratings is None else f"the rows rated within {ratings}"
    raise RecipeError(
        f"The data set {name} must have a reading with {rows}, in one part; it has none (`unblur datasets`). Give it "
        f"as a file, DATA_PATH/{name}/{name}.inter, with data_path."
    )


def _ratings(table: Any, rating: str) -> str | None:
    """The ratings that ``val_interval`` keeps, `None` if it keeps all."""
    if not table:
        return None
    RecipeError.unless(
        set(table) == {rating},
        f"val_interval must be of {rating} alone; saw {table!r}. Filter the file by other columns beforehand.",
    )
    return str(checked(f"val_interval.{rating}", table[rating], Parameter(_intervals, None)))


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
        RecipeError.unless(
            not clip,
            "clip_grad_norm is not supported for LDiffRec: RecBole clips the gradients of autoencoder and denoiser "
            "together, and here each is clipped on its own. Leave it out.",
        )
    interval_of_epochs = configuration["eval_step"]
    stopping = {
        "metric": metric,
        "every": interval_of_epochs,
        "patience": (configuration["stopping_step"] + 1) * interval_of_epochs + 1,
    }
    return {**table, "stopping": stopping if stops and interval_of_epochs > 0 else OFF}


def check_like_recbole(spec: Spec) -> None:
    """Raise `RecipeError` for settings of LDiffRec that RecBole trains otherwise than this library."""
    if not isinstance(spec, LatentDiffRec):
        return
    RecipeError.unless(
        spec.objective.reweight and not spec.schedule.noiseless,
        "LDiffRec without reweight (or with noise_scale 0, which is the same) is not supported: RecBole's loss remains "
        "λ·diffusion + autoencoder, while that of the authors, and ours, becomes diffusion + λ·autoencoder. Leave "
        "reweight on.",
    )
    RecipeError.unless(
        spec.clusters.count <= 1
        or (not spec.autoencoder.decoder_dims and len(spec.autoencoder.encoder_dims) <= 1),
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
_NO_FILE = "trials and their results are kept in the folder of the search: --out"
_TUNING_OPTIONS = {
    "config_files": Option(str, ""),
    "model": Option(str, ""),
    "dataset": Option(str, ""),
    "params_file": Option(str, ""),
    "output_file": Option(str, "", irrelevant=_NO_FILE),
    "display_file": Option(str, "", irrelevant="the page of the search, report.html, has its plots"),
    "tool": Option(str, "Hyperopt", irrelevant="the search is this library's own"),
    "max_evals": Option(int, 100, irrelevant="every combination is tried, as there"),
}
"""The options of ``run_hyper.py`` itself."""
EVERY_TRIAL = 10**9
"""The number of trials of an exhaustive search: more than any tuning file has combinations."""
_EARLY_STOP = 10
"""The number of trials without a better one after which ``run_hyper.py`` ends."""


def _recipe(values: Mapping[str, Any], options_given: Sequence[str]) -> tuple[Recipe, list[str]]:
    """The recipe for options, configuration files included. Raises `RecipeError` for options or values that the model does
    not have, or that are not supported."""
    files = values["config_files"].split()
    model, dataset = (
        (values[name] or None) if name in options_given or not files else None
        for name in ("model", "dataset")
    )
    own = {**_SCRIPT_OPTIONS, **_TUNING_OPTIONS}
    options = {name: values[name] for name in options_given if name not in own}
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
        recipe_of(configuration, own_file=own_data(configuration)),
        [*configuration.notes, *notes],
    )


def own_data(configuration: Configuration) -> bool:
    """Whether a folder of data was given that is not RecBole's default."""
    return str(configuration["data_path"]).rstrip("/") != str(_COMMON["data_path"].default).rstrip("/")


def _tuning_recipe(values: Mapping[str, Any], options_given: Sequence[str]) -> tuple[Recipe, list[str]]:
    """The recipe of a search that does what ``run_hyper.py`` does with these options."""
    RecipeError.unless(
        values["params_file"], "--params_file of RecBole's run_hyper.py must be given; it is missing. Add it."
    )
    recipe, notes = _recipe(values, options_given)
    search = {"search.sampler": "exhaustive", "search.trials": EVERY_TRIAL, "search.patience": _EARLY_STOP}
    notes += [
        f"the ranges are read by the search: unblur tune RECIPE --params-file {shell_line(values['params_file'])}",
        "a name in that file that the model does not have is refused; with --ignore-unknown it is passed over, as there",
        "only the winner is tested, where RecBole tests every trial",
    ]
    return recipe.changed(search), notes


_OPTIONS = {name: Option(from_text, known.default) for name, known in parameters("LDiffRec").items()}
_OPTIONS |= {name: Option(from_text, None) for name in OTHER_MODELS}
_SHORT = {"m": "model", "d": "dataset"}
PROGRAM = Program(
    "RecBole's run_recbole.py",
    {**_SCRIPT_OPTIONS, **_OPTIONS},
    _recipe,
    "run_recbole.py",
    short=_SHORT,
    variants={
        "run_hyper.py": Program(
            "RecBole's run_hyper.py",
            {**_TUNING_OPTIONS, **_OPTIONS},
            _tuning_recipe,
            "run_hyper.py",
            short=_SHORT,
            run=lambda values: f"unblur tune {{recipe}} --params-file {shell_line(values['params_file'])}",
        )
    },
)
