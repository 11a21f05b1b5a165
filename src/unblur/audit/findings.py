"""Figures of an audit with their uncertainty, and conclusions from them: findings in plain words, and gates.

Figures are shares, areas under the ROC curve, and true-positive rates at low false-positive rates. Ties are common among
0/1 rows, so they count one half in the area, and not as hits at a threshold. A figure that a control group is too small for
is `Unmeasured`, never a number.

A finding states the result of attacks and the number of users. That nothing was found is no evidence that nothing is there,
and no finding claims more. A gate fails if its figure cannot be measured.

All tests of a page are one family: a leak is said where a p-value is significant after Holm's correction over all of them. Every
leak fails the audit unless it is waived with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import special, stats

from unblur.errors import DataError, UnblurError
from unblur.spec import CountOrZero, spec

CONFIDENCE = 0.95
"""The level of all intervals, as in evaluation."""
FEWEST_USERS = 20
"""The smallest number of members or outsiders for an area under the curve (chosen by hand)."""
COMPUTATION_ERRORS = (UnblurError, ArithmeticError, ValueError, MemoryError)
"""Errors by which one part of an audit cannot be computed; that part is then reported as unmeasured, and the others go on.
`numpy.linalg.LinAlgError` is a `ValueError`."""

Scores: TypeAlias = NDArray[np.floating[Any]]
Interval: TypeAlias = tuple[float, float, float]
"""A value, and the low and the high end of its 95 % interval."""
_ROUNDING = 1e-9
"""Rounding of a product or quotient of a rate must not add or lose a user."""
_NORMAL_QUANTILE = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
"""Half the width of a 95 % interval, in standard errors."""


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """The reason why a figure cannot be measured, with what it would need."""

    reason: str
    """``cannot be measured: needs at least 1,000 users who were not in training; there are 400``."""

    def cell(self) -> str:
        """A dash, as in a table."""
        return "–"


_Part = TypeVar("_Part")


def attempted(part: Callable[[], _Part]) -> _Part | Unmeasured:
    """One part of an audit, or the reason why these data do not allow it."""
    try:
        return part()
    except COMPUTATION_ERRORS as error:
        return Unmeasured(f"cannot be measured: {str(error).rstrip('.') or type(error).__name__}")


NO_CONTROL = Unmeasured(
    "cannot be measured: needs users who were not in training (a holdout); none were given"
)
"""The reason if there is no control group."""


def too_few(needed: int, noun: str, available: int) -> Unmeasured:
    """The reason if at least `needed` of `noun` are needed, and only `available` are there."""
    return Unmeasured(f"cannot be measured: needs at least {needed:,} {noun}; there are {available:,}")


@dataclass(frozen=True, slots=True)
class Proportion:
    """`hits` of `trials`, with the 95 % interval of Clopper and Pearson (Biometrika 26, 1934)."""

    hits: int
    trials: int
    design: float = 1.0
    """The variance of the hits relative to that of independent trials (design effect; Kish, Survey Sampling, 1965). The
    interval is that of `trials` / `design` independent trials."""

    def __post_init__(self) -> None:
        DataError.unless(
            self.design >= 1, f"A design effect must be at least 1; saw {self.design}. Leave it out for 1."
        )
        DataError.unless(
            self.trials >= 1 and 0 <= self.hits <= self.trials,
            f"A share needs at least one trial and no more hits than trials; saw {self.hits} of {self.trials}.",
        )

    @classmethod
    def of(cls, hits: NDArray[np.bool_]) -> Self:
        """The share of true entries, one entry per trial."""
        return cls(int(hits.sum()), len(hits))

    def cell(self) -> str:
        """A table cell such as ``51.2% (50.1% … 52.3%)``."""
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

    def _end(self, more_hits: int, more_misses: int, quantile: float) -> float:
        """The quantile of Beta(hits + `more_hits`, misses + `more_misses`)."""
        hits, misses = self.hits / self.design, (self.trials - self.hits) / self.design
        return float(special.betaincinv(hits + more_hits, misses + more_misses, quantile))


def difference(one: Proportion, other: Proportion) -> Interval:
    """one − other, with the interval of the square-and-add rule (Newcombe, Statistics in Medicine 17, 1998)."""
    value = one.value - other.value
    down = math.hypot(one.value - one.low, other.high - other.value)
    up = math.hypot(one.high - one.value, other.value - other.low)
    return value, value - down, value + up


@dataclass(frozen=True, slots=True)
class Area:
    """The area under the ROC curve: the probability that a member scores above an outsider, ties counted one half."""

    value: float
    low: float
    high: float
    """The ends of the 95 % interval, on the logit scale with DeLong's standard error; a point if all scores are equal."""
    ties: float
    """The share of the pairs (member, outsider) with equal scores."""
    n_members: int
    n_outsiders: int

    def users(self) -> str:
        """``3,000 members and 1,000 outsiders``."""
        return f"{self.n_members:,} members and {self.n_outsiders:,} outsiders"

    @property
    def p_value(self) -> float:
        """The one-sided p-value of an area of 0.5, from the interval on the logit scale."""
        if self.value in (0.0, 1.0):
            return 0.0 if self.low > 0.5 else 1.0
        width = float(special.logit(self.high) - special.logit(self.low)) / (2 * _NORMAL_QUANTILE)
        return float(stats.norm.sf(float(special.logit(self.value)) / width)) if width else 1.0

    def described(self) -> str:
        """``area under the ROC curve of 0.512 (0.501 to 0.523)``."""
        return f"area under the ROC curve of {self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Catch:
    """The share of members above a threshold that at most a share `at` of the outsiders exceeds."""

    at: float
    """The nominal false-positive rate; guessing catches the same share of members."""
    members: Proportion
    outsiders: Proportion
    """The actual false-positive rate, with its interval, because few outsiders decide it."""

    @property
    def p_value(self) -> float:
        """The probability of so few outsiders among the users above the threshold if members and outsiders were alike.

        Fisher's exact test. It is exact although the threshold is the score of an outsider: without ties x or more members are
        above it exactly if at most k of the best x + k users are outsiders, where k is the number of outsiders allowed above.
        """
        n, m, above = self.members.trials, self.outsiders.trials, self.members.hits + self.outsiders.hits
        return float(stats.hypergeom.cdf(self.outsiders.hits, n + m, m, above))


