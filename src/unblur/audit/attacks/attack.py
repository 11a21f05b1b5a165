"""The contract of attacks: plug-ins with a name, a risk, needs and a `run`, whose outcomes say how they are judged.

An attack from outside derives from `Attack` and is named in the entry-point group ``unblur.attacks``; it is then run,
reported, gated and described like the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from unblur.audit.findings import NO_CONTROL, Conclusion, Finding, Gates, Unmeasured, too_few
from unblur.data.interactions import Interactions
from unblur.data.splits import joined_items
from unblur.document.blocks import Paragraph, Section
from unblur.errors import DataError, VocabularyMismatch, some
from unblur.progress import Progress
from unblur.randomness import RNG

COPY_ITEMS = 10
"""A row of so many items that is in train and in the holdout as well is taken to be one person."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Real and synthetic users over the same items, as attacks see them: weights 1, users without items left out."""

    train: Interactions
    """The members: users whom the synthesizer was fitted to."""
    synthetic: Interactions
    holdout: Interactions | None
    """The outsiders: users of the same kind who were kept out; `None` where there are none."""
    notes: tuple[str, ...]


def samples(train: Interactions, synthetic: Interactions, holdout: Interactions | None = None) -> Samples:
    """The three sets on the items of the real ones.

    Items that only the synthetic set has are counted and left out. Raises `DataError` where a set is empty or the
    holdout is not apart from train, and `VocabularyMismatch` where item labels are of two types or share nothing.
    """
    given = {"train": train, "synthetic": synthetic} | ({} if holdout is None else {"holdout": holdout})
    for name, part in given.items():
        DataError.unless(
            part.n_interactions,
            f"An audit needs interactions in every set; {name} has none of {part.n_users:,} users. "
            "Check what was read or sampled.",
        )
    labels = {name: "whole numbers" if part.items.kind == "int" else "text" for name, part in given.items()}
    VocabularyMismatch.unless(
        len(set(labels.values())) == 1,
        "Item labels must be of one type in all sets; they are "
        f"{', '.join(map(' '.join, labels.items()))}. Read all with the same `labels` option.",
    )
    if holdout is not None:
        _refuse_overlap(train, holdout)
    items = train.items if holdout is None else joined_items(train, holdout)
    known = items.positions_or_missing(synthetic.items)
    used = synthetic.item_degrees > 0
    VocabularyMismatch.unless(
        (used & (known >= 0)).any(),
        "Real and synthetic data must be about the same items; no item of the synthetic set "
        f"({some(synthetic.items.take(np.flatnonzero(used)[:3]).to_list())}) is among the real ones "
        f"({some(items.take(np.arange(min(3, len(items)))).to_list())}). Give both the same labels.",
    )
    parts = {
        name: _filled(part.binarized().onto(items=items, unknown="ignore")) for name, part in given.items()
    }
    degrees, real = parts["synthetic"].user_degrees, parts["train"].user_degrees
    usual = f"{real.min():,} to {real.max():,}"
    noted = [
        *(
            (np.sum(part.user_degrees == 0), f"users of {name} have no items and were left out of attacks")
            for name, part in given.items()
        ),
        (
            synthetic.item_degrees[known < 0].sum(),
            "synthetic interactions with items that no real user has were left out of attacks",
        ),
        (
            np.sum((degrees < real.min()) | (degrees > real.max())),
            f"of {len(degrees):,} synthetic users have fewer or more items than any training user, {usual}",
        ),
    ]
    notes = tuple(f"{count:,} {text}" for count, text in noted if count)
    return Samples(parts["train"], parts["synthetic"], parts.get("holdout"), notes)


def _filled(part: Interactions) -> Interactions:
    """The users with items."""
    return part.take_users(part.user_degrees > 0)


def drawn(n: int, most: int | None, random: np.random.Generator) -> NDArray[np.int64]:
    """At most `most` of the positions 0 … n − 1, at random, in random order."""
    return random.permutation(n)[:most]


def row_hashes(matrix: sparse.csr_array) -> NDArray[np.uint64]:
    """A 64-bit hash of the set of items in each row; equal rows have equal ones."""
    # A fixed seed: any would do, so long as both sets get the same code for an item.
    codes = np.random.default_rng([0, 0x75]).integers(0, 2**64, matrix.shape[1], dtype=np.uint64)
    sums = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(codes[matrix.indices], dtype=np.uint64)))
    return np.asarray(sums[matrix.indptr[1:]] - sums[matrix.indptr[:-1]], dtype=np.uint64)


