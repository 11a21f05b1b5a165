"""The best items of each row: top-k lists as a table, and the explanation of one score."""

from __future__ import annotations

from unblur.ranking.lists import (
    Excluded,
    Explanation,
    Ranking,
    excluded_rows,
    rank_rows,
    tie_ranks,
    top_k,
)

__all__ = ["Excluded", "Explanation", "Ranking", "excluded_rows", "rank_rows", "tie_ranks", "top_k"]
