"""Simple recommenders that any other must beat."""

from __future__ import annotations

from unblur.baselines.ease import EASE as EASE
from unblur.baselines.popularity import Popularity as Popularity
