"""An audit of a synthetic set: is it valid, how like real users is it, what is it worth, and what do attacks learn from it?

    audit(train, synthetic, holdout).findings

The result is a value with findings in plain words, gates that pass or fail with reasons, and a dictionary for a file.
An attack that finds nothing says just that: other attacks may find more. There is no overall score.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeAlias, cast

from unblur.audit.attacks.attack import Attack, AttackOutcome, AttackOutcomes, Samples, samples
from unblur.audit.attacks.copies import Copies, CopiesAndDistances
from unblur.audit.attacks.guesses import Guesses
from unblur.audit.attacks.membership import Membership
from unblur.audit.fidelity import Fidelity, ValidityCheck, fidelity, validity, validity_conclusions
from unblur.audit.findings import Conclusion, Finding, Gate, Gates, Unmeasured, gravest_first
from unblur.audit.worth import Worth, utility_conclusions, worth
from unblur.data.interactions import Interactions
from unblur.document.blocks import Section
from unblur.errors import DataError, SpecError
from unblur.evaluation.report import Provenance
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, streams
from unblur.recommender import RecommenderSpec
from unblur.registry import ATTACKS

Recommenders: TypeAlias = Callable[[Interactions, Interactions], Sequence[RecommenderSpec]]
"""Chooses recommenders for train and synthetic users, as they are taught."""
SCHEMA = 1
"""The version of the form that `Audit.to_dict` gives."""


@dataclass(frozen=True)
class AttackResults:
    """The outcomes of all attacks."""

    attacks: tuple[Attack, ...]
    """As they were run, one after the other."""
    outcomes: Mapping[type[AttackOutcome], AttackOutcomes]
    """By their class, which reports and judges them together, and by the names of the tries."""

    def report(self) -> dict[str, Any]:
        """The section ``privacy`` of a report."""
        parts = (outcome.report(together) for outcome, together in self.outcomes.items())
        return {name: value for part in parts for name, value in part.items()}

    def conclusions(self, limits: Gates) -> Iterator[Conclusion]:
        """Findings from the outcomes, and the gates that are about them."""
        for outcome, together in self.outcomes.items():
            yield from outcome.conclusions(together, limits)

    def sections(self) -> Iterator[Section]:
        """The sections of the page, one for each class of outcomes."""
        for outcome, together in self.outcomes.items():
            yield outcome.section([attack for attack in self.attacks if attack.outcome is outcome], together)

    @property
    def membership(self) -> tuple[Membership, ...]:
        """How well each attacker tells members from outsiders."""
        return cast("tuple[Membership, ...]", tuple(self.outcomes.get(Membership, {}).values()))

    @property
    def guesses(self) -> Mapping[str, Guesses | Unmeasured]:
        """Singling out by several numbers of items, and inference of a held-out item."""
        return cast("Mapping[str, Guesses | Unmeasured]", self.outcomes.get(Guesses, {}))

    @property
    def copies(self) -> Copies:
        """Copies of training users. Raises `KeyError` where they were not looked for."""
        return cast("CopiesAndDistances", self.outcomes[CopiesAndDistances]["copies"]).copies


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The result of an audit; see the module's docstring."""

    n_train: int
    n_synthetic: int
    n_holdout: int
    """0 where no holdout was given."""
    n_items: int
    validity: tuple[ValidityCheck, ...]
    fidelity: Fidelity
    privacy: AttackResults
    utility: tuple[Worth, ...] = ()
    """How well recommenders that learned from the set find items of kept-out users; empty where that was not measured."""
    findings: tuple[Finding, ...]
    gates: tuple[Gate, ...]
    notes: tuple[str, ...] = ()
    """Notes for the reader: users left out, limits of the attacks."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long each part took."""
    provenance: Provenance = field(default_factory=Provenance)

    def failed(self) -> tuple[Gate, ...]:
        """The gates that did not pass, those included whose figure could not be measured."""
        return tuple(gate for gate in self.gates if not gate.passed)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values in the form of schema 1, fresh at every call.

        What could not be measured is ``{"unmeasured": reason}``.
        """
        return {"schema": SCHEMA, "kind": "audit", **_plain(self)}

    def to_json(self) -> str:
        """`to_dict` as strict JSON: no NaN, no infinity."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def audit(
    train: Interactions,
    synthetic: Interactions,
    holdout: Interactions | None = None,
    *,
    gates: Gates | None = None,
    attacks: Sequence[Attack] | None = None,
    recommenders: Recommenders | Sequence[RecommenderSpec] = (),
    empty_users: bool = False,
    users: int | None = 10_000,
    rng: RNG | None = 0,
    progress: Progress = silent,
) -> Audit:
    """Audit a synthetic set against the users it was made from.

    - `train`: the users whom the synthesizer was fitted to. `holdout`: users of the same kind who were kept out of
      it; without them nothing about membership can be measured.
    - `gates`: limits that must hold; the default ones if `None`.
    - `attacks`: those that are run; `usual_attacks()` if `None`.
    - `recommenders`: what is taught by either set and tested on the holdout (`utility.worth`), or what chooses them for train
      and synthetic users; without a holdout, or where nobody in it has two items, none is taught.
    - `empty_users`: whether users without items are valid.
    - `users`: how many random users of each set are attacked, and tested on, at most; `None` for all. Copies are looked
      for among all, and recommenders learn from all.

    Raises `DataError` for an empty set, a holdout that overlaps train and too few users to compare, and
    `VocabularyMismatch` for sets about different items.
    """
    DataError.unless(
        users is None or users >= 1,
        f"An audit attacks at least one user; `users` is {users}. Give more, or `None` for all.",
    )
    generators = streams(rng, "privacy", "fidelity", "utility")
    started = time.perf_counter()
    given = samples(train, synthetic, holdout)
    checks = validity(synthetic, given.train.items, empty_users=empty_users)
    checked = time.perf_counter()
    likeness = fidelity(
        given.train, given.synthetic, given.holdout, rng=generators["fidelity"], progress=progress
    )
    compared = time.perf_counter()
    privacy = attacked(given, attacks, users=users, rng=generators["privacy"], progress=progress)
    ended = time.perf_counter()
    notes = list(given.notes)
    utility: tuple[Worth, ...] = ()
    chosen = recommenders(given.train, given.synthetic) if callable(recommenders) else recommenders
    if chosen and given.holdout is not None:
        sets = given.train, given.synthetic, given.holdout
        utility = worth(*sets, chosen, users=users, rng=generators["utility"], progress=progress)
        if not utility:
            notes.append("what the set teaches could not be measured: nobody who was kept out has two items")
    tested = time.perf_counter()
    if users is not None and max(part.n_users for part in (train, synthetic, holdout or train)) > users:
        notes.append(
            f"at most {users:,} random users of each set were attacked; copies were looked for among all"
        )
    limits = Gates() if gates is None else gates
    conclusions = [
        *validity_conclusions(checks),
        *privacy.conclusions(limits),
        *utility_conclusions(utility, limits),
        *likeness.conclusions(),
    ]
    return Audit(
        n_train=train.n_users,
        n_synthetic=synthetic.n_users,
        n_holdout=0 if holdout is None else holdout.n_users,
        n_items=given.train.n_items,
        validity=checks,
        fidelity=likeness,
        privacy=privacy,
        utility=utility,
        findings=gravest_first(conclusions),
        gates=limits.held(conclusions),
        notes=tuple(notes),
        seconds={
            "validity": checked - started,
            "fidelity": compared - checked,
            "privacy": ended - compared,
            "utility": tested - ended,
        },
        provenance=Provenance(
            data={"train": train.fingerprint(), "synthetic": synthetic.fingerprint()}
            | ({} if holdout is None else {"holdout": holdout.fingerprint()}),
        ),
    )