def area(members: Scores, outsiders: Scores) -> Area | Unmeasured:
    """The area under the ROC curve and its interval.

    members, outsiders: one finite score a user, higher for "was in training". The value is the Mann-Whitney
    statistic; the standard error is that of DeLong et al. (Biometrics 44, 1988) from midranks (Sun & Xu, 2014).
    """
    for group, name in ((members, "members"), (outsiders, "users who were not in training")):
        if len(group) < FEWEST_USERS:
            return too_few(FEWEST_USERS, name, len(group))
    n, m = len(members), len(outsiders)
    scores = np.concatenate([members, outsiders]).astype(np.float64)
    DataError.unless(
        np.isfinite(scores).all(), "Scores of an attack must be finite; saw NaN or infinity. Clip them."
    )
    # A rank among all less that in the own group is the number of users of the other group below, ties one half.
    ranks = stats.rankdata(scores)
    above = (ranks[:n] - stats.rankdata(members)) / m
    below = 1 - (ranks[n:] - stats.rankdata(outsiders)) / n
    value = float(above.mean())
    error = math.sqrt(float(above.var(ddof=1)) / n + float(below.var(ddof=1)) / m)
    ordered = np.sort(outsiders)
    ties = np.searchsorted(ordered, members, side="right") - np.searchsorted(ordered, members)
    return Area(value, *_logit_interval(value, error, min(n, m)), float(ties.sum() / (n * m)), n, m)


def _logit_interval(value: float, error: float, fewest: int) -> tuple[float, float]:
    """The interval on the logit scale, on which it stays within 0 … 1."""
    if value in (0.0, 1.0):  # there is no spread: the rule of three (95 % bound 3/n) for the smaller group
        return max(0.0, value - 3 / fewest), min(1.0, value + 3 / fewest)
    width = _NORMAL_QUANTILE * error / (value * (1 - value))
    centre = float(special.logit(value))
    return float(special.expit(centre - width)), float(special.expit(centre + width))


def catch(members: Scores, outsiders: Scores, at: float) -> Catch | Unmeasured:
    """Members above the lowest threshold that at most a share `at` of the outsiders exceeds.

    The threshold is an outsider's score, and only scores strictly above it count, so that ties never help the attack.
    Needs 1/`at` outsiders, so that one of them may exceed it.
    """
    needed = math.ceil(1 / at - _ROUNDING)
    if len(outsiders) < needed:
        return too_few(needed, "users who were not in training", len(outsiders))
    if len(members) < FEWEST_USERS:
        return too_few(FEWEST_USERS, "members", len(members))
    allowed = math.floor(at * len(outsiders) + _ROUNDING)
    threshold = np.sort(outsiders)[::-1][allowed] if allowed < len(outsiders) else -math.inf
    return Catch(at, Proportion.of(members > threshold), Proportion.of(outsiders > threshold))


def roc_points(members: Scores, outsiders: Scores, *, most: int = 120) -> tuple[tuple[float, float], ...]:
    """About `most` points or fewer (false-positive rate, true-positive rate) of the ROC curve, from (0, 0) to (1, 1).

    They are dense near 0, where harmful attacks differ.
    """
    # One point for each threshold, from above all scores down to the lowest: the shares that reach it.
    thresholds = np.append(np.unique(np.concatenate([members, outsiders])), np.inf)[::-1]
    false, true = (
        1 - np.searchsorted(np.sort(scores), thresholds) / len(scores) for scores in (outsiders, members)
    )
    if len(false) > most:
        grid = np.concatenate(([0.0], np.geomspace(1 / len(outsiders), 1.0, most)))
        points = np.unique(np.append(0, np.searchsorted(false, grid, side="right") - 1))
        true, false = true[points], false[points]
    return tuple(zip(false.tolist(), true.tolist(), strict=True))


