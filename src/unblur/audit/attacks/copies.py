"""Copies: synthetic users equal or nearly equal to training users; and distances between the sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.audit.attacks.attack import Attack, AttackOutcome, Samples, draw, row_hashes
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
"""An equal row with at least so many items counts as a copy (chosen by hand: shorter rows are equal by chance)."""
NEAR = 0.9
"""The Jaccard similarity from which a row counts as a near copy (chosen by hand)."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles reported of distances to the nearest user."""


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Synthetic users with exactly or nearly the items of a training user, and such users of the holdout."""

    exact: Proportion
    """Of all synthetic users, those with exactly the items of a training user."""
    exact_long: Proportion
    """The same, counting only copies with at least `LONG_ROW` items."""
    near: Proportion | Unmeasured
    """Of the sampled synthetic users with at least `LONG_ROW` items, those with a Jaccard similarity of at least `NEAR` to
    a training user."""
    holdout_exact: Proportion | Unmeasured
    """Of the holdout users, those with exactly the items of a training user: the share by chance alone."""
    holdout_near: Proportion | Unmeasured


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Distances of synthetic users from training users and from equally many holdout users.

    They are secondary and no evidence of privacy: a set can be far from all training users and still reveal members.
    """

    nearest_to_train: tuple[float, ...]
    """The 5, 25, 50, 75 and 95 % quantiles of the Jaccard distance to the nearest training user."""
    nearest_to_holdout: tuple[float, ...] | Unmeasured
    nearer_to_train: Proportion | Unmeasured
    """Of the synthetic users that are nearer to one of the two sets, those nearer to train; one half is no preference."""
    ties: float | None
    """The share of synthetic users that are equally near to both."""
    dissimilarity: float
    """The mean Jaccard distance over all pairs of a synthetic and a training user, which Lilienthal et al. (2024) report
    as about 99 %. That of two unrelated real samples is as large."""
    holdout_dissimilarity: float | None
    """The same for holdout and training users."""
    n_users: int
    """The number of synthetic users compared."""


@dataclass(frozen=True)
class CopiesAndDistances(AttackOutcome):
    """The outcome of the search for copies of training users."""

    copies: Copies
    distances: Distances

    @classmethod
    def report(cls, outcomes: Mapping[str, Self | Unmeasured]) -> Mapping[str, Any]:
        """Copies and distances as two entries."""
        return {
            name: value
            for outcome in outcomes.values()
            if isinstance(outcome, CopiesAndDistances)
            for name, value in (("copies", outcome.copies), ("distances", outcome.distances))
        }

    def own_conclusions(self, limits: Gates) -> Iterator[Conclusion]:
        """Findings on copies, and on near copies beyond those of outsiders; gates `max_copies` and `max_near_copies`."""
        copies = self.copies
        exact, near, control = copies.exact_long, copies.near, copies.holdout_near
        original = f"a training user with {LONG_ROW} items or more"
        if exact.hits:
            by_chance = (
                f" {copies.holdout_exact.value:.2%} of holdout users are equal to a training user, of any length."
                if isinstance(copies.holdout_exact, Proportion)
                else ""
            )
            yield Finding(
                "leak",
                f"{exact.hits:,} of {exact.trials:,} synthetic users are exact copies of {original}.{by_chance}",
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
                f"{exact.hits:,} of {exact.trials:,} synthetic users are copies of {original}; the limit is "
                f"{limits.max_copies:,}",
            )
        if isinstance(near, Unmeasured):
            yield Gate("max_near_copies", False, near.reason)
            return
        if isinstance(control, Proportion) and near.low > control.high:
            yield Finding(
                "leak",
                f"{near.value:.1%} of synthetic users have a Jaccard similarity of {NEAR:g} or more to a training user, "
                f"compared with {control.value:.1%} of holdout users.",
            )
        elif near.hits == 0:
            yield Finding(
                "clear", f"No near copies among the {near.trials:,} synthetic users that were compared."
            )
        limit = limits.max_near_copies
        if near.trials < FEWEST_USERS:
            few = too_few(FEWEST_USERS, f"synthetic users with {LONG_ROW} items or more", near.trials)
            yield Gate("max_near_copies", False, few.reason)
        elif limit is not None:
            share, comparison = (
                (control.value, f"{control.value:.2%} of holdout users are")
                if isinstance(control, Proportion)
                else (0.0, f"for holdout users it {control.reason}")
            )
            yield Gate(
                "max_near_copies",
                near.value - share <= limit,
                f"{near.value:.2%} of {near.trials:,} synthetic users are near copies of a training user ({comparison}); "
                f"the limit is {limit:.2%} more",
            )

    @classmethod
    def section(cls, attacks: Sequence[Attack], outcomes: Mapping[str, Self | Unmeasured]) -> Section:
        """Tables of copies and of distances."""
        measured = [outcome for outcome in outcomes.values() if isinstance(outcome, CopiesAndDistances)]
        return Section("Copies and distances", [block for outcome in measured for block in outcome.blocks()])

    def blocks(self) -> tuple[DocumentBlock, ...]:
        """The blocks for the page."""
        copies, distances = self.copies, self.distances
        rows = (
            ("exactly the items of a training user", copies.exact.cell(), copies.holdout_exact.cell()),
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
                "Distances are secondary: a set can be far from every training user and still reveal members, and two "
                "unrelated real samples are far from each other too."
            ),
            Table(
                ("Jaccard distance to the nearest", "training user", "holdout user"),
                [*spread, ("mean over all pairs", *mean)],
                f"From {distances.n_users:,} synthetic users to equally many training and holdout users."
                + ("" if apart is None else " ¹ From holdout users to training users."),
            ),
            *(
                [
                    Paragraph(
                        f"Of the synthetic users that are nearer to one side, {nearer.cell()} are nearer to a training user; "
                        f"{ties:.1%} of all are equally near to both. One half means no preference."
                    )
                ]
                if isinstance(nearer, Proportion) and ties is not None
                else ()
            ),
        )


