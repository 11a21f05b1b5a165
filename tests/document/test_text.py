"""Text from outside, made safe: whatever it is, it is read back as it was, and steers nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings, strategies as st

from unblur.document.blocks import Cell, Document, Listing, Paragraph, Section, Table
from unblur.document.html import as_html
from unblur.document.markdown import as_markdown
from unblur.document.plots import Axis, Dot, interval_plot
from unblur.document.text import json_text, shell_line, visible

ANY = st.text(st.characters(exclude_categories=()))
"""Half of surrogate pairs among the letters, as in the name of a file that is not UTF-8."""


@given(ANY, ANY)
def test_json_holds_any_text_and_can_be_written(name: str, value: str) -> None:
    values = {name: [value, {"a": value}]}
    written = json_text(values).encode()
    # JSON joins the halves of a pair, which no name of a file has next to each other.
    joined = json.loads(json.dumps(values))
    assert json.loads(written) == joined


@settings(max_examples=20)
@given(ANY)
def test_pages_have_no_letter_that_cannot_be_seen_or_written(text: str) -> None:
    plot = interval_plot([Dot(label=text, value=1)], axis=Axis(label=text), caption=text, marks={text: 1.0})
    blocks = (Paragraph(text), Listing(((Cell(text), text),)), Table((text,), ((text,),), text), plot)
    document = Document(text, [Section(text, blocks)], text, [text])
    for page in (as_html(document), as_markdown(document)):
        assert page.encode()
        assert not {"\x1b", "\x9b", "\u202e", "\u2028", "\r", "\x00"} & set(page)


def test_letters_that_join_words_and_pictures_are_kept() -> None:
    for text in ("می‌خواهم", "👩‍💻", "Donau\xaddampfschiff"):
        assert visible(text) == text
    assert visible("a\u202eb\u200bc\x9b") == r"a\u202eb\u200bc\x9b"


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_a_command_that_is_shown_can_be_copied() -> None:
    names = [
        "plain",
        "with space",
        "it's",
        "$(id) `id` ${x}",
        "[/x]*?~",
        "\x1b[2J\u202e\n",
        "ü\u202e",
        "",
        "-x",
    ]
    names += [os.fsdecode(b"\xff\x9b!'\\"), "a\u200bb", "💩\x07"]
    line = shell_line(*names)
    assert line.isprintable()
    echo = ["bash", "-c", f"printf '%s\\0' {line}"]
    said = subprocess.run(echo, capture_output=True, check=True, env={"LC_ALL": "C.UTF-8", **os.environ})
    assert [os.fsdecode(word) for word in said.stdout.split(b"\0")[:-1]] == names
