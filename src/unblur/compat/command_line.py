"""Tables of the options of another program: how to parse each value, and its path in a recipe."""

from __future__ import annotations

import ast
import re
import shlex
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from unblur.errors import RecipeError, nearest
from unblur.experiment.recipe.schema import Recipe
from unblur.spec import set_path

REQUIRED: Final = object()
"""The default of a required option, whose best value differs between data sets."""


def unchanged(value: Any) -> Any:
    """Return the value itself, for options whose values are the same in both programs."""
    return value


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a program, and its counterpart in the recipe."""

    parse: Callable[[Any], Any]
    """Turns text into a value; raises `ValueError`, with the requirement, for an invalid one."""
    default: Any = REQUIRED
    path: str = ""
    """The dotted path of its value in the table that `table_of` fills; empty if it has none."""
    convert: Callable[[Any], Any] = unchanged
    """Turns the program's value into that at the path."""
    choices: tuple[Any, ...] = ()
    """The values that the program accepts; empty for any."""
    irrelevant: str = ""
    """The reason why the recipe does not need it; empty if it does."""
    flag: bool = False
    """Whether the option may be without a value, which is then ``True``."""
    also: str = ""
    """A second path for the same value."""

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths for its value."""
        return tuple(path for path in (self.path, self.also) if path)


@dataclass(frozen=True)
class Program:
    """A program whose command lines are translated."""

    title: str
    """Its name in messages: ``BSPM's main.py``."""
    options: Mapping[str, Option]
    """All its options, by name."""
    recipe: Callable[[Mapping[str, Any], Sequence[str]], tuple[Recipe, Sequence[str]]]
    """(values of all options, names of those on the command line) -> (the recipe that does the same, notes on where it
    departs from the program)."""
    script: str = "main.py"
    short: Mapping[str, str] = field(default_factory=dict)
    """Options by their letters: ``{"m": "model"}`` for ``-m``."""
    run: Callable[[Mapping[str, Any]], str] = lambda values: "unblur run {recipe}"
    """values of all options -> the command that runs the recipe, with ``{recipe}`` for its name or file."""
    variants: Mapping[str, Program] = field(default_factory=dict)
    """Its other scripts, with options of their own, by name."""


# --------------------------------------------------------------------------------------------------- values


def parser(
    requirement: str, accepts: Callable[[Any], object], convert: Callable[[Any], Any] = unchanged
) -> Callable[[Any], Any]:
    """A function that converts the values it `accepts`, and raises `ValueError` with the `requirement` for others."""

    def parse(value: Any) -> Any:
        if not accepts(value):
            raise ValueError(requirement)
        return convert(value)

    return parse


def one_of(requirement: str, *values: Any) -> Callable[[Any], Any]:
    """A parser that accepts these values alone."""
    return parser(requirement, lambda value: value in values)


def from_text(value: Any) -> Any:
    """The Python literal in a string, such as the list in ``"[300]"``. Any other value is returned unchanged.

    Only literals are read, nothing is executed.
    """
    try:
        return ast.literal_eval(value.strip()) if isinstance(value, str) else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number and not a truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


def as_list(value: Any) -> list[Any]:
    """The values of a list or tuple; any other value as a list of one."""
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


_SHELL = re.compile(r"(\d|&)?[<>]|[|;&]")
"""How a word begins that the shell reads, not the program: ``>``, ``2>&1``, ``|``, ``&``."""
_OTHER_SCRIPTS = {
    ".sh": "a shell script holds the program's command line; translate the line 'python …' in it, with the values of "
    "its variables put in",
    "inference.py": "it only scores a model that was trained before; translate the line 'python main.py …' that trained "
    "it, then run the recipe with --out, and its model with `unblur evaluate`",
}
"""What to do instead, by the ends of the names of scripts that are not translated."""


def script_and_arguments(command: str) -> tuple[str, list[str], str]:
    """The script in ``python main.py …``, empty if there is none, the words after it, and the shell's part after these.

    Raises `RecipeError` for quotes that do not close, for words between the program and its options, and for a script
    that is not translated, with what to do instead.
    """
    try:
        words = shlex.split(command, comments=False)
    except ValueError as problem:
        raise RecipeError(
            f"A command line must have matching quotes; {problem}. Quote it as in a shell."
        ) from None
    script = next((index for index, word in enumerate(words) if word.endswith((".py", ".sh"))), -1)
    RecipeError.unless(
        script >= 0 or (words and words[0].startswith("--")),
        f"A command line must be that of a paper's program, such as 'python main.py --…'; saw {command!r}. Quote it "
        "as a whole.",
    )
    name = words[script] if script >= 0 else ""
    for ending, instead in _OTHER_SCRIPTS.items():
        RecipeError.unless(not name.endswith(ending), f"{name} cannot be translated: {instead}.")
    arguments = words[script + 1 :]
    end = next((index for index, word in enumerate(arguments) if _SHELL.match(word)), len(arguments))
    return name, arguments[:end], " ".join(arguments[end:])


def option_names(arguments: Iterable[str]) -> list[str]:
    """The names of all options among the arguments, without dashes."""
    return [word[2:].partition("=")[0] for word in arguments if word.startswith("--") and len(word) > 2]


def parse_options(arguments: Sequence[str], program: Program) -> dict[str, Any]:
    """The values of options ``--name=value`` or ``--name value``, by name; of a repeated option the last one counts.

    Raises `RecipeError` for an option that the program does not have (with the nearest that it has), a value
    that is missing or bad, and a stray word.
    """
    options, title = program.options, program.title
    values: dict[str, Any] = {}
    words = deque(arguments)
    while words:
        word = words.popleft()
        if word[1:] in program.short:
            word = f"--{program.short[word[1:]]}"
        RecipeError.unless(
            word.startswith("--"),
            f"Options of {title} must begin with --; saw {word!r}. Quote values with spaces.",
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
                text or not bare,
                f"--{name} of {title} needs a value; there is none. Write --{name}=VALUE.",
            )
        values[name] = _value(name, text, options[name], title)
    return values


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
