"""Search spaces of kinds whose specs do not say theirs yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DIFFUSION: Mapping[str, tuple[Any, ...]] = {
    "optimizer.learning_rate": (1e-3, 5e-4, 1e-4, 5e-5, 1e-5),
    "denoiser.dims": ([300], [1000], [200, 600]),
    "schedule.steps": (2, 5, 10, 40),
    "schedule.scale": (0.0001, 0.001, 0.005, 0.01, 0.1, 0.5),
    "schedule.lowest": (0.0005, 0.001, 0.005),
    "schedule.highest": (0.006, 0.01, 0.02),
    "objective.reweight": (True, False),
    "time_weights.oldest": (0.1, 0.3, 0.5),
}
_MULTINOMIAL: Mapping[str, tuple[Any, ...]] = {
    "optimizer.learning_rate": (3e-3, 1e-3, 3e-4),
    "optimizer.weight_decay": (0.0, 1e-5, 1e-4, 1e-3),
    "dims": ([200], [600, 200]),
    "dropout": (0.2, 0.5, 0.7),
}
SPACES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "diffrec": _DIFFUSION,
    "l-diffrec": {
        **_DIFFUSION,
        "denoiser.dims": ([300], [1000]),
        "autoencoder.optimizer.learning_rate": (1e-3, 5e-4, 1e-4),
        "autoencoder.diffusion_weight": (0.03, 0.05, 0.1),
        "clusters.count": (1, 2, 3),
    },
    "mult-dae": _MULTINOMIAL,
    "mult-vae": {**_MULTINOMIAL, "kl_weight": (0.0, 0.1, 0.2, 0.5, 1.0)},
    "lightgcn": {
        "optimizer.learning_rate": (3e-3, 1e-3, 5e-4),
        "ridge": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
        "layers": (1, 2, 3, 4),
        "width": (32, 64, 128),
    },
    "neumf": {
        "optimizer.learning_rate": (3e-3, 1e-3, 3e-4),
        "factors": (8, 16, 32, 64),
        "dropout": (0.0, 0.2, 0.5),
        "negatives": (1, 4),
    },
    "row-mlp": {
        "optimizer.learning_rate": (1e-3, 3e-4, 1e-4),
        "dropout": (0.2, 0.5),
        "dims": ([256], [512, 256, 256]),
    },
    "truncated-svd": {"rank": (8, 16, 20, 32, 64, 128, 256)},
}
"""By kind. Those of the diffusion models: the values of the authors' published settings (Wang et al., SIGIR 2023) and
those between."""
