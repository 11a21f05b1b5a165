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


def recipe_names(incomplete: str) -> list[str]:
    """The shipped recipes that begin so, for the shell to complete; with none it offers files itself."""
    from unblur.experiment.recipe.library import shipped

    return [name for name in shipped() if name.startswith(incomplete)]


def names_of(kinds: Registry) -> Callable[[str], list[str]]:
    """A function as `recipe_names` that knows kinds as well."""

    def names(incomplete: str) -> list[str]:
        return [kind for kind in kinds if kind.startswith(incomplete)] + recipe_names(incomplete)

    return names


Settings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Set a value of the recipe, such as model.low_pass.rank=64. Repeatable.",
        show_default=False,
    ),
]
Device: TypeAlias = Annotated[str, typer.Option("--device", help="The device to compute on: cpu or cuda.")]
Overwrite: TypeAlias = Annotated[
    bool, typer.Option("--overwrite", help="Replace the output of an earlier run.")
]
OverwriteFile: TypeAlias = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
Checkpoints: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--checkpoints",
        help="A folder for the state of a training; after an interrupt the same command resumes from it.",
    ),
]
Trials: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--trials",
        min=1,
        help="The largest number of settings to try, including the model as given; by default that of the recipe's "
        "section search, or 20.",
    ),
]
Seconds: TypeAlias = Annotated[
    float | None,
    typer.Option("--seconds", min=0, help="End the search once its trials have taken this long."),
]
Sampler: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--sampler", metavar="random|bayes|exhaustive", help="The method that picks settings to try."
    ),
]
Pruner: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--pruner",
        metavar="none|median|halving",
        help="The method that ends bad settings early, between epochs or between trainings.",
    ),
]
Metric: TypeAlias = Annotated[
    str | None,
    typer.Option("--metric", help="The metric that settings are chosen by; by default the protocol's first."),
]
HoldOut: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--hold-out",
        metavar="part|last|random|block|both",
        help="The validation data that settings are judged on; by default the split's validation part, or interactions "
        "held out of train.",
    ),
]
UnknownItems: TypeAlias = Annotated[
    str,
    typer.Option(
        "--unknown-items",
        metavar="raise|ignore",
        help="Treatment of items that the model does not know: refuse them, or leave them out and count them.",
    ),
]

RecipeName: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="A shipped recipe (see `unblur recipes`) or a TOML file.",
        autocompletion=recipe_names,
    ),
]
DataPath: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A file of interactions, or a folder with train, valid and test files; with --parts by default the working folder.",
    ),
]


def file_of(word: str) -> str | None:
    """The path of a recipe, if it is a file and not the name of a shipped one."""
    from unblur.data.formats.opening import is_file

    return word if is_file(word) else None


def own_recipe(
    kinds: Registry,
    word: str,
    reading: Mapping[str, Any],
    settings: list[str] | None = None,
    sections: Sequence[str] = (),
) -> Recipe:
    """A recipe for the caller's own data, from a kind or another recipe, with the values of a command's options.

    `settings` must be of these `sections`.
    """
    from unblur.experiment.recipe import library
    from unblur.experiment.recipe.schema import parse_settings

    recipe = library.own_recipe(word, kinds, kinds.noun)
    changes = parse_settings(settings or ())
    for path in changes:
        head = path.partition(".")[0]
        RecipeError.unless(
            head in sections or head not in recipe.sections,
            f"--set must be of {', '.join(sections)} in this command; {path} has no effect here. Leave it out.",
        )
    return recipe.changed({**reading, **changes})


def search_settings(
    trials: int | None,
    seconds: float | None,
    sampler: str | None,
    pruner: str | None,
    metric: str | None,
    hold_out: str | None,
) -> dict[str, Any]:
    """The settings of a recipe from the options of a search, for those options that have a value."""
    return without_none(
        {
            "search.trials": trials,
            "search.seconds": seconds,
            "search.sampler": sampler,
            "search.pruner": pruner,
            "search.metric": metric,
            "search.validation.how": hold_out,
        }
    )


