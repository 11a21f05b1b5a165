"""RecBole's entry points for one model: train it, test it, save it, and load it again."""

from __future__ import annotations

import json
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from unblur import experiment
from unblur.compat.recbole.configuration import (
    Configuration,
    configure,
    loaded,
    measured_by,
    own_data,
    recipe_of,
)
from unblur.data.formats.columns import IGNORE
from unblur.data.formats.opening import is_file, open_data, open_regular
from unblur.data.formats.text import open_recbole, sample_of
from unblur.data.interactions import Interactions
from unblur.data.splits import Split
from unblur.errors import ArtifactError, DataError, RecipeError
from unblur.evaluation.protocol import Evaluation
from unblur.experiment.ranking import PreparedSplit
from unblur.experiment.recipe.library import load_recipe
from unblur.experiment.recipe.parts import Reading
from unblur.progress import Progress, ProgressEvent, silent
from unblur.recommender import Recommender, load

LOG = logging.getLogger(__name__)
"""The log of progress and results, as RecBole has one; on stderr unless the caller has set up logging."""
CONFIGURATION = "recbole.json"
"""The file with RecBole's configuration of a run, next to recipe, report and model."""


class Loaded(NamedTuple):
    """A saved run, with the entries of RecBole's tuple in their order."""

    config: Configuration
    model: Recommender
    dataset: Interactions
    """All interactions, before the split."""
    train_data: Interactions
    valid_data: Interactions | None
    """The same users and items as `train_data`; `None` if the split has no validation part."""
    test_data: Interactions


