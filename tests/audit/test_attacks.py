"""Attacks as plug-ins: what ours are called, and one from outside that is run, reported, gated and described like them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.audit.sets import GATES, Groups, groups, rows
from unblur.audit.attacks.attack import Attack, AttackOutcome, Needs, Samples
from unblur.audit.attacks.copies import Copying
from unblur.audit.attacks.guesses import Guesses, SinglingOut
from unblur.audit.attacks.membership import Membership, MembershipInference
from unblur.audit.auditor import audit, usual_attacks
from unblur.audit.findings import Area, Conclusion, Finding, Gate, Gates, Proportion, Unmeasured
from unblur.audit.page import audit_document
from unblur.document.html import as_html
from unblur.errors import SpecError
from unblur.progress import Progress
from unblur.randomness import RNG, generator
from unblur.registry import ATTACKS


class SharedItems(Attack):
    """Tells members by how many of their items the most popular synthetic user has: a toy."""

    name = "shared items"
    risk = "membership inference"
    needs = Needs(control=True, users=30)
    outcome = Membership
    tries = {"shared items": "how many items are shared with <one> synthetic user"}  # noqa: RUF012

    def run(
        self, samples: Samples, users: int | None, rng: RNG, progress: Progress
    ) -> Mapping[str, Membership]:
        assert samples.holdout is not None
        row = samples.synthetic.matrix[[int(generator(rng).integers(samples.synthetic.n_users))]].T
        shared = [
            (part.matrix @ row).toarray()[:, 0].astype(float) for part in (samples.train, samples.holdout)
        ]
        return {"shared items": Membership.of("shared items", *shared)}


@dataclass(frozen=True)
class Longest(AttackOutcome):
    """A class of outcomes that the package knows nothing of."""

    items: int

    def own_conclusions(self, limits: Gates, significant: Collection[str]) -> Iterator[Conclusion]:
        yield Finding("leak", "longest-row", f"The longest row has {self.items} items.")
        yield Gate("longest", self.items < 5, "too long")


class LongestRow(Attack):
    name = "longest row"
    risk = "a long row stands out"
    outcome = Longest
    tries = {"longest row": "The row with most items is looked at."}  # noqa: RUF012

    def run(self, samples: Samples, *_: Any) -> Mapping[str, Longest]:
        return {"longest row": Longest(int(samples.synthetic.user_degrees.max()))}


@pytest.fixture(scope="module")
def people() -> Groups:
    return groups(250, 150, rng=104)


def test_names_of_our_attacks_are_spelled_as_ever() -> None:
    """Their random streams follow from them: another spelling moves figures."""
    assert [attack.name for attack in usual_attacks()] == [
        "membership",
        *("singling out by 2", "singling out by 3", "singling out by 5"),
        "item",
        "copies",
    ]


def test_an_attack_from_outside_is_run_reported_gated_and_described(people: Groups) -> None:
    synthetic = rows(people.train.take_users(slice(0, 100)), people.others)
    result = audit(
        people.train,
        synthetic,
        people.holdout,
        attacks=[*usual_attacks(), SharedItems(), LongestRow()],
        rng=1,
    )
    assert [entry.attacker for entry in result.privacy.membership][-1] == "shared items"
    values = result.to_dict()["privacy"]
    assert list(values) == ["membership", "guesses", "copies", "distances", "longest row"]
    assert values["membership"][-1]["attacker"] == "shared items"
    assert values["longest row"] == {"items": int(synthetic.user_degrees.max())}
    texts = [finding.text for finding in result.findings]
    assert any("of 6 attackers" in text or "these 6 attacks" in text for text in texts)
    assert f"The longest row has {synthetic.user_degrees.max()} items." in texts
    assert result.gates[-1] == Gate("longest", False, "too long")
    assert {gate.name for gate in result.gates[:-1]} >= {"max_auc", "max_excess"}
    page = as_html(audit_document(result))
    assert "how many items are shared with &lt;one&gt; synthetic user" in page
    assert "<h2>A long row stands out</h2>" in page
    assert "The row with most items is looked at." in page


def test_an_attack_of_an_installed_distribution_is_run_too(
    people: Groups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "toy_attacks-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-attacks\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        "[unblur.attacks]\nshared-items = tests.audit.test_attacks:SharedItems\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    ATTACKS.refresh()
    try:
        names = [attack.name for attack in usual_attacks()]
        result = audit(people.train, rows(people.others), people.holdout, rng=1)
    finally:
        monkeypatch.undo()
        ATTACKS.refresh()
    assert (names[0], names[-1], len(names)) == ("membership", "shared items", 7)
    assert [entry.attacker for entry in result.privacy.membership][-1] == "shared items"
    assert len(usual_attacks()) == 6


def test_another_attack_moves_no_figure_of_the_rest(people: Groups) -> None:
    sets = people.train, rows(people.others), people.holdout
    usual = audit(*sets, rng=1).to_dict()["privacy"]
    more = audit(*sets, attacks=[SharedItems(), *usual_attacks()], rng=1).to_dict()["privacy"]
    assert more["membership"].pop(0)["attacker"] == "shared items"
    assert more == usual
    alone = audit(*sets, attacks=[SinglingOut(3)], rng=1).to_dict()["privacy"]
    assert alone == {"guesses": {"singling out by 3 items": usual["guesses"]["singling out by 3 items"]}}


def test_what_an_attack_needs_is_said_where_it_is_not_there(people: Groups) -> None:
    synthetic = rows(people.others)
    few = people.holdout.take_users(slice(0, 25))
    for holdout, reason in ((None, "needs users who were not in training"), (few, "needs at least 30 users")):
        result = audit(people.train, synthetic, holdout, attacks=[SharedItems()], rng=1)
        (entry,) = result.privacy.membership
        assert isinstance(entry.auc, Unmeasured)
        assert reason in entry.auc.reason
        assert entry.catches == (entry.auc, entry.auc)
        assert any(finding.kind == "unmeasured" and reason in finding.text for finding in result.findings)
        assert reason in next(gate.reason for gate in result.failed() if gate.name == "max_auc")


def test_a_limit_that_no_attack_measures_fails(people: Groups) -> None:
    result = audit(people.train, rows(people.others), people.holdout, attacks=[MembershipInference()], rng=1)
    failed = {gate.name: gate.reason for gate in result.failed()}
    assert failed["max_excess"] == "no attack that measures it was run"
    assert "max_near_copies" in failed
    assert "max_auc" not in failed
    assert tuple(gate.name for gate in result.gates) == GATES
    nothing = Gates(max_excess=None, max_near_copies=None)
    assert not audit(
        people.train,
        rows(people.others),
        people.holdout,
        attacks=[MembershipInference()],
        gates=nothing,
        rng=1,
    ).failed()


def test_two_attacks_may_not_try_something_under_one_name(people: Groups) -> None:
    with pytest.raises(SpecError, match="names of the tries of attacks must differ"):
        audit(people.train, rows(people.others), attacks=[Copying(), Copying()])


def test_an_outcome_of_another_class_stands_for_itself() -> None:
    missing = Unmeasured("cannot be measured: for a test")
    conclusions = list(Longest.conclusions({"one": Longest(3), "two": missing}, Gates(), ()))
    assert conclusions == [
        Finding("leak", "longest-row", "The longest row has 3 items."),
        Gate("longest", True, "too long"),
        Finding("unmeasured", "two", "Two: cannot be measured: for a test."),
    ]
    assert list(AttackOutcome().own_conclusions(Gates(), ())) == []


def test_scores_of_an_attacker_are_judged_as_ours_are() -> None:
    result = Membership.of("any", np.arange(100.0) + 50, np.arange(100.0))
    assert isinstance(result.auc, Area)
    assert result.auc.value > 0.8
    assert result.roc[0] == (0, 0)
    guess = Guesses(attack=Proportion(30, 50), control=Proportion(10, 50), baseline=Proportion(1, 50))
    assert guess.excess_cell().startswith("50.0% (")
