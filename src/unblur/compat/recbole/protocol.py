"""RecBole's protocol as parts of a recipe: data, split, metrics; and the whole recipe."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from unblur.compat.recbole.configuration import Configuration
from unblur.compat.recbole.model_settings import model_table
from unblur.data.catalogue.listing import DATASETS
from unblur.errors import RecipeError, nearest
from unblur.evaluation.metrics import metric_at
from unblur.experiment.recipe.schema import Recipe

METRICS: Mapping[str, str] = {
    "recall": "recall",
    "mrr": "mrr",
    "ndcg": "ndcg",
    "hit": "hit_rate",
    "precision": "precision",
    "map": "capped_map",
}
"""RecBole's metrics, in lower case, and ours. Its MAP divides by min(k, |relevant|)."""

_EVAL_ARGS: Mapping[str, Any] = {
    "split": {"RS": [0.8, 0.1, 0.1]},
    "order": "RO",
    "group_by": "user",
    "mode": "full",
}
_ORDERS = {"RO": "random", "TO": "time"}
_INTERVAL = re.compile(r"\s*([\[(])\s*([^,\s]+)\s*,\s*([^,\s]+)\s*([\])])\s*")


def recipe_of(configuration: Configuration, *, own_file: bool) -> Recipe:
    """The recipe that does what RecBole does with a configuration.

    With `own_file` the data are an atomic ``.inter`` file, read as the configuration says; else the data set of
    that name. Raises `RecipeError` for what cannot be honoured.
    """
    split = _split(configuration)
    validated = split.get("validation", True) not in (0, False)
    names = metrics_of(configuration)
    family = f"{'l' if configuration.kind == 'l-diffrec' else ''}{'t' if configuration['time-aware'] else ''}"
    return Recipe.from_dict(
        {
            "name": f"{family}{'-' if family else ''}diffrec/{configuration.dataset}-recbole",
            "title": f"RecBole's {configuration.model} on {configuration.dataset}",
            "seed": configuration["seed"],
            "data": _data(configuration, own_file=own_file),
            "split": split,
            "model": model_table(configuration, valid_metric(configuration), stops=validated),
            "protocol": {
                "kind": "paper",
                "cutoffs": cutoffs_of(configuration),
                "metrics": list(names.values()),
                "averaging": "users-with-relevant",
            },
        }
    )


def cutoffs_of(configuration: Configuration) -> list[int]:
    """``topk``, as a list. Raises `RecipeError` for what is no positive whole number."""
    topk = configuration["topk"]
    listed = list(topk) if isinstance(topk, list | tuple) else [topk]
    if not listed or not all(isinstance(k, int) and not isinstance(k, bool) and k > 0 for k in listed):
        raise RecipeError(
            f"topk must be a positive whole number or a list of some; saw {topk!r}. Correct it."
        )
    return sorted(set(listed))


def metrics_of(configuration: Configuration) -> dict[str, str]:
    """Our name of each of the metrics by RecBole's in lower case, in order. Raises `RecipeError` for others."""
    asked = configuration["metrics"]
    names = [str(name) for name in (asked if isinstance(asked, list | tuple) else [asked])]
    known = ("Recall", "MRR", "NDCG", "Hit", "Precision", "MAP")
    for name in names:
        if name.lower() not in METRICS:
            raise RecipeError(
                f"metrics must be some of {', '.join(known)}; saw {name!r}.{nearest(name, known)} Those of RecBole "
                "that judge ratings or whole catalogues are not there."
            )
    return {name.lower(): METRICS[name.lower()] for name in names}


def valid_metric(configuration: Configuration) -> str:
    """Our name of ``valid_metric``, such as ``mrr@10``. Raises `RecipeError` where it is not measured."""
    asked = str(configuration["valid_metric"])
    name, _, cutoff = asked.lower().partition("@")
    cutoffs, metrics = cutoffs_of(configuration), metrics_of(configuration)
    if not configuration["valid_metric_bigger"]:
        raise RecipeError(f"valid_metric_bigger must be True: of {asked} more is better. Leave it out.")
    if name not in metrics or not cutoff.isdigit() or int(cutoff) not in cutoffs:
        measured = ", ".join(f"{metric}@{k}" for metric in metrics for k in cutoffs)
        raise RecipeError(
            f"valid_metric must be one that metrics and topk have measured, {measured}; saw {asked!r}."
            f"{nearest(asked.lower(), measured.split(', '))}"
        )
    return metric_at(metrics[name], int(cutoff))


