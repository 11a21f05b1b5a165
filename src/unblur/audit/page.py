"""An audit as a document."""

from __future__ import annotations

from unblur.audit.auditor import Audit
from unblur.audit.fidelity import Fidelity
from unblur.audit.findings import FINDING_KINDS, Finding, FindingKind
from unblur.document.blocks import (
    Cell,
    Document,
    DocumentBlock,
    Listing,
    Paragraph,
    Section,
    Table,
    Tone,
    interval,
    number,
)
from unblur.document.plots import Axis, Dot, interval_plot, line_plot
from unblur.evaluation.report import Measurement
from unblur.evaluation.significance import LEVEL
from unblur.experiment.page import dot, environment_lines

_TONES: dict[FindingKind, Tone] = {
    "fault": "bad",
    "leak": "bad",
    "exposure": "bad",
    "clear": "good",
    "unmeasured": "warn",
    "note": "plain",
}
_GATES = {
    "valid": "Validity",
    "findings": "Leaks and exposures (--waive)",
    "max_auc": "Membership (--max-auc)",
    "max_catch_at_1": "Members caught at 1 % (--max-catch)",
    "max_catch_at_01": "Members caught at 0.1 % (--max-catch)",
    "max_copies": "Exact copies (--max-copies)",
    "max_near_copies": "Near copies (--max-near-copies)",
    "max_excess": "Singling out and inference (--max-excess)",
    "min_utility": "Utility (--min-utility)",
}
"""The subject of each gate, with the option that sets its limit."""


def audit_document(audit: Audit, *, title: str = "Audit of a synthetic data set") -> Document:
    """The audit as a document, with findings and gates first."""
    outsiders = (
        f"{audit.n_holdout:,} real users who were kept out as the control group"
        if audit.n_holdout
        else "no control group of users who were kept out"
    )
    lead = (
        f"{audit.n_synthetic:,} synthetic users, generated from {audit.n_train:,} real users; {outsiders}; "
        f"{audit.n_items:,} items. {_in_short(audit)}"
    )
    checks = [
        (
            _passed(check.passed),
            f"{check.name}: {check.meaning}. Holds for {check.right:,} of {check.total:,}.",
        )
        for check in audit.validity
    ]
    sections = [
        Section("Findings", (findings(audit),)),
        Section("Gates", _gates(audit) if audit.gates else ()),
        Section("Utility", _utility(audit) if audit.utility else ()),
        Section("Validity", (Listing(checks),)),
        Section("Fidelity", _fidelity(audit.fidelity) if isinstance(audit.fidelity, Fidelity) else ()),
        *audit.privacy.sections(),
        Section("Limits of this audit", _reading(audit)),
    ]
    origin = audit.provenance
    times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in audit.seconds.items())
    footer = [
        *(f"{name}: {value}" for name, value in origin.data.items()),
        *environment_lines(origin.versions, origin.machine),
        *([f"time: {times}"] if times else []),
    ]
    return Document(title, sections, lead, footer)


def findings(audit: Audit) -> Listing:
    """The findings, the gravest first; those that fail the audit with the id that waives them."""
    return Listing([(_mark(finding), _text(finding)) for finding in audit.findings])


def _mark(finding: Finding) -> Cell:
    kind = FINDING_KINDS[finding.kind]
    return Cell(kind, _TONES[finding.kind]) if finding.waived is None else Cell(f"{kind}, waived", "warn")


def _text(finding: Finding) -> str:
    if finding.waived is not None:
        return f"{finding.text} Waived ({finding.id}): {finding.waived}"
    return f"{finding.text} (id: {finding.id})" if finding.fails else finding.text


def _in_short(audit: Audit) -> str:
    """Leaks and gates in a sentence."""
    leaks = sum(finding.kind == "leak" for finding in audit.findings)
    exposures = sum(finding.kind == "exposure" for finding in audit.findings)
    waived = sum(finding.waived is not None for finding in audit.findings)
    n_unmeasured = sum(finding.kind == "unmeasured" for finding in audit.findings)
    passed, gates = sum(gate.passed for gate in audit.gates), len(audit.gates)
    parts = (
        f"{leaks} leak{'s' * (leaks > 1)} found" if leaks else "No leak found by these attacks",
        "rows of single people exposed" if exposures else "",
        f"{waived} waived" if waived else "",
        f"{n_unmeasured} could not be measured" if n_unmeasured else "",
        f"{passed} of {gates} gates passed" if gates else "",
    )
    return f"{'; '.join(filter(None, parts))}."


def _passed(passed: bool) -> Cell:
    return Cell("passed", "good") if passed else Cell("failed", "bad")


def _gates(audit: Audit) -> tuple[DocumentBlock, ...]:
    return (
        Paragraph(
            "Limits that were set beforehand. A leak fails the audit, however small, unless it is waived with a reason; whether "
            "what passes is good enough for the people in the data, this page cannot decide."
        ),
        Listing(
            [
                (_passed(gate.passed), f"{_GATES.get(gate.name, gate.name)}: {gate.reason}.")
                for gate in audit.gates
            ]
        ),
    )


