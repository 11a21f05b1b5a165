"""RecBole's tuning files: one ``name type range`` a line, as dimensions of our search.

::

    learning_rate loguniform -8,0
    dims_dnn choice ['[300]','[200,600]']
    steps quniform 2,10,1

A name with a dot is a path of our own spec, for what RecBole's models do not have: ``denoiser.dropout choice [0.3,0.5]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unblur.compat.recbole.configuration import checked, from_text
from unblur.compat.recbole.model_settings import places
from unblur.compat.recbole.options import MODELS, parameters
from unblur.errors import RecipeError, SpecError, nearest
from unblur.spec import spec_to_dict
from unblur.tuning.space import Choice, Dimension, Range, choice, set_point
from unblur.tuning.trials import inside, space_of

_TYPES = ("choice", "uniform", "quniform", "loguniform")


@dataclass(frozen=True)
class SearchedParameter:
    """One line of a tuning file."""

    name: str
    """RecBole's name, as written; it may be misspelt."""
    values: Choice | Range
    line: int
    """From 1."""


def read_params(path: str | Path) -> tuple[SearchedParameter, ...]:
    """The lines of a tuning file; empty ones and those after ``#`` are passed over.

    Raises `RecipeError`, with the line, for one that is not ``name type range``, and for a name that is there
    twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise RecipeError(f"A tuning file must be readable text; {path}: {reason}. Check the path.") from None
    found: list[SearchedParameter] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split(maxsplit=2)
        try:
            if len(words) < 3:
                raise SpecError("it must be: name type range")
            found.append(SearchedParameter(words[0], _values(words[1], words[2]), number))
        except SpecError as problem:
            raise RecipeError(f"{path}, line {number}, {line.strip()!r}: {problem} Correct it.") from None
    names = [parameter.name for parameter in found]
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice or not found:
        what = f"{twice[0]} is there twice" if twice else "there is none"
        raise RecipeError(f"A tuning file must name each hyper-parameter once; in {path} {what}. Correct it.")
    return tuple(found)


def space_of_params(
    base: Any, searched: Sequence[SearchedParameter], *, ignore_unknown: bool = False
) -> tuple[tuple[Dimension, ...], tuple[str, ...]]:
    """The dimensions that the lines stand for in a spec, and notes on what is not searched.

    A name that the model does not have is refused with the nearest that it has; with `ignore_unknown` it is left
    out and noted. (RecBole leaves it out without a word.) Weights by time are not searched where the spec has
    none, since they change nothing then. Raises `RecipeError`.
    """
    models = {kind: model for model, kind in MODELS.items()}
    if base.kind not in models:
        raise RecipeError(
            f"RecBole's tuning files are for {' and '.join(models)}; saw a recipe of {base.kind}. Leave --params-file out."
        )
    known, options = places(base.kind), parameters(models[base.kind])
    unknown = [each for each in searched if each.name not in known and "." not in each.name]
    complaints = [_unknown(parameter, known, options) for parameter in unknown]
    if complaints and not ignore_unknown:
        raise RecipeError(
            f"{' '.join(complaints)} Correct the name, or leave such lines out with --ignore-unknown."
        )
    notes = [f"not searched: {complaint}" for complaint in complaints]
    tree, space = spec_to_dict(base), []
    for parameter in searched:
        if "." in parameter.name:
            space.append(_own(base, parameter))
        if parameter.name not in known:
            continue
        place = known[parameter.name]
        if not inside(tree, place.path):
            notes.append(f"not searched: {parameter.name} changes nothing without time-aware")
            continue
        paths = tuple(place.settings(_sample(parameter), latent=base.kind == "l-diffrec"))
        values = _fitting(parameter, options[parameter.name].kind == "whole")
        if isinstance(values, Choice):
            values = choice(
                [checked(parameter.name, value, options[parameter.name]) for value in values.values]
            )
        space.append(Dimension(parameter.name, values, paths, place.convert))
    if not space:
        raise RecipeError(
            "A tuning file must have something to search; nothing of it is left. Correct its names."
        )
    return tuple(space), tuple(notes)


def _own(base: Any, parameter: SearchedParameter) -> Dimension:
    """A path of the spec as it stands, each value of which the spec must take by itself."""
    try:
        values = parameter.values.values if isinstance(parameter.values, Choice) else (_sample(parameter),)
        space_of(base, {parameter.name: values})
        dimension = Dimension(parameter.name, parameter.values, (parameter.name,))
        for value in values:
            set_point(base, (dimension,), {parameter.name: value})
    except SpecError as problem:
        raise RecipeError(f"{parameter.name} (line {parameter.line}): {problem}") from None
    return dimension


def _unknown(parameter: SearchedParameter, known: Any, options: Any) -> str:
    if parameter.name in options:
        return (
            f"{parameter.name} (line {parameter.line}) is an option, but no hyper-parameter of the model, so it cannot "
            "be searched."
        )
    hint = nearest(parameter.name, known)
    return f"{parameter.name} (line {parameter.line}) is not a hyper-parameter of the model.{hint}"


def _values(kind: str, text: str) -> Choice | Range:
    if kind not in _TYPES:
        raise SpecError(f"the type must be one of {', '.join(_TYPES)}.{nearest(kind, _TYPES)}")
    if kind == "choice":
        listed = from_text(text)
        if not isinstance(listed, list | tuple) or not listed:
            raise SpecError("a choice must be a list such as [2,5,10].")
        return choice([from_text(value) for value in listed])
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != (3 if kind == "quniform" else 2):
        wanted = "low,high,step" if kind == "quniform" else "low,high"
        raise SpecError(f"the range of {kind} must be {wanted}.")
    step = numbers[2] if kind == "quniform" else None
    return Range(numbers[0], numbers[1], step, logarithmic=kind == "loguniform")


def _fitting(parameter: SearchedParameter, whole: bool) -> Choice | Range:
    """The values, whole numbers where the option takes those; raises `RecipeError` where they cannot be."""
    values = parameter.values
    if not whole or isinstance(values, Choice):
        return values
    listed = values.values()
    if listed is None or any(not value.is_integer() for value in listed):
        raise RecipeError(
            f"{parameter.name} (line {parameter.line}) takes whole numbers; its range has others. Use quniform with a "
            "whole step, or choice."
        )
    return choice([int(value) for value in listed])


def _sample(parameter: SearchedParameter) -> Any:
    values = parameter.values
    return values.values[0] if isinstance(values, Choice) else values.at(0.0)
