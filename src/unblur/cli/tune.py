"""`unblur tune`: hyper-parameters chosen on validation data, then one test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unblur.cli import terminal
from unblur.cli.options import (
    Device,
    HoldOut,
    Metric,
    Overwrite,
    Pruner,
    Sampler,
    Seconds,
    Settings,
    Trials,
    given,
    searching,
)
from unblur.cli.recipes import keep, resolved
from unblur.cli.terminal import ProgressDisplay, print_report, print_trials
from unblur.progress import Run

if TYPE_CHECKING:
    from unblur.experiment.recipe.schema import Recipe
    from unblur.spec import Dimension


def tune(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe (see `unblur recipes`) or a TOML file.")],
    trials: Trials = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A new folder for the trials, the winning recipe, its report and model."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Your own data in place of the recipe's.")
    ] = None,
    settings: Settings = None,
    metric: Metric = None,
    hold_out: HoldOut = None,
    draws: Annotated[
        int | None, typer.Option("--draws", min=1, help="How often validation data are drawn.")
    ] = None,
    users: Annotated[
        int | None, typer.Option("--users", min=2, help="On how many users settings are judged.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Else the recipe's seed.")] = None,
    params_file: Annotated[
        Path | None,
        typer.Option("--params-file", help="A tuning file of RecBole's with what to search."),
    ] = None,
    ignore_unknown: Annotated[
        bool,
        typer.Option("--ignore-unknown", help="Leave out names of that file that the model does not have."),
    ] = False,
    sampler: Sampler = None,
    seconds: Seconds = None,
    pruner: Pruner = None,
    trainings: Annotated[
        int | None,
        typer.Option("--trainings", min=1, help="Of how many trainings each setting is the mean."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="A database for the trials, such as sqlite:///trials.db; several processes share it.",
        ),
    ] = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Search on validation data only, refit on all of train, test once.

    The options set fields of the recipe's section search. Trials are kept in OUT-trials: after an interrupt the same
    command resumes with the next one. With --storage the same command, started in several terminals, shares the trials
    among them. Test data are read once, after the choice. The protocol is the strict one, which puts given parts in the
    order of time; `--set protocol.kind=paper` keeps them as named. Settings of the model that --set gives are not searched.
    """
    from unblur import experiment
    from unblur.experiment.recipe.schema import parse_settings
    from unblur.experiment.searching import free, searched, space_for
    from unblur.tuning.settings import Database

    named, notes = resolved(recipe, settings)
    set_by_hand = parse_settings(settings or ())
    asked = searching(trials, seconds, sampler, pruner, metric, hold_out)
    more = {"search.validation.draws": draws, "search.users": users, "search.trainings": trainings}
    base = named.changed(asked | given(more)).without_numbers()
    if base.task.chosen_anew and "protocol.kind" not in set_by_hand:
        base = base.with_protocol(replace(base.protocol, kind="strict"))
    fixed = frozenset(path.removeprefix("model.") for path in _flat(set_by_hand))
    space: tuple[Dimension, ...] | None = None
    remarks: tuple[str, ...] = ()
    if params_file is not None:
        from unblur.compat.recbole.running import read_params, space_of_params

        space, remarks = space_of_params(base.model, read_params(params_file), ignore_unknown=ignore_unknown)
        terminal.note(*(f"note: {remark}" for remark in remarks))
    base.task.searched_by(base.search)
    if out is not None:
        experiment.check_place(out, overwrite=overwrite)
    store = trials_folder(base, out) if storage is None else Database(storage, base.name)
    with ProgressDisplay() as progress:
        prepared = base.task.prepare(base, data, progress)
        found = searched(
            prepared,
            Run(device, progress),
            space=space_for(prepared, fixed=fixed) if space is None else free(space, fixed),
            seed=seed,
            store=store,
            given=params_file is None,
        )
        outcome = experiment.measure(
            prepared,
            chosen=found.spec,
            notes=(*notes, *remarks, *found.notes(), *prepared.after_choice),
            device=device,
            progress=progress,
        )
    print_trials(found)
    print_report(outcome.report)
    terminal.note(f"trials are kept in {store.shown() if isinstance(store, Database) else store}")
    if out is not None:
        tuned = as_tuned(outcome.recipe)
        outcome = replace(outcome, recipe=tuned, report=replace(outcome.report, recipe=tuned.name))
        keep(outcome, out, study=found, overwrite=overwrite)


def _flat(settings: Mapping[str, Any]) -> Iterator[str]:
    """The paths of all values, within tables as well."""
    for path, value in settings.items():
        if isinstance(value, Mapping):
            yield from (f"{path}.{inner}" for inner in _flat(value))
        else:
            yield path


def trials_folder(base: Recipe, out: Path | None) -> Path:
    """Where trials are kept: beside the output, else in the working folder under the recipe's name."""
    if out is None:
        return Path(f"tune-{base.name.replace('/', '-')}-trials")
    return out.absolute().with_name(f"{out.absolute().name}-trials")


def as_tuned(recipe: Recipe) -> Recipe:
    """The recipe of a winner: running it does not search again."""
    return replace(
        recipe,
        name=f"{recipe.name}-tuned",
        title=f"{recipe.title}, hyper-parameters chosen on validation data".lstrip(", "),
        search=replace(recipe.search, trials=1),
    )
