"""Random numbers, always through a keyword `rng`; nothing here or elsewhere touches a global seed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch

RNG: TypeAlias = int | np.random.SeedSequence | np.random.Generator
"""The values of a keyword `rng`: a seed, a seed sequence, or a generator (the name is that of SPEC 7)."""


def generator(rng: RNG | None) -> np.random.Generator:
    """Return a NumPy generator; one that is passed is returned itself, and `None` draws fresh entropy."""
    return np.random.default_rng(rng)


def streams(rng: RNG | None, *purposes: str) -> dict[str, np.random.Generator]:
    """Return independent generators by purpose.

    A purpose's stream depends on `rng` and on its name alone, so adding a purpose never shifts another.
    """
    if isinstance(rng, np.random.Generator):
        rng = int(rng.integers(0, 2**63))
    root = rng if isinstance(rng, np.random.SeedSequence) else np.random.SeedSequence(rng)
    generators = {}
    for purpose in purposes:
        words = np.frombuffer(hashlib.sha256(purpose.encode()).digest()[:16], dtype=np.uint32)
        key = tuple(int(word) for word in (*root.spawn_key, *words))
        generators[purpose] = np.random.default_rng(np.random.SeedSequence(root.entropy, spawn_key=key))
    return generators


def torch_generator(rng: RNG | None, device: str = "cpu") -> torch.Generator:
    """Return a torch generator on `device`, seeded from `rng`; torch is imported here and not before."""
    import torch

    return torch.Generator(device=device).manual_seed(int(generator(rng).integers(0, 2**63)))
