"""Figures of an audit with their doubt, and what is concluded from them: findings in plain words, and gates that hold or not.

Figures are shares, areas under the ROC curve, and true positives at few false ones. Ties are the rule among 0/1 rows, so
they are counted as what they are: one half in the area, and not as hits at a threshold. What a control group is too small
for is `Unmeasured`, never a number.

A finding says what attacks found on how many users. That nothing was found is not evidence that nothing is there,
and no finding says more. A gate fails where its figure cannot be measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt
from scipy import special, stats
from sklearn.metrics import roc_curve

from unblur.errors import DataError
from unblur.spec import spec

CONFIDENCE = 0.95
"""Of all intervals, as in evaluation."""
FEWEST_USERS = 20
"""Below so many members or outsiders no area under the curve is given."""

Scores: TypeAlias = NDArray[np.floating[Any]]
Interval: TypeAlias = tuple[float, float, float]
"""A value, and the low and the high end of its 95 % interval."""


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """The reason why a figure cannot be measured, and what it would take."""

    reason: str
    """``cannot be measured: needs at least 1,000 users who were not in training; there are 400``."""

    def cell(self) -> str:
        """A dash, as in a table."""
        return "–"


NO_CONTROL = Unmeasured(
    "cannot be measured: needs users who were not in training (a holdout); none were given"
)
"""The reason where there is no control group."""


def too_few(needed: int, what: str, seen: int) -> Unmeasured:
    """The reason where `needed` of something are needed and `seen` are there."""
    return Unmeasured(f"cannot be measured: needs at least {needed:,} {what}; there are {seen:,}")


@dataclass(frozen=True, slots=True)
class Proportion:
    """`hits` of `trials`, with the 95 % interval of Clopper and Pearson (Biometrika 26, 1934)."""

    hits: int
    trials: int
    design: float = 1.0
    """How much more the hits vary than those of as many independent trials (design effect; Kish, Survey Sampling,
    1965). The interval is that of `trials` / `design` independent trials."""

    def __post_init__(self) -> None:
        DataError.unless(
            self.design >= 1, f"A design effect must be at least 1; saw {self.design}. Leave it out for 1."
        )
        DataError.unless(
            self.trials >= 1 and 0 <= self.hits <= self.trials,
            f"A share must be of at least one trial, and its hits among them; saw {self.hits} of {self.trials}.",
        )

    @classmethod
    def of(cls, right: NDArray[np.bool_]) -> Self:
        """The share of `right` that is true, one entry a trial."""
        return cls(int(right.sum()), len(right))

    def cell(self) -> str:
        """``51.2% (50.1% … 52.3%)``, as in a table."""
        return f"{self.value:.1%} ({self.low:.1%} … {self.high:.1%})"

    @property
    def value(self) -> float:
        """hits / trials."""
        return self.hits / self.trials

    @property
    def low(self) -> float:
        """The low end of the interval."""
        return self._end(0, 1, (1 - CONFIDENCE) / 2) if self.hits else 0.0

    @property
    def high(self) -> float:
        """The high end of the interval."""
        return self._end(1, 0, (1 + CONFIDENCE) / 2) if self.hits < self.trials else 1.0

    def _end(self, more_hits: int, more_missed: int, quantile: float) -> float:
        """The quantile of a beta distribution of the hits, and of the other trials, each with so many more."""
        hits, missed = self.hits / self.design, (self.trials - self.hits) / self.design
        return float(special.betaincinv(hits + more_hits, missed + more_missed, quantile))


@dataclass(frozen=True, slots=True)
class Area:
    """The area under the ROC curve: how often a member scores above an outsider, ties counted one half."""

    value: float
    low: float
    high: float
    """The 95 % interval, on the logit scale with DeLong's standard error; of equal scores, one point."""
    ties: float
    """The share of the pairs (member, outsider) with equal scores."""
    n_members: int
    n_outsiders: int

    def users(self) -> str:
        """``3,000 members and 1,000 outsiders``."""
        return f"{self.n_members:,} members and {self.n_outsiders:,} outsiders"

    def described(self) -> str:
        """``area under the ROC curve of 0.512 (0.501 to 0.523)``."""
        return f"area under the ROC curve of {self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Catch:
    """The share of members that are caught where the threshold lets at most `at` of the outsiders pass."""

    at: float
    """The false-positive rate asked for; guessing catches as large a share of the members."""
    members: Proportion
    outsiders: Proportion
    """The false positives there really were; with its interval, because few outsiders decide it."""


