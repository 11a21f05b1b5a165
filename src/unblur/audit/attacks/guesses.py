"""Attacks that guess something about a person, and what a right guess is worth.

Every guess about members has a naive baseline, which does not look at individual synthetic users, and a control: the same
guess about users who were not in training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from unblur.audit.attacks.attack import Attack, AttackOutcome, Samples, drawn, sentence
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
    too_few,
)
from unblur.document.blocks import DocumentBlock, Paragraph, Section, Table
from unblur.evaluation.significance import holm
from unblur.models.linear.neighbours import row_blocks, top_per_row, transposed
from unblur.progress import Progress
from unblur.randomness import RNG, streams

KNOWN_ITEMS = (2, 3, 5)
"""The numbers of items in a claim that singles out."""
FEWEST_CLAIMS = 50
"""Fewer claims say nothing."""
ROUNDS = 8
"""How often claims are looked for; where nearly all combinations are of several people, more rounds find few more."""
CELLS_AT_ONCE = 1 << 22
"""How many counts or keys are held at a time; no result depends on it."""
NEIGHBOURS = 10
"""From how many synthetic users an item is guessed."""


@dataclass(frozen=True, kw_only=True)
class Guesses(AttackOutcome):
    """How often guesses were right: about members, about outsiders, and without the synthetic set.

    Only what is right about members more often than about outsiders comes from their having been in training;
    the rest is what the synthetic set says about people in general.
    """

    attack: Proportion
    """Right guesses about members."""
    control: Proportion | Unmeasured
    """Right guesses about outsiders, made in the same way."""
    baseline: Proportion
    """Right guesses about members, made without looking at individual synthetic users."""

    @property
    def excess(self) -> Interval | Unmeasured:
        """(value, low, high): the right guesses about members beyond those about outsiders, as a share of what could
        still go wrong, (attack − control) / (1 − control), and not below −1; the interval by the square-and-add rule of
        Newcombe (1998).
        """
        if isinstance(self.control, Unmeasured):
            return self.control
        one, other = self.attack, self.control
        room = max(1e-12, 1 - other.value)
        gap = one.value - other.value
        down = math.hypot(one.value - one.low, other.high - other.value)
        up = math.hypot(one.high - one.value, other.value - other.low)
        value, low, high = (max(-1.0, min(1.0, each / room)) for each in (gap, gap - down, gap + up))
        return value, low, high

    def excess_cell(self) -> str:
        """The excess as in a table."""
        excess = self.excess
        return excess.cell() if isinstance(excess, Unmeasured) else "{:.1%} ({:.1%} … {:.1%})".format(*excess)

    @property
    def attack_is_weak(self) -> bool:
        """Whether the attack is no better than the naive baseline, so that nothing follows from its failing."""
        return self.attack.value <= self.baseline.value

    @classmethod
    def report(cls, outcomes: Mapping[str, Self | Unmeasured]) -> Mapping[str, Any]:
        """One table, by the names of the tries."""
        return {"guesses": outcomes}

    @classmethod
    def conclusions(cls, outcomes: Mapping[str, Self | Unmeasured], limits: Gates) -> Iterator[Conclusion]:
        """Whether each try succeeds more often for members than for outsiders; `max_excess` for the largest excess of
        those that are beyond chance."""
        sure, excesses = beyond_chance(outcomes), _excesses(outcomes)
        for name, guess in outcomes.items():
            match guess:
                case Unmeasured(reason=reason) | Guesses(control=Unmeasured(reason=reason)):
                    yield Finding("unmeasured", f"{sentence(name)}: {reason}.")
                case Guesses(control=Proportion() as control):
                    rates = (
                        f"{guess.attack.value:.1%} of guesses right about members, {control.value:.1%} about outsiders, "
                        f"{guess.baseline.value:.1%} by the naive baseline"
                    )
                    weak = " The attack is no better than the naive baseline, so its failing says little."
                    yield (
                        Finding(
                            "leak",
                            f"{sentence(name)} succeeds more often for members than for outsiders: {rates}.",
                        )
                        if name in sure
                        else Finding(
                            "clear",
                            f"{sentence(name)}: no more success for members than for outsiders was found ({rates}, "
                            f"{guess.attack.trials:,} guesses).{weak if guess.attack_is_weak else ''}",
                        )
                    )
        limit = limits.max_excess
        if not excesses:
            missing = (each for each in map(excess_of, outcomes.values()) if isinstance(each, Unmeasured))
            yield Gate("max_excess", False, next(missing).reason)
        elif limit is not None:
            (value, low, high), name = max((excesses[name], name) for name in sure or excesses)
            passed = value <= limit or not sure
            reason = f"the largest excess is {value:.1%} ({low:.1%} to {high:.1%}), of {name}; the limit is {limit:.1%}"
            if value > limit and passed:
                reason += ", and chance alone may make as much on so few: more users would make it sure"
            elif value <= limit < high:
                reason += ", which its interval reaches beyond: more users would make it sure"
            yield Gate("max_excess", passed, reason)

    @classmethod
    def section(cls, attacks: Sequence[Attack], outcomes: Mapping[str, Self | Unmeasured]) -> Section:
        """Members, outsiders and baseline of every try."""
        how = dict.fromkeys(text for attack in attacks for text in attack.tries.values())
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
                f"{' '.join(how)} What is right about outsiders as often as about members is not a leak."
            ),
            Table(
                ("attack", "guesses", "about members", "about outsiders", "baseline", "excess"),
                rows,
                "Share of right guesses, with 95 % intervals; the baseline guesses by popularity alone.",
            ),
            *(
                Paragraph(f"{sentence(name)}: {guess.reason}.")
                for name, guess in outcomes.items()
                if isinstance(guess, Unmeasured)
            ),
        )
        return Section("Singling out and inference", blocks)


def excess_of(guess: Guesses | Unmeasured) -> Interval | Unmeasured:
    """The excess of guesses, or why there is none."""
    return guess if isinstance(guess, Unmeasured) else guess.excess


def beyond_chance(guesses: Mapping[str, Guesses | Unmeasured]) -> set[str]:
    """Those with an excess that so many tries would not have by chance: one-sided at 5 % in all, by Holm (1979)."""
    excesses = _excesses(guesses)
    doubts = holm([_doubt(excess) for excess in excesses.values()])
    return {name for name, doubt in zip(excesses, doubts, strict=True) if doubt < 0.05}


def _excesses(guesses: Mapping[str, Guesses | Unmeasured]) -> dict[str, Interval]:
    """Those that could be measured."""
    excesses = {name: excess_of(guess) for name, guess in guesses.items()}
    return {name: excess for name, excess in excesses.items() if not isinstance(excess, Unmeasured)}


def _doubt(excess: Interval) -> float:
    """The one-sided p-value of "there is none", from the lower half of the interval."""
    value, low, _ = excess
    if value <= 0 or value == low:
        return 1.0 if value <= 0 else 0.0
    return float(stats.norm.sf(value / (value - low) * stats.norm.ppf(0.975)))


@dataclass(frozen=True)
class SinglingOut(Attack):
    """Do k items that just one synthetic user has together point at just one real person?

    The attacker holds the synthetic set only. They look for k items that exactly one synthetic user has together, and
    claim that exactly one person in the training data has them. The claim is right where that is so. The same claims
    are held against as many users who were not in training (control): rare combinations are rare everywhere. The naive
    baseline makes its claims of items drawn by popularity. After Giomi et al. (Anonymeter, PoPETs 2023), for sets of
    items.

    Claims are not independent: somebody with many items is in many of them, and decides them together. Intervals are
    therefore those of a jackknife over real users.
    """

    items: int
    """k: how many items a claim is of."""
    claims: int = 2_000
    """How many are made at most."""
    risk = "singling out: items that the set gives away point at one person"
    outcome = Guesses

    @property
    def name(self) -> str:
        """By the number of items."""
        return f"singling out by {self.items}"

    @property
    def tries(self) -> Mapping[str, str]:
        """One try, called by the number of items."""
        return {
            f"singling out by {self.items} items": "Singling out: some items that just one synthetic user has together are "
            "claimed to point at just one real person."
        }

    @classmethod
    def usual(cls) -> Sequence[SinglingOut]:
        """One for each of `KNOWN_ITEMS`."""
        return tuple(cls(items) for items in KNOWN_ITEMS)

    def run(
        self, samples: Samples, users: int | None, rng: RNG, progress: Progress
    ) -> Mapping[str, Guesses | Unmeasured]:
        """How often claims single out a training user; claims are about all users, whatever `users` says."""
        generators = streams(rng, "claims", "baseline", "train", "holdout")
        synthetic, train = samples.synthetic.matrix, samples.train.matrix
        claims = _claims(synthetic, self.items, self.claims, generators["claims"])
        if len(claims) < FEWEST_CLAIMS:
            what = f"sets of {self.items} items that just one synthetic user has"
            return dict.fromkeys(self.tries, too_few(FEWEST_CLAIMS, what, len(claims)))
        control: Proportion | Unmeasured = NO_CONTROL
        if samples.holdout is not None:
            # Of equally many users, because a larger crowd has fewer people who stand alone.
            size = min(train.shape[0], samples.holdout.n_users)
            if size < FEWEST_USERS:
                control = too_few(FEWEST_USERS, "users of each kind, learned from and not", size)
            else:
                train = train[drawn(train.shape[0], size, generators["train"])]
                outsiders = drawn(samples.holdout.n_users, size, generators["holdout"])
                control = _right(claims, samples.holdout.matrix[outsiders])
        popularity = np.bincount(synthetic.indices, minlength=synthetic.shape[1]).astype(np.float64)
        naive = _by_popularity(popularity, self.items, len(claims), generators["baseline"])
        guesses = Guesses(attack=_right(claims, train), control=control, baseline=_right(naive, train))
        return dict.fromkeys(self.tries, guesses)


def _claims(rows: sparse.csr_array, k: int, wanted: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Distinct sets of `k` items that exactly one row has together, (n, k), n at most `wanted`."""
    able = np.flatnonzero(np.diff(rows.indptr) >= k)
    found = np.empty((0, k), dtype=np.int64)
    for _ in range(ROUNDS if len(able) else 0):
        owners = random.choice(able, size=wanted)
        starts, lengths = rows.indptr[owners], np.diff(rows.indptr)[owners]
        tried = np.sort(_picks(rows, starts, lengths, k, random), axis=1)
        found = np.unique(np.concatenate([found, tried[_held(tried, rows)[0] == 1]]), axis=0)
        if len(found) >= wanted:
            break
    return found[random.permutation(len(found))[:wanted]]