class Copying(Attack):
    """Count exact copies among all synthetic users, and near copies and distances among a random part of them."""

    name = "copies"
    risk = "copies: all items of a person are in the set"
    outcome = CopiesAndDistances
    tries = MappingProxyType(
        {"copies": "Copies: synthetic users with exactly or nearly the items of a training user are counted."}
    )

    def run(
        self, samples: Samples, users: int | None, rng: RNG, progress: Progress
    ) -> Mapping[str, CopiesAndDistances]:
        """Count copies and measure distances, also of users who were not in training."""
        train, synthetic = samples.train.matrix, samples.synthetic.matrix
        generators = streams(rng, "synthetic", "train", "holdout")
        sample = synthetic[draw(synthetic.shape[0], users, generators["synthetic"])]
        equal = _equal_rows(synthetic, train)
        to_train = nearness(sample, train, progress=progress, stage="copies: nearest training users")
        copies = Copies(
            exact=Proportion.of(equal),
            exact_long=Proportion.of(equal & (np.diff(synthetic.indptr) >= LONG_ROW)),
            near=_near_share(sample, to_train.nearest),
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
            n_users=int(sample.shape[0]),
        )
        if samples.holdout is None:
            return {"copies": CopiesAndDistances(copies, distances)}
        holdout = samples.holdout.matrix
        apart = holdout[draw(holdout.shape[0], users, generators["holdout"])]
        control = nearness(apart, train, progress=progress, stage="copies: holdout beside training users")
        # Equally many users on both sides: otherwise the larger set would be nearer by its size alone.
        size = min(train.shape[0], holdout.shape[0])
        by_train, by_holdout = (
            nearness(
                sample,
                rows[draw(rows.shape[0], size, generators[name])],
                progress=progress,
                stage=f"distances: {name}",
            ).nearest
            for name, rows in (("train", train), ("holdout", holdout))
        )
        unequal = by_train != by_holdout
        copies = replace(
            copies,
            holdout_exact=Proportion.of(_equal_rows(holdout, train)),
            holdout_near=_near_share(apart, control.nearest),
        )
        distances = replace(
            distances,
            nearest_to_train=_quantiles(by_train),
            nearest_to_holdout=_quantiles(by_holdout),
            nearer_to_train=Proportion.of((by_train > by_holdout)[unequal])
            if unequal.any()
            else Unmeasured("cannot be measured: every synthetic user is equally near to both sets"),
            ties=float((~unequal).mean()),
            holdout_dissimilarity=float(1 - control.mean.mean()),
        )
        return {"copies": CopiesAndDistances(copies, distances)}


def _equal_rows(rows: sparse.csr_array, others: sparse.csr_array) -> NDArray[np.bool_]:
    """A mask of the rows equal to one of `others`, (n_rows,)."""
    return np.isin(row_hashes(rows), row_hashes(others))


def _near_share(rows: sparse.csr_array, nearest: NDArray[np.float32]) -> Proportion | Unmeasured:
    long = np.diff(rows.indptr) >= LONG_ROW
    if not long.any():
        return Unmeasured(f"cannot be measured: needs users with at least {LONG_ROW} items; there are none")
    return Proportion.of(nearest[long] >= NEAR)


def _quantiles(nearest: NDArray[np.float32]) -> tuple[float, ...]:
    """`QUANTILES` of the distances, from similarities."""
    return tuple(float(value) for value in np.quantile(1 - nearest, QUANTILES))