def area(members: Scores, outsiders: Scores) -> Area | Unmeasured:
    """The area under the ROC curve and its interval.

    members, outsiders: one finite score a user, higher for "was in training". The value is the Mann-Whitney
    statistic; the standard error is that of DeLong et al. (Biometrics 44, 1988) from midranks (Sun & Xu, 2014).
    """
    for group, name in ((members, "members"), (outsiders, "users who were not in training")):
        if len(group) < FEWEST_USERS:
            return too_few(FEWEST_USERS, name, len(group))
    n, m = len(members), len(outsiders)
    together = np.concatenate([members, outsiders]).astype(np.float64)
    DataError.unless(
        np.isfinite(together).all(), "Scores of an attack must be finite; saw NaN or infinity. Clip them."
    )
    ranks = stats.rankdata(together)
    above = (ranks[:n] - stats.rankdata(members)) / m  # of the outsiders, the share below each member
    below = 1 - (ranks[n:] - stats.rankdata(outsiders)) / n
    value = float(above.mean())
    error = math.sqrt(float(above.var(ddof=1)) / n + float(below.var(ddof=1)) / m)
    ordered = np.sort(outsiders)
    ties = np.searchsorted(ordered, members, side="right") - np.searchsorted(ordered, members)
    return Area(value, *_logit_interval(value, error, min(n, m)), float(ties.sum() / (n * m)), n, m)


def _logit_interval(value: float, error: float, fewest: int) -> tuple[float, float]:
    """The interval on the logit scale, where it cannot leave 0 … 1."""
    if value in (0.0, 1.0):  # no spread is seen: the rule of three for the smaller group
        return max(0.0, value - 3 / fewest), min(1.0, value + 3 / fewest)
    width = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * error / (value * (1 - value))
    centre = float(special.logit(value))
    return float(special.expit(centre - width)), float(special.expit(centre + width))


def catch(members: Scores, outsiders: Scores, at: float) -> Catch | Unmeasured:
    """Members above the threshold that at most a share `at` of the outsiders is above.

    The threshold is an outsider's score, and only scores strictly above it count, so ties never help the attack.
    Needs 1/`at` outsiders, so that one of them may pass.
    """
    needed = math.ceil(1 / at - 1e-9)
    if len(outsiders) < needed:
        return too_few(needed, "users who were not in training", len(outsiders))
    if len(members) < FEWEST_USERS:
        return too_few(FEWEST_USERS, "members", len(members))
    allowed = math.floor(at * len(outsiders) + 1e-9)
    threshold = np.sort(outsiders)[::-1][allowed] if allowed < len(outsiders) else -math.inf
    return Catch(at, Proportion.of(members > threshold), Proportion.of(outsiders > threshold))


def roc_points(members: Scores, outsiders: Scores, *, most: int = 120) -> tuple[tuple[float, float], ...]:
    """At most about `most` points (false-positive rate, true-positive rate) of the ROC curve, from (0, 0) to (1, 1).

    They are dense near 0, where attacks that matter differ.
    """
    scores = np.concatenate([members, outsiders])
    passed, caught, _ = roc_curve(np.arange(len(scores)) < len(members), scores, drop_intermediate=False)
    if len(passed) > most:
        wanted = np.concatenate(([0.0], np.geomspace(1 / len(outsiders), 1.0, most)))
        picked = np.unique(np.append(0, np.searchsorted(passed, wanted, side="right") - 1))
        caught, passed = caught[picked], passed[picked]
    return tuple(zip(passed.tolist(), caught.tolist(), strict=True))


# ---------------------------------------------------------------------------------- findings and gates

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


Limit: TypeAlias = Annotated[float, Field(ge=0, le=1)]
"""Of a share or an area."""


@spec
class Gates:
    """Limits that must hold; `None` leaves one out."""

    valid: bool = True
    """Whether every validity check must pass."""
    max_auc: Limit | None = 0.55
    """The largest area under the ROC curve of any membership attacker."""
    max_copies: NonNegativeInt | None = 0
    """How many synthetic users with `LONG_ROW` items or more may have the very items of a training user."""
    max_near_copies: Limit | None = 0.01
    """The largest share of near copies beyond that of the holdout (or in all, without one)."""
    max_excess: Limit | None = 0.05
    """The largest excess of right guesses about members over those about outsiders, of those beyond chance."""
    min_utility: Limit | None = None
    """The least share of what real users teach a recommender that synthetic ones must teach it (`Worth.share` of recall),
    for the one that real users teach most."""

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
