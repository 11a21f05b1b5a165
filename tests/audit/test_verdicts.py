"""The verdict of an audit on sets whose truth is known: copies, perturbed copies, faults, and sets that learned nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import sparse, stats

from tests.audit.sets import groups, rows
from unblur.audit.attacks.attack import samples
from unblur.audit.attacks.copies import LENGTHS, Copying, EqualRows
from unblur.audit.attacks.membership import MembershipInference
from unblur.audit.auditor import AttackResults, Audit, audit, run_attacks
from unblur.audit.findings import Catch, Finding, Gate, Gates, Proportion, Unmeasured
from unblur.audit.page import audit_document
from unblur.audit.worth import taught_recommenders
from unblur.cli.main import main
from unblur.data import files as sources
from unblur.data.interactions import Interactions
from unblur.data.vocabulary import Vocabulary
from unblur.document.html import as_html
from unblur.evaluation.significance import LEVEL

N_ITEMS = 400


def users(sizes: list[int], rng: int, first: int = 0) -> Interactions:
    """Users with these numbers of random items of `N_ITEMS`, labelled u<first>, u<first + 1>, …"""
    random = np.random.default_rng(rng)
    items = np.concatenate([random.choice(N_ITEMS, size, replace=False) for size in sizes])
    matrix = sparse.csr_array(
        (np.ones(len(items), dtype=np.float32), items, np.cumsum([0, *sizes])), shape=(len(sizes), N_ITEMS)
    )
    labels = Vocabulary([f"u{first + at}" for at in range(len(sizes))])
    return Interactions(matrix, labels, Vocabulary.range(N_ITEMS))


SIZES = [4] * 950 + [8] * 50


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files: train, a holdout and other users of the same sizes; all short rows of train, and 30 of them among others."""
    folder = tmp_path_factory.mktemp("sets")
    train, others = users(SIZES, 1), users(SIZES, 3)
    parts = {
        "train": train,
        "holdout": users(SIZES, 2, first=1000),
        "others": rows(others),
        "copied": rows(train.take_users(slice(0, 950))),
        "few": rows(train.take_users(slice(0, 30)), others.take_users(slice(0, 990))),
    }
    for name, part in parts.items():
        sources.write(part, folder / f"{name}.parquet")
    return folder


def exit_code(folder: Path, synthetic: str, *options: object) -> int:
    words = ["audit", folder / "train.parquet", folder / f"{synthetic}.parquet", "--no-utility", *options]
    return main([*map(str, words)])


def verdict(folder: Path, synthetic: str, *options: object) -> tuple[int, dict[str, Any]]:
    """The exit code, and the report."""
    out = folder / f"audit of {synthetic}"
    code = exit_code(folder, synthetic, *options, "--out", out, "--overwrite")
    return code, json.loads((out / "report.json").read_text())


def failing(report: dict[str, Any]) -> dict[str, str]:
    """The kinds of the findings that fail the audit, by id."""
    kinds = ("leak", "exposure", "fault")
    return {
        entry["id"]: entry["kind"]
        for entry in report["findings"]
        if entry["kind"] in kinds and not entry["waived"]
    }


# ----------------------------------------------------------------------------------------------- copies


def test_copied_short_rows_are_a_leak_without_a_holdout(sets: Path) -> None:
    code, report = verdict(sets, "copied")
    assert code == 1
    assert failing(report) == {"copies": "leak", "exposure": "exposure"}
    by_length = {entry["items"]: entry for entry in report["privacy"]["copies"]["equal_rows"]}
    assert by_length["4 items"]["distinct"] == 950
    assert by_length["7 to 10 items"]["distinct"] == 0
    assert report["tests"]["copies of 4 items"]["adjusted"] < 1e-50
    assert report["tests"]["copies of any number of items"]["adjusted"] < 1e-50


def test_independent_users_of_the_same_sizes_pass(sets: Path) -> None:
    assert exit_code(sets, "others") == 0
    code, report = verdict(sets, "others", "--holdout", sets / "holdout.parquet")
    assert (code, failing(report)) == (0, {})


