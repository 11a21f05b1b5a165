"""Validation data for settings and epochs, and the meaning of the strict protocol.

Under ``paper`` a recipe's hyper-parameters stand, whatever data they were chosen on. The validation part of its split, if
it has one, decides when training stops, and its items are left out of the lists.

Under ``strict`` nothing is chosen on test data:

- Given parts with a named validation part are put in the order of time (`Files.in_order`): the latest part is held out,
  and everything before it is training data. Such parts need times; any other split may do without.
- Hyper-parameters are chosen by the search of the recipe (section ``search``), unless there is nothing to search.
- The chosen setting is fitted to all of train. If there are times, its training stops by each user's last interactions,
  carved out of train, as large a fraction as the named validation part has; otherwise by those that its spec names.

Every search (of ``tune``, ``compare`` or the strict protocol) judges settings on interactions held out of train, or on the
validation part of the split:

| ``search.validation.how`` | held out |
|---|---|
| ``part`` | the validation part of the split |
| ``last`` | the last of each user's train interactions in time |
| ``random`` | random ones of each user |
| ``block`` | a contiguous run of each user's, in label order |
| ``both`` | ``random``, and ``block`` |
| left out | ``part`` if the split has one, else ``last`` under ``strict`` with times, else ``random`` |

``fraction`` (0.1) is the fraction of each user's interactions, ``draws`` (1) the number of draws, whose mean is the value
of a setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from unblur.data.interactions import Interactions
from unblur.data.splits import Block, Files, Random, Split, Splitting, Time
from unblur.errors import RecipeError
from unblur.fitted import FittedSpec
from unblur.randomness import RNG, streams
from unblur.spec import replace_field
from unblur.training.settings import Stopping
from unblur.training.stopping import hold_out
from unblur.tuning.settings import Validation


def split_for(
    splitting: Splitting, parts: Mapping[str, Interactions], strict: bool, rng: RNG
) -> tuple[Split, float | None]:
    """The split of the parts under a protocol, and the fraction of its train part that a named validation part is."""
    if strict and isinstance(splitting, Files) and splitting.validation:
        split = splitting.in_order(parts)
        # Rounded to the digits that reports and saved specs show: the fraction that is carved is the one that they name.
        return split, round(1 - parts[splitting.train].n_interactions / split.train.n_interactions, 3)
    return splitting.apply(parts, rng), None


def default_split(log: Interactions, fraction: float = 0.2) -> tuple[Splitting, str]:
    """The split of a log without parts if its user says no more than the fraction, and what it holds out in words.

    By time if it has times, since a model is for the days to come: a random split lets it learn from the future (Meng et
    al., Exploring Data Splitting Strategies for the Evaluation of Recommendation Models, RecSys 2020). One moment for all
    is the time of an import, and no order.
    """
    if log.timestamps is not None and len(log.timestamps) and np.ptp(log.timestamps) > 0:
        words = f"the latest {fraction:.0%} of its interactions were held out (split.kind=random: random items of each user)"
        return Time(fraction=fraction), words
    return Random(fraction=fraction), f"a random {fraction:.0%} of each user's items was held out"


def with_stopping_in_time(model: FittedSpec, train: Interactions, share: float | None) -> FittedSpec:
    """The spec under the strict protocol: if there are times, its training stops by each user's last interactions.

    `share` is the fraction of them, by default the spec's own.
    """
    if train.timestamps is None or not stops_by_interactions(model):
        return model
    model = replace_field(model, "stopping.hold_out", "last")
    return model if share is None else replace_field(model, "stopping.fraction", share)


def stops_by_interactions(model: FittedSpec) -> bool:
    """Return whether training stops by a ranking metric on held-out interactions, not by a loss on held-out users."""
    return any(plan.stopping is not None for plan in model.plans().values())


@dataclass(frozen=True, eq=False)
class HoldOuts:
    """The splits that settings are fitted to and judged on."""

    splits: tuple[Split, ...]
    """Only `train` and `held_out` of each are used; none has test data."""
    how: str
    """Their origin, in words for the report."""


def hold_outs(split: Split, settings: Validation, strict: bool, seed: int) -> HoldOuts:
    """Hold interactions out of the train part of a split as `settings` say, or take its validation part.

    Raises `RecipeError` for a part that the split does not have and for several draws of what is not drawn, and
    `DataError` if nothing can be held out.
    """
    train, part, how = split.train, split.validation, settings.how
    if how is None:
        timed = strict and train.timestamps is not None
        how = "part" if part is not None else "last" if timed else "random"
    RecipeError.unless(
        settings.draws == 1 or how not in ("part", "last"),
        f"Only validation data that are drawn at random can be drawn several times; how = {how!r} is not, and draws is "
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
    rng = streams(seed, "validation")["validation"]
    if how == "last":
        stopping = Stopping(hold_out="last", fraction=settings.fraction)
        return HoldOuts((hold_out(train, stopping, rng),), f"the last {share}")
    methods_by_name = {"random": ("a random", Random), "block": ("a contiguous", Block)}
    methods = list(methods_by_name.values()) if how == "both" else [methods_by_name[how]]
    draws = [
        splitting(fraction=settings.fraction).apply(train, rng)
        for _, splitting in methods
        for _ in range(settings.draws)
    ]
    parts_in_words = " and ".join(f"{word} {share}" for word, _ in methods)
    times = f", {settings.draws} times" if settings.draws > 1 else ""
    spread = ", ".join(f"{dispersion(draw.train, draw.held_out):.2f}" for draw in draws)
    return HoldOuts(
        tuple(draws), f"{parts_in_words}{times}, item dispersion {spread} (1 for independent draws)"
    )


def dispersion(train: Interactions, held_out: Interactions, *, min_interactions: int = 20) -> float:
    """The unevenness with which items were held out: 1 if each interaction was held out by an independent draw.

    The standard deviation over items of ``z = (h − f·t) / √(t·f·(1−f))``, with h of an item's t interactions held
    out and f the fraction held out overall, over items with at least `min_interactions` interactions; 0 if there are no
    such items. The default is chosen by hand: for items with few interactions z takes only a few values.
    """
    total = train.item_degrees + held_out.item_degrees
    share = held_out.n_interactions / max(1, train.n_interactions + held_out.n_interactions)
    frequent = total >= min_interactions
    if not frequent.any() or not 0 < share < 1:
        return 0.0
    z = (held_out.item_degrees[frequent] - share * total[frequent]) / np.sqrt(
        total[frequent] * share * (1 - share)
    )
    return float(np.sqrt(np.mean(z**2)))
