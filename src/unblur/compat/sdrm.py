"""The command line of the SDRM authors' program (Lilienthal et al., IEEE Access 12, 2024).

`--dataset` and `--model` name the recipe: its data, `downstream`, and the departures that its figures rest on.
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
"""Every option of that program that a published command gives; paths in the recipe."""


def _recipe(values: Mapping[str, Any], named: Sequence[str]) -> tuple[Recipe, list[str]]:
    """Raises `RecipeError` for an option that is not given."""
    missing = [f"--{name}" for name, value in values.items() if value is REQUIRED]
    RecipeError.unless(
        not missing,
        f"A command line of {_TITLE} must give {', '.join(missing)}, whose best values are others for each "
        "data set; they are not there. Add them.",
    )
    name = f"sdrm/{values['dataset']}-{values['model']}"
    settings = {option.path: option.convert(values[each]) for each, option in _OPTIONS.items() if option.path}
    recipe = replace(
        load_recipe(name).changed(settings).without_numbers(),
        name=f"{name}-translated",
        title=f"Translated from a command line of {_TITLE}",
    )
    notes = [
        "what is stopped by, held out and counted follows the authors' program: utility.departures says how"
    ]
    if values["model"] == "svd" and values["augment-training-data"]:
        notes.append(
            "for SVD the program learns from synthetic users alone with this flag too; to do the same, set "
            "utility.departures.augment_is_replace=true"
        )
    return recipe, notes


PROGRAM = Program(_TITLE, _OPTIONS, _recipe)