# ---------------------------------------------------------------------------------- findings and gates

FindingKind: TypeAlias = Literal["fault", "leak", "exposure", "clear", "note", "unmeasured"]

FINDING_KINDS: Mapping[FindingKind, str] = MappingProxyType(
    {
        "fault": "not valid",
        "leak": "leak found",
        "exposure": "exposed",
        "clear": "none found",
        "note": "note",
        "unmeasured": "not measured",
    }
)
"""The kinds of findings and the words for them, the gravest first. An exposure claims no leak."""
_FAILING: tuple[FindingKind, ...] = ("leak", "exposure")
"""The kinds that fail an audit unless they are waived. Faults fail it by the gate `valid`, and cannot be waived."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding in plain words."""

    kind: FindingKind
    id: str
    """A name that stays the same from audit to audit, whatever was found, such as ``copies``; a waiver refers to it."""
    text: str
    waived: str | None = None
    """The reason why this finding does not fail the audit, if there is one."""

    @property
    def fails(self) -> bool:
        """True for a leak or an exposure that is not waived."""
        return self.kind in _FAILING and self.waived is None


@dataclass(frozen=True, slots=True)
class Gate:
    """The result of a limit."""

    name: str
    """A field of `Gates`."""
    passed: bool
    """False also if the figure could not be measured."""
    reason: str
    value: float | None = None
    """The figure that is limited; `None` if it could not be measured."""
    limit: float | None = None
    interval: tuple[float, float] | None = None
    """The 95 % interval of the figure; `None` for a count, and for what could not be measured."""


Conclusion: TypeAlias = Finding | Gate


@dataclass(frozen=True, slots=True)
class Significance:
    """One test of a page."""

    p_value: float
    adjusted: float
    """The p-value after Holm's correction over all tests of the page."""


def finding_id(name: str) -> str:
    """The id of the finding about something of this name: ``singling-out-by-2-items``."""
    return "-".join(name.lower().split())


Limit: TypeAlias = Annotated[float, Field(ge=0, le=1)]
"""A limit of a share or an area."""


@spec
class Gates:
    """Limits that must hold; `None` leaves one out."""

    valid: bool = True
    """Require every validity check to pass."""
    findings: bool = True
    """Require every leak and every exposure to be waived."""
    max_auc: Limit | None = 0.55
    """The largest area under the ROC curve of any membership attacker."""
    max_catch_at_1: Limit | None = 0.03
    """The largest catch rate at 1 % false positives of any membership attacker, by the low end of its interval."""
    max_catch_at_01: Limit | None = 0.01
    """The same at 0.1 %. It passes if there are too few outsiders to measure it."""
    max_copies: CountOrZero | None = None
    """The largest number of synthetic users with exactly the items of a training user, of any number of items."""
    max_near_copies: Limit | None = 0.01
    """The largest share of near copies beyond that of real users, by the low end of the difference's interval."""
    max_excess: Limit | None = 0.05
    """The largest excess of right guesses about members over those about outsiders, of the tries beyond chance."""
    min_utility: Limit | None = None
    """The smallest recall of a recommender trained on synthetic users, as a share of its recall when trained on real ones
    (`Worth.share`), for the recommender that is best on real users."""

    def select(self, conclusions: Iterable[Conclusion]) -> tuple[Gate, ...]:
        """The gates of the limits in force, in the order of the limits; a limit without a gate fails."""
        order = {field.name: index for index, field in enumerate(fields(self))}
        left_out = {name for name in order if getattr(self, name) is None or getattr(self, name) is False}
        gates = [entry for entry in conclusions if isinstance(entry, Gate) and entry.name not in left_out]
        missing = order.keys() - left_out - {gate.name for gate in gates}
        gates += [Gate(name, False, "no attack that measures it was run") for name in missing]
        return tuple(sorted(gates, key=lambda gate: order.get(gate.name, len(order))))


def gravest_first(conclusions: Iterable[Conclusion], waived: Mapping[str, str]) -> tuple[Finding, ...]:
    """The findings with their waivers, sorted by kind; those of one kind keep their order."""
    order = list(FINDING_KINDS)
    findings = [
        replace(entry, waived=waived.get(entry.id)) if entry.kind in _FAILING else entry
        for entry in conclusions
        if isinstance(entry, Finding)
    ]
    return tuple(sorted(findings, key=lambda finding: order.index(finding.kind)))


def findings_gate(findings: Sequence[Finding]) -> Gate:
    """The gate `findings`: no leak and no exposure that is not waived."""
    failing = [finding.id for finding in findings if finding.fails]
    n_waived = sum(finding.waived is not None for finding in findings)
    reason = f"not waived: {', '.join(failing)}" if failing else "no leak or exposure was found"
    if n_waived:
        reason = f"{reason if failing else 'all were waived'} ({n_waived} waived)"
    return Gate("findings", not failing, reason, len(failing), 0)
