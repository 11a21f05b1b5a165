"""What follows from an audit's figures: findings in plain words.

A finding says what attacks found on how many users. That nothing was found is not evidence that nothing is there,
and no finding says more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from scipy import special, stats

from unblur.audit.attacks import Privacy
from unblur.audit.attacks.copies import LONG_ROW, NEAR
from unblur.audit.attacks.guesses import Guesses, beyond_chance, excess_of
from unblur.audit.attacks.membership import Membership
from unblur.audit.attacks.rates import FEWEST_USERS, Area, Catch, Share, Unmeasured, too_few
from unblur.audit.fidelity.comparison import Fidelity, Likeness
from unblur.audit.fidelity.validity import Check
from unblur.audit.worth import Worth, best_taught
from unblur.evaluation.significance import holm

Kind: TypeAlias = Literal["leak", "clear", "fault", "unmeasured", "note"]
"""What a finding is: a leak, none found, a fault of the set, something that could not be measured, a remark."""

TIED = 0.999
"""An attacker of whose pairs a larger share has equal scores tells nobody apart."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding in plain words."""

    kind: Kind
    text: str


def concluded(
    checks: tuple[Check, ...], likeness: Fidelity, privacy: Privacy, utility: Sequence[Worth] = ()
) -> tuple[Finding, ...]:
    """What the figures say, the gravest first."""
    made = [*_faults(checks), *_about_membership(privacy.membership), *_about_guesses(privacy.guesses)]
    made += [*_about_copies(privacy), *_about_utility(utility), *_about_likeness(likeness)]
    order = ("fault", "leak", "clear", "note", "unmeasured")
    return tuple(sorted(made, key=lambda finding: order.index(finding.kind)))


def _faults(checks: tuple[Check, ...]) -> list[Finding]:
    return [
        Finding(
            "fault",
            f"The set is not valid: “{check.name}” ({check.meaning}) holds for {check.right:,} of {check.total:,}.",
        )
        for check in checks
        if not check.passed
    ]


def _about_membership(told: tuple[Membership, ...]) -> list[Finding]:
    areas = {entry.attacker: entry.auc for entry in told if isinstance(entry.auc, Area)}
    if not areas:
        first = next(entry.auc for entry in told if isinstance(entry.auc, Unmeasured))
        return [Finding("unmeasured", f"Whether a person was in the training data: {first.reason}.")]
    leaks = dict(zip(areas, holm([_doubt(entry) for entry in areas.values()]) < 0.05, strict=True))
    name, best = max(areas.items(), key=lambda item: item[1].value)
    users = f"{best.n_members:,} members and {best.n_outsiders:,} outsiders"
    tied = [attacker for attacker, entry in areas.items() if entry.ties > TIED]
    blind = f" Of no use here, since all people score alike: {', '.join(tied)}." if tied else ""
    made = []
    if any(leaks.values()):
        caught = [attacker for attacker, leak in leaks.items() if leak]
        made.append(
            Finding(
                "leak",
                f"It can be told better than by chance who was in the training data: {len(caught)} of {len(areas)} "
                f"attackers can, the best ({name}) with an {best.described()}, on {users}.",
            )
        )
    else:
        made.append(
            Finding(
                "clear",
                f"No leak of membership was found by these {len(areas)} attacks on {users}: the best ({name}) has an "
                f"{best.described()}, where guessing has 0.5. Other attacks may find more.{blind}",
            )
        )
    for at in range(len(told[0].catches)):
        made += _about_catch(told, at)
    return made


def _about_catch(told: tuple[Membership, ...], at: int) -> list[Finding]:
    caught = [(entry.catches[at], entry.attacker) for entry in told]
    measured = [(catch, name) for catch, name in caught if isinstance(catch, Catch)]
    if not measured:
        first = caught[0][0]
        assert isinstance(first, Unmeasured)
        rate = "1 %" if at == 0 else "0.1 %"
        return [Finding("unmeasured", f"Members caught at {rate} false positives: {first.reason}.")]
    # So few outsiders may hide a larger rate: it is the end of their interval that members must be above.
    sure = [
        (catch, name) for catch, name in measured if catch.members.low > max(catch.at, catch.outsiders.high)
    ]
    if not sure:
        return []
    best, name = max(sure, key=lambda pair: pair[0].members.value)
    return [
        Finding(
            "leak",
            f"Some people can be told with little error: {name} catches {best.members.value:.1%} of members "
            f"({best.members.low:.1%} to {best.members.high:.1%}) at {best.at:.1%} false positives.",
        )
    ]


