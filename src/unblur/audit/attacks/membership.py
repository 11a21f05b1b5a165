"""Membership inference: an attacker with the synthetic set decides whether a person was in the training data.

The attacker knows all items of a person and computes a score, higher for "was in training". Members are training users,
outsiders are users of the same kind who were kept out. An attacker that learns nothing has an area under the ROC curve of
one half. The density ratio is that of van Breugel et al. (Membership Inference Attacks against Synthetic Data through
Overfitting Detection, AISTATS 2023), with a kernel for sets.

Attackers with a reference hold other real users as well. The holdout is split in halves: half of the members and one half
of the outsiders are scored with the other half as the reference, and vice versa, so that no user is compared with a
reference that contains the user.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.audit.attacks.attack import Attack, AttackOutcome, Needs, Samples, draw, sentence
from unblur.audit.attacks.neighbours import nearness
from unblur.audit.findings import (
    FEWEST_USERS,
    Area,
    Catch,
    Conclusion,
    Finding,
    Gate,
    Gates,
    Scores,
    Unmeasured,
    area,
    catch,
    roc_points,
)
from unblur.document.blocks import DocumentBlock, Paragraph, Section, Table, interval, number
from unblur.document.plots import Axis, Dot, interval_plot, line_plot
from unblur.models.linear.neighbours import top_per_row
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, streams

RATES = (0.01, 0.001)
"""The false-positive rates at which true positives are counted."""
ATTACKERS: Mapping[str, str] = MappingProxyType(
    {
        "nearest row": "Jaccard similarity of the person to the nearest synthetic user",
        "nearest row, relative": "the same, less the similarity to the nearest user of a reference",
        "density ratio": "how many synthetic users are close to the person, against a reference",
        "item likelihood": "how likely the person's items are by the item frequencies of the synthetic set, "
        "against those of a reference",
        "item pairs": "how usual the pairs of the person's items are in the synthetic set, against a reference",
    }
)
"""The attackers, each with a description of its score."""
TIED = 0.999
"""With a larger share of equal scores (chosen by hand) an attacker is reported as useless."""
ITEMS_OF_A_USER = 32
"""The largest number of items per user in "item pairs", the rarest ones, whose pairs say most (chosen by hand: the number of
pairs grows with its square)."""
CELLS_AT_ONCE = 1 << 22
"""Item-item counts in memory at a time (2²² float32 are 16 MiB); no result depends on it."""
PSEUDO_COUNT = 0.5
"""Added to every count of a pair, so that a pair that never occurs has a finite logarithm."""


@dataclass(frozen=True, kw_only=True)
class Membership(AttackOutcome):
    """The success of one attacker in telling members from outsiders."""

    attacker: str
    auc: Area | Unmeasured
    catches: tuple[Catch | Unmeasured, ...]
    """True positives at each of `RATES`."""
    roc: tuple[tuple[float, float], ...] = ()
    """Points (false-positive rate, true-positive rate); empty if nothing could be measured."""

    @classmethod
    def of(cls, attacker: str, members: Scores, outsiders: Scores) -> Self:
        """The outcome of an attacker with these scores, one per user, higher for "was in training"."""
        return cls(
            attacker=attacker,
            auc=area(members, outsiders),
            catches=tuple(catch(members, outsiders, rate) for rate in RATES),
            roc=roc_points(members, outsiders),
        )

    @classmethod
    def unmeasured(cls, name: str, reason: Unmeasured) -> Self:
        """The outcome of an attacker that could not be measured."""
        return cls(attacker=name, auc=reason, catches=(reason,) * len(RATES))

    @classmethod
    def report(cls, outcomes: Mapping[str, Self | Unmeasured]) -> Mapping[str, Any]:
        """One list, with an entry per attacker."""
        return {"membership": tuple(outcomes.values())}

    @classmethod
    def p_values(cls, outcomes: Mapping[str, Self | Unmeasured]) -> Mapping[str, float]:
        """One-sided tests of each attacker's area, and of the members caught at each of `RATES`."""
        attackers, areas, _ = _attackers(outcomes)
        return {_area_test(name): entry.p_value for name, entry in areas.items()} | {
            _catch_test(name, index): caught.p_value
            for index in range(len(RATES))
            for name, caught in _catches(attackers, index).items()
        }

    @classmethod
    def conclusions(
        cls, outcomes: Mapping[str, Self | Unmeasured], limits: Gates, significant: Collection[str]
    ) -> Iterator[Conclusion]:
        """Findings on membership, on average and for a few users at small error; gates `max_auc` and `max_catch_at_…`."""
        attackers, areas, reason = _attackers(outcomes)
        if not areas:
            yield Finding("unmeasured", "membership", f"Membership in the training data: {reason}.")
            yield Gate("max_auc", False, reason)
            yield from (_catch_gate(attackers, index, limits) for index in range(len(RATES)))
            return
        n_leaks = sum(_area_test(name) in significant for name in areas)
        name, best = max(areas.items(), key=lambda item: item[1].value)
        if n_leaks:
            yield Finding(
                "leak",
                "membership",
                f"Members of the training data can be recognised better than by chance: by {n_leaks} of {len(areas)} "
                f"attackers, the best ({name}) with an {best.described()}, on {best.users()}.",
            )
        else:
            tied = ", ".join(attacker for attacker, entry in areas.items() if entry.ties > TIED)
            yield Finding(
                "clear",
                "membership",
                f"No leak of membership was found by these {len(areas)} attacks on {best.users()}: the best ({name}) has an "
                f"{best.described()}, and guessing 0.5. Other attacks may find more."
                + (f" Useless here, because all users have equal scores: {tied}." if tied else ""),
            )
        for index in range(len(RATES)):
            yield from _catch_findings(attackers, index, significant)
        limit = limits.max_auc
        if limit is not None:
            text = f"the best attacker ({name}) has an {best.described()}; the limit is {limit:g}"
            if best.value <= limit < best.high:
                text += ", within its interval: more users would decide it"
            yield Gate("max_auc", best.value <= limit, text, best.value, limit, (best.low, best.high))
        yield from (_catch_gate(attackers, index, limits) for index in range(len(RATES)))

    @classmethod
    def section(cls, attacks: Sequence[Attack], outcomes: Mapping[str, Self | Unmeasured]) -> Section:
        """Areas, rates and ROC curves of every attacker."""
        attackers, areas, reason = _attackers(outcomes)
        question = Paragraph(
            "Can an attacker who holds the synthetic set, and knows all items of a person, tell whether that person was in "
            "the training data? The area under the ROC curve is the probability that a random member is ranked above a "
            "random outsider: 0.5 is guessing, 1 is certainty."
        )
        if not areas:
            return Section("Membership inference", (question, Paragraph(f"{sentence(reason)}.")))
        measured = [entry for entry in attackers if entry.attacker in areas]
        users = next(iter(areas.values())).users()
        at_rates = [f"caught at {100 * rate:g} %" for rate in RATES]
        rows = [
            (
                *(name, number(auc.value), interval(auc.low, auc.high), f"{auc.ties:.2%}"),
                *(
                    (caught.members if isinstance(caught, Catch) else caught).cell()
                    for caught in entry.catches
                ),
            )
            for entry, (name, auc) in zip(measured, areas.items(), strict=True)
        ]
        missing = dict.fromkeys(
            f"{sentence(column)}: {caught.reason}."
            for entry in attackers
            for column, caught in zip(at_rates, entry.catches, strict=True)
            if isinstance(caught, Unmeasured)
        )
        axis = Axis(
            label="outsiders taken for members (logarithmic)",
            logarithmic=True,
            percent=True,
            low=1 / max(10, min(auc.n_outsiders for auc in areas.values())),
            high=1.0,
        )
        blocks: tuple[DocumentBlock, ...] = (
            question,
            interval_plot(
                [Dot(label=name, value=auc.value, low=auc.low, high=auc.high) for name, auc in areas.items()],
                axis=Axis(label="area under the ROC curve"),
                marks={"guessing, 0.5": 0.5},
                caption=f"Each attacker with its 95 % interval, on {users}.",
            ),
            Table(
                ("attacker", "AUC", "95 % interval", "ties", *at_rates),
                rows,
                f"On {users}. Caught: the share of members above a threshold that so few outsiders exceed.",
            ),
            *map(Paragraph, missing),
            line_plot(
                {entry.attacker: entry.roc for entry in measured},
                x=axis,
                y=replace(axis, label="members caught (logarithmic)"),
                diagonal="guessing",
                caption=f"ROC curves of the attackers, on {users}.",
            ),
            Table(
                ("attacker", "score"),
                [entry for attack in attacks for entry in attack.tries.items()],
                left=2,
            ),
        )
        return Section("Membership inference", blocks)


