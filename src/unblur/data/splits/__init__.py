"""Splits: what is learned from, what the recommender is shown, and what it must recover.

A way to split is a spec, with its code in `apply`: ``Random(fraction=0.1).apply(data, rng=0)``.
"""

from __future__ import annotations

from unblur.data.splits.sets import Split as Split
from unblur.data.splits.sets import joined_items as joined_items
from unblur.data.splits.sets import k_core as k_core
from unblur.data.splits.sets import together as together
from unblur.data.splits.specs import Block as Block
from unblur.data.splits.specs import Files as Files
from unblur.data.splits.specs import LeaveLast as LeaveLast
from unblur.data.splits.specs import LeaveOneOut as LeaveOneOut
from unblur.data.splits.specs import Random as Random
from unblur.data.splits.specs import Ratio as Ratio
from unblur.data.splits.specs import Time as Time
from unblur.data.splits.specs import Users as Users
