"""`unblur tune` for synthesizers: settings judged by what their users are worth to others than those reported on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unblur.cli import terminal
from unblur.cli.progress import ProgressDisplay
from unblur.cli.run import keep
from unblur.cli.studies import Asked, trials_folder
from unblur.cli.tables import print_report, print_trials

if TYPE_CHECKING:
    from unblur.experiment.recipe.schema import Recipe
    from unblur.progress import Progress
    from unblur.tuning.pruning import Verdict
    from unblur.tuning.study import Study


def tune_synthesizer(
    base: Recipe,
    asked: Asked,
    *,
    notes: Sequence[str],
    data: Path | None,
    out: Path | None,
    device: str,
    overwrite: bool,
) -> None:
    """A study of the recipe's synthesizer, kept on disk trial by trial; then one run of the winner.

    The recipe's own setting is the first trial. Users who are searched on neither stop a training nor are reported.
    """
    from unblur import experiment

    base = base.without_numbers()
    place = trials_folder(base, out)
    with ProgressDisplay() as progress:
        found = _searched(base, asked, place, data, device, progress)
        prepared = base.with_model(found.spec).task.prepare(base.with_model(found.spec), data, progress)
        outcome = experiment.measure(
            prepared, device=device, notes=(*notes, *found.notes()), progress=progress
        )
    print_trials(found.to_frame(), found.n_users)
    print_report(outcome.report)
    terminal.note(f"trials are kept in {place}")
    if out is not None:
        recipe = replace(
            outcome.recipe,
            name=f"{base.name}-tuned",
            title=f"{base.title}, hyper-parameters chosen on users who are not reported on".lstrip(", "),
        )
        report = replace(outcome.report, recipe=recipe.name)
        named = replace(outcome, recipe=recipe, report=report)
        keep(named, out, trials=found.to_frame(), overwrite=overwrite)


def _searched(
    base: Recipe, asked: Asked, place: Path, data: Path | None, device: str, progress: Progress
) -> Study:
    from unblur.errors import DataError, RecipeError, SpecError, out_of_memory
    from unblur.run import Run
    from unblur.spec import spec_to_dict
    from unblur.synthesis.utility.task import utility_task
    from unblur.tuning.journal import Trial
    from unblur.tuning.search import check_quality
    from unblur.tuning.space import set_point
    from unblur.tuning.synthesizers import explore, synthesizer_dimensions

    task = utility_task(base, "")
    utility = task.utility
    metric = asked.metric or utility.compared[0]
    check_quality(metric)
    if metric not in base.protocol.names:
        raise RecipeError(
            f"A search maximises what is measured: {', '.join(base.protocol.names)}; saw {metric}. Name one of these with "
            "--metric, or add it to protocol.metrics and protocol.cutoffs."
        )
    seed = base.seed if asked.seed is None else asked.seed
    space = asked.searched(synthesizer_dimensions(base.model))
    prepared = task.prepare(base, data, progress).searching()

    def attempt(number: int, point: dict[str, Any], verdict: Verdict) -> Trial:
        from unblur.synthesis.latent_sampling import DivergedSampling
        from unblur.training.loop import DivergedTraining

        start = time.perf_counter()
        values: list[float] = []
        means: dict[str, float] = {}
        try:
            ready = prepared.with_model(set_point(prepared.recipe.model, space, point))
            for place in range(seed, seed + asked.trainings):
                values.append(ready.value(metric, place, Run(device, progress)))
                means[str(len(values))] = sum(values) / len(values)
                if len(values) < asked.trainings and verdict(means[str(len(values))]):
                    break
        except (SpecError, DataError, DivergedTraining, DivergedSampling) as problem:
            return Trial(number, point, None, None, time.perf_counter() - start, str(problem))
        except (MemoryError, RuntimeError) as problem:
            if not out_of_memory(problem):
                raise
            seconds = time.perf_counter() - start
            return Trial(number, point, None, None, seconds, f"memory did not suffice: {problem}")
        pruned, seconds = len(values) < asked.trainings, time.perf_counter() - start
        value_of_all = None if pruned else means[str(len(values))]
        return Trial(number, point, value_of_all, None, seconds, validations=means, pruned=pruned)

    return explore(
        base.model,
        space,
        attempt,
        trials=asked.trials,
        metric=metric,
        sampler=asked.sampler or ("bayes" if find_spec("optuna") is not None else "random"),
        seed=seed,
        facts={
            "data": dict(prepared.fingerprints),
            "downstream": str(task.downstream),
            "utility": str(utility),
            "protocol": spec_to_dict(base.protocol),
            **({} if asked.trainings == 1 else {"trainings": asked.trainings}),
        },
        n_users=int((prepared.groups.held_out.user_degrees > 0).sum()),
        how="users who neither stop a training nor are reported on"
        + (f", the mean of {asked.trainings} trainings" if asked.trainings > 1 else ""),
        pruner=asked.pruner,
        folder=place,
        progress=progress,
    )