def test_thirty_copies_among_a_thousand_fail_unless_every_finding_is_waived(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = verdict(sets, "few", "--holdout", sets / "holdout.parquet")
    result = failing(report)
    assert code == 1
    assert result["copies"] == "leak"
    assert "exposure" in result
    waivers = [word for name in result for word in ("--waive", f"{name}=users of the test")]
    catch = "--max-catch", "0.1", "0.1"
    assert verdict(sets, "few", "--holdout", sets / "holdout.parquet", *waivers[2:], *catch)[0] == 1
    code, report = verdict(
        sets, "few", "--holdout", sets / "holdout.parquet", *waivers, *catch, "--waive", "none=x"
    )
    assert code == 0
    assert {entry["waived"] for entry in report["findings"] if entry["id"] in result} == {"users of the test"}
    assert "a waiver was not needed, since there is no such leak or exposure: none" in report["notes"]
    page = (sets / "audit of few" / "report.html").read_text()
    assert "leak found, waived" in page
    assert "Waived (copies): users of the test" in page
    capsys.readouterr()
    for waiver in ("copies", "copies=", "=reason"):
        assert exit_code(sets, "few", "--waive", waiver) == 2
        assert "A waiver must be the id of a finding and a reason" in " ".join(
            capsys.readouterr().err.split()
        )


@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_copying_is_tested_as_the_formulas_say(n: int, m: int, data: st.DataObject) -> None:
    """Against SciPy's own tests: Fisher's for a holdout, the binomial one without."""
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    given = {"items": "any", "n_train": n, "n_synthetic": m, "copied": a}
    held_out = EqualRows(**given, n_holdout=m, holdout_copied=b, distinct=0, shared=0)  # type: ignore[arg-type]
    table = [[a, n - a], [b, m - b]]
    assert held_out.p_value == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue)
    alone = EqualRows(**given, n_holdout=None, holdout_copied=None, distinct=a, shared=b)  # type: ignore[arg-type]
    truth = stats.binomtest(a, a + b, 2 * m / (2 * m + n - 1), "greater").pvalue if a + b else 1.0
    assert alone.p_value == pytest.approx(truth)


def test_rows_are_counted_by_their_number_of_items() -> None:
    assert [low for low, _ in LENGTHS[1:]] == [high + 1 for _, high in LENGTHS[:-1] if high is not None]
    train, holdout = users([1, 1, 3, 5, 6, 25], 1), users([1, 2, 6, 30], 2, first=10)
    shared = rows(train.take_users([2, 2]), holdout.take_users([2]), train.take_users([5]))
    result = _copies(train, shared, holdout)
    counts = {
        entry.items: (entry.n_train, entry.n_synthetic, entry.n_holdout, entry.copied, entry.holdout_copied)
        for entry in result.equal_rows
    }
    assert counts == {
        "any number of items": (6, 4, 4, 2, 1),
        "1 item": (2, 0, 1, 0, 0),
        "3 items": (1, 2, 0, 1, 0),
        "5 to 6 items": (2, 1, 1, 0, 1),
        "21 items or more": (1, 1, 1, 1, 0),
    }
    assert result.exact == Proportion(3, 4)


def _copies(train: Interactions, synthetic: Interactions, holdout: Interactions | None) -> Any:
    return run_attacks(samples(train, synthetic, holdout), [Copying()], rng=1).copies


def test_a_row_longer_than_any_that_two_real_users_share_is_exposed_without_a_claim() -> None:
    train, holdout = users([3, 6, 9], 1), users([3, 3], 2, first=10)
    twice = Interactions(rows(train, train.take_users([1])).matrix, Vocabulary([*"abcd"]), train.items)
    for real, expected in ((train, (0, 3)), (twice, (6, 1))):
        result = _copies(real, rows(train), holdout)
        assert (result.longest_shared, result.exposed.hits) == expected
    result = _copies(train, rows(holdout), holdout)
    assert (result.longest_shared, result.exposed.hits) == (0, 0)


def leaks(results: AttackResults) -> list[str]:
    """The leaks of attacks."""
    return [
        entry.id
        for entry in results.conclusions(Gates())
        if isinstance(entry, Finding) and entry.kind == "leak"
    ]


# ------------------------------------------------------------------------------------------ a few members


@pytest.fixture(scope="module")
def exchanged() -> tuple[Interactions, Interactions, Interactions]:
    """Train, synthetic and holdout; 3 % of the training users are in the synthetic set, 15 % of their items exchanged."""
    people = groups(1500, 400, mean_items=30, rng=5)
    random = np.random.default_rng(6)
    dense = people.train.matrix[:45].toarray()
    for row in dense:
        owned, free = np.flatnonzero(row), np.flatnonzero(row == 0)
        n = round(0.15 * len(owned))
        row[random.choice(owned, n, replace=False)] = 0
        row[random.choice(free, n, replace=False)] = 1
    near = Interactions.from_matrix(dense, items=people.train.items)
    return people.train, rows(near, people.others.take_users(slice(0, 1455))), people.holdout


