"""The tables of docs/results/benchmarks.md follow from the figures next to it."""

import json

from benchmarks import page
from benchmarks.results import RESULTS


def test_tables_are_up_to_date() -> None:
    """`python -m benchmarks.page` writes them anew."""
    written = (RESULTS / "benchmarks.md").read_text()
    assert page.text(written, json.loads((RESULTS / "benchmarks.json").read_text())) == written


def test_each_section_stands_next_to_its_machine() -> None:
    lines = page.measured_table(
        {"a": "old", "b": "new", "c": "old"}, {"a": [["x", "≤ 1", "2"], ["cost against size: 1 M", "", "3"]]}
    ).splitlines()
    assert lines == [
        "- old: a, c",
        "- new: b",
        "",
        "| what | target | measured |",
        "|---|---|---|",
        "| x | ≤ 1 | 2 |",
    ]
