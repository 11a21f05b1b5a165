"""Validation data taken out of train, and how they differ from test data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from unblur.data.interactions import Interactions
from unblur.data.splits.sets import Split
from unblur.data.splits.specs import Block, Random
from unblur.errors import DataError, nearest
from unblur.randomness import RNG, streams

HoldOutKind: TypeAlias = Literal["random", "block"]


@dataclass(frozen=True, eq=False)
class HoldOut:
    """One way and one draw of holding interactions out of train."""

    kind: HoldOutKind
    """``random``: random items of each user. ``block``: a contiguous run of each user's items in label order."""
    draw: int
    """Which draw, from 0."""
    split: Split
    """What stays in train, and what was held out of it."""

    @property
    def name(self) -> str:
        """``random 0``, ``block 1``."""
        return f"{self.kind} {self.draw}"


def hold_outs(
    train: Interactions, *, kinds: Sequence[HoldOutKind], draws: int, fraction: float, rng: RNG | None
) -> list[HoldOut]:
    """`draws` hold-outs of each kind, each independent of which others are asked for."""
    if not kinds or draws < 1:
        raise DataError(
            f"There must be at least one hold-out; saw {len(kinds)} kinds and {draws} draws. Ask for some."
        )
    splits = {"random": Random(fraction=fraction), "block": Block(fraction=fraction)}
    for kind in kinds:
        if kind not in splits:
            raise DataError(f"A hold-out is one of {', '.join(splits)}; saw {kind!r}.{nearest(kind, splits)}")
    names = [(kind, draw) for kind in kinds for draw in range(draws)]
    random = streams(rng, *(f"{kind} {draw}" for kind, draw in names))
    return [HoldOut(kind, draw, splits[kind].apply(train, random[f"{kind} {draw}"])) for kind, draw in names]


def dispersion(kept: Interactions, held: Interactions, *, least: int = 20) -> float:
    """How unevenly items were held out: 1 where each interaction was held out by an independent draw.

    The standard deviation over items of ``z = (h − f·t) / √(t·f·(1−f))``, with h of an item's t interactions held
    out and f the share held out overall, over items with at least `least` interactions. NaN-free: 0 where there
    are no such items.
    """
    total = kept.item_degrees + held.item_degrees
    share = held.n_interactions / max(1, kept.n_interactions + held.n_interactions)
    known = total >= least
    if not known.any() or not 0 < share < 1:
        return 0.0
    z = (held.item_degrees[known] - share * total[known]) / np.sqrt(total[known] * share * (1 - share))
    return float(np.sqrt(np.mean(z**2)))
