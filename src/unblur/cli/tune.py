"""`unblur tune` and `unblur compare`: choose hyper-parameters of one or several models on validation data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from unblur import experiment
from unblur.cli import terminal
from unblur.cli.options import (
    Device,
    HoldOut,
    Metric,
    Overwrite,
    Pruner,
    RecipeName,
    Sampler,
    Seconds,
    Settings,
    Trials,
    file_of,
    names_of,
    reads_data,
    recipe_names,
    search_settings,
    without_none,
)
from unblur.cli.planning import DryRun, print_plan
from unblur.cli.recipes import resolved
from unblur.cli.terminal import (
    FAILED,
    ProgressDisplay,
    in_document,
    print_lines,
    print_report,
    print_table,
    print_trials,
    printing,
)
from unblur.document.text import shell_line
from unblur.errors import RecipeError, nearest
from unblur.progress import Run
from unblur.registry import RECOMMENDERS

if TYPE_CHECKING:
    from unblur.experiment.comparison.results import Comparison
    from unblur.experiment.recipe.schema import Recipe
    from unblur.spec import Dimension

WINNER = "winner.toml"
"""The file in a comparison's folder with the recipe of the best model."""


def tune(
    recipe: RecipeName,
    trials: Trials = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A new folder for the trials, the winning recipe, its report and model."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Your own data instead of the recipe's: a file, or a folder of parts."),
    ] = None,
    settings: Settings = None,
    metric: Metric = None,
    hold_out: HoldOut = None,
    draws: Annotated[
        int | None,
        typer.Option(
            "--draws", min=1, help="Number of draws of validation data, over which values are averaged."
        ),
    ] = None,
    users: Annotated[
        int | None,
        typer.Option("--users", min=2, help="Number of users that settings are judged on; by default all."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="The seed of the search; by default the recipe's.")
    ] = None,
    params_file: Annotated[
        Path | None,
        typer.Option("--params-file", help="A tuning file of RecBole's with the search space."),
    ] = None,
    ignore_unknown: Annotated[
        bool,
        typer.Option("--ignore-unknown", help="Ignore names in that file that the model does not have."),
    ] = False,
    sampler: Sampler = None,
    seconds: Seconds = None,
    pruner: Pruner = None,
    trainings: Annotated[
        int | None,
        typer.Option(
            "--trainings", min=1, help="Number of trainings per setting, over which values are averaged."
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="A database for the trials, such as sqlite:///trials.db, which several processes can share.",
        ),
    ] = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Search hyper-parameters on validation data, refit on all of train, test once.

    The options set fields of the recipe's section search. Trials are kept in OUT-trials (without --out:
    ./tune-RECIPE-trials): after an interrupt the same command resumes with the next trial. With --storage the same
    command, started in several terminals, shares the trials among them. The model is tested once, after the choice.
    The protocol is the strict one, which puts given parts in the order of time; `--set protocol.kind=paper` keeps them
    as named. Model settings that --set fixes are not searched.
    """
    from unblur.experiment.estimate import Workload
    from unblur.experiment.recipe.schema import parse_settings
    from unblur.experiment.searching import search_of, space_for, without_fixed
    from unblur.spec import path_today
    from unblur.tuning.points import leaves
    from unblur.tuning.settings import Database
    from unblur.tuning.store import trials_place

    base_recipe, notes = resolved(recipe, settings)
    explicit = parse_settings(settings or ())
    extra = without_none(
        {"search.validation.draws": draws, "search.users": users, "search.trainings": trainings}
    )
    options = search_settings(trials, seconds, sampler, pruner, metric, hold_out) | extra
    base = base_recipe.changed(options).without_numbers()
    if base.task.chosen_anew and "protocol.kind" not in explicit:
        base = base.with_protocol(replace(base.protocol, kind="strict"))
    paths = (path.removeprefix("model.") for path, _ in leaves(explicit))
    fixed_paths = frozenset(path_today(type(base.model), path) for path in paths)
    space: tuple[Dimension, ...] | None = None
    remarks: tuple[str, ...] = ()
    if params_file is not None:
        from unblur.compat.recbole.tuning import read_params, space_of_params

        space, remarks = space_of_params(base.model, read_params(params_file), ignore_unknown=ignore_unknown)
        terminal.notes(remarks)
    base.task.searched_by(base.search)  # refuses a metric that cannot be used, before any data are read
    inputs = (file_of(recipe), data, params_file)
    place = None if out is None else experiment.check_place(out, overwrite=overwrite, inputs=inputs)
    store = trials_folder(base, out) if storage is None else Database(storage, base.name)
    if not isinstance(store, Database):
        trials_place(store).checked()

    with ProgressDisplay() as progress:
        prepared = base.task.prepare(base, data, progress)
        free = space_for(prepared, fixed=fixed_paths) if space is None else without_fixed(space, fixed_paths)
        request = search_of(
            prepared,
            Run(device, progress),
            space=free,
            seed=seed,
            store=store,
            include_base=params_file is None,
        )
        if dry_run:
            remaining = request.remaining()
        else:
            study = request.run()
            outcome = experiment.measure(
                prepared,
                chosen=study.spec,
                notes=(*notes, *remarks, *study.notes(), *prepared.after_choice),
                device=device,
                progress=progress,
            )
    if dry_run:
        print_plan(
            [Workload(base.model.kind, base.model, 1, remaining)],
            prepared.learned_from,
            device,
            k=max(base.protocol.cutoffs),
            lines=["the best setting would be fitted to all of train and tested once"],
            limit=base.search.seconds,
        )
        return

    def show_search() -> None:
        print_trials(study)
        print_report(outcome.report)
        terminal.note(f"trials are kept in {store.shown() if isinstance(store, Database) else store}")

    with printing(show_search, out):
        if place is not None:
            tuned = tuned_recipe(outcome.recipe)
            written = replace(outcome, recipe=tuned, report=replace(outcome.report, recipe=tuned.name))
            experiment.write_folder(place, written, study=study)


def trials_folder(base: Recipe, out: Path | None) -> Path:
    """The folder for trials: next to the output, else in the working folder under the recipe's name."""
    if out is None:
        return Path(f"tune-{base.name.replace('/', '-')}-trials")
    return out.absolute().with_name(f"{out.absolute().name}-trials")