def test_a_few_members_that_are_told_with_little_error_fail_the_gate(
    exchanged: tuple[Interactions, Interactions, Interactions],
) -> None:
    results = run_attacks(samples(*exchanged), [MembershipInference()], rng=1)
    gates = {entry.name: entry for entry in results.conclusions(Gates()) if isinstance(entry, Gate)}
    gate = gates["max_catch_at_01"]
    assert not gate.passed
    assert gate.value is not None
    assert gate.interval is not None
    assert 0.02 < gate.value < 0.05
    assert gate.limit == 0.01 < gate.interval[0]
    assert gates["max_auc"].passed  # on average nothing is told
    assert "caught-at-0.1-percent" in leaks(results)


def test_a_tenth_of_a_percent_of_few_users_is_not_measured_and_fails_nothing() -> None:
    people = groups(150)
    sets = samples(people.train, rows(people.others), people.holdout)
    results = run_attacks(sets, [MembershipInference()], rng=1)
    gates = {entry.name: entry for entry in results.conclusions(Gates()) if isinstance(entry, Gate)}
    gate = gates["max_catch_at_01"]
    assert (gate.passed, gate.value, gate.interval, gate.limit) == (True, None, None, 0.01)
    assert gate.reason.startswith("not measured: needs at least 1,000 users")
    assert gates["max_catch_at_1"].value is not None
    few = samples(people.train, rows(people.others), people.holdout.take_users(slice(0, 99)))
    results = run_attacks(few, [MembershipInference()], rng=1)
    gates = {entry.name: entry for entry in results.conclusions(Gates()) if isinstance(entry, Gate)}
    assert [gates[name].passed for name in ("max_catch_at_1", "max_catch_at_01")] == [False, True]


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 7), st.integers(0, 8))
def test_the_p_value_of_a_catch_is_that_of_all_orders(n: int, m: int, allowed: int, hits: int) -> None:
    """Against SciPy's negative hypergeometric distribution: members above the (k + 1)-th best outsider."""
    allowed, hits = min(allowed, m - 1), min(hits, n)
    caught = Catch((allowed + 0.5) / m, Proportion(hits, n), Proportion(allowed, m))
    truth = stats.nhypergeom(n + m, n, allowed + 1).sf(hits - 1)
    assert caught.p_value == pytest.approx(truth)


# ------------------------------------------------------------------------------------------------ faults


@pytest.fixture(scope="module")
def plain() -> Interactions:
    return users([6] * 300, 1)


def faults(result: Audit) -> set[str]:
    return {finding.id for finding in result.findings if finding.kind == "fault"}


def audited(train: Interactions, synthetic: Interactions, **options: Any) -> Audit:
    return audit(train, synthetic, attacks=[Copying()], rng=1, **options)


def test_identical_users_are_a_fault(plain: Interactions) -> None:
    alike = rows(users([6], 5).take_users([0] * 300))
    result = audited(plain, alike)
    assert faults(result) == {"users-differ"}
    assert "valid" in {gate.name for gate in result.failed()}
    three = rows(users([6] * 3, 5).take_users([0, 1, 2] * 100))
    assert faults(audited(plain, three)) == {"users-differ"}
    assert faults(audited(plain, rows(users([6] * 300, 5)))) == set()
    # Real users of few items are often alike, and so may synthetic ones be.
    short = users([1] * 3000, 1)
    assert faults(audited(short, rows(users([1] * 3000, 5)))) == set()


def test_labels_of_real_users_are_a_fault(plain: Interactions) -> None:
    other = users([6] * 300, 5)
    assert faults(audited(plain, Interactions(other.matrix, plain.users, other.items))) == {"labels-are-new"}
    random = np.random.default_rng(1)
    ids = Vocabulary(random.choice(400, 300, replace=False))
    numbered = Interactions(plain.matrix, ids, plain.items)
    assert faults(audited(numbered, Interactions(other.matrix, ids, other.items))) == {"labels-are-new"}
    # Numbers that count synthetic users agree with real ones by chance.
    assert faults(audited(numbered, rows(other))) == set()
    counted = Interactions(plain.matrix, Vocabulary.range(300), plain.items)
    assert faults(audited(counted, rows(other))) == set()