def needs_times(configuration: Configuration) -> bool:
    """Whether model or split go by time."""
    return bool(configuration["time-aware"]) or _eval_args(configuration)["order"] == "TO"


def _eval_args(configuration: Configuration) -> dict[str, Any]:
    given = configuration["eval_args"] or {}
    if not isinstance(given, Mapping):
        raise RecipeError(f"eval_args must be a table; saw {given!r}. Write {{'split': …, 'order': …}}.")
    for name in given:
        if name not in _EVAL_ARGS:
            raise RecipeError(
                f"eval_args takes {', '.join(_EVAL_ARGS)}; saw {name!r}.{nearest(str(name), _EVAL_ARGS)}"
            )
    chosen = {**_EVAL_ARGS, **given}
    mode = chosen["mode"]
    modes = list(mode.values()) if isinstance(mode, Mapping) else [mode]
    if any(one != "full" for one in modes):
        raise RecipeError(
            f"eval_args.mode must be 'full'; saw {mode!r}. Metrics over sampled items rank models otherwise than those "
            "over all items do (Krichene and Rendle, KDD 2020), so they are not there."
        )
    if chosen["order"] not in _ORDERS:
        raise RecipeError(f"eval_args.order must be RO or TO; saw {chosen['order']!r}. Write one of these.")
    if chosen["group_by"] not in ("user", "none", None):
        raise RecipeError(f"eval_args.group_by must be user or none; saw {chosen['group_by']!r}.")
    return chosen


def _split(configuration: Configuration) -> dict[str, Any]:
    """The ``[split]`` table."""
    chosen = _eval_args(configuration)
    order, way = _ORDERS[chosen["order"]], chosen["split"]
    if not isinstance(way, Mapping) or len(way) != 1 or next(iter(way)) not in ("RS", "LS"):
        raise RecipeError(
            f"eval_args.split must be {{'RS': [0.8, 0.1, 0.1]}} or {{'LS': 'valid_and_test'}}; saw {way!r}."
        )
    ((kind, size),) = way.items()
    if kind == "RS":
        whole = isinstance(size, list | tuple) and len(size) == 3
        if (
            not whole
            or not all(isinstance(part, int | float) and part >= 0 for part in size)
            or not sum(size)
        ):
            raise RecipeError(f"The shares of RS must be three numbers, not negative; saw {size!r}.")
        train, validation, test = (part / sum(size) for part in size)
        if not train or not test:
            raise RecipeError(f"The shares of RS must leave something to train and to test; saw {size!r}.")
        by = "user" if chosen["group_by"] == "user" else "all"
        return {"kind": "ratio", "validation": validation, "held_out": test, "order": order, "by": by}
    if chosen["group_by"] != "user":
        raise RecipeError("LS leaves one out of each user, so eval_args.group_by must be user. Leave it out.")
    if size not in ("valid_and_test", "test_only"):
        reason = " Nothing would be left to test on." if size == "valid_only" else ""
        raise RecipeError(f"LS must be 'valid_and_test' or 'test_only'; saw {size!r}.{reason}")
    return {"kind": "leave-one-out", "order": order, "validation": size == "valid_and_test"}


def _data(configuration: Configuration, *, own_file: bool) -> dict[str, Any]:
    """The ``[data]`` table."""
    _check_columns(configuration)
    least = _least_rating(configuration["val_interval"], configuration["RATING_FIELD"])
    made: dict[str, Any] = {}
    core = {
        side: _fewest(f"{side}_inter_num_interval", configuration[f"{side}_inter_num_interval"])
        for side in ("user", "item")
    }
    if any(core.values()):
        made["k_core"] = {f"{side}s": max(1, least_number) for side, least_number in core.items()}
    if own_file:
        read: dict[str, Any] = {
            "format": "recbole",
            "user": configuration["USER_ID_FIELD"],
            "item": configuration["ITEM_ID_FIELD"],
            "rating": "ignore" if least is None else configuration["RATING_FIELD"],
            "timestamp": configuration["TIME_FIELD"] if needs_times(configuration) else "ignore",
        }
        if least is not None:
            read["min_rating"] = least
        if configuration["rm_dup_inter"] is not None:
            read["duplicates"] = configuration["rm_dup_inter"]
        return {**made, "read": read}
    return {**made, "name": configuration.dataset, "reading": _reading(configuration.dataset, least)}


