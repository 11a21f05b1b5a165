"""The errors of the library.

Every message says three things: what must hold, what was seen, and what to do about it.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Argument:
    """An argument of the call in an error's message, in whose place a command can name its own option."""

    name: str
    value: str | int | float | bool | None = None
    """The value to pass; `None` if the argument itself is meant."""

    def __str__(self) -> str:
        """The argument as in Python: ```header=True```, ```min_rating```."""
        if self.value is None:
            return f"`{self.name}`"
        value = f'"{self.value}"' if isinstance(self.value, str) else repr(self.value)
        return f"`{self.name}={value}`"


@dataclass(frozen=True)
class Row:
    """A row of a column in an error's message, in whose place a reader of files can name the row of the file."""

    at: int

    def __str__(self) -> str:
        return f"row {self.at}"


class UnblurError(Exception):
    """The base of all errors that this library raises itself.

    Its message is the text of all `args` one after the other; among them may be an `Argument`, which commands replace.
    """

    def __str__(self) -> str:
        return self.worded(str)

    @classmethod
    def unless(cls, holds: object, *message: object) -> None:
        """Raise this error, with the message, unless the condition holds."""
        if not holds:
            raise cls(*message)

    def worded(self, spelling: Callable[[Argument], str]) -> str:
        """Return the message with each `Argument` in it spelled by a function: as an option, say."""
        return "".join(spelling(part) if isinstance(part, Argument) else str(part) for part in self.args)


class DataError(UnblurError, ValueError):
    """Interactions that cannot be used as they are: missing columns, nulls, duplicates, overlaps."""


@contextmanager
def about(what: str) -> Iterator[None]:
    """Begin the message of a `DataError` that is raised inside with its subject."""
    try:
        yield
    except DataError as problem:
        raise type(problem)(f"{what}: ", *problem.args) from None


@contextmanager
def rows_named(name: Callable[[int], str]) -> Iterator[None]:
    """Name the rows in the message of a `DataError` that is raised inside by a function of their positions."""
    try:
        yield
    except DataError as problem:
        parts = (name(part.at) if isinstance(part, Row) else part for part in problem.args)
        raise type(problem)(*parts) from None


class VocabularyMismatch(DataError):
    """Two things that must have the same users or items do not."""


class SpecError(UnblurError, ValueError):
    """A hyper-parameter that is unknown, of the wrong type, or out of range."""


class RecipeError(UnblurError, ValueError):
    """A recipe, or a setting given on the command line, that cannot be carried out."""


class ArtifactError(UnblurError, RuntimeError):
    """A saved model that is damaged, incomplete, from a newer version, or in the way."""


class CapabilityError(UnblurError, RuntimeError):
    """Something that this installation or this machine lacks: an extra, a GPU, a data set."""


@contextmanager
def needing_torch(what: str) -> Iterator[None]:
    """Raise `CapabilityError` if an import inside fails since torch, which only trained models and GPUs need, is missing."""
    try:
        yield
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] != "torch":
            raise
        raise CapabilityError(
            f"{what} needs torch, which is not installed. Install it with `pip install 'unblur[train]'`, or use a model "
            "that does without on a CPU, such as bspm, ease or item-knn."
        ) from None


class OutdatedWarning(FutureWarning):
    """Something is written with a name, or has a value, of an earlier version; the name goes on working."""


def warn_outdated(text: str) -> None:
    """Give an `OutdatedWarning`, which commands print as a note."""
    warnings.warn(text, OutdatedWarning, stacklevel=3)


def reason_of(problem: Exception) -> str:
    """Return the reason that the system gives, in a few words: ``No space left on device``."""
    return getattr(problem, "strerror", None) or str(problem).partition("\n")[0] or type(problem).__name__


def out_of_memory(problem: BaseException) -> bool:
    """Return whether an error is one of too little memory: Python's, torch's, which for a CPU has no type of its own, or an
    import's, for which a library could not be mapped."""
    message = str(problem).lower()
    return isinstance(problem, MemoryError) or any(
        words in message for words in ("can't allocate memory", "out of memory", "failed to map segment")
    )


def nearest(word: str, options: Iterable[str]) -> str:
    """Return the hint `` Did you mean 'x'?`` for a misspelt `word`, or an empty string if nothing is close.

    Words that differ only in case or dashes are equal here; the cut-off is difflib's own.
    """
    by_folded = {_folded(option): option for option in options}
    close = difflib.get_close_matches(_folded(word), by_folded, n=1, cutoff=0.6)
    return f" Did you mean {by_folded[close[0]]!r}?" if close else ""


def _folded(word: str) -> str:
    return word.lower().replace("_", "-")


def check_word(argument: str, value: object, words: Sequence[str]) -> None:
    """Raise `DataError` unless the value of an argument is one of the words that it takes."""
    if value not in words:
        hint = nearest(str(value), words)
        raise DataError(Argument(argument), f" must be one of {', '.join(words)}; saw {value!r}.{hint}")


LONGEST = 200
"""Characters of a label in a message or a table: a longer one is no name that somebody reads."""


def shortened(text: str, most: int = LONGEST) -> str:
    """Return a text of at most `most` characters, or the beginning of a longer one, as long as that, and its length."""
    return text if len(text) <= most else f"{text[: most - 1]}… ({len(text):,} characters)"


def some(values: Sequence[object] | Iterable[object], most: int = 5) -> str:
    """Return the first few of `values` in words, for an error message: ``'a', 'b', 'c' and 4 more``.

    Long ones are shortened.
    """
    items = list(values)
    text = ", ".join(shortened(repr(value)) for value in items[:most])
    n_more = len(items) - most
    return f"{text} and {n_more:,} more" if n_more > 0 else text
