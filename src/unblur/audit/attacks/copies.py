"""Copies: synthetic users equal or nearly equal to training users; and distances between the sets.

Real users often have equal rows, far more often than item frequencies let expect. So that a copy is said to be more than chance
rests on other real users alone: on those of the holdout, or without one on the rows that training users share.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from unblur.audit.attacks.attack import Attack, AttackOutcome, Samples, draw, row_hashes
from unblur.audit.attacks.neighbours import closest, nearness
from unblur.audit.findings import (
    FEWEST_USERS,
    NO_CONTROL,
    Conclusion,
    Finding,
    Gate,
    Gates,
    Proportion,
    Unmeasured,
    difference,
    too_few,
)
from unblur.document.blocks import DocumentBlock, Paragraph, Section, Table, number
from unblur.progress import Progress
from unblur.randomness import RNG, streams

LENGTHS = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (7, 10), (11, 20), (21, None))
"""The fewest and the most items of the rows that are tested together: short rows are often equal, long ones hardly ever."""
LONG_ROW = 5
"""Near copies are counted among rows with at least so many items (chosen by hand: shorter rows are alike by chance)."""
NEAR = 0.9
"""The Jaccard similarity from which a row counts as a near copy (chosen by hand)."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles reported of distances to the nearest user."""


@dataclass(frozen=True, kw_only=True)
class EqualRows:
    """Users of the three sets with some numbers of items, whose rows are equal, and a test of copying."""

    items: str
    """The numbers of items, such as ``5 to 6 items``."""
    n_train: int
    n_synthetic: int
    n_holdout: int | None
    """`None` without a holdout."""
    copied: int
    """Training users whose row occurs in the synthetic set."""
    holdout_copied: int | None
    """Holdout users whose row occurs in the synthetic set."""
    distinct: int
    """The number of different training rows that occur in the synthetic set."""
    shared: int
    """The number of different rows that two or more training users have."""

    @property
    def p_value(self) -> float:
        """The probability of at least so many copies if the synthetic set were independent of who is in train.

        With a holdout, the users whose row occurs are then a random part of all real users (Fisher's exact test). Without one,
        a row that two users have is one that two training users share or one that a synthetic and a training user share: of
        n (n − 1) / 2 pairs of training users, and n · n_synthetic others, each is equally likely to be equal.
        """
        n, n_synthetic = self.n_train, self.n_synthetic
        if self.n_holdout is not None and self.holdout_copied is not None:
            hits = self.copied + self.holdout_copied
            return float(stats.hypergeom.sf(self.copied - 1, n + self.n_holdout, n, hits))
        probability = 2 * n_synthetic / max(1, 2 * n_synthetic + n - 1)
        return float(stats.binom.sf(self.distinct - 1, self.distinct + self.shared, probability))

    @property
    def test(self) -> str:
        """The name of the test."""
        return f"copies of {self.items}"

    def described(self) -> str:
        """The counts that the test compares."""
        return f"With {self.items}, " + (
            f"{self.distinct:,} different training rows occur in the synthetic set, and {self.shared:,} are shared by training users."
            if self.n_holdout is None
            else f"the rows of {self.copied:,} of {self.n_train:,} training users occur in the synthetic set, and those of "
            f"{self.holdout_copied:,} of {self.n_holdout:,} holdout users."
        )


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Synthetic users with exactly or nearly the items of a training user, next to what real users have in common."""

    exact: Proportion
    """Of all synthetic users, those with exactly the items of a training user."""
    holdout_exact: Proportion | Unmeasured
    """Of the holdout users, those with exactly the items of a training user: the share by chance alone."""
    equal_rows: tuple[EqualRows, ...]
    """Over all numbers of items, and for each of `LENGTHS` that occurs in train."""
    longest_shared: int
    """The most items of a row that two real users share; 0 if none do."""
    exposed: Proportion
    """Of all synthetic users, those with exactly the items of a training user, and more than `longest_shared`."""
    near: Proportion | Unmeasured
    """Of the sampled synthetic users with at least `LONG_ROW` items, those with a Jaccard similarity of at least `NEAR` to
    a training user."""
    real_near: Proportion | Unmeasured
    """The same of holdout users, or without a holdout of training users, compared with the other training users."""
    control: str
    """The real users of `real_near` in words."""


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
            for name, value in (
                (("copies", outcome), ("distances", outcome))
                if isinstance(outcome, Unmeasured)
                else (("copies", outcome.copies), ("distances", outcome.distances))
            )
        }

    @classmethod
    def p_values(cls, outcomes: Mapping[str, Self | Unmeasured]) -> Mapping[str, float]:
        """The tests of copying, over all users and by numbers of items."""
        return {
            rows.test: rows.p_value
            for outcome in outcomes.values()
            if isinstance(outcome, CopiesAndDistances)
            for rows in outcome.copies.equal_rows
        }

    def own_conclusions(self, limits: Gates, significant: Collection[str]) -> Iterator[Conclusion]:
        """Findings on copies beyond chance and on exposed rows; gates `max_copies` and `max_near_copies`."""
        copies = self.copies
        leaks = [rows for rows in copies.equal_rows if rows.test in significant]
        if leaks:
            counts = " ".join(rows.described() for rows in leaks)
            yield Finding(
                "leak", "copies", f"Training users are copied more often than chance explains. {counts}"
            )
        else:
            counts = copies.equal_rows[0].described()
            yield Finding(
                "clear", "copies", f"No more copies of training users than chance explains. {counts}"
            )
        exposed = copies.exposed
        if exposed.hits:
            yield Finding(
                "exposure",
                "exposure",
                f"{exposed.hits:,} of {exposed.trials:,} synthetic users have exactly the items of a training user, and more items "
                f"than any row that two real users share (at most {copies.longest_shared:,}). That may be chance and is no proof of a "
                "leak, but the row points to one person.",
            )
        limit = limits.max_copies
        if limit is not None:
            hits = copies.exact.hits
            text = f"{hits:,} of {copies.exact.trials:,} synthetic users are copies of a training user; the limit is {limit:,}"
            yield Gate("max_copies", hits <= limit, text, hits, limit)
        yield from self._near_conclusions(limits.max_near_copies)

    def _near_conclusions(self, limit: float | None) -> Iterator[Conclusion]:
        near, real, control = self.copies.near, self.copies.real_near, self.copies.control
        if isinstance(near, Unmeasured):
            # Without long rows no synthetic user is near to a training user but by being equal, which has tests of its own.
            reason = near.reason.replace("cannot be measured", "not measured")
            yield Gate("max_near_copies", True, reason, limit=limit)
            return
        if isinstance(real, Unmeasured):
            yield Gate("max_near_copies", False, f"for {control} it {real.reason}", limit=limit)
            return
        shares = (
            f"{near.value:.2%} of {near.trials:,} synthetic users with {LONG_ROW} items or more are near copies of a training user, "
            f"compared with {real.value:.2%} of {control}"
        )
        yield Finding("note", "near-copies", f"{shares} (Jaccard similarity of {NEAR:g} or more).")
        if near.trials < FEWEST_USERS:
            few = too_few(FEWEST_USERS, f"synthetic users with {LONG_ROW} items or more", near.trials)
            yield Gate("max_near_copies", False, few.reason, limit=limit)
        elif limit is not None:
            value, low, high = difference(near, real)
            text = f"{shares}; the limit is {limit:.2%} more, for the low end of the interval ({low:.2%} to {high:.2%})"
            yield Gate("max_near_copies", low <= limit, text, value, limit, (low, high))

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
            (f"… and more than {copies.longest_shared:,} items", copies.exposed.cell(), "0, by definition"),
            (f"Jaccard similarity of {NEAR:g} or more to one", copies.near.cell(), copies.real_near.cell()),
        )
        tested = [
            (
                *(rows.items, f"{rows.n_synthetic:,}", f"{rows.copied:,} of {rows.n_train:,}"),
                "–" if rows.n_holdout is None else f"{rows.holdout_copied:,} of {rows.n_holdout:,}",
                *(f"{rows.distinct:,}", f"{rows.shared:,}", f"{rows.p_value:.2g}"),
            )
            for rows in copies.equal_rows
        ]
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
            Table(
                ("users with", "synthetic users", "real users"),
                rows,
                f"Copies of training users. Real users are those of the holdout; for similar rows, {copies.control}.",
            ),
            Table(
                (
                    *("users with", "synthetic", "training users copied", "holdout users copied"),
                    *("training rows copied", "rows shared in train", "p-value"),
                ),
                tested,
                "Is a row that occurs in the synthetic set more often that of a training user than chance explains? p-values are "
                "not corrected for the number of tests; the findings are.",
            ),
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
        to_train = nearness(sample, train, progress=progress, stage="copies: nearest training users")
        rows = {"train": train, "synthetic": synthetic} | (
            {} if samples.holdout is None else {"holdout": samples.holdout.matrix}
        )
        users_of = {name: _HashedRows.of(part) for name, part in rows.items()}
        longest, exposed = _exposed(users_of)
        copies = Copies(
            exact=Proportion.of(np.isin(users_of["synthetic"].hashes, users_of["train"].hashes)),
            holdout_exact=NO_CONTROL,
            equal_rows=_equal_rows(users_of),
            longest_shared=longest,
            exposed=Proportion.of(exposed),
            near=_near_share(sample, to_train.nearest),
            real_near=NO_CONTROL,
            control="training users (of each other)",
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
            # The nearest row of a training user is the user's own; the second nearest is that of somebody else.
            members = train[draw(train.shape[0], users, generators["train"])]
            pairs = closest(members, train, 2)
            ends = pairs.data[pairs.indptr[:-1]], pairs.data[pairs.indptr[1:] - 1]
            second = np.where(np.diff(pairs.indptr) == 2, np.minimum(*ends), 0)
            copies = replace(copies, real_near=_near_share(members, second))
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
            holdout_exact=Proportion.of(np.isin(users_of["holdout"].hashes, users_of["train"].hashes)),
            real_near=_near_share(apart, control.nearest),
            control="holdout users",
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


@dataclass(frozen=True, eq=False)
class _HashedRows:
    """The rows of one set by a hash of their items, and their numbers of items."""

    hashes: NDArray[np.uint64]
    lengths: NDArray[np.int32]

    @classmethod
    def of(cls, rows: sparse.csr_array) -> Self:
        return cls(row_hashes(rows), np.diff(rows.indptr))

    def between(self, fewest: int, most: int) -> NDArray[np.uint64]:
        """The hashes of the rows with so many items."""
        return self.hashes[(self.lengths >= fewest) & (self.lengths <= most)]


def _equal_rows(users: Mapping[str, _HashedRows]) -> tuple[EqualRows, ...]:
    """Equal rows over all numbers of items, and for each of `LENGTHS` that a training user has."""
    longest = max(int(part.lengths.max()) for part in users.values())
    names = {
        "any number of items": (0, longest),
        **{
            f"{fewest} item{'s' * (fewest > 1)}"
            if fewest == most
            else f"{fewest} to {most} items"
            if most
            else f"{fewest} items or more": (fewest, most or longest)
            for fewest, most in LENGTHS
        },
    }
    counts = []
    for name, (fewest, most) in names.items():
        hashes = {part: rows.between(fewest, most) for part, rows in users.items()}
        rows, n_users = np.unique(hashes["train"], return_counts=True)
        occurs = np.isin(rows, hashes["synthetic"])
        holdout = hashes.get("holdout")
        counts.append(
            EqualRows(
                items=name,
                n_train=len(hashes["train"]),
                n_synthetic=len(hashes["synthetic"]),
                n_holdout=None if holdout is None else len(holdout),
                copied=int(n_users[occurs].sum()),
                holdout_copied=None if holdout is None else int(np.isin(holdout, hashes["synthetic"]).sum()),
                distinct=int(occurs.sum()),
                shared=int((n_users > 1).sum()),
            )
        )
    return tuple(entry for entry in counts if entry.n_train)


def _exposed(users: Mapping[str, _HashedRows]) -> tuple[int, NDArray[np.bool_]]:
    """The most items of a row that two real users share, and a mask of the synthetic users with a longer training row."""
    real = [part for name, part in users.items() if name != "synthetic"]
    hashes, lengths = (
        np.concatenate([getattr(part, name) for part in real]) for name in ("hashes", "lengths")
    )
    _, first, n_users = np.unique(hashes, return_index=True, return_counts=True)
    longest = int(lengths[first[n_users > 1]].max(initial=0))
    synthetic = users["synthetic"]
    return longest, np.isin(synthetic.hashes, users["train"].hashes) & (synthetic.lengths > longest)


def _near_share(rows: sparse.csr_array, nearest: NDArray[np.float32]) -> Proportion | Unmeasured:
    long = np.diff(rows.indptr) >= LONG_ROW
    if not long.any():
        return Unmeasured(f"cannot be measured: needs users with at least {LONG_ROW} items; there are none")
    return Proportion.of(nearest[long] >= NEAR)


def _quantiles(nearest: NDArray[np.float32]) -> tuple[float, ...]:
    """`QUANTILES` of the distances, from similarities."""
    return tuple(float(value) for value in np.quantile(1 - nearest, QUANTILES))
