"""What a recipe of a synthesizer has beside those of recommenders: a downstream recommender, and its utility.

Such a recipe has no split: the section ``utility`` says which users teach, stop and report.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from unblur.errors import RecipeError, SpecError
from unblur.evaluation.protocol import RankingProtocol
from unblur.experiment.recipe.tables import plain, read_spec, without_kind
from unblur.registry import SYNTHESIZERS, recommender_spec
from unblur.synthesis.utility.settings import Utility

SECTIONS = ("data", "model", "downstream", "utility", "protocol")
"""The sections of a synthesizer's recipe that hold settings."""
ONLY_HERE = ("downstream", "utility")
DOWNSTREAM = "truncated-svd"
"""What measures synthetic users where a recipe does not say."""
REFERENCES = ("no-synthetic", "ease")
"""The arms without synthetic users: the downstream recommender, and EASE, on the real ones."""

_SAMPLES: Mapping[str, tuple[str, ...]] = {
    "sdrm": ("full", "multi-resolution", "plain-vae"),
    "multi-vae": ("plain-vae",),
}


def is_synthesizer(kind: object) -> bool:
    """Whether a kind of model samples users."""
    return str(kind) in SYNTHESIZERS


def samples_of(kind: str) -> tuple[str, ...]:
    """The ways in which a fitted synthesizer of that kind is sampled: the first arms of its comparison."""
    return _SAMPLES.get(kind, ("synthetic",))


def measured_names(kind: str, protocol: RankingProtocol, utility: Utility) -> tuple[str, ...]:
    """All that one run measures; several add the best run and the deviation of what is compared."""
    arms = (*samples_of(kind), *REFERENCES)
    names = [f"{arm} {name}" for arm in arms for name in protocol.names]
    pairs = [
        f"{one} − {other} {name}"
        for name in utility.compared
        if name in protocol.names
        for one, other in combinations(arms, 2)
    ]
    return (*names, *pairs)


def read_downstream(table: Mapping[str, Any]) -> Any:
    """The spec of the section ``downstream``."""
    try:
        cls = recommender_spec(str(table.get("kind", DOWNSTREAM)))
    except SpecError as problem:
        raise RecipeError(f"[downstream] {problem}") from None
    return read_spec(cls, without_kind(table), "downstream")


def tables_of(downstream: Any, utility: Utility) -> dict[str, Any]:
    """The two sections as they stand in TOML."""
    return {"downstream": {"kind": downstream.kind, **plain(downstream)}, "utility": plain(utility)}


def check_sections(given: Mapping[str, Any], kind: object) -> None:
    """Raise `RecipeError` for a section that a recipe with this kind of model cannot have."""
    if is_synthesizer(kind) and given.get("split"):
        raise RecipeError(
            f"[split] A synthesizer is measured on groups of users; saw a split beside {kind}. Say in [utility] "
            "which parts teach and report, and leave the split out."
        )
    for section in ONLY_HERE:
        if not is_synthesizer(kind) and given.get(section):
            raise RecipeError(
                f"[{section}] Only a synthesizer has a utility; saw it beside the recommender {kind}. Leave it out, "
                f"or name one of {', '.join(SYNTHESIZERS)} as the model."
            )
