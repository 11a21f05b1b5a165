"""RecBole's command line: ``python run_recbole.py --model=DiffRec --dataset=ml-100k --learning_rate=1e-4``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unblur.compat.command_line import Option, parse_options
from unblur.compat.recbole.configuration import configure, from_text
from unblur.compat.recbole.options import parameters
from unblur.compat.recbole.protocol import recipe_of
from unblur.compat.translation import Translation, settled

_PROGRAM = "RecBole's run_recbole.py"

OPTIONS: Mapping[str, Option] = {
    "model": Option(str, "BPR"),
    "dataset": Option(str, "ml-100k"),
    "config_files": Option(str, ""),
    **{name: Option(from_text, parameter.default) for name, parameter in parameters("LDiffRec").items()},
}
"""Every option that a command line for these models may have."""


def translate(arguments: list[str]) -> Translation:
    """The recipe that does what RecBole does with these arguments.

    Configuration files are read where they are named. Raises `RecipeError` for an option or value that the model
    does not have or that cannot be honoured.
    """
    given = parse_options(arguments, OPTIONS, _PROGRAM)
    named: dict[str, Any] = {
        name: given.values[name] for name in given.named if name not in ("model", "dataset", "config_files")
    }
    files = given.values["config_files"].split()
    model = given.values["model"] if "model" in given.named or not files else None
    dataset = given.values["dataset"] if "dataset" in given.named or not files else None
    configuration = configure(model, dataset, named, files)
    own_file = "data_path" in configuration.given
    recipe = recipe_of(configuration, own_file=own_file)
    notes = list(configuration.notes)
    if own_file:
        name = configuration.dataset
        notes.append(f"give the data to the run: --data {configuration['data_path']}/{name}/{name}.inter")
    if "checkpoint_dir" in configuration.given:
        notes.append("checkpoint_dir has no place in a recipe: give the folder to the run: --out")
    if {"use_gpu", "device"} & {*configuration.given}:
        notes.append("device and use_gpu have no place in a recipe: give the device to the run: --device")
    return settled("recbole", recipe, tuple(notes))
