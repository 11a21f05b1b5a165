"""Simple synthesizers that any other must beat."""

from __future__ import annotations

from unblur.synthesis.samplers.diffrec_sampler import DiffRecSampler as DiffRecSampler
from unblur.synthesis.samplers.simple import (
    CooccurrenceWalk as CooccurrenceWalk,
    FlippedUsers as FlippedUsers,
    IndependentItems as IndependentItems,
)
