"""Splits: what is learned from, what the recommender is shown, and what it must recover."""

from __future__ import annotations

from unblur.data.splits.holding_out import by_time as by_time
from unblur.data.splits.holding_out import by_user as by_user
from unblur.data.splits.holding_out import hold_out as hold_out
from unblur.data.splits.holding_out import hold_out_block as hold_out_block
from unblur.data.splits.holding_out import k_core as k_core
from unblur.data.splits.holding_out import leave_last as leave_last
from unblur.data.splits.sets import Split as Split
from unblur.data.splits.sets import from_files as from_files
from unblur.data.splits.sets import joined_items as joined_items
from unblur.data.splits.sets import later_share as later_share
from unblur.data.splits.sets import together as together
from unblur.data.splits.three_parts import Order as Order
from unblur.data.splits.three_parts import by_ratio as by_ratio
from unblur.data.splits.three_parts import leave_one_out as leave_one_out
