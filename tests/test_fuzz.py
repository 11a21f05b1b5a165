"""The short form of `make fuzz`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import fuzz

REPOSITORY = Path(__file__).resolve().parent.parent


def test_some_seconds_of_faults_lose_nothing_and_raise_nothing_foreign() -> None:
    words = [sys.executable, "-c", "from tests.fuzz import fuzz; raise SystemExit(fuzz(0, 0.2))"]
    ran = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"seed 0: [1-9][0-9,]* trials, 0 lost, 0 foreign, peak memory", ran.stdout)


def test_a_change_that_is_not_noticed_is_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "load", lambda name, folder: None)
    with pytest.raises(fuzz.Lost, match="was not noticed"):
        fuzz.damaged(np.random.default_rng(0), tmp_path)


@pytest.mark.parametrize("now", [{}, {"one": "x"}, {"one": "new"}, {"one": "old", "two": "new"}])
def test_an_output_in_part_is_a_loss(tmp_path: Path, now: dict[str, str]) -> None:
    killed = fuzz.Killed("models", tmp_path)
    killed.before, killed.after, killed.names = {"one": "old"}, {"one": "new", "two": "new"}, {"one", "two"}
    assert not killed.whole(now)
    assert killed.whole({"one": "old"})
    assert killed.whole({"one": "new", "two": "new"})
