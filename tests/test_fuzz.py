"""The short form of `make fuzz`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import fuzz
from tests.fuzz import commands, saved

REPOSITORY = Path(__file__).resolve().parent.parent


def test_some_seconds_of_faults_lose_nothing_and_raise_nothing_foreign() -> None:
    words = [sys.executable, "-c", "from tests.fuzz import fuzz; raise SystemExit(fuzz(0, 0.2))"]
    ran = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(
        r"seed 0: [1-9][0-9,]* trials, kills at [0-9]+ of [1-9][0-9]* events, 0 lost, 0 foreign", ran.stdout
    )


def test_a_change_that_is_not_noticed_is_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved, "load", lambda name, folder: None)
    with pytest.raises(fuzz.Lost, match="was not noticed"):
        saved.damaged(np.random.default_rng(0), tmp_path)


@pytest.mark.parametrize("now", [{}, {"out/a": b"x"}, {"out/a": b"new"}, {"out/a": b"old", "out/b": b"new"}])
def test_an_output_in_part_is_a_loss(now: dict[str, bytes]) -> None:
    old, new = {"out/a": b"old"}, {"out/a": b"new", "out/b": b"new"}
    step = commands.Step("fit", "", Path(), old, new, 1)
    assert not step.is_whole(now, "out", [])
    assert step.is_whole(old, "out", [])
    assert step.is_whole(new, "out", [])
    assert step.is_whole({}, "out", [{"a": b"old"}])


def test_a_killed_command_leaves_what_the_copy_before_its_event_holds(tmp_path: Path) -> None:
    killed = commands.Killed("recommend", tmp_path / "states")
    killed.prepare(np.random.default_rng(0))
    step = killed.steps[1]
    copies = {event: state for of_step, events, state in killed.states if of_step is step for event in events}
    assert sorted(copies) == [*range(1, step.n_events + 1)]
    for event in (1, step.n_events // 2, step.n_events):
        there = tmp_path / str(event) / "there"
        commands.shutil.copytree(step.start, there)
        assert commands.call(step.words, there, last=event)[0] == -signal.SIGKILL
        left, copied = (
            commands.timeless(commands.contents(folder, hidden=True)) for folder in (there, copies[event])
        )
        assert left == copied
