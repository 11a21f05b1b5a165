"""`unblur tune`: hyper-parameters chosen on hold-outs of train, then one test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unblur.cli.options import Device, Overwrite, Settings
from unblur.cli.progress import ProgressDisplay
from unblur.cli.run import keep, resolved
from unblur.cli.tables import print_report, print_trials
from unblur.errors import RecipeError

if TYPE_CHECKING:
    from unblur.data.splits.sets import Split
    from unblur.experiment.recipe.schema import Recipe

_KINDS: dict[str, tuple[Any, ...]] = {"both": ("random", "block"), "random": ("random",), "block": ("block",)}


def tune(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe (see `unblur recipes`) or a TOML file.")],
    trials: Annotated[int, typer.Option("--trials", min=1, help="How many settings to try.")] = 200,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A new folder for the trials, the winning recipe, its report and model."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Your own data in place of the recipe's.")
    ] = None,
    settings: Settings = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="What to maximise; else the recipe's first, such as recall@20."),
    ] = None,
    hold_out: Annotated[
        str | None,
        typer.Option(
            "--hold-out",
            metavar="both|random|block",
            help="How validation data leave train.",
            show_default="both",
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option("--draws", min=1, help="How many draws of each kind of hold-out.", show_default="2"),
    ] = None,
    users: Annotated[
        int | None,
        typer.Option("--users", min=2, help="On how many users of each hold-out.", show_default="2000"),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Else the recipe's seed.")] = None,
    params_file: Annotated[
        Path | None,
        typer.Option("--params-file", help="Trained models: a tuning file of RecBole's with what to search."),
    ] = None,
    ignore_unknown: Annotated[
        bool,
        typer.Option("--ignore-unknown", help="Leave out names of that file that the model does not have."),
    ] = False,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler", metavar="random|bayes|exhaustive", help="Trained models: what is tried next."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", min=0, help="Trained models: end once trials have taken so long."),
    ] = None,
    pruner: Annotated[
        str,
        typer.Option(
            "--pruner",
            metavar="none|median|halving",
            help="Trained models: which trainings are ended early. Synthesizers: which settings get no further training.",
        ),
    ] = "none",
    trainings: Annotated[
        int,
        typer.Option(
            "--trainings", min=1, help="Synthesizers: of how many trainings each setting is the mean."
        ),
    ] = 1,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="URL",
            help="Trained models: a database for the trials, such as sqlite:///trials.db; several processes share it.",
        ),
    ] = None,
    device: Device = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Search on validation data only, refit on all of train, test once.

    Validation data are held out of train: random items of each user, and contiguous runs of them. A trained model
    is judged on what its training stops by, and its trials are kept in OUT-trials: after an interrupt the same
    command goes on with the next one. With --storage the same command, started in several terminals, shares the trials among
    them. Test data are read once, after the choice. Given parts are put in the order of
    time; a trained model keeps them as named with `--set protocol.kind=paper`. Settings of a trained model or a synthesizer
    that --set gives are not searched.
    """
    from unblur import experiment, tuning
    from unblur.cli.studies import Asked, tune_trained
    from unblur.experiment.recipe.settings import parse_settings
    from unblur.randomness import streams

    if (hold_out or "both") not in _KINDS:
        raise RecipeError(f"--hold-out must be both, random or block; saw {hold_out!r}. Give one of these.")
    base, notes = resolved(recipe, settings)
    fixed = frozenset(path.removeprefix("model.") for path in _flat(parse_settings(settings or ())))
    if "utility" in base.task.sections:
        from unblur.cli.synthesizer_studies import tune_synthesizer
        from unblur.tuning.pruning import check_pruner

        given = _given(
            {"--params-file": params_file, "--ignore-unknown": ignore_unknown, "--seconds": seconds},
            {"--storage": storage, "--hold-out": hold_out, "--draws": draws, "--users": users},
        )
        if given:
            raise RecipeError(
                f"{given} is for recommenders; {base.name} is of the synthesizer {base.model.kind}. Leave it out."
            )
        if out is not None:
            experiment.check_place(out, overwrite=overwrite)
        if check_pruner(pruner) == "median":
            raise RecipeError(
                "Trainings of a synthesizer's setting are saved by --pruner halving; saw median, which needs epochs. Give that."
            )
        if pruner != "none" and trainings == 1:
            raise RecipeError(
                f"--pruner {pruner} saves trainings of a setting; with --trainings 1 there is one. Give more trainings, "
                "or leave the pruner out."
            )
        whole = Asked(
            trials, metric, sampler or "", seed, None, False, pruner=pruner, trainings=trainings, fixed=fixed
        )
        tune_synthesizer(base, whole, notes=notes, data=data, out=out, device=device, overwrite=overwrite)
        return
    if trainings > 1:
        raise RecipeError(
            f"--trainings is for synthesizers; {base.name} is of the recommender {base.model.kind}. Leave it out."
        )
    trained = base.model.kind in tuning.SPACES
    given = _given(
        {"--params-file": params_file, "--sampler": sampler, "--ignore-unknown": ignore_unknown},
        {"--seconds": seconds, "--pruner": pruner != "none", "--storage": storage},
    )
    if not trained and given:
        raise RecipeError(
            f"{given} is for models whose every setting costs a training ({', '.join(tuning.SPACES)}); "
            f"{base.name} is of kind {base.model.kind}. Leave it out."
        )
    if trained and (given := _given({"--hold-out": hold_out, "--draws": draws, "--users": users})):
        raise RecipeError(
            f"{given} is for models that are not trained by epochs; {base.model.kind} is judged on what its training stops "
            "by. Leave it out."
        )
    if out is not None:
        experiment.check_place(out, overwrite=overwrite)
    if trained:
        as_named = parse_settings(settings or ()).get("protocol.kind") == "paper"
        asked = Asked(
            trials,
            metric,
            sampler or "random",
            seed,
            params_file,
            ignore_unknown,
            as_named,
            seconds=seconds,
            pruner=pruner,
            storage=storage,
            fixed=fixed,
        )
        tune_trained(base, asked, notes=notes, data=data, out=out, device=device, overwrite=overwrite)
        return
    with ProgressDisplay() as progress:
        prepared = experiment.prepare(as_strict(base), data=data, progress=progress)
        found = tuning.search(
            base.model,
            prepared.split.train,
            trials=trials,
            metric=tuning.first_metric(base, metric),
            kinds=_KINDS[hold_out or "both"],
            draws=draws or 2,
            users=users or 2000,
            rng=streams(base.seed if seed is None else seed, "search")["search"],
            device=device,
            progress=progress,
        )
        outcome = experiment.measure(
            prepared,
            chosen=found.spec,
            notes=(*notes, *found.notes(), _test_note(prepared.split)),
            device=device,
            progress=progress,
        )
    print_trials(found.to_frame(), found.n_users)
    print_report(outcome.report)
    if out is not None:
        named = replace(outcome, recipe=as_given(outcome.recipe))
        keep(named, out, trials=found.to_frame(), overwrite=overwrite)


