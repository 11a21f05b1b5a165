"""The contract of attacks: plug-ins with a name, a risk, needs and a `run`, whose outcomes say how they are judged.

An attack from outside derives from `Attack` and is named in the entry-point group ``unblur.attacks``; it is then run,
reported, gated and described like the others.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeAlias

from unblur.audit.attacks.rates import NO_CONTROL, Unmeasured, too_few
from unblur.audit.attacks.samples import Samples
from unblur.audit.conclusions import Conclusion, Finding, Gates
from unblur.document.blocks import Paragraph, Section
from unblur.progress import Progress
from unblur.randomness import RNG


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
