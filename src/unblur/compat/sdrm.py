"""The command line of the SDRM authors' program (Lilienthal et al., IEEE Access 12, 2024).

| there | here |
|---|---|
| `--dataset`, `--model` | the recipe: `data.name`, `downstream` and the departures that its figures rest on |
| `--augment-training-data` | `utility.mode`: ``augment`` with it, ``replace`` without |
| `--SDRM-epochs`, `--SDRM-batch-size`, `--SDRM-lr` | `model.diffusion.epochs`, `.batch_size`, `.optimizer.learning_rate` |
| `--SDRM-timesteps`, `--SDRM-noise-variance-diminisher` | `model.diffusion.steps`, `.noise_variance_diminisher` |
| `--MLP-hidden-layers` | `model.diffusion.hidden_layers` |
| `--MLP-latent-neurons` | `model.vae.latent` |
| `--VAE-hidden-layer-neurons`, `--VAE-batch-size`, `--VAE-lr` | `model.vae.hidden`, `.batch_size`, `.optimizer.learning_rate` |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from unblur.compat.command_line import Option, parse_options, truth
from unblur.compat.translation import Translation, settled
from unblur.errors import RecipeError
from unblur.experiment.recipe.library import load_recipe

_PROGRAM = "SDRM's main.py"
_UNKNOWN = object()
"""The default of an option that has to be given: its best value is another for each data set."""

_PATHS: Mapping[str, str] = {
    "SDRM-epochs": "model.diffusion.epochs",
    "SDRM-batch-size": "model.diffusion.batch_size",
    "SDRM-lr": "model.diffusion.optimizer.learning_rate",
    "SDRM-timesteps": "model.diffusion.steps",
    "SDRM-noise-variance-diminisher": "model.diffusion.noise_variance_diminisher",
    "MLP-hidden-layers": "model.diffusion.hidden_layers",
    "MLP-latent-neurons": "model.vae.latent",
    "VAE-hidden-layer-neurons": "model.vae.hidden",
    "VAE-batch-size": "model.vae.batch_size",
    "VAE-lr": "model.vae.optimizer.learning_rate",
}
_REAL = ("SDRM-lr", "SDRM-noise-variance-diminisher", "VAE-lr")

OPTIONS: Mapping[str, Option] = {
    "dataset": Option(str, _UNKNOWN, choices=("ml-100k", "ml-1m", "alb", "adm")),
    "model": Option(str.lower, _UNKNOWN, choices=("svd", "mlp", "neumf")),
    "augment-training-data": Option(truth, False, flag=True),
    **{name: Option(float if name in _REAL else int, _UNKNOWN) for name in _PATHS},
}
"""Every option of that program that a published command gives."""


def translate(arguments: list[str]) -> Translation:
    """The recipe that does what SDRM's program does with these arguments.

    Raises `RecipeError` for an option or value that the program does not have, and for one that is not given.
    """
    given = parse_options(arguments, OPTIONS, _PROGRAM)
    missing = [f"--{name}" for name, value in given.values.items() if value is _UNKNOWN]
    if missing:
        raise RecipeError(
            f"A command line of {_PROGRAM} must give {', '.join(missing)}, whose best values are others for each "
            "data set; they are not there. Add them."
        )
    values = given.values
    name = f"sdrm/{values['dataset']}-{values['model']}"
    settings = {path: values[option] for option, path in _PATHS.items()}
    settings["utility.mode"] = "augment" if values["augment-training-data"] else "replace"
    known = load_recipe(name)
    recipe = replace(
        known.changed(settings),
        name=f"{name}-translated",
        title=f"Translated from a command line of {_PROGRAM}",
        expected={},
        verified={},
    )
    notes = [
        *given.notes,
        "what is stopped by, held out and counted follows the authors' program: utility.departures says how",
    ]
    if values["model"] == "svd" and values["augment-training-data"]:
        notes.append(
            "for SVD the program learns from synthetic users alone with this flag too; to do the same, set "
            "utility.departures.augment_is_replace=true"
        )
    return settled("sdrm", recipe, tuple(notes))
