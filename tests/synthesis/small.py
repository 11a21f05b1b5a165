"""Settings with which each kind of synthesizer is fitted to the shared log of 51 users × 31 items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.guards.settings import DIFFUSION, PUBLISHED_DIFFUSION, VAE

PRIVATE: Mapping[str, Any] = {
    "vae": {**VAE, "stopping": None, "prior": "standard"},
    "diffusion": {**DIFFUSION, "objective": "noise", "output": "tanh", "standardized": False},
    "privacy": {"epsilon": 8.0, "delta": 1e-3},
}
DIFFREC: Mapping[str, Any] = {
    "model": {
        "epochs": 2,
        "batch_size": 32,
        "denoiser": {"dims": [8]},
        "schedule": {"steps": 3, "scale": 0.1},
        "sampling": {"start_steps": 3, "noise": True},
        "stopping": None,
    }
}

SPECS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "sdrm-full": ("sdrm", {"vae": VAE, "diffusion": DIFFUSION}),
    "sdrm-multi-resolution": (
        "sdrm",
        {
            "vae": VAE,
            "diffusion": {**DIFFUSION, **PUBLISHED_DIFFUSION},
            "sampling": "multi-resolution",
            "discretization": {"rule": "user-counts"},
        },
    ),
    "sdrm-noise": (
        "sdrm",
        {
            "vae": VAE,
            "diffusion": {**DIFFUSION, "objective": "noise", "output": "identity"},
            "discretization": {"rule": "zero-threshold"},
        },
    ),
    "sdrm-private": ("sdrm", PRIVATE),
    "sdrm-paper": (
        "sdrm",
        {
            "vae": {**VAE, "prior": "standard"},
            "diffusion": {**DIFFUSION, **PUBLISHED_DIFFUSION},
            "discretization": {"rule": "equal-sparsity"},
        },
    ),
    "vae-sampler": ("vae-sampler", {"vae": VAE, "discretization": {"rule": "raw"}}),
    "vae-sampler-standard": (
        "vae-sampler",
        {"vae": {**VAE, "prior": "standard"}, "discretization": {"rule": "equal-sparsity", "per": "user"}},
    ),
    "independent-items": ("independent-items", {}),
    "independent-items-free": ("independent-items", {"counts": "free"}),
    "flipped-users": ("flipped-users", {}),
    "cooccurrence-walk": ("cooccurrence-walk", {}),
    "diffrec-sampler": ("diffrec-sampler", DIFFREC),
}
"""The kind and settings of each tested spec, by a name for it."""
