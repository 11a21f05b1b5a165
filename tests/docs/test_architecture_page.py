"""The paths and names in docs/architecture.md exist."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?\?) \| (.+) \|$", PAGE, re.MULTILINE)
PATH = re.compile(r"`((?:src|tests|benchmarks|docs)/[\w./-]+)`")
NAMES = re.compile(r"`((?:src|tests)/[\w./-]+\.py)`(?:: | and its name in )((?:`\w+`(?:, | or )?)+)")


def test_the_table_answers_questions() -> None:
    assert len(ROWS) >= 30


@pytest.mark.parametrize(("question", "answer"), ROWS, ids=[question for question, _ in ROWS])
def test_every_path_exists(question: str, answer: str) -> None:
    missing = [path for path in PATH.findall(answer) if not (REPOSITORY / path).exists()]
    assert not missing, f"{question} {missing}"


def test_every_name_stands_in_its_file() -> None:
    entries = NAMES.findall(PAGE)
    assert len(entries) >= 10
    for path, names in entries:
        text = (REPOSITORY / path).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(?:class|def) {name}\b|^{name}\b", text, re.MULTILINE), f"{path}: {name}"


def test_the_layers_are_those_of_the_contract() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    contract = re.search(r"^layers = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert contract is not None
    expected = set(re.findall(r"[a-z]+", contract.group(1)))
    diagram = PAGE.partition("```text\n")[2].partition("```")[0]
    drawn_layers = {
        word
        for line in diagram.splitlines()
        for word in re.split(r"\s{2,}", line.lstrip("↓ "))[0].split(", ")
    }
    assert drawn_layers == expected
