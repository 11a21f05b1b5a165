"""Train, validation and test part out of one log, by shares or by leaving one out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unblur.data.interactions import Interactions
from unblur.data.splits.sets import Split, times_of
from unblur.errors import DataError
from unblur.randomness import RNG, generator

Order: TypeAlias = Literal["random", "time"]
Sizes: TypeAlias = Callable[[NDArray[np.int64]], tuple[NDArray[np.int64], NDArray[np.int64]]]


def by_ratio(
    data: Interactions,
    *,
    validation: float,
    held_out: float,
    order: Order = "random",
    by: Literal["user", "all"] = "user",
    rng: RNG | None = None,
) -> Split:
    """Cut each user's interactions (or, `by` all, the whole log) into train, validation and held-out part.

    `validation` and `held_out` are shares of the whole; sizes are rounded down, but a share above 0 is given at
    least one interaction, first of held-out items, as long as one is left to train. Interactions are put in
    random `order`, drawn from `rng`, or in that of time; train comes first, the held-out part last. Equal times
    keep the order of item positions. With a `validation` of 0 there is no such part.

    Raises `DataError` for shares that leave nothing to train or hold nothing out, and for an order in time
    without timestamps.
    """
    if not (validation >= 0 and held_out > 0 and validation + held_out < 1):
        raise DataError(
            "`validation` and `held_out` must be shares of the whole, the second above 0, that leave something to "
            f"train; saw {validation!r} and {held_out!r}. Give, say, 0.1 and 0.1."
        )

    def sizes(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        last, middle = (np.floor(share * counts + 1e-9).astype(np.int64) for share in (held_out, validation))
        spare = counts - last - middle
        more = (last == 0) & (spare > 1)
        last, spare = last + more, spare - more
        middle = middle + ((middle == 0) & (spare > 1) & (validation > 0))
        return middle, last

    shares = f"{1 - validation - held_out:.0%} : {validation:.0%} : {held_out:.0%}"
    whose = "per user" if by == "user" else "over the whole log"
    return _cut(data, sizes, order, by, rng, f"{shares} {_ORDERS[order]}, {whose}")


def leave_one_out(
    data: Interactions, *, order: Order = "time", validation: bool = True, rng: RNG | None = None
) -> Split:
    """Hold out each user's last interaction, and leave the one before it to validation.

    One interaction always stays in train, so users with two have none in the validation part, and users with
    one nothing held out. `order` and errors are those of `by_ratio`; without `validation` there is no such part.
    """

    def sizes(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        last = (counts > 1).astype(np.int64)
        return ((counts > 2) & validation).astype(np.int64), last

    what = "one of each user held out" + (", one left to validation" if validation else "")
    return _cut(data, sizes, order, "user", rng, f"{what}, {_ORDERS[order]}")


_ORDERS = {"random": "at random", "time": "in the order of time"}


def _cut(
    data: Interactions,
    sizes: Sizes,
    order: Order,
    by: Literal["user", "all"],
    rng: RNG | None,
    method: str,
) -> Split:
    """Put interactions in order within their groups, and cut each group as `sizes` says."""
    priority = times_of(data) if order == "time" else generator(rng).random(data.n_interactions)
    groups = data.rows() if by == "user" else np.zeros(data.n_interactions, dtype=np.int32)
    counts = data.user_degrees if by == "user" else np.array([data.n_interactions], dtype=np.int64)
    middle, last = sizes(counts)
    arranged = np.lexsort((priority, groups))
    starts = np.cumsum(counts) - counts
    place = np.arange(data.n_interactions) - np.repeat(starts, counts)
    part = np.zeros(data.n_interactions, dtype=np.int8)  # 0 train, 1 validation, 2 held out
    part[arranged] = (place >= np.repeat(counts - last - middle, counts)).astype(np.int8) + (
        place >= np.repeat(counts - last, counts)
    )
    train, aside = data.keep(part == 0), data.keep(part == 1)
    return Split(
        train,
        train,
        data.keep(part == 2),
        method,
        validation=aside if aside.n_interactions else None,
    )
