"""Where RecBole's hyper-parameters stand in our specs, and what becomes of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from unblur.compat.recbole.configuration import Configuration
from unblur.errors import RecipeError, nearest
from unblur.experiment.recipe.tables import OFF
from unblur.spec import set_path


def _activation(name: str) -> str:
    if name not in _ACTIVATIONS:
        hint = nearest(name, _ACTIVATIONS)
        raise RecipeError(
            f"An activation must be one of {', '.join(_ACTIVATIONS)}; saw {name!r}.{hint} "
            "RecBole's dice, which learns, is not there."
        )
    return _ACTIVATIONS[name]


_ACTIVATIONS = {
    "tanh": "tanh",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "leakyrelu": "leaky_relu",
    "none": "identity",
}


def _same(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class Place:
    """Where a hyper-parameter stands."""

    path: str
    """The dotted path in the spec."""
    convert: Callable[[Any], Any] = _same
    """From RecBole's value to ours."""
    latent: str = ""
    """A second path, in the spec of L-DiffRec alone."""

    def settings(self, value: Any, *, latent: bool) -> dict[str, Any]:
        """The value at each path."""
        paths = (self.path, self.latent) if latent and self.latent else (self.path,)
        return dict.fromkeys(paths, self.convert(value))


ROWS: Mapping[str, Place] = MappingProxyType(
    {
        "noise_schedule": Place("schedule.name"),
        "noise_scale": Place("schedule.scale"),
        "noise_min": Place("schedule.lowest"),
        "noise_max": Place("schedule.highest"),
        "steps": Place("schedule.steps"),
        "beta_fixed": Place("schedule.fixed_first"),
        "dims_dnn": Place("denoiser.dims"),
        "embedding_size": Place("denoiser.embedding_size"),
        "mlp_act_func": Place("denoiser.activation", _activation),
        "norm": Place("denoiser.normalize"),
        "mean_type": Place("objective.predicts"),
        "reweight": Place("objective.reweight"),
        "history_num_per_term": Place("objective.history"),
        "sampling_steps": Place("sampling.start_steps"),
        "sampling_noise": Place("sampling.noise"),
        "w_min": Place("time_weights.oldest"),
        "w_max": Place("time_weights.newest"),
        "learning_rate": Place("optimizer.learning_rate", latent="autoencoder.optimizer.learning_rate"),
        "weight_decay": Place("optimizer.weight_decay", latent="autoencoder.optimizer.weight_decay"),
        "train_batch_size": Place("batch_size"),
        "epochs": Place("epochs"),
    }
)
"""The hyper-parameters of both models."""

LATENT: Mapping[str, Place] = MappingProxyType(
    {
        "n_cate": Place("clusters.count"),
        "reparam": Place("autoencoder.sample_latent"),
        "in_dims": Place("autoencoder.encoder_dims", lambda widths: list(widths)[::-1]),
        "out_dims": Place("autoencoder.decoder_dims"),
        "ae_act_func": Place("autoencoder.activation", _activation),
        "lamda": Place("autoencoder.diffusion_weight"),
        "anneal_cap": Place("autoencoder.least_diffusion_weight"),
        "anneal_steps": Place("autoencoder.diffusion_decay"),
        "vae_anneal_cap": Place("autoencoder.kl_weight"),
        "vae_anneal_steps": Place("autoencoder.kl_batches"),
    }
)
"""Those of LDiffRec alone. ``in_dims`` are read from the latent outwards there, from the row inwards here."""

_LEARNERS = ("adam", "sgd")


def places(kind: str) -> dict[str, Place]:
    """Where each hyper-parameter of the model of that kind stands, by RecBole's name."""
    return {**ROWS, **(LATENT if kind == "l-diffrec" else {})}


def model_table(configuration: Configuration, metric: str, *, stops: bool) -> dict[str, Any]:
    """The ``[model]`` table of the recipe: the spec that RecBole's configuration describes.

    `metric` is ours to stop by, where training `stops` early. Raises `RecipeError` for a learner, activation or
    combination of options that is not there.
    """
    latent = configuration.kind == "l-diffrec"
    table: dict[str, Any] = {"kind": configuration.kind}
    for name, place in places(configuration.kind).items():
        if place.path.startswith("time_weights.") and not configuration["time-aware"]:
            continue
        for path, value in place.settings(configuration[name], latent=latent).items():
            table = set_path(table, path, value)
    table = set_path(table, "denoiser.layout", "straight")
    if configuration["noise_scale"] == 0:
        table = set_path(table, "objective.reweight", False)
    for path in ("optimizer", "autoencoder.optimizer")[: 2 if latent else 1]:
        table = set_path(table, f"{path}.name", _learner(configuration["learner"]))
        if configuration["clip_grad_norm"]:
            table = set_path(table, f"{path}.clip_norm", _clip(configuration["clip_grad_norm"], latent))
    if latent:
        _check_latent(configuration)
    every = configuration["eval_step"]
    if stops and every > 0:
        patience = (configuration["stopping_step"] + 1) * every + 1
        table["stopping"] = {"metric": metric, "every": every, "patience": patience}
    else:
        table["stopping"] = OFF
    return table


def _learner(name: str) -> str:
    if name.lower() not in _LEARNERS:
        raise RecipeError(
            f"learner must be one of {', '.join(_LEARNERS)}; saw {name!r}.{nearest(name, _LEARNERS)} RecBole's "
            "other optimizers are not there."
        )
    return name.lower()


def _clip(arguments: Any, latent: bool) -> float:
    known = {"max_norm", "norm_type"}
    if not isinstance(arguments, Mapping) or "max_norm" not in arguments or not known >= set(arguments):
        raise RecipeError(f"clip_grad_norm must be a table such as {{'max_norm': 5}}; saw {arguments!r}.")
    if arguments.get("norm_type", 2) != 2:
        raise RecipeError(
            f"clip_grad_norm can clip the 2-norm alone here; saw norm_type {arguments['norm_type']!r}. Leave it out."
        )
    if latent:
        raise RecipeError(
            "clip_grad_norm cannot be honoured for LDiffRec: RecBole clips the gradient of autoencoder and denoiser "
            "together, and here each has its own. Leave it out."
        )
    return float(arguments["max_norm"])


def _check_latent(configuration: Configuration) -> None:
    if not configuration["reweight"] or configuration["noise_scale"] == 0:
        raise RecipeError(
            "LDiffRec without reweight (which noise_scale 0 means as well) cannot be honoured: RecBole's loss stays "
            "λ·diffusion + autoencoder then, ours, the authors', becomes diffusion + λ·autoencoder. Leave reweight on."
        )
    if configuration["n_cate"] > 1 and (configuration["out_dims"] or len(configuration["in_dims"]) > 1):
        raise RecipeError(
            "n_cate above 1 can be honoured with one width in in_dims and none in out_dims: RecBole shares hidden "
            "widths out among clusters, ours do not. Leave the others out."
        )
