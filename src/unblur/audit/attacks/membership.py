"""Membership inference: can an attacker who holds the synthetic set tell whether a person was in the training data?

The attacker knows all items of a person and gives a score, higher for "was in training". Members are training
users, outsiders are users of the same kind who were kept out. An attacker that learns nothing has an area under
the ROC curve of one half. The density ratio is that of van Breugel et al. (Membership Inference Attacks against
Synthetic Data through Overfitting Detection, AISTATS 2023), with a kernel for sets.

Attackers with a reference hold other real users as well. The holdout is cut in two: half of the members and one
half of the outsiders are scored with the other half as the reference, and the other way round, so that nobody is
compared with a reference that holds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special, stats

from unblur.audit.attacks.attack import Attack, AttackOutcome, Needs, Samples, drawn, sentence
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
from unblur.evaluation.significance import holm
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
"""The attackers, and what each one's score is."""
TIED = 0.999
"""An attacker of whose pairs a larger share has equal scores tells nobody apart."""
ITEMS_OF_A_USER = 32
"""Of a user with more items, so many are looked at: the rarest ones, where a pair tells most."""
CELLS_AT_ONCE = 1 << 22
"""How many item-item counts are held at a time; no result depends on it."""
PSEUDO_COUNT = 0.5
"""Added to every count of a pair, so that a pair that never occurs has a logarithm."""


@dataclass(frozen=True, kw_only=True)
class Membership(AttackOutcome):
    """How well one attacker tells members from outsiders."""

    attacker: str
    auc: Area | Unmeasured
    catches: tuple[Catch | Unmeasured, ...]
    """True positives at each of `RATES`."""
    roc: tuple[tuple[float, float], ...] = ()
    """Points (false-positive rate, true-positive rate); none where nothing could be measured."""

    @classmethod
    def of(cls, attacker: str, members: Scores, outsiders: Scores) -> Self:
        """Judge the scores of an attacker: one a user, higher for "was in training"."""
        return cls(
            attacker=attacker,
            auc=area(members, outsiders),
            catches=tuple(catch(members, outsiders, rate) for rate in RATES),
            roc=roc_points(members, outsiders),
        )

    @classmethod
    def unmeasured(cls, name: str, reason: Unmeasured) -> Self:
        """An attacker of whom nothing is known, for this reason."""
        return cls(attacker=name, auc=reason, catches=(reason,) * len(RATES))

    @classmethod
    def report(cls, outcomes: Mapping[str, Self | Unmeasured]) -> Mapping[str, Any]:
        """One list, an entry for each attacker."""
        return {"membership": tuple(outcomes.values())}

    @classmethod
    def conclusions(cls, outcomes: Mapping[str, Self | Unmeasured], limits: Gates) -> Iterator[Conclusion]:
        """Whether members can be told at all, and whether some can be told with little error; `max_auc`."""
        told, areas, reason = _told(outcomes)
        if not areas:
            yield Finding("unmeasured", f"Whether a person was in the training data: {reason}.")
            yield Gate("max_auc", False, reason)
            return
        leaks = holm([_doubt(entry) for entry in areas.values()]) < 0.05
        name, best = max(areas.items(), key=lambda item: item[1].value)
        if leaks.any():
            yield Finding(
                "leak",
                f"It can be told better than by chance who was in the training data: {int(leaks.sum())} of {len(areas)} "
                f"attackers can, the best ({name}) with an {best.described()}, on {best.users()}.",
            )
        else:
            tied = ", ".join(attacker for attacker, entry in areas.items() if entry.ties > TIED)
            yield Finding(
                "clear",
                f"No leak of membership was found by these {len(areas)} attacks on {best.users()}: the best ({name}) has an "
                f"{best.described()}, where guessing has 0.5. Other attacks may find more."
                + (f" Of no use here, since all people score alike: {tied}." if tied else ""),
            )
        for at in range(len(RATES)):
            yield from _about_catch(told, at)
        limit = limits.max_auc
        if limit is not None:
            text = f"the best attacker ({name}) has an {best.described()}; the limit is {limit:g}"
            if best.value <= limit < best.high:
                text += ", which its interval reaches beyond: more users would make it sure"
            yield Gate("max_auc", best.value <= limit, text)

    @classmethod
    def section(cls, attacks: Sequence[Attack], outcomes: Mapping[str, Self | Unmeasured]) -> Section:
        """Areas, rates and ROC curves of every attacker."""
        told, areas, reason = _told(outcomes)
        question = Paragraph(
            "Can somebody who holds the synthetic set, and knows all items of a person, tell whether that person was in "
            "the training data? An area of 0.5 is guessing, 1 is certainty: it is how often a random member is ranked "
            "above a random outsider."
        )
        if not areas:
            return Section("Membership inference", (question, Paragraph(f"{sentence(reason)}.")))
        measured = [entry for entry in told if entry.attacker in areas]
        users = next(iter(areas.values())).users()
        at_rates = [f"caught at {100 * rate:g} %" for rate in RATES]
        rows = [
            (
                *(name, number(auc.value), interval(auc.low, auc.high), f"{auc.ties:.2%}"),
                *((each.members if isinstance(each, Catch) else each).cell() for each in entry.catches),
            )
            for entry, (name, auc) in zip(measured, areas.items(), strict=True)
        ]
        missing = dict.fromkeys(
            f"{sentence(column)}: {each.reason}."
            for entry in told
            for column, each in zip(at_rates, entry.catches, strict=True)
            if isinstance(each, Unmeasured)
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
                f"On {users}. Caught: the share of members above a threshold that so few outsiders pass.",
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
                ("attacker", "its score"),
                [each for attack in attacks for each in attack.tries.items()],
                left=2,
            ),
        )
        return Section("Membership inference", blocks)


