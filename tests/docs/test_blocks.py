"""Every Python and shell block of README, the tutorials and the way from a log to lists runs as it stands there, page by page, in one folder."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SERVE = REPOSITORY / "docs" / "how-to" / "serve.md"
TUTORIALS = sorted((REPOSITORY / "docs" / "tutorials").glob("*.md"))
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "docs" / "how-to" / "from-a-log-to-lists.md",
    SERVE,
    *(page for page in TUTORIALS if page.stem != "index"),
]

SET_UP = "<!-- set-up: not run by the tests -->"
"""Stands before a block that sets a machine up (`make …`, `pip install`)."""
WITH_DATA = "<!-- needs UNBLUR_DATA -->"
"""Stands before a block that reads public data sets."""
RUN = ("python", "sh")
"""The languages that run. Others only show something: ``text`` a result, ``toml`` a file."""
SECONDS = 300
"""A block that takes longer than this hangs; the pages are written to take a tenth of it."""

_FENCE = re.compile(
    r"(?P<mark><!-- [^\n]* -->\n)?^```(?P<language>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, the language after its fence, and the mark on the line before."""

    page: str
    line: int
    language: str
    mark: str
    code: str


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page in order."""
    text = page.read_text()
    for match in _FENCE.finditer(text):
        # The code begins in the line after the fence.
        line = text.count("\n", 0, match.start("code")) + 1
        yield Block(page.name, line, match["language"], (match["mark"] or "").strip(), match["code"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run_in_their_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    names: dict[str, Any] = {"__name__": "page"}
    n_run = 0
    for block in blocks(page):
        if block.mark == SET_UP or (block.mark == WITH_DATA and not os.environ.get("UNBLUR_DATA")):
            continue
        if block.language == "python":
            # Empty lines before the code make a traceback name the page's own lines.
            exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), names)
        elif block.language == "sh":
            shell = ["bash", "-euo", "pipefail", "-c", block.code]
            process = subprocess.run(shell, check=False, capture_output=True, text=True, timeout=SECONDS)
            assert process.returncode == 0, (
                f"{block.page}:{block.line} ends in {process.returncode}:\n{process.stderr}"
            )
        n_run += block.language in RUN
    assert n_run, f"{page.name} has no block that runs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_only_set_up_is_left_out(page: Path) -> None:
    for block in blocks(page):
        assert block.language, f"{block.page}:{block.line}: name the language of the block, or `text`"
        if block.mark == SET_UP:
            commands = [line.split("#")[0].strip() for line in block.code.splitlines()]
            words = ("make ", "pip install ", "git clone ", "cd ", "python3 -m venv ", "marimo edit ")
            assert all(not command or command.startswith(words) for command in commands), block


def test_the_image_is_as_hadolint_wants_it() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("needs hadolint, of the group `lint`")
    (image,) = (block.code for block in blocks(SERVE) if block.language == "dockerfile")
    for content, code in ((image, 0), (image.replace("~=0.2.0", ""), 1)):
        checked = subprocess.run(
            [hadolint, "-"], check=False, input=content, capture_output=True, text=True, timeout=SECONDS
        )
        assert checked.returncode == code, checked.stdout


def test_the_units_are_as_systemd_wants_them(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    commands = [line for block in blocks(SERVE) if block.language == "sh" for line in block.code.splitlines()]
    for block in blocks(SERVE):
        if block.language == "ini":
            unit = tmp_path / block.code.partition("\n")[0].removeprefix("# ")
            started = re.search(r"^ExecStart=/usr/local/bin/(unblur update .*)$", block.code, re.MULTILINE)
            assert started is None or started[1] in commands  # it runs above
            # The path of the command alone is that of the machine with the service.
            unit.write_text(block.code.replace("/usr/local/bin/unblur", sys.executable))
    units = sorted(tmp_path.iterdir())
    assert [unit.name for unit in units] == ["unblur-refit.service", "unblur-refit.timer", "unblur.service"]
    checked = subprocess.run(
        ["systemd-analyze", "verify", *units], check=False, capture_output=True, text=True, timeout=SECONDS
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_a_block_knows_its_mark_and_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n```python\nx = 1\n```\n\n{SET_UP}\n```sh\nmake test\n```\n")
    first, second = blocks(page)
    assert (first.language, first.line, first.mark, first.code) == ("python", 4, "", "x = 1\n")
    assert (second.language, second.line, second.mark) == ("sh", 9, SET_UP)


def results_of(place: str) -> dict[str, Any]:
    """Run a marimo notebook, and return the names of all its cells."""
    pytest.importorskip("marimo")
    spec = importlib.util.spec_from_file_location("notebook", REPOSITORY / "docs" / place)
    assert spec is not None
    assert spec.loader is not None
    notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebook)
    _, results = notebook.app.run()
    return dict(results)


def test_the_notebook_of_a_first_model_runs() -> None:
    results = results_of("tutorials/first_model.py")
    assert results["table"]["model"].unique(maintain_order=True).to_list() == ["popularity", "bspm"]
    recall = {name: evaluation["recall@20"].value for name, evaluation in results["evaluations"].items()}
    assert recall["bspm"] > 1.5 * recall["popularity"]
    assert len(results["shown"].labels()) == 5
    assert results["film"] == results["shown"].labels()[0]


def test_the_notebook_of_the_way_from_a_log_to_lists_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    results = results_of("how-to/from_a_log_to_lists.py")
    assert results["description"].options == {"min_rating": 4.0}
    assert set(results["evaluations"]) == {"popularity", "ease"}
    lists, shop, today = results["lists"].to_frame(), results["shop"], results["today"]
    assert len(lists) == 10
    assert set(lists["title"]) <= {title for title, stock in shop.select("title", "stock").rows() if stock}
    after = results["change"].after
    assert results["forgotten"] not in after.users.to_list()
    assert np.allclose(today.weights, results["EASE"](ridge=10).fit(after).weights)
