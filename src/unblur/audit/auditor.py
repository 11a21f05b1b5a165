"""An audit of a synthetic set: its validity, its fidelity and utility, and the success of attacks on it.

    audit(train, synthetic, holdout).findings

The result holds findings in plain words, gates that pass or fail with reasons, and converts to a dictionary for a file. An
attack that finds nothing proves nothing about other attacks. There is no overall score.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from unblur.audit.attacks.attack import Attack, AttackOutcome, AttackOutcomes, Samples, samples
from unblur.audit.attacks.copies import Copies, CopiesAndDistances
from unblur.audit.attacks.guesses import Guesses
from unblur.audit.attacks.membership import Membership
from unblur.audit.fidelity import Fidelity, ValidityCheck, fidelity, validity, validity_conclusions
from unblur.audit.findings import (
    Conclusion,
    Finding,
    Gate,
    Gates,
    Significance,
    Unmeasured,
    attempted,
    finding_id,
    findings_gate,
    gravest_first,
)
from unblur.audit.worth import Worth, utility_conclusions, worth
from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.document.blocks import Section
from unblur.document.text import json_text
from unblur.errors import DataError, SpecError
from unblur.evaluation.report import Provenance
from unblur.evaluation.significance import LEVEL, holm
from unblur.progress import Progress, ProgressEvent, silent
from unblur.randomness import RNG, streams
from unblur.recommender import RecommenderSpec
from unblur.registry import ATTACKS

Recommenders: TypeAlias = Callable[[Interactions, Interactions], Sequence[RecommenderSpec]]
"""Chooses recommenders for training and synthetic users, as the attacks see them."""
SCHEMA = 2
"""The version of the schema of `Audit.to_dict`."""


@dataclass(frozen=True)
class AttackResults:
    """The outcomes of all attacks."""

    attacks: tuple[Attack, ...]
    """The attacks in the order they were run."""
    outcomes: Mapping[type[AttackOutcome], AttackOutcomes]
    """By class, which reports and judges its outcomes together, and by the names of the tries."""

    def report(self) -> dict[str, Any]:
        """The section ``privacy`` of a report."""
        parts = (kind.report(outcomes) for kind, outcomes in self.outcomes.items())
        return {name: value for part in parts for name, value in part.items()}

    @cached_property
    def tests(self) -> Mapping[str, Significance]:
        """The tests of all outcomes by name: one family, corrected after Holm (1979)."""
        p_values: dict[str, float] = {}
        for kind, outcomes in self.outcomes.items():
            p_values |= kind.p_values(outcomes)
        adjusted = holm(list(p_values.values())).tolist()
        return {
            name: Significance(p_value, together)
            for (name, p_value), together in zip(p_values.items(), adjusted, strict=True)
        }

    def conclusions(self, limits: Gates) -> Iterator[Conclusion]:
        """The findings and gates of all outcomes."""
        significant = {name for name, test in self.tests.items() if test.adjusted < LEVEL}
        for kind, outcomes in self.outcomes.items():
            yield from kind.conclusions(outcomes, limits, significant)

    def sections(self) -> Iterator[Section]:
        """The sections of the page, one per class of outcomes."""
        for kind, outcomes in self.outcomes.items():
            yield kind.section([attack for attack in self.attacks if attack.outcome is kind], outcomes)

    @property
    def membership(self) -> tuple[Membership, ...]:
        """Membership inference, one outcome per attacker."""
        return cast("tuple[Membership, ...]", tuple(self.outcomes.get(Membership, {}).values()))

    @property
    def guesses(self) -> Mapping[str, Guesses | Unmeasured]:
        """Singling out by several numbers of items, and inference of a held-out item."""
        return cast("Mapping[str, Guesses | Unmeasured]", self.outcomes.get(Guesses, {}))

    @property
    def copies(self) -> Copies:
        """Copies of training users. Raises `KeyError` if that attack was not run."""
        return cast("CopiesAndDistances", self.outcomes[CopiesAndDistances]["copies"]).copies


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The result of an audit; see the module's docstring."""

    n_train: int
    n_synthetic: int
    n_holdout: int
    """0 without a holdout."""
    n_items: int
    validity: tuple[ValidityCheck, ...]
    fidelity: Fidelity | Unmeasured
    privacy: AttackResults
    utility: tuple[Worth, ...] = ()
    """The quality of recommenders trained on the set, on held-out items of kept-out users; empty if not measured."""
    findings: tuple[Finding, ...]
    tests: Mapping[str, Significance]
    """The tests behind the findings of leaks, one family."""
    gates: tuple[Gate, ...]
    notes: tuple[str, ...] = ()
    """Notes for the reader: users left out, limits of the attacks."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each part."""
    provenance: Provenance = field(default_factory=Provenance)

    def failed(self) -> tuple[Gate, ...]:
        """The gates that did not pass, including those whose figure could not be measured."""
        return tuple(gate for gate in self.gates if not gate.passed)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values by schema 2, a new copy at each call.

        A figure that could not be measured is ``{"unmeasured": reason}``.
        """
        return {"schema": SCHEMA, "kind": "audit", **_plain(self)}

    def to_json(self) -> str:
        """`to_dict` as strict JSON: no NaN, no infinity."""
        return json_text(self.to_dict())


def audit(
    train: Interactions,
    synthetic: Interactions,
    holdout: Interactions | None = None,
    *,
    gates: Gates | None = None,
    attacks: Sequence[Attack] | None = None,
    recommenders: Recommenders | Sequence[RecommenderSpec] = (),
    empty_users: bool = False,
    other_columns: Collection[str] = (),
    items: Vocabulary | None = None,
    waived: Mapping[str, str] = MappingProxyType({}),
    users: int | None = 10_000,
    rng: RNG | None = 0,
    progress: Progress = silent,
) -> Audit:
    """Audit a synthetic set against the users it was generated from.

    - `train`: the users that the synthesizer was fitted to. `holdout`: users of the same kind that were kept out of it;
      without them membership cannot be measured.
    - `gates`: limits that must hold; the default ones if `None`.
    - `attacks`: the attacks to run; `usual_attacks()` if `None`.
    - `recommenders`: the recommenders to train on either set and test on the holdout (`worth`), or a function that chooses
      them by training and synthetic users; none is trained without a holdout, or if no user in it has two items.
    - `empty_users`: accept users without items as valid.
    - `other_columns`: the columns of the synthetic file that are not in `synthetic`, which no attack can look at.
    - `items`: the catalogue, whose items a synthetic user may have; the items of the real users if `None`.
    - `waived`: the leaks and exposures that shall not fail the audit, by the ids of the findings, each with a reason.
    - `users`: the largest number of random users of each set to attack and to test on; `None` for all. Copies are counted
      among all users, and recommenders are trained on all.

    A part that these data do not allow is a finding or a note, and the other parts go on. Raises `DataError` for an empty set
    and a holdout that overlaps train, and `VocabularyMismatch` for sets about different items.
    """
    DataError.unless(
        users is None or users >= 1,
        f"`users` must be at least 1, or `None` for all; saw {users}. Give more.",
    )
    generators = streams(rng, "privacy", "fidelity", "utility")
    started = time.perf_counter()
    sets = samples(train, synthetic, holdout)
    real = [part for part in (train, holdout) if part is not None]
    catalogue = sets.train.items if items is None else items
    checks = validity(synthetic, real, catalogue, empty_users=empty_users, other_columns=other_columns)
    validity_end = time.perf_counter()
    parts = sets.train, sets.synthetic, sets.holdout
    likeness = attempted(partial(fidelity, *parts, rng=generators["fidelity"], progress=progress))
    fidelity_end = time.perf_counter()
    privacy = run_attacks(sets, attacks, users=users, rng=generators["privacy"], progress=progress)
    privacy_end = time.perf_counter()
    notes = list(sets.notes)
    utility: tuple[Worth, ...] = ()
    untrained: Mapping[str, Unmeasured] = {}
    specs = recommenders(sets.train, sets.synthetic) if callable(recommenders) else recommenders
    if specs and sets.holdout is not None:
        real_and_synthetic = sets.train, sets.synthetic, sets.holdout
        utility, untrained = worth(
            *real_and_synthetic, specs, users=users, rng=generators["utility"], progress=progress
        )
        if not utility and not untrained:
            notes.append("utility could not be measured: no user of the holdout has two items")
    utility_end = time.perf_counter()
    if users is not None and max(part.n_users for part in (train, synthetic, holdout or train)) > users:
        notes.append(
            f"at most {users:,} random users of each set were attacked; copies were counted among all"
        )
    limits = Gates() if gates is None else gates
    conclusions = [
        *validity_conclusions(checks),
        *privacy.conclusions(limits),
        *(
            Finding("unmeasured", finding_id(f"utility {name}"), f"Utility by {name}: {reason.reason}.")
            for name, reason in untrained.items()
        ),
        *utility_conclusions(utility, limits),
        *(
            [Finding("unmeasured", "fidelity", f"Fidelity: {likeness.reason}.")]
            if isinstance(likeness, Unmeasured)
            else likeness.conclusions()
        ),
    ]
    findings = gravest_first(conclusions, waived)
    unused = waived.keys() - {finding.id for finding in findings if finding.waived is not None}
    notes += [
        f"a waiver was not needed, since there is no such leak or exposure: {name}" for name in sorted(unused)
    ]
    return Audit(
        n_train=train.n_users,
        n_synthetic=synthetic.n_users,
        n_holdout=0 if holdout is None else holdout.n_users,
        n_items=sets.train.n_items,
        validity=checks,
        fidelity=likeness,
        privacy=privacy,
        utility=utility,
        findings=findings,
        tests=privacy.tests,
        gates=limits.select([*conclusions, findings_gate(findings)]),
        notes=tuple(notes),
        seconds={
            "validity": validity_end - started,
            "fidelity": fidelity_end - validity_end,
            "privacy": privacy_end - fidelity_end,
            "utility": utility_end - privacy_end,
        },
        provenance=Provenance(
            data={"train": train.fingerprint(), "synthetic": synthetic.fingerprint()}
            | ({} if holdout is None else {"holdout": holdout.fingerprint()}),
        ),
    )


def usual_attacks() -> tuple[Attack, ...]:
    """The default attacks of an audit: those of this package, then those of installed distributions."""
    kinds = sorted(ATTACKS, key=lambda kind: kind not in ATTACKS.ours)
    return tuple(attack for kind in kinds for attack in ATTACKS.load(kind).usual())


def run_attacks(
    sets: Samples,
    attacks: Sequence[Attack] | None = None,
    *,
    users: int | None = 10_000,
    rng: RNG | None = None,
    progress: Progress = silent,
) -> AttackResults:
    """Run attacks, the usual ones if `None`, on at most `users` random users of each set (`None`: all; time grows with
    their number). Raises `SpecError` if two attacks have a try of the same name."""
    attacks = usual_attacks() if attacks is None else tuple(attacks)
    names = [name for attack in attacks for name in attack.tries]
    SpecError.unless(
        len(set(names)) == len(names),
        f"The names of the tries of attacks must differ; saw {', '.join(names)}. Rename some.",
    )
    generators = streams(rng, *(attack.name for attack in attacks))
    outcomes: dict[type[AttackOutcome], dict[str, AttackOutcome | Unmeasured]] = {}
    for index, attack in enumerate(attacks):
        unmet = attack.needs.unmet(sets)
        results: AttackOutcomes | Unmeasured = (
            attempted(partial(attack.run, sets, users, generators[attack.name], progress))
            if unmet is None
            else unmet
        )
        if isinstance(results, Unmeasured):
            results = dict.fromkeys(attack.tries, results)
        outcomes.setdefault(attack.outcome, {}).update(
            {
                name: attack.outcome.unmeasured(name, result) if isinstance(result, Unmeasured) else result
                for name, result in results.items()
            }
        )
        progress(ProgressEvent("attacks", index + 1, len(attacks)))
    return AttackResults(attacks, outcomes)


_DERIVED = ("value", "low", "high", "p_value", "passed", "share", "excess", "attack_is_weak")
"""Properties that the dictionary holds as well as the fields they follow from."""


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