class MembershipInference(Attack):
    """Run every attacker on random members and outsiders."""

    name = "membership"
    risk = "membership inference: the set reveals that a person was in the training data"
    needs = Needs(control=True, users=FEWEST_USERS)
    outcome = Membership
    tries = ATTACKERS

    def run(
        self, samples: Samples, users: int | None, rng: RNG, progress: Progress
    ) -> Mapping[str, Membership]:
        """The outcome of each attacker on at most `users` members and as many outsiders."""
        assert samples.holdout is not None  # by `needs`
        generators = streams(rng, "members", "outsiders")
        members = draw(samples.train.n_users, users, generators["members"])
        outsiders = draw(samples.holdout.n_users, users, generators["outsiders"])
        scores = _scores(samples, samples.holdout.matrix, members, outsiders, progress)
        return {
            name: Membership.of(name, score[: len(members)], score[len(members) :])
            for name, score in scores.items()
        }


def _attackers(
    outcomes: Mapping[str, Membership | Unmeasured],
) -> tuple[list[Membership], dict[str, Area], str]:
    """The attackers, the areas of those that could be measured, and a reason if one could not."""
    attackers = [entry for entry in outcomes.values() if isinstance(entry, Membership)]
    areas = {entry.attacker: entry.auc for entry in attackers if isinstance(entry.auc, Area)}
    reasons = [entry.auc.reason for entry in attackers if isinstance(entry.auc, Unmeasured)]
    return attackers, areas, reasons[0] if reasons else ""


