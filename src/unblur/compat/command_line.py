"""The options of another program as a table: their text, their values, and where these stand in a recipe."""

from __future__ import annotations

import ast
import shlex
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from unblur.errors import RecipeError, nearest
from unblur.experiment.recipe.schema import Recipe
from unblur.spec import set_path

REQUIRED: Final = object()
"""The default of an option that has to be given: its best value is another for each data set."""


def unchanged(value: Any) -> Any:
    """The value itself: of an option whose values here are those there."""
    return value


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a program, and what the recipe makes of it."""

    parse: Callable[[Any], Any]
    """From what was given to its value; raises `ValueError`, with what it must be, for anything else."""
    default: Any = REQUIRED
    path: str = ""
    """Where its value stands: a dotted path in the table that `table_of` fills. Empty for no place of its own."""
    convert: Callable[[Any], Any] = unchanged
    """From the program's value to that at the path."""
    choices: tuple[Any, ...] = ()
    """The values that the program knows; any where empty."""
    irrelevant: str = ""
    """Why the recipe does not need it; empty where it does."""
    flag: bool = False
    """Whether it may stand without a value, which then is ``True``."""
    also: str = ""
    """A second path that takes the same value."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Every path that takes its value."""
        return tuple(path for path in (self.path, self.also) if path)


@dataclass(frozen=True)
class Program:
    """A program whose command lines are translated."""

    title: str
    """Its name in messages: ``BSPM's main.py``."""
    options: Mapping[str, Option]
    """Every option that it has, by name."""
    recipe: Callable[[Mapping[str, Any], Sequence[str]], tuple[Recipe, Sequence[str]]]
    """From the value of every option, and the names of those that were given: the recipe that does what the program
    does, and notes on where it departs."""
    script: str = "main.py"


# --------------------------------------------------------------------------------------------------- values


def parser(
    what: str, fits: Callable[[Any], object], take: Callable[[Any], Any] = unchanged
) -> Callable[[Any], Any]:
    """Take values that fit; raise `ValueError` with what they must be for others."""

    def parse(value: Any) -> Any:
        if not fits(value):
            raise ValueError(what)
        return take(value)

    return parse


def one_of(what: str, *values: Any) -> Callable[[Any], Any]:
    """Take these values alone."""
    return parser(what, lambda value: value in values)


def from_text(value: Any) -> Any:
    """The Python literal in a string, such as the list in ``"[300]"``. Any other value is itself.

    Only literals are read, nothing is executed.
    """
    try:
        return ast.literal_eval(value.strip()) if isinstance(value, str) else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; truth values are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def as_list(value: Any) -> list[Any]:
    """The values of a list; a value that is none is alone in it."""
    return list(value) if isinstance(value, list | tuple) else [value]


truth = parser("it must be True or False", ("True", "False").__contains__, "True".__eq__)
"""``True`` or ``False``, as Python writes them."""
whole_numbers = parser(
    "it must be a list of whole numbers such as [20]",
    lambda text: from_text(text) != [] and all(map(is_whole, as_list(from_text(text)))),
    lambda text: tuple(as_list(from_text(text))),
)
"""A list of whole numbers such as ``[20]``; brackets may be left out."""


def table_of(
    options: Mapping[str, Option], values: Mapping[str, Any], start: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The nested table `start` with the value of each option at its path."""
    table = dict(start or {})
    for name, option in options.items():
        for path in option.paths:
            table = set_path(table, path, option.convert(values[name]))
    return table


def script_and_arguments(command: str) -> tuple[str, list[str]]:
    """The script in ``python main.py …``, empty where none is named, and the words that follow it.

    Raises `RecipeError` for quotes that do not close and for words between the program and its options.
    """
    try:
        words = shlex.split(command, comments=False)
    except ValueError as problem:
        raise RecipeError(
            f"A command line must have matching quotes; {problem}. Quote it as in a shell."
        ) from None
    place = next((place for place, word in enumerate(words) if word.endswith(".py")), None)
    if place is not None:
        return words[place], words[place + 1 :]
    RecipeError.unless(
        words and words[0].startswith("--"),
        f"A command line must be that of a paper's program, such as 'python main.py --…'; saw {command!r}. Quote it "
        "whole.",
    )
    return "", words


def option_names(arguments: Iterable[str]) -> list[str]:
    """The names of all options given, without dashes."""
    return [word[2:].partition("=")[0] for word in arguments if word.startswith("--") and len(word) > 2]


def parse_options(arguments: Sequence[str], program: Program) -> dict[str, Any]:
    """The value of each option given, as ``--name=value`` or ``--name value``; the last of two equal ones counts.

    Raises `RecipeError` for an option that the program does not have (with the nearest that it has), a value
    that is missing or bad, and a stray word.
    """
    options, title = program.options, program.title
    given: dict[str, Any] = {}
    words = deque(arguments)
    while words:
        word = words.popleft()
        RecipeError.unless(
            word.startswith("--"),
            f"Options of {title} begin with --; saw {word!r}. Quote values that have spaces.",
        )
        name, equals, text = word[2:].partition("=")
        hint = (
            nearest(f"--{name}", (f"--{known}" for known in options))
            or f" Its options: --{', --'.join(options)}."
        )
        RecipeError.unless(name in options, f"--{name} is not an option of {title}.{hint}")
        if not equals:
            bare = not words or words[0].startswith("--")
            text = ("True" if options[name].flag else "") if bare else words.popleft()
            RecipeError.unless(
                text, f"--{name} of {title} needs a value; none was given. Write --{name}=VALUE."
            )
        given[name] = _value(name, text, options[name], title)
    return given


def _value(name: str, text: str, option: Option, title: str) -> Any:
    try:
        value = option.parse(text)
    except ValueError as problem:
        raise RecipeError(f"--{name} of {title} cannot be {text!r}: {problem}. Correct it.") from None
    choices = [str(choice) for choice in option.choices]
    RecipeError.unless(
        not choices or value in option.choices,
        f"--{name} of {title} must be one of {', '.join(choices)}; saw {text!r}.{nearest(text, choices)}",
    )
    return value
