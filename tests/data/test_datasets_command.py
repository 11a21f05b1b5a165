"""`unblur datasets` on a small data set made for the tests."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from unblur import Interactions
from unblur.cli.datasets import app
from unblur.data.catalogue.listing import DATASETS, Content, Dataset, NamedReading
from unblur.data.files import write
from unblur.errors import CapabilityError, DataError

DATA = Interactions.from_pairs([1, 2], [3, 4])
SMALL = Dataset(
    name="small",
    title="Small data",
    numbered=(False, False),
    readings=(
        NamedReading(
            name="pairs",
            meaning="a pair",
            options={"labels": "int"},
            parts={"all": Content(2, DATA.fingerprint())},
        ),
    ),
    by_hand="Ask for it.",
    licence="do as you like",
    citation="nobody",
)


@pytest.fixture(autouse=True)
def _small_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("unblur.data.catalogue.DATASETS", {**DATASETS, "small": SMALL})
    monkeypatch.setattr("unblur.data.catalogue.listing.DATASETS", {**DATASETS, "small": SMALL})
    monkeypatch.setattr("unblur.data.catalogue.copies.DATASETS", {**DATASETS, "small": SMALL})
    monkeypatch.setenv("UNBLUR_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "250")


def run(*words: str) -> Any:
    return CliRunner().invoke(app, words)


def test_list(tmp_path: Path) -> None:
    result = run("list")
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if line.strip().startswith("small"))
    assert "by hand" in line
    assert "generated" in result.stdout
    (tmp_path / "small").mkdir()
    assert "incomplete" in run("list", "small").stdout
    write(DATA, tmp_path / "small" / "all.csv")
    result = run("list", "small")
    for fact in ("in $UNBLUR_DATA", "do as you like", "nobody", "Ask for it.", DATA.fingerprint()):
        assert fact in result.stdout


def test_verify(tmp_path: Path) -> None:
    write(DATA, tmp_path / "all.csv")
    result = run("verify", "small", "--data", str(tmp_path / "all.csv"))
    assert result.exit_code == 0
    assert "right" in result.stdout
    write(Interactions.from_pairs([1], [3]), tmp_path / "other.csv")
    result = run("verify", "small", "--data", str(tmp_path / "other.csv"))
    assert result.exit_code == 1
    assert "wrong" in result.stdout
    assert "expected 2 interactions" in result.output
    assert "no copy to verify" in run("verify", "demo").stdout


def test_refusals_are_errors_of_the_library() -> None:
    assert isinstance(run("fetch", "small").exception, CapabilityError)
    assert isinstance(run("verify", "smal").exception, DataError)
    assert isinstance(run("verify", "small").exception, CapabilityError)