def _area_test(attacker: str) -> str:
    return f"membership by {attacker}"


def _catch_test(attacker: str, index: int) -> str:
    return f"caught at {100 * RATES[index]:g} % by {attacker}"


def _catches(attackers: Sequence[Membership], index: int) -> dict[str, Catch]:
    """The catches at the rate `RATES[index]` that could be measured, by attacker."""
    catches = ((entry.attacker, entry.catches[index]) for entry in attackers)
    return {name: caught for name, caught in catches if isinstance(caught, Catch)}


def _catch_gate(attackers: Sequence[Membership], index: int, limits: Gates) -> Gate:
    """The gate on the catch rate at `RATES[index]`: by the low end of the interval, of the attacker with the highest."""
    name, limit = (("max_catch_at_1", limits.max_catch_at_1), ("max_catch_at_01", limits.max_catch_at_01))[
        index
    ]
    measured = _catches(attackers, index)
    if not measured or limit is None:
        reasons = (
            caught.reason for entry in attackers if isinstance(caught := entry.catches[index], Unmeasured)
        )
        # A tenth of a percent needs 1,000 outsiders, whom few have: that it is not measured fails nothing.
        reason = next(reasons, "there was no attacker").replace("cannot be measured", "not measured")
        return Gate(name, index > 0, reason, limit=limit)
    attacker, best = max(measured.items(), key=lambda item: item[1].members.low)
    share = best.members
    reason = (
        f"{attacker} catches {share.value:.1%} of members ({share.low:.1%} to {share.high:.1%}) at {100 * best.at:g} % false "
        f"positives; the limit is {limit:.1%}, for the low end of the interval"
    )
    return Gate(name, share.low <= limit, reason, share.value, limit, (share.low, share.high))


def _catch_findings(
    attackers: Sequence[Membership], index: int, significant: Collection[str]
) -> Iterator[Finding]:
    """Findings about true positives at the rate `RATES[index]`."""
    measured, name = _catches(attackers, index), f"caught-at-{100 * RATES[index]:g}-percent"
    if not measured:
        reason = next(
            caught.reason for entry in attackers if isinstance(caught := entry.catches[index], Unmeasured)
        )
        text = f"Members caught at {100 * RATES[index]:g} % false positives: {reason}."
        yield Finding("unmeasured", name, text)
    leaks = {
        attacker: caught
        for attacker, caught in measured.items()
        if _catch_test(attacker, index) in significant
    }
    if leaks:
        attacker, best = max(leaks.items(), key=lambda item: item[1].members.value)
        yield Finding(
            "leak",
            name,
            f"Some members can be recognised with little error: {attacker} catches {best.members.value:.1%} of members "
            f"({best.members.low:.1%} to {best.members.high:.1%}) at {best.at:.1%} false positives.",
        )