def _reading(name: str, least: float | None) -> str:
    """The way to read a known data set that keeps ratings from `least` on; all where it is `None`."""
    if name not in DATASETS:
        raise RecipeError(
            f"The data must be a file DATA_PATH/{name}/{name}.inter or a known data set; {name!r} is neither."
            f"{nearest(name, DATASETS)} Give data_path, or see `unblur datasets`."
        )
    for way in DATASETS[name].readings:
        options, parts = way.options, DATASETS[name].parts
        same = options.get("rating") == "ignore" if least is None else options.get("min_rating") == least
        if same and len(parts) == 1:
            return way.name
    what = "all rows" if least is None else f"the rows rated at least {least:g}"
    raise RecipeError(
        f"The data set {name} must have a way to read {what}, in one part; it has not (`unblur datasets`). Give it as "
        f"a file, DATA_PATH/{name}/{name}.inter, with data_path."
    )


def _check_columns(configuration: Configuration) -> None:
    """Raise `RecipeError` where ``load_col`` or ``unload_col`` take away a column that is needed."""
    roles = {"USER_ID_FIELD", "ITEM_ID_FIELD"}
    if needs_times(configuration):
        roles |= {"TIME_FIELD"}
    if configuration["val_interval"]:
        roles |= {"RATING_FIELD"}
    needed = sorted(str(configuration[role]) for role in roles)
    loaded, left = configuration["load_col"], configuration["unload_col"]
    for name, table in (("load_col", loaded), ("unload_col", left)):
        if table is not None and not isinstance(table, Mapping):
            raise RecipeError(
                f"{name} must be a table such as {{'inter': ['user_id', 'item_id']}}; saw {table!r}."
            )
    kept = (loaded or {}).get("inter")
    dropped = (left or {}).get("inter") or ()
    missing = [field for field in needed if (kept is not None and field not in kept) or field in dropped]
    if missing:
        raise RecipeError(
            f"load_col must load the columns {', '.join(needed)}; {', '.join(missing)} is not loaded. Add it."
        )
    if configuration["field_separator"] != "\t":
        raise RecipeError(
            f"field_separator of an atomic file must be a tab; saw {configuration['field_separator']!r}. Read another "
            "file as your own: unblur run RECIPE --data FILE."
        )
    if configuration["rm_dup_inter"] not in (None, "first", "last"):
        raise RecipeError(f"rm_dup_inter must be first or last; saw {configuration['rm_dup_inter']!r}.")


def _interval(name: str, text: Any) -> tuple[float, bool, float, bool]:
    """Lower end, whether it belongs, upper end, whether it belongs: ``"[5,inf)"``."""
    found = _INTERVAL.fullmatch(text) if isinstance(text, str) else None
    if found:
        try:
            return float(found[2]), found[1] == "[", float(found[3]), found[4] == "]"
        except ValueError:
            pass
    raise RecipeError(f"{name} must be one interval such as '[5,inf)'; saw {text!r}. Write it so.")


def _fewest(name: str, text: Any) -> int:
    """The fewest interactions that an interval allows."""
    if text is None:
        return 0
    low, closed, high, _ = _interval(name, text)
    if high != math.inf:
        raise RecipeError(f"{name} can have no upper end here; saw {text!r}. Write '[{low:g},inf)'.")
    return max(0, math.ceil(low) if closed else math.floor(low) + 1) if low > -math.inf else 0


def _least_rating(table: Any, rating: str) -> float | None:
    """The least rating that ``val_interval`` keeps, `None` where it keeps all."""
    if not table:
        return None
    if not isinstance(table, Mapping) or set(table) != {rating}:
        raise RecipeError(
            f"val_interval can go by {rating} alone here; saw {table!r}. Cut the file by other columns beforehand."
        )
    low, closed, high, _ = _interval(f"val_interval.{rating}", table[rating])
    if high != math.inf:
        raise RecipeError(
            f"val_interval can have no upper end here; saw {table[rating]!r}. Write '[{low:g},inf)'."
        )
    if low == -math.inf:
        return None
    return low if closed else math.nextafter(low, math.inf)
