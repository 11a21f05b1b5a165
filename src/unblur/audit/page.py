"""The page of an audit."""

from __future__ import annotations

from unblur.audit.auditor import Audit
from unblur.audit.fidelity import Fidelity
from unblur.audit.verdicts import FINDING_KINDS, FindingKind
from unblur.document.blocks import (
    Cell,
    Document,
    Listing,
    Paragraph,
    Section,
    Table,
    Tone,
    interval,
    number,
)
from unblur.document.html import as_html
from unblur.document.plots import Axis, Dot, interval_plot, line_plot
from unblur.evaluation.report import Measurement

_TONES: dict[FindingKind, Tone] = {
    "fault": "bad",
    "leak": "bad",
    "clear": "good",
    "unmeasured": "warn",
    "note": "plain",
}
_GATES = {
    "valid": "Validity",
    "max_auc": "Membership (--max-auc)",
    "max_copies": "Exact copies (--max-copies)",
    "max_near_copies": "Near copies (--max-near-copies)",
    "max_excess": "Singling out and inference (--max-excess)",
    "min_utility": "Utility (--min-utility)",
}
"""What a gate is about, with the option that sets its limit."""


def audit_page(audit: Audit, *, title: str = "Audit of a synthetic data set") -> str:
    """The audit as one HTML page."""
    outsiders = (
        f"{audit.n_holdout:,} real users who were kept out as the control group"
        if audit.n_holdout
        else "no control group of users who were kept out"
    )
    lead = (
        f"{audit.n_synthetic:,} synthetic users, made from {audit.n_train:,} real ones; {outsiders}; "
        f"{audit.n_items:,} items. {_in_short(audit)}"
    )
    document = Document(
        title,
        [
            _summary(audit),
            *([_gates(audit)] if audit.gates else []),
            *([_utility(audit)] if audit.utility else []),
            _validity(audit),
            _fidelity(audit.fidelity),
            *audit.privacy.sections(),
            _reading(audit),
        ],
        lead,
        _footer(audit),
    )
    return as_html(document)


def _in_short(audit: Audit) -> str:
    """Leaks and gates in a sentence."""
    leaks = sum(finding.kind == "leak" for finding in audit.findings)
    unknown = sum(finding.kind == "unmeasured" for finding in audit.findings)
    said = f"{leaks} leak{'s' * (leaks > 1)} found" if leaks else "No leak found by these attacks"
    if unknown:
        said += f"; {unknown} could not be measured"
    if audit.gates:
        passed = len(audit.gates) - len(audit.failed())
        said += f"; {passed} of {len(audit.gates)} gates passed"
    return f"{said}."


def _summary(audit: Audit) -> Section:
    lines = tuple(
        (Cell(FINDING_KINDS[finding.kind], _TONES[finding.kind]), finding.text) for finding in audit.findings
    )
    return Section("Findings", (Listing(lines),))


def _gates(audit: Audit) -> Section:
    lines = tuple(
        (_passed(gate.passed), f"{_GATES.get(gate.name, gate.name)}: {gate.reason}.") for gate in audit.gates
    )
    intro = Paragraph(
        "Limits that were set beforehand. A leak may be found and yet be small enough to pass; whether that is small "
        "enough for the people in the data is not for this page to say."
    )
    return Section("Gates", (intro, Listing(lines)))


def _utility(audit: Audit) -> Section:
    n_users = audit.utility[0].real.n_users
    arms = {"real users": "real", "synthetic users": "synthetic", "both": "both"}
    recalls = [entry for entry in audit.utility if entry.metric == audit.utility[0].metric]
    found = [(entry.recommender, getattr(entry, name)) for entry in recalls for name in arms.values()]
    dots = [
        Dot(
            label=label,
            value=each.value,
            low=each.low,
            high=each.high,
            series=at % len(arms),
        )
        for at, (label, each) in enumerate(found)
    ]
    others = [entry for entry in audit.utility if entry.metric != recalls[0].metric]
    against = {"real": None, "synthetic": "lost", "both": "gained"}
    rows = tuple(
        (
            entry.recommender,
            label,
            _with_interval(getattr(entry, name)),
            _with_interval(getattr(other, name)),
            "" if against[name] is None else _with_interval(getattr(entry, str(against[name]))),
        )
        for entry, other in zip(recalls, others, strict=True)
        for label, name in arms.items()
    )
    columns = (
        "recommender",
        "learned from",
        recalls[0].metric,
        others[0].metric,
        f"{recalls[0].metric} less that of real users",
    )
    intro = Paragraph(
        f"What recommenders find of {n_users:,} real users who were kept out: a fifth of each one's items is hidden and must "
        "come back among the best. Nobody of these teaches. popularity knows no taste: what is above it was learned of tastes."
    )
    caption = "Means over the same users, with 95 % intervals; differences are paired."
    plot = interval_plot(
        dots,
        axis=Axis(label=f"{recalls[0].metric}, mean over users"),
        caption=f"{recalls[0].metric} of {n_users:,} kept-out users, with 95 % intervals.",
        legend=tuple(arms),
    )
    return Section("Utility", (intro, plot, Table(columns, rows, caption)))


