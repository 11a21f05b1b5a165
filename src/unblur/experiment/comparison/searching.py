"""The search of each model: what it may cost, what it is judged on, what is tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unblur.data.splits import Random
from unblur.data.splits.sets import Split
from unblur.errors import RecipeError
from unblur.experiment.ranking import PreparedSplit
from unblur.randomness import streams
from unblur.spec import replace_field
from unblur.tuning.pruning import Pruner
from unblur.tuning.space import SPACES, Dimension, dimensions_of, point_of
from unblur.tuning.study import Study
from unblur.tuning.trials import own_space

SET_ASIDE = 0.1
"""The share of each user's train interactions that settings are judged on, where no validation part is given."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the search of each model may cost; nothing is searched where both are 0.

    The first setting is the model as it is given. With both numbers a search ends with whichever is reached first.
    """

    trials: int = 0
    """The most settings; 0 for any number."""
    seconds: float = 0.0
    """How long at most, the trial under way being finished; 0 for any time."""
    pruner: Pruner = "none"
    """Which trainings are ended early (`unblur.tuning.pruning`); with one, so is that under way when time is over."""

    def __post_init__(self) -> None:
        if self.trials < 0 or not 0 <= self.seconds < math.inf:
            raise RecipeError(
                f"A budget is a number of trials, of seconds, or both, not below 0; saw {self.trials} and {self.seconds}. "
                "Correct it."
            )

    def __bool__(self) -> bool:
        return bool(self.trials or self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the pruner only where there is one."""
        made: dict[str, Any] = {"trials": self.trials, "seconds": self.seconds}
        return made if self.pruner == "none" else {**made, "pruner": self.pruner}


def judged_on(prepared: PreparedSplit) -> tuple[Split, str]:
    """What settings are fitted to and judged on, as train and held-out part, and where it comes from in words."""
    split, strict = prepared.split, prepared.recipe.protocol.kind == "strict"
    if split.validation is not None:
        return Split(
            split.train, split.train, split.validation, "validation part"
        ), "the validation part of the split"
    random = streams(prepared.recipe.seed, "validation")["validation"]
    if strict and split.train.timestamps is not None:
        from unblur.training.settings import Stopping
        from unblur.training.stopping import carve

        made = carve(split.train, Stopping(carve="last", fraction=SET_ASIDE), random)
        return made, f"the last {SET_ASIDE:.0%} in time of each user's train interactions"
    made = Random(fraction=SET_ASIDE).apply(split.train, random)
    return made, f"a random {SET_ASIDE:.0%} of each user's train interactions"


def searched(
    spec: Any, split: Split, changes: Mapping[str, Sequence[Any]] | None = None
) -> tuple[Dimension, ...]:
    """What is searched of a model; nothing for a kind without hyper-parameters. Raises `SpecError` for an empty range."""
    if not (changes or own_space(spec) or SPACES.get(spec.kind)):
        return ()
    found = dimensions_of(spec, changes, train=split.train)
    without: set[str] = set()
    if spec.kind == "bspm" and (spec.sharpen is None or spec.low_pass is None):
        without.add("merge")  # says when the low-pass is added: before or after sharpening
    if spec.kind == "bspm" and spec.sharpen is None and spec.blur.steps == 1:
        without.add("output")  # a path of one state has the last for its mean
    return tuple(dimension for dimension in found if dimension.name not in without)


def fits(spec: Any, space: Sequence[Dimension], split: Split) -> bool:
    """Whether the model as given can be fitted at all: no searched rank of it exceeds the smaller side of the matrix."""
    smaller = min(split.train.n_users, split.train.n_items)
    point = point_of(spec, space)
    return all(int(value) <= smaller for name, value in point.items() if name.rpartition(".")[2] == "rank")


def stopping_in_time(spec: Any, prepared: PreparedSplit) -> Any:
    """Under the strict protocol, where there are times: the spec that stops by each user's last interactions."""
    timed = prepared.recipe.protocol.kind == "strict" and prepared.split.train.timestamps is not None
    if not timed or getattr(spec, "stopping", None) is None:
        return spec
    return replace_field(replace_field(spec, "stopping.carve", "last"), "stopping.fraction", SET_ASIDE)


def searched_in_words(found: Study) -> dict[str, Any]:
    """A study as plain values, for a result."""
    values = [trial.value for trial in found.trials if trial.value is not None]
    return {
        "trials": len(found.trials),
        "failed": len(found.trials) - len(values),
        "value": max(values),
        "seconds": float(np.sum([trial.seconds for trial in found.trials])),
        "how": found.how,
        "searched": [dimension.name for dimension in found.space],
    }


def in_words(budget: Budget, sampler: str) -> str:
    """A budget for a person."""
    if not budget:
        return "settings as given"
    trials, seconds = f"{budget.trials:,} settings", f"{budget.seconds:g} seconds"
    much = f"{trials} or {seconds}, whichever ends first," if budget.trials and budget.seconds else ""
    much = much or (trials if budget.trials else seconds)
    ended = "" if budget.pruner == "none" else f", pruner {budget.pruner}"
    return f"{much} for each model, the first of them the model as given; sampler {sampler}{ended}"