def tuned_recipe(recipe: Recipe) -> Recipe:
    """The recipe of the chosen setting; running it does not search again."""
    return replace(
        recipe,
        name=f"{recipe.name}-tuned",
        title=f"{recipe.title}, hyper-parameters chosen on validation data".lstrip(", "),
        search=replace(recipe.search, trials=1),
    )


@reads_data
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL…",
            help="Recipes (shipped, or TOML files) and kinds of models, such as ease or item-knn.",
            autocompletion=names_of(RECOMMENDERS),
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", help="A folder for results and pages; the same command resumes from it."),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="The recipe whose data, split and protocol are used; by default the first of the models.",
            autocompletion=recipe_names,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Your own data: a file, or a folder of parts.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", metavar="paper|strict", help="The protocol; by default the recipe's."),
    ] = None,
    trials: Trials = None,
    seconds: Seconds = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds for a stochastic model.")] = 1,
    metric: Metric = None,
    sampler: Sampler = None,
    pruner: Pruner = None,
    hold_out: HoldOut = None,
    spaces: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            metavar="KIND.PATH=[…]",
            help="Values to try, such as ease.ridge=[100,1000]. Repeatable.",
        ),
    ] = None,
    diversity: Annotated[
        list[float] | None,
        typer.Option(
            "--diversity",
            min=0,
            max=1,
            help="Measure each model's lists re-ranked by this λ of maximal marginal relevance as well. Repeatable.",
        ),
    ] = None,
    popularity: Annotated[
        list[float] | None,
        typer.Option(
            "--popularity",
            min=0,
            help="Measure each model's lists with this penalty γ of popular items as well. Repeatable.",
        ),
    ] = None,
    settings: Settings = None,
    device: Device = "cpu",
    dry_run: DryRun = False,
    *,
    reading: dict[str, Any],
) -> None:
    """Tune every model with the same budget on validation data, test each once, and test which of them differ.

    Under the paper's protocol settings are as given unless --trials or --seconds start a search; under the strict one
    the recipe's section search does, whose fields the options set. Results are kept model by model and trial by trial:
    the same command, or one with more models, computes only what is missing, and one with more trials adds to existing
    ones. Exits with 1 if a model failed; the others are reported.
    """
    from unblur.experiment.comparison import compare as compare_models, line_up, winner, workloads
    from unblur.experiment.comparison.folder import Cache
    from unblur.experiment.recipe.schema import parse_settings
    from unblur.ranking import Selection

    RecipeError.unless(
        protocol in (None, "paper", "strict"),
        f"--protocol must be paper or strict; saw {protocol!r}. Give one of these.",
    )
    changes = {
        **parse_settings(settings or ()),
        **reading,
        **search_settings(trials, seconds, sampler, pruner, metric, hold_out),
    }
    lineup = line_up(
        models,
        recipe=recipe,
        data=data,
        protocol=cast("Literal['paper', 'strict'] | None", protocol),
        settings=changes,
        spaces=_spaces(spaces or ()),
        seeds=seeds,
    )
    re_rankings = [Selection(diversity=value) for value in dict.fromkeys(diversity or ())]
    re_rankings += [Selection(popularity=value) for value in dict.fromkeys(popularity or ())]
    budgeted = trials is not None or seconds is not None
    lineup = replace(lineup, selections=tuple(re_rankings), search=lineup.ground.search if budgeted else None)
    searches = budgeted or lineup.ground.protocol.kind == "strict"
    # The metric of a search also orders the models, so it may be given without one.
    idle = [path for path in changes if path.startswith("search.") and path != "search.metric"]
    RecipeError.unless(
        searches or not idle,
        f"Under the paper's protocol only --trials or --seconds start a search; saw {', '.join(idle)}, which would have no "
        "effect. Give one of the two, or --protocol strict.",
    )
    Cache(out).place((data, *(file_of(word) for word in (*models, recipe or "")))).checked()
    if dry_run:
        with ProgressDisplay() as progress:
            prepared, to_do, failures = workloads(lineup, out=out, device=device, progress=progress)
        print_plan(
            to_do,
            prepared.learned_from,
            device,
            k=max(lineup.ground.protocol.cutoffs),
            limit=lineup.ground.search.seconds,
            failures=failures,
        )
        return
    with ProgressDisplay() as progress:
        comparison = compare_models(lineup, out=out, device=device, progress=progress)
    with printing(lambda: show(comparison), out):
        write_pages(comparison, out, {WINNER: winner(comparison, lineup.ground).to_toml()})
    print_lines(
        "to use the first: "
        + shell_line("unblur", "fit", data or "DATA", "--model", out / WINNER, "--out", "model/")
    )
    if comparison.failures:
        raise typer.Exit(FAILED)