def _utility(audit: Audit) -> tuple[DocumentBlock, ...]:
    """Each recommender by its training users: the first metric with its differences, and the second."""
    metrics = tuple(dict.fromkeys(entry.metric for entry in audit.utility))
    first, second = ([entry for entry in audit.utility if entry.metric == metric] for metric in metrics)
    n_users = first[0].real.n_users
    dots, rows = [], []
    for left, right in zip(first, second, strict=True):
        arms = (
            ("real users", left.real, right.real, None),
            ("synthetic users", left.synthetic, right.synthetic, left.lost),
            ("both", left.both, right.both, left.gained),
        )
        for series, (training_users, left_value, right_value, difference) in enumerate(arms):
            dots.append(dot(left_value, left.recommender, series))
            from_real = "" if difference is None else _with_interval(difference)
            rows.append(
                (
                    left.recommender,
                    training_users,
                    _with_interval(left_value),
                    _with_interval(right_value),
                    from_real,
                )
            )
    return (
        Paragraph(
            f"The quality of recommenders on {n_users:,} real users who were kept out of their training: a fifth of each user's "
            "items is held out and should be recommended. popularity recommends the same items to all users: what exceeds it "
            "was learned about individual tastes."
        ),
        interval_plot(
            dots,
            axis=Axis(label=f"{metrics[0]}, mean over users"),
            caption=f"{metrics[0]} of {n_users:,} kept-out users, with 95 % intervals.",
            legend=("real users", "synthetic users", "both"),
        ),
        Table(
            ("recommender", "trained on", *metrics, f"{metrics[0]}, difference from real users"),
            rows,
            "Means over the same users, with 95 % intervals; differences are paired.",
            left=2,
        ),
    )


def _with_interval(entry: Measurement) -> str:
    return f"{number(entry.value)} ({interval(entry.low, entry.high)})"


def _fidelity(result: Fidelity) -> tuple[DocumentBlock, ...]:
    users = f"{result.n_users:,} synthetic and {result.n_users:,} other real users, compared with {result.n_train:,} training users"
    dots, rows = [], []
    for entry in result.likenesses:
        yardstick = entry.yardstick, entry.yardstick_low, entry.yardstick_high
        rows.append(
            (
                entry.name + (f" ({entry.unit})" if entry.unit else ""),
                number(entry.value),
                interval(entry.low, entry.high),
                number(entry.yardstick),
                interval(*yardstick[1:]),
                "0, by definition" if entry.train is None else number(entry.train),
            )
        )
        # Distances between 0 and 1 share an axis; a distance in items has another scale.
        if entry.train is None and not entry.unit.startswith("items"):
            ends = ((entry.value, entry.low, entry.high), yardstick)
            dots += [
                Dot(label=entry.name, value=value, low=low, high=high, series=series)
                for series, (value, low, high) in enumerate(ends)
            ]
    return (
        Paragraph(
            "The distance of synthetic users from training users, compared with that of other real users "
            f"({result.yardstick}). A synthetic set that is closer to train than other real users are probably repeats "
            "training users."
        ),
        interval_plot(
            dots,
            axis=Axis(label="distance from the training users", low=0.0),
            caption=f"Distances from the training users with 95 % intervals: {users}.",
            legend=("synthetic users", "other real users"),
        ),
        Table(
            ("statistic", "synthetic", "95 % interval", "other real", "95 % interval", "train"),
            rows,
            f"{users}.",
        ),
        line_plot(
            result.curves.popularity,
            x=Axis(label="share of the catalogue, most popular first", percent=True, low=0.0, high=1.0),
            y=Axis(label="share of interactions", percent=True, low=0.0, high=1.0),
            caption=f"Item popularity: {users}.",
        ),
        line_plot(
            result.curves.activity,
            x=Axis(label="items of a user (logarithmic)", logarithmic=True),
            y=Axis(label="share of users with no more", percent=True, low=0.0, high=1.0),
            caption=f"User activity: {users}.",
        ),
        Table(("statistic", "meaning"), [(entry.name, entry.meaning) for entry in result.likenesses], left=2),
    )


def _reading(audit: Audit) -> tuple[DocumentBlock, ...]:
    return (
        Paragraph(
            "These attacks were run on these users. That they found nothing does not prove that no other attack would, "
            "and holds for this set alone: another set of the same synthesizer needs an audit of its own. An attacker "
            "who knows more about people than their items can do better."
        ),
        Paragraph(
            f"{len(audit.tests)} tests were made, and are one family: a leak is said where a p-value is below {LEVEL:g} after Holm's "
            "correction over all of them."
        ),
        *(Paragraph(f"Note: {note}.") for note in audit.notes),
    )