def _with_interval(entry: Measurement) -> str:
    ends = "" if entry.low is None else f" ({interval(entry.low, entry.high)})"
    return f"{number(entry.value)}{ends}"


def _validity(audit: Audit) -> Section:
    lines = tuple(
        (
            _passed(check.passed),
            f"{check.name}: {check.meaning}. Holds for {check.right:,} of {check.total:,}.",
        )
        for check in audit.validity
    )
    return Section("Validity", (Listing(lines),))


def _fidelity(found: Fidelity) -> Section:
    rows = tuple(
        (
            entry.name + (f" ({entry.unit})" if entry.unit else ""),
            number(entry.value),
            interval(entry.low, entry.high),
            number(entry.yardstick),
            interval(entry.yardstick_low, entry.yardstick_high),
            "0, by definition" if entry.train is None else number(entry.train),
        )
        for entry in found.likenesses
    )
    columns = ("statistic", "synthetic", "95 % interval", "other real", "95 % interval", "train")
    users = f"{found.n_users:,} synthetic and {found.n_users:,} other real users, against {found.n_train:,} of train"
    distances = [
        entry for entry in found.likenesses if entry.train is None and not entry.unit.startswith("items")
    ]
    dots = [
        dot
        for entry in distances
        for dot in (
            Dot(label=entry.name, value=entry.value, low=entry.low, high=entry.high, series=0),
            Dot(
                label=entry.name,
                value=entry.yardstick,
                low=entry.yardstick_low,
                high=entry.yardstick_high,
                series=1,
            ),
        )
    ]
    meanings = Table(
        ("statistic", "what it is"), tuple((entry.name, entry.meaning) for entry in found.likenesses), left=2
    )
    return Section(
        "Fidelity",
        (
            Paragraph(
                "How far synthetic users are from training users, beside how far other real users are "
                f"({found.yardstick}). A synthetic set can hardly be closer to train than real users are without "
                "repeating them."
            ),
            interval_plot(
                dots,
                axis=Axis(label="distance from the training users", low=0.0),
                caption=f"Distances from train with 95 % intervals: {users}.",
                legend=("synthetic users", "other real users"),
            ),
            Table(columns, rows, f"{users}."),
            line_plot(
                found.curves.popularity,
                x=Axis(label="share of the catalogue, most popular first", percent=True, low=0.0, high=1.0),
                y=Axis(label="share of interactions", percent=True, low=0.0, high=1.0),
                caption=f"Item popularity: {users}.",
            ),
            line_plot(
                found.curves.activity,
                x=Axis(label="items of a user (logarithmic)", logarithmic=True),
                y=Axis(label="share of users with no more", percent=True, low=0.0, high=1.0),
                caption=f"User activity: {users}.",
            ),
            meanings,
        ),
    )


def _reading(audit: Audit) -> Section:
    return Section(
        "What this does not say",
        (
            Paragraph(
                "These are attacks that were tried, on the users that were given. That an attack found nothing is no "
                "proof that another would not, and holds for this set alone: another set from the same synthesizer is "
                "to be audited again. Whoever knows more about people than their items here can do better."
            ),
            *(Paragraph(f"Note: {note}.") for note in audit.notes),
        ),
    )


def _footer(audit: Audit) -> list[str]:
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in audit.seconds.items())
    lines = [f"{name}: {value}" for name, value in audit.provenance.data.items()]
    versions = ", ".join(f"{name} {value}" for name, value in audit.provenance.versions.items())
    return [*lines, *([versions] if versions else []), *([f"time: {took}"] if took else [])]


def _passed(passed: bool) -> Cell:
    tone: Tone = "good" if passed else "bad"
    return Cell("passed" if passed else "failed", tone)
