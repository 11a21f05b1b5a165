"""A command line to call, and a small log in a CSV file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from unblur.cli.main import main
from unblur.data.interactions import Interactions


class Ran(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


Unblur = Callable[..., Ran]
COLUMNS = ("--user", "who", "--item", "what")
"""The columns of `events`."""


@pytest.fixture
def unblur(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Unblur:
    """Run a command line in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str | Path) -> Ran:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def events(log: Interactions, tmp_path: Path) -> Path:
    """The shared log as CSV, with columns named who and what."""
    path = tmp_path / "log.csv"
    frame = log.to_frame().select(pl.col("user").alias("who"), pl.col("item").alias("what"), "timestamp")
    frame.write_csv(path)
    return path


@pytest.fixture
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file with the text ``RECIPE`` of the module."""
    path = tmp_path / "ours.toml"
    path.write_text(request.module.RECIPE)
    return path


@pytest.fixture
def parts(log: Interactions, tmp_path: Path) -> Path:
    """A folder with train and test files."""
    from unblur.data.splits import Random

    split = Random(fraction=0.3).apply(log, rng=1)
    folder = tmp_path / "parts"
    folder.mkdir()
    for name, part in {"train": split.train, "test": split.held_out}.items():
        part.to_frame().select("user", "item").write_parquet(folder / f"{name}.parquet")
    return folder
