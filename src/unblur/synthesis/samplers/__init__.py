"""Simple synthesizers that any other must beat."""

from __future__ import annotations

from unblur.synthesis.samplers.cooccurrence_walk import CooccurrenceWalk as CooccurrenceWalk
from unblur.synthesis.samplers.diffrec_sampler import DiffRecSampler as DiffRecSampler
from unblur.synthesis.samplers.flipped_users import FlippedUsers as FlippedUsers
from unblur.synthesis.samplers.independent_items import IndependentItems as IndependentItems
