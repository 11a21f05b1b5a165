"""The best items of each row: top-k lists as a table, what they may hold, and the explanation of one score."""

from __future__ import annotations

from unblur.ranking.lists import (
    NOT_FINITE,
    Excluded,
    Explanation,
    Ranking,
    excluded_rows,
    rank_rows,
    tie_ranks,
    top_k,
)
from unblur.ranking.selection import BY_SCORE, Chooser, Selection

__all__ = [
    "BY_SCORE",
    "NOT_FINITE",
    "Chooser",
    "Excluded",
    "Explanation",
    "Ranking",
    "Selection",
    "excluded_rows",
    "rank_rows",
    "tie_ranks",
    "top_k",
]
