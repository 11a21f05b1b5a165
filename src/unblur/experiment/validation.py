"""What settings and epochs are chosen by, and what the strict protocol means.

Under ``paper`` a recipe's hyper-parameters stand, whatever data they were chosen on. The validation part of its split,
where it has one, says when a training ends, and its items are left out of the lists.

Under ``strict`` nothing is chosen on test data. Given parts with a named validation part are put in the order of time:
the latest is held out, all before it is learned from. A training ends by the last interactions of each user, as many as
that part had, which it carves out of train itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unblur.data.interactions import Interactions
from unblur.data.splits.sets import Split
from unblur.data.splits.specs import Files, Splitting
from unblur.randomness import RNG
from unblur.spec import replace_field


def divided(
    splitting: Splitting, model: Any, parts: Mapping[str, Interactions], kind: str, rng: RNG
) -> tuple[Split, Any]:
    """The split that a protocol makes of the parts of the data, and the spec with what its training stops by."""
    if kind == "strict" and isinstance(splitting, Files) and splitting.validation:
        split = splitting.in_order(parts)
        share = 1 - parts[splitting.train].n_interactions / split.train.n_interactions
        return split, stopped_in_time(model, round(share, 3))
    return splitting.apply(parts, rng), model


def stopped_in_time(model: Any, fraction: float) -> Any:
    """The spec whose training is judged by this share of each user's interactions, the last; any other as it is."""
    if getattr(model, "stopping", None) is None:
        return model
    return replace_field(replace_field(model, "stopping.carve", "last"), "stopping.fraction", fraction)
