"""Attacks that guess something about a person: singling out, and inference of an item.

Every guess about members has a naive baseline, which does not use individual synthetic users, and a control: the same
guess about users who were not in training.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from unblur.audit.attacks.attack import Attack, AttackOutcome, Samples, draw, sentence
from unblur.audit.attacks.neighbours import closest
from unblur.audit.findings import (
    FEWEST_USERS,
    NO_CONTROL,
    Conclusion,
    Finding,
    Gate,
    Gates,
    Interval,
    Proportion,
    Unmeasured,
    difference,
    finding_id,
    too_few,
)
from unblur.document.blocks import DocumentBlock, Paragraph, Section, Table
from unblur.models.linear.neighbours import row_blocks, top_per_row, transposed
from unblur.progress import Progress
from unblur.randomness import RNG, streams

KNOWN_ITEMS = (2, 3, 5)
"""The numbers of items of a claim in the usual attacks (chosen by hand)."""
FEWEST_CLAIMS = 50
"""With fewer claims nothing is measured (chosen by hand): an interval of 50 trials is up to 29 points wide."""
ROUNDS = 8
"""Rounds of the search for claims; if nearly all combinations belong to several users, more rounds find few more."""
CELLS_AT_ONCE = 1 << 22
"""Counts or keys in memory at a time (2²² float64 are 32 MiB); no result depends on it."""
NEIGHBOURS = 10
"""The number of synthetic users that vote for an item (chosen by hand)."""


@dataclass(frozen=True, kw_only=True)
class Guesses(AttackOutcome):
    """The shares of right guesses: about members, about outsiders, and by the naive baseline.

    Only the excess of members over outsiders is due to their having been in training; the rest is what the synthetic set
    says about people in general.
    """

    attack: Proportion
    """Right guesses about members."""
    control: Proportion | Unmeasured
    """Right guesses about outsiders, by the same attack."""
    baseline: Proportion
    """Right guesses about members without using individual synthetic users."""

    @property
    def excess(self) -> Interval | Unmeasured:
        """(value, low, high) of (attack − control) / (1 − control), cut to −1 … 1: the right guesses about members beyond
        those about outsiders, as a share of the guesses that the control gets wrong (Giomi et al. 2023). The
        interval is by the square-and-add rule of Newcombe (1998).
        """
        if isinstance(self.control, Unmeasured):
            return self.control
        members, outsiders = self.attack, self.control
        wrong = max(1e-12, 1 - outsiders.value)  # no division by 0 if every guess about outsiders is right
        value, low, high = (max(-1.0, min(1.0, end / wrong)) for end in difference(members, outsiders))
        return value, low, high

    def excess_cell(self) -> str:
        """The excess as a table cell."""
        excess = self.excess
        return excess.cell() if isinstance(excess, Unmeasured) else "{:.1%} ({:.1%} … {:.1%})".format(*excess)

    @property
    def attack_is_weak(self) -> bool:
        """True if the attack is no better than the naive baseline, so that its failure proves nothing."""
        return self.attack.value <= self.baseline.value

    @classmethod
    def report(cls, outcomes: Mapping[str, Self | Unmeasured]) -> Mapping[str, Any]:
        """One table, by the names of the tries."""
        return {"guesses": outcomes}

    @classmethod
    def p_values(cls, outcomes: Mapping[str, Self | Unmeasured]) -> Mapping[str, float]:
        """One-sided tests of the excess of each try."""
        return {name: _p_value(excess) for name, excess in _excesses(outcomes).items()}

    @classmethod
    def conclusions(
        cls, outcomes: Mapping[str, Self | Unmeasured], limits: Gates, significant: Collection[str]
    ) -> Iterator[Conclusion]:
        """Findings by whether a try succeeds more often for members than for outsiders; gate `max_excess` for the largest
        excess of those beyond chance."""
        excesses = _excesses(outcomes)
        beyond_chance = excesses.keys() & set(significant)
        for name, guess in outcomes.items():
            match guess:
                case Unmeasured(reason=reason) | Guesses(control=Unmeasured(reason=reason)):
                    yield Finding("unmeasured", finding_id(name), f"{sentence(name)}: {reason}.")
                case Guesses(control=Proportion() as control):
                    rates = (
                        f"{guess.attack.value:.1%} of guesses right about members, {control.value:.1%} about outsiders, "
                        f"{guess.baseline.value:.1%} by the naive baseline"
                    )
                    weak = " The attack is no better than the naive baseline, so its failure proves little."
                    yield (
                        Finding(
                            "leak",
                            finding_id(name),
                            f"{sentence(name)} succeeds more often for members than for outsiders: {rates}.",
                        )
                        if name in beyond_chance
                        else Finding(
                            "clear",
                            finding_id(name),
                            f"{sentence(name)}: no more success for members than for outsiders was found ({rates}, "
                            f"{guess.attack.trials:,} guesses).{weak if guess.attack_is_weak else ''}",
                        )
                    )
        limit = limits.max_excess
        if not excesses:
            missing = (entry for entry in map(excess_of, outcomes.values()) if isinstance(entry, Unmeasured))
            yield Gate("max_excess", False, next(missing).reason)
        elif limit is not None:
            (value, low, high), name = max((excesses[name], name) for name in beyond_chance or excesses)
            passed = value <= limit or not beyond_chance
            reason = f"the largest excess is {value:.1%} ({low:.1%} to {high:.1%}), of {name}; the limit is {limit:.1%}"
            if value > limit and passed:
                reason += ", but chance alone could explain it on so few users: more users would decide it"
            elif value <= limit < high:
                reason += ", within its interval: more users would decide it"
            yield Gate("max_excess", passed, reason, value, limit, (low, high))

    @classmethod
    def section(cls, attacks: Sequence[Attack], outcomes: Mapping[str, Self | Unmeasured]) -> Section:
        """A table of members, outsiders and baseline of every try."""
        descriptions = dict.fromkeys(text for attack in attacks for text in attack.tries.values())
        rows = [
            (
                *(name, f"{guess.attack.trials:,}", guess.attack.cell(), guess.control.cell()),
                *(f"{guess.baseline.value:.1%}", guess.excess_cell()),
            )
            for name, guess in outcomes.items()
            if isinstance(guess, Guesses)
        ]
        blocks: tuple[DocumentBlock, ...] = (
            Paragraph(
                f"{' '.join(descriptions)} Guesses that are right about outsiders as often as about members are no leak."
            ),
            Table(
                ("attack", "guesses", "about members", "about outsiders", "baseline", "excess"),
                rows,
                "Shares of right guesses, with 95 % intervals; the baseline guesses by popularity alone.",
            ),
            *(
                Paragraph(f"{sentence(name)}: {guess.reason}.")
                for name, guess in outcomes.items()
                if isinstance(guess, Unmeasured)
            ),
        )
        return Section("Singling out and inference", blocks)


def excess_of(guess: Guesses | Unmeasured) -> Interval | Unmeasured:
    """The excess of guesses, or the reason why it cannot be measured."""
    return guess if isinstance(guess, Unmeasured) else guess.excess


def _excesses(guesses: Mapping[str, Guesses | Unmeasured]) -> dict[str, Interval]:
    """The excesses that could be measured."""
    excesses = {name: excess_of(guess) for name, guess in guesses.items()}
    return {name: excess for name, excess in excesses.items() if not isinstance(excess, Unmeasured)}


def _p_value(excess: Interval) -> float:
    """The one-sided p-value of no excess, from the lower half of the interval as a normal deviation."""
    value, low, _ = excess
    if value <= 0 or value == low:
        return 1.0 if value <= 0 else 0.0
    return float(stats.norm.sf(value / (value - low) * stats.norm.ppf(0.975)))


@dataclass(frozen=True)
class SinglingOut(Attack):
    """Claim that k items which exactly one synthetic user has together belong to exactly one real person.

    The attacker holds the synthetic set only, and looks for k items that exactly one synthetic user has together. The claim
    is right if exactly one training user has them. The same claims are tested on as many users who were not in training
    (control), because rare combinations are rare everywhere. The naive baseline makes claims of items drawn by popularity.
    After Giomi et al. (Anonymeter, PoPETs 2023), for sets of items.

    Claims are not independent: a user with many items is in many of them and decides them together. Intervals are therefore
    those of a jackknife over real users.
    """

    items: int
    """k, the number of items of a claim."""
    claims: int = 2_000
    """The largest number of claims."""
    risk = "singling out: items that the set reveals belong to one person"
    outcome = Guesses

    @property
    def name(self) -> str:
        """``singling out by k``."""
        return f"singling out by {self.items}"

    @property
    def tries(self) -> Mapping[str, str]:
        """One try, named after the number of items."""
        return {
            f"singling out by {self.items} items": "Singling out: the attacker claims that some items which exactly one "
            "synthetic user has together belong to exactly one real person."
        }

    @classmethod
    def usual(cls) -> Sequence[SinglingOut]:
        """One attack for each of `KNOWN_ITEMS`."""
        return tuple(cls(items) for items in KNOWN_ITEMS)

    def run(
        self, samples: Samples, users: int | None, rng: RNG, progress: Progress
    ) -> Mapping[str, Guesses | Unmeasured]:
        """The share of claims that single out a training user; claims are about all users, regardless of `users`."""
        generators = streams(rng, "claims", "baseline", "train", "holdout")
        synthetic, train = samples.synthetic.matrix, samples.train.matrix
        claims = _claims(synthetic, self.items, self.claims, generators["claims"])
        if len(claims) < FEWEST_CLAIMS:
            needed = f"sets of {self.items} items that exactly one synthetic user has"
            return dict.fromkeys(self.tries, too_few(FEWEST_CLAIMS, needed, len(claims)))
        control: Proportion | Unmeasured = NO_CONTROL
        if samples.holdout is not None:
            # Equally many users in both, because in a larger set fewer users are the only one with some items.
            size = min(train.shape[0], samples.holdout.n_users)
            if size < FEWEST_USERS:
                control = too_few(FEWEST_USERS, "users in each of train and holdout", size)
            else:
                train = train[draw(train.shape[0], size, generators["train"])]
                outsiders = draw(samples.holdout.n_users, size, generators["holdout"])
                control = _right(claims, samples.holdout.matrix[outsiders])
        popularity = np.bincount(synthetic.indices, minlength=synthetic.shape[1]).astype(np.float64)
        naive = _by_popularity(popularity, self.items, len(claims), generators["baseline"])
        guesses = Guesses(attack=_right(claims, train), control=control, baseline=_right(naive, train))
        return dict.fromkeys(self.tries, guesses)


def _claims(rows: sparse.csr_array, k: int, most: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Distinct sets of `k` items that exactly one row has together, (n, k), n at most `most`."""
    eligible = np.flatnonzero(np.diff(rows.indptr) >= k)
    claims = np.empty((0, k), dtype=np.int64)
    for _ in range(ROUNDS if len(eligible) else 0):
        owners = random.choice(eligible, size=most)
        starts, lengths = rows.indptr[owners], np.diff(rows.indptr)[owners]
        candidates = np.sort(_sample_items(rows, starts, lengths, k, random), axis=1)
        claims = np.unique(np.concatenate([claims, candidates[_owners(candidates, rows)[0] == 1]]), axis=0)
        if len(claims) >= most:
            break
    return claims[random.permutation(len(claims))[:most]]