def without_none(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not `None`, the value of an option that is left out."""
    return {path: value for path, value in settings.items() if value is not None}


def _reading(kind: Any, flag: str, meaning: str, **options: Any) -> Any:
    """An option for reading data, in a panel of its own."""
    panel = "Reading the data"
    return Annotated[
        kind | None, typer.Option(flag, help=meaning, rich_help_panel=panel, show_default=False, **options)
    ]


_READING: dict[str, Any] = {
    "format": _reading(
        str, "--format", "parquet, csv, jsonl, arrow, adjacency, recbole, npz or npy; by default detected."
    ),
    "user": _reading(str, "--user", "The column of users, by name or by index from 0."),
    "item": _reading(str, "--item", "The column of items."),
    "rating": _reading(str, "--rating", "The column of ratings, weights or events, or ignore."),
    "timestamp": _reading(str, "--timestamp", "The column of times, or ignore."),
    "time_format": _reading(
        str, "--time-format", "The form of dates that are not ISO 8601, such as %d/%m/%Y or '%m/%d/%Y %H:%M'."
    ),
    "time_unit": _reading(
        str, "--time-unit", "The unit of times that are numbers; they become seconds.", metavar="s|ms|us|ns"
    ),
    "parts": _reading(
        str,
        "--parts",
        "The files to read, as a pattern in quotes of names in the folder that is given, or in the working folder.",
    ),
    "min_rating": _reading(float, "--min-rating", "Keep rows rated at least this, each with weight 1."),
    "ratings": _reading(
        str, "--ratings", "Keep rows rated within intervals such as '[1,2);[4,5]', each with weight 1."
    ),
    "event_weights": _reading(
        str,
        "--event-weights",
        "The weights of events in words; their column is that of --rating, or has a usual name such as event_type. Rows of a word "
        "with weight 0 or none are left out, and the latter counted.",
        metavar="view=1,cart=3,buy=5",
    ),
    "on_null": _reading(
        str,
        "--on-null",
        "What to do with rows without a user, an item, a rating or a time: refuse them, or leave them out and count them.",
        metavar="raise|drop",
    ),
    "delimiter": _reading(str, "--delimiter", "The separator of the columns of a text file."),
    "header": _reading(bool, "--header/--no-header", "Whether a text file begins with column names."),
    "labels": _reading(str, "--labels", "The type of labels.", metavar="auto|int|str"),
    "duplicates": _reading(
        str, "--duplicates", "The meaning of a pair that occurs twice.", metavar="raise|sum|first|last"
    ),
}
_COLUMNS = ("user", "item", "rating", "timestamp")


def reads_data(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `reading` of a command by the options for reading data.

    The command gets the options that have a value as settings of a recipe: ``{"data.read.user": "uid"}``.
    """
    hints = get_type_hints(command, include_extras=True)
    own_parameters = [
        parameter.replace(
            annotation=hints[parameter.name],
            kind=Parameter.KEYWORD_ONLY,
            default=None if hints[parameter.name] == DataPath else parameter.default,
        )
        for parameter in signature(command).parameters.values()
        if parameter.name != "reading"
    ]
    reading_parameters = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _READING.items()
    ]

    def option(argument: Argument) -> str:
        """The argument of an error as the option of this command that sets it; as in Python if there is none."""
        if argument.name not in with_options.__annotations__:
            return str(argument)
        flag = argument.name.replace("_", "-")
        if isinstance(argument.value, bool):
            return f"--{flag}" if argument.value else f"--no-{flag}"
        return f"--{flag}" if argument.value is None else f"--{flag} {argument.value}"

    @wraps(command)
    def with_options(**values: Any) -> None:
        options = without_none({name: values.pop(name) for name in _READING})
        reading = {
            f"data.read.{name}": _column(value) if name in _COLUMNS else value
            for name, value in options.items()
        }
        if values.get("data", "") is None and "parts" in options:
            values["data"] = Path()  # in which the pattern is to be looked for
        try:
            DataError.unless(
                values.get("data", "") is not None or hints["data"] != DataPath,
                "DATA must be given, a file or a folder; it is missing. Name it, or several files by a pattern: --parts 'logs/*.csv'.",
            )
            command(**values, reading=reading)
        except DataError as problem:
            raise type(problem)(problem.worded(option)) from problem

    with_options.__signature__ = Signature([*own_parameters, *reading_parameters])  # type: ignore[attr-defined]
    with_options.__annotations__ = {
        parameter.name: parameter.annotation for parameter in (*own_parameters, *reading_parameters)
    }
    return with_options


def _column(column: str) -> str | int:
    """A column by its index if there are only digits, else by its name."""
    # A billion columns are more than any file has; thousands of digits are more than Python makes a number of.
    return int(column) if column.isascii() and column.isdigit() and len(column) < 10 else column
