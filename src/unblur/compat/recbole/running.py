"""RecBole's entry points: train once (test, save, load), or search for hyper-parameters on validation data alone.

A tuning file has a ``name type range`` per line::

    learning_rate loguniform -8,0
    dims_dnn choice ['[300]','[200,600]']
    steps quniform 2,10,1

A name with a dot is a path in our spec, for hyper-parameters that RecBole's models do not have:
``denoiser.dropout choice [0.3,0.5]``.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import chain, count, product
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import polars as pl

from unblur import experiment
from unblur.compat.command_line import from_text
from unblur.compat.recbole.configuration import (
    EVERY_TRIAL,
    MODELS,
    Configuration,
    Parameter,
    check_like_recbole,
    checked,
    configure,
    loaded,
    measured_by,
    own_data,
    parameters,
    recipe_of,
    valid_metric,
    whole,
)
from unblur.data.formats.columns import IGNORE
from unblur.data.formats.opening import is_file, open_data, open_regular
from unblur.data.formats.text import open_recbole, sample_of
from unblur.data.interactions import Interactions
from unblur.data.output import replacing
from unblur.data.splits import Split
from unblur.errors import ArtifactError, DataError, RecipeError, SpecError, nearest, some
from unblur.evaluation.protocol import Evaluation
from unblur.experiment.ranking import PreparedSplit
from unblur.experiment.recipe.library import load_recipe, text_of
from unblur.experiment.recipe.parts import Reading
from unblur.experiment.running import Outcome
from unblur.experiment.searching import search_of
from unblur.progress import Progress, ProgressEvent, Run, silent
from unblur.recommender import Recommender, load
from unblur.spec import Choice, Dimension, Range, Spec, spec, spec_to_dict
from unblur.tuning.engine import Judgement, SearchRequest, Watch
from unblur.tuning.points import choice, inside, set_point, space_of, value_at
from unblur.tuning.results import Study
from unblur.tuning.settings import SAMPLER_NAMES, SamplerName, Search

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
        folder = _unused_folder(Path(configuration["checkpoint_dir"]) / f"{configuration.model}-{stamp}")
        experiment.check_place(folder)
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
        "model_file": None if folder is None else str(folder),
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


_RECBOLE_ENTRIES = ("best_valid_score", "valid_score_bigger")
"""The entries of an objective's result that a search reads."""


