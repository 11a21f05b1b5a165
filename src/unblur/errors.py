"""The errors of the library.

Every message says three things: what must hold, what was seen, and what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UnblurError(Exception):
    """Anything that this library raises on purpose."""


class DataError(UnblurError, ValueError):
    """Interactions that cannot be used as they are: missing columns, nulls, duplicates, overlaps."""


class VocabularyMismatch(DataError):
    """Two things that must speak of the same users or items do not."""


class SpecError(UnblurError, ValueError):
    """A hyper-parameter that is unknown, of the wrong type, or out of range."""


class RecipeError(UnblurError, ValueError):
    """A recipe, or a setting given on the command line, that cannot be carried out."""


class ArtifactError(UnblurError, RuntimeError):
    """A saved model that is damaged, incomplete, from a newer version, or in the way."""


class CapabilityError(UnblurError, RuntimeError):
    """Something that this installation or this machine lacks: an extra, a GPU, a data set."""


def out_of_memory(problem: BaseException) -> bool:
    """Whether an error says that memory did not suffice: Python's, or torch's, which for a CPU has no type of its own."""
    said = str(problem).lower()
    return isinstance(problem, MemoryError) or any(
        words in said for words in ("can't allocate memory", "out of memory")
    )


def nearest(word: str, options: Iterable[str]) -> str:
    """The hint `` Did you mean 'x'?`` for a misspelt `word`, or an empty string when nothing is close."""
    found = difflib.get_close_matches(word, list(options), n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""


def some(values: Sequence[object] | Iterable[object], most: int = 5) -> str:
    """The first few of `values` in words, for an error message: ``'a', 'b', 'c' and 4 more``."""
    listed = list(values)
    shown = ", ".join(repr(value) for value in listed[:most])
    rest = len(listed) - most
    return f"{shown} and {rest:,} more" if rest > 0 else shown