def _about_guesses(guesses: Mapping[str, Guesses | Unmeasured]) -> list[Finding]:
    made, sure = [], beyond_chance(guesses)
    for called, guess in guesses.items():
        name, excess = called[0].upper() + called[1:], excess_of(guess)
        if isinstance(excess, Unmeasured):
            made.append(Finding("unmeasured", f"{name}: {excess.reason}."))
            continue
        assert isinstance(guess, Guesses)  # it has an excess
        rates = f"{guess.attack.value:.1%} of guesses right about members"
        if isinstance(guess.control, Share):
            rates += f", {guess.control.value:.1%} about outsiders, {guess.baseline.value:.1%} by the naive baseline"
        if called in sure:
            made.append(
                Finding("leak", f"{name} succeeds more often for members than for outsiders: {rates}.")
            )
        else:
            weak = " The attack is no better than the naive baseline, so its failing says little."
            made.append(
                Finding(
                    "clear",
                    f"{name}: no more success for members than for outsiders was found ({rates}, "
                    f"{guess.attack.trials:,} guesses).{weak if guess.attack_is_weak else ''}",
                )
            )
    return made


def _about_utility(utility: Sequence[Worth]) -> list[Finding]:
    best = best_taught(utility)
    if best is None:
        return []
    if not best.real.value:
        text = "What the set teaches cannot be measured: real users teach no recommender anything either"
        return [Finding("unmeasured", f"{text}, on {best.real.n_users:,} users who were kept out.")]
    length = best.metric.partition("@")[2]
    text = (
        f"A recommender ({best.recommender}) that learned from the synthetic users finds {best.synthetic.value:.1%} of what it "
        f"should among its best {length}, one that learned from the real users {best.real.value:.1%}: {best.share:.0%} of "
        f"that, on {best.real.n_users:,} users who were kept out."
    )
    low, high = best.gained.low, best.gained.high
    if low is not None and high is not None:
        words = "no difference was found" if low <= 0 <= high else "better" if low > 0 else "worse"
        text += f" With synthetic users beside the real ones: {words} ({best.gained.value:+.4f}, {low:+.4f} to {high:+.4f})."
    return [Finding("note", text)]


def _about_copies(privacy: Privacy) -> list[Finding]:
    found = privacy.copies
    made = []
    if found.exact_long.hits:
        by_chance = (
            f" {found.holdout_exact.value:.2%} of holdout users are equal to a training user, of any length."
            if isinstance(found.holdout_exact, Share)
            else ""
        )
        made.append(
            Finding(
                "leak",
                f"{found.exact_long.hits:,} of {found.exact_long.trials:,} synthetic users are exact copies of a "
                f"training user with {LONG_ROW} items or more.{by_chance}",
            )
        )
    else:
        made.append(
            Finding(
                "clear",
                f"No synthetic user with {LONG_ROW} items or more is an exact copy of a training user.",
            )
        )
    near, control = found.near, found.holdout_near
    if isinstance(near, Share):
        if isinstance(control, Share) and near.low > control.high:
            made.append(
                Finding(
                    "leak",
                    f"{near.value:.1%} of synthetic users have a Jaccard similarity of {NEAR:g} or more to a training "
                    f"user; of holdout users, {control.value:.1%} have.",
                )
            )
        elif near.hits == 0:
            made.append(Finding("clear", f"No near copies among {near.trials:,} synthetic users looked at."))
    return made


def _about_likeness(likeness: Fidelity) -> list[Finding]:
    if likeness.n_users < FEWEST_USERS:
        reason = too_few(FEWEST_USERS, "synthetic and as many real users", likeness.n_users).reason
        return [Finding("unmeasured", f"How like other real users synthetic ones are: {reason}.")]
    off = [
        entry
        for entry in likeness.likenesses
        if entry.low > entry.yardstick_high or entry.high < entry.yardstick_low
    ]
    farther = [entry.name for entry in off if _gap(entry.value, entry) > _gap(entry.yardstick, entry)]
    closer = [entry.name for entry in off if entry.name not in farther]
    total, users = len(likeness.likenesses), f"{likeness.n_users:,} synthetic and as many real users"
    made = []
    if not off:
        text = f"In {total} statistics no difference was found between synthetic and other real users, on {users}."
        made.append(Finding("note", text))
    if farther:
        text = f"In {len(farther)} of {total} statistics synthetic users are farther from train than other real users"
        made.append(Finding("note", f"{text} are, on {users}: {'; '.join(farther)}."))
    if closer:
        text = f"In {len(closer)} of {total} statistics synthetic users are closer to train than other real users"
        made.append(Finding("note", f"{text} are, as copies would be, on {users}: {'; '.join(closer)}."))
    return made


def _gap(value: float, entry: Likeness) -> float:
    return abs(value - (0.0 if entry.train is None else entry.train))


def _doubt(entry: Area) -> float:
    """The one-sided p-value of "the attacker does no better than guessing", from the interval."""
    if entry.value in (0.0, 1.0):
        return 0.0 if entry.low > 0.5 else 1.0
    width = float(special.logit(entry.high) - special.logit(entry.low)) / (2 * float(stats.norm.ppf(0.975)))
    return float(stats.norm.sf(float(special.logit(entry.value)) / width)) if width else 1.0