def _refuse_overlap(train: Interactions, holdout: Interactions) -> None:
    """Raise `DataError` where some outsiders are members, by their label or by their very items."""
    if train.users.kind == holdout.users.kind:
        shared = train.users.positions_or_missing(holdout.users) >= 0
        names = holdout.users.take(np.flatnonzero(shared)).to_list()
        DataError.unless(
            not names,
            "The holdout must be users who were not in training; "
            f"{len(names):,} of its {holdout.n_users:,} user labels are in train: {some(names)}. Leave "
            "those users out, or, where the same label means two people, give the holdout labels of its own.",
        )
    items = joined_items(train, holdout)
    long = holdout.take_users(holdout.user_degrees >= COPY_ITEMS).onto(items=items)
    same = np.isin(row_hashes(long.matrix), row_hashes(train.onto(items=items).matrix))
    DataError.unless(
        10 * same.sum() <= long.n_users,
        f"The holdout must be users who were not in training; {int(same.sum()):,} of its {long.n_users:,} users "
        f"with {COPY_ITEMS} items or more have exactly the items of a training user. Give users kept out of train.",
    )


class AttackOutcome:
    """The outcome of one try of an attack.

    AttackOutcomes of one class are reported, judged and described together: of many tries some succeed by chance. An attack
    uses one of the classes of this package, or has its own; unless that overrides it, each outcome stands for itself.
    """

    @classmethod
    def unmeasured(cls, name: str, reason: Unmeasured) -> Self | Unmeasured:
        """Stand for the outcome of the try `name`, which could not be measured."""
        return reason

    @classmethod
    def report(cls, outcomes: Mapping[str, Self | Unmeasured]) -> Mapping[str, Any]:
        """Their entries in the section ``privacy`` of the report."""
        return outcomes

    @classmethod
    def conclusions(cls, outcomes: Mapping[str, Self | Unmeasured], limits: Gates) -> Iterator[Conclusion]:
        """Findings from them, and the gates that are about them."""
        for name, outcome in outcomes.items():
            if isinstance(outcome, Unmeasured):
                yield Finding("unmeasured", f"{sentence(name)}: {outcome.reason}.")
            else:
                yield from outcome.own_conclusions(limits)

    def own_conclusions(self, limits: Gates) -> Iterator[Conclusion]:
        """Findings and gates from this one alone."""
        yield from ()

    @classmethod
    def section(cls, attacks: Sequence[Attack], outcomes: Mapping[str, Self | Unmeasured]) -> Section:
        """The section of the page about the attacks that have outcomes of this class."""
        told = [each.text for each in cls.conclusions(outcomes, Gates()) if isinstance(each, Finding)]
        paragraphs = [*(text for attack in attacks for text in attack.tries.values()), *told]
        return Section(sentence(attacks[0].risk), tuple(map(Paragraph, paragraphs)))


AttackOutcomes: TypeAlias = Mapping[str, AttackOutcome | Unmeasured]
"""AttackOutcomes by the names of the tries."""


@dataclass(frozen=True)
class Needs:
    """Without what an attack measures nothing at all."""

    control: bool = False
    """Users who were not in training, to compare with."""
    users: int = 0
    """So many users of each kind that is needed: fewer say nothing."""

    def unmet(self, samples: Samples) -> Unmeasured | None:
        """Name what is missing, if anything."""
        groups = [(samples.train, "members")]
        if self.control:
            if samples.holdout is None:
                return NO_CONTROL
            groups.append((samples.holdout, "users who were not in training"))
        few = [(what, part.n_users) for part, what in groups if part.n_users < self.users]
        return too_few(self.users, *few[0]) if few else None


class Attack(ABC):
    """One attack on a synthetic set; an instance holds its settings and no data."""

    needs: ClassVar[Needs] = Needs()
    risk: ClassVar[str]
    """The harm that a success does, in a few words: "membership inference"."""
    outcome: ClassVar[type[AttackOutcome]]
    """The class of what it comes to, which judges it."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name, which its random stream follows from: another name gives other figures."""

    @property
    @abstractmethod
    def tries(self) -> Mapping[str, str]:
        """A name for each outcome of `run`, and how that try works, in a sentence for the page."""

    @classmethod
    def usual(cls) -> Sequence[Attack]:
        """Those of its kind that an audit runs unless told otherwise."""
        return (cls(),)

    @abstractmethod
    def run(self, samples: Samples, users: int | None, rng: RNG, progress: Progress) -> AttackOutcomes:
        """The outcome of each of `tries`, with at most `users` random users of each set attacked (`None`: all)."""


def sentence(text: str) -> str:
    """The text with a capital letter at its beginning."""
    return text[0].upper() + text[1:]
