"""The command line of the SDRM authors' program (Lilienthal et al., IEEE Access 12, 2024).

`--dataset` and `--model` determine the recipe: its data, `downstream`, and the departures of the authors' program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from unblur.compat.command_line import REQUIRED, Option, Program, truth
from unblur.errors import RecipeError
from unblur.experiment.recipe.library import load_recipe
from unblur.experiment.recipe.schema import Recipe

_TITLE = "SDRM's main.py"

_OPTIONS: Mapping[str, Option] = {
    "dataset": Option(str, choices=("ml-100k", "ml-1m", "alb", "adm")),
    "model": Option(str.lower, choices=("svd", "mlp", "neumf")),
    "augment-training-data": Option(
        truth, False, "utility.mode", {True: "augment", False: "replace"}.get, flag=True
    ),
    "SDRM-epochs": Option(int, path="model.diffusion.epochs"),
    "SDRM-batch-size": Option(int, path="model.diffusion.batch_size"),
    "SDRM-lr": Option(float, path="model.diffusion.optimizer.learning_rate"),
    "SDRM-timesteps": Option(int, path="model.diffusion.steps"),
    "SDRM-noise-variance-diminisher": Option(float, path="model.diffusion.noise_variance_diminisher"),
    "MLP-hidden-layers": Option(int, path="model.diffusion.hidden_layers"),
    "MLP-latent-neurons": Option(int, path="model.vae.latent"),
    "VAE-hidden-layer-neurons": Option(int, path="model.vae.hidden"),
    "VAE-batch-size": Option(int, path="model.vae.batch_size"),
    "VAE-lr": Option(float, path="model.vae.optimizer.learning_rate"),
}
"""The options of the program that occur in published commands; paths are in the recipe."""


def _recipe(values: Mapping[str, Any], named: Sequence[str]) -> tuple[Recipe, list[str]]:
    """The recipe for options. Raises `RecipeError` for a missing one."""
    missing = [f"--{name}" for name, value in values.items() if value is REQUIRED]
    RecipeError.unless(
        not missing,
        f"A command line of {_TITLE} must have all options, since their best values differ between data sets; missing: "
        f"{', '.join(missing)}. Add them.",
    )
    name = f"sdrm/{values['dataset']}-{values['model']}"
    settings = {
        option.path: option.convert(values[name_of_option])
        for name_of_option, option in _OPTIONS.items()
        if option.path
    }
    recipe = replace(
        load_recipe(name).changed(settings).without_numbers(),
        name=f"{name}-translated",
        title=f"Translated from a command line of {_TITLE}",
    )
    notes = ["stopping, hold-out and counting follow the authors' program: see utility.departures"]
    if values["model"] == "svd" and values["augment-training-data"]:
        notes.append(
            "for SVD the program trains on synthetic users alone even with this flag; to do the same, set "
            "utility.departures.augment_is_replace=true"
        )
    return recipe, notes


PROGRAM = Program(_TITLE, _OPTIONS, _recipe)
