"""RecBole's search for hyper-parameters, on validation data alone, and its tuning files.

A tuning file has a ``name type range`` per line::

    learning_rate loguniform -8,0
    dims_dnn choice ['[300]','[200,600]']
    steps quniform 2,10,1

A name with a dot is a path in our spec, for hyper-parameters that RecBole's models do not have:
``denoiser.dropout choice [0.3,0.5]``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from unblur import experiment
from unblur.compat.command_line import from_text
from unblur.compat.recbole.configuration import (
    EVERY_TRIAL,
    MODELS,
    Parameter,
    check_like_recbole,
    checked,
    configure,
    parameters,
    valid_metric,
    whole,
)
from unblur.compat.recbole.running import LOG, device_of, logged, objective_function, prepared_for, result_of
from unblur.data.output import OutputFile
from unblur.errors import RecipeError, SpecError, nearest, some
from unblur.evaluation.protocol import Evaluation
from unblur.experiment.recipe.library import text_of
from unblur.experiment.running import Outcome
from unblur.experiment.searching import search_of
from unblur.progress import Progress, Run, silent
from unblur.recommender import Recommender
from unblur.spec import Choice, Dimension, Range, Spec, spec, spec_to_dict
from unblur.tuning.engine import Judgement, SearchRequest, Watch
from unblur.tuning.points import choice, inside, set_point, space_of, value_at
from unblur.tuning.results import Study
from unblur.tuning.settings import SAMPLER_NAMES, SamplerName, Search

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
        with OutputFile(output_file, overwrite=True).written() as stream:
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
