"""Conclusions from an audit's figures: findings in plain words, and limits that hold or not.

A finding says what attacks found on how many users. That nothing was found is not evidence that nothing is there,
and no finding says more. A gate fails where its figure cannot be measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Literal, TypeAlias

from unblur.errors import SpecError

FindingKind: TypeAlias = Literal["fault", "leak", "clear", "note", "unmeasured"]

FINDING_KINDS: Mapping[FindingKind, str] = MappingProxyType(
    {
        "fault": "not valid",
        "leak": "leak found",
        "clear": "none found",
        "note": "note",
        "unmeasured": "not measured",
    }
)
"""The kinds of findings and the words for them, the gravest first."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding in plain words."""

    kind: FindingKind
    text: str


@dataclass(frozen=True, slots=True)
class Gate:
    """A limit and whether it held."""

    name: str
    """A field of `Gates`."""
    passed: bool
    """Not so either where the figure could not be measured."""
    reason: str


Conclusion: TypeAlias = Finding | Gate


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """Limits that must hold; `None` leaves one out."""

    valid: bool = True
    """Whether every validity check must pass."""
    max_auc: float | None = 0.55
    """The largest area under the ROC curve of any membership attacker."""
    max_copies: int | None = 0
    """How many synthetic users with `LONG_ROW` items or more may have the very items of a training user."""
    max_near_copies: float | None = 0.01
    """The largest share of near copies beyond that of the holdout (or in all, without one)."""
    max_excess: float | None = 0.05
    """The largest excess of right guesses about members over those about outsiders, of those beyond chance."""
    min_utility: float | None = None
    """The least share of what real users teach a recommender that synthetic ones must teach it (`Worth.share` of recall),
    for the one that real users teach most."""

    def __post_init__(self) -> None:
        for name in ("max_auc", "max_near_copies", "max_excess", "min_utility"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise SpecError(f"`{name}` must lie between 0 and 1; saw {value}. Correct it.")
        if self.max_copies is not None and self.max_copies < 0:
            raise SpecError(f"`max_copies` must not be negative; saw {self.max_copies}. Give 0 or more.")

    def held(self, conclusions: Iterable[Conclusion]) -> tuple[Gate, ...]:
        """The gates that were asked for, in the order of the limits; a limit that no gate is about fails."""
        order = {field.name: at for at, field in enumerate(fields(self))}
        left_out = {name for name in order if getattr(self, name) is None or getattr(self, name) is False}
        gates = [each for each in conclusions if isinstance(each, Gate) and each.name not in left_out]
        missing = order.keys() - left_out - {gate.name for gate in gates}
        gates += [Gate(name, False, "no attack that measures it was run") for name in missing]
        return tuple(sorted(gates, key=lambda gate: order.get(gate.name, len(order))))


def gravest_first(conclusions: Iterable[Conclusion]) -> tuple[Finding, ...]:
    """The findings by their kind; those of one kind stay in order."""
    order = list(FINDING_KINDS)
    findings = [each for each in conclusions if isinstance(each, Finding)]
    return tuple(sorted(findings, key=lambda finding: order.index(finding.kind)))