def usual_attacks() -> tuple[Attack, ...]:
    """Those that an audit runs unless told otherwise: ours, then those that installed distributions add."""
    kinds = sorted(ATTACKS, key=lambda kind: kind not in ATTACKS.ours)
    return tuple(attack for kind in kinds for attack in ATTACKS.load(kind).usual())


def attacked(
    given: Samples,
    attacks: Sequence[Attack] | None = None,
    *,
    users: int | None = 10_000,
    rng: RNG | None = None,
    progress: Progress = silent,
) -> AttackResults:
    """Run attacks, the usual ones if `None`, on at most `users` random users of each set (`None`: on all, which takes in
    proportion). Raises `SpecError` where two of them try something under the same name."""
    attacks = usual_attacks() if attacks is None else tuple(attacks)
    names = [name for attack in attacks for name in attack.tries]
    SpecError.unless(
        len(set(names)) == len(names),
        f"The names of what attacks try must differ; saw {', '.join(names)}. Rename some.",
    )
    generators = streams(rng, *(attack.name for attack in attacks))
    outcomes: dict[type[AttackOutcome], dict[str, AttackOutcome | Unmeasured]] = {}
    for at, attack in enumerate(attacks):
        unmet = attack.needs.unmet(given)
        found = (
            attack.run(given, users, generators[attack.name], progress)
            if unmet is None
            else dict.fromkeys(attack.tries, unmet)
        )
        outcomes.setdefault(attack.outcome, {}).update(
            {
                name: attack.outcome.unmeasured(name, each) if isinstance(each, Unmeasured) else each
                for name, each in found.items()
            }
        )
        progress(ProgressEvent("attacks", at + 1, len(attacks)))
    return AttackResults(attacks, outcomes)


_DERIVED = ("value", "low", "high", "passed", "share", "excess", "attack_is_weak")
"""Properties that stand in the dictionary beside the fields they follow from."""


def _plain(value: Any) -> Any:
    """Dicts, lists, strings, numbers, booleans and `None`."""
    if isinstance(value, Unmeasured):
        return {"unmeasured": value.reason}
    if isinstance(value, AttackResults):
        return _plain(value.report())
    if is_dataclass(value):
        derived = [name for name in _DERIVED if isinstance(getattr(type(value), name, None), property)]
        names = [*(entry.name for entry in fields(value)), *derived]
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return value