def _scores(
    samples: Samples,
    holdout: sparse.csr_array,
    members: NDArray[np.int64],
    outsiders: NDArray[np.int64],
    progress: Progress,
) -> dict[str, NDArray[np.float64]]:
    """Each attacker's scores, members first."""
    synthetic = samples.synthetic.matrix
    targets = sparse.csr_array(
        sparse.vstack([samples.train.matrix[members], holdout[outsiders]], format="csr")
    )
    near = nearness(targets, synthetic, progress=progress, stage="attack: nearest synthetic users")
    scores = {name: np.zeros(targets.shape[0]) for name in ATTACKERS}
    scores["nearest row"] = near.nearest.astype(np.float64)
    few = rarest_items(targets, np.bincount(synthetic.indices, minlength=synthetic.shape[1]))
    pair_shares = pair_log_share(few, synthetic, progress=progress, stage="attack: item pairs")
    # Half of the holdout is a fold's reference: for outsiders the half without them.
    rest = np.setdiff1d(np.arange(holdout.shape[0]), outsiders, assume_unique=True)
    second = np.zeros(holdout.shape[0], dtype=bool)
    second[outsiders[len(outsiders) // 2 :]] = True
    second[rest[len(rest) // 2 :]] = True
    fold = np.concatenate([np.arange(len(members)) % 2 == 1, second[outsiders]])
    for index, in_second in enumerate((False, True)):
        rows = np.flatnonzero(fold == in_second)
        reference = holdout[np.flatnonzero(second != in_second)]
        stage = f"attack: reference {index + 1} of 2"
        near_reference = nearness(targets[rows], reference, progress=progress, stage=stage)
        scores["nearest row, relative"][rows] = scores["nearest row"][rows] - near_reference.nearest
        floor = 1e-6  # the density of one user in 4,000 with similarity ½ (½⁸ / 4,000); less is noise
        scores["density ratio"][rows] = np.log(
            (near.density[rows] + floor) / (near_reference.density + floor)
        )
        scores["item likelihood"][rows] = _likelihood_ratio(targets[rows], synthetic, reference)
        scores["item pairs"][rows] = pair_shares[rows] - pair_log_share(few[rows], reference)
    return scores


def _likelihood_ratio(
    targets: sparse.csr_array, rows: sparse.csr_array, reference: sparse.csr_array
) -> NDArray[np.float64]:
    """The log-likelihood ratio of each target, under independent items with the frequencies of either set."""
    logits, constant = np.zeros(targets.shape[1]), 0.0
    for part, sign in ((rows, 1.0), (reference, -1.0)):
        # ½ a user with and ½ without the item (Jeffreys' prior), so that no frequency is 0 or 1.
        share = (np.bincount(part.indices, minlength=part.shape[1]) + 0.5) / (part.shape[0] + 1.0)
        logits += sign * (np.log(share) - np.log1p(-share))
        constant += sign * float(np.log1p(-share).sum())
    return np.asarray(targets @ logits + constant)


def pair_log_share(
    targets: sparse.csr_array,
    rows: sparse.csr_array,
    *,
    progress: Progress = silent,
    stage: str = "compare item pairs",
) -> NDArray[np.float64]:
    """The mean, over the pairs of a target's items, of the log of the share of `rows` that have the pair.

    Both binary over the same items. (n_targets,); 0 for a target with fewer than two items. Co-occurrences are
    counted for a few items at a time.
    """
    by_item = targets.T.tocsr()
    owned = np.diff(targets.indptr)
    total = np.zeros(targets.shape[0])
    step = max(1, CELLS_AT_ONCE // targets.shape[1])
    transposed = rows.T.tocsr()
    for start in range(0, targets.shape[1], step):
        stop = min(start + step, targets.shape[1])
        first, last = by_item.indptr[start], by_item.indptr[stop]
        users = by_item.indices[first:last]
        if len(users):
            local = np.repeat(np.arange(stop - start), np.diff(by_item.indptr[start : stop + 1]))
            lengths = owned[users]
            ends = np.cumsum(lengths)
            entry = np.arange(ends[-1]) - np.repeat(ends - lengths - targets.indptr[users], lengths)
            # Every ordered pair (left, right) of the items of a user, left within this block of items.
            left, right = np.repeat(local, lengths), targets.indices[entry]
            counts = (transposed[start:stop] @ rows).toarray()
            logs = np.log(counts[left, right] + PSEUDO_COUNT)
            logs[left + start == right] = 0.0  # an item with itself is no pair
            total += np.bincount(np.repeat(users, lengths), weights=logs, minlength=len(total))
        progress(ProgressEvent(stage, stop, targets.shape[1]))
    n_pairs = owned * (owned - 1)
    return np.where(n_pairs > 0, total / np.maximum(n_pairs, 1) - np.log(rows.shape[0] + 1), 0.0)


def rarest_items(targets: sparse.csr_array, counts: NDArray[Any]) -> sparse.csr_array:
    """The targets with at most `ITEMS_OF_A_USER` items each: those with the lowest counts."""
    ranked = sparse.csr_array(
        (-counts[targets.indices].astype(np.float64), targets.indices, targets.indptr), shape=targets.shape
    )
    rarest = top_per_row(ranked, ITEMS_OF_A_USER)
    rarest.data = np.ones(rarest.nnz, dtype=targets.dtype)
    return rarest
