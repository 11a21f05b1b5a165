"""Simple synthesizers that any other must beat."""

from __future__ import annotations

from unblur.synthesis.baselines.cooccurrence_walk import CooccurrenceWalk as CooccurrenceWalk
from unblur.synthesis.baselines.diffrec_sampler import DiffRecSampler as DiffRecSampler
from unblur.synthesis.baselines.flipped_users import FlippedUsers as FlippedUsers
from unblur.synthesis.baselines.independent_items import IndependentItems as IndependentItems
