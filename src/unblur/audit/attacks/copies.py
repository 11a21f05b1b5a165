"""Copies: synthetic users who are, or nearly are, real ones; and how near the two sets are, beside two real ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.audit.attacks.attack import Attack, AttackOutcome, Samples, drawn, row_hashes
from unblur.audit.attacks.neighbours import nearness
from unblur.audit.findings import (
    FEWEST_USERS,
    NO_CONTROL,
    Conclusion,
    Finding,
    Gate,
    Gates,
    Proportion,
    Unmeasured,
    too_few,
)
from unblur.document.blocks import DocumentBlock, Paragraph, Section, Table, number
from unblur.progress import Progress
from unblur.randomness import RNG, streams

LONG_ROW = 5
"""From so many items on an equal row is counted as a copy; short rows are equal by chance."""
NEAR = 0.9
"""A Jaccard similarity from which on a row is a near copy."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the distances to the nearest user."""


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Synthetic users with just the items of a training user, and such users of the holdout beside them."""

    exact: Proportion
    """Of all synthetic users, those with the very items of a training user."""
    exact_long: Proportion
    """The same, counting only copies with at least `LONG_ROW` items."""
    near: Proportion | Unmeasured
    """Of synthetic users looked at with at least `LONG_ROW` items, those with a Jaccard similarity of at least
    `NEAR` to a training user."""
    holdout_exact: Proportion | Unmeasured
    """Of the holdout users, those with the very items of a training user: what chance alone does."""
    holdout_near: Proportion | Unmeasured


@dataclass(frozen=True, kw_only=True)
class Distances:
    """How far synthetic users are from training users and from equally many holdout users.

    Secondary, and no evidence of privacy: a set can be far from all of train and still give members away.
    """

    nearest_to_train: tuple[float, ...]
    """The 5, 25, 50, 75 and 95 % quantiles of the Jaccard distance to the nearest training user."""
    nearest_to_holdout: tuple[float, ...] | Unmeasured
    nearer_to_train: Proportion | Unmeasured
    """Of synthetic users that are nearer to one of the two sets, those nearer to train; one half is no preference."""
    ties: float | None
    """The share of synthetic users that are as near to both."""
    dissimilarity: float
    """The mean Jaccard distance over all pairs of a synthetic and a training user: what Lilienthal et al. (2024)
    report as about 99 %. Two unrelated real samples have as much."""
    holdout_dissimilarity: float | None
    """The same of holdout users against training users."""
    n_users: int
    """On how many synthetic users this rests."""


@dataclass(frozen=True)
class CopiesAndDistances(AttackOutcome):
    """The outcome of looking for training users in the set."""

    copies: Copies
    distances: Distances

    @classmethod
    def report(cls, outcomes: Mapping[str, Self | Unmeasured]) -> Mapping[str, Any]:
        """Copies and distances by themselves."""
        return {
            name: value
            for outcome in outcomes.values()
            if isinstance(outcome, CopiesAndDistances)
            for name, value in (("copies", outcome.copies), ("distances", outcome.distances))
        }

    def own_conclusions(self, limits: Gates) -> Iterator[Conclusion]:
        """Whether there are copies, and more near copies than among outsiders; `max_copies` and `max_near_copies`."""
        copies = self.copies
        exact, near, control = copies.exact_long, copies.near, copies.holdout_near
        copied = f"a training user with {LONG_ROW} items or more"
        if exact.hits:
            by_chance = (
                f" {copies.holdout_exact.value:.2%} of holdout users are equal to a training user, of any length."
                if isinstance(copies.holdout_exact, Proportion)
                else ""
            )
            yield Finding(
                "leak",
                f"{exact.hits:,} of {exact.trials:,} synthetic users are exact copies of {copied}.{by_chance}",
            )
        else:
            yield Finding(
                "clear",
                f"No synthetic user with {LONG_ROW} items or more is an exact copy of a training user.",
            )
        if limits.max_copies is not None:
            yield Gate(
                "max_copies",
                exact.hits <= limits.max_copies,
                f"{exact.hits:,} of {exact.trials:,} synthetic users are copies of {copied}; the limit is "
                f"{limits.max_copies:,}",
            )
        if isinstance(near, Unmeasured):
            yield Gate("max_near_copies", False, near.reason)
            return
        if isinstance(control, Proportion) and near.low > control.high:
            yield Finding(
                "leak",
                f"{near.value:.1%} of synthetic users have a Jaccard similarity of {NEAR:g} or more to a training user; of "
                f"holdout users, {control.value:.1%} have.",
            )
        elif near.hits == 0:
            yield Finding("clear", f"No near copies among {near.trials:,} synthetic users looked at.")
        limit = limits.max_near_copies
        if near.trials < FEWEST_USERS:
            few = too_few(FEWEST_USERS, "synthetic users to look for near copies among", near.trials)
            yield Gate("max_near_copies", False, few.reason)
        elif limit is not None:
            usual, beside = (
                (control.value, f"{control.value:.2%} of holdout users are")
                if isinstance(control, Proportion)
                else (0.0, f"of holdout users it {control.reason}")
            )
            yield Gate(
                "max_near_copies",
                near.value - usual <= limit,
                f"{near.value:.2%} of {near.trials:,} synthetic users are near copies of a training user ({beside}); the "
                f"limit is {limit:.2%} more",
            )

    @classmethod
    def section(cls, attacks: Sequence[Attack], outcomes: Mapping[str, Self | Unmeasured]) -> Section:
        """Tables of copies and of distances."""
        measured = [outcome for outcome in outcomes.values() if isinstance(outcome, CopiesAndDistances)]
        return Section("Copies and distances", [block for outcome in measured for block in outcome.blocks()])

    def blocks(self) -> tuple[DocumentBlock, ...]:
        """What the page shows of it."""
        copies, distances = self.copies, self.distances
        rows = (
            ("the very items of a training user", copies.exact.cell(), copies.holdout_exact.cell()),
            (f"… with {LONG_ROW} items or more", copies.exact_long.cell(), ""),
            (
                f"Jaccard similarity of {NEAR:g} or more to one",
                copies.near.cell(),
                copies.holdout_near.cell(),
            ),
        )
        far, apart = distances.nearest_to_holdout, distances.holdout_dissimilarity
        outsiders = [far.cell()] * len(QUANTILES) if isinstance(far, Unmeasured) else map(number, far)
        spread = [
            (f"{quantile:.0%} quantile", number(value), outsider)
            for quantile, value, outsider in zip(
                QUANTILES, distances.nearest_to_train, outsiders, strict=True
            )
        ]
        mean = number(distances.dissimilarity), "–" if apart is None else f"{number(apart)} ¹"
        nearer, ties = distances.nearer_to_train, distances.ties
        return (
            Table(("synthetic users with", "synthetic", "holdout users"), rows, "Copies of training users."),
            Paragraph(
                "Distances are secondary: a set can be far from every training user and still give members away, and two "
                "unrelated real samples are far from each other too."
            ),
            Table(
                ("Jaccard distance to the nearest", "training user", "holdout user"),
                [*spread, ("mean over all pairs", *mean)],
                f"Of {distances.n_users:,} synthetic users to equally many training and holdout users."
                + ("" if apart is None else " ¹ of holdout users to training users."),
            ),
            *(
                [
                    Paragraph(
                        f"Of the synthetic users that are nearer to one side, {nearer.cell()} are nearer to a training user; "
                        f"{ties:.1%} of all are as near to both. One half is no preference."
                    )
                ]
                if isinstance(nearer, Proportion) and ties is not None
                else ()
            ),
        )


class Copying(Attack):
    """Exact copies among all synthetic users; near copies and distances on some of them."""

    name = "copies"
    risk = "copies: all that is known of a person is in the set"
    outcome = CopiesAndDistances
    tries = MappingProxyType(
        {
            "copies": "Synthetic users with the items of a training user, or nearly, are counted, and their distances measured."
        }
    )

    def run(
        self, samples: Samples, users: int | None, rng: RNG, progress: Progress
    ) -> Mapping[str, CopiesAndDistances]:
        """Copies and distances, beside those of users who were not in training."""
        train, synthetic = samples.train.matrix, samples.synthetic.matrix
        generators = streams(rng, "synthetic", "train", "holdout")
        looked_at = synthetic[drawn(synthetic.shape[0], users, generators["synthetic"])]
        equal = _equal_rows(synthetic, train)
        to_train = nearness(looked_at, train, progress=progress, stage="copies: nearest training users")
        copies = Copies(
            exact=Proportion.of(equal),
            exact_long=Proportion.of(equal & (np.diff(synthetic.indptr) >= LONG_ROW)),
            near=_near_share(looked_at, to_train.nearest),
            holdout_exact=NO_CONTROL,
            holdout_near=NO_CONTROL,
        )
        distances = Distances(
            nearest_to_train=_quantiles(to_train.nearest),
            nearest_to_holdout=NO_CONTROL,
            nearer_to_train=NO_CONTROL,
            ties=None,
            dissimilarity=float(1 - to_train.mean.mean()),
            holdout_dissimilarity=None,
            n_users=int(looked_at.shape[0]),
        )
        if samples.holdout is None:
            return {"copies": CopiesAndDistances(copies, distances)}
        holdout = samples.holdout.matrix
        apart = holdout[drawn(holdout.shape[0], users, generators["holdout"])]
        control = nearness(apart, train, progress=progress, stage="copies: holdout beside training users")
        # Of equally many users on both sides, else the larger set is the nearer one.
        size = min(train.shape[0], holdout.shape[0])
        one, other = (
            nearness(
                looked_at,
                rows[drawn(rows.shape[0], size, generators[name])],
                progress=progress,
                stage=f"distances: {name}",
            ).nearest
            for name, rows in (("train", train), ("holdout", holdout))
        )
        decided = one != other
        copies = replace(
            copies,
            holdout_exact=Proportion.of(_equal_rows(holdout, train)),
            holdout_near=_near_share(apart, control.nearest),
        )
        distances = replace(
            distances,
            nearest_to_train=_quantiles(one),
            nearest_to_holdout=_quantiles(other),
            nearer_to_train=Proportion.of((one > other)[decided])
            if decided.any()
            else Unmeasured("cannot be measured: every synthetic user is as near to both sets"),
            ties=float((~decided).mean()),
            holdout_dissimilarity=float(1 - control.mean.mean()),
        )
        return {"copies": CopiesAndDistances(copies, distances)}


def _equal_rows(rows: sparse.csr_array, others: sparse.csr_array) -> NDArray[np.bool_]:
    """Whether each of `rows` is equal to one of `others`, (n_rows,)."""
    return np.isin(row_hashes(rows), row_hashes(others))


def _near_share(rows: sparse.csr_array, nearest: NDArray[np.float32]) -> Proportion | Unmeasured:
    long = np.diff(rows.indptr) >= LONG_ROW
    if not long.any():
        return Unmeasured(f"cannot be measured: needs users with at least {LONG_ROW} items; there are none")
    return Proportion.of(nearest[long] >= NEAR)


def _quantiles(nearest: NDArray[np.float32]) -> tuple[float, ...]:
    """The quantiles of distances, of similarities."""
    return tuple(float(value) for value in np.quantile(1 - nearest, QUANTILES))
