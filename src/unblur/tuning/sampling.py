"""Which point a study tries next: every one in turn, at random, or near the good ones.

A trial's point follows from the seed, its number and what the earlier trials came to, so a study that was killed
goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from unblur.errors import CapabilityError, SpecError, nearest
from unblur.randomness import streams
from unblur.tuning.space import Choice, Dimension, Point, point_at, size_of

Sampler: TypeAlias = Literal["exhaustive", "random", "bayes"]
SAMPLERS: tuple[Sampler, ...] = ("exhaustive", "random", "bayes")
MOST_SHUFFLED = 1_000_000
"""Spaces of up to so many points are drawn from without repeats."""


def check_sampler(sampler: str, space: Sequence[Dimension]) -> Sampler:
    """The sampler of that name. Raises `SpecError` where there is none, or where it cannot end."""
    for known in SAMPLERS:
        if sampler == known:
            if known == "exhaustive" and size_of(space) is None:
                endless = [dimension.name for dimension in space if dimension.all() is None]
                raise SpecError(
                    f"An exhaustive search needs a list of values for everything; {', '.join(endless)} has no end of "
                    "them. Search at random, or give choices."
                )
            return known
    raise SpecError(
        f"A sampler must be one of {', '.join(SAMPLERS)}; saw {sampler!r}.{nearest(sampler, SAMPLERS)}"
    )


def trials_in(sampler: Sampler, space: Sequence[Dimension], asked: int) -> int:
    """How many trials there will be: no more than there are points, but for ``bayes``, which may repeat."""
    size = size_of(space)
    if sampler == "bayes" or size is None or (sampler == "random" and size > MOST_SHUFFLED):
        return asked
    return min(asked, size)


def propose(
    sampler: Sampler,
    space: Sequence[Dimension],
    number: int,
    seed: int,
    finished: Sequence[tuple[Point, float | None]],
) -> dict[str, Any]:
    """The point of trial `number`, from 0; `finished` are all earlier trials with their values (`None`: failed)."""
    size = size_of(space)
    if sampler == "exhaustive":
        return point_at(space, number)
    if sampler == "random":
        if size is not None and size <= MOST_SHUFFLED:
            order = streams(seed, "points")["points"].permutation(size)
            return point_at(space, int(order[number]))
        places = streams(seed, f"point {number}")[f"point {number}"].random(len(space))
        return {
            dimension.name: dimension.values.at(float(place))
            for dimension, place in zip(space, places, strict=True)
        }
    return _near_the_good(space, number, seed, finished)


def trials_beside(first: Point | None, sampler: Sampler, space: Sequence[Dimension], asked: int) -> int:
    """As `trials_in`, where trial 0 is the point `first`, in the space or beside it."""
    beside = first is not None and _number_of(first, space) is None
    found = trials_in(sampler, space, asked)
    return min(asked, found + 1) if beside and found < asked else found


def propose_beside(
    first: Point | None,
    sampler: Sampler,
    space: Sequence[Dimension],
    number: int,
    seed: int,
    finished: Sequence[tuple[Point, float | None]],
) -> dict[str, Any]:
    """As `propose`, where trial 0 is the point `first`, which is not tried again where points are not repeated."""
    if first is None:
        return propose(sampler, space, number, seed, finished)
    if number == 0:
        return dict(first)
    turn, size, own = number - 1, size_of(space), _number_of(first, space)
    if own is not None and size is not None and sampler != "bayes":
        if sampler == "exhaustive":
            turn += turn >= own
        elif size <= MOST_SHUFFLED:
            order = streams(seed, "points")["points"].permutation(size)
            turn += turn >= int(np.flatnonzero(order == own)[0])
    known = finished if own is not None or size is None else finished[1:]
    return propose(sampler, space, turn, seed, known)


def _number_of(point: Point, space: Sequence[Dimension]) -> int | None:
    """The number of a point of a space (see `point_at`); `None` for one beside it, or where there is no end of them."""
    number = 0
    for dimension in space:
        values = dimension.all()
        if values is None or point[dimension.name] not in values:
            return None
        number = number * len(values) + values.index(point[dimension.name])
    return number


def _near_the_good(
    space: Sequence[Dimension],
    number: int,
    seed: int,
    finished: Sequence[tuple[Point, float | None]],
) -> dict[str, Any]:
    """Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011) on all that is finished."""
    try:
        import optuna
    except ImportError:
        raise CapabilityError(
            "The sampler bayes needs optuna, which is not installed. Install unblur[tune], or search at random."
        ) from None
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    optuna.logging.disable_default_handler()
    distributions: dict[str, BaseDistribution] = {}
    for dimension in space:
        values = dimension.values
        if isinstance(values, Choice):
            distributions[dimension.name] = CategoricalDistribution(tuple(range(len(values.values))))
        else:
            distributions[dimension.name] = FloatDistribution(0.0, 1.0)
    chance = int(streams(seed, f"point {number}")[f"point {number}"].integers(0, 2**31))
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=chance, n_startup_trials=10),
        storage=None,
    )
    choices = {each.name: each.values.values for each in space if isinstance(each.values, Choice)}
    for point, value in finished:
        if any(point[name] not in values for name, values in choices.items()):
            continue  # a value of the caller's own, of which the space says nothing
        study.add_trial(
            optuna.trial.create_trial(
                params={dimension.name: _place_of(dimension, point) for dimension in space},
                distributions=distributions,
                value=value,
                state=optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE,
            )
        )
    asked = study.ask(distributions).params
    return {
        dimension.name: dimension.values.values[asked[dimension.name]]
        if isinstance(dimension.values, Choice)
        else dimension.values.at(asked[dimension.name])
        for dimension in space
    }


def _place_of(dimension: Dimension, point: Point) -> int | float:
    """Where a value of a point lies: its number among the choices, or its place between 0 and 1."""
    values, value = dimension.values, point[dimension.name]
    if isinstance(values, Choice):
        return values.values.index(value)
    if values.low == values.high:
        return 0.5
    raw = float(np.log(value)) if values.logarithmic else float(value)
    return float(np.clip((raw - values.low) / (values.high - values.low), 0, 1))
