"""RecBole's search for hyper-parameters, on validation data alone, and resumable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unblur import experiment
from unblur.compat.recbole.configuration import configure
from unblur.compat.recbole.params_file import read_params, space_of_params
from unblur.compat.recbole.protocol import cutoffs_of, metrics_of, valid_metric
from unblur.compat.recbole.running import device_of, prepared_for
from unblur.errors import RecipeError, nearest
from unblur.evaluation.metrics import metric_at
from unblur.evaluation.protocol import Evaluation
from unblur.experiment.measuring import Outcome
from unblur.progress import Progress, silent
from unblur.recommender import Recommender
from unblur.tuning import study
from unblur.tuning.sampling import SAMPLERS
from unblur.tuning.study import Study


@dataclass(frozen=True, eq=False)
class HyperTuning:
    """What a search came to, by the names of RecBole's class."""

    best_params: Mapping[str, Any]
    """The chosen values by RecBole's names."""
    best_score: float
    """The validation metric of the best trial."""
    best_test_result: Mapping[str, float]
    """The winner's test: the only one there was. (RecBole tests every trial.)"""
    params2result: Mapping[str, float | None]
    """The validation metric of each trial by its values in words; `None` where it failed."""
    study: Study = field(repr=False)
    """All trials."""
    outcome: Outcome[Recommender, Evaluation] = field(repr=False)
    """Recipe, report and model of the winner: `unblur.experiment.write_folder` keeps them."""
    notes: tuple[str, ...] = ()


def run_hyper(
    params_file: str | Path,
    fixed_config_file_list: Sequence[str | Path] | None = None,
    *,
    model: str | None = None,
    dataset: str | None = None,
    config_dict: Mapping[str, Any] | None = None,
    algo: str = "exhaustive",
    max_evals: int = 100,
    early_stop: int | None = 10,
    ignore_unknown: bool = False,
    folder: str | Path | None = None,
    progress: Progress = silent,
) -> HyperTuning:
    """Search the ranges of a tuning file, on validation data; fit the winner and test it once.

    - `algo`: ``exhaustive`` (every combination, whatever `max_evals`), ``random`` or ``bayes``.
    - `early_stop`: end when so many trials in a row were no better.
    - `ignore_unknown`: pass over names that the model does not have, with a note, in place of refusing them.
    - `folder`: keeps each trial; the same call goes on after the last finished one.

    The other arguments and errors are those of `run_recbole`.
    """
    if algo not in SAMPLERS:
        raise RecipeError(
            f"algo must be one of {', '.join(SAMPLERS)}; saw {algo!r}.{nearest(algo, SAMPLERS)}"
        )
    configuration = configure(model, dataset, config_dict, fixed_config_file_list)
    prepared = prepared_for(configuration, progress=progress)
    base = prepared.recipe.model
    space, notes = space_of_params(base, read_params(params_file), ignore_unknown=ignore_unknown)
    device = device_of(configuration)
    found = study(
        base,
        prepared.split,
        space,
        trials=10**9 if algo == "exhaustive" else max_evals,
        metric=valid_metric(configuration),
        sampler=algo,
        seed=prepared.recipe.seed,
        folder=folder,
        patience=early_stop,
        device=device,
        progress=progress,
    )
    said = (*configuration.notes, *notes, *found.notes())
    outcome = experiment.measure(prepared, chosen=found.spec, notes=said, device=device, progress=progress)
    best, digits = found.best, configuration["metric_decimal_place"]
    return HyperTuning(
        best_params=dict(best.point),
        best_score=best.value or 0.0,
        best_test_result={
            metric_at(theirs, k): round(outcome.report[metric_at(ours, k)].value, digits)
            for theirs, ours in metrics_of(configuration).items()
            for k in cutoffs_of(configuration)
        },
        params2result={
            ", ".join(f"{name}:{value}" for name, value in trial.point.items()): trial.value
            for trial in found.trials
        },
        study=found,
        outcome=outcome,
        notes=said,
    )