def _spaces(texts: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """The values to try, by kind and path, from texts ``kind.path=[…]``."""
    from unblur.experiment.recipe.schema import parse_settings

    spaces: dict[str, dict[str, list[Any]]] = {}
    for name, values in parse_settings(texts).items():
        kind, _, path = name.partition(".")
        RecipeError.unless(
            kind in RECOMMENDERS and path and isinstance(values, list),
            f"--space must be KIND.PATH=[VALUE, …] with a kind of model; saw {name!r}.{nearest(kind, RECOMMENDERS)} "
            "Write it as ease.ridge=[100,1000].",
        )
        spaces.setdefault(kind, {})[path] = values
    return spaces


def write_pages(comparison: Comparison, out: Path, extra: Mapping[str, str] | None = None) -> None:
    """Write leaderboard, figures, page and `extra` texts into the folder of a comparison."""
    from unblur.document.html import as_html
    from unblur.document.markdown import as_markdown
    from unblur.experiment.comparison.folder import Cache
    from unblur.experiment.comparison.page import comparison_document

    document = comparison_document(comparison)
    texts = {"leaderboard.md": as_markdown(document), "report.html": as_html(document)}
    texts |= {"report.json": comparison.to_json(), **(extra or {})}
    Cache(out).write({name: text.encode() for name, text in texts.items()})


def show(comparison: Comparison) -> None:
    """Print the tables of a comparison."""
    from unblur.experiment.comparison.page import beyond_accuracy, costs, leaderboard

    if in_document(comparison=comparison.to_dict()):
        return
    print_table(leaderboard(comparison), f"Accuracy, {comparison.size['counted']:,} users")
    print_table(beyond_accuracy(comparison), "Beyond accuracy")
    print_table(costs(comparison), "Cost")
    print_lines(comparison.verdict())
    for name, reason in comparison.failures.items():
        terminal.failure(f"{name} failed: {reason}")
    print_lines(*(f"note: {note}" for note in comparison.notes))
