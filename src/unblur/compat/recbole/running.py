"""RecBole's quick start: train, choose the epoch on validation data, test once, save, load."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

from unblur import experiment
from unblur.compat.recbole.configuration import Configuration, configure
from unblur.compat.recbole.recipe import measured_by, recipe_of
from unblur.data.files.writing import replacing
from unblur.data.interactions import Interactions
from unblur.data.splits.sets import Split
from unblur.errors import ArtifactError, DataError
from unblur.evaluation.protocol import Evaluation
from unblur.experiment.ranking import PreparedSplit
from unblur.experiment.recipe.library import load_recipe
from unblur.progress import Progress, silent
from unblur.recommender import Recommender, load

CONFIGURATION = "recbole.json"
"""The file, next to recipe, report and model, that keeps RecBole's configuration of a run."""


class Loaded(NamedTuple):
    """A saved run: the entries of RecBole's tuple, in its order."""

    config: Configuration
    model: Recommender
    dataset: Interactions
    """All interactions, before the split."""
    train_data: Interactions
    valid_data: Interactions | None
    """The same users and items as `train_data`; `None` where the split has no such part."""
    test_data: Interactions


def run_recbole(
    model: str | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    config_dict: Mapping[str, Any] | None = None,
    saved: bool = True,
    *,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a model as RecBole does, keep the epoch that is best on validation data, and test it once.

    Arguments are those of RecBole's function of this name. Data are ``<data_path>/<dataset>/<dataset>.inter``
    where that file is there, else the data set of that name. The result has RecBole's four entries,
    ``best_valid_score``, ``valid_score_bigger``, ``best_valid_result`` and ``test_result`` (the last two ordered,
    ``recall@10`` …, rounded as ``metric_decimal_place`` says), and two more: ``model_file``, the folder in
    ``checkpoint_dir`` that `load_data_and_model` takes (`None` unless `saved`), and ``notes``.

    Raises `RecipeError` for options that are unknown or cannot be honoured, and the errors of data and training.
    """
    configuration = configure(model, dataset, config_dict, config_file_list)
    place = None
    if saved:
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        place = _free(Path(configuration["checkpoint_dir"]) / f"{configuration.model}-{stamp}")
        experiment.check_place(place)
    prepared = prepared_for(configuration, progress=progress)
    outcome = experiment.measure(
        prepared, device=device_of(configuration), notes=configuration.notes, progress=progress
    )
    if place is not None:
        experiment.write_folder(place, outcome)
        options = {name: configuration.values[name] for name in configuration.given}
        record = {"model": configuration.model, "dataset": configuration.dataset, "options": options}
        with replacing(place / CONFIGURATION) as stream:
            stream.write((json.dumps(record, indent=1) + "\n").encode())
    best = _validated(configuration, prepared, outcome.model)
    return {
        "best_valid_score": None if best is None else best[configuration["valid_metric"].lower()],
        "valid_score_bigger": True,
        "best_valid_result": best,
        "test_result": result_of(configuration, outcome.evaluations[0]),
        "model_file": None if place is None else str(place),
        "notes": outcome.report.notes,
    }


def objective_function(
    config_dict: Mapping[str, Any] | None = None,
    config_file_list: Sequence[str | Path] | None = None,
    saved: bool = True,
) -> dict[str, Any]:
    """`run_recbole` with model and data set among the options, and ``model`` in the result besides."""
    result = run_recbole(config_dict=config_dict, config_file_list=config_file_list, saved=saved)
    return {"model": configure(None, None, config_dict, config_file_list).model, **result}


def load_data_and_model(model_file: str | Path, *, progress: Progress = silent) -> Loaded:
    """Load what `run_recbole` saved, and its data, read and split as they were.

    `model_file` is the folder that `run_recbole` names. Raises `ArtifactError` where it is none, or where the data
    are no longer those of the run.
    """
    folder = Path(model_file)
    try:
        record = json.loads((folder / CONFIGURATION).read_text(encoding="utf-8"))
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        configuration = configure(record["model"], record["dataset"], record["options"])
        fingerprints = report["provenance"]["data"]
    except (OSError, UnicodeError, json.JSONDecodeError, KeyError, TypeError) as problem:
        raise ArtifactError(
            f"A saved run must be a folder that run_recbole wrote; {folder} is none ({problem}). Give its path."
        ) from None
    prepared = prepared_for(configuration, progress=progress)
    recipe = load_recipe(folder / "recipe.toml")
    if (
        dict(prepared.fingerprints) != fingerprints
        or prepared.recipe.task.facts()["split"] != recipe.task.facts()["split"]
    ):
        raise ArtifactError(
            f"The data of a saved run must be those that it was fitted to; {configuration.dataset} has changed since. "
            "Put the old files back, or run again."
        )
    model = load(folder / "model", device=device_of(configuration))
    split = prepared.split
    parts = experiment.read_parts(prepared.recipe.data, _file(configuration), progress=progress)
    return Loaded(
        configuration, model, next(iter(parts.values())), split.train, split.validation, split.held_out
    )


def prepared_for(configuration: Configuration, *, progress: Progress = silent) -> PreparedSplit:
    """The recipe of a configuration with its data read and split."""
    file = _file(configuration)
    recipe = recipe_of(configuration, own_file=file is not None)
    prepared = experiment.prepare(recipe, data=file, progress=progress)
    # The recipe was written for this file, so the note that it takes the place of the recipe's data is left out.
    return prepared if file is None else replace(prepared, notes=())


def _file(configuration: Configuration) -> Path | None:
    """The atomic file of the data set, where there is one."""
    folder = Path(configuration["data_path"] or "dataset")
    file = folder / configuration.dataset / f"{configuration.dataset}.inter"
    if not file.is_file() and "data_path" in configuration.given:
        raise DataError(
            f"data_path must hold {configuration.dataset}/{configuration.dataset}.inter; {file} is not there. Correct "
            "it, or leave it out to take the data set of that name."
        )
    return file if file.is_file() else None


def device_of(configuration: Configuration) -> str:
    """Where RecBole would compute: the ``device``, else the GPU where there is one and ``use_gpu`` holds."""
    if configuration["device"] or not configuration["use_gpu"]:
        return str(configuration["device"] or "cpu")
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def result_of(configuration: Configuration, evaluation: Evaluation) -> OrderedDict[str, float]:
    """The measurements by RecBole's names, with its number of digits."""
    digits = configuration["metric_decimal_place"]
    return OrderedDict(
        (theirs, float(round(evaluation[ours].value, digits)))
        for theirs, ours in measured_by(configuration).items()
    )


def _validated(
    configuration: Configuration, prepared: PreparedSplit, model: Recommender
) -> OrderedDict[str, float] | None:
    """The result on the validation part, if there is one; lists leave out what is in train."""
    split = prepared.split
    if split.validation is None:
        return None
    aside = Split(split.train, split.train, split.validation, f"validation part: {split.method}")
    quiet = replace(prepared.recipe.protocol, resamples=0)
    return result_of(configuration, quiet.evaluate(model, aside))


def _free(place: Path) -> Path:
    """The place, or the first of its numbered siblings that is not taken."""
    siblings = (place.with_name(f"{place.name}-{number}") for number in count(2))
    return next(free for free in chain([place], siblings) if not free.exists())