@spec
class _Options(Spec):
    """The options of one call of an objective, whatever their names."""

    kind: ClassVar[str] = "recbole-options"
    values: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class _ObjectiveJudge:
    """Judges options by an objective of the user's own, whose results it keeps."""

    objective: Callable[[dict[str, Any], Any], Mapping[str, Any]]
    fixed_config_file_list: Sequence[str | Path] | str | None
    config_dict: Mapping[str, Any]
    names: tuple[str, ...]
    """The names of the searched options, some of which may have dots."""
    results: dict[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """What the objective returned, by the options as text."""

    metric: ClassVar[str] = "best_valid_score"
    n_users: ClassVar[int] = 0
    how: ClassVar[str] = "what the objective validates on"
    identity: ClassVar[Mapping[str, Any]] = {}
    shares: ClassVar[bool] = False
    n_fits: ClassVar[int] = 1

    def __call__(self, spec: _Options, training: int, watch: Watch) -> Judgement:
        """Call the objective; of a score that is better if smaller, the negative is judged."""
        searched = {name: value_at(spec, f"values.{name}") for name in self.names}
        result = self.objective({**self.config_dict, **searched}, self.fixed_config_file_list)
        RecipeError.unless(
            isinstance(result, Mapping) and {*_RECBOLE_ENTRIES} <= {*result},
            f"An objective must return a dictionary with {' and '.join(_RECBOLE_ENTRIES)}, as RecBole's does; saw "
            f"{some(result) if isinstance(result, Mapping) else type(result).__name__}. Return them.",
        )
        self.results[HyperTuning.params2str(searched)] = result
        score = float(result["best_valid_score"])
        return Judgement(score if result["valid_score_bigger"] else -score)

    def together(self, specs: Sequence[_Options]) -> Sequence[float]:
        """Not called: objectives share no work."""
        raise NotImplementedError


_OBJECTIVE = objective_function


class HyperTuning:
    """A search of hyper-parameters with the arguments, attributes and methods of RecBole's class.

    With `objective_function` of this module, `run` searches on validation data, then fits the best setting and tests it
    once. (RecBole tests every trial.) A function of your own is called for each trial, and tests what it likes.
    """

    best_params: Mapping[str, Any]
    """The chosen values, by RecBole's names."""
    best_score: float
    """The validation metric of the best trial."""
    best_test_result: Mapping[str, float]
    """The test result of the best trial; empty if an objective of your own has none."""
    params2result: Mapping[str, Mapping[str, Any]]
    """The result of each trial, by its values as text: ``best_valid_score`` (`None` if it failed), ``valid_score_bigger``,
    and for the best one ``test_result``; or whatever an objective of your own returned."""
    study: Study[Any]
    """All trials."""
    outcome: Outcome[Recommender, Evaluation]
    """Recipe, report and model of the best trial, which `unblur.experiment.write_folder` writes. An objective of your own
    leaves none."""
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        objective_function: Callable[..., Mapping[str, Any]] = _OBJECTIVE,
        *,
        params_file: str | Path | None = None,
        params_dict: Mapping[str, Mapping[str, Any]] | None = None,
        fixed_config_file_list: Sequence[str | Path] | str | None = None,
        algo: SamplerName = "exhaustive",
        max_evals: int = 100,
        early_stop: int | None = 10,
    ) -> None:
        """Prepare a search.

        - `objective_function`: that of this module, or any function of a dictionary of options and `fixed_config_file_list`
          that returns a dictionary with ``best_valid_score`` and ``valid_score_bigger``.
        - `params_file`, `params_dict`: the ranges, in a file or as ``{"choice": {"steps": [2, 5]}}``.
        - `algo`: ``exhaustive`` (every combination, whatever `max_evals`), ``random`` or ``bayes``.
        - `early_stop`: end once this many trials in a row were no better.
        """
        RecipeError.unless(
            algo in SAMPLER_NAMES,
            f"algo must be one of {', '.join(SAMPLER_NAMES)}; saw {algo!r}.{nearest(algo, SAMPLER_NAMES)}",
        )
        RecipeError.unless(
            (params_file is None) != (params_dict is None),
            "The ranges must be given once, as params_file or params_dict. Give one of them.",
        )
        self._objective = objective_function
        self._searched = read_params(params_file) if params_file is not None else params_of(params_dict or {})
        self._files = fixed_config_file_list
        self._search = Search(
            trials=EVERY_TRIAL if algo == "exhaustive" else max_evals, sampler=algo, patience=early_stop
        )

    def run(
        self,
        *,
        config_dict: Mapping[str, Any] | None = None,
        ignore_unknown: bool = False,
        folder: str | Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Search, and set the attributes.

        - `config_dict`: options of all trials, next to those of the files.
        - `ignore_unknown`: ignore names that RecBole or the model does not have, with a note, instead of refusing them. An
          objective of your own gets whatever names there are.
        - `folder`: a folder for the trials; the same search resumes after the last finished one. An objective of your own
          cannot have one.

        Raises as `run_recbole`, and what an objective of your own raises.
        """
        if self._objective is not _OBJECTIVE:
            RecipeError.unless(
                folder is None,
                "The trials of an objective of your own must not have a folder, which could not keep all that it returns. "
                "Leave folder out.",
            )
            self._run_own(config_dict or {}, progress or silent)
            return
        configuration = configure(None, None, config_dict, self._files, ignore_unknown=ignore_unknown)
        progress = logged(configuration) if progress is None else progress
        prepared = prepared_for(configuration, progress=progress)
        space, notes = space_of_params(prepared.recipe.model, self._searched, ignore_unknown=ignore_unknown)
        device = device_of(configuration)
        self.study = search_of(
            prepared,
            Run(device, progress),
            replace(self._search, metric=valid_metric(configuration)),
            space=space,
            store=None if folder is None else Path(folder),
            include_base=False,  # RecBole tries the values of the file alone
        ).run()
        self.notes = (*configuration.notes, *notes, *self.study.notes())
        self.outcome = experiment.measure(
            prepared, chosen=self.study.spec, notes=self.notes, device=device, progress=progress
        )
        self.best_params = dict(self.study.best.point)
        self.best_score = self.study.best.value or 0.0
        self.best_test_result = result_of(configuration, self.outcome.evaluations[0])
        best = self.params2str(self.best_params)
        self.params2result = {
            text: {"best_valid_score": trial.value, "valid_score_bigger": True}
            | ({"test_result": self.best_test_result} if text == best else {})
            for trial in self.study.trials
            for text in [self.params2str(trial.point)]
        }
        LOG.info("best parameters: %s, %s", best, self.best_score)
        LOG.info("test result: %s", dict(self.best_test_result))

    def _run_own(self, config_dict: Mapping[str, Any], progress: Progress) -> None:
        """Search by the objective of the user's own."""
        names = tuple(parameter.name for parameter in self._searched)
        judge = _ObjectiveJudge(self._objective, self._files, config_dict, names)
        space = [
            Dimension(parameter.name, parameter.values, (f"values.{parameter.name}",))
            for parameter in self._searched
        ]
        self.study = SearchRequest(
            _Options(), space, judge, self._search, include_base=False, progress=progress
        ).run()
        self.notes = self.study.remarks
        self.best_params = dict(self.study.best.point)
        best = judge.results[self.params2str(self.best_params)]
        self.best_score = float(best["best_valid_score"])
        self.best_test_result = dict(best.get("test_result") or {})
        failed = {self.params2str(trial.point): {"best_valid_score": None} for trial in self.study.trials}
        self.params2result = {**failed, **judge.results}

    @staticmethod
    def params2str(params: Mapping[str, Any]) -> str:
        """Values as text, the keys of `params2result`: ``"learning_rate:0.01, steps:5"``."""
        return ", ".join(f"{name}:{value}" for name, value in params.items())

    def export_result(self, output_file: str | Path) -> None:
        """Write each trial to a text file: its validation result and, if it was tested, its test result."""
        with replacing(output_file) as stream:
            for params, result in self.params2result.items():
                valid = result.get("best_valid_result", result["best_valid_score"])
                text = f"{params}\nValid result:\n{_in_text(valid)}\n"
                if result.get("test_result"):
                    text += f"Test result:\n{_in_text(result['test_result'])}\n"
                stream.write(f"{text}\n".encode())


def _in_text(result: Any) -> str:
    """A result as RecBole writes it: ``recall@10 : 0.25    mrr@10 : 0.31``."""
    if not isinstance(result, Mapping):
        return str(result)
    return "    ".join(f"{metric} : {value}" for metric, value in result.items())


def run_hyper(
    params_file: str | Path,
    fixed_config_file_list: Sequence[str | Path] | str | None = None,
    *,
    config_dict: Mapping[str, Any] | None = None,
    algo: SamplerName = "exhaustive",
    max_evals: int = 100,
    early_stop: int | None = 10,
    **options: Any,
) -> HyperTuning:
    """Run a `HyperTuning` with these arguments and return it.

    `options` are ``model`` and ``dataset``, which have priority over files and dictionary, and the other arguments of
    `HyperTuning.run`.
    """
    named = {name: options.pop(name) for name in ("model", "dataset") if options.get(name) is not None}
    tuning = HyperTuning(
        params_file=params_file,
        fixed_config_file_list=fixed_config_file_list,
        algo=algo,
        max_evals=max_evals,
        early_stop=early_stop,
    )
    tuning.run(config_dict={**(config_dict or {}), **named}, **options)
    return tuning


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


# ------------------------------------------------------------------------------------------------ tuning files

_TYPES = ("choice", "uniform", "quniform", "loguniform")


@dataclass(frozen=True)
class SearchedParameter:
    """A line of a tuning file."""

    name: str
    """RecBole's name as written, not checked yet."""
    values: Choice | Range
    line: int
    """The number of the line, from 1."""


def read_params(path: str | Path) -> tuple[SearchedParameter, ...]:
    """Read the lines of a tuning file; empty lines and comments (``#``) are skipped.

    Raises `RecipeError`, with the line, for one that is not ``name type range``, and for a repeated name.
    """
    searched = []
    text = text_of(Path(path), "A tuning file must be readable text")
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split(maxsplit=2)
        if not words or words[0].startswith("#"):
            continue
        try:
            RecipeError.unless(len(words) == 3, "it must be: name type range")
            searched.append(SearchedParameter(words[0], _values(*words[1:]), number))
        except (RecipeError, SpecError) as problem:
            raise RecipeError(f"{path}, line {number}, {line.strip()!r}: {problem} Correct it.") from None
    names = [parameter.name for parameter in searched]
    repeated = [f"{name} is there twice" for index, name in enumerate(names) if name in names[:index]]
    RecipeError.unless(
        names and not repeated,
        f"A tuning file must name each hyper-parameter once; in {path} {[*repeated, 'there is none'][0]}. Correct it.",
    )
    return tuple(searched)


def params_of(table: Mapping[str, Mapping[str, Any]]) -> tuple[SearchedParameter, ...]:
    """The ranges of RecBole's ``params_dict``: ``{"choice": {"steps": [2, 5]}, "uniform": {"noise_max": [0.01, 0.02]}}``."""
    lines = [(name, kind, values) for kind, ranges in table.items() for name, values in ranges.items()]
    texts = [
        str(list(values)) if kind == "choice" else ",".join(map(str, values)) for _, kind, values in lines
    ]
    return tuple(
        SearchedParameter(name, _values(kind, text), line)
        for line, ((name, kind, _), text) in enumerate(zip(lines, texts, strict=True), start=1)
    )


def space_of_params(
    base: Spec, searched: Sequence[SearchedParameter], *, ignore_unknown: bool = False
) -> tuple[tuple[Dimension, ...], tuple[str, ...]]:
    """The dimensions of a spec for these lines, and notes on what is not searched.

    Raises `RecipeError` for a name that the model does not have, with the nearest one; with `ignore_unknown` it is
    ignored and noted. (RecBole ignores it silently.) Weights by time are not searched if the spec has none, since
    they have no effect then.
    """
    models = {kind: model for model, kind in MODELS.items()}
    RecipeError.unless(
        base.kind in models,
        f"A tuning file of RecBole's needs a model of kind {' or '.join(models)}; saw {base.kind}. Leave --params-file "
        "out.",
    )
    options = parameters(models[base.kind])
    searchable = {name: option for name, option in options.items() if option.path}
    complaints = [
        _unknown(parameter, searchable, options)
        for parameter in searched
        if parameter.name not in searchable and "." not in parameter.name
    ]
    RecipeError.unless(
        ignore_unknown or not complaints,
        f"{' '.join(complaints)} Correct the name, or leave such lines out with --ignore-unknown.",
    )
    notes = [f"not searched: {complaint}" for complaint in complaints]
    tree, space = spec_to_dict(base), []
    for parameter in searched:
        if "." in parameter.name:
            space.append(_own_dimension(base, parameter))
        elif parameter.name not in searchable:
            continue
        elif inside(tree, searchable[parameter.name].path):
            space.append(_dimension(parameter, searchable[parameter.name]))
        else:
            notes.append(f"not searched: {parameter.name} has no effect without time-aware")
    RecipeError.unless(
        space, "A tuning file must have hyper-parameters to search; none remain. Correct its names."
    )
    _check_settings(base, space)
    return tuple(space), tuple(notes)


_AUTOENCODER_DIMS = ("autoencoder.encoder_dims", "autoencoder.decoder_dims")
_TRAINED_OTHERWISE = ("schedule.scale", "objective.reweight", "clusters.count", *_AUTOENCODER_DIMS)
"""The paths that `check_like_recbole` looks at."""


def _check_settings(base: Spec, space: Sequence[Dimension]) -> None:
    """Raise `RecipeError` if the search would meet a setting that RecBole trains otherwise."""
    checked_ones = [dimension for dimension in space if {*dimension.paths} & {*_TRAINED_OTHERWISE}]
    values = [
        dimension.values.values
        if isinstance(dimension.values, Choice)
        else (dimension.values.at(0.0), dimension.values.at(1.0))
        for dimension in checked_ones
    ]
    for combination in product(*values):
        point = dict(zip((dimension.name for dimension in checked_ones), combination, strict=True))
        check_like_recbole(set_point(base, checked_ones, point))


def _own_dimension(base: Spec, parameter: SearchedParameter) -> Dimension:
    """A dimension for a path of our spec, each value of which must be valid in the spec."""
    values = parameter.values
    dimension = Dimension(parameter.name, values, (parameter.name,))
    try:
        samples = values.values if isinstance(values, Choice) else (values.at(0.0),)
        SpecError.unless(
            parameter.name in {entry.name for entry in space_of(base, {parameter.name: samples})},
            f"A searched path must be in the spec; {parameter.name} is inside a part that is left out. Add the part "
            "first.",
        )
        for value in samples:
            set_point(base, (dimension,), {parameter.name: value})
    except SpecError as problem:
        raise RecipeError(f"{parameter.name} (line {parameter.line}): {problem}") from None
    return dimension


def _dimension(parameter: SearchedParameter, option: Parameter) -> Dimension:
    """A dimension for a hyper-parameter of RecBole's, each value of which must be valid for the option."""
    values = parameter.values
    if isinstance(values, Range) and option.parse is whole:
        numbers = values.values() or ()
        RecipeError.unless(
            numbers and all(number.is_integer() for number in numbers),
            f"{parameter.name} (line {parameter.line}) must be a whole number; its range has others. Use quniform with a "
            "whole step, or choice.",
        )
        values = choice([int(number) for number in numbers])
    if isinstance(values, Choice):
        values = choice([checked(parameter.name, value, option) for value in values.values])
    return Dimension(parameter.name, values, option.paths, option.convert)


def _unknown(
    parameter: SearchedParameter, searchable: Mapping[str, Parameter], options: Mapping[str, Any]
) -> str:
    subject = f"{parameter.name} (line {parameter.line}) is"
    if parameter.name in options:
        return f"{subject} an option, but no hyper-parameter of the model, so it cannot be searched."
    return f"{subject} not a hyper-parameter of the model.{nearest(parameter.name, searchable)}"


def _values(kind: str, text: str) -> Choice | Range:
    """The values of ``type range``. Raises `RecipeError` or `SpecError` for invalid ones."""
    RecipeError.unless(kind in _TYPES, f"the type must be one of {', '.join(_TYPES)}.{nearest(kind, _TYPES)}")
    if kind == "choice":
        values = from_text(text)
        RecipeError.unless(
            isinstance(values, list | tuple) and values, "a choice must be a list such as [2,5,10]."
        )
        return choice([from_text(value) for value in values])
    ends = "low,high,step" if kind == "quniform" else "low,high"
    numbers = [from_text(number) for number in text.split(",")]
    RecipeError.unless(
        len(numbers) == (3 if kind == "quniform" else 2) and all(isinstance(n, int | float) for n in numbers),
        f"the range of {kind} must be {ends}.",
    )
    low, high, *step = map(float, numbers)
    return Range(low, high, step[0] if step else None, logarithmic=kind == "loguniform")
