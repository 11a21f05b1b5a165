"""Which recommenders an audit teaches."""

from __future__ import annotations

from unblur.data.interactions import Interactions
from unblur.models.linear.ease import EASE
from unblur.models.linear.truncated_svd import TruncatedSVD
from unblur.models.popularity import Popularity
from unblur.recommender import RecommenderSpec

RANK = 20
"""Of the decomposition: that of the SDRM paper, where the sets allow it."""
MOST_ITEMS = 5000
"""The largest catalogue that EASE is taught on, whose memory grows with its square."""


def taught_recommenders(train: Interactions, synthetic: Interactions) -> tuple[RecommenderSpec, ...]:
    """Popularity, a decomposition, and EASE where the catalogue is not too large for it."""
    fewest = min(int((part.user_degrees > 0).sum()) for part in (train, synthetic))
    rank = min(RANK, train.n_items - 1, fewest - 1)
    made: list[RecommenderSpec] = [Popularity()]
    if rank > 0:
        made.append(TruncatedSVD(rank=rank))
    if train.n_items <= MOST_ITEMS:
        made.append(EASE())
    return tuple(made)