def run_recbole(
    model: str | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | str | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    *,
    ignore_unknown: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a model as RecBole does, keep the epoch that is best on validation data, and test it once.

    Arguments are those of RecBole's function of this name. Data are ``<data_path>/<dataset>/<dataset>.inter``
    if that file exists, else the data set of that name. The result has RecBole's four entries,
    ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and ``test_result`` (the last two ordered,
    ``recall@10`` …, rounded as ``metric_decimal_place`` says), and two more: ``model_file``, the folder in
    ``checkpoint_dir`` that `load_data_and_model` takes (`None` unless `saved`), and ``notes``. Epochs and results are logged
    on stderr, as ``state`` and ``show_progress`` say, unless `progress` observes the run. With `ignore_unknown` options
    that RecBole does not have are left out and noted.

    Raises `RecipeError` for options that are unknown or not supported, and the errors of data and training.
    """
    configuration = configure(model, dataset, config_dict, config_file_list, ignore_unknown=ignore_unknown)
    progress = logged(configuration) if progress is None else progress
    folder = None
    if saved:
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        folder = experiment.check_place(
            _unused_folder(Path(configuration["checkpoint_dir"]) / f"{configuration.model}-{stamp}")
        )
    prepared = prepared_for(configuration, progress=progress)
    outcome = experiment.measure(
        prepared, device=device_of(configuration), notes=configuration.notes, progress=progress
    )
    if folder is not None:
        record = {
            "model": configuration.model,
            "dataset": configuration.dataset,
            "options": {name: configuration.values[name] for name in configuration.given},
        }
        experiment.write_folder(folder, outcome, more={CONFIGURATION: json.dumps(record, indent=1) + "\n"})
    best = _validation_result(configuration, prepared, outcome.model)
    test = result_of(configuration, outcome.evaluations[0])
    LOG.info("best valid: %s", None if best is None else dict(best))
    LOG.info("test result: %s", dict(test))
    return {
        "best_valid_score": None if best is None else best[configuration["valid_metric"].lower()],
        "valid_score_bigger": True,
        "best_valid_result": best,
        "test_result": test,
        "model_file": None if folder is None else str(folder.path),
        "notes": outcome.report.notes,
    }


_PROCESSES = ("nproc", "world_size", "ip", "port", "group_offset")
"""RecBole's arguments for several processes."""


def run(*arguments: Any, **options: Any) -> dict[str, Any]:
    """`run_recbole`, with RecBole's arguments for several processes, which have no effect: one process trains."""
    return run_recbole(
        *arguments, **{name: value for name, value in options.items() if name not in _PROCESSES}
    )


def run_recboles(rank: int, *arguments: Any) -> None:
    """`run_recbole` in the process of rank 0, for ``(model, dataset, config_file_list, keywords)``; the others do nothing.

    Keywords are those of `run_recbole`, and ``queue``, which receives the result.
    """
    *positional, keywords = arguments
    RecipeError.unless(
        isinstance(keywords, Mapping),
        f"The last argument of run_recboles must be a dictionary; saw {type(keywords).__name__}.",
    )
    if rank == 0:
        queue = keywords.get("queue")
        result = run_recbole(
            *positional, **{name: value for name, value in keywords.items() if name != "queue"}
        )
        if queue is not None:
            queue.put(result)


def objective_function(
    config_dict: Mapping[str, Any] | None = None,
    config_file_list: Sequence[str | Path] | str | None = None,
    saved: bool = True,
) -> dict[str, Any]:
    """`run_recbole` with model and data set among the options, and ``model`` as a further entry of the result."""
    result = run_recbole(config_dict=config_dict, config_file_list=config_file_list, saved=saved)
    return {"model": configure(None, None, config_dict, config_file_list).model, **result}


def logged(configuration: Configuration) -> Progress:
    """An observer that logs epochs and trials at the level ``state``, none of them without ``show_progress``."""
    LOG.setLevel(str(configuration["state"]).upper())
    if not LOG.hasHandlers():
        LOG.addHandler(logging.StreamHandler())
    if not configuration["show_progress"]:
        return silent

    def observe(event: ProgressEvent, /) -> None:
        if event.kind in ("epoch", "trial"):
            figures = ", ".join(f"{name} {value:.4g}" for name, value in event.values.items())
            LOG.info(
                "%s: %s %d of %s%s",
                event.label,
                event.kind,
                event.done,
                event.total or "?",
                f", {figures}" if figures else "",
            )

    return observe


def load_data_and_model(model_file: str | Path, *, progress: Progress = silent) -> Loaded:
    """Load a model that `run_recbole` saved, with its data, read and split again in the same way.

    `model_file` is the folder that `run_recbole` returned. Raises `ArtifactError` for any other path, and if the data
    have changed since the run.
    """
    folder = Path(model_file)
    try:
        with open_regular(folder / CONFIGURATION) as stream:
            record = json.load(stream)
        with open_regular(folder / "report.json") as stream:
            report = json.load(stream)
        model, dataset, options = record["model"], record["dataset"], dict(record["options"])
        fingerprints = report["provenance"]["data"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as problem:
        raise ArtifactError(
            f"A saved run must be a folder that run_recbole wrote; {folder} is not one ({problem}). Give its path."
        ) from None
    configuration = configure(model, dataset, options)
    prepared = prepared_for(configuration, progress=progress)
    ArtifactError.unless(
        dict(prepared.fingerprints) == fingerprints
        and prepared.recipe.task.facts()["split"]
        == load_recipe(folder / "recipe.toml").task.facts()["split"],
        f"The data of a saved run must be those that it was fitted to; {configuration.dataset} has changed since. "
        "Put the old files back, or run again.",
    )
    parts = experiment.read_parts(prepared.recipe.data, _file(configuration), progress=progress)
    return Loaded(
        config=configuration,
        model=load(folder / "model", device=device_of(configuration)),
        dataset=next(iter(parts.values())),
        train_data=prepared.split.train,
        valid_data=prepared.split.validation,
        test_data=prepared.split.held_out,
    )


def prepared_for(configuration: Configuration, *, progress: Progress = silent) -> PreparedSplit:
    """The recipe of a configuration with its data read and split. Raises `RecipeError` if ``.user`` or ``.item`` files would
    leave out interactions."""
    file = _file(configuration)
    prepared = experiment.prepare(
        recipe_of(configuration, own_file=file is not None), data=file, progress=progress
    )
    if file is None:
        return prepared
    # The recipe was written for this file, so notes about the caller's own data do not apply.
    return replace(prepared, notes=_file_notes(configuration, file, prepared.recipe.data.read))


def _file_notes(configuration: Configuration, file: Path, read: Reading) -> tuple[str, ...]:
    """A note on rows without a value in a column that is read."""
    sides = {"user": configuration["USER_ID_FIELD"], "item": configuration["ITEM_ID_FIELD"]}
    fields = {
        *sides.values(),
        *(str(field) for field in (read.rating, read.timestamp) if field not in (None, IGNORE)),
    }
    frame = _columns(file, fields, {configuration["TIME_FIELD"]} if read.timestamp is None else set())
    for side, field in sides.items():
        side_file, columns = file.with_suffix(f".{side}"), loaded(configuration, side)
        is_loaded = "load_col" in configuration.given and (columns is None or field in columns)
        if not (configuration["filter_inter_by_user_or_item"] and is_loaded and is_file(side_file)):
            continue
        outside = (
            frame[field]
            .drop_nulls()
            .unique()
            .is_in(_columns(side_file, {field})[field].drop_nulls().implode())
            .not_()
            .sum()
        )
        RecipeError.unless(
            not outside,
            f"filter_inter_by_user_or_item would leave out {outside:,} {side}s that {side_file.name} does not have; that file is "
            "not read here. Filter the interactions beforehand, or set filter_inter_by_user_or_item to False.",
        )
    missing = [f"{name} {n:,}" for name, n in frame.null_count().row(0, named=True).items() if n]
    n_missing = frame.height - frame.drop_nulls().height
    return (
        (f"{n_missing:,} rows of {file.name} without a value were left out: {', '.join(missing)}",)
        if n_missing
        else ()
    )


def _columns(file: Path, fields: Set[str], more: Set[str] = frozenset()) -> pl.DataFrame:
    """Columns of an atomic file as text, and those of `more` that it has."""
    with open_data(file) as stream:
        opened = open_recbole(stream, sample_of(stream))
        for field in fields:
            RecipeError.unless(
                field in opened.names, f"{file} must have a column {field}; it has {', '.join(opened.names)}."
            )
        return opened.load([at for at, name in enumerate(opened.names) if name in {*fields, *more}])


def _file(configuration: Configuration) -> Path | None:
    """The atomic file of the data set, if there is one."""
    folder = Path(configuration["data_path"])
    file = folder / configuration.dataset / f"{configuration.dataset}.inter"
    DataError.unless(
        is_file(file) or not own_data(configuration),
        f"data_path must have {configuration.dataset}/{configuration.dataset}.inter; {file} does not exist. Correct "
        "it, or leave it out to use the data set of that name.",
    )
    return file if is_file(file) else None


def device_of(configuration: Configuration) -> str:
    """RecBole's device: ``device``, else the GPU if there is one and ``use_gpu`` is true, else the CPU."""
    if configuration["device"] or not configuration["use_gpu"]:
        return str(configuration["device"] or "cpu")
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def result_of(configuration: Configuration, evaluation: Evaluation) -> OrderedDict[str, float]:
    """The measurements by RecBole's names, rounded as ``metric_decimal_place`` says."""
    digits = configuration["metric_decimal_place"]
    return OrderedDict(
        (theirs, float(round(evaluation[ours].value, digits)))
        for theirs, ours in measured_by(configuration).items()
    )


def _validation_result(
    configuration: Configuration, prepared: PreparedSplit, model: Recommender
) -> OrderedDict[str, float] | None:
    """The result on the validation part, if there is one; lists leave out what is in train."""
    split = prepared.split
    if split.validation is None:
        return None
    validation_split = Split(split.train, split.train, split.validation, f"validation part: {split.method}")
    protocol = replace(prepared.recipe.protocol, resamples=0)
    return result_of(configuration, protocol.evaluate(model, validation_split))


def _unused_folder(folder: Path) -> Path:
    """The folder, or the first of its numbered siblings that does not exist."""
    siblings = (folder.with_name(f"{folder.name}-{number}") for number in count(2))
    return next(candidate for candidate in chain([folder], siblings) if not candidate.exists())
