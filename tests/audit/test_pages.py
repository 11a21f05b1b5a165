"""Pages: whole, self-contained, escaped; plots that put values where they belong."""

from __future__ import annotations

import math
import re
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.audit.sets import groups, rows
from unblur.audit.auditing import taught_recommenders
from unblur.audit.auditor import Audit, audit
from unblur.audit.page import audit_page
from unblur.document.blocks import Cell, Figure, Listing, Paragraph, Section, Table, page
from unblur.document.plots import Axis, Dot, bar_plot, interval_plot, line_plot
from unblur.errors import CapabilityError, DataError

NAMESPACE = "{http://www.w3.org/2000/svg}"
EVIL = "<script>alert('a')</script> & \"more\""


@pytest.fixture(scope="module")
def found() -> Audit:
    people = groups(300)
    made = rows(people.others)
    return audit(
        people.train, made, people.holdout, recommenders=taught_recommenders(people.train, made), rng=1
    )


def drawing(figure: Figure) -> ElementTree.Element:
    return ElementTree.fromstring(figure.svg)


def words(figure: Figure) -> list[str]:
    return [element.text or "" for element in drawing(figure).iter(f"{NAMESPACE}text")]


class Tags(HTMLParser):
    """Which tags and attributes there are, and whether they close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [
            value or "" for name, value in attrs if name in ("src", "href", "srcset", "onclick", "action")
        ]
        if tag not in ("meta", "line", "circle", "rect", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "circle", "rect", "polyline"):
            assert self.open.pop() == tag


def test_the_page_of_an_audit_is_one_file_that_loads_nothing(found: Audit) -> None:
    text = audit_page(found)
    tags = Tags(text)
    assert tags.open == []
    assert tags.links == []
    assert not tags.seen & {"script", "link", "img", "iframe", "object", "form"}
    assert "@import" not in text
    assert "url(" not in text
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_the_page_of_an_audit_says_what_was_measured_on_how_many_users(found: Audit) -> None:
    text = audit_page(found)
    assert "300 synthetic users, made from 300 real ones; 300 real users who were kept out" in text
    assert "300 members and 300 outsiders" in text
    assert "needs at least 1,000 users who were not in training; there are 300" in text
    assert "What recommenders find of 300 real users who were kept out" in text
    for entry in found.utility:
        for arm in (entry.real, entry.synthetic, entry.both):
            assert f"{arm.value:.4f} ({arm.low:.4f} … {arm.high:.4f})" in text
    assert found.provenance.data["train"] in text
    for finding in found.findings:
        assert finding.text.split(":")[0].replace("'", "&#39;") in text
    assert not re.search("anonym", text, re.IGNORECASE)
    titles = re.findall("<h2>(.*)</h2>", text)
    assert titles[:3] == ["Findings", "Gates", "Utility"]


def test_the_page_without_a_control_group_says_so() -> None:
    people = groups(300)
    text = audit_page(audit(people.train, rows(people.others), rng=1))
    assert "no control group of users who were kept out" in text
    assert "Cannot be measured: needs users who were not in training" in text


def test_all_text_is_escaped() -> None:
    plots = (
        line_plot(
            {EVIL: [(0, 0), (1, 1)], "b": [(0, 1)]}, x=Axis(label=EVIL), y=Axis(label=EVIL), caption=EVIL
        ),
        interval_plot(
            [Dot(label=EVIL, value=1, low=0, high=2)], axis=Axis(label=EVIL), caption=EVIL, marks={EVIL: 1}
        ),
        bar_plot({EVIL: {EVIL: 1, "b": 2}}, axis=Axis(label=EVIL), caption=EVIL),
    )
    blocks = (Paragraph(EVIL), Listing(((Cell(EVIL), EVIL),)), Table((EVIL,), ((EVIL,),), EVIL), *plots)
    text = page(EVIL, [Section(EVIL, blocks)], lead=EVIL, footer=[EVIL])
    assert "script" not in Tags(text).seen
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 20


def test_rows_of_a_table_fit_its_columns() -> None:
    with pytest.raises(DataError, match="one cell for each of 2 columns"):
        Table(("a", "b"), (("1",),))


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=30))
def test_lines_stay_inside_their_frame_and_keep_their_order(points: list[tuple[float, float]]) -> None:
    figure = line_plot({"a": points}, x=Axis(label="across"), y=Axis(label="up"), caption="c")
    line = next(drawing(figure).iter(f"{NAMESPACE}polyline")).attrib["points"].split()
    places = [tuple(map(float, place.split(","))) for place in line]
    assert len(places) == len(points)
    for (x, y), (left, height) in zip(points, places, strict=True):
        assert 0 <= left <= 440
        assert 0 <= height <= 290
        for (other_x, other_y), (other_left, other_height) in zip(points, places, strict=True):
            assert not (x < other_x and left > other_left)
            assert not (y < other_y and height < other_height)
    assert {"across", "up"} <= set(words(figure))


def test_a_logarithmic_axis_has_decades_and_leaves_out_what_it_cannot_show() -> None:
    figure = line_plot(
        {"a": [(0, 0.5), (0.001, 0.5), (0.01, 0.6), (1, 1)]},
        x=Axis(label="x", logarithmic=True, percent=True, low=0.001, high=1),
        y=Axis(label="y", low=0, high=1),
        caption="c",
    )
    assert {"0.1 %", "1 %", "10 %", "100 %"} <= set(words(figure))
    places = next(drawing(figure).iter(f"{NAMESPACE}polyline")).attrib["points"].split()
    assert len(places) == 3
    left = [float(place.split(",")[0]) for place in places]
    assert (left[1] - left[0]) * 2 == pytest.approx(left[2] - left[1], abs=0.3)


def test_an_interval_is_drawn_from_end_to_end() -> None:
    dots = [Dot(label="a", value=2, low=1, high=3), Dot(label="a", value=4, low=3, high=5, series=1)]
    figure = interval_plot(dots, axis=Axis(label="x", low=0, high=10), caption="c", legend=("one", "two"))
    circles = [float(entry.attrib["cx"]) for entry in drawing(figure).iter(f"{NAMESPACE}circle")]
    spans = [
        (float(entry.attrib["x1"]), float(entry.attrib["x2"]))
        for entry in drawing(figure).iter(f"{NAMESPACE}line")
        if "span" in entry.attrib["class"]
    ]
    for (low, high), middle in zip(spans, circles, strict=True):
        assert (low + high) / 2 == pytest.approx(middle, abs=0.1)
    assert spans[0][1] == spans[1][0]
    assert words(figure).count("a") == 1
    assert figure.legend == ("one", "two")


def test_bars_begin_at_zero() -> None:
    figure = bar_plot(
        {"a": {"real": 2, "made": 1}, "b": {"real": 4, "made": 0}}, axis=Axis(label="x"), caption="c"
    )
    bars = [float(entry.attrib["width"]) for entry in drawing(figure).iter(f"{NAMESPACE}rect")]
    assert [bar / bars[1] for bar in bars] == pytest.approx([2, 1, 4, 0], abs=0.01)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_cannot_be_plotted_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="must be finite"):
        line_plot({"a": [(0, value)]}, x=Axis(label="x"), y=Axis(label="y"), caption="c")
    with pytest.raises(DataError, match="must be values to plot"):
        line_plot({}, x=Axis(label="x"), y=Axis(label="y"), caption="c")


def test_a_missing_jinja2_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(CapabilityError, match=r"unblur\[report\]"):
        page("title", [])


def test_page_says_in_short_what_was_found() -> None:
    people = groups(60)
    copied = audit(people.train, rows(people.train), people.holdout, rng=1)
    leaks = sum(finding.kind == "leak" for finding in copied.findings)
    passed = len(copied.gates) - len(copied.failed())
    assert leaks > 1
    assert passed < len(copied.gates)
    text = audit_page(copied)
    assert f"{leaks} leaks found" in text
    assert f"{passed} of {len(copied.gates)} gates passed" in text
    assert "Membership (--max-auc)" in text
    alone = audit_page(audit(people.train, rows(people.others), rng=1))
    assert "No leak found by these attacks; " in alone
    assert " could not be measured" in alone