def _sample_items(
    rows: sparse.csr_array,
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    k: int,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """`k` different items of each row, at random (Floyd's sampling, all rows at once)."""
    offsets = np.empty((len(starts), k), dtype=np.int64)
    for index in range(k):
        upper = lengths.astype(np.int64) - k + index
        offset = (random.random(len(starts)) * (upper + 1)).astype(np.int64)
        # Floyd: an offset that the row has already is replaced by `upper`, which it cannot have yet.
        repeated = (offsets[:, :index] == offset[:, None]).any(axis=1)
        offsets[:, index] = np.where(repeated, upper, offset)
    return np.asarray(rows.indices[starts[:, None] + offsets], dtype=np.int64)


def _by_popularity(
    popularity: NDArray[np.float64], k: int, n: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """`n` sets of `k` different items, drawn by popularity (Gumbel top-k over the items that some user has)."""
    items = np.flatnonzero(popularity)
    weights = np.log(popularity[items])
    sets = np.empty((n, min(k, len(items))), dtype=np.int64)
    step = max(1, CELLS_AT_ONCE // len(items))
    for start in range(0, n, step):
        keys = weights + random.gumbel(size=(min(step, n - start), len(items)))
        best = np.argpartition(-keys, sets.shape[1] - 1, axis=1)
        sets[start : start + step] = items[best[:, : sets.shape[1]]]
    return sets


def _owners(claims: NDArray[np.int64], rows: sparse.csr_array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of rows with all items of each claim, (n_claims,), and the change in the number of claims of exactly one
    row if a row is left out, (n_rows,)."""
    n, k = claims.shape
    claim_rows = sparse.csr_array(
        (np.ones(n * k, dtype=np.float32), claims.ravel(), np.arange(0, n * k + 1, k)),
        shape=(n, rows.shape[1]),
    )
    columns = transposed(rows)
    counts, changes = np.zeros(n, dtype=np.int64), np.zeros(rows.shape[0], dtype=np.int64)
    for block in row_blocks(claim_rows, columns):
        shared = sparse.csr_array(claim_rows[block] @ columns)
        complete = sparse.csr_array((shared.data == k, shared.indices, shared.indptr), shape=shared.shape)
        complete.eliminate_zeros()
        counts[block] = np.diff(complete.indptr)
        # Without one of two owners a claim has exactly one; without its only owner it has none.
        for n_owners, sign in ((2, 1), (1, -1)):
            claimed = complete[counts[block] == n_owners]
            changes += sign * np.bincount(claimed.indices, minlength=len(changes))
    return counts, changes


def _right(claims: NDArray[np.int64], rows: sparse.csr_array) -> Proportion:
    """The share of claims of exactly one row; its design effect is from the jackknife over rows."""
    counts, changes = _owners(claims, rows)
    hits, n, users = int((counts == 1).sum()), len(claims), len(changes)
    # The variance of the hits: binomial, and by the jackknife, (n − 1)/n · Σ (change − mean)².
    binomial = hits * (n - hits) / n
    jackknife = float(changes.var()) * (users - 1)
    return Proportion(hits, n, max(1.0, jackknife / binomial) if binomial else 1.0)


@dataclass(frozen=True)
class ItemInference(Attack):
    """Guess the one item of a person that the attacker does not know.

    The attacker knows all items of a person but one, takes the most similar synthetic users, and guesses the item with most
    votes of theirs, weighted by Jaccard similarity. The naive baseline guesses the most popular item that the person is not
    known to have. Guesses that are right about users who were not in training as well are recommendation, not leakage.
    """

    most: int = 2_000
    """The largest number of users to attack in each set, also if the audit asks for more."""
    name = "item"
    risk = "inference: the set reveals an item of a person"
    outcome = Guesses
    tries = MappingProxyType(
        {
            "inference of a held-out item": "Inference: the attacker knows all items of a person but one, and guesses it from "
            "the most similar synthetic users."
        }
    )

    def run(
        self, samples: Samples, users: int | None, rng: RNG, progress: Progress
    ) -> Mapping[str, Guesses | Unmeasured]:
        """The share of hidden items that are guessed, of members and outsiders with two items or more."""
        most = min(self.most, users or self.most)
        generators = streams(rng, "members", "outsiders", "hidden of members", "hidden of outsiders")
        synthetic = samples.synthetic.matrix
        members = _targets(samples.train.matrix, most, generators["members"])
        if members.shape[0] < FEWEST_USERS:
            few = too_few(FEWEST_USERS, "members with two items or more", members.shape[0])
            return dict.fromkeys(self.tries, few)
        known, hidden = _hide(members, generators["hidden of members"])
        control: Proportion | Unmeasured = NO_CONTROL
        if samples.holdout is not None:
            outsiders = _targets(samples.holdout.matrix, most, generators["outsiders"])
            control = (
                too_few(
                    FEWEST_USERS, "users with two items or more who were not in training", outsiders.shape[0]
                )
                if outsiders.shape[0] < FEWEST_USERS
                else _infer(*_hide(outsiders, generators["hidden of outsiders"]), synthetic)
            )
        popularity = np.bincount(synthetic.indices, minlength=synthetic.shape[1])
        guesses = Guesses(
            attack=_infer(known, hidden, synthetic),
            control=control,
            baseline=Proportion.of(_most_popular(known, popularity) == hidden),
        )
        return dict.fromkeys(self.tries, guesses)


def _targets(matrix: sparse.csr_array, users: int | None, random: np.random.Generator) -> sparse.csr_array:
    eligible = np.flatnonzero(np.diff(matrix.indptr) >= 2)
    return matrix[eligible[draw(len(eligible), users, random)]]


def _hide(rows: sparse.csr_array, random: np.random.Generator) -> tuple[sparse.csr_array, NDArray[np.int64]]:
    """The rows without one random item each, and that item, (n_rows,)."""
    lengths = np.diff(rows.indptr)
    entry = rows.indptr[:-1] + (random.random(len(lengths)) * lengths).astype(np.int64)
    known = rows.copy()
    known.data[entry] = 0
    known.eliminate_zeros()
    return known, np.asarray(rows.indices[entry], dtype=np.int64)


def _infer(known: sparse.csr_array, hidden: NDArray[np.int64], synthetic: sparse.csr_array) -> Proportion:
    """The share of rows whose hidden item has most votes of their nearest synthetic users."""
    votes = closest(known, synthetic, NEIGHBOURS) @ synthetic
    votes = sparse.csr_array(votes - votes.multiply(known))
    votes.eliminate_zeros()
    votes.sort_indices()
    best = top_per_row(votes, 1)
    guess = np.full(known.shape[0], -1, dtype=np.int64)
    guess[np.diff(best.indptr) > 0] = best.indices
    return Proportion.of(guess == hidden)


def _most_popular(known: sparse.csr_array, popularity: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most popular item that each row does not have, (n_rows,)."""
    order = np.argsort(-popularity, kind="stable")
    by_rank = sparse.csr_array(known[:, order])
    by_rank.sort_indices()
    lengths = np.diff(by_rank.indptr)
    offset = np.arange(by_rank.nnz) - np.repeat(by_rank.indptr[:-1], lengths)
    # The sorted ranks of a row equal 0, 1, 2, … up to the first rank that it lacks, so their number is that rank.
    owner = np.repeat(np.arange(len(lengths)), lengths)
    first_missing = np.bincount(owner[by_rank.indices == offset], minlength=len(lengths))
    return np.asarray(order[np.minimum(first_missing, len(order) - 1)], dtype=np.int64)
