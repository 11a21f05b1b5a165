"""Reading the command line of another program: its options, their types and defaults."""

from __future__ import annotations

import json
import shlex
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unblur.errors import RecipeError, nearest


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a program."""

    parse: Callable[[str], Any]
    """From the text of its value; raises `ValueError` for a bad one."""
    default: Any
    choices: tuple[Any, ...] = ()
    """What it may be; anything when empty."""
    irrelevant: str = ""
    """Why the recipe does not need it; empty when it does."""
    flag: bool = False
    """Whether it may stand without a value, which means ``True``."""


@dataclass(frozen=True)
class Given:
    """The options of one command line."""

    values: Mapping[str, Any]
    """Every option of the program: as given, or its default."""
    named: tuple[str, ...]
    """Those that were given, in order."""
    notes: tuple[str, ...] = field(default=())
    """Which of them the recipe does not need, and why."""


def arguments_of(command: str) -> list[str]:
    """What follows the script in ``python main.py …``; all of it where no script is named.

    Raises `RecipeError` for quotes that do not close and for words between the program and its options.
    """
    try:
        words = shlex.split(command, comments=False)
    except ValueError as problem:
        raise RecipeError(
            f"A command line must have matching quotes; {problem}. Quote it as in a shell."
        ) from None
    script = next((place for place, word in enumerate(words) if word.endswith(".py")), None)
    rest = words[script + 1 :] if script is not None else words
    if script is None and not (rest and rest[0].startswith("--")):
        raise RecipeError(
            "A command line must be that of a paper's program, such as 'python main.py --…'; saw "
            f"{command!r}. Quote it whole."
        )
    return rest


def option_names(arguments: Iterable[str]) -> list[str]:
    """The names of all options given, without dashes: what a program is known by."""
    return [word[2:].partition("=")[0] for word in arguments if word.startswith("--") and len(word) > 2]


def parse_options(arguments: Sequence[str], options: Mapping[str, Option], program: str) -> Given:
    """The options of `program`, given as ``--name=value`` or ``--name value``; of two equal ones the last
    counts.

    Raises `RecipeError` for an option that the program does not have (with the nearest that it has), a value
    that is missing or bad, and a stray word.
    """
    values = {name: option.default for name, option in options.items()}
    named: list[str] = []
    words = deque(arguments)
    while words:
        word = words.popleft()
        if not word.startswith("--"):
            raise RecipeError(
                f"Options of {program} begin with --; saw {word!r}. Quote values that have spaces."
            )
        name, equals, text = word[2:].partition("=")
        if name not in options:
            raise RecipeError(f"--{name} is not an option of {program}.{_nearest_option(name, options)}")
        bare = not words or words[0].startswith("--")
        if not equals and bare and options[name].flag:
            text = "True"
        elif not equals:
            text = words.popleft() if words else ""
            if not text or text.startswith("--"):
                raise RecipeError(
                    f"--{name} of {program} needs a value; none was given. Write --{name}=VALUE."
                )
        values[name] = _parsed(name, text, options[name], program)
        named.append(name)
    notes = [
        f"--{name} has no place in a recipe: {options[name].irrelevant}"
        for name in dict.fromkeys(named)
        if options[name].irrelevant
    ]
    return Given(values, tuple(dict.fromkeys(named)), tuple(notes))


def truth(text: str) -> bool:
    """``True`` or ``False``, as Python writes them."""
    if text not in ("True", "False"):
        raise ValueError("it must be True or False")
    return text == "True"


def whole_numbers(text: str) -> tuple[int, ...]:
    """A list of whole numbers such as ``[20]``; brackets may be left out."""
    try:
        listed = json.loads(f"[{text.strip().removeprefix('[').removesuffix(']')}]")
    except ValueError:
        listed = None
    if not listed or not all(isinstance(entry, int) and not isinstance(entry, bool) for entry in listed):
        raise ValueError("it must be a list of whole numbers such as [20]")
    return tuple(listed)


def _parsed(name: str, text: str, option: Option, program: str) -> Any:
    try:
        value = option.parse(text)
    except ValueError as problem:
        raise RecipeError(f"--{name} of {program} cannot be {text!r}: {problem}. Correct it.") from None
    if option.choices and value not in option.choices:
        listed = ", ".join(str(choice) for choice in option.choices)
        hint = nearest(text, [str(choice) for choice in option.choices])
        raise RecipeError(f"--{name} of {program} must be one of {listed}; saw {text!r}.{hint}")
    return value


def _nearest_option(name: str, options: Mapping[str, Option]) -> str:
    lowered = {known.lower(): known for known in options}
    if name.lower() in lowered:
        return f" Did you mean '--{lowered[name.lower()]}'?"
    hint = nearest(name, options)
    return (
        hint.replace("'", "'--", 1)
        if hint
        else f" Its options: {', '.join('--' + known for known in options)}."
    )