def _flat(settings: Mapping[str, Any]) -> Iterator[str]:
    """The paths of all values, within tables as well."""
    for path, value in settings.items():
        if isinstance(value, Mapping):
            yield from (f"{path}.{inner}" for inner in _flat(value))
        else:
            yield path


def _given(*options: Mapping[str, object]) -> str:
    """The first of some options that was given; empty where none was."""
    every = [(name, value) for some in options for name, value in some.items()]
    return next((name for name, value in every if value is not None and value is not False), "")


def as_strict(recipe: Recipe) -> Recipe:
    """The recipe under the strict protocol, without the numbers of the paper's."""
    return recipe.without_numbers().with_protocol(replace(recipe.protocol, kind="strict"))


def as_given(recipe: Recipe) -> Recipe:
    """The recipe with its hyper-parameters as they stand: running it does not search again."""
    return replace(
        recipe.with_protocol(replace(recipe.protocol, kind="paper")),
        name=f"{recipe.name}-tuned",
        title=f"{recipe.title}, hyper-parameters chosen on hold-outs of train".lstrip(", "),
    )


def _test_note(split: Split) -> str:
    from unblur.tuning.hold_outs import dispersion

    value = dispersion(split.train, split.held_out)
    return f"item dispersion of the test set, looked at after the choice: {value:.2f}"
