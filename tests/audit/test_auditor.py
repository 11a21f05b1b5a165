"""The auditor audited: a set that gives everything away, one that gives nothing away, and sets that cannot be audited."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tests.audit.sets import GATES, Groups, binary, groups, rows
from unblur.audit.attacks.attack import samples
from unblur.audit.attacks.guesses import (
    Guesses,
    SinglingOut,
    _claims,
    _hide,
    _most_popular,
    _owners,
    excess_of,
)
from unblur.audit.attacks.membership import Membership, _catch_findings
from unblur.audit.auditor import AttackResults, Audit, audit
from unblur.audit.fidelity import fidelity
from unblur.audit.findings import Area, Catch, Gates, Proportion, Unmeasured, area
from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.errors import DataError, SpecError, VocabularyMismatch
from unblur.evaluation.significance import LEVEL
from unblur.progress import silent

WITHOUT_HOLDOUT = Gates(max_auc=None, max_catch_at_1=None, max_catch_at_01=None, max_excess=None)
"""What can be measured without a holdout."""


@pytest.fixture(scope="module")
def people() -> Groups:
    return groups(3000)


@pytest.fixture(scope="module")
def copying(people: Groups) -> Audit:
    return audit(people.train, rows(people.train), people.holdout, rng=1)


@pytest.fixture(scope="module")
def harmless(people: Groups) -> Audit:
    return audit(people.train, rows(people.others), people.holdout, rng=1)


def areas(result: Audit) -> dict[str, float]:
    return {
        entry.attacker: entry.auc.value for entry in result.privacy.membership if isinstance(entry.auc, Area)
    }


def test_copied_rows_are_found(copying: Audit) -> None:
    best = areas(copying)
    for attacker in ("nearest row", "nearest row, relative", "density ratio"):
        assert best[attacker] >= 0.95
    for entry in copying.privacy.membership[:3]:
        for caught in entry.catches:
            assert isinstance(caught, Catch)
            assert caught.members.low > 0.95
    assert copying.privacy.copies.exact == Proportion(3000, 3000)
    assert {gate.name for gate in copying.failed()} == {*GATES} - {"valid"}


def test_other_real_users_give_nothing_away(harmless: Audit) -> None:
    assert len(areas(harmless)) == 5
    for attacker, value in areas(harmless).items():
        assert abs(value - 0.5) <= 0.03, attacker
    assert harmless.failed() == ()
    assert not [finding for finding in harmless.findings if finding.kind in ("leak", "fault")]


def test_small_sets_that_give_nothing_away_pass_as_well() -> None:
    """Of four noisy guesses the largest excess is often above the limit; only what is beyond chance may fail."""
    large, failed, leaks = 0, 0, 0
    for seed in range(12):
        three = groups(250, 150, rng=100 + seed)
        result = audit(three.train, rows(three.others), three.holdout, rng=seed)
        excesses = [excess_of(guess) for guess in result.privacy.guesses.values()]
        large += max(excess[0] for excess in excesses if not isinstance(excess, Unmeasured)) > 0.05
        gate = next(gate for gate in result.gates if gate.name == "max_excess")
        failed += not gate.passed
        leaks += any(finding.kind == "leak" for finding in result.findings)
    assert large >= 4
    assert failed <= 2
    assert leaks <= 3


def test_excesses_are_held_against_as_many_tries_as_there_were() -> None:
    control, baseline = Proportion(100, 1000), Proportion(0, 1000)
    guesses = {
        f"{hits}": Guesses(attack=Proportion(hits, 1000), control=control, baseline=baseline)
        for hits in (100, 105, 127, 200)
    }
    p_values = Guesses.p_values(guesses)
    assert p_values["127"] < 0.05  # beyond chance if it were the only one
    assert leaks(AttackResults((), {Guesses: guesses})) == {"200"}
    assert leaks(AttackResults((), {Guesses: {"one": guesses["127"]}})) == {"one"}
    assert Guesses.p_values({"one": Unmeasured("too few")}) == {}


def leaks(results: AttackResults) -> set[str]:
    """The names of the significant tests."""
    return {name for name, test in results.tests.items() if test.adjusted < LEVEL}


def test_few_users_are_no_evidence_of_anything(people: Groups) -> None:
    few = people.others.take_users(slice(0, 5))
    result = audit(people.train, few, people.holdout, gates=Gates(min_utility=0.1), rng=1)
    failed = {gate.name: gate.reason for gate in result.failed()}
    assert "needs at least 20" in failed["max_near_copies"]
    texts = [finding.text for finding in result.findings if finding.kind == "unmeasured"]
    assert any(text.startswith("Fidelity: cannot be measured") for text in texts)
    assert not any("no difference was found between" in finding.text for finding in result.findings)


def test_attackers_who_score_all_people_alike_are_named(people: Groups) -> None:
    """Nobody shares an item with these synthetic users, so the nearest one is as far from everybody."""
    x = np.zeros((300, people.train.n_items + 2), dtype=np.float32)
    x[np.arange(300), people.train.n_items + np.arange(300) % 2] = 1
    items = Vocabulary(np.arange(people.train.n_items + 2))
    wide = [part.onto(items=items) for part in (people.train, people.holdout)]
    result = audit(wide[0], Interactions.from_matrix(x, items=items), wide[1], rng=1)
    clear = next(
        finding.text for finding in result.findings if finding.text.startswith("No leak of membership")
    )
    assert "because all users have equal scores: nearest row" in clear


def test_a_tenth_of_copies_is_found(people: Groups) -> None:
    mixed = rows(people.others.take_users(slice(0, 2700)), people.train.take_users(slice(0, 300)))
    result = audit(people.train, mixed, people.holdout, rng=1)
    nearest = result.privacy.membership[0]
    assert isinstance(nearest.auc, Area)
    assert nearest.auc.low > 0.5
    assert isinstance(nearest.catches[1], Catch)
    assert nearest.catches[1].members.value >= 0.09
    assert result.privacy.copies.exact.hits == 300


def test_guesses_about_copied_members_are_right_and_about_outsiders_are_not(
    copying: Audit, harmless: Audit
) -> None:
    for name, guess in copying.privacy.guesses.items():
        if isinstance(guess, Guesses):
            excess = guess.excess
            assert not isinstance(excess, Unmeasured)
            assert excess[1] > 0.5, name
    for guess in harmless.privacy.guesses.values():
        if isinstance(guess, Guesses):
            excess = guess.excess
            assert not isinstance(excess, Unmeasured)
            assert excess[1] <= 0 <= excess[2]


def test_fidelity_of_real_users_is_that_of_the_yardstick(harmless: Audit, people: Groups) -> None:
    assert len(harmless.fidelity.likenesses) == 9
    for entry in harmless.fidelity.likenesses:
        assert entry.low <= entry.yardstick_high
        assert entry.yardstick_low <= entry.high
    random = np.random.default_rng(2)
    flat = Interactions.from_pairs(
        np.repeat(np.arange(3000), 20),
        np.concatenate([random.permutation(300)[:20] for _ in range(3000)]),
        item_vocabulary=people.train.items,
    )
    off = fidelity(people.train, flat, people.holdout, rng=1).likenesses
    farther = {entry.name for entry in off if entry.low > entry.yardstick_high}
    assert {"item popularity, total variation", "user activity, Kolmogorov-Smirnov"} <= farther
    assert "item co-occurrence, total variation" in farther


def test_the_same_seed_gives_the_same_audit(people: Groups) -> None:
    part = people.train.take_users(slice(0, 300))
    synthetic, kept = rows(people.others.take_users(slice(0, 300))), people.holdout.take_users(slice(0, 300))
    one, other = (audit(part, synthetic, kept, rng=7).to_dict() for _ in range(2))
    assert one.pop("seconds") is not other.pop("seconds")
    assert one == other


def test_the_report_is_strict_json_and_nothing_is_called_anonymous(copying: Audit, harmless: Audit) -> None:
    for result in (copying, harmless):
        values = json.loads(result.to_json())
        assert (values["schema"], values["kind"]) == (2, "audit")
        assert values["privacy"]["membership"][0]["auc"]["n_outsiders"] == 3000
        assert values["gates"][0]["passed"] is True
        assert not re.search("anonym", result.to_json(), re.IGNORECASE)
    assert any(
        "No leak of membership was found by these 5 attacks" in entry.text for entry in harmless.findings
    )


# ------------------------------------------------------------------------------------------- too little


@pytest.fixture(scope="module")
def few() -> Groups:
    return groups(400)


def test_without_a_holdout_membership_is_not_measured(few: Groups) -> None:
    result = audit(few.train, rows(few.train), rng=1)
    assert all(isinstance(entry.auc, Unmeasured) for entry in result.privacy.membership)
    assert result.fidelity.yardstick == "one half of train compared with the other"
    failed = {gate.name: gate.reason for gate in result.failed()}
    assert "needs users who were not in training" in failed["max_auc"]
    relaxed = audit(few.train, rows(few.others), gates=WITHOUT_HOLDOUT, rng=1)
    assert relaxed.failed() == ()


@pytest.mark.parametrize(
    ("n_outsiders", "measured"), [(19, (0, 0, 0)), (99, (1, 0, 0)), (100, (1, 1, 0)), (1000, (1, 1, 1))]
)
def test_what_a_control_group_is_too_small_for_is_not_measured(
    people: Groups, n_outsiders: int, measured: tuple[int, int, int]
) -> None:
    synthetic = rows(people.others.take_users(slice(0, 200)))
    result = audit(people.train, synthetic, people.holdout.take_users(slice(0, n_outsiders)), rng=1)
    for entry in result.privacy.membership:
        seen = isinstance(entry.auc, Area), *(isinstance(caught, Catch) for caught in entry.catches)
        assert seen == tuple(map(bool, measured))
    if not measured[2]:
        assert any(finding.kind == "unmeasured" for finding in result.findings)


def test_bad_sets_are_refused(people: Groups) -> None:
    train, synthetic, kept = people.train, rows(people.others), people.holdout
    nobody = Interactions.from_matrix(np.zeros((3, 300), dtype=np.float32))
    for sets in ((nobody, synthetic, kept), (train, nobody, kept), (train, synthetic, nobody)):
        with pytest.raises(DataError, match="needs interactions in every set"):
            audit(*sets)
    with pytest.raises(DataError, match="500 of its 1,000 user labels are in train"):
        audit(train, synthetic, _overlapping(people))
    relabelled = Interactions(train.matrix, Vocabulary([f"p{at}" for at in range(3000)]), train.items)
    with pytest.raises(DataError, match="have exactly the items of a training user"):
        audit(train, synthetic, relabelled)
    named = Interactions(synthetic.matrix, synthetic.users, Vocabulary([f"i{at}" for at in range(300)]))
    with pytest.raises(VocabularyMismatch, match="must have the same type in all sets"):
        audit(train, named, kept)
    elsewhere = Interactions(synthetic.matrix, synthetic.users, Vocabulary(np.arange(1000, 1300)))
    with pytest.raises(VocabularyMismatch, match="must be about the same items"):
        audit(train, elsewhere, kept)
    with pytest.raises(DataError, match="`users` must be at least 1"):
        audit(train, synthetic, kept, users=0)
    with pytest.raises(SpecError, match="max_auc"):
        Gates(max_auc=1.5)


def _overlapping(people: Groups) -> Interactions:
    new = people.holdout.take_users(slice(0, 500))
    old = people.train.take_users(slice(0, 500))
    labels = Vocabulary(np.concatenate([new.users.labels, old.users.labels]))
    return Interactions(rows(new, old).matrix, labels, people.train.items)


def test_validity_must_be_whole(few: Groups) -> None:
    synthetic = few.others.take_users(slice(0, 300))
    strange = Interactions(
        synthetic.matrix, synthetic.users, Vocabulary(np.arange(5, 305))
    )  # five items nobody real has
    weights = synthetic.matrix.copy()
    weights.data = weights.data + (np.arange(weights.nnz) == 3)
    empty = rows(
        synthetic, Interactions.from_matrix(np.zeros((2, 300), dtype=np.float32), items=synthetic.items)
    )
    for broken, name in (
        (strange, "items exist"),
        (Interactions(weights, synthetic.users, synthetic.items), "weights are 1"),
        (empty, "no empty user"),
    ):
        result = audit(few.train, broken, few.holdout, rng=1)
        assert [check.name for check in result.validity if not check.passed] == [name]
        assert "valid" in {gate.name for gate in result.failed()}
        assert result.findings[0].kind == "fault"
    assert all(check.passed for check in audit(few.train, empty, few.holdout, empty_users=True).validity)
    all_items = Interactions.from_matrix(np.ones((1, 300), dtype=np.float32), items=synthetic.items)
    result = audit(few.train, rows(synthetic, all_items), few.holdout, rng=1)
    assert all(check.passed for check in result.validity)
    degrees = few.train.user_degrees
    wanted = f"more items than any training user, {degrees.min()} to {degrees.max()}"
    assert sum(wanted in note for note in result.notes) == 1


# ---------------------------------------------------------------------------------------------- pieces


def test_claims_point_at_one_row_and_hold_different_items(people: Groups) -> None:
    matrix = people.others.matrix[:300]
    claims = _claims(matrix, 3, 200, np.random.default_rng(1))
    dense = matrix.toarray() > 0
    counts = np.array([dense[:, claim].all(axis=1).sum() for claim in claims])
    assert len(claims) == 200
    assert (counts == 1).all()
    assert (np.diff(np.sort(claims, axis=1), axis=1) > 0).all()
    np.testing.assert_array_equal(_owners(claims, matrix)[0], counts)


def test_the_hidden_item_is_gone_and_the_naive_guess_is_the_most_popular_unknown_one(people: Groups) -> None:
    matrix = people.train.matrix[:50]
    known, hidden = _hide(matrix, np.random.default_rng(1))
    popularity = people.train.item_degrees
    guess = _most_popular(known, popularity)
    for row in range(50):
        before, after = set(np.flatnonzero(matrix.toarray()[row])), set(np.flatnonzero(known.toarray()[row]))
        assert before - after == {hidden[row]}
        order = [item for item in np.argsort(-popularity, kind="stable") if item not in after]
        assert guess[row] == order[0]


def test_what_a_claim_gains_by_leaving_somebody_out_is_counted() -> None:
    random = np.random.default_rng(3)
    matrix = binary(random, 30, 8, 0.4)
    claims = np.array([[0, 1], [2, 5], [1, 7], [3, 4]])
    right = int((_owners(claims, matrix)[0] == 1).sum())
    without = [
        int((_owners(claims, matrix[np.delete(np.arange(30), row)])[0] == 1).sum()) - right
        for row in range(30)
    ]
    np.testing.assert_array_equal(_owners(claims, matrix)[1], without)


def test_claims_about_the_same_people_do_not_pass_for_many() -> None:
    """A few people with many items decide most claims: without that in the interval half of harmless sets leak."""
    outside = 0
    for seed in range(10):
        people = groups(400, 150, mean_items=20, rng=seed)
        sets = samples(people.train, rows(people.others), people.holdout)
        guess = SinglingOut(5).run(sets, None, seed, silent)["singling out by 5 items"]
        assert isinstance(guess, Guesses)
        assert guess.attack.design > 1
        assert isinstance(guess.excess, tuple)
        outside += guess.excess[1] > 0 or guess.excess[2] < 0
    assert outside <= 2


def test_few_kept_out_users_are_no_control_group_for_claims(people: Groups) -> None:
    synthetic = rows(people.others.take_users(slice(0, 300)))
    for size, measured in ((19, False), (20, True)):
        sets = samples(people.train, synthetic, people.holdout.take_users(slice(0, size)))
        result = SinglingOut(3, claims=200).run(sets, None, 1, silent)["singling out by 3 items"]
        assert isinstance(result, Guesses)
        assert isinstance(result.excess, Unmeasured) is not measured
    audited = audit(people.train, synthetic, people.holdout.take_users(slice(0, 2)), rng=1)
    assert {gate.name for gate in audited.failed()} == {"max_auc", "max_catch_at_1", "max_excess"}
    assert "needs at least 20 users" in next(
        gate.reason for gate in audited.failed() if gate.name == "max_excess"
    )
    assert not any(finding.kind == "leak" for finding in audited.findings)


@given(st.integers(0, 50), st.integers(0, 50))
def test_an_excess_lies_within_its_interval_between_minus_one_and_one(attack: int, control: int) -> None:
    guess = Guesses(
        attack=Proportion(attack, 50), control=Proportion(control, 50), baseline=Proportion(1, 50)
    )
    assert not isinstance(guess.excess, Unmeasured)
    value, low, high = guess.excess
    assert -1 <= low <= value <= high <= 1


def test_an_attacker_who_tells_some_people_is_not_hidden_by_one_with_more_hits() -> None:
    def outcome_of(name: str, members: int, outsiders: int) -> Membership:
        caught = Catch(0.01, Proportion(members, 1000), Proportion(outsiders, 1000))
        return Membership(attacker=name, auc=area(SPREAD, SPREAD), catches=(caught, Unmeasured("too few")))

    loud, sure = outcome_of("loud", 20, 10), outcome_of("sure", 19, 0)
    assert [entry.catches[0].p_value < 0.01 for entry in (loud, sure)] == [False, True]  # type: ignore[union-attr]
    both = Membership.p_values({"loud": loud, "sure": sure})
    significant = [name for name, p_value in both.items() if name.startswith("caught") and p_value < 0.01]
    assert "sure catches 1.9%" in next(_catch_findings((loud, sure), 0, significant)).text


SPREAD = np.arange(50.0)
