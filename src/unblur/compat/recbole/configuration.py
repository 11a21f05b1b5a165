"""RecBole's configuration: files and a dictionary over defaults, every name and value checked."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from unblur.compat.recbole.options import MODELS, Kind, Parameter, latent_only, parameters
from unblur.errors import RecipeError, nearest


@dataclass(frozen=True)
class Configuration:
    """What RecBole's ``Config`` is: every option with its value. Index it by name."""

    model: str
    """``DiffRec`` or ``LDiffRec``."""
    dataset: str
    values: Mapping[str, Any]
    """Every option, as given or by default."""
    given: tuple[str, ...]
    """Those that were given."""
    notes: tuple[str, ...] = ()
    """Which of them change nothing here, and why."""

    def __getitem__(self, name: str) -> Any:
        """The value of an option. Raises `RecipeError`, with the nearest name, where there is none."""
        if name in ("model", "dataset"):
            return getattr(self, name)
        if name not in self.values:
            raise RecipeError(f"{name} is not an option.{nearest(name, self.values)}")
        return self.values[name]

    @property
    def kind(self) -> str:
        """The kind of our spec."""
        return MODELS[self.model]


def configure(
    model: str | None = None,
    dataset: str | None = None,
    config_dict: Mapping[str, Any] | None = None,
    config_file_list: Sequence[str | Path] | None = None,
) -> Configuration:
    """Options from YAML files, a later one over an earlier, then from a dictionary, over RecBole's defaults.

    `model` and `dataset` may stand in files or dictionary as well; the arguments win. Raises `RecipeError` for a
    name that is unknown (with the nearest real one), a value that is not what the option takes, and an option
    that cannot be honoured, with the reason.
    """
    given: dict[str, Any] = {}
    for file in config_file_list or ():
        given |= {name: from_text(value) for name, value in read_yaml(file).items()}
    given |= {name: from_text(value) for name, value in (config_dict or {}).items()}
    named = {"model": model, "dataset": dataset}
    for name in named:
        value = given.pop(name, None)
        named[name] = value if named[name] is None else named[name]
        if named[name] is None:
            raise RecipeError(f"{name} must be named; it is neither an argument nor an option. Give {name}=…")
    chosen = str(named["model"])
    known = parameters(chosen)
    unknown = [_unknown(str(name), known, chosen) for name in given if name not in known]
    if unknown:
        raise RecipeError(" ".join(unknown))
    values = {name: parameter.default for name, parameter in known.items()}
    notes = []
    for name, value in given.items():
        values[name] = checked(name, value, known[name])
        if known[name].idle and value != known[name].default:
            notes.append(f"{name} changes nothing here: {known[name].idle}")
    if values.get("n_cate", 1) > 1:
        notes.append("RecBole clusters items by a file item_emb.npy; here embeddings are made from train")
    return Configuration(chosen, str(named["dataset"]), values, tuple(given), tuple(notes))


def checked(name: str, value: Any, parameter: Parameter) -> Any:
    """The value as the option takes it; raises `RecipeError` for another type and what cannot be honoured."""
    if parameter.reason and value not in (None, parameter.default, parameter.only):
        raise RecipeError(f"{name} cannot be {value!r} here: {parameter.reason}. Leave it out.")
    if parameter.idle or value is None:
        return parameter.default if value is None and parameter.kind != "any" else value
    if not _FITS[parameter.kind](value):
        raise RecipeError(
            f"{name} must be {_WORDS[parameter.kind]}; saw {value!r}. RecBole's default is {parameter.default!r}."
        )
    if parameter.kind == "widths":
        return tuple(value)
    return float(value) if parameter.kind == "number" else value


def from_text(value: Any) -> Any:
    """What a string stands for in Python, as RecBole takes it: ``"[300]"`` is a list; other strings stay.

    Only literals are read, nothing is executed.
    """
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The options of a YAML file, read safely; ``1e-3`` is a number, as in RecBole.

    Raises `RecipeError` for a file that cannot be read or is not a table of options.
    """
    try:
        read = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "it is not UTF-8 text"
        raise RecipeError(f"A configuration must be a readable YAML file; {path}: {reason}.") from None
    except yaml.YAMLError as problem:
        said = " ".join(str(problem).split())
        raise RecipeError(f"A configuration must be plain YAML; {path}: {said}. Correct it.") from None
    if read is None:
        return {}
    if not isinstance(read, dict) or not all(isinstance(name, str) for name in read):
        raise RecipeError(f"A configuration must be a table of options; {path} holds {type(read).__name__}.")
    return read


class _Loader(yaml.SafeLoader):
    """The safe loader, which also takes numbers with an exponent and no point for numbers."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def _unknown(name: str, known: Mapping[str, Parameter], model: str) -> str:
    if name in latent_only():
        return f"{name} is an option of LDiffRec, not of {model}."
    lowered = {option.lower().replace("_", "-"): option for option in known}
    same = lowered.get(name.lower().replace("_", "-"))
    hint = f" Did you mean {same!r}?" if same else nearest(name, known)
    return f"{name} is not an option of RecBole's {model}.{hint}"


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_FITS: Mapping[Kind, Callable[[Any], bool]] = {
    "whole": _whole,
    "number": _number,
    "truth": lambda value: isinstance(value, bool),
    "text": lambda value: isinstance(value, str),
    "widths": lambda value: isinstance(value, list | tuple) and all(map(_whole, value)),
    "any": lambda value: True,
}
_WORDS: Mapping[Kind, str] = {
    "whole": "a whole number",
    "number": "a number",
    "truth": "True or False",
    "text": "text",
    "widths": "a list of whole numbers",
}
