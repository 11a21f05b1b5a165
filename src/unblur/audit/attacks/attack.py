"""The contract of attacks: plug-ins with a name, a risk, needs and a `run`, whose outcomes judge themselves.

An attack of another distribution derives from `Attack` and is an entry point in the group ``unblur.attacks``; it is then
run, reported, gated and described like those of this package.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.audit.findings import NO_CONTROL, Conclusion, Finding, Gates, Unmeasured, finding_id, too_few
from unblur.data.interactions import Interactions
from unblur.data.splits import joined_items
from unblur.document.blocks import Paragraph, Section
from unblur.errors import DataError, VocabularyMismatch, some
from unblur.progress import Progress
from unblur.randomness import RNG

COPY_ITEMS = 10
"""An equal row in train and in the holdout with at least so many items counts as one person (chosen by hand: shorter rows
are equal by chance)."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Real and synthetic users over the same items, for attacks: weights 1, no users without items."""

    train: Interactions
    """The members: the users that the synthesizer was fitted to."""
    synthetic: Interactions
    holdout: Interactions | None
    """The outsiders: users of the same kind who were kept out; `None` without a holdout."""
    notes: tuple[str, ...]


def samples(train: Interactions, synthetic: Interactions, holdout: Interactions | None = None) -> Samples:
    """Bring the three sets onto the items of the real users.

    Items of the synthetic set alone are counted and left out. Raises `DataError` if a set is empty or the holdout overlaps
    train, and `VocabularyMismatch` if item labels are of two types or real and synthetic users share no item.
    """
    sets = {"train": train, "synthetic": synthetic} | ({} if holdout is None else {"holdout": holdout})
    for name, part in sets.items():
        DataError.unless(
            part.n_interactions,
            f"An audit needs interactions in every set; {name} has {part.n_users:,} users and none. "
            "Check what was read or sampled.",
        )
    labels = {name: "whole numbers" if part.items.kind == "int" else "text" for name, part in sets.items()}
    VocabularyMismatch.unless(
        len(set(labels.values())) == 1,
        "Item labels must have the same type in all sets; saw "
        f"{', '.join(map(' '.join, labels.items()))}. Read all with the same `labels` option.",
    )
    if holdout is not None:
        _refuse_overlap(train, holdout)
    items = train.items if holdout is None else joined_items(train, holdout)
    positions = items.positions_or_missing(synthetic.items)
    used = synthetic.item_degrees > 0
    VocabularyMismatch.unless(
        (used & (positions >= 0)).any(),
        "Real and synthetic data must be about the same items; no item of the synthetic set "
        f"({some(synthetic.items.take(np.flatnonzero(used)[:3]).to_list())}) is among the real ones "
        f"({some(items.take(np.arange(min(3, len(items)))).to_list())}). Give both the same labels.",
    )
    over_items = {name: part.binarized().onto(items=items, unknown="ignore") for name, part in sets.items()}
    parts = {name: part.take_users(part.user_degrees > 0) for name, part in over_items.items()}
    degrees, real = parts["synthetic"].user_degrees, parts["train"].user_degrees
    counts = [
        *(
            (np.sum(part.user_degrees == 0), f"users of {name} have no items and were left out of attacks")
            for name, part in sets.items()
        ),
        (
            synthetic.item_degrees[positions < 0].sum(),
            "synthetic interactions with items that no real user has were left out of attacks",
        ),
        (
            np.sum((degrees < real.min()) | (degrees > real.max())),
            f"of {len(degrees):,} synthetic users have fewer or more items than any training user, {real.min():,} to {real.max():,}",
        ),
    ]
    notes = tuple(f"{count:,} {text}" for count, text in counts if count)
    return Samples(parts["train"], parts["synthetic"], parts.get("holdout"), notes)


