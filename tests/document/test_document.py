"""Documents: complete, self-contained and escaped; the same as Markdown; plots with values in the right places."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import example, given, strategies as st
from markdown_it import MarkdownIt

from tests.document.tags import Tags
from unblur.document.blocks import Cell, Document, Listing, Paragraph, Plot, Section, Table, number
from unblur.document.html import as_html
from unblur.document.markdown import as_markdown, code, code_block
from unblur.document.plots import Axis, Dot, bar_plot, interval_plot, line_plot, named_dot_plot
from unblur.errors import DataError

NAMESPACE = "{http://www.w3.org/2000/svg}"
EVIL = "<script>alert('a')</script> & \"more\""


def drawing(figure: Plot) -> ElementTree.Element:
    return ElementTree.fromstring(figure.svg)


def words(figure: Plot) -> list[str]:
    return [element.text or "" for element in drawing(figure).iter(f"{NAMESPACE}text")]


def test_all_text_is_escaped() -> None:
    plots = (
        line_plot(
            {EVIL: [(0, 0), (1, 1)], "b": [(0, 1)]}, x=Axis(label=EVIL), y=Axis(label=EVIL), caption=EVIL
        ),
        interval_plot(
            [Dot(label=EVIL, value=1, low=0, high=2)], axis=Axis(label=EVIL), caption=EVIL, marks={EVIL: 1}
        ),
        bar_plot({EVIL: 1, "b": 2}, axis=Axis(label=EVIL), caption=EVIL),
    )
    blocks = (Paragraph(EVIL), Listing(((Cell(EVIL), EVIL),)), Table((EVIL,), ((EVIL,),), EVIL), *plots)
    text = as_html(Document(EVIL, [Section(EVIL, blocks)], EVIL, [EVIL]))
    assert "script" not in Tags(text).seen
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 19


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [(-0.00001, "0.0000", "+0.0000"), (-0.0, "0.0000", "+0.0000"), (-0.00006, "-0.0001", "-0.0001")],
)
def test_a_figure_that_is_rounded_to_zero_has_no_minus(value: float, plain: str, signed: str) -> None:
    assert number(value) == plain
    assert number(value, signed=True) == signed


def test_rows_of_a_table_fit_its_columns() -> None:
    with pytest.raises(DataError, match="a cell for each of 2 columns"):
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


def test_a_logarithmic_axis_has_decades_and_leaves_out_values_below_its_end() -> None:
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
    figure = bar_plot({"a": 2, "b": 1, "c": 4, "d": 0}, axis=Axis(label="x"), caption="c")
    bars = [float(entry.attrib["width"]) for entry in drawing(figure).iter(f"{NAMESPACE}rect")]
    assert [bar / bars[1] for bar in bars] == pytest.approx([2, 1, 4, 0], abs=0.01)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_missing_and_infinite_values_are_refused(value: float) -> None:
    with pytest.raises(DataError, match="must be finite"):
        line_plot({"a": [(0, value)]}, x=Axis(label="x"), y=Axis(label="y"), caption="c")
    with pytest.raises(DataError, match="must be values to plot"):
        line_plot({}, x=Axis(label="x"), y=Axis(label="y"), caption="c")


def test_names_of_points_do_not_cover_one_another() -> None:
    points = [(0.1 + 0.001 * at, Dot(label=f"model-{at}", value=0.3 + 0.001 * at)) for at in range(4)]
    points.append((10.0, Dot(label="far", value=0.0, low=-0.1, high=0.1)))
    drawn = named_dot_plot(
        points, x=Axis(label="s", logarithmic=True), y=Axis(label="m"), caption="6 models"
    ).svg
    places = {
        name: (float(x), float(y))
        for x, y, name in re.findall(r'<text x="([\d.]+)" y="([\d.]+)">([\w-]+)</text>', drawn)
    }
    assert set(places) == {dot.label for _, dot in points}
    for one in places:
        for other in places:
            if one < other:
                apart = (
                    abs(places[one][1] - places[other][1]) >= 13
                    or abs(places[one][0] - places[other][0]) >= 45
                )
                assert apart, (one, other, places)


def test_values_to_plot_must_be_finite() -> None:
    with pytest.raises(DataError, match="finite"):
        line_plot({"a": [(0.0, float("nan"))]}, x=Axis(label="x"), y=Axis(label="y"), caption="", dots="a")


SMALL = Document(
    "A | B",
    [
        Section("", (Table(("model", "recall", "why"), [("x|y", "0.1", Cell("no", "bad"))], words_last=1),)),
        Section("Plain", (Paragraph("One."), Listing(["two", (Cell("leak", "bad"), "three")]))),
        Section("Fine", (Paragraph("Not in the text."),), detail=True),
        Section("Drawn", (line_plot({"a": [(0, 1)]}, x=Axis(label="x"), y=Axis(label="y"), caption="c"),)),
        Section("Empty", (Listing(()), Table(("a",), ()))),
    ],
    "In short.",
    ["small print"],
)


def test_markdown_has_the_words_of_a_document_and_no_plots() -> None:
    assert as_markdown(SMALL) == (
        "# A | B\n\nIn short.\n\n"
        "| model | recall | why |\n| --- | ---: | --- |\n| x\\|y | 0.1 | **no** |\n\n"
        "## Plain\n\nOne.\n\n- two\n- **leak**: three\n"
    )


def test_the_page_has_all_of_a_document_but_empty_sections() -> None:
    page = as_html(SMALL)
    assert re.findall("<h2>(.*)</h2>", page) == ["Plain", "Fine", "Drawn"]
    assert "small print" in page
    assert page.count("<figure>") == 1


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)>"),
        ("`rm -rf`", "\\`rm -rf\\`"),
        ("![](http://x) [a](b)", "![\\](http://x) [a\\](b)"),
        ("AT&amp;T & co", "AT&amp;amp;T & co"),
        ("a\\b", "a\\\\b"),
        ("two\nlines\u2028or three", "two lines or three"),
        ("\x1b[31m\x9b", "\\\\x1b[31m\\\\x9b"),
        ("set: model.x = [1, 2]", "set: model.x = [1, 2]"),
    ],
)
def test_texts_are_escaped_in_markdown(text: str, markdown: str) -> None:
    sections = [
        Section(text, (Paragraph(text), Listing([text, (Cell(text), "b")]), Table((text,), [(text,)], text)))
    ]
    written = as_markdown(Document(text, sections, text))
    assert written.count(markdown) == written.count(markdown[:4]) >= 9
    assert "\x1b" not in written


@pytest.mark.parametrize("text", ["plain", "a`b", "``", "`<b>`", "```\nfence"])
def test_code_holds_any_text(text: str) -> None:
    """A code span ends at the first run of as many backticks as it began with (CommonMark 6.1)."""
    span = code(text)
    marks = re.match("`+", span)
    assert marks
    runs = [run for run in re.findall("`+", span) if len(run) == len(marks.group())]
    assert len(runs) == 2
    assert span.strip("`").strip() == text.replace("\n", " ").strip("`") or "`" in text
    block = code_block(f"{text}\n", "toml")
    fence = re.match("`+", block)
    assert fence
    assert block.count(fence.group()) == 2


@given(st.text("[]()!:<>&;`\\|/ax1 \n"))
@example("[x](javascript:alert(1))")
@example("[x][a]")
@example("[a]: x")
@example("![a](b) <b> &amp; ``x``")
def test_no_renderer_of_markdown_finds_a_link_or_a_tag_in_a_text(text: str) -> None:
    blocks = (Paragraph(text), Listing((text, (Cell(text), text))), Table((text,), ((text,),), text))
    written = as_markdown(Document("title", [Section("section", blocks)], text))
    environment: dict[str, object] = {}
    tokens = MarkdownIt("commonmark").enable("table").parse(written, environment)
    kinds = {inner.type for token in tokens for inner in (token, *(token.children or ()))}
    assert not kinds & {"link_open", "image", "html_inline", "html_block", "code_inline", "fence"}
    assert not environment.get("references")
