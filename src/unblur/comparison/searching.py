"""The search of each model: what it may cost, what it is judged on, what is tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unblur.errors import RecipeError
from unblur.experiment import Prepared
from unblur.randomness import streams
from unblur.spec import replace_field
from unblur.splitting import Split, hold_out
from unblur.tuning import SPACES, Dimension, Study, dimensions_of

SET_ASIDE = 0.1
"""The share of each user's train interactions that settings are judged on, where no validation part is given."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What the search of each model may cost; nothing is searched where both are 0."""

    trials: int = 0
    """How many settings."""
    seconds: float = 0.0
    """Or how long; the trial under way is finished."""

    def __post_init__(self) -> None:
        if self.trials < 0 or self.seconds < 0 or (self.trials and self.seconds):
            raise RecipeError(
                f"A budget is a number of trials or of seconds, not both; saw {self.trials} and {self.seconds}. Give one."
            )

    def __bool__(self) -> bool:
        return bool(self.trials or self.seconds)


def judged_on(prepared: Prepared) -> tuple[Split, str]:
    """What settings are fitted to and judged on, as train and held-out part, and where it comes from in words."""
    split, strict = prepared.split, prepared.recipe.protocol.kind == "strict"
    if split.validation is not None:
        return Split(
            split.train, split.train, split.validation, "validation part"
        ), "the validation part of the split"
    random = streams(prepared.recipe.seed, "validation")["validation"]
    if strict and split.train.timestamps is not None:
        from unblur.diffusion.settings import Stopping
        from unblur.diffusion.validation import carve

        made = carve(split.train, Stopping(carve="last", fraction=SET_ASIDE), random)
        return made, f"the last {SET_ASIDE:.0%} in time of each user's train interactions"
    made = hold_out(split.train, fraction=SET_ASIDE, rng=random)
    return made, f"a random {SET_ASIDE:.0%} of each user's train interactions"


def searched(
    spec: Any, split: Split, changes: Mapping[str, Sequence[Any]] | None = None
) -> tuple[Dimension, ...]:
    """What is searched of a model; nothing for a kind without hyper-parameters. Raises `SpecError` for an empty range."""
    if not (changes or getattr(type(spec), "search_space", {}) or SPACES.get(spec.kind)):
        return ()
    found = dimensions_of(spec, changes, train=split.train)
    without: set[str] = set()
    if spec.kind == "bspm" and (spec.sharpen is None or spec.low_pass is None):
        without.add("merge")  # says when the low-pass is added: before or after sharpening
    if spec.kind == "bspm" and spec.sharpen is None and spec.blur.steps == 1:
        without.add("output")  # a path of one state has the last for its mean
    return tuple(dimension for dimension in found if dimension.name not in without)


def stopping_in_time(spec: Any, prepared: Prepared) -> Any:
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
    much = f"{budget.trials:,} settings" if budget.trials else f"{budget.seconds:g} seconds"
    return f"{much} for each model, sampler {sampler}"