def _picks(
    rows: sparse.csr_array,
    starts: NDArray[np.int32],
    lengths: NDArray[np.int32],
    k: int,
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """`k` different items of each row, at random (Floyd's sampling, all rows at once)."""
    chosen = np.empty((len(starts), k), dtype=np.int64)
    for at in range(k):
        upper = lengths.astype(np.int64) - k + at
        place = (random.random(len(starts)) * (upper + 1)).astype(np.int64)
        taken = (chosen[:, :at] == place[:, None]).any(axis=1)
        chosen[:, at] = np.where(taken, upper, place)
    return np.asarray(rows.indices[starts[:, None] + chosen], dtype=np.int64)


def _by_popularity(
    popularity: NDArray[np.float64], k: int, n: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """`n` sets of `k` different items, drawn by popularity (Gumbel top-k over the items that anybody has)."""
    items = np.flatnonzero(popularity)
    weights = np.log(popularity[items])
    sets = np.empty((n, min(k, len(items))), dtype=np.int64)
    step = max(1, CELLS_AT_ONCE // len(items))
    for start in range(0, n, step):
        keys = weights + random.gumbel(size=(min(step, n - start), len(items)))
        best = np.argpartition(-keys, sets.shape[1] - 1, axis=1)
        sets[start : start + step] = items[best[:, : sets.shape[1]]]
    return sets


def _held(claims: NDArray[np.int64], rows: sparse.csr_array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many rows have all items of each claim, and how many more claims just one row has without each row."""
    n, k = claims.shape
    asked = sparse.csr_array(
        (np.ones(n * k, dtype=np.float32), claims.ravel(), np.arange(0, n * k + 1, k)),
        shape=(n, rows.shape[1]),
    )
    columns = transposed(rows)
    counts, gained = np.zeros(n, dtype=np.int64), np.zeros(rows.shape[0], dtype=np.int64)
    for block in row_blocks(asked, columns):
        shared = sparse.csr_array(asked[block] @ columns)
        whole = sparse.csr_array((shared.data == k, shared.indices, shared.indptr), shape=shared.shape)
        whole.eliminate_zeros()
        counts[block] = np.diff(whole.indptr)
        for times, sign in ((2, 1), (1, -1)):
            alone = whole[counts[block] == times]
            gained += sign * np.bincount(alone.indices, minlength=len(gained))
    return counts, gained


def _right(claims: NDArray[np.int64], rows: sparse.csr_array) -> Proportion:
    """The share of claims that just one row has; its design effect from the jackknife over rows."""
    counts, gained = _held(claims, rows)
    hits, n, users = int((counts == 1).sum()), len(claims), len(gained)
    independent = hits * (n - hits) / n
    varied = float(gained.var()) * (users - 1)
    return Proportion(hits, n, max(1.0, varied / independent) if independent else 1.0)


@dataclass(frozen=True)
class ItemInference(Attack):
    """What does the synthetic set say about the one item of a person that an attacker does not know?

    The attacker knows all items of a person but one, takes the synthetic users most like them, and guesses the item that
    these have most, each counted by its Jaccard similarity. The naive baseline guesses the most popular item that the
    person is not known to have. What is right about users who were not in training too is recommendation, not leakage.
    """

    most: int = 2_000
    """How many users of each kind are attacked, however many are asked for."""
    name = "item"
    risk = "inference: an item of a person is known that nobody was told of"
    outcome = Guesses
    tries = MappingProxyType(
        {
            "inference of a held-out item": "Inference: all items of a person but one are known, and that one is guessed from "
            "the most alike synthetic users."
        }
    )

    def run(
        self, samples: Samples, users: int | None, rng: RNG, progress: Progress
    ) -> Mapping[str, Guesses | Unmeasured]:
        """How often the hidden item is guessed; of members and outsiders with two items or more."""
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
                else _attacked(*_hide(outsiders, generators["hidden of outsiders"]), synthetic)
            )
        popularity = np.bincount(synthetic.indices, minlength=synthetic.shape[1])
        guesses = Guesses(
            attack=_attacked(known, hidden, synthetic),
            control=control,
            baseline=Proportion.of(_most_popular(known, popularity) == hidden),
        )
        return dict.fromkeys(self.tries, guesses)


def _targets(matrix: sparse.csr_array, users: int | None, random: np.random.Generator) -> sparse.csr_array:
    able = np.flatnonzero(np.diff(matrix.indptr) >= 2)
    return matrix[able[drawn(len(able), users, random)]]


def _hide(rows: sparse.csr_array, random: np.random.Generator) -> tuple[sparse.csr_array, NDArray[np.int64]]:
    """The rows without one random item each, and that item, (n_rows,)."""
    lengths = np.diff(rows.indptr)
    entry = rows.indptr[:-1] + (random.random(len(lengths)) * lengths).astype(np.int64)
    known = rows.copy()
    known.data[entry] = 0
    known.eliminate_zeros()
    return known, np.asarray(rows.indices[entry], dtype=np.int64)


def _attacked(known: sparse.csr_array, hidden: NDArray[np.int64], synthetic: sparse.csr_array) -> Proportion:
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
    place = np.arange(by_rank.nnz) - np.repeat(by_rank.indptr[:-1], lengths)
    # A row's items fill the ranks 0, 1, 2, … up to the first that is missing.
    owner = np.repeat(np.arange(len(lengths)), lengths)
    filled = np.bincount(owner[by_rank.indices == place], minlength=len(lengths))
    return np.asarray(order[np.minimum(filled, len(order) - 1)], dtype=np.int64)