def draw(n: int, most: int | None, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw at most `most` of the positions 0 … n − 1 without replacement, in random order; all if `None`."""
    return random.permutation(n)[:most]


def row_hashes(matrix: sparse.csr_array) -> NDArray[np.uint64]:
    """A 64-bit hash of the set of items in each row, (n_rows,): the sum of random codes of its items, modulo 2⁶⁴."""
    # The seed is fixed, so that an item has the same code in both sets; its value does not matter.
    codes = np.random.default_rng([0, 0x75]).integers(0, 2**64, matrix.shape[1], dtype=np.uint64)
    sums = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(codes[matrix.indices], dtype=np.uint64)))
    return np.asarray(sums[matrix.indptr[1:]] - sums[matrix.indptr[:-1]], dtype=np.uint64)


def _refuse_overlap(train: Interactions, holdout: Interactions) -> None:
    """Raise `DataError` if outsiders are members, by their label or by their exact items."""
    if train.users.kind == holdout.users.kind:
        shared = train.users.positions_or_missing(holdout.users) >= 0
        names = holdout.users.take(np.flatnonzero(shared)).to_list()
        DataError.unless(
            not names,
            "The holdout must be users who were not in training; "
            f"{len(names):,} of its {holdout.n_users:,} user labels are in train: {some(names)}. Leave "
            "those users out, or give the holdout other labels if these are different people.",
        )
    items = joined_items(train, holdout)
    own, others = (
        row_hashes(part.take_users(part.user_degrees >= COPY_ITEMS).onto(items=items).matrix)
        for part in (train, holdout)
    )
    same = np.isin(others, own)
    # By chance as many as training users with the row of another one, since data of few items have equal long rows; a tenth more
    # (chosen by hand) for the spread.
    _, position, n_equal = np.unique(own, return_inverse=True, return_counts=True)
    by_chance = float((n_equal[position] > 1).mean()) if len(own) else 0.0
    DataError.unless(
        same.sum() <= (by_chance + 0.1) * len(others),
        f"The holdout must be users who were not in training; {int(same.sum()):,} of its {len(others):,} users "
        f"with {COPY_ITEMS} items or more have exactly the items of a training user. Give users kept out of train.",
    )


class AttackOutcome:
    """The outcome of one try of an attack.

    Outcomes of one class are reported, judged and described together, because some of many tries succeed by chance. An
    attack uses a class of this package, or its own; by default, each outcome is judged by itself.
    """

    @classmethod
    def unmeasured(cls, name: str, reason: Unmeasured) -> Self | Unmeasured:
        """The outcome of the try `name` if it could not be measured."""
        return reason

    @classmethod
    def report(cls, outcomes: Mapping[str, Self | Unmeasured]) -> Mapping[str, Any]:
        """The entries of these outcomes in the section ``privacy`` of the report."""
        return outcomes

    @classmethod
    def p_values(cls, outcomes: Mapping[str, Self | Unmeasured]) -> Mapping[str, float]:
        """The tests of these outcomes by name; with those of all other attacks they are corrected as one family."""
        return {}

    @classmethod
    def conclusions(
        cls, outcomes: Mapping[str, Self | Unmeasured], limits: Gates, significant: Collection[str]
    ) -> Iterator[Conclusion]:
        """The findings and gates of these outcomes; `significant` are the names of tests that are after the correction."""
        for name, outcome in outcomes.items():
            if isinstance(outcome, Unmeasured):
                yield Finding("unmeasured", finding_id(name), f"{sentence(name)}: {outcome.reason}.")
            else:
                yield from outcome.own_conclusions(limits, significant)

    def own_conclusions(self, limits: Gates, significant: Collection[str]) -> Iterator[Conclusion]:
        """The findings and gates of this outcome alone."""
        yield from ()

    @classmethod
    def section(cls, attacks: Sequence[Attack], outcomes: Mapping[str, Self | Unmeasured]) -> Section:
        """The section of the page about the attacks that have outcomes of this class; their findings stand at the top."""
        tries = (text for attack in attacks for text in attack.tries.values())
        return Section(sentence(attacks[0].risk), tuple(map(Paragraph, tries)))


AttackOutcomes: TypeAlias = Mapping[str, AttackOutcome | Unmeasured]
"""Outcomes by the names of the tries."""


@dataclass(frozen=True)
class Needs:
    """The data without which an attack cannot measure anything."""

    control: bool = False
    """A holdout is needed."""
    users: int = 0
    """The smallest number of users in each set that is needed."""

    def unmet(self, samples: Samples) -> Unmeasured | None:
        """The first unmet need, or `None`."""
        groups = [(samples.train, "members")]
        if self.control:
            if samples.holdout is None:
                return NO_CONTROL
            groups.append((samples.holdout, "users who were not in training"))
        few = [(name, part.n_users) for part, name in groups if part.n_users < self.users]
        return too_few(self.users, *few[0]) if few else None


class Attack(ABC):
    """One attack on a synthetic set; an instance holds its settings and no data."""

    needs: ClassVar[Needs] = Needs()
    risk: ClassVar[str]
    """The harm of a success in a few words, such as "membership inference"."""
    outcome: ClassVar[type[AttackOutcome]]
    """The class of its outcomes, which judges them."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name, which is also the purpose of its random stream: another name gives other figures."""

    @property
    @abstractmethod
    def tries(self) -> Mapping[str, str]:
        """A name for each outcome of `run`, with a sentence for the page on how that try works."""

    @classmethod
    def usual(cls) -> Sequence[Attack]:
        """The attacks of this kind that an audit runs by default."""
        return (cls(),)

    @abstractmethod
    def run(self, samples: Samples, users: int | None, rng: RNG, progress: Progress) -> AttackOutcomes:
        """The outcome of each of `tries`, with at most `users` random users of each set attacked (`None`: all)."""


def sentence(text: str) -> str:
    """The text with its first letter capitalized."""
    return text[0].upper() + text[1:]
