"""The page of an audit."""

from __future__ import annotations

import re

import pytest

from tests.audit.sets import groups, rows
from tests.document.tags import Tags
from unblur.audit.auditor import Audit, audit
from unblur.audit.page import audit_document
from unblur.audit.worth import taught_recommenders
from unblur.document.html import as_html


@pytest.fixture(scope="module")
def result() -> Audit:
    people = groups(300)
    synthetic = rows(people.others)
    return audit(
        people.train,
        synthetic,
        people.holdout,
        recommenders=taught_recommenders(people.train, synthetic),
        rng=1,
    )


def test_the_page_of_an_audit_is_one_file_that_loads_nothing(result: Audit) -> None:
    text = as_html(audit_document(result))
    tags = Tags(text)
    assert tags.open == []
    assert tags.links == []
    assert not tags.seen & {"script", "link", "img", "iframe", "object", "form"}
    assert "@import" not in text
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_the_page_of_an_audit_says_what_was_measured_on_how_many_users(result: Audit) -> None:
    text = as_html(audit_document(result))
    assert "300 synthetic users, generated from 300 real users; 300 real users who were kept out" in text
    assert "300 members and 300 outsiders" in text
    assert "needs at least 1,000 users who were not in training; there are 300" in text
    assert "recommenders on 300 real users who were kept out of their training" in text
    for entry in result.utility:
        for arm in (entry.real, entry.synthetic, entry.both):
            assert f"{arm.value:.4f} ({arm.low:.4f} … {arm.high:.4f})" in text
    assert result.provenance.data["train"] in text
    for finding in result.findings:
        assert finding.text.split(":")[0].replace("'", "&#39;") in text
    assert not re.search("anonym", text, re.IGNORECASE)
    titles = re.findall("<h2>(.*)</h2>", text)
    assert titles[:3] == ["Findings", "Gates", "Utility"]


def test_the_page_without_a_control_group_says_so() -> None:
    people = groups(300)
    text = as_html(audit_document(audit(people.train, rows(people.others), rng=1)))
    assert "no control group of users who were kept out" in text
    assert "Cannot be measured: needs users who were not in training" in text


def test_page_says_in_short_what_was_found() -> None:
    people = groups(60)
    copied = audit(people.train, rows(people.train), people.holdout, rng=1)
    leaks = sum(finding.kind == "leak" for finding in copied.findings)
    passed = len(copied.gates) - len(copied.failed())
    assert leaks > 1
    assert passed < len(copied.gates)
    text = as_html(audit_document(copied))
    assert f"{leaks} leaks found" in text
    assert f"{passed} of {len(copied.gates)} gates passed" in text
    assert "Membership (--max-auc)" in text
    alone = as_html(audit_document(audit(people.train, rows(people.others), rng=1)))
    assert "No leak found by these attacks; " in alone
    assert " could not be measured" in alone