class MembershipInference(Attack):
    """Every attacker on random members and outsiders."""

    name = "membership"
    risk = "membership inference: it is known that a person was in the training data"
    needs = Needs(control=True, users=FEWEST_USERS)
    outcome = Membership
    tries = ATTACKERS

    def run(
        self, samples: Samples, users: int | None, rng: RNG, progress: Progress
    ) -> Mapping[str, Membership]:
        """How well each attacker tells at most `users` members from as many outsiders."""
        assert samples.holdout is not None  # it is among the needs
        generators = streams(rng, "members", "outsiders")
        members = drawn(samples.train.n_users, users, generators["members"])
        outsiders = drawn(samples.holdout.n_users, users, generators["outsiders"])
        scores = _scores(samples, samples.holdout.matrix, members, outsiders, progress)
        return {
            name: Membership.of(name, score[: len(members)], score[len(members) :])
            for name, score in scores.items()
        }


def _told(
    outcomes: Mapping[str, Membership | Unmeasured],
) -> tuple[list[Membership], dict[str, Area], str]:
    """The attackers, the areas of those that could be measured, and why one could not."""
    told = [entry for entry in outcomes.values() if isinstance(entry, Membership)]
    areas = {entry.attacker: entry.auc for entry in told if isinstance(entry.auc, Area)}
    reasons = [entry.auc.reason for entry in told if isinstance(entry.auc, Unmeasured)]
    return told, areas, reasons[0] if reasons else ""


def _about_catch(told: Sequence[Membership], at: int) -> Iterator[Finding]:
    """Findings about true positives at the rate `RATES[at]`."""
    caught = {entry.attacker: entry.catches[at] for entry in told}
    measured = {name: each for name, each in caught.items() if isinstance(each, Catch)}
    if not measured:
        reason = next(each.reason for each in caught.values() if isinstance(each, Unmeasured))
        yield Finding("unmeasured", f"Members caught at {100 * RATES[at]:g} % false positives: {reason}.")
    # So few outsiders may hide a larger rate: it is the end of their interval that members must be above.
    sure = {
        name: each for name, each in measured.items() if each.members.low > max(each.at, each.outsiders.high)
    }
    if sure:
        name, best = max(sure.items(), key=lambda item: item[1].members.value)
        yield Finding(
            "leak",
            f"Some people can be told with little error: {name} catches {best.members.value:.1%} of members "
            f"({best.members.low:.1%} to {best.members.high:.1%}) at {best.at:.1%} false positives.",
        )