def test_columns_that_no_attack_looks_at_are_a_fault(plain: Interactions, tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    times = random.integers(10**9, 2 * 10**9, plain.n_interactions)
    timed = Interactions(plain.matrix, plain.users, plain.items, times)
    other = users([6] * 300, 5, first=1000)
    result = audited(timed, Interactions(other.matrix, other.users, other.items, times))
    assert faults(result) == {"only-users-and-items"}
    assert "1,800 of 1,800 equal to one of a real user" in result.findings[0].text
    users(SIZES, 1).to_frame().select("user", "item").write_parquet(tmp_path / "train.parquet")
    synthetic = rows(users(SIZES, 3)).to_frame().select("user", "item")
    synthetic.write_parquet(tmp_path / "pairs.parquet")
    assert exit_code(tmp_path, "pairs") == 0
    import polars as pl

    synthetic.with_columns(age=pl.lit(33), ts=pl.lit(5)).write_parquet(tmp_path / "more.parquet")
    code, report = verdict(tmp_path, "more")
    assert (code, failing(report)) == (1, {"only-users-and-items": "fault"})
    assert "age" in report["findings"][0]["text"]


def test_items_of_the_catalogue_that_no_real_user_has_are_no_fault(tmp_path: Path) -> None:
    users(SIZES, 1).to_frame().select("user", "item").write_parquet(tmp_path / "train.parquet")
    others = rows(users(SIZES, 3)).to_frame().select("user", "item")
    others.with_columns(item=others["item"].replace(0, 4000)).write_parquet(tmp_path / "more.parquet")
    (tmp_path / "items.txt").write_text("\n".join(map(str, [*range(N_ITEMS), 4000])))
    assert exit_code(tmp_path, "more") == 1
    assert exit_code(tmp_path, "more", "--items", tmp_path / "items.txt") == 0


# ------------------------------------------------------------------------------- what cannot be computed


def test_a_part_that_cannot_be_computed_is_a_line_of_the_report() -> None:
    full = Interactions.from_matrix(np.ones((60, 12), dtype=np.float32))
    kept = Interactions(full.matrix, Vocabulary(np.arange(100, 160)), full.items)
    result = audit(full, rows(full), kept, recommenders=taught_recommenders, rng=1)
    assert result.privacy.copies.exact == Proportion(
        60, 60
    )  # equal rows are the rule here, and no reason to refuse the holdout
    assert not [finding for finding in result.findings if finding.kind == "leak"]
    small = Interactions.from_matrix(np.ones((40, 3), dtype=np.float32))
    held = Interactions(small.matrix, Vocabulary(np.arange(100, 140)), small.items)
    result = audit(small, rows(small), held, recommenders=taught_recommenders, rng=1)
    texts = {finding.id: finding.text for finding in result.findings if finding.kind == "unmeasured"}
    assert "cannot be measured: The density" in texts["utility-truncated-svd"]
    assert {entry.recommender for entry in result.utility} == {"popularity", "ease"}
    one = small.take_users([0])
    result = audit(one, rows(one), rng=1)
    assert isinstance(result.fidelity, Unmeasured)
    assert "at least two users" in as_html(audit_document(result))
    assert json.loads(result.to_json())["fidelity"].keys() == {"unmeasured"}


def test_an_attack_that_cannot_be_computed_is_a_line_of_the_report(
    plain: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Copying, "run", run)
    result = audited(plain, rows(users([6] * 300, 5)))
    assert [finding.text for finding in result.findings if finding.id == "copies"] == [
        "Copies: cannot be measured: MemoryError."
    ]
    assert result.to_dict()["privacy"]["copies"] == {"unmeasured": "cannot be measured: MemoryError"}
    assert "max_near_copies" in {gate.name for gate in result.failed()}


# -------------------------------------------------------------------------------------------- the page


def test_all_tests_of_a_page_are_one_family() -> None:
    people = groups(150)
    result = audit(people.train, rows(people.others), people.holdout, rng=1)
    kinds = {name.partition(" ")[0] for name in result.tests}
    assert kinds == {"membership", "caught", "singling", "inference", "copies"}
    smallest = min(result.tests.values(), key=lambda test: test.p_value)
    assert smallest.adjusted == pytest.approx(min(1, smallest.p_value * len(result.tests)))
    assert all(test.adjusted >= test.p_value for test in result.tests.values())
    assert f"{len(result.tests)} tests were made" in as_html(audit_document(result))
    assert not [finding for finding in result.findings if finding.kind == "leak"]
    assert smallest.adjusted >= LEVEL


def test_gates_in_the_report_carry_value_limit_and_interval() -> None:
    people = groups(1000, rng=3)
    result = audit(
        people.train,
        rows(people.others),
        people.holdout,
        gates=Gates(max_copies=0, min_utility=0.1),
        recommenders=taught_recommenders,
        rng=1,
    )
    gates = {gate["name"]: gate for gate in result.to_dict()["gates"]}
    limits = {"valid": 0, "findings": 0, "max_auc": 0.55, "max_catch_at_1": 0.03, "max_catch_at_01": 0.01}
    limits |= {"max_copies": 0, "max_near_copies": 0.01, "max_excess": 0.05, "min_utility": 0.1}
    assert {name: gate["limit"] for name, gate in gates.items()} == limits
    for name, gate in gates.items():
        assert gate["value"] is not None
        if name not in ("valid", "findings", "max_copies", "min_utility"):
            low, high = gate["interval"]
            assert low <= gate["value"] <= high
    assert len({finding.id for finding in result.findings}) == len(result.findings)
