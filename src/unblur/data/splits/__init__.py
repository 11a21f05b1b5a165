"""Splits: what is learned from, what the recommender is shown, and what it must recover.

A way to split is a spec, with its code in `apply`: ``Random(fraction=0.1).apply(data, rng=0)``.
"""

from __future__ import annotations

from unblur.data.splits.sets import Split, joined_items, k_core, together
from unblur.data.splits.specs import Block, Files, LeaveLast, LeaveOneOut, Random, Ratio, Time, Users

__all__ = [
    "Block",
    "Files",
    "LeaveLast",
    "LeaveOneOut",
    "Random",
    "Ratio",
    "Split",
    "Time",
    "Users",
    "joined_items",
    "k_core",
    "together",
]
