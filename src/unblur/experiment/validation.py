"""What settings and epochs are chosen by, and what the strict protocol means.

Under ``paper`` a recipe's hyper-parameters stand, whatever data they were chosen on. The validation part of its split, if
it has one, says when a training ends, and its items are left out of the lists.

Under ``strict`` nothing is chosen on test data:

- Given parts with a named validation part are put in the order of time (`Files.in_order`): the latest is held out, all
  before it is learned from. Without times they are refused; any other split may do without times.
- Hyper-parameters are chosen by the search of the recipe (section ``search``), unless there is nothing to search.
- The chosen setting is fitted to all of train. If there are times, its training ends by the last interactions of each
  user, carved out of train, as many as the named validation part has; otherwise by those that its spec says.

A search, whoever asks for it (``tune``, ``compare`` or the strict protocol), judges settings on interactions held out of
train, or on the validation part of the split:

| ``search.validation.how`` | held out |
|---|---|
| ``part`` | the validation part of the split |
| ``last`` | the last of each user's train interactions in time |
| ``random`` | random ones of each user |
| ``block`` | a contiguous run of each user's, in label order |
| ``both`` | ``random``, and ``block`` |
| left out | ``part`` if the split has one, else ``last`` under ``strict`` with times, else ``random`` |

The share is ``fraction``, .1, and `draws`, 1, says how often interactions are drawn: a setting is worth the mean over all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from unblur.data.interactions import Interactions
from unblur.data.splits import Block, Files, Random, Split, Splitting
from unblur.errors import RecipeError
from unblur.fitted import FittedSpec
from unblur.randomness import RNG, streams
from unblur.spec import replace_field
from unblur.training.settings import Stopping
from unblur.training.stopping import carve
from unblur.tuning.settings import Validation


def divided(
    splitting: Splitting, parts: Mapping[str, Interactions], strict: bool, rng: RNG
) -> tuple[Split, float | None]:
    """The split of the parts under a protocol, and the share that a named validation part has of what is learned from."""
    if strict and isinstance(splitting, Files) and splitting.validation:
        split = splitting.in_order(parts)
        return split, round(1 - parts[splitting.train].n_interactions / split.train.n_interactions, 3)
    return splitting.apply(parts, rng), None


def stopped_in_time(model: FittedSpec, train: Interactions, share: float | None) -> FittedSpec:
    """The spec under the strict protocol: its training is judged by each user's last interactions, if there are times.

    `share` is how many of them; what the spec says if it is `None`.
    """
    if train.timestamps is None or not stops_by_interactions(model):
        return model
    model = replace_field(model, "stopping.carve", "last")
    return model if share is None else replace_field(model, "stopping.fraction", share)


def stops_by_interactions(model: FittedSpec) -> bool:
    """Whether training ends by what is found again of held-out interactions, and not by an error on users."""
    return any(plan.stopping is not None for plan in model.plans().values())


@dataclass(frozen=True, eq=False)
class HoldOuts:
    """What settings are fitted to and judged on."""

    splits: tuple[Split, ...]
    """Of each, `train` and `held_out`; none has test data."""
    how: str
    """Where they come from, in words."""


def hold_outs(split: Split, settings: Validation, strict: bool, seed: int) -> HoldOuts:
    """What `settings` hold out of the train part of a split, or its validation part.

    Raises `RecipeError` for a part that the split does not have and for several draws of what there is one of, and
    `DataError` where nothing can be held out.
    """
    train, part, how = split.train, split.validation, settings.how
    if how is None:
        timed = strict and train.timestamps is not None
        how = "part" if part is not None else "last" if timed else "random"
    RecipeError.unless(
        settings.draws == 1 or how not in ("part", "last"),
        f"Validation data that are drawn can be drawn again; those of how = {how!r} are one, saw draws = "
        f"{settings.draws}. Leave search.validation.draws out, or give another how.",
    )
    share = f"{settings.fraction:.0%} of each user's train interactions"
    if how == "part":
        if part is None:
            raise RecipeError(
                f"search.validation.how=part needs a validation part; the split ({split.method}) has none. Give "
                "another, such as random."
            )
        return HoldOuts((Split(train, train, part, "validation part"),), "the validation part of the split")
    random = streams(seed, "validation")["validation"]
    if how == "last":
        last = carve(train, Stopping(carve="last", fraction=settings.fraction), random)
        return HoldOuts((last,), f"the last {share}")
    kinds = {"random": ("a random", Random), "block": ("a contiguous", Block)}
    chosen = list(kinds.values()) if how == "both" else [kinds[how]]
    draws = [
        splitting(fraction=settings.fraction).apply(train, random)
        for _, splitting in chosen
        for _ in range(settings.draws)
    ]
    said = " and ".join(f"{word} {share}" for word, _ in chosen)
    times = f", {settings.draws} times" if settings.draws > 1 else ""
    spread = ", ".join(f"{dispersion(one.train, one.held_out):.2f}" for one in draws)
    return HoldOuts(tuple(draws), f"{said}{times}, item dispersion {spread} (1 for independent draws)")


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
