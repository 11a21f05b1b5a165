"""Limits that an audit must keep: each passes or fails with a reason, and fails where its figure cannot be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unblur.audit.attacks import Privacy
from unblur.audit.attacks.copies import LONG_ROW
from unblur.audit.attacks.guesses import Guesses, beyond_chance, excess_of
from unblur.audit.attacks.membership import Membership
from unblur.audit.attacks.rates import FEWEST_USERS, Area, Share, Unmeasured, too_few
from unblur.audit.fidelity.validity import Check
from unblur.audit.worth import Worth, best_taught
from unblur.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """Limits that must hold; `None` leaves one out."""

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
    valid: bool = True
    """Whether every validity check must pass."""

    def __post_init__(self) -> None:
        for name, largest in (
            ("max_auc", 1.0),
            ("max_near_copies", 1.0),
            ("max_excess", 1.0),
            ("min_utility", 1.0),
        ):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= largest:
                raise SpecError(f"`{name}` must lie between 0 and {largest:g}; saw {value}. Correct it.")
        if self.max_copies is not None and self.max_copies < 0:
            raise SpecError(f"`max_copies` must not be negative; saw {self.max_copies}. Give 0 or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A limit and whether it held."""

    name: str
    passed: bool
    """Not so either where the figure could not be measured."""
    reason: str


def gated(
    limits: Gates, checks: tuple[Check, ...], privacy: Privacy, utility: Sequence[Worth] = ()
) -> tuple[Gate, ...]:
    """Every limit that was asked for, held against what was found."""
    made = []
    if limits.valid:
        broken = [
            f"{check.name} ({check.right:,} of {check.total:,})" for check in checks if not check.passed
        ]
        reason = f"not in full: {', '.join(broken)}" if broken else f"all {len(checks)} checks hold in full"
        made.append(Gate(name="valid", passed=not broken, reason=reason))
    if limits.max_auc is not None:
        made.append(_auc_gate(limits.max_auc, privacy.membership))
    if limits.max_copies is not None:
        copied = privacy.copies.exact_long
        made.append(
            Gate(
                name="max_copies",
                passed=copied.hits <= limits.max_copies,
                reason=f"{copied.hits:,} of {copied.trials:,} synthetic users are copies of a training user with {LONG_ROW} "
                f"items or more; the limit is {limits.max_copies:,}",
            )
        )
    if limits.max_near_copies is not None:
        made.append(_near_gate(limits.max_near_copies, privacy))
    if limits.max_excess is not None:
        made.append(_excess_gate(limits.max_excess, privacy.guesses))
    if limits.min_utility is not None:
        made.append(_utility_gate(limits.min_utility, utility))
    return tuple(made)


def _auc_gate(limit: float, told: tuple[Membership, ...]) -> Gate:
    areas = {entry.attacker: entry.auc for entry in told if isinstance(entry.auc, Area)}
    if not areas:
        reason = next(entry.auc.reason for entry in told if isinstance(entry.auc, Unmeasured))
        return Gate(name="max_auc", passed=False, reason=reason)
    name, best = max(areas.items(), key=lambda item: item[1].value)
    reason = f"the best attacker ({name}) has an {best.described()}; the limit is {limit:g}"
    if best.value <= limit < best.high:
        reason += ", which its interval reaches beyond: more users would make it sure"
    return Gate(name="max_auc", passed=best.value <= limit, reason=reason)


def _near_gate(limit: float, privacy: Privacy) -> Gate:
    near, control = privacy.copies.near, privacy.copies.holdout_near
    if isinstance(near, Unmeasured):
        return Gate(name="max_near_copies", passed=False, reason=near.reason)
    if near.trials < FEWEST_USERS:
        reason = too_few(FEWEST_USERS, "synthetic users to look for near copies among", near.trials).reason
        return Gate(name="max_near_copies", passed=False, reason=reason)
    usual = control.value if isinstance(control, Share) else 0.0
    beside = (
        f"{control.value:.2%} of holdout users are"
        if isinstance(control, Share)
        else f"of holdout users it {control.reason}"
    )
    return Gate(
        name="max_near_copies",
        passed=near.value - usual <= limit,
        reason=f"{near.value:.2%} of {near.trials:,} synthetic users are near copies of a training user ({beside}); "
        f"the limit is {limit:.2%} more",
    )


def _excess_gate(limit: float, guesses: Mapping[str, Guesses | Unmeasured]) -> Gate:
    found = {name: excess_of(guess) for name, guess in guesses.items()}
    measured = [(excess, name) for name, excess in found.items() if not isinstance(excess, Unmeasured)]
    if not measured:
        reason = next(excess.reason for excess in found.values() if isinstance(excess, Unmeasured))
        return Gate(name="max_excess", passed=False, reason=reason)
    sure = beyond_chance(guesses)
    (value, low, high), name = max(entry for entry in measured if entry[1] in sure or not sure)
    passed = value <= limit or not sure
    reason = (
        f"the largest excess is {value:.1%} ({low:.1%} to {high:.1%}), of {name}; the limit is {limit:.1%}"
    )
    if value > limit and passed:
        reason += ", and chance alone may make as much on so few: more users would make it sure"
    elif value <= limit < high:
        reason += ", which its interval reaches beyond: more users would make it sure"
    return Gate(name="max_excess", passed=passed, reason=reason)


def _utility_gate(limit: float, utility: Sequence[Worth]) -> Gate:
    best = best_taught(utility)
    if best is None:
        reason = "what the set teaches was not measured: that takes a holdout and recommenders to teach"
        return Gate(name="min_utility", passed=False, reason=reason)
    if not best.real.value:
        reason = "what the set teaches cannot be measured: real users teach no recommender anything either"
        return Gate(name="min_utility", passed=False, reason=reason)
    tested = best.real.n_users
    if tested < FEWEST_USERS:
        reason = too_few(FEWEST_USERS, "kept-out users with two items or more", tested).reason
        return Gate(name="min_utility", passed=False, reason=f"what the set teaches {reason}")
    return Gate(
        name="min_utility",
        passed=best.share >= limit,
        reason=f"{best.recommender} learns {best.share:.0%} of what real users teach it ({best.metric} "
        f"{best.synthetic.value:.4f} of {best.real.value:.4f}, on {tested:,} users); the limit is {limit:.0%}",
    )
