"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, get_type_hints

import typer

from unblur.errors import Argument, DataError, RecipeError
from unblur.registry import Registry

if TYPE_CHECKING:
    from unblur.experiment.recipe.schema import Recipe

Settings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Set one value of the recipe, such as model.low_pass.rank=64; may be given again and again.",
        show_default=False,
    ),
]
Device: TypeAlias = Annotated[str, typer.Option("--device", help="Where the model computes: cpu or cuda.")]
Overwrite: TypeAlias = Annotated[
    bool, typer.Option("--overwrite", help="Replace what an earlier run wrote there.")
]
Checkpoints: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--checkpoints",
        help="A folder to keep the state of a training in: the same command goes on from there after an interrupt.",
    ),
]
Trials: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--trials",
        min=1,
        help="The most settings that are tried, the first being the model as given; else as the recipe's section search "
        "says, or 20.",
    ),
]
Seconds: TypeAlias = Annotated[
    float | None, typer.Option("--seconds", min=0, help="End the search once trials have taken so long.")
]
Sampler: TypeAlias = Annotated[
    str | None,
    typer.Option("--sampler", metavar="random|bayes|exhaustive", help="Which setting is tried next."),
]
Pruner: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--pruner",
        metavar="none|median|halving",
        help="Which settings are ended early, between epochs or between trainings.",
    ),
]
Metric: TypeAlias = Annotated[
    str | None, typer.Option("--metric", help="What settings are chosen by; else the first that is measured.")
]
HoldOut: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--hold-out",
        metavar="part|last|random|block|both",
        help="What settings are judged on; else the split's validation part, or what is held out of train.",
    ),
]
UnknownItems: TypeAlias = Annotated[
    str,
    typer.Option(
        "--unknown-items",
        metavar="raise|ignore",
        help="What to do with items that the model never saw: refuse them, or leave them out and count them.",
    ),
]

DataPath: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="A file of interactions, or a folder with train, valid and test files."
    ),
]


def own_recipe(
    kinds: Registry,
    word: str,
    reading: Mapping[str, Any],
    settings: list[str] | None = None,
    sections: Sequence[str] = (),
) -> Recipe:
    """A recipe for the caller's own data, of a kind or another recipe, with what the options of a command say.

    `settings` must be of these `sections` of it.
    """
    from unblur.experiment.recipe import library
    from unblur.experiment.recipe.schema import parse_settings

    recipe = library.own_recipe(word, kinds, kinds.noun)
    wanted = parse_settings(settings or ())
    for path in wanted:
        head = path.partition(".")[0]
        RecipeError.unless(
            head in sections or head not in recipe.sections,
            f"{path} has no say in this command; {', '.join(sections)} have. Leave it out.",
        )
    return recipe.changed({**reading, **wanted})


def searching(
    trials: int | None,
    seconds: float | None,
    sampler: str | None,
    pruner: str | None,
    metric: str | None,
    hold_out: str | None,
) -> dict[str, Any]:
    """What the options of a search set in a recipe: nothing where they are not given."""
    return given(
        {
            "search.trials": trials,
            "search.seconds": seconds,
            "search.sampler": sampler,
            "search.pruner": pruner,
            "search.metric": metric,
            "search.validation.how": hold_out,
        }
    )


def given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that have a value: an option that is not given has none."""
    return {path: value for path, value in settings.items() if value is not None}


def _reading(kind: Any, flag: str, meaning: str, **more: Any) -> Any:
    """An option of the panel that says how data are read."""
    panel = "How the data are read"
    return Annotated[
        kind | None, typer.Option(flag, help=meaning, rich_help_panel=panel, show_default=False, **more)
    ]


_READING: dict[str, Any] = {
    "format": _reading(
        str, "--format", "parquet, csv, adjacency, recbole, npz or npy; else told from the file."
    ),
    "user": _reading(str, "--user", "The column of users, a name or a place from 0."),
    "item": _reading(str, "--item", "The column of items."),
    "rating": _reading(str, "--rating", "The column of ratings or weights, or ignore."),
    "timestamp": _reading(str, "--timestamp", "The column of times, or ignore."),
    "min_rating": _reading(float, "--min-rating", "Keep rows rated at least this, all alike."),
    "delimiter": _reading(str, "--delimiter", "What parts the columns of a text file."),
    "header": _reading(bool, "--header/--no-header", "Whether a text file begins with column names."),
    "labels": _reading(str, "--labels", "What labels are.", metavar="auto|int|str"),
    "duplicates": _reading(
        str, "--duplicates", "What a pair that occurs twice means.", metavar="raise|sum|first|last"
    ),
}
_COLUMNS = ("user", "item", "rating", "timestamp")


def reads_data(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that has a parameter `reading` the options that say how data are read, in its place.

    The command gets those that were given, as settings of a recipe: ``{"data.read.user": "uid"}``.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[parameter.name], kind=Parameter.KEYWORD_ONLY)
        for parameter in signature(command).parameters.values()
        if parameter.name != "reading"
    ]
    added = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _READING.items()
    ]

    def option(argument: Argument) -> str:
        """The argument as the option of this command that sets it; as in Python where there is none."""
        if argument.name not in with_options.__annotations__:
            return str(argument)
        flag = argument.name.replace("_", "-")
        if isinstance(argument.value, bool):
            return f"--{flag}" if argument.value else f"--no-{flag}"
        return f"--{flag}" if argument.value is None else f"--{flag} {argument.value}"

    @wraps(command)
    def with_options(**values: Any) -> None:
        read = given({name: values.pop(name) for name in _READING})
        reading = {
            f"data.read.{name}": _position(value) if name in _COLUMNS else value
            for name, value in read.items()
        }
        try:
            command(**values, reading=reading)
        except DataError as problem:
            raise type(problem)(problem.worded(option)) from problem

    with_options.__signature__ = Signature([*own, *added])  # type: ignore[attr-defined]
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    return with_options


def _position(column: str) -> str | int:
    """A column by its position if there are only digits, else by its name."""
    return int(column) if column.isascii() and column.isdigit() else column