def _doubt(entry: Area) -> float:
    """The one-sided p-value of "the attacker does no better than guessing", from the interval."""
    if entry.value in (0.0, 1.0):
        return 0.0 if entry.low > 0.5 else 1.0
    width = float(special.logit(entry.high) - special.logit(entry.low)) / (2 * float(stats.norm.ppf(0.975)))
    return float(stats.norm.sf(float(special.logit(entry.value)) / width)) if width else 1.0


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
    usual = pair_log_share(few, synthetic, progress=progress, stage="attack: item pairs")
    # Half of the holdout is a fold's reference: for outsiders the half that they are not in.
    rest = np.setdiff1d(np.arange(holdout.shape[0]), outsiders, assume_unique=True)
    second = np.zeros(holdout.shape[0], dtype=bool)
    second[outsiders[len(outsiders) // 2 :]] = True
    second[rest[len(rest) // 2 :]] = True
    fold = np.concatenate([np.arange(len(members)) % 2 == 1, second[outsiders]])
    for at, in_second in enumerate((False, True)):
        mine = np.flatnonzero(fold == in_second)
        reference = holdout[np.flatnonzero(second != in_second)]
        stage = f"attack: reference {at + 1} of 2"
        apart = nearness(targets[mine], reference, progress=progress, stage=stage)
        scores["nearest row, relative"][mine] = scores["nearest row"][mine] - apart.nearest
        floor = 1e-6  # a density below that of one half-similar user in 4,000 says nothing
        scores["density ratio"][mine] = np.log((near.density[mine] + floor) / (apart.density + floor))
        scores["item likelihood"][mine] = _likelihood_ratio(targets[mine], synthetic, reference)
        scores["item pairs"][mine] = usual[mine] - pair_log_share(few[mine], reference)
    return scores


def _likelihood_ratio(
    targets: sparse.csr_array, rows: sparse.csr_array, reference: sparse.csr_array
) -> NDArray[np.float64]:
    """The log-likelihood ratio of each target, under independent items with the frequencies of either set."""
    logits, constant = np.zeros(targets.shape[1]), 0.0
    for part, sign in ((rows, 1.0), (reference, -1.0)):
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
    turned = rows.T.tocsr()
    for start in range(0, targets.shape[1], step):
        stop = min(start + step, targets.shape[1])
        first, last = by_item.indptr[start], by_item.indptr[stop]
        users = by_item.indices[first:last]
        if len(users):
            local = np.repeat(np.arange(stop - start), np.diff(by_item.indptr[start : stop + 1]))
            lengths = owned[users]
            ends = np.cumsum(lengths)
            entry = np.arange(ends[-1]) - np.repeat(ends - lengths - targets.indptr[users], lengths)
            one, other = np.repeat(local, lengths), targets.indices[entry]
            counts = (turned[start:stop] @ rows).toarray()
            logs = np.log(counts[one, other] + PSEUDO_COUNT)
            logs[one + start == other] = 0.0  # an item with itself is no pair
            total += np.bincount(np.repeat(users, lengths), weights=logs, minlength=len(total))
        progress(ProgressEvent(stage, stop, targets.shape[1]))
    n_pairs = owned * (owned - 1)
    return np.where(n_pairs > 0, total / np.maximum(n_pairs, 1) - np.log(rows.shape[0] + 1), 0.0)


def rarest_items(targets: sparse.csr_array, counts: NDArray[Any]) -> sparse.csr_array:
    """The targets with at most `ITEMS_OF_A_USER` items each, those of the lowest count."""
    ranked = sparse.csr_array(
        (-counts[targets.indices], targets.indices, targets.indptr), shape=targets.shape
    )
    rarest = top_per_row(ranked, ITEMS_OF_A_USER)
    rarest.data = np.ones(rarest.nnz, dtype=targets.dtype)
    return rarest
