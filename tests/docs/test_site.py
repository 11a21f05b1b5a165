"""What `make docs` would refuse, seen without building the site."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
TOCTREE = re.compile(r"```\{toctree\}\n(.*?)```", re.DOTALL)


def test_every_page_is_in_a_table_of_contents() -> None:
    pages = {page.relative_to(DOCS).with_suffix("").as_posix() for page in DOCS.rglob("*.md")}
    listed = {
        (page.parent / line).relative_to(DOCS).as_posix().removesuffix(".md")
        for page in DOCS.rglob("*.md")
        for table in TOCTREE.findall(page.read_text(encoding="utf-8"))
        for line in table.split("\n")
        if line and not line.startswith(":")
    }
    assert len(listed) > 20
    assert sorted(pages - listed - {"index"}) == []
